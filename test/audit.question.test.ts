/** An auditor's questions, over HTTP: who could, who did, what nobody reads, and what one actor or request did. */
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { make as make509 } from './fixtures/certificate.ts';
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
    { kind: 'account', name: 'admin', disabled: false, when: 'always', approval: false, policies: ['admin'] },
    { kind: 'account', name: 'app', disabled: false, when: 'always', approval: false, policies: ['app'] },
    {
      kind: 'account',
      name: 'office',
      disabled: false,
      when: 'under_conditions',
      approval: false,
      policies: ['office'],
    },
  ]);
  const dev = await get('who-can?resource=secret:dev/db&limit=1');
  expect(dev.items.map((one: { name: string }) => one.name)).toEqual(['admin']);
  const rest = await get(`who-can?resource=secret:dev/db&cursor=${dev.next_cursor}`);
  expect(rest.items.map((one: { name: string }) => one.name)).toEqual(['barred']);
  expect((await get('who-can?resource=secret:x&action=secret.wread')).code).toBe('invalid_request');
});

it('who could read a secret by a role of logins, which knows nobody yet', async () => {
  const token = t.admin;
  const make = async (path: string, body: object) => {
    const answer = await t.request('PUT', `/api/v1/${path}`, { token, body });
    expect([path, answer.status < 300]).toEqual([path, true]);
  };
  const jwk = { ...generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'EdDSA' };
  await make('issuers/corp', { issuer: 'https://corp.example', jwks: { keys: [jwk] } });
  await make('policies/own-place', { rules: [allow(['secret:home/${user.name}/**'])] });
  const rule = (sub: string, ...policies: string[]) => ({ claims: { sub: [sub] }, policies });
  const role = (name: string, ...rules: object[]) =>
    make(`login-roles/${name}`, { issuer: 'corp', audiences: ['vault'], rules });
  // One rule gives it, another takes it from who fits both: who fits the first alone still could.
  await role('deploy', rule('web', 'app'), rule('x', 'barred'), rule('y', 'office'));
  await role('at-home', rule('web', 'own-place'));
  await role('night', rule('web', 'office'), rule('x', 'barred', 'app'));
  await make('authorities/ca', { certificates: (await make509({ name: 'ca', ca: true })).pem });
  await make('certificate-roles/web', {
    authority: 'ca',
    names: ['dns:*.web.example'],
    policies: ['app', 'own-place'],
  });
  const always = { disabled: false, when: 'always', approval: false };
  const byRole = [
    { kind: 'certificate_role', name: 'web', ...always, policies: ['app'] },
    { kind: 'login_role', name: 'deploy', ...always, policies: ['app', 'office'] },
    { kind: 'login_role', name: 'night', ...always, when: 'under_conditions', policies: ['office'] },
  ];
  const { items } = await get('who-can?resource=secret:prod/db');
  expect(items.slice(3)).toEqual(byRole);
  const paged: unknown[] = [];
  for (let cursor = ''; ; ) {
    const page = await get(`who-can?resource=secret:prod/db&limit=1${cursor}`);
    paged.push(...page.items);
    if (page.next_cursor === null) break;
    cursor = `&cursor=${page.next_cursor}`;
  }
  expect(paged).toEqual(items);
  const home = await get('who-can?resource=secret:home/ann/x');
  expect(home.items.map((one: { name: string }) => one.name)).toEqual(['admin', 'barred']);
  const wrong = Buffer.from('nobody/x').toString('base64url');
  expect((await get(`who-can?resource=secret:prod/db&cursor=${wrong}`)).code).toBe('invalid_request');
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
