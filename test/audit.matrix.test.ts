/**
 * T-087: n requests make n entries with matching ids. Every live route is asked as somebody who may, somebody who may
 * not, with what it does not take, and without a token of ours; what has no entry must be in the counted summaries.
 */
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { takeCounts } from '../src/audit/recorded.ts';
import { writeSummaries } from '../src/audit/summary.ts';
import { endTails } from '../src/audit/tail.ts';
import { createApp } from '../src/http/app.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import { openapiDocument } from '../src/http/openapi.ts';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
let listener: Listener;
let sent = 0;

beforeAll(async () => {
  t = await testVault();
  listener = await listen(t.vault, createApp(t.vault), t.vault.config);
});
afterAll(async () => {
  endTails(t.vault);
  await listener.close();
  await t.close();
});

type Operation = { method: string; path: string; target: string; body: unknown; open: boolean };

/** Every operation of the document, with its own examples filled in. */
function operations(): Operation[] {
  const document = openapiDocument() as any;
  const exampleOf = (parameter: any) =>
    parameter.example ?? parameter.schema?.example ?? parameter.schema?.default ?? 1;
  return Object.entries<any>(document.paths).flatMap(([path, methods]) =>
    Object.entries<any>(methods).map(([method, operation]) => {
      const parameters: any[] = (operation.parameters ?? []).map((parameter: any) =>
        parameter.$ref ? document.components.parameters[parameter.$ref.split('/').at(-1)] : parameter,
      );
      let target = path;
      for (const parameter of parameters.filter((one) => one.in === 'path')) {
        target = target.replace(`{${parameter.name}}`, exampleOf(parameter));
      }
      const query = parameters.filter((one) => one.in === 'query' && one.required);
      if (query.length > 0) target += `?${query.map((one) => `${one.name}=${exampleOf(one)}`).join('&')}`;
      const body = operation.requestBody?.content?.['application/json']?.example;
      return { method: method.toUpperCase(), path, target, body, open: operation.security?.length === 0 };
    }),
  );
}

/** Sends one request under an id of its own, and reads no further than its head: a tail has no end. */
async function send(operation: Operation, token: string | undefined, change: Partial<Operation> = {}): Promise<string> {
  const { method, target, body } = { ...operation, ...change };
  const id = `matrix-${sent++}`;
  const headers: Record<string, string> = { 'x-request-id': id };
  if (token !== undefined) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  const answer = await fetch(`${listener.address}${target}`, {
    method,
    headers,
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  await answer.body?.cancel();
  return id;
}

async function recordedIds(): Promise<Set<string>> {
  const rows = await t.owner`SELECT lines FROM audit_segments`;
  const lines = rows.flatMap((row) => row.lines.toString('utf8').split('\n').slice(0, -1)) as string[];
  return new Set(lines.map((line) => JSON.parse(line).request));
}

const countedNow = () => takeCounts(t.vault).reduce((sum, { count }) => sum + count, 0);
/** Ends every token, or the vault: asked only where nothing comes of it. */
const DESTRUCTIVE = /\/auth\/(logout|password)|\/seal\/(seal|migrate)/;
const PUBLIC = /^\/(healthz|readyz|metrics|openapi\.(json|yaml))$/;

/** Until what was sent has been counted: the last of it is when the connection is done with the answer. */
async function eventually<T>(read: () => T | Promise<T>, wanted: T): Promise<void> {
  await expect.poll(read, { timeout: 60_000, interval: 20 }).toEqual(wanted);
}

it('T-087 every route, by everybody: each request of a known token has entries with its id, the rest is counted', async () => {
  const all = operations();
  expect(all.length).toBeGreaterThan(40);
  takeCounts(t.vault);
  const nobody = await t.user('nobody', []);
  const known: [string, string][] = [];
  let strangers = 0;
  for (const operation of all) {
    const { method, path, target } = operation;
    const name = `${method} ${path}`;
    const stranger = async (token: string | undefined) => {
      await send(operation, token);
      strangers += 1;
    };
    if (PUBLIC.test(path) || (operation.open && path.includes('/seal'))) {
      await stranger(undefined);
      continue;
    }
    if (operation.open) continue;
    await stranger(undefined);
    await stranger(`bulla_system_${'a'.repeat(16)}.${'A'.repeat(43)}AAAAAA`);
    const unknown = `${target}${target.includes('?') ? '&' : '?'}nonsense=1`;
    known.push([`${name} invalid`, await send(operation, t.admin, { target: unknown })]);
    if (operation.body !== undefined)
      known.push([`${name} bad JSON`, await send(operation, t.admin, { body: '{"a":' })]);
    known.push([`${name} denied`, await send(operation, nobody, DESTRUCTIVE.test(path) ? { target: unknown } : {})]);
    if (DESTRUCTIVE.test(path)) continue;
    known.push([`${name} as admin`, await send(operation, t.admin)]);
    known.push([`${name} as operator`, await send(operation, t.operator)]);
  }
  const recorded = await recordedIds();
  expect(known.filter(([, id]) => !recorded.has(id)).map(([name]) => name)).toEqual([]);
  let counted = 0;
  await eventually(() => (counted += countedNow()), strangers);
});

it('T-087 requests of no route, of no method, with a bad path or Host: an entry for a known token, else counted', async () => {
  takeCounts(t.vault);
  const strange: Operation = { method: 'GET', path: '', target: '/api/v1/nothing', body: undefined, open: false };
  const changes: Partial<Operation>[] = [
    {},
    { method: 'PATCH', target: '/api/v1/users' },
    { target: '/api/v1/secrets/a%2fb' },
    { target: '/api/v1/secrets//a' },
    { target: '/api/v1/secrets/a?token=x' },
    { method: 'PUT', target: '/api/v1/secrets/a', body: '[' },
  ];
  const known: string[] = [];
  for (const change of changes) {
    known.push(await send(strange, t.admin, change));
    await send(strange, undefined, change);
  }
  const recorded = await recordedIds();
  expect(known.filter((id) => !recorded.has(id))).toEqual([]);
  let counted = 0;
  await eventually(() => (counted += countedNow()), changes.length);
});

it('T-087 what never becomes a request is counted', async () => {
  takeCounts(t.vault);
  const { port, hostname } = new URL(listener.address);
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
