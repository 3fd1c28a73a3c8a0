/**
 * Rows of the bench: leases. Credentials of a real PostgreSQL beside the vault's own, expiry of many at once while others
 * read, lateness beside targets that are dead, and a start with a million that are alive.
 */
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import { leaseTarget, type Target, type TargetConfig } from '../lease-target.ts';
import { get, load, type Stage } from './stage.ts';
import type { Row } from './table.ts';

const MAIN = fileURLToPath(new URL('../../../dist/bundle/main.js', import.meta.url));
const WORKERS = 8;

export type LeaseBench = {
  /** For which credentials are issued, and readers measured. */
  readonly seconds: number;
  /** Backends, of which a tenth does not answer, and leases on each of them, which end at one time. */
  readonly backends: number;
  readonly late: number;
  readonly lateTtl: string;
  readonly expiring: number;
  readonly living: number;
};

export async function benchLeases(stage: Stage, sizes: LeaseBench): Promise<Row[]> {
  const { seconds, expiring, living } = sizes;
  const target = await leaseTarget();
  const owner = ownerOf(stage.dataDir);
  try {
    return [
      ...(await benchCredentials(stage, target, seconds)),
      await benchLateness(stage, target, sizes),
      await benchExpiry(stage, owner, expiring, seconds / 2),
      await benchRestart(living),
    ];
  } finally {
    await owner.end();
    await target.close();
  }
}

function ownerOf(dataDir: string): postgres.Sql {
  const credentials = JSON.parse(readFileSync(join(dataDir, 'pg-credentials.json'), 'utf8'));
  const at = { host: join(dataDir, 'socket'), port: 5432, database: 'bulla' };
  const connection = { search_path: 'bulla' };
  return postgres({ ...at, username: 'bulla_owner', password: credentials.bulla_owner, max: 1, connection });
}

type Lease = { readonly id: string; readonly state: string; readonly expires_at: string; readonly ended_at?: string };

async function makeRole(stage: Stage, name: string, config: TargetConfig, ttl: string): Promise<void> {
  await stage.ask('PUT', `/backends/${name}`, { kind: 'postgres', config }, stage.admin);
  await stage.ask('PUT', `/roles/${name}`, { backend: name, default_ttl: ttl }, stage.admin);
}

const perSecond = (count: number, startedMs: number) => (count * 1000) / (performance.now() - startedMs);

async function benchCredentials(stage: Stage, target: Target, seconds: number): Promise<Row[]> {
  await makeRole(stage, 'bench', target.direct, '1h');
  const taken: string[] = [];
  const startedMs = performance.now();
  const taker = async () => {
    while (performance.now() - startedMs < seconds * 1000) {
      taken.push((await stage.ask<Lease>('POST', '/leases', { role: 'bench/bench' }, stage.admin)).id);
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, taker));
  const issued = perSecond(taken.length, startedMs);
  const endingMs = performance.now();
  const count = taken.length;
  const ender = async () => {
    for (let id = taken.pop(); id !== undefined; id = taken.pop()) {
      await stage.ask('DELETE', `/leases/${id}`, undefined, stage.admin);
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, ender));
  const revoked = perSecond(count, endingMs);
  const reference = 'PostgreSQL, CREATE ROLE alone';
  return [
    { name: 'leases: credentials issued', reference, text: `${issued.toFixed(0)}/s` },
    { name: 'leases: credentials revoked', reference, text: `${revoked.toFixed(0)}/s` },
  ];
}

/** Leases on many backends end at one time, and a tenth of the targets does not answer. */
async function benchLateness(stage: Stage, target: Target, sizes: LeaseBench): Promise<Row> {
  const { backends, late: rounds, lateTtl } = sizes;
  const dead = backends / 10;
  const names = Array.from({ length: backends }, (_, i) => `late-${i}`);
  for (const [i, name] of names.entries())
    await makeRole(stage, name, i < dead ? target.config : target.direct, lateTtl);
  const leases: string[] = [];
  for (let round = 0; round < rounds; round += 1) {
    await Promise.all(
      names.map(async (name) => {
        const lease = await stage.ask<Lease>('POST', '/leases', { role: `${name}/${name}` }, stage.admin);
        if (Number(name.slice('late-'.length)) >= dead) leases.push(lease.id);
      }),
    );
  }
  target.proxy.blackHole = true;
  const late: number[] = [];
  for (const id of leases) {
    for (;;) {
      const lease = await stage.ask<Lease>('GET', `/leases/${id}`, undefined, stage.admin);
      if (lease.state === 'ended') {
        late.push(Date.parse(lease.ended_at!) - Date.parse(lease.expires_at));
        break;
      }
      await sleep(200);
    }
  }
  target.proxy.refuse(true);
  for (const name of names.slice(0, dead)) {
    const found = await stage.ask<{ items: Lease[] }>('GET', `/leases?prefix=${name}`, undefined, stage.admin);
    for (const { id } of found.items) await stage.ask('DELETE', `/leases/${id}?force=true`, undefined, stage.admin);
  }
  target.proxy.refuse(false);
  target.proxy.blackHole = false;
  late.sort((a, b) => a - b);
  const at = (part: number) => late[Math.min(late.length - 1, Math.floor(late.length * part))]!;
  const text = `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`;
  return { name: 'leases: lateness, 10 % of targets dead', reference: '–', text, goal: 'p99 ≤ 2 s' };
}

/** Internal leases that are due at one moment, with an entry each; reads of the same tenant meanwhile. */
async function benchExpiry(stage: Stage, owner: postgres.Sql, count: number, seconds: number): Promise<Row> {
  await stage.ask('PUT', '/secrets/bench/lease', { text: 'x' }, stage.admin);
  const first = await stage.ask<Lease>('POST', '/leases', { secret: 'bench/lease' }, stage.admin);
  const requests = [get(stage.port, '/secrets/bench/lease', stage.admin)];
  const plan = { port: stage.port, requests, connections: 8, seconds, warmupSeconds: seconds / 3 };
  const alone = await load(plan);
  await insertAccess(owner, first.id, count, 'now()');
  const startedMs = performance.now();
  await owner`NOTIFY bulla_leases`;
  const beside = load(plan);
  for (;;) {
    const [row] = await owner`SELECT count(*)::int AS left FROM leases WHERE handle LIKE 'bench%' AND state <> 'ended'`;
    if (row!.left === 0) break;
    await sleep(50);
  }
  const rate = perSecond(count, startedMs);
  const p99 = (await beside).p99Ms / alone.p99Ms;
  const text = `${rate.toFixed(0)}/s with an entry each; reads' p99 × ${p99.toFixed(2)}`;
  const name = `leases: ${count} internal ones expire at once`;
  return { name, reference: 'reads alone', text, goal: '≥ 5,000/s, p99 × 2 at most' };
}

async function insertAccess(owner: postgres.Sql, from: string, count: number, due: string): Promise<void> {
  await owner.unsafe(
    `INSERT INTO leases (tenant_id, lease_id, kind, path, handle, user_id, holder, token_id, state, renewable, ttl_seconds,
                         issued_at, expires_at, max_expires_at, due_at)
     SELECT tenant_id, translate(lpad(i::text, 16, '0'), '0189', 'abcd'), kind, path, 'bench' || i, user_id, holder, token_id,
            state, false, 1, issued_at, ${due}, ${due}, ${due}
     FROM leases, generate_series(1, ${count}) AS i WHERE lease_id = '${from}'`,
  );
}

/** The same vault started with none and with many leases alive. */
async function benchRestart(count: number): Promise<Row> {
  const directory = mkdtempSync(join(tmpdir(), 'bulla-bench-'));
  chmodSync(directory, 0o711);
  const dataDir = join(directory, 'data');
  try {
    await (await startVault(dataDir)).end();
    const none = await startVault(dataDir);
    const owner = ownerOf(dataDir);
    await owner`
      INSERT INTO leases (tenant_id, lease_id, kind, path, handle, user_id, holder, token_id, state, renewable, ttl_seconds,
                          issued_at, expires_at, max_expires_at, due_at)
      SELECT tenant_id, translate(lpad(i::text, 16, '0'), '0189', 'abcd'), 'access', 'bench', 'bench' || i, 'bench', 'bench',
             'bench', 'active', false, 3600, now(), now() + interval '1 day', now() + interval '1 day', now() + interval '1 day'
      FROM tenants, generate_series(1, ${count}) AS i WHERE name = 'default'`;
    await owner.end();
    await none.end();
    const many = await startVault(dataDir);
    await many.end();
    const more = `${Math.round(many.ms - none.ms)} ms later than ${Math.round(none.ms)} ms, ${(many.mib - none.mib).toFixed(1)} MiB more`;
    const name = `leases: restart with ${count} alive`;
    return { name, reference: 'restart with none', text: more, goal: '< 2 s later, < 20 MB more' };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function startVault(dataDir: string): Promise<{ ms: number; mib: number; end: () => Promise<void> }> {
  const startedMs = performance.now();
  const env = {
    PATH: process.env.PATH,
    BULLA_DATA_DIR: dataDir,
    BULLA_LISTEN: '127.0.0.1:0',
    BULLA_LOG_LEVEL: 'error',
  };
  const child = spawn(process.execPath, [MAIN, 'server'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise<void>((serves, fails) => {
    child.stdout.on('data', (chunk: Buffer) => chunk.includes('running at') && serves());
    child.once('exit', (code) => fails(new Error(`the vault ended with ${code}`)));
  });
  const ms = performance.now() - startedMs;
  // Until its sweeper has looked.
  await sleep(2_000);
  const mib = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]) / 1024;
  const end = async () => {
    child.kill('SIGTERM');
    await new Promise((done) => child.once('exit', done));
  };
  return { ms, mib, end };
}
