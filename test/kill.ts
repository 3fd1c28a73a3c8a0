/**
 * One kill point, one life of a vault: a real server process under load is killed there, another is started on what it
 * left, and I1–I8 of the cases must hold.
 *
 *   I1 every acknowledged write reads back          I5 one active root key, one active data key per tenant
 *   I2 every ciphertext opens under its live key    I6 the log only grew, and proves
 *   I3 every answered read stands in the log        I7 a bystander's rows are byte for byte as they were
 *   I8 the second process serves, or refuses in words
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import { expect } from 'vitest';
import type { Endpoint } from '../src/db/database.ts';
import type { Killpoint } from '../src/db/killpoint.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { callOf, type TestVault, testVault } from './harness.ts';
import type { Scenario } from './kill-scenarios.ts';
import { api, type KillServer, SEAL_ENV, type ServerAt, serverAt, startKillable } from './killable.ts';
import { until } from './until.ts';

/** More than one batch of re-encryption. */
const SECRETS = 300;
/** How long a point may take to be reached. */
const REACHED_MS = 40_000;
const WRITERS = 4;

/** What was told to clients, and so must be true for ever. */
type Ledger = {
  /** By path: the last acknowledged value, and what was sent after it without an answer. */
  readonly writes: Map<string, { acknowledged: number; sent: number }>;
  readonly reads: string[];
};

/** Writers and readers until the server is gone; what fails with it is no fault. */
async function load(server: KillServer, token: string, ledger: Ledger, stop: { now: boolean }): Promise<void> {
  const worker = async (number: number) => {
    for (let n = 1; !stop.now; n += 1) {
      const path = `load/${number}-${n % 5}`;
      const entry = ledger.writes.get(path) ?? { acknowledged: 0, sent: 0 };
      ledger.writes.set(path, entry);
      entry.sent = n;
      const wrote = await api(server.address, 'PUT', `/secrets/${path}`, token, { text: String(n) });
      if (wrote.status === 200 || wrote.status === 201) entry.acknowledged = n;
      const read = await api(server.address, 'GET', `/secrets/load/base-${n % 10}`, token);
      if (read.status === 200) ledger.reads.push(read.requestId);
    }
  };
  await Promise.allSettled(Array.from({ length: WRITERS }, (_, i) => worker(i)));
}

const ignoring = (promise: Promise<unknown>) => promise.catch(() => undefined);

/** Kills a server at the point and proves I1–I8 on what it left. */
export async function killAndProve(point: Killpoint, scenario: Scenario, owner: Endpoint): Promise<void> {
  const t = await testVault({ env: SEAL_ENV });
  try {
    const { token, bystander } = await prepare(t);
    const before = await snapshot(t, bystander);
    const at = serverAt(t, owner);
    const ledger: Ledger = { writes: new Map(), reads: [] };
    const stop = { now: false };
    const server = await startKillable(at, point, scenario.times ?? 1);
    const atFirst = { address: server.address, token, operator: t.operator };
    try {
      await scenario.before?.(atFirst);
      const loading = load(server, token, ledger, stop);
      await until('the load is acknowledged', async () => ledger.reads.length > 10);
      await server.arm();
      await ignoring(scenario.act(atFirst));
      const how = await Promise.race([server.ended, until('the kill point', async () => false, REACHED_MS)]);
      stop.now = true;
      await loading;
      expect([point, how]).toEqual([point, 'SIGKILL']);
    } finally {
      // A point that is not reached leaves nobody behind.
      stop.now = true;
      server.child.kill('SIGKILL');
      await server.ended;
    }

    const second = await startKillable(at);
    try {
      await scenario.after?.(t, { ...atFirst, address: second.address });
      await prove(t, second, token, ledger, before, bystander);
    } finally {
      await second.stop();
    }
  } finally {
    await t.close();
  }
}

async function prepare(t: TestVault): Promise<{ token: string; bystander: string }> {
  const put = (token: string, path: string) =>
    putSecret(t.vault, callOf(token), parsePath(path), {
      ...{ kind: 'text', body: randomBytes(200), metadata: { k: 'v' } },
    });
  for (let i = 0; i < 10; i += 1) await put(t.admin, `load/base-${i}`);
  const paths = Array.from({ length: SECRETS }, (_, i) => `many/${i}`);
  // As many at once as there are connections: more would only wait, and on a slow machine too long.
  for (let at = 0; at < paths.length; at += 8)
    await Promise.all(paths.slice(at, at + 8).map((path) => put(t.admin, path)));
  const other = await t.tenant('bystander');
  const doomed = await t.tenant('doomed');
  for (let i = 0; i < 5; i += 1) await Promise.all([put(other, `s${i}`), put(doomed, `s${i}`)]);
  const [row] = await t.owner`SELECT tenant_id FROM tenants WHERE name = 'bystander'`;
  return { token: t.admin, bystander: row!.tenant_id };
}

type Snapshot = { readonly rows: string; readonly logs: ReadonlyMap<string, Buffer> };

async function snapshot(t: TestVault, bystander: string): Promise<Snapshot> {
  const rows = await t.owner`
    SELECT md5(string_agg(v::text, '|' ORDER BY v.secret_id, v.version)) AS hash FROM secret_versions v
    WHERE tenant_id = ${bystander}`;
  return { rows: rows[0]!.hash, logs: await leavesOf(t) };
}

async function leavesOf(t: TestVault): Promise<Map<string, Buffer>> {
  const rows = await t.owner`SELECT tenant_id, hashes FROM audit_leaves ORDER BY tenant_id, first_seq`;
  const logs = new Map<string, Buffer>();
  for (const { tenant_id, hashes } of rows)
    logs.set(tenant_id, Buffer.concat([logs.get(tenant_id) ?? Buffer.alloc(0), hashes]));
  return logs;
}

async function prove(
  t: TestVault,
  server: KillServer,
  token: string,
  ledger: Ledger,
  before: Snapshot,
  bystander: string,
): Promise<void> {
  // I8, and I1 through the front door.
  for (const [path, { acknowledged, sent }] of ledger.writes) {
    const read = await api(server.address, 'GET', `/secrets/${path}`, token);
    if (acknowledged === 0 && read.status === 404) continue;
    expect([path, read.status]).toEqual([path, 200]);
    expect([path, Number(read.json.text) >= acknowledged && Number(read.json.text) <= sent]).toEqual([path, true]);
  }
  // I2 and I6, and that nothing secret stands in a table.
  await t.check();
  await proveKeys(t);
  // I3: each answered read has its entry.
  const segments = await t.owner`SELECT lines FROM audit_segments`;
  const logged = new Set(
    segments.flatMap(({ lines }) =>
      Array.from(lines.toString().matchAll(/"request":"([^"]+)"/g), (match) => (match as RegExpMatchArray)[1]!),
    ),
  );
  expect(ledger.reads.filter((id) => !logged.has(id))).toEqual([]);
  // I6: what was in the log is its beginning.
  const logs = await leavesOf(t);
  for (const [tenant, leaves] of before.logs) {
    expect([tenant, logs.get(tenant)?.subarray(0, leaves.length).equals(leaves)]).toEqual([tenant, true]);
  }
  // I7.
  expect((await snapshot(t, bystander)).rows).toBe(before.rows);
}

/** I5, and that a key's bytes are there exactly while it is not destroyed. */
export async function proveKeys(t: TestVault): Promise<void> {
  expect(await t.owner`SELECT 1 FROM root_keys WHERE state = 'active'`).toHaveLength(1);
  expect(await t.owner`SELECT 1 FROM root_keys WHERE state = 'retiring'`).toHaveLength(0);
  expect(await t.owner`SELECT 1 FROM root_key_material`).toHaveLength(1);
  const wrong = await t.owner`
    SELECT t.name, t.state, count(*) FILTER (WHERE k.state = 'active')::int AS active FROM tenants t
    LEFT JOIN data_keys k USING (tenant_id) GROUP BY t.tenant_id
    HAVING count(*) FILTER (WHERE k.state = 'active') <> CASE WHEN t.state IN ('active', 'suspended') THEN 1 ELSE 0 END`;
  expect(wrong).toEqual([]);
  const orphans = await t.owner`
    SELECT k.tenant_id, k.version, k.state FROM data_keys k LEFT JOIN data_key_material m USING (tenant_id, version)
    WHERE (k.state = 'destroyed') <> (m.version IS NULL)`;
  expect(orphans).toEqual([]);
}

/**
 * The first start killed at the point, on a database without a vault: another start makes a whole vault, whose
 * accounts have exactly the passwords of the file, and no key of the first try is left in use.
 */
export async function proveFirstStart(point: Killpoint, owner: Endpoint, app: Endpoint): Promise<void> {
  const blank = await blankDatabase(owner, app);
  try {
    const killed = await startKillable(blank.at, point, 1, 'now').then(
      (server) => server.ended,
      (error: Error) => error.message,
    );
    expect([point, killed.includes('SIGKILL')]).toEqual([point, true]);
    const second = await startKillable(blank.at);
    try {
      const file = JSON.parse(readFileSync(join(blank.at.dataDir, 'first-credentials.json'), 'utf8'));
      for (const account of [file.system, file.default]) {
        const { tenant, username, password } = account;
        const answer = await fetch(`${second.address}/api/v1/auth/login`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ tenant, username, password }),
        });
        expect([point, username, answer.status]).toEqual([point, username, 200]);
      }
      expect(await blank.sql`SELECT state FROM root_keys`).toEqual([{ state: 'active' }]);
      expect(await blank.sql`SELECT name FROM tenants ORDER BY name`).toEqual([
        { name: 'default' },
        { name: 'system' },
      ]);
    } finally {
      await second.stop();
    }
  } finally {
    await blank.remove();
  }
}

async function blankDatabase(owner: Endpoint, app: Endpoint) {
  const database = `t_${randomBytes(6).toString('hex')}`;
  const server = postgres({ ...owner, max: 1, onnotice: () => undefined });
  await server.unsafe(`CREATE DATABASE ${database}`);
  const dataDir = mkdtempSync(join(tmpdir(), 'bulla-kill-'));
  const at: ServerAt = { owner: { ...owner, database }, app: { ...app, database }, dataDir };
  const sql = postgres({ ...at.owner, max: 1, onnotice: () => undefined, connection: { search_path: 'bulla' } });
  return {
    at,
    sql,
    remove: async () => {
      await sql.end();
      await server.unsafe(`DROP DATABASE ${database} WITH (FORCE)`);
      await server.end();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
