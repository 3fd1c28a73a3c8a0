/** Lanes and transactions against a real PostgreSQL: lost, hung and used-up connections, deadlocks, row security. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  closeDatabase,
  type Database,
  type DatabaseOptions,
  openDatabase,
  RetryTransaction,
  SYSTEM,
  type TenantId,
  type Tx,
  transaction,
} from '../src/db/database.ts';
import { readSecret } from '../src/policy/read.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { type CuttingProxy, cuttingProxy } from './cutting-proxy.ts';
import { type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';
import { codeOf, entriesOf, errorOf, tenantId, text, textOf } from './witness.ts';

let t: TestVault;
let proxy: CuttingProxy;
let tenant: TenantId;
const opened: Database[] = [];

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
  proxy = await cuttingProxy(t.app);
});
afterEach(async () => {
  proxy.blackHole = false;
  proxy.cut = 'never';
  await Promise.all(opened.splice(0).map(closeDatabase));
});
afterAll(async () => {
  await proxy.close();
  await t.close();
});

function database(options: Partial<DatabaseOptions> = {}): Database {
  const db = openDatabase({
    ...{ target: t.app, setRole: false, connections: 2, deadlineMs: 2_000, clockOffsetSeconds: 0 },
    ...options,
  });
  opened.push(db);
  return db;
}

const pidOf = async (tx: Tx) => (await tx<{ pid: number }[]>`SELECT pg_backend_pid() AS pid`)[0]!.pid;
/** As pg_terminate_backend does. */
const kill = (pid: number) => process.kill(pid, 'SIGTERM');
const lastLogin = async () =>
  (await t.owner`SELECT last_login_at::text AS at FROM users WHERE tenant_id = ${tenant} AND name = 'admin'`)[0]!.at;
const touch = (tx: Tx) => tx`UPDATE users SET last_login_at = bulla.now() WHERE name = 'admin'`;
const ping = (db: Database) => transaction(db, [tenant], pidOf);

it('a NUL character in a text is the caller’s mistake, and not repeated', async () => {
  const error = await errorOf(transaction(database(), [tenant], (tx) => tx`SELECT ${'before\0after'}::text`));
  expect(error).toMatchObject({ code: 'invalid_request', message: expect.stringContaining('NUL') });
  expect(JSON.stringify([error.message, error.cause])).not.toMatch(/before|after/);
});

describe('a lost connection', () => {
  it('T-178 killed in the middle of a transaction: unavailable, nothing happened, the next one works', async () => {
    const db = database({ connections: 1 });
    const before = await lastLogin();
    const lost = transaction(db, [tenant], async (tx) => {
      await touch(tx);
      kill(await pidOf(tx));
      await touch(tx);
      await tx`SELECT pg_sleep(1)`;
    });
    expect(await codeOf(lost)).toBe('unavailable');
    expect(await lastLogin()).toBe(before);
    expect(await ping(db)).toBeGreaterThan(0);
  });

  it('killed while idle: the taker after next at the latest is served', async () => {
    const db = database({ connections: 1 });
    kill(await ping(db));
    await until('the lane has noticed', () => db.idle.length === 0, 10_000);
    expect(await ping(db)).toBeGreaterThan(0);
  });

  it('killed when everything but COMMIT is done: the COMMIT never succeeds on another connection', async () => {
    const db = database({ connections: 1 });
    const before = await lastLogin();
    const lost = transaction(db, [tenant], async (tx) => {
      await touch(tx);
      kill(await pidOf(tx));
      await until('the connection is gone', () => db.busy.size === 1 && [...db.busy][0]!.dead, 10_000);
    });
    expect(['unavailable', 'outcome_unknown']).toContain(await codeOf(lost));
    expect(await lastLogin()).toBe(before);
    expect(await ping(db)).toBeGreaterThan(0);
  });

  it.each(['before commit', 'after commit'] as const)('T-180 cut %s: outcome_unknown', async (cut) => {
    const db = database({ target: proxy.endpoint });
    await ping(db);
    const before = await lastLogin();
    proxy.cut = cut;
    expect(await codeOf(transaction(db, [tenant], touch))).toBe('outcome_unknown');
    await until(
      'the outcome is there',
      async () => ((await lastLogin()) !== before) === (cut === 'after commit'),
      10_000,
    );
    expect(await ping(db)).toBeGreaterThan(0);
  });

  it.each(['before commit', 'after commit'] as const)(
    'T-180 a put cut %s and repeated with its cas has one effect and one entry',
    async (cut) => {
      const node = await t.node({ target: proxy.endpoint });
      const path = parsePath(`cut/${cut.replace(' ', '-')}`);
      const put = () => putSecret(node, t.call(t.admin), path, { ...text('once'), expect: 0 });
      // What the act needs in memory is loaded, so that the next COMMIT is the put's own.
      await putSecret(node, t.call(t.admin), parsePath('cut/warm'), text('up'));
      proxy.about = `secret:${path}`;
      proxy.cut = cut;
      expect(await codeOf(put())).toBe('outcome_unknown');
      const again = await codeOf(put());
      expect(again).toBe(cut === 'after commit' ? 'version_mismatch' : 'ok');
      expect(await readSecret(node, t.call(t.admin), path, 0).then(textOf)).toBe('once');
      const writes = (await entriesOf(t.owner, tenant)).filter(
        (entry) => entry.action === 'secret.write' && entry.resource === `secret:${path}` && entry.outcome === 'ok',
      );
      expect(writes).toHaveLength(1);
    },
  );

  it.each(['before commit', 'after commit'] as const)(
    'T-180 a read whose append was cut %s gives no byte',
    async (cut) => {
      const node = await t.node({ target: proxy.endpoint });
      const path = parsePath(`cut/read-${cut.replace(' ', '-')}`);
      await putSecret(node, t.call(t.admin), path, text('never without its entry'));
      await readSecret(node, t.call(t.admin), path, 0);
      // The append of reads commits by itself: the statement that carries the entry is the one to lose.
      proxy.about = `secret:${path}`;
      proxy.commit = '"action":"secret.read"';
      proxy.cut = cut;
      expect(await codeOf(readSecret(node, t.call(t.admin), path, 0))).toBe('unavailable');
      expect(proxy.cut).toBe('never');
      proxy.commit = 'COMMIT';
      expect(await readSecret(node, t.call(t.admin), path, 0).then(textOf)).toBe('never without its entry');
      await t.check();
    },
  );
});

describe('a hung connection', () => {
  it('T-181 a stopped backend: unavailable within the deadline, and the pool heals while it is still stopped', async () => {
    const db = database({ connections: 1, deadlineMs: 600 });
    const pid = await ping(db);
    process.kill(pid, 'SIGSTOP');
    try {
      const started = performance.now();
      expect(await codeOf(ping(db))).toBe('unavailable');
      expect(performance.now() - started).toBeLessThan(1_500);
      expect(await ping(db)).not.toBe(pid);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });

  it('T-181 a black-holed port: unavailable within the deadline, new connections included, and it heals', async () => {
    const db = database({ target: proxy.endpoint, deadlineMs: 600 });
    await ping(db);
    proxy.blackHole = true;
    const started = performance.now();
    const codes = await Promise.all([ping(db), ping(db), ping(db)].map(codeOf));
    expect(codes).toEqual(['unavailable', 'unavailable', 'unavailable']);
    expect(performance.now() - started).toBeLessThan(2_000);
    proxy.blackHole = false;
    expect(await ping(db)).toBeGreaterThan(0);
  });

  it('T-181 hung in COMMIT: outcome_unknown, within the deadline', async () => {
    const db = database({ target: proxy.endpoint, deadlineMs: 600 });
    await ping(db);
    const act = transaction(db, [tenant], async (tx) => {
      await touch(tx);
      proxy.blackHole = true;
    });
    expect(await codeOf(act)).toBe('outcome_unknown');
  });

  it('nobody there: unavailable at once', async () => {
    const db = database({ target: { ...t.app, host: '127.0.0.1', port: 1 } });
    const started = performance.now();
    expect(await codeOf(ping(db))).toBe('unavailable');
    expect(performance.now() - started).toBeLessThan(1_000);
  });
});

describe('many at once', () => {
  it('T-183 the pool used up: unavailable within the deadline, and whoever comes later is served', async () => {
    const db = database({ connections: 2, deadlineMs: 2_000 });
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const holders = [0, 1].map(() =>
      transaction(db, [tenant], async (tx) => {
        await pidOf(tx);
        await held;
      }),
    );
    const started = performance.now();
    expect(await codeOf(ping(db))).toBe('unavailable');
    expect(performance.now() - started).toBeLessThan(1_900);
    const waiter = ping(db);
    release();
    await Promise.all(holders);
    expect(await waiter).toBeGreaterThan(0);
    expect(db.busy.size).toBe(0);
  });

  it('T-183 the server refuses connections: unavailable at once, and it heals', async () => {
    const db = database();
    await t.owner.unsafe(`ALTER DATABASE ${t.app.database} CONNECTION LIMIT 0`);
    try {
      const started = performance.now();
      expect(await codeOf(ping(db))).toBe('unavailable');
      expect(performance.now() - started).toBeLessThan(1_000);
    } finally {
      await t.owner.unsafe(`ALTER DATABASE ${t.app.database} CONNECTION LIMIT -1`);
    }
    expect(await ping(db)).toBeGreaterThan(0);
  });

  it('under load a transaction keeps its connection and its tenants, and never more connections are made', async () => {
    const db = database({ connections: 3, deadlineMs: 30_000 });
    const pids = new Set<number>();
    const other = SYSTEM;
    await Promise.all(
      Array.from({ length: 300 }, async (_, i) => {
        const mine = i % 2 ? tenant : other;
        await transaction(db, [mine], async (tx) => {
          const first = await pidOf(tx);
          const rows = await tx<{ id: string }[]>`SELECT DISTINCT tenant_id AS id FROM users`;
          expect(rows.map(({ id }) => id)).toEqual([mine]);
          expect(await pidOf(tx)).toBe(first);
          pids.add(first);
        });
      }),
    );
    expect(pids.size).toBeLessThanOrEqual(3);
  });
});

describe('conflicts', () => {
  it.each(['40001', '40P01'])('T-182 %s is tried again, a bounded number of times', async (state) => {
    const db = database();
    const failing = (times: number) => {
      let runs = 0;
      const act = transaction(db, [tenant], async (tx) => {
        runs += 1;
        if (runs <= times) await tx.unsafe(`DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '${state}'; END $$`);
        return runs;
      });
      return act;
    };
    expect(await failing(2)).toBe(3);
    expect(await codeOf(failing(3))).toBe('unavailable');
  });

  it('T-182 a real deadlock: both go through, each once', async () => {
    const db = database({ deadlineMs: 5_000 });
    const sum = async () => {
      const [row] =
        await t.owner`SELECT sum(updated_at::date - '2000-01-01') AS days FROM policies WHERE name = 'reader'`;
      return Number(row!.days);
    };
    const before = await sum();
    const bump = (tx: Tx, where: TenantId) =>
      tx`UPDATE policies SET updated_at = updated_at + interval '1 day' WHERE tenant_id = ${where} AND name = 'reader'`;
    let first = 0;
    let arrived = () => {};
    const both = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    const cross = (one: TenantId, two: TenantId) =>
      transaction(db, [one, two], async (tx) => {
        await bump(tx, one);
        first += 1;
        if (first >= 2) arrived();
        await both;
        await bump(tx, two);
      });
    await Promise.all([cross(tenant, SYSTEM), cross(SYSTEM, tenant)]);
    expect(await sum()).toBe(before + 4);
  });

  it('RetryTransaction undoes and runs again', async () => {
    const db = database();
    const before = await lastLogin();
    let runs = 0;
    const act = transaction(db, [tenant], async (tx) => {
      runs += 1;
      await touch(tx);
      throw new RetryTransaction();
    });
    expect(await codeOf(act)).toBe('unavailable');
    expect(runs).toBe(3);
    expect(await lastLogin()).toBe(before);
  });

  it('a statement that failed and was ignored never counts as committed, and is not called unknown', async () => {
    const db = database();
    const before = await lastLogin();
    const act = transaction(db, [tenant], async (tx) => {
      await touch(tx);
      await tx`SELECT 1 / 0`.catch(() => undefined);
    });
    await expect(act).rejects.toThrow(/25P02/);
    await expect(act).rejects.not.toMatchObject({ code: 'outcome_unknown' });
    expect(await lastLogin()).toBe(before);
    expect(await ping(db)).toBeGreaterThan(0);
  });
});

describe('errors', () => {
  it('hold nothing of a row or a parameter', async () => {
    const db = database();
    const canary = 'canary-4711-in-a-parameter';
    const failing = [
      () =>
        transaction(
          db,
          [tenant],
          (tx) => tx`INSERT INTO users (tenant_id, user_id, name, password_hash, pepper_version, created_at)
        VALUES (${tenant}, ${canary}, 'admin', ${canary}, 1, now())`,
        ),
      () => transaction(db, [tenant], (tx) => tx`SELECT ${canary}::int`),
      () => transaction(db, [tenant], (tx) => tx`INSERT INTO users (tenant_id, user_id) VALUES (${tenant}, ${canary})`),
      () =>
        transaction(
          db,
          [tenant],
          (tx) => tx`INSERT INTO policies (tenant_id, name, policy_id, revision, document, created_at, updated_at)
        VALUES (${tenant}, ${canary}, ${canary}, 0, ${canary}, now(), now())`,
        ),
    ];
    for (const act of failing) {
      const error = await act().then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(Error);
      const shown = `${JSON.stringify(error, Object.getOwnPropertyNames(error))} ${(error as Error).stack}`;
      expect(shown).not.toContain(canary);
    }
  });

  it('an outage is told in one sentence without the database’s words', async () => {
    const db = database({ target: { ...t.app, password: 'not-the-password' } });
    const error = await errorOf(ping(db));
    expect(error.code).toBe('unavailable');
    expect(error.retryAfterSeconds).toBeGreaterThan(0);
    expect(error.message).not.toMatch(/not-the-password|password authentication/);
  });
});
