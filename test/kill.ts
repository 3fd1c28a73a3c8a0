/**
 * One kill point, one life of a vault: a real server process under load is killed there, another is started on what it
 * left, and I1–I8 of the cases must hold.
 *
 *   I1 every acknowledged write reads back          I5 one active root key, one active data key per tenant
 *   I2 every ciphertext opens under its live key    I6 the log only grew, and proves
 *   I3 every answered read stands in the log        I7 a bystander's rows are byte for byte as they were
 *   I8 the second process serves, or refuses in words
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import { expect } from 'vitest';
import type { Endpoint } from '../src/db/database.ts';
import type { Killpoint } from '../src/db/killpoint.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { unseal, unsealOnHost } from '../src/tenant/seal.ts';
import { callOf, type TestVault, testVault } from './harness.ts';
import { leaseTarget, type Target, works } from './lease-target.ts';
import { CHEAP_ARGON2, PATIENT } from './setup.ts';
import { until } from './until.ts';

const FIXTURE = fileURLToPath(new URL('./fixtures/killable-server.mjs', import.meta.url));
const NO_POINT = 'none';

export type KillServer = {
  readonly address: string;
  readonly child: ChildProcess;
  readonly arm: () => Promise<void>;
  /** Resolves with the signal or code that ended it. */
  readonly ended: Promise<string>;
  readonly stop: () => Promise<void>;
};

export type ServerAt = { readonly owner: Endpoint; readonly app: Endpoint; readonly dataDir: string };

/** Starts the real server on the database of a test vault. Rejects with what it said when it does not come to serve. */
export async function startKillable(
  at: ServerAt,
  point: Killpoint | typeof NO_POINT = NO_POINT,
  times = 1,
  armed: 'now' | 'later' = 'later',
): Promise<KillServer> {
  const place = JSON.stringify({ ...at, env: { ...CHEAP_ARGON2, ...PATIENT, ...SEAL_ENV } });
  const child = spawn(process.execPath, [FIXTURE, place, point, String(times), armed], {
    env: { PATH: process.env.PATH },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin!.on('error', () => undefined);
  let output = '';
  const ended = once(child, 'exit').then(([code, signal]) => String(signal ?? code));
  child.stderr!.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stdout!.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const seen = (what: RegExp) =>
    Promise.race([
      until(String(what), async () => what.exec(output) ?? undefined, 30_000),
      ended.then((how) => Promise.reject(new Error(`the server ended with ${how}: ${output}`))),
    ]);
  const [, address] = await seen(/running at (http:\S+)/).catch((error: unknown) => {
    child.kill('SIGKILL');
    throw error;
  });
  return {
    address: address!,
    child,
    arm: async () => {
      child.stdin!.write('arm\n');
      await Promise.race([seen(/armed/).catch(() => undefined), ended]);
    },
    ended,
    stop: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** How the server of a test vault reaches its database. */
export function serverAt({ app, dataDir }: Pick<TestVault, 'app' | 'dataDir'>, owner: Endpoint): ServerAt {
  return { owner: { ...owner, database: app.database }, app, dataDir };
}

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

async function api(address: string, method: string, path: string, token: string, body?: unknown) {
  const answer = await fetch(`${address}/api/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  return {
    status: answer.status,
    requestId: answer.headers.get('x-request-id') ?? '',
    json: text === '' ? {} : JSON.parse(text),
  };
}

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

type At = { readonly address: string; readonly token: string; readonly operator: string };

/** What is done while the load runs, and what must be so at the end beside I1–I8. */
export type Scenario = {
  readonly times?: number;
  /** Before the load begins. */
  readonly before?: (at: At) => Promise<unknown>;
  readonly act: (at: At) => Promise<unknown>;
  readonly after?: (t: TestVault, at: At) => Promise<void>;
};

/** Of the scenario that is running. */
let target: Target | undefined;

/** The env seal is at hand beside the file seal, to migrate to; a passphrase costs what a password does. */
const SEAL_ENV = {
  BULLA_SEAL_KEY: `bulla-seal-key-v1:${Buffer.alloc(32, 'k').toString('base64')}`,
  BULLA_SEAL_PASSPHRASE_MEMORY_KIB: '19456',
  BULLA_SEAL_PASSPHRASE_PASSES: '2',
};
const PASSPHRASE = 'a passphrase that is long enough';

const served = (address: string, token: string) =>
  until('the vault serves', async () => (await api(address, 'GET', '/secrets/load/base-1', token)).status === 200);

const ignoring = (promise: Promise<unknown>) => promise.catch(() => undefined);

export const SCENARIOS = {
  rotate: { act: ({ address, token }) => api(address, 'POST', '/keys/rotate', token) },
  reencrypt: {
    act: ({ address, token }) => api(address, 'POST', '/keys/rotate', token, { reencrypt: true }),
    after: async (t) => {
      // As time does: the heartbeat of the dead node grows old.
      const open = await t.owner`
        UPDATE jobs SET heartbeat_at = heartbeat_at - interval '1 minute' WHERE state = 'running' RETURNING job_id`;
      await until('every job has ended', async () => {
        return (await t.owner`SELECT 1 FROM jobs WHERE state IN ('queued', 'running')`).length === 0;
      });
      const states = await t.owner`SELECT state FROM jobs WHERE kind = 'reencrypt'`;
      expect([open.length <= 1, states.map(({ state }) => state)]).toEqual([true, states.map(() => 'done')]);
      const old = await t.owner`
        SELECT 1 FROM data_key_material m JOIN data_keys k USING (tenant_id, version) WHERE k.state = 'destroyed'`;
      expect(old).toHaveLength(0);
    },
  },
  pepper: {
    act: ({ address, operator }) => api(address, 'POST', '/peppers/rotate', operator),
    after: async (t) => {
      expect(await t.owner`SELECT 1 FROM system_keys WHERE purpose = 'pepper' AND state = 'active'`).toHaveLength(1);
      expect(await t.login('default', 'admin')).toMatch(/^bulla_/);
    },
  },
  root: { act: ({ address, operator }) => api(address, 'POST', '/root-keys/rotate', operator) },
  tenantDelete: {
    act: ({ address, operator }) => api(address, 'DELETE', '/tenants/doomed', operator),
    after: async (t) => {
      await t.owner`UPDATE jobs SET heartbeat_at = heartbeat_at - interval '1 minute' WHERE state = 'running'`;
      await until('the removal has ended', async () => {
        return (await t.owner`SELECT 1 FROM jobs WHERE state IN ('queued', 'running')`).length === 0;
      });
      const [doomed] = await t.owner`SELECT tenant_id, state FROM tenants WHERE state = 'deleted' OR name = 'doomed'`;
      const secrets = await t.owner`SELECT 1 FROM secrets WHERE tenant_id = ${doomed!.tenant_id}`;
      // All of it, or nothing: the first commit decides.
      expect([doomed!.state, secrets.length]).toEqual(doomed!.state === 'active' ? ['active', 5] : ['deleted', 0]);
    },
  },
  migrate: { act: ({ address, operator }) => api(address, 'POST', '/seal/migrate', operator, { to: 'env' }) },
  seal: {
    act: ({ address, operator }) => api(address, 'POST', '/seal/seal', operator),
    after: async (t, { address, token }) => {
      expect((await api(address, 'GET', '/secrets/load/base-1', token)).status).toBe(503);
      await unsealOnHost(t.vault);
      await served(address, token);
    },
  },
  unseal: {
    before: async ({ address, operator }) => {
      const done = await api(address, 'POST', '/seal/migrate', operator, { to: 'passphrase', passphrase: PASSPHRASE });
      expect(done.json).toMatchObject({ state: 'done' });
    },
    act: async ({ address, operator }) => {
      await api(address, 'POST', '/seal/seal', operator);
      await api(address, 'POST', '/seal/unseal', operator, { passphrase: PASSPHRASE });
    },
    after: async (t, { address, token, operator }) => {
      expect((await api(address, 'GET', '/secrets/load/base-1', token)).status).toBe(503);
      await api(address, 'POST', '/seal/unseal', operator, { passphrase: PASSPHRASE });
      await served(address, token);
      await unseal(t.vault, callOf(), { passphrase: PASSPHRASE });
    },
  },
  lease: {
    before: async ({ address, token }) => {
      target = await leaseTarget();
      const body = { kind: 'postgres', config: target.config };
      expect((await api(address, 'PUT', '/backends/db', token, body)).status).toBe(201);
      expect((await api(address, 'PUT', '/roles/reporting', token, { backend: 'db' })).status).toBe(201);
    },
    act: async ({ address, token }) => {
      const { json } = await api(address, 'POST', '/leases', token, { role: 'db/reporting', ttl: '10m' });
      await api(address, 'POST', `/leases/${json.id}/renew`, token);
      await api(address, 'DELETE', `/leases/${json.id}`, token);
    },
    after: async (t) => {
      const found = target!;
      try {
        await proveLeases(t, found);
        // As time does: deadlines, claims and expiries pass.
        await until('every credential is gone', async () => {
          await t.owner`
            UPDATE leases SET due_at = now() - interval '1 second',
                   expires_at = CASE state WHEN 'active' THEN now() - interval '1 second' ELSE expires_at END
            WHERE state IN ('pending', 'active', 'revoking') AND due_at > now() - interval '1 second'`;
          await t.owner`NOTIFY bulla_leases`;
          await proveLeases(t, found);
          return (await found.roles()).length === 0;
        });
        // What was cut off is looked for once more.
        await until('every lease has ended', async () => {
          await t.owner`UPDATE leases SET due_at = now() WHERE state = 'checking'`;
          await t.owner`NOTIFY bulla_leases`;
          return (await t.owner`SELECT 1 FROM leases WHERE state <> 'ended'`).length === 0;
        });
      } finally {
        target = undefined;
        await found.close();
      }
    },
  },
  account: {
    before: async ({ address, token }) => {
      target = await leaseTarget();
      await target.sql`CREATE ROLE kept LOGIN PASSWORD 'the first one'`;
      await target.sql`GRANT kept TO ${target.sql(target.config.username)} WITH ADMIN OPTION`;
      const body = { kind: 'postgres', config: target.config };
      expect((await api(address, 'PUT', '/backends/db', token, body)).status).toBe(201);
      const kept = { backend: 'db', username: 'kept', password: 'the first one' };
      expect((await api(address, 'PUT', '/accounts/kept', token, kept)).status).toBe(201);
    },
    act: async ({ address, token }) => {
      const { json } = await api(address, 'POST', '/leases', token, { account: 'kept', ttl: '10m' });
      await api(address, 'DELETE', `/leases/${json.id}`, token);
    },
    after: async (t, { address, token }) => {
      const found = target!;
      const credential = async () => (await api(address, 'GET', '/accounts/kept/credential', token)).json.credential;
      try {
        // Wherever it died, what the vault answers is what works.
        expect(await works(found, await credential())).toBe(true);
        await until('the lease has ended', async () => {
          await t.owner`
            UPDATE leases SET due_at = now() - interval '1 second', expires_at = now() - interval '1 second'
            WHERE state IN ('active', 'revoking') AND due_at > now() - interval '1 second'`;
          await t.owner`UPDATE static_accounts SET claim_until = now() WHERE claim_until > now()`;
          await t.owner`NOTIFY bulla_leases`;
          return (await t.owner`SELECT 1 FROM leases WHERE state <> 'ended'`).length === 0;
        });
        const [row] = await t.owner`SELECT in_doubt AS "inDoubt" FROM static_accounts`;
        expect(row!.inDoubt).toBe(false);
        expect(await works(found, await credential())).toBe(true);
        expect(await works(found, { username: 'kept', password: 'the first one' })).toBe(false);
      } finally {
        target = undefined;
        await found.close();
      }
    },
  },
  rotator: {
    before: async ({ address, token }) => {
      expect((await api(address, 'PUT', '/secrets/turned', token, { text: 'the first' })).status).toBe(201);
      const body = { kind: 'password', grace: '1h' };
      expect((await api(address, 'PUT', '/rotators/turned', token, body)).status).toBe(201);
    },
    act: ({ address, token }) => api(address, 'POST', '/rotators/turned/rotate', token),
    after: async (t, { address, token }) => {
      const read = async (version?: number) =>
        (await api(address, 'GET', `/secrets/turned${version ? `?version=${version}` : ''}`, token)).json;
      // The version before is whole, whether it has been followed or not.
      expect(await read(1)).toMatchObject({ text: 'the first' });
      const { version } = await read();
      // As time does: the claim of the dead node runs out.
      await t.owner`UPDATE rotators SET claim_until = now() WHERE claim IS NOT NULL`;
      expect((await api(address, 'POST', '/rotators/turned/rotate', token)).json.version).toBe(version + 1);
      const rows =
        await t.owner`SELECT 1 FROM secret_versions JOIN secrets USING (tenant_id, secret_id) WHERE path = 'turned'`;
      expect(rows).toHaveLength(version + 1);
    },
  },
  load: { times: 40, act: async () => undefined },
} as const satisfies Record<string, Scenario>;

/** No credential lives without a row, and no row says that one is gone which is not. */
async function proveLeases(t: TestVault, where: Target): Promise<void> {
  const rows = await t.owner`SELECT handle, state FROM leases`;
  const roles = await where.roles();
  const alive = new Set(rows.filter((row) => row.state !== 'ended').map((row) => row.handle as string));
  expect(roles.filter((role) => !alive.has(role))).toEqual([]);
}

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
