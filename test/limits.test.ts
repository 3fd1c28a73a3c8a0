/** Quotas and rates: exact where rows are counted, and never a way for one to use up what is another's. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createUser, deleteUser } from '../src/auth/user.ts';
import { LIMITS, loadConfig } from '../src/config.ts';
import type { TenantId } from '../src/db/database.ts';
import { VaultError } from '../src/errors.ts';
import { createAllowance } from '../src/http/allowance.ts';
import { createApp } from '../src/http/app.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import { formatAddress, parseAddress } from '../src/policy/cidr.ts';
import { readSecret } from '../src/policy/read.ts';
import { removeSecret } from '../src/secret/metadata.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { readTenant, updateTenant } from '../src/tenant/tenant.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';
import { added, codeOf, tenantId, text } from './witness.ts';

let t: TestVault;
let acme: TenantId;
let acmeAdmin: string;
beforeAll(async () => {
  t = await testVault();
  acmeAdmin = await t.tenant('acme');
  acme = await tenantId(t.owner, 'acme');
});
afterAll(() => t.close());

const put = (path: string, token = acmeAdmin, vault = t.vault) =>
  putSecret(vault, t.call(token), parsePath(path), text('a value'));
const quotas = (wanted: object) => updateTenant(t.vault, t.call(t.operator), 'acme', { quotas: wanted });

describe('quotas', () => {
  it('have sensible defaults, are set by operators only, and are in both logs', async () => {
    const fresh = await readTenant(t.vault, t.call(t.operator), 'acme');
    expect(fresh.quotas).toEqual({
      ...{ secrets: LIMITS.quotaSecretsDefault, users: LIMITS.quotaUsersDefault },
      ...{ requestsPerSecond: null, accountRequestsPerSecond: null },
    });
    expect(fresh.usage).toEqual({ secrets: 0, users: 1 });
    const { entries } = await added(t.owner, acme, () => quotas({ users: 5000 }));
    expect(entries).toMatchObject([{ action: 'tenant.update', details: { quota_users: 5000 } }]);
    for (const token of [acmeAdmin, t.admin]) {
      const answer = await t.request('PATCH', '/api/v1/tenants/acme', { token, body: { quotas: { secrets: 1 } } });
      expect(answer.status).toBe(403);
    }
  });

  it('T-072 T-115 are exact: many at once on two nodes make as many as fit, the rest hears 429 and is in the log', async () => {
    await quotas({ secrets: 5 });
    const node = await t.node();
    const many = Array.from({ length: 14 }, (_, i) => codeOf(put(`q/${i}`, acmeAdmin, i % 2 ? node : t.vault)));
    const { value, entries } = await added(t.owner, acme, () => Promise.all(many));
    expect(value.filter((code) => code === 'ok')).toHaveLength(5);
    expect(new Set(value)).toEqual(new Set(['ok', 'quota_exceeded']));
    expect(entries.filter(({ outcome, code }) => outcome === 'error' && code === 'quota_exceeded')).toHaveLength(9);
    const [row] = await t.owner`SELECT count(*)::int AS count FROM secrets WHERE tenant_id = ${acme}`;
    expect(row!.count).toBe(5);
    const kept = (await t.owner`SELECT path FROM secrets WHERE tenant_id = ${acme}`).map(({ path }) => path as string);
    expect(await codeOf(put(kept[0]!))).toBe('ok');
    const answer = await t.request('PUT', '/api/v1/secrets/q/new', { token: acmeAdmin, body: { text: 'x' } });
    expect([answer.status, answer.json.code, answer.json.quota]).toEqual([429, 'quota_exceeded', 'secrets']);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
    await removeSecret(t.vault, t.call(acmeAdmin), parsePath(kept[1]!));
    expect([await codeOf(put('q/after')), await codeOf(put('q/more'))]).toEqual(['ok', 'quota_exceeded']);
    expect(await codeOf(put('q/theirs', t.admin))).toBe('ok');
    await quotas({ secrets: 2 });
    expect(await codeOf(put('q/after'))).toBe('ok');
    await quotas({ secrets: LIMITS.quotaSecretsDefault });
    expect(await codeOf(put('q/more'))).toBe('ok');
    expect((await readTenant(t.vault, t.call(t.operator), 'acme')).usage.secrets).toBe(6);
  });

  it('of accounts', async () => {
    await quotas({ users: 2 });
    const make = (username: string) => codeOf(createUser(t.vault, t.call(acmeAdmin), { username, password: PASSWORD }));
    expect([await make('one'), await make('two')]).toEqual(['ok', 'quota_exceeded']);
    await deleteUser(t.vault, t.call(acmeAdmin), 'one');
    expect(await make('two')).toBe('ok');
    await quotas({ users: 100 });
  });
});

describe('rates', () => {
  const read = (token: string) => readSecret(t.vault, t.call(token), parsePath('q/after'), 0);

  it('T-115 of a tenant and of an account: beyond them 429 with Retry-After, no entry, and nobody else is touched', async () => {
    await putSecret(t.vault, t.call(t.admin), parsePath('q/after'), text('x'));
    await quotas({ requestsPerSecond: 20, accountRequestsPerSecond: 5 });
    const began = Date.now();
    const { value, entries } = await added(t.owner, acme, () =>
      Promise.all(Array.from({ length: 40 }, () => codeOf(read(acmeAdmin)))),
    );
    // Five in each second of the clock, however many the burst has taken.
    const seconds = 2 + Math.floor((Date.now() - began) / 1000);
    expect(value.filter((code) => code === 'ok').length).toBeGreaterThanOrEqual(5);
    expect(value.filter((code) => code === 'ok').length).toBeLessThanOrEqual(5 * seconds);
    expect(new Set(value)).toEqual(new Set(['ok', 'too_many_requests']));
    expect(entries).toHaveLength(value.filter((code) => code === 'ok').length);
    /** Ten at once are more than five: one of them is refused, unless a second begins among them. */
    const refusedOf = <T>(act: () => Promise<T>, isRefusal: (answer: T) => boolean) =>
      until('one is refused', async () => (await Promise.all(Array.from({ length: 10 }, act))).find(isRefusal));
    const refusal = await refusedOf(
      () => read(acmeAdmin).catch((error: VaultError) => error),
      (answer) => answer instanceof VaultError,
    );
    expect(refusal).toMatchObject({ code: 'too_many_requests', retryAfterSeconds: 1 });
    await refusedOf(
      () => codeOf(put('q/after')),
      (code) => code === 'too_many_requests',
    );
    const over = await refusedOf(
      () => t.request('GET', '/api/v1/secrets/q/after', { token: acmeAdmin }),
      ({ status }) => status !== 200,
    );
    expect([over.status, over.headers.get('retry-after')]).toEqual([429, '1']);
    const theirs = await Promise.all(Array.from({ length: 30 }, () => codeOf(read(t.admin))));
    expect(new Set(theirs)).toEqual(new Set(['ok']));
    await quotas({ requestsPerSecond: null, accountRequestsPerSecond: null });
    expect(new Set(await Promise.all(Array.from({ length: 30 }, () => codeOf(read(acmeAdmin)))))).toEqual(
      new Set(['ok']),
    );
  });

  it('a token that was never issued uses up nothing of the tenant that it names', async () => {
    await quotas({ requestsPerSecond: 3 });
    const forged = { ...t.call(undefined), token: { ...t.call(t.admin).token!, tenantId: acme } };
    const codes = await Promise.all(
      Array.from({ length: 20 }, () => codeOf(readSecret(t.vault, { ...forged }, parsePath('q/after'), 0))),
    );
    expect(new Set(codes)).toEqual(new Set(['unauthenticated']));
    expect(await codeOf(read(acmeAdmin))).toBe('ok');
    await quotas({ requestsPerSecond: null });
  });
});

describe('where a request comes from', () => {
  let listener: Listener;
  beforeAll(async () => {
    const node = await t.node({
      env: { BULLA_TRUSTED_PROXIES: '127.0.0.1/32, 10.0.0.0/24', BULLA_SOURCE_REFUSALS_PER_MINUTE: '5' },
    });
    listener = await listen(node, createApp(node), node.config);
  });
  afterAll(() => listener.close());

  const ask = (headers: Record<string, string>, token?: string, path = '/api/v1/auth/self') =>
    fetch(`${listener.address}${path}`, {
      headers: { ...headers, ...(token ? { authorization: `Bearer ${token}` } : {}) },
    });
  /** The source that the log has of a request. */
  async function sourceSeen(headers: Record<string, string>): Promise<string> {
    const tenant = await tenantId(t.owner, 'default');
    const { entries } = await added(t.owner, tenant, () => ask(headers, t.admin));
    return (entries[0] as unknown as { source: string }).source;
  }

  it.each([
    ['nothing said', {}, '127.0.0.1'],
    ['the client as the proxy saw it', { 'x-forwarded-for': '192.0.2.7' }, '192.0.2.7'],
    ['what the client claims stands on the left', { 'x-forwarded-for': '10.9.9.9, 8.8.8.8, 192.0.2.7' }, '192.0.2.7'],
    [
      'listed proxies are walked past',
      { 'x-forwarded-for': '198.51.100.9, 192.0.2.7, 10.0.0.4,10.0.0.5' },
      '192.0.2.7',
    ],
    ['nonsense ends the walk where it came from', { 'x-forwarded-for': '192.0.2.7, unknown, 10.0.0.4' }, '10.0.0.4'],
    ['nothing but nonsense', { 'x-forwarded-for': "' OR 1=1" }, '127.0.0.1'],
    ['a mapped address is IPv4', { 'x-forwarded-for': '::ffff:192.0.2.7' }, '192.0.2.7'],
    ['odd spellings of IPv6 are one', { 'x-forwarded-for': '2001:0DB8:0:0:0:0:0:0001' }, '2001:db8::1'],
    ['a port is left out', { 'x-forwarded-for': '[2001:db8::1]:4711' }, '2001:db8::1'],
    ['a scope is none of ours', { 'x-forwarded-for': 'fe80::1%eth0' }, '127.0.0.1'],
    ['octal is no address', { 'x-forwarded-for': '0300.0.2.7' }, '127.0.0.1'],
    [
      'no other header is read',
      {
        forwarded: 'for=192.0.2.7',
        'x-real-ip': '192.0.2.7',
        'x-client-ip': '192.0.2.7',
        'true-client-ip': '192.0.2.7',
      },
      '127.0.0.1',
    ],
  ])('T-108 %s', async (_, headers, expected) => {
    expect(await sourceSeen(headers)).toBe(expected);
  });

  it('T-108 the method and the target are those of the request line, whatever a header says', async () => {
    const headers = { 'x-forwarded-for': '192.0.2.77', 'x-original-url': '/healthz', 'x-rewrite-url': '/healthz' };
    expect(
      (await ask({ ...headers, 'x-http-method-override': 'DELETE', 'x-forwarded-host': 'evil' }, t.admin)).status,
    ).toBe(200);
    expect((await ask(headers)).status).toBe(401);
  });

  it('T-108 a peer that is not listed is believed nothing', async () => {
    const node = await t.node({ env: { BULLA_TRUSTED_PROXIES: '10.0.0.0/24' } });
    const other = await listen(node, createApp(node), node.config);
    const tenant = await tenantId(t.owner, 'default');
    const { entries } = await added(t.owner, tenant, () =>
      fetch(`${other.address}/api/v1/auth/self`, {
        headers: { 'x-forwarded-for': '192.0.2.7', authorization: `Bearer ${t.admin}` },
      }),
    );
    expect(entries).toMatchObject([{ source: '127.0.0.1' }]);
    await other.close();
  });

  it('T-108 places at once are a client’s, in every spelling and over its whole /64', () => {
    const { take } = createAllowance(1);
    const first = take('2001:db8:1:2::1')!;
    expect(take('2001:DB8:1:2:ffff::9')).toBeUndefined();
    const [mapped, elsewhere] = [take('::ffff:192.0.2.7'), take('2001:db8:1:3::1')];
    expect([mapped, elsewhere].every((place) => place !== undefined)).toBe(true);
    expect(take('192.0.2.7')).toBeUndefined();
    first();
    expect(take('2001:db8:1:2::2')).toBeDefined();
  });

  it('T-108 T-115 strangers are turned away after a few refusals, a whole /64 at once; others and loopback go on', async () => {
    const from = (source: string, token?: string) =>
      ask({ 'x-forwarded-for': source }, token).then(({ status }) => status);
    const hopping = (i: number) => `2001:db8:1:2::${(i + 1).toString(16)}`;
    for (let i = 0; i < 5; i++) expect(await from(hopping(i))).toBe(401);
    await expect.poll(() => from(hopping(99)), { interval: 10 }).toBe(429);
    const turned = await ask({ 'x-forwarded-for': hopping(7) }, t.admin);
    expect(turned.status).toBe(429);
    expect(Number(turned.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await from('2001:db8:1:3::1')).toBe(401);
    expect(await from('2001:db8:1:3::1', t.admin)).toBe(200);
    for (let i = 0; i < 10; i++) expect((await ask({})).status).toBe(401);
    // Whoever is known is counted for nothing, however much is refused to them.
    for (let i = 0; i < 10; i++)
      expect((await ask({ 'x-forwarded-for': '192.0.2.50' }, t.admin, '/api/v1/users/nobody')).status).toBe(404);
    expect(await from('192.0.2.50', t.admin)).toBe(200);
  });

  it('networks that are none are refused at the start', () => {
    expect(() => loadConfig({ BULLA_TRUSTED_PROXIES: '10.0.0.1/8' })).toThrow(/BULLA_TRUSTED_PROXIES/);
    expect(() => loadConfig({ BULLA_TRUSTED_PROXIES: 'proxy.example' })).toThrow(/BULLA_TRUSTED_PROXIES/);
  });

  it('an address is written as the standard says, as Node writes it', () => {
    for (const address of [
      '::',
      '::1',
      '2001:db8::1',
      '1:0:0:2:0:0:0:3',
      '1:0:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8',
      'fe80:0:0:1::',
      '0:0:1::',
    ]) {
      expect(formatAddress(parseAddress(address)!)).toBe(new URL(`http://[${address}]`).hostname.slice(1, -1));
    }
    expect(formatAddress(parseAddress('::ffff:10.0.0.1')!)).toBe('10.0.0.1');
  });
});
