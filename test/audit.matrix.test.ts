/**
 * T-087: n requests make n entries with matching ids. Every live route, native and of /v1, is asked as somebody who may,
 * somebody who may not, with what it does not take, and without a token of ours; what has no entry must be in the counted
 * summaries. That each route is also recorded when all goes well is the harness's `check()` and test/vault.wire.test.ts.
 */
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { takeCounts } from '../src/audit/recorded.ts';
import { writeSummaries } from '../src/audit/summary.ts';
import { endTails } from '../src/audit/tail.ts';
import { createApp } from '../src/http/app.ts';
import { listen } from '../src/http/listener.ts';
import { type TestVault, testVault } from './harness.ts';
import { type Asked, type Operation, operations, send } from './operation.ts';

let t: TestVault;
let vaultAddress: string;
let sent = 0;

beforeAll(async () => {
  t = await testVault();
  vaultAddress = await t.address();
});
afterAll(async () => {
  endTails(t.vault);
  await t.close();
});

type Sent = { readonly id: string; readonly status: number };

/** Sends one request under an id of its own. */
async function ask(operation: Operation, token: string | undefined, asked: Asked = {}): Promise<Sent> {
  const id = `matrix-${sent++}`;
  const { status } = await send(vaultAddress, operation, { ...asked, token, headers: { 'x-request-id': id } });
  return { id, status };
}

type Entry = { request: string; action: string; outcome: 'ok' | 'denied' | 'error'; code?: string };

/** The entries of each request. */
async function recorded(): Promise<Map<string, Entry[]>> {
  const rows = await t.owner`SELECT lines FROM audit_segments`;
  const lines = rows.flatMap((row) => row.lines.toString('utf8').split('\n').slice(0, -1)) as string[];
  const entries = new Map<string, Entry[]>();
  for (const entry of lines.map((line) => JSON.parse(line) as Entry)) {
    entries.set(entry.request, [...(entries.get(entry.request) ?? []), entry]);
  }
  return entries;
}

const recordedIds = async () => new Set((await recorded()).keys());

const countedNow = () => takeCounts(t.vault).reduce((sum, { count }) => sum + count, 0);
/** Ends every token, or the vault: asked only where nothing comes of it. */
const DESTRUCTIVE = /\/auth\/(logout|password)|\/seal\/(seal|migrate)|revoke-self|\/sys\/seal$/;
const PUBLIC = /^\/(healthz|readyz|metrics|openapi\.(json|yaml))$/;

/** Until what was sent has been counted: the last of it is when the connection is done with the answer. */
async function eventually<T>(read: () => T | Promise<T>, wanted: T): Promise<void> {
  await expect.poll(read, { timeout: 60_000, interval: 20 }).toEqual(wanted);
}

/** Each asks for some thousand things: on a busy machine that takes minutes. */
const PATIENCE_MS = 300_000;

/** What was sent by somebody known, to be looked for in the log. */
type Known = Sent & { readonly name: string };

/** What the entries of a request must say, by its answer; undefined when they do. */
function wrong({ name, id, status }: Known, entries: ReadonlyMap<string, readonly Entry[]>): string | undefined {
  const own = entries.get(id) ?? [];
  const outcomes = own.map(({ outcome }) => outcome);
  const fits =
    status < 400
      ? outcomes.includes('ok')
      : status === 401 || status === 403
        ? outcomes.every((outcome) => outcome === 'denied')
        : outcomes.every((outcome) => outcome !== 'ok');
  const whole = own.length > 0 && own.every(({ outcome, code }) => (outcome === 'ok') === (code === undefined));
  return whole && fits ? undefined : `${name}: ${status}, ${JSON.stringify(own)}`;
}

/** Asks for every operation as everybody. Gives what was asked by somebody known, and how much was by strangers. */
async function askAll(all: readonly Operation[], who: readonly (readonly [how: string, token: string])[]) {
  const known: Known[] = [];
  let strangers = 0;
  for (const operation of all) {
    const { name, path, protocol } = operation;
    const asKnown = async (how: string, token: string, asked: Asked = {}) => {
      known.push({ name: `${name} ${how}`, ...(await ask(operation, token, asked)) });
    };
    const asStranger = async (token: string | undefined) => {
      strangers += 1;
      await ask(operation, token);
    };
    if (PUBLIC.test(path) || (operation.open && path.startsWith('/api/v1/seal'))) {
      await asStranger(undefined);
      continue;
    }
    if (operation.open) continue;
    // /v1 takes whatever else a query says.
    const invalid = protocol === 'vault' ? [] : [asKnown('invalid', t.admin, { query: { nonsense: '1' } })];
    await Promise.all([
      asStranger(undefined),
      ...(protocol === 'vault' ? [] : [asStranger(`bulla_system_${'a'.repeat(16)}.${'A'.repeat(43)}AAAAAA`)]),
      ...invalid,
      ...(operation.body === undefined ? [] : [asKnown('bad JSON', t.admin, { body: '{"a":' })]),
      ...(DESTRUCTIVE.test(path) ? [] : who.map(([how, token]) => asKnown(how, token))),
    ]);
  }
  return { known, strangers };
}

async function expectAllRecorded(
  { known, strangers }: Awaited<ReturnType<typeof askAll>>,
  isRight: (one: Known, own: readonly Entry[]) => boolean = () => false,
): Promise<void> {
  const entries = await recorded();
  const faults = known.map((one) =>
    entries.has(one.id) && isRight(one, entries.get(one.id)!) ? undefined : wrong(one, entries),
  );
  expect(faults.filter((fault) => fault !== undefined)).toEqual([]);
  let counted = 0;
  await eventually(() => (counted += countedNow()), strangers);
}

it(
  'T-087 every native route, by everybody: each request of a known token has entries that say how it ended, the rest is counted',
  async () => {
    const all = operations().filter(({ protocol }) => protocol !== 'vault');
    expect(all.length).toBeGreaterThan(180);
    takeCounts(t.vault);
    const nobody = await t.user('nobody', []);
    const who = [['denied', nobody] as const, ['as admin', t.admin] as const, ['as operator', t.operator] as const];
    await expectAllRecorded(await askAll(all, who));
  },
  PATIENCE_MS,
);

it(
  'T-087 every route of /v1, by everybody: the same',
  async () => {
    await t.request('POST', '/api/v1/mounts', { token: t.admin, body: { path: 'old', version: 1 } });
    const all = operations()
      .filter(({ protocol }) => protocol === 'vault')
      .map((operation) => ({ ...operation, at: { ...operation.at, mount: 'old' } }));
    expect(all.length).toBeGreaterThan(180);
    takeCounts(t.vault);
    const nobody = await t.user('nobody-either', []);
    const asked = await askAll(all, [['denied', nobody] as const, ['as admin', t.admin] as const]);
    // There, an empty list is 404, what was gone already is 204, and what is not served is said once the token is known: the
    // entry says what it was.
    await expectAllRecorded(
      asked,
      ({ name, status }, own) =>
        status === 204 ||
        (status === 404 && name.startsWith('LIST')) ||
        ([400, 404].includes(status) && own.every(({ action }) => action === 'auth.self')),
    );
  },
  PATIENCE_MS,
);

it('T-087 requests of no route, of no method, with a bad path or Host: an entry for a known token, else counted', async () => {
  takeCounts(t.vault);
  const get = operations().find(({ name }) => name === 'GET /api/v1/auth/self')!;
  const strange: Partial<Operation>[] = [
    { path: '/api/v1/nothing' },
    { method: 'PATCH', path: '/api/v1/users', body: {}, type: 'application/json' },
    { path: '/api/v1/secrets/a%2fb' },
    { path: '/api/v1/secrets//a' },
    { path: '/api/v1/secrets/a?token=x' },
    { method: 'PUT', path: '/api/v1/secrets/a', body: '[', type: 'application/json' },
  ];
  const known: string[] = [];
  for (const one of strange) {
    known.push((await ask({ ...get, ...one }, t.admin)).id);
    await ask({ ...get, ...one }, undefined);
  }
  const ids = await recordedIds();
  expect(known.filter((id) => !ids.has(id))).toEqual([]);
  let counted = 0;
  await eventually(() => (counted += countedNow()), strange.length);
});

it('T-087 what never becomes a request is counted', async () => {
  takeCounts(t.vault);
  const { port, hostname } = new URL(vaultAddress);
  for (const bytes of ['nonsense\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n']) {
    await new Promise<void>((resolve) => {
      const socket = connect(Number(port), hostname, () => socket.write(bytes));
      socket.on('data', () => undefined);
      socket.on('close', () => resolve());
    });
  }
  let counted = 0;
  await eventually(() => (counted += countedNow()), 3);
});

it('a flood of wrong logins has ten entries a minute, and the rest adds up in one summary', async () => {
  takeCounts(t.vault);
  const node = await t.node();
  const app = await listen(node, createApp(node), node.config);
  const login = { tenant: 'default', username: 'nobody-at-all', password: 'wrong horse battery staple' };
  const before = await recordedIds();
  for (let i = 0; i < 14; i++) {
    const answer = await fetch(`${app.address}/api/v1/auth/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-request-id': `guess-${i}` },
      body: JSON.stringify(login),
    });
    expect(answer.status).toBe(401);
  }
  await app.close();
  const recorded = [...(await recordedIds())].filter((id) => !before.has(id) && id.startsWith('guess-'));
  expect(recorded).toHaveLength(10);
  await writeSummaries(node);
  const entries = await t.request('GET', '/api/v1/audit/entries?action=request.summary', { token: t.operator });
  const summaries = entries.text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const guesses = summaries.filter((entry) => entry.code === 'login_failed');
  expect(guesses).toHaveLength(1);
  expect(guesses[0]).toMatchObject({ details: { count: 4 }, source: '127.0.0.1', outcome: 'denied' });
});

it('counts stay when they cannot be written, and sources beyond a thousand are counted together', async () => {
  const { countUnrecorded } = await import('../src/audit/recorded.ts');
  const node = await t.node();
  for (let i = 0; i < 1500; i++) countUnrecorded(node, `10.0.${i >> 8}.${i & 255}`, 'unauthenticated');
  const { closeDatabase } = await import('../src/db/database.ts');
  await closeDatabase(node.db);
  await expect(writeSummaries(node)).rejects.toMatchObject({ code: 'unavailable' });
  const counts = takeCounts(node);
  expect(counts.length).toBeLessThanOrEqual(1001);
  expect(counts.reduce((sum, { count }) => sum + count, 0)).toBe(1500);
});
