/** Service accounts: their client secrets, logins over the native interface and OAuth, and how all of it ends. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { putAuthority, putCertificateRole } from '../src/auth/authority.ts';
import { createToken } from '../src/auth/child.ts';
import {
  createClientSecret,
  deleteClientSecret,
  listClientSecrets,
  type NewClientSecret,
} from '../src/auth/client-secret.ts';
import { login } from '../src/auth/login.ts';
import { cert } from '../src/auth/methods/cert.ts';
import { service } from '../src/auth/methods/service.ts';
import { loginBy } from '../src/auth/proven-login.ts';
import { createService, deleteService, readService, updateService } from '../src/auth/service.ts';
import { logout, readSelf, readToken, renewToken } from '../src/auth/token.ts';
import { createUser, listUsers, readUser, updateUser } from '../src/auth/user.ts';
import type { TenantId } from '../src/db/database.ts';
import { previewPolicy } from '../src/policy/preview.ts';
import { readSecret } from '../src/policy/read.ts';
import { putPolicy } from '../src/policy/store.ts';
import { whoCan } from '../src/policy/who.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { updateTenant } from '../src/tenant/tenant.ts';
import type { Vault } from '../src/vault.ts';
import { CLIENT_AUTH, make } from './fixtures/certificate.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { added, codeOf, tenantId, text } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let other: Vault;
const A = parsePath('app/a');

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
  other = await t.node();
  await putSecret(t.vault, t.call(t.admin), A, text('x'));
  await createService(t.vault, t.call(t.admin), { name: 'billing', policies: ['reader'] });
});
afterAll(async () => {
  await t.check();
  await t.close();
});

let made = 0;
const secretOf = async (name = 'billing', wish: object = {}): Promise<NewClientSecret> => {
  made += 1;
  const secret = await createClientSecret(t.vault, t.call(t.admin), name, { name: `s${made}`, ...wish });
  t.secrets.add(secret.clientSecret.split('.')[1]!.slice(0, 43));
  return secret;
};
const enter = (
  { clientId, clientSecret }: { clientId: string; clientSecret: string },
  vault = t.vault,
  source = '127.0.0.1',
) => loginBy(vault, { ...t.call(), source }, service, { clientId, clientSecret });
const read = (token: string, vault = t.vault) => codeOf(readSecret(vault, t.call(token), A, 0));
const fresh = async (name: string, wish: object = {}) => {
  await createService(t.vault, t.call(t.admin), { name, policies: ['reader'], ...wish });
  return secretOf(name);
};

describe('a client secret', () => {
  it('T-048 logs its service in, is shown once, and is nowhere but as a hash', async () => {
    const secret = await secretOf();
    expect(secret.clientSecret).toMatch(/^bullacs_[a-z2-7]{16}_[a-z2-7]{16}\.[A-Za-z0-9_-]{49}$/);
    expect(Date.parse(secret.expiresAt) - Date.parse(secret.createdAt)).toBe(90 * 86_400_000);
    const { value: done, entries } = await added(t.owner, tenant, () => enter(secret));
    expect(done).toMatchObject({ tenant: 'default', username: 'billing', policies: ['reader'] });
    expect(entries).toMatchObject([
      {
        action: 'auth.login',
        outcome: 'ok',
        actor: { kind: 'service', name: 'billing', method: 'service', accessor: done.accessor },
        details: { client_secret: secret.name },
      },
    ]);
    expect(await readSelf(other, t.call(done.token))).toMatchObject({ accountKind: 'service', method: 'service' });
    expect(await read(done.token, other)).toBe('ok');
    const listed = (await listClientSecrets(t.vault, t.call(t.admin), 'billing', {})).items;
    expect(listed.find(({ name }) => name === secret.name)).toMatchObject({
      lastUsedFrom: '127.0.0.1',
      expired: false,
    });
    expect((await readService(t.vault, t.call(t.admin), 'billing')).lastLoginAt).not.toBeNull();
    const shown = await t.request('GET', '/api/v1/services/billing/secrets', { token: t.admin });
    expect(shown.text).not.toMatch(/client_secret|bullacs_/);
  });

  it('is no token, and a token is no client secret', async () => {
    const secret = await secretOf();
    const answer = await t.request('GET', '/api/v1/auth/self', { token: secret.clientSecret });
    expect(answer.status).toBe(401);
    expect(await codeOf(enter({ clientId: secret.clientId, clientSecret: t.admin }))).toBe('login_failed');
  });

  it('T-041 T-042 T-052 T-058 unknown, wrong, another’s, expired, disabled, elsewhere: one answer, and not one row changes', async () => {
    const good = await secretOf();
    const neighbour = await fresh('neighbour');
    const bound = await secretOf('billing', { cidrs: ['10.0.0.0/8'] });
    const short = await secretOf('billing', { ttlSeconds: 1 });
    const off = await fresh('off');
    await updateService(t.vault, t.call(t.admin), 'off', { disabled: true });
    const foreign = await t.tenant('foreign');
    await createService(t.vault, t.call(foreign), { name: 'billing', policies: ['admin'] });
    const theirs = await createClientSecret(t.vault, t.call(foreign), 'billing', { name: 'theirs' });
    await expect
      .poll(async () => (await t.owner`SELECT 1 FROM client_secrets WHERE expires_at <= now()`).length)
      .toBe(1);
    const [, user] = good.clientId.split('.');
    const tries: [string, { clientId: string; clientSecret: string }][] = [
      ['unknown_client', { ...good, clientId: `${tenant}.aaaaaaaaaaaaaaaa` }],
      ['unknown_tenant', { ...good, clientId: `aaaaaaaaaaaaaaaa.${user}` }],
      ['unknown_tenant', { ...good, clientId: 'billing' }],
      ['unknown_tenant', { ...good, clientId: good.clientId.toUpperCase() }],
      ['unknown_tenant', { ...good, clientId: `${good.clientId}\0` }],
      ['wrong_secret', { ...good, clientSecret: '' }],
      ['wrong_secret', { ...good, clientSecret: `${good.clientSecret} ` }],
      ['wrong_secret', { ...good, clientSecret: neighbour.clientSecret }],
      ['wrong_secret', { ...good, clientSecret: theirs.clientSecret }],
      ['wrong_secret', { ...theirs, clientId: neighbour.clientId }],
      ['unknown_client', { ...theirs, clientId: `${theirs.clientId.split('.')[0]}.${user}` }],
      ['expired_secret', short],
      ['disabled', off],
      ['other_network', bound],
    ];
    const rows = async () =>
      JSON.stringify(
        await t.owner`
      SELECT (SELECT count(*) FROM tokens) AS tokens, (SELECT count(*) FROM users) AS users,
             (SELECT max(last_used_at) FROM client_secrets WHERE tenant_id = ${tenant}) AS used`,
      );
    const before = await rows();
    const shown = new Set<string>();
    const logged: string[] = [];
    for (const [i, [, credentials]] of tries.entries()) {
      const { clientId, clientSecret } = credentials;
      const source = `127.9.0.${i}`;
      const { entries } = await added(t.owner, tenant, () => codeOf(enter(credentials, t.vault, source)));
      logged.push(...entries.map(({ details }) => String(details!.reason)));
      if (/\0/.test(clientId)) continue;
      const native = await t.request('POST', '/api/v1/auth/service', {
        body: { client_id: clientId, client_secret: clientSecret },
      });
      const form = new URLSearchParams({ grant_type: 'client_credentials', client_id: clientId });
      if (clientSecret !== '') form.set('client_secret', clientSecret);
      const oauth = await t.request('POST', '/oauth/token', {
        raw: form.toString(),
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
      });
      const { request_id: _, ...problem } = native.json;
      shown.add(JSON.stringify([native.status, problem, oauth.status, oauth.json.error]));
    }
    expect([...shown]).toHaveLength(1);
    expect([...shown][0]).toContain('invalid_client');
    expect(await rows()).toBe(before);
    const inTenant = tries.map(([reason]) => reason).filter((reason) => reason !== 'unknown_tenant');
    // What named the other tenant is in that tenant's log.
    expect(logged).toEqual(inTenant.filter((_, i) => i !== inTenant.lastIndexOf('unknown_client')));
    expect(await codeOf(enter(bound, t.vault, '10.1.1.1'))).toBe('ok');
    expect(await codeOf(enter(good))).toBe('ok');
  });

  it('binds the tokens that are given for it to its networks', async () => {
    const secret = await secretOf('billing', { cidrs: ['10.0.0.0/8'] });
    const { token } = await enter(secret, t.vault, '10.1.1.1');
    expect(await read(token)).toBe('unauthenticated');
    expect(await codeOf(readSecret(t.vault, { ...t.call(token), source: '10.2.2.2' }, A, 0))).toBe('ok');
  });

  it('twenty logins at once, on two nodes, all get a token', async () => {
    const secret = await secretOf();
    const codes = await Promise.all(
      Array.from({ length: 20 }, (_, i) => codeOf(enter(secret, i % 2 ? t.vault : other))),
    );
    expect(new Set(codes)).toEqual(new Set(['ok']));
  });

  it('is replaced with an overlap: both work, then the old one and all that was given for it has ended', async () => {
    const old = await fresh('rotated', { tokenTtlSeconds: 24 * 3600 });
    const before = await enter(old);
    const next = await createClientSecret(t.vault, t.call(t.admin), 'rotated', {
      ...{ name: 'next', replaces: old.name, overlapSeconds: 600 },
    });
    expect([await codeOf(enter(old)), await codeOf(enter(next))]).toEqual(['ok', 'ok']);
    const token = await readToken(t.vault, t.call(t.admin), before.accessor);
    expect(Date.parse(token.expiresAt) - Date.now()).toBeLessThan(601_000);
    expect(token.maxExpiresAt).toBe(token.expiresAt);
    expect((await renewToken(t.vault, t.call(before.token), 3600)).expiresAt).toBe(token.expiresAt);
    const later = await t.node({ clockOffsetSeconds: 601 });
    expect([await codeOf(enter(old, later)), await codeOf(enter(next, later))]).toEqual(['login_failed', 'ok']);
    expect(await read(before.token, later)).toBe('unauthenticated');
    const wrong = (wish: object) =>
      codeOf(createClientSecret(t.vault, t.call(t.admin), 'rotated', { name: 'x', ...wish }));
    expect(await wrong({ replaces: 'no-such' })).toBe('not_found');
    expect(await wrong({ overlapSeconds: 5 })).toBe('invalid_request');
    expect(await wrong({ name: 'next' })).toBe('conflict');
    expect(await wrong({ ttlSeconds: 367 * 86_400 })).toBe('invalid_request');
  });

  it('a service has at most twenty, however many are asked for at once', async () => {
    await createService(t.vault, t.call(t.admin), { name: 'many' });
    const codes = await Promise.all(
      Array.from({ length: 24 }, (_, i) =>
        codeOf(createClientSecret(t.vault, t.call(t.admin), 'many', { name: `n${i}` })),
      ),
    );
    expect(codes.filter((code) => code === 'ok')).toHaveLength(20);
    expect(codes.filter((code) => code === 'conflict')).toHaveLength(4);
  });
});

describe('an end', () => {
  it.each([
    [
      'deleting the client secret',
      'secret-gone',
      'ok',
      (of: string, secret: NewClientSecret) => deleteClientSecret(t.vault, t.call(t.admin), of, { name: secret.name }),
    ],
    [
      'disabling the service',
      'disabled',
      'unauthenticated',
      (of: string) => updateService(t.vault, t.call(t.admin), of, { disabled: true }),
    ],
    ['deleting the service', 'deleted', 'unauthenticated', (of: string) => deleteService(t.vault, t.call(t.admin), of)],
  ] as const)(
    'T-049 T-050 %s ends its tokens and what hangs under them on every node',
    async (_, name, others, end) => {
      const secret = await fresh(name, { policies: ['admin'], tokenPeriodSeconds: 60 });
      const kept = await secretOf(name);
      const { token } = await enter(secret);
      const under = await createToken(t.vault, t.call(token), {});
      const untouched = await enter(kept);
      expect(await read(under.token, other)).toBe('ok');
      await end(name, secret);
      for (const dead of [token, under.token]) {
        expect(await read(dead, other)).toBe('unauthenticated');
        expect(await codeOf(renewToken(other, t.call(dead)))).toBe('unauthenticated');
      }
      expect(await codeOf(enter(secret, other))).toBe('login_failed');
      expect(await read(untouched.token, other)).toBe(others);
    },
  );

  it('a periodic token goes on for longer than any other, and ends with its client secret', async () => {
    const secret = await fresh('daemon', { tokenPeriodSeconds: 3600 });
    const { token, accessor } = await enter(secret);
    expect((await readToken(t.vault, t.call(t.admin), accessor)).maxExpiresAt).toBe(secret.expiresAt);
    // The row as it is after weeks of renewals.
    await t.owner`UPDATE tokens SET created_at = created_at - interval '60 days' WHERE token_id = ${accessor}`;
    const renewed = await renewToken(t.vault, t.call(token));
    expect(Math.round((Date.parse(renewed.expiresAt) - Date.now()) / 60_000)).toBe(60);
    await t.owner`UPDATE tokens SET max_expires_at = now() + interval '5 minutes' WHERE token_id = ${accessor}`;
    const last = await renewToken(t.vault, t.call(token));
    expect(last.expiresAt).toBe(last.maxExpiresAt);
  });

  it('a suspended tenant lets nobody in, and says so to who has shown the secret only', async () => {
    const paused = await t.tenant('paused');
    await createService(t.vault, t.call(paused), { name: 'machine' });
    const secret = await createClientSecret(t.vault, t.call(paused), 'machine', { name: 'one' });
    await updateTenant(t.vault, t.call(t.operator), 'paused', { state: 'suspended' });
    expect(await codeOf(enter(secret))).toBe('tenant_suspended');
    expect(await codeOf(enter({ ...secret, clientSecret: 'x' }))).toBe('login_failed');
  });
});

it('T-052 a certificate that is right leaves no account in a suspended tenant, and its token says what it is bound to', async () => {
  const halted = await t.tenant('halted');
  const authority = await make({ name: 'Clients', ca: true });
  const leaf = await make({ name: 'web', by: authority, sans: ['a.web.example'], uses: [CLIENT_AUTH] });
  const allow = { effect: 'allow' as const, actions: ['secret.read'], resources: ['secret:web/**'] };
  await putPolicy(t.vault, t.call(halted), 'web', { rules: [allow] });
  await putAuthority(t.vault, t.call(halted), 'corp', {
    ...{ certificates: authority.pem, listRequired: false, staleList: 'refuse' },
  });
  await putCertificateRole(t.vault, t.call(halted), 'web', {
    ...{ authority: 'corp', names: ['dns:a.web.example'], policies: ['web'] },
  });
  const chain = [new Uint8Array(leaf.cert.rawData)];
  const show = () => loginBy(t.vault, t.call(), cert, { tenant: 'halted', role: 'web', chain });
  const accounts = () => t.owner`SELECT name FROM users WHERE kind = 'external' AND name LIKE 'cert-%'`;
  await updateTenant(t.vault, t.call(t.operator), 'halted', { state: 'suspended' });
  expect(await codeOf(show())).toBe('tenant_suspended');
  expect(await accounts()).toHaveLength(0);
  await updateTenant(t.vault, t.call(t.operator), 'halted', { state: 'active' });
  const { token, username } = await show();
  expect(await accounts()).toHaveLength(1);
  const thumbprint = createHash('sha256').update(chain[0]!).digest();
  const call = { ...t.call(token), certificate: thumbprint };
  expect((await readSelf(t.vault, call)).certificate).toBe(thumbprint.toString('hex'));
  expect((await readSelf(t.vault, t.call(halted))).certificate).toBeNull();
  // Its policies came with the login: it is among those who can, and whom a change would touch, while that goes on.
  const able = async () =>
    (await whoCan(t.vault, t.call(halted), { action: 'secret.read', resource: 'secret:web/a' })).items;
  const touched = () => previewPolicy(t.vault, t.call(halted), 'web', { rules: [] });
  expect((await able()).find((one) => one.name === username)?.policies).toEqual(['web']);
  expect(await touched()).toMatchObject({ holders: 1, changes: [{ username, gains: [], loses: [allow] }] });
  await logout(t.vault, call);
  expect((await able()).some((one) => one.name === username)).toBe(false);
  expect(await touched()).toMatchObject({ holders: 0, changes: [] });
  // A disabled one is told in the log by its name, and has not logged in.
  await updateUser(t.vault, t.call(halted), username, { disabled: true });
  const where = await tenantId(t.owner, 'halted');
  const { entries } = await added(t.owner, where, () => codeOf(show()));
  expect(entries).toMatchObject([{ actor: { name: username }, outcome: 'denied', details: { reason: 'disabled' } }]);
});

describe('accounts of one name', () => {
  it('T-046 a service and a user never share one, and neither is reached as the other', async () => {
    expect(await codeOf(createUser(t.vault, t.call(t.admin), { username: 'billing', password: PASSWORD }))).toBe(
      'conflict',
    );
    await createUser(t.vault, t.call(t.admin), { username: 'ann', password: PASSWORD });
    expect(await codeOf(createService(t.vault, t.call(t.admin), { name: 'ann' }))).toBe('conflict');
    expect(await codeOf(readUser(t.vault, t.call(t.admin), 'billing'))).toBe('not_found');
    expect(await codeOf(readService(t.vault, t.call(t.admin), 'ann'))).toBe('not_found');
    expect(await codeOf(secretOf('ann'))).toBe('not_found');
    expect(await codeOf(updateUser(t.vault, t.call(t.admin), 'billing', { resetPassword: true }))).toBe('not_found');
    const users = (await listUsers(t.vault, t.call(t.admin), {})).items.map(({ username }) => username);
    expect(users).toContain('ann');
    expect(users).not.toContain('billing');
    const asPerson = login(t.vault, t.call(), { tenant: 'default', username: 'billing', password: PASSWORD });
    expect(await codeOf(asPerson)).toBe('login_failed');
  });

  it('T-067 another tenant’s administrator finds nothing by any name', async () => {
    const stranger = t.call(await t.tenant('strange'));
    const { name } = await secretOf();
    expect(await codeOf(readService(t.vault, stranger, 'billing'))).toBe('not_found');
    expect(await codeOf(updateService(t.vault, stranger, 'billing', { disabled: true }))).toBe('not_found');
    expect(await codeOf(createClientSecret(t.vault, stranger, 'billing', { name: 'mine' }))).toBe('not_found');
    expect(await codeOf(deleteClientSecret(t.vault, stranger, 'billing', { name }))).toBe('not_found');
    expect(await codeOf(deleteService(t.vault, stranger, 'billing'))).toBe('not_found');
    expect(await codeOf(listClientSecrets(t.vault, stranger, 'billing', {}))).toBe('not_found');
  });
});

describe('the rule of giving', () => {
  it('nobody makes of a service, or becomes by one, what they do not hold themselves', async () => {
    const rules = [{ effect: 'allow', actions: ['service.*'], resources: ['service:**'] }];
    const maker = t.call(await t.user('service-maker', [], rules));
    await createService(t.vault, t.call(t.admin), { name: 'sleeping', policies: ['reader'] });
    await updateService(t.vault, t.call(t.admin), 'sleeping', { disabled: true });
    expect(await codeOf(createService(t.vault, maker, { name: 'strong', policies: ['admin'] }))).toBe('forbidden');
    expect(await codeOf(createService(t.vault, maker, { name: 'weak' }))).toBe('ok');
    expect(await codeOf(updateService(t.vault, maker, 'weak', { policies: ['reader'] }))).toBe('forbidden');
    expect(await codeOf(updateService(t.vault, maker, 'sleeping', { disabled: false }))).toBe('forbidden');
    expect(await codeOf(createClientSecret(t.vault, maker, 'billing', { name: 'mine' }))).toBe('forbidden');
    expect(await codeOf(createClientSecret(t.vault, maker, 'weak', { name: 'mine' }))).toBe('ok');
    expect(await codeOf(updateService(t.vault, maker, 'billing', { description: 'other words' }))).toBe('ok');
  });
});

describe('RFC 6749', () => {
  type Parts = { form?: Record<string, string> | string; basic?: string; headers?: Record<string, string> };
  const ask = ({ form = {}, basic, headers = {} }: Parts) =>
    t.request('POST', '/oauth/token', {
      raw: typeof form === 'string' ? form : new URLSearchParams(form).toString(),
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        ...(basic === undefined ? {} : { authorization: `Basic ${Buffer.from(basic).toString('base64')}` }),
        ...headers,
      },
    });
  const grant_type = 'client_credentials';

  it('§4.4 the client is shown by Basic or in the body; the token works; scope binds it', async () => {
    const { clientId, clientSecret } = await secretOf();
    const body = await ask({
      form: { grant_type, client_id: clientId, client_secret: clientSecret, audience: 'ignored' },
    });
    expect([body.status, body.headers.get('cache-control'), body.headers.get('pragma')]).toEqual([
      200,
      'no-store',
      'no-cache',
    ]);
    expect(body.json).toEqual({
      access_token: expect.stringMatching(/^bulla_/),
      token_type: 'Bearer',
      expires_in: 3600,
    });
    await putPolicy(t.vault, t.call(t.admin), 'watcher', { rules: [] });
    const encoded = `${encodeURIComponent(clientId)}:${encodeURIComponent(clientSecret)}`;
    const basic = await ask({ form: { grant_type, scope: 'reader watcher' }, basic: encoded });
    expect(basic.json).toMatchObject({ scope: 'reader watcher' });
    expect(await read(basic.json.access_token)).toBe('ok');
    expect((await readSelf(t.vault, t.call(basic.json.access_token))).bound).toEqual(['reader', 'watcher']);
    const narrow = await ask({ form: { grant_type, scope: 'watcher' }, basic: `${clientId}:${clientSecret}` });
    expect(await read(narrow.json.access_token)).toBe('forbidden');
  });

  it('§5.2 every error has its code, and none tells which half of the client was wrong', async () => {
    const { clientId, clientSecret } = await secretOf();
    const client = { client_id: clientId, client_secret: clientSecret };
    const basic = `${clientId}:${clientSecret}`;
    const cases: [string, Parts, number, string][] = [
      ['no grant type', { form: client }, 400, 'invalid_request'],
      ['another grant type', { form: { grant_type: 'password', ...client } }, 400, 'unsupported_grant_type'],
      [
        'a parameter twice',
        { form: `grant_type=${grant_type}&grant_type=${grant_type}`, basic },
        400,
        'invalid_request',
      ],
      ['JSON', { form: '{}', headers: { 'content-type': 'application/json' } }, 400, 'invalid_request'],
      ['both ways', { form: { grant_type, ...client }, basic }, 400, 'invalid_request'],
      ['two clients', { form: { grant_type, client_id: 'another' }, basic }, 400, 'invalid_request'],
      ['no client', { form: { grant_type } }, 401, 'invalid_client'],
      ['no secret', { form: { grant_type, client_id: clientId } }, 401, 'invalid_client'],
      ['a wrong secret', { form: { grant_type }, basic: `${clientId}:nonsense` }, 401, 'invalid_client'],
      ['Bearer', { form: { grant_type }, headers: { authorization: `Bearer ${t.admin}` } }, 401, 'invalid_client'],
      ['no Basic', { form: { grant_type }, headers: { authorization: 'Basic !' } }, 401, 'invalid_client'],
      ['an unknown scope', { form: { grant_type, scope: 'no-such-policy' }, basic }, 400, 'invalid_scope'],
      ['a scope of two blanks', { form: { grant_type, scope: 'reader  watcher' }, basic }, 400, 'invalid_scope'],
      ['too much', { form: { grant_type, x: 'y'.repeat(9000) }, basic }, 413, 'invalid_request'],
    ];
    const before = await t.owner`SELECT count(*) FROM tokens`;
    for (const [name, parts, status, error] of cases) {
      const answer = await ask(parts);
      expect([name, answer.status, answer.json.error], answer.text).toEqual([name, status, error]);
      expect(answer.headers.get('content-type')).toBe('application/json');
      const asked = status === 401 && (parts.basic ?? parts.headers?.authorization) !== undefined;
      expect([name, answer.headers.get('www-authenticate')]).toEqual([name, asked ? 'Basic realm="bulla"' : null]);
      expect(Object.keys(answer.json).sort()).toEqual(['error', 'error_description']);
    }
    expect(await t.owner`SELECT count(*) FROM tokens`).toEqual(before);
    expect((await ask({ form: { grant_type, client_id: clientId }, basic })).status).toBe(200);
    expect((await t.request('GET', '/oauth/token')).status).toBe(405);
  });
});
