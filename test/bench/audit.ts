/**
 * Rows of the bench: the audit log. Durable appends (fsync on, synchronous_commit on) through the function that the gate
 * uses, exports over HTTP, the offline verifier, and proofs in a log of a million entries.
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, readFileSync, rmSync } from 'node:fs';
import { get as httpGet } from 'node:http';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import postgres from 'postgres';
import { append } from '../../src/audit/append.ts';
import type { Entry } from '../../src/audit/entry.ts';
import { verifyLog } from '../../src/audit/verify-log.ts';
import { appendLeaves } from '../../src/crypto/merkle.ts';
import { asTenantId, closeDatabase, openDatabase, transaction } from '../../src/db/database.ts';
import type { Stage } from './stage.ts';
import type { Row } from './table.ts';

const BATCH = 500;
const PROOFS = 200;

/** `seconds` bounds the appends; everything after works on what they made, and proofs on `more` entries beside. */
export async function benchAudit(stage: Stage, seconds: number, more: number): Promise<Row[]> {
  const credentials = JSON.parse(readFileSync(join(stage.dataDir, 'pg-credentials.json'), 'utf8'));
  const at = { host: join(stage.dataDir, 'socket'), port: 5432, database: 'bulla' };
  const owner = postgres({ ...at, username: 'bulla_owner', password: credentials.bulla_owner, max: 1 });
  const file = join(stage.dataDir, 'bench-export');
  try {
    const [row] = await owner`SELECT tenant_id FROM bulla.tenants WHERE name = 'default'`;
    const app = { ...at, username: 'bulla_app', password: credentials.bulla_app };
    const tenant = row!.tenant_id as string;
    const rows = [await benchAppends(app, tenant, seconds)];
    const note = await ask(stage, 'POST', '/audit/checkpoint');
    const size = Number(note.split('\n')[1]);
    for (const format of ['csv', 'ocsf', 'ndjson']) rows.push(await benchExport(stage, file, size, format));
    rows.push(await benchVerifier(file, note, size));
    rows.push(await benchProofs(stage, owner, tenant, more));
    return rows;
  } finally {
    await owner.end();
    rmSync(file, { force: true });
  }
}

const ENTRY: Entry = {
  origin: { requestId: '3f0c2b1e-6f0e-4a53-9c0c-2f1d7c1f6a52', source: '10.0.0.7', protocol: 'native' },
  actor: { kind: 'user', id: 'p7q2xk4mz3nb5cde', name: 'app', method: 'password', accessor: 'k3v2m5qy7dzr4abc' },
  action: 'secret.read',
  resource: 'secret:prod/web/database',
  version: 3,
  outcome: 'ok',
};

type Target = Parameters<typeof openDatabase>[0]['target'];

async function benchAppends(target: Target, tenant: string, seconds: number): Promise<Row> {
  const db = openDatabase({ target, setRole: false, connections: 2, deadlineMs: 4000, clockOffsetSeconds: 0 });
  const id = asTenantId(tenant);
  const entries = Array.from({ length: BATCH }, () => ENTRY);
  const started = performance.now();
  let appended = 0;
  const writer = async () => {
    while (performance.now() - started < seconds * 1000) {
      await transaction(db, [id], (tx) => append(tx, [{ tenant: id, entries }]));
      appended += BATCH;
    }
  };
  await Promise.all([writer(), writer()]);
  const perSecond = (appended / (performance.now() - started)) * 1000;
  await closeDatabase(db);
  return figure(`durable appends, batches of ${BATCH}`, `${rate(perSecond)} entries/s`, '10,000/s');
}

async function benchExport(stage: Stage, file: string, size: number, format: string): Promise<Row> {
  const started = performance.now();
  await download(stage, `/audit/entries?to_index=${size}&format=${format}`, file);
  const perSecond = (size / (performance.now() - started)) * 1000;
  const goal = format === 'ndjson' ? { goal: '100,000/s' } : {};
  return { ...figure(`export of ${size} entries as ${format}`, `${rate(perSecond)} entries/s`), ...goal };
}

async function benchVerifier(file: string, note: string, size: number): Promise<Row> {
  const started = performance.now();
  const report = await verifyLog(() => createReadStream(file, { highWaterMark: 1024 * 1024 }), { checkpoint: note });
  if (!report.ok) throw new Error(`the bench's own export does not verify: ${JSON.stringify(report)}`);
  const perSecond = (size / (performance.now() - started)) * 1000;
  return figure('offline verifier', `${rate(perSecond)} lines/s`, '200,000/s');
}

async function benchProofs(stage: Stage, owner: postgres.Sql, tenant: string, more: number): Promise<Row> {
  await growLog(owner, tenant, more);
  const size = Number((await ask(stage, 'POST', '/audit/checkpoint')).split('\n')[1]);
  const proofs: number[] = [];
  const others: number[] = [];
  const time = async (into: number[], path: string) => {
    const started = performance.now();
    await ask(stage, 'GET', path);
    into.push(performance.now() - started);
  };
  for (let i = 0; i < PROOFS; i += 1) {
    const index = Math.floor((size * ((i * 7919) % PROOFS)) / PROOFS);
    await time(others, '/auth/self');
    await time(proofs, `/audit/proof/inclusion?index=${index}&size=${size}`);
  }
  const text = `p50 ${part(proofs, 0.5)} ms, p99 ${part(proofs, 0.99)} ms`;
  const other = `any audited request meanwhile: p50 ${part(others, 0.5)} ms`;
  return {
    ...figure(`inclusion proof at ${size} entries, over HTTP`, text, '< 20 ms'),
    reference: `goal < 20 ms; ${other}`,
  };
}

const part = (times: readonly number[], of: number) =>
  [...times].sort((a, b) => a - b)[Math.floor(of * (times.length - 1))]!.toFixed(1);
const rate = (perSecond: number) => Math.round(perSecond).toLocaleString('en');
const figure = (name: string, text: string, goal?: string): Row => ({
  ...{ name, reference: goal === undefined ? '–' : `goal ${goal}`, text },
  ...(goal === undefined ? {} : { goal }),
});

function open(stage: Stage, path: string, method: string) {
  const options = { port: stage.port, host: '127.0.0.1', path: `/api/v1${path}`, method };
  return new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
    const request = httpGet({ ...options, headers: { authorization: `Bearer ${stage.admin}` } }, resolve);
    request.on('error', reject);
  });
}

async function ask(stage: Stage, method: string, path: string): Promise<string> {
  const answer = await open(stage, path, method);
  let text = '';
  for await (const piece of answer) text += piece;
  if (answer.statusCode !== 200) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`);
  return text;
}

async function download(stage: Stage, path: string, file: string): Promise<void> {
  const answer = await open(stage, path, 'GET');
  await pipeline(answer, createWriteStream(file));
}

const AT_ONCE = 5000;

/** As fast as SQL can make them: well-formed leaves under a true head, without lines. */
async function growLog(owner: postgres.Sql, tenant: string, count: number): Promise<void> {
  await owner.begin(async (tx) => {
    const [head] = await tx`SELECT size, frontier FROM bulla.audit_heads WHERE tenant_id = ${tenant} FOR UPDATE`;
    let tree = { size: Number(head!.size), frontier: head!.frontier as Uint8Array };
    for (let left = count; left > 0; left -= AT_ONCE) {
      const n = Math.min(left, AT_ONCE);
      const first = tree.size;
      const hashes = Buffer.alloc(n * 32);
      for (let i = 0; i < n; i += 1)
        createHash('sha256')
          .update(String(first + i))
          .digest()
          .copy(hashes, i * 32);
      await tx`INSERT INTO bulla.audit_leaves VALUES (${tenant}, ${first}, ${n}, ${hashes})`;
      tree = appendLeaves(first, tree.frontier, hashes);
    }
    await tx`
      UPDATE bulla.audit_heads SET size = ${tree.size}, frontier = ${tree.frontier} WHERE tenant_id = ${tenant}`;
  });
}
