/**
 * `npm run bench [-- --quick] [--only=reads,fetch,…] [--peer PATH]`: every row is a ratio against a reference of the same
 * run, with the absolute beside it. Prints a table for each part as it ends, and writes bench-results/<time>.json.
 * Bounded: under ten minutes, with --quick under one.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { benchAudit } from './audit.ts';
import { benchRotation } from './keys.ts';
import { benchLeases } from './lease.ts';
import { benchLogins } from './login.ts';
import { benchPeer } from './peer.ts';
import { benchFetch, benchReads, benchWrites, fill } from './read.ts';
import { residentMiB, type Stage, startStage } from './stage.ts';
import { figure, median, print, type Row } from './table.ts';
import { benchWorkers } from './workers.ts';

const { values: asked } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, only: { type: 'string' }, peer: { type: 'string' } },
});
const { quick } = asked;
const rounds = quick ? 1 : 3;
const seconds = quick ? 0.3 : 3;

const LEASES = { seconds: 6, backends: 20, late: 5, lateTtl: '8s', expiring: 100_000, living: 1_000_000 };
const LEASES_QUICK = { seconds: 1, backends: 10, late: 1, lateTtl: '2s', expiring: 2_000, living: 10_000 };

/** Cold starts with a warm database, and what the server takes when it has nothing to do. */
async function benchStart(stage: Stage, times: number): Promise<Row[]> {
  const starts: number[] = [];
  for (let i = 0; i < times; i += 1) starts.push(await stage.restart('/secrets/prod/app/s1'));
  return [
    figure('first start to the first answer', `${Math.round(stage.startMs)} ms`),
    figure('start with a warm database to the first audited read', `${Math.round(median(starts))} ms`, '700 ms'),
    figure('memory, idle', `${Math.round(residentMiB(stage.pid))} MiB`, '120 MiB'),
  ];
}

const rows: Row[] = [];
const stage = await startStage();
try {
  await fill(stage);
  const parts: Record<string, () => Promise<Row[]>> = {
    start: () => benchStart(stage, quick ? 1 : 3),
    reads: () => benchReads(stage, rounds, seconds),
    workers: () => benchWorkers(stage, rounds, seconds),
    fetch: () => benchFetch(stage, rounds, seconds),
    writes: () => benchWrites(stage, rounds, seconds),
    logins: () => benchLogins(stage, rounds, seconds),
    rotation: () => benchRotation(quick ? 2_000 : 100_000, quick ? 100 : 10_000, quick ? 300 : 5_000),
    ...(asked.peer === undefined ? {} : { peer: () => benchPeer(stage, asked.peer!, rounds, seconds) }),
    leases: () => benchLeases(stage, quick ? LEASES_QUICK : LEASES),
    // Last, because it makes the log a million entries longer.
    audit: () => benchAudit(stage, quick ? 0.5 : 20, quick ? 100_000 : 1_000_000),
  };
  const wanted = asked.only?.split(',') ?? Object.keys(parts).filter((name) => !quick || name !== 'workers');
  for (const name of wanted) {
    const part = parts[name];
    if (!part) throw new Error(`--only: there is no part ${name}; there are ${Object.keys(parts).join(', ')}`);
    process.stderr.write(`${name} …\n`);
    const measured = await part();
    process.stdout.write(`${print(measured)}\n`);
    rows.push(...measured);
  }
} finally {
  await stage.end();
}
process.stdout.write(
  `\nNode ${process.version}, ${cpus().length} × ${cpus()[0]?.model}, ${rounds} interleaved rounds of ${seconds} s\n`,
);
mkdirSync('bench-results', { recursive: true });
writeFileSync(
  `bench-results/${new Date().toISOString().replace(/[:.]/g, '-')}.json`,
  `${JSON.stringify(rows, null, 2)}\n`,
);
