/** Statements that go behind others on one lane, and rounds of reads whose appends do. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  closeDatabase,
  type Database,
  openDatabase,
  SYSTEM,
  statements,
  type TenantId,
  type Tx,
} from '../src/db/database.ts';
import { readSecret } from '../src/policy/read.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { type TestVault, testVault } from './harness.ts';
import { codeOf, entriesOf, tenantId, text } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
const opened: Database[] = [];

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
});
afterEach(() => Promise.all(opened.splice(0).map(closeDatabase)));
afterAll(() => t.close());

function database(): Database {
  const options = { target: t.app, setRole: false, connections: 2, deadlineMs: 2_000, clockOffsetSeconds: 0 };
  const db = openDatabase(options);
  opened.push(db);
  return db;
}

const pidIn = async (tx: Tx) => (await tx<{ pid: number }[]>`SELECT pg_backend_pid() AS pid`)[0]!.pid;

/** Statements whose lane others go behind on, until it is told to end. */
function ahead(db: Database, fn: (tx: Tx) => Promise<unknown> = pidIn) {
  let end: () => void = () => undefined;
  const ending = new Promise<void>((resolve) => {
    end = resolve;
  });
  let under: (tx: Tx) => void = () => undefined;
  const tx = new Promise<Tx>((resolve) => {
    under = resolve;
  });
  const result = statements(db, [SYSTEM], async (one) => {
    const first = fn(one);
    under(one);
    const value = await first;
    await ending;
    return value;
  });
  return { tx, result, end };
}

describe('statements behind others', () => {
  it('run on the same connection, after them, and neither takes it from the other when it ends', async () => {
    const db = database();
    const first = ahead(db);
    const behind = await first.tx;
    const second = ahead(db);
    const pid = await statements(db, [SYSTEM], pidIn, { behind });
    // Whoever comes now gets another one, though those behind have ended.
    const other = await statements(db, [SYSTEM], pidIn, { behind: await second.tx });
    first.end();
    second.end();
    expect([await first.result, await second.result]).toEqual([pid, other]);
    expect(other).not.toBe(pid);
    expect([db.busy.size, db.idle.length, db.held.size]).toEqual([0, 2, 0]);
  });

  it('hear how they ended themselves when those ahead have failed, and the connection is nobody’s afterwards', async () => {
    const db = database();
    const first = ahead(db, (tx) => tx`SELECT 1 / (random() * 0)::int`);
    const behind = await first.tx;
    const second = statements(db, [SYSTEM], pidIn, { behind });
    await expect(first.result).rejects.toThrow('22012');
    const pid = await second;
    expect([db.busy.size, db.idle.length]).toEqual([0, 0]);
    expect(await statements(db, [SYSTEM], pidIn)).not.toBe(pid);
  });

  it('end with a connection that is lost, and at their own deadline', async () => {
    const db = database();
    const first = ahead(db);
    const lost = codeOf(
      statements(db, [SYSTEM], (tx) => tx`SELECT pg_terminate_backend(pg_backend_pid())`, { behind: await first.tx }),
    );
    expect(await lost).toBe('unavailable');
    first.end();
    expect(await codeOf(first.result)).toBe('unavailable');

    const slow = ahead(db, (tx) => tx`SELECT pg_sleep(60)`);
    const late = codeOf(statements(db, [SYSTEM], pidIn, { behind: await slow.tx, deadlineMs: 100 }));
    slow.end();
    expect(await Promise.all([late, codeOf(slow.result)])).toEqual(['unavailable', 'unavailable']);
    expect([db.busy.size, db.idle.length]).toEqual([0, 0]);
  });

  it('cannot go behind what has ended', async () => {
    const db = database();
    const first = ahead(db);
    first.end();
    await first.result;
    await expect(statements(db, [SYSTEM], pidIn, { behind: await first.tx })).rejects.toThrow(
      'no statements are under way',
    );
  });
});

describe('rounds of reads behind others', () => {
  const read = (path: string) => readSecret(t.vault, t.call(t.admin), parsePath(path), 0);

  it('are answered, each once in the log, when one that others are behind cannot be recorded', async () => {
    for (const name of ['good', 'bad'])
      await putSecret(t.vault, t.call(t.admin), parsePath(`behind/${name}`), text('x'));
    await t.owner.unsafe(`
      CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF strpos(convert_from(NEW.lines, 'UTF8'), 'behind/bad') > 0 THEN RAISE EXCEPTION 'refused for a test'; END IF;
        RETURN NEW;
      END $$;
      CREATE TRIGGER refuse BEFORE INSERT ON bulla.audit_segments FOR EACH ROW EXECUTE FUNCTION public.refuse()`);
    try {
      const before = (await entriesOf(t.owner, tenant)).length;
      const readers = Array.from({ length: 24 }, async (_, i) => {
        const codes: string[] = [];
        for (let n = 0; n < 20; n += 1) {
          const path = i === 0 && n % 2 === 0 ? 'behind/bad' : 'behind/good';
          codes.push(
            await read(path).then(
              () => 'ok',
              (error: Error) => error.message,
            ),
          );
        }
        return codes;
      });
      const codes = (await Promise.all(readers)).flat();
      expect(codes.filter((code) => code !== 'ok')).toEqual(Array.from({ length: 10 }, () => 'database error P0001'));
      expect(await entriesOf(t.owner, tenant)).toHaveLength(before + codes.length - 10);
    } finally {
      await t.owner.unsafe('DROP TRIGGER refuse ON bulla.audit_segments; DROP FUNCTION public.refuse()');
    }
    await t.check();
  });
});
