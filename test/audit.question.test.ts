/** An auditor's questions, over HTTP: who could, who did, what nobody reads, and what one actor or request did. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
let auditor: string;
let app: string;

const allow = (resources: string[], conditions?: unknown) => ({
  ...{ effect: 'allow', actions: ['secret.read'], resources },
  ...(conditions ? { conditions } : {}),
});

beforeAll(async () => {
  t = await testVault();
  auditor = await t.user('eve', ['auditor']);
  app = await t.user('app', [], [allow(['secret:prod/**'])]);
  await t.user('office', [], [allow(['secret:prod/db'], { cidrs: ['10.0.0.0/8'] })]);
  await t.user('barred', ['reader'], [{ effect: 'deny', actions: ['secret.*'], resources: ['secret:prod/**'] }]);
  for (const path of ['prod/db', 'prod/idle', 'dev/db']) {
    await t.request('PUT', `/api/v1/secrets/${path}`, { token: t.admin, body: { text: 'x' } });
  }
  for (let i = 0; i < 3; i++) await t.request('GET', '/api/v1/secrets/prod/db', { token: app });
  await t.request('GET', '/api/v1/secrets/dev/db', { token: app });
  await t.request('GET', '/api/v1/secrets/dev/db', { token: t.admin });
});
afterAll(() => t.close());

const get = async (path: string, token = auditor) => (await t.request('GET', `/api/v1/audit/${path}`, { token })).json;

it('who could read a secret: by policy, with conditions told apart, and a deny wins', async () => {
  const { items } = await get('who-can?resource=secret:prod/db');
  expect(items).toEqual([
    { username: 'admin', disabled: false, when: 'always', approval: false, policies: ['admin'] },
    { username: 'app', disabled: false, when: 'always', approval: false, policies: ['app'] },
    { username: 'office', disabled: false, when: 'under_conditions', approval: false, policies: ['office'] },
  ]);
  const dev = await get('who-can?resource=secret:dev/db&limit=1');
  expect(dev.items.map((one: { username: string }) => one.username)).toEqual(['admin']);
  const rest = await get(`who-can?resource=secret:dev/db&cursor=${dev.next_cursor}`);
  expect(rest.items.map((one: { username: string }) => one.username)).toEqual(['barred']);
  expect((await get('who-can?resource=secret:x&action=secret.wread')).code).toBe('invalid_request');
});

it('who did: counts and times for each actor, the latest first', async () => {
  const { items } = await get('who-did?resource=secret:**&action=secret.read');
  expect(items).toMatchObject([
    { actor: 'admin', ok: 1, denied: 0 },
    { actor: 'app', ok: 3, denied: 1 },
  ]);
  const later = await get(`who-did?resource=secret:**&action=secret.read&from=${items[0].first_at}`);
  expect(later.items.map((one: { actor: string }) => one.actor)).toEqual(['admin']);
  const before = await get(`who-did?resource=secret:prod/db&action=secret.read&to=${items[1].first_at}`);
  expect(before.items).toMatchObject([{ actor: 'app', ok: 1 }]);
});

it('what nobody has read', async () => {
  const { items } = await get('unread?days=1');
  expect(items.map((one: { path: string }) => one.path)).toEqual(['prod/idle']);
});

it('denials of a day and everything of one actor are filters of the export', async () => {
  const today = new Date().toISOString().slice(0, 10);
  const { text } = await t.request('GET', `/api/v1/audit/entries?outcome=denied&from=${today}T00:00:00Z`, {
    token: auditor,
  });
  const denied = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(denied.some((entry) => entry.actor.name === 'app' && entry.resource === 'secret:dev/db')).toBe(true);
  for (const entry of denied) expect(entry.outcome).toBe('denied');
});

it('only those who may read the log may ask', async () => {
  for (const path of ['who-can?resource=secret:a', 'who-did?resource=secret:a', 'unread?days=1']) {
    expect((await t.request('GET', `/api/v1/audit/${path}`, { token: app })).status, path).toBe(403);
  }
});
