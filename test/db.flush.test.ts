/** Commits that share a flush, on a PostgreSQL of its own that ends before it has written them to its disk. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { closeDatabase, type Database, openDatabase, SYSTEM, statements, transaction } from '../src/db/database.ts';
import { answers, leaseTarget, type Target } from './lease-target.ts';
import { until } from './until.ts';
import { codeOf } from './witness.ts';

let target: Target;
let db: Database;
beforeAll(async () => {
  target = await leaseTarget();
  const { endpoint } = target.proxy;
  db = openDatabase({ target: endpoint, setRole: false, connections: 8, deadlineMs: 30_000, clockOffsetSeconds: 0 });
  await transaction(db, [SYSTEM], (tx) => tx`CREATE TABLE public.told (n integer)`);
});
afterAll(async () => {
  await closeDatabase(db);
  await target.close();
});

const tell = (n: number) => transaction(db, [SYSTEM], (tx) => tx`INSERT INTO public.told VALUES (${n})`);
const read = (hasRead = () => {}) =>
  transaction(db, [SYSTEM], async (tx) => {
    const rows = await tx<{ n: number }[]>`SELECT n FROM public.told ORDER BY n`;
    hasRead();
    return rows;
  });
const stored = async () => (await target.sql`SELECT n FROM public.told ORDER BY n`).map((row) => row.n as number);
const pidsOf = async (kind: string, query: string) => {
  const rows = await target.sql`
    SELECT pid FROM pg_stat_activity WHERE backend_type = ${kind} AND query LIKE ${query} AND pid <> pg_backend_pid()`;
  return rows.map((row) => row.pid as number);
};
const flushers = () => pidsOf('client backend', '%pg_logical_emit_message%');

it('a flush by a server that has lost the commit meanwhile makes it not durable: nobody is told that it is', async () => {
  // Beside a transaction that goes on, commits share a flush.
  let finish: () => void = () => undefined;
  const beside = transaction(db, [SYSTEM], async (tx) => {
    await tx`SELECT 1`;
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
  });
  await until('they share one', async () => {
    await tell(0);
    return (await flushers()).length > 0;
  });
  const stopped = [...(await pidsOf('walwriter', '%')), ...(await flushers())];
  for (const pid of stopped) process.kill(pid, 'SIGSTOP');
  // The first one waits for the flush that hangs, the others for the one after it.
  const waiting = [codeOf(tell(1))];
  await until('the first has committed', async () => (await stored()).includes(1));
  let isRead = false;
  const hasRead = () => {
    isRead = true;
  };
  waiting.push(codeOf(tell(2)), codeOf(read(hasRead)));
  await until('the second has committed, and the reader has read', async () => isRead && (await stored()).includes(2));
  let admit: () => void = () => undefined;
  target.proxy.admission = new Promise<void>((resolve) => {
    admit = resolve;
  });
  for (const pid of stopped) process.kill(pid, 'SIGKILL');
  const { host, port, database, username, password } = target.direct;
  await until('the server has recovered', () => answers({ host, port, database, username, password }));
  admit();
  target.proxy.admission = undefined;
  const [first, second, seen] = await Promise.all(waiting);
  expect([first, second]).toEqual(['outcome_unknown', 'outcome_unknown']);
  expect(seen).not.toBe('ok');
  finish();
  expect(await codeOf(beside)).toBe('outcome_unknown');
  expect(await stored()).not.toContain(1);
  expect(await stored()).not.toContain(2);
});

it('a wait for the standby that somebody ends is no answer of the standby: nobody is told that it has the commit', async () => {
  const standbys = async (names: string) => {
    await target.sql.unsafe(`ALTER SYSTEM SET synchronous_standby_names = '${names}'`);
    await target.sql`SELECT pg_reload_conf()`;
    await until('the server has heard of it', async () => {
      const [row] = await named();
      return row!.names === names;
    });
  };
  const named = () => target.sql<{ names: string }[]>`SELECT current_setting('synchronous_standby_names') AS names`;
  /** Ends every wait for the standby until the act has ended. */
  const cancelled = async (act: Promise<unknown>) => {
    let ended = false;
    const code = codeOf(act).finally(() => {
      ended = true;
    });
    await until('it has ended', async () => {
      await target.sql`
        SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid <> pg_backend_pid()`;
      return ended;
    });
    return code;
  };
  await tell(3);
  await standbys('nobody');
  expect(await cancelled(tell(4))).toBe('outcome_unknown');
  expect(await cancelled(read())).toBe('unavailable');
  const alone = statements(db, [SYSTEM], (tx) => tx`INSERT INTO public.told VALUES (9)`);
  expect(await cancelled(alone)).toBe('unavailable');
  // Beside another one, by the connection that flushes for all.
  let finish: () => void = () => undefined;
  const beside = transaction(db, [SYSTEM], async (tx) => {
    await tx`SELECT 1`;
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
  });
  for (const n of [5, 6, 7]) expect(await cancelled(tell(n))).toBe('outcome_unknown');
  await standbys('');
  finish();
  await beside;
  await tell(8);
  expect(await stored()).toEqual(expect.arrayContaining([3, 4, 5, 6, 7, 8]));
});
