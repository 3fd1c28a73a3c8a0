/** Statements that go behind others on one lane. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  closeDatabase,
  type Database,
  isUnderWay,
  openDatabase,
  SYSTEM,
  statements,
  type Tx,
  type UnderWay,
  underWay,
} from '../src/db/database.ts';
import { type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';
import { codeOf } from './witness.ts';

let t: TestVault;
const opened: Database[] = [];

beforeAll(async () => {
  t = await testVault();
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
  let under: (one: UnderWay) => void = () => undefined;
  const behind = new Promise<UnderWay>((resolve) => {
    under = resolve;
  });
  const result = statements(db, [SYSTEM], async (one) => {
    const first = fn(one);
    under(underWay(one));
    const value = await first;
    await ending;
    return value;
  });
  return { behind, result, end };
}

describe('statements behind others', () => {
  it('run on the same connection, after them, and neither takes it from the other when it ends', async () => {
    const db = database();
    const first = ahead(db);
    const behind = await first.behind;
    const second = ahead(db);
    const pid = await statements(db, [SYSTEM], pidIn, { behind });
    // Whoever comes now gets another one, though those behind have ended.
    const other = await statements(db, [SYSTEM], pidIn, { behind: await second.behind });
    first.end();
    second.end();
    expect([await first.result, await second.result]).toEqual([pid, other]);
    expect(other).not.toBe(pid);
    expect([db.busy.size, db.idle.length, db.held.size]).toEqual([0, 2, 0]);
  });

  it('hear how they ended themselves when those ahead have failed, and the connection is nobody’s afterwards', async () => {
    const db = database();
    const first = ahead(db, (tx) => tx`SELECT 1 / (random() * 0)::int`);
    const behind = await first.behind;
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
      statements(db, [SYSTEM], (tx) => tx`SELECT pg_terminate_backend(pg_backend_pid())`, {
        behind: await first.behind,
      }),
    );
    expect(await lost).toBe('unavailable');
    first.end();
    expect(await codeOf(first.result)).toBe('unavailable');

    const slow = ahead(db, (tx) => tx`SELECT pg_sleep(60)`);
    const late = codeOf(statements(db, [SYSTEM], pidIn, { behind: await slow.behind, deadlineMs: 100 }));
    slow.end();
    expect(await Promise.all([late, codeOf(slow.result)])).toEqual(['unavailable', 'unavailable']);
    expect([db.busy.size, db.idle.length]).toEqual([0, 0]);
  });

  it('cannot go behind what has ended, though the connection is another’s by now', async () => {
    const db = database();
    const first = ahead(db);
    const behind = await first.behind;
    first.end();
    await first.result;
    const after = ahead(db);
    expect((await after.behind).tx).toBe(behind.tx);
    expect([isUnderWay(behind), isUnderWay(await after.behind)]).toEqual([false, true]);
    expect(await codeOf(statements(db, [SYSTEM], pidIn, { behind }))).toBe('unavailable');
    after.end();
    await after.result;
  });

  it('end by their deadline on a connection that was lost while nothing was under way on it', async () => {
    const db = database();
    const first = ahead(db, async (tx) => {
      await pidIn(tx);
      [...db.busy][0]!.socket!.destroy();
      await until('the connection is known to be lost', async () => [...db.busy][0]!.dead);
      return pidIn(tx);
    });
    const behind = await first.behind;
    const second = codeOf(statements(db, [SYSTEM], pidIn, { behind }));
    first.end();
    expect(await Promise.all([codeOf(first.result), second])).toEqual(['unavailable', 'unavailable']);
    expect([db.busy.size, db.idle.length, db.held.size]).toEqual([0, 0, 0]);
  });
});
