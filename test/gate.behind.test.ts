/** Rounds of reads whose appends go behind one another on one connection, when something happens to one of them. */
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Endpoint, SYSTEM, statements, type TenantId } from '../src/db/database.ts';
import { readSecret } from '../src/policy/read.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';
import { entriesOf, hold, tenantId, text } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
});
afterAll(() => t.close());

const put = (path: string, token = t.admin) => putSecret(t.vault, t.call(token), parsePath(path), text('x'));
/** `ok`, or what is heard. */
const read = (node: Vault, path: string, call = t.call(t.admin)) =>
  readSecret(node, call, parsePath(path), 0).then(
    () => 'ok',
    (error: Error & { code?: string }) => error.code ?? error.message,
  );
/** Until all that these reads rest on is known, and the head is guessed. */
async function known(node: Vault, path: string, token?: string): Promise<void> {
  for (let i = 0; i < 80; i += 1) await read(node, path, t.call(token ?? t.admin));
}

/** What an append does that has a path in its lines. */
async function when(path: string, act: string): Promise<() => Promise<unknown>> {
  await t.owner.unsafe(`
    CREATE FUNCTION public.act() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF strpos(convert_from(NEW.lines, 'UTF8'), '${path}') > 0 THEN ${act}; END IF;
      RETURN NEW;
    END $$;
    CREATE TRIGGER act BEFORE INSERT ON bulla.audit_segments FOR EACH ROW EXECUTE FUNCTION public.act()`);
  return () => t.owner.unsafe('DROP TRIGGER act ON bulla.audit_segments; DROP FUNCTION public.act()');
}
const slowly = (seconds: number) => `PERFORM pg_advisory_xact_lock_shared(4711); PERFORM pg_sleep(${seconds})`;
const appending = () =>
  until('a slow append is under way', async () => {
    const locks = await t.owner`SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711`;
    return locks.length > 0;
  });

it('are answered, each once in the log, when one that others are behind cannot be recorded', async () => {
  for (const name of ['good', 'bad']) await put(`behind/${name}`);
  const undo = await when('behind/bad', `RAISE EXCEPTION 'refused for a test'`);
  try {
    const before = (await entriesOf(t.owner, tenant)).length;
    const readers = Array.from({ length: 24 }, async (_, i) => {
      const heard: string[] = [];
      for (let n = 0; n < 20; n += 1) {
        heard.push(await read(t.vault, i === 0 && n % 2 === 0 ? 'behind/bad' : 'behind/good'));
      }
      return heard;
    });
    const heard = (await Promise.all(readers)).flat();
    expect(heard.filter((one) => one !== 'ok')).toEqual(Array.from({ length: 10 }, () => 'P0001'));
    expect(await entriesOf(t.owner, tenant)).toHaveLength(before + heard.length - 10);
  } finally {
    await undo();
  }
  await t.check();
});

/** A way to the database whose new connections can be ended before they are open, as a server does that restarts. */
async function doorTo(server: Endpoint) {
  const door = { endsNew: false, endpoint: server, close: () => {} };
  const listener = createServer((client) => {
    client.on('error', () => undefined);
    if (door.endsNew) {
      setTimeout(() => client.destroy(), 700);
      return;
    }
    const target = server.host.startsWith('/')
      ? connect(join(server.host, `.s.PGSQL.${server.port}`))
      : connect(server.port, server.host);
    target.on('error', () => undefined);
    client.pipe(target).pipe(client);
    client.on('close', () => target.destroy());
    target.on('close', () => client.destroy());
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address() as { port: number };
  return Object.assign(door, { endpoint: { ...server, host: '127.0.0.1', port }, close: () => listener.close() });
}

it('are recorded once when their own connection fails after they were appended on that of the round before', async () => {
  const door = await doorTo(t.app);
  const node = await t.node({ target: door.endpoint });
  await put('behind/once');
  await known(node, 'behind/once');
  // The next one needs a connection that is not there yet.
  while (node.db.idle.length > 1) await node.db.idle.shift()!.sql.end();
  const undo = await when('behind/once', slowly(0.2));
  try {
    door.endsNew = true;
    const first = read(node, 'behind/once');
    await appending();
    const calls = Array.from({ length: 3 }, () => t.call(t.admin));
    const others = Promise.all(calls.map((call) => read(node, 'behind/once', call)));
    expect([await first, ...(await others)]).toEqual(['ok', 'unavailable', 'unavailable', 'unavailable']);
    const entries = await entriesOf(t.owner, tenant);
    const times = calls.map(({ requestId }) => entries.filter(({ request }) => request === requestId).length);
    expect(Math.max(...times)).toBeLessThanOrEqual(1);
  } finally {
    await undo();
    door.close();
  }
});

it('end no other that has more time than they have', async () => {
  const node = await t.node({ env: { BULLA_REQUEST_DEADLINE: '2s' } });
  for (const name of ['known', 'unknown']) await put(`behind/${name}`);
  const fresh = await t.user('fresh', [], [{ effect: 'allow', actions: ['secret.read'], resources: ['secret:**'] }]);
  await known(node, 'behind/known');
  await Promise.all(Array.from({ length: 20 }, () => read(node, 'behind/known')));
  const undo = await when('behind/known', slowly(1));
  try {
    // It began long ago, and comes to its append only now.
    const release = await hold(t.owner, 'LOCK TABLE secret_versions');
    const late = read(node, 'behind/unknown', t.call(fresh));
    await pause(1_300);
    const inTime = read(node, 'behind/known');
    await appending();
    await release();
    expect(await inTime).toBe('ok');
    expect(['ok', 'unavailable']).toContain(await late);
  } finally {
    await undo();
  }
});

it('hold up nobody when a connection is lost while they wait for their turn on it', async () => {
  const node = await t.node({ env: { BULLA_REQUEST_DEADLINE: '2s' } });
  const theirs = await t.tenant('behind-other');
  await put('behind/mine');
  await put('behind/theirs', theirs);
  await Promise.all([1, 2, 3, 4].map(() => statements(node.db, [SYSTEM], (one) => one`SELECT pg_sleep(0.2)`)));
  await known(node, 'behind/mine');
  await known(node, 'behind/theirs', theirs);
  const undo = await when('behind/theirs', slowly(0.6));
  const other = read(node, 'behind/theirs', t.call(theirs));
  await appending();
  const busy = new Set(node.db.busy);
  // Its turn comes when the other tenant's round has ended.
  const first = read(node, 'behind/mine');
  const waiting = () => [...node.db.busy].filter((lane) => !busy.has(lane));
  await until('it has a connection', async () => waiting().length === 1);
  waiting()[0]!.socket!.destroy();
  const second = fetchSecrets(node, t.call(t.admin), { paths: [parsePath('behind/mine')] }).then(() => 'ok');
  expect([await other, await first, await second]).toEqual(['ok', 'unavailable', 'ok']);
  await undo();
  const after = [read(node, 'behind/mine'), read(node, 'behind/theirs', t.call(theirs))];
  expect(await Promise.all(after)).toEqual(['ok', 'ok']);
  expect([node.db.busy.size, node.db.held.size]).toEqual([0, 0]);
});
