/**
 * `npm run bench [-- --quick]`: every row is a ratio against a reference of the same run, with the absolute beside it.
 * Prints a table and writes bench-results/<time>.json. Bounded: under ten minutes, with --quick under one.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { benchAudit } from './audit.ts';
import { benchLeases } from './lease.ts';
import { benchFetch, benchReads, benchWrites, fill } from './read.ts';
import { startStage } from './stage.ts';
import { print, type Row } from './table.ts';

const quick = process.argv.includes('--quick');
const only = process.argv.find((argument) => argument.startsWith('--only='))?.slice('--only='.length);
const rounds = quick ? 1 : 5;
const seconds = quick ? 2 : 5;

const LEASES = { seconds: 10, expiring: 100_000, living: 1_000_000 };
const LEASES_QUICK = { seconds: 3, expiring: 5_000, living: 50_000 };

const residentMiB = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

const rows: Row[] = [];
const stage = await startStage();
try {
  rows.push({ name: 'first start to the first answer', reference: '–', text: `${Math.round(stage.startMs)} ms` });
  rows.push({ name: 'memory, idle', reference: '–', text: `${Math.round(residentMiB(stage.pid))} MiB` });
  await fill(stage);
  const parts: Record<string, () => Promise<Row[]>> = {
    reads: () => benchReads(stage, rounds, seconds),
    fetch: () => benchFetch(stage, rounds, seconds),
    writes: () => benchWrites(stage, seconds),
    leases: () => benchLeases(stage, quick ? LEASES_QUICK : LEASES),
    audit: () => benchAudit(stage, quick ? 5 : 20),
  };
  for (const [name, part] of Object.entries(parts))
    if (only === undefined || only === name) rows.push(...(await part()));
  rows.push({ name: 'memory, under load', reference: '–', text: `${Math.round(residentMiB(stage.pid))} MiB` });
} finally {
  await stage.end();
}
process.stdout.write(
  `\n${print(rows)}\n\nNode ${process.version}, ${cpus().length} × ${cpus()[0]?.model}, ${rounds} interleaved rounds of ${seconds} s\n`,
);
mkdirSync('bench-results', { recursive: true });
writeFileSync(
  `bench-results/${new Date().toISOString().replace(/[:.]/g, '-')}.json`,
  `${JSON.stringify(rows, null, 2)}\n`,
);
