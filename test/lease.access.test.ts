/** Access to one stored secret as a lease: a token that reads just that, so often, until then. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { takeAccess } from '../src/lease/access.ts';
import { type Sweeper, startSweeper } from '../src/lease/sweeper.ts';
import { parsePath } from '../src/secret/path.ts';
import { callOf, type TestVault, testVault } from './harness.ts';
import { inState } from './lease-target.ts';
import { until } from './until.ts';

let t: TestVault;
let sweeper: Sweeper;

beforeAll(async () => {
  t = await testVault();
  sweeper = startSweeper(t.vault);
  for (const path of ['prod/web/tls', 'prod/web/other']) {
    await t.request('PUT', `/api/v1/secrets/${path}`, { token: t.admin, body: { text: `the value of ${path}` } });
    t.secrets.add(`the value of ${path}`);
  }
});

afterAll(async () => {
  await sweeper.stop();
  await t.check();
  await t.close();
});

async function share(body: object, token = t.admin, headers = {}) {
  const answer = await t.request('POST', '/api/v1/leases', {
    token,
    body: { secret: 'prod/web/tls', ...body },
    headers,
  });
  expect(answer.status, answer.text).toBe(201);
  t.secrets.add(answer.json.token);
  return answer.json;
}

const read = (token: string, path = 'prod/web/tls') => t.request('GET', `/api/v1/secrets/${path}`, { token });

async function thefts(accessor: string): Promise<object[]> {
  const rows = await t.owner`SELECT lines FROM audit_segments ORDER BY tenant_id, first_seq`;
  const lines = rows.flatMap((row) => row.lines.toString('utf8').split('\n').slice(0, -1)) as string[];
  const entries = lines.map((line) => JSON.parse(line));
  return entries.filter((entry) => entry.actor.accessor === accessor && entry.details?.possible_theft === true);
}

describe('a token for one secret', () => {
  it('reads that secret and nothing else, and does nothing else', async () => {
    const lease = await share({ ttl: '15m' });
    expect(lease).toMatchObject({ kind: 'access', path: 'prod/web/tls', renewable: false, state: 'active' });
    expect((await read(lease.token)).json.text).toBe('the value of prod/web/tls');
    expect((await read(lease.token)).status).toBe(200);
    expect((await read(lease.token, 'prod/web/other')).status).toBe(403);
    const others: [string, string, object?][] = [
      ['PUT', '/api/v1/secrets/prod/web/tls', { text: 'x' }],
      ['GET', '/api/v1/secrets'],
      ['GET', '/api/v1/leases'],
      ['POST', '/api/v1/leases', { secret: 'prod/web/tls' }],
      ['GET', '/api/v1/versions/prod/web/tls'],
    ];
    for (const [method, path, body] of others) {
      const answer = await t.request(method, path, { token: lease.token, body });
      expect([path, answer.status]).toEqual([path, 403]);
    }
  });

  it('T-053 fifty at once read it once: the others, the next, a foreign and an expired one fail alike, as a possible theft', async () => {
    const lease = await share({ ttl: '15m', uses: 1 });
    const answers = await Promise.all(Array.from({ length: 50 }, () => read(lease.token)));
    const given = answers.filter((answer) => answer.status === 200);
    expect(given).toHaveLength(1);
    const stripped = (text: string) => text.replace(/"request_id":"[^"]*"/, '');
    const refused = answers.filter((answer) => answer.status !== 200);
    const [first] = refused;
    expect(first!.status).toBe(401);
    const short = await share({ ttl: 1 });
    await inState(t, short.id, 'ended');
    const revoked = await share({});
    await t.request('DELETE', `/api/v1/leases/${revoked.id}`, { token: t.admin });
    const foreign = `${lease.token.slice(0, -50)}${'A'.repeat(43)}AAAAAA`;
    for (const answer of [
      ...refused,
      await read(lease.token),
      await read(short.token),
      await read(revoked.token),
      await read(foreign),
    ]) {
      expect([answer.status, stripped(answer.text)]).toEqual([401, stripped(first!.text)]);
    }
    expect(await thefts(lease.handle)).toHaveLength(50);
    for (const one of [short, revoked]) expect(await thefts(one.handle)).toHaveLength(1);
    expect(await inState(t, lease.id, 'ended')).toMatchObject({ reason: 'used' });
  });

  it('is no stronger than its maker, ends with his token, and with what he may read', async () => {
    const rules = [
      { effect: 'allow', actions: ['lease.create'], resources: ['lease:prod/**'] },
      { effect: 'allow', actions: ['secret.read'], resources: ['secret:prod/web/tls'] },
    ];
    const maker = await t.user('maker', [], rules);
    const lease = await share({}, maker);
    expect((await read(lease.token)).status).toBe(200);
    const beyond = { token: maker, body: { secret: 'prod/web/other' } };
    expect((await t.request('POST', '/api/v1/leases', beyond)).status).toBe(403);
    await t.request('PATCH', '/api/v1/users/maker', { token: t.admin, body: { policies: [] } });
    expect((await read(lease.token)).status).toBe(403);
    await t.request('DELETE', '/api/v1/users/maker', { token: t.admin });
    expect((await read(lease.token)).status).toBe(401);
    await inState(t, lease.id, 'ended');
  });

  it('T-125 a retry with the same key gives the same token', async () => {
    const headers = { 'idempotency-key': 'share-1' };
    const both = await Promise.all([share({ uses: 1 }, t.admin, headers), share({ uses: 1 }, t.admin, headers)]);
    expect(both[0].token).toBe(both[1].token);
    expect(both[0].id).toBe(both[1].id);
    expect((await read(both[0].token)).status).toBe(200);
    await inState(t, both[0].id, 'ended');
    const kept = await t.owner`SELECT 1 FROM lease_credentials WHERE lease_id = ${both[0].id}`;
    expect(kept).toHaveLength(0);
  });

  it('T-076 T-125 with a token that may do less than a login, the key gives only what was taken with that token', async () => {
    const headers = { 'idempotency-key': 'share-2' };
    const { id } = await share({}, t.admin, headers);
    const body = { secret: 'prod/web/tls' };
    const again = (token: string) => t.request('POST', '/api/v1/leases', { token, body, headers });
    for (const narrow of [{ cidrs: ['127.0.0.1/32'] }, { ttl: '1m' }, { policies: ['admin'] }]) {
      const child = await t.request('POST', '/api/v1/tokens', { token: t.admin, body: narrow });
      const refused = await again(child.json.token);
      expect([narrow, refused.status, refused.json.code]).toEqual([narrow, 422, 'idempotency_mismatch']);
    }
    const child = await t.request('POST', '/api/v1/tokens', { token: t.admin, body: {} });
    const own = { ...headers, 'idempotency-key': 'share-3' };
    expect((await share({}, child.json.token, own)).id).toBe((await share({}, child.json.token, own)).id);
    // Who logs in again goes on.
    const user = await t.user('returning', ['admin']);
    const mine = { ...headers, 'idempotency-key': 'share-4' };
    expect((await share({}, user, mine)).id).toBe((await share({}, await t.login('default', 'returning'), mine)).id);
    expect((await share({}, t.admin, headers)).id).toBe(id);
  });

  it('many are revoked at once by prefix, and none opens anything from then on', async () => {
    const leases = await Promise.all(Array.from({ length: 5 }, () => share({})));
    const revoked = await t.request('POST', '/api/v1/leases/revoke', { token: t.admin, body: { prefix: 'prod/web' } });
    expect(revoked.json.condemned).toBeGreaterThanOrEqual(5);
    for (const { token } of leases) expect((await read(token)).status).toBe(401);
    await until('all have ended', async () => {
      const rows = await t.owner`SELECT 1 FROM leases WHERE kind = 'access' AND state <> 'ended'`;
      return rows.length === 0;
    });
  });
});

describe('limits', () => {
  it('of a user and of the tenant say so with 429, and count what is alive only', async () => {
    const env = { BULLA_LEASES_PER_ACTOR_MAX: '2', BULLA_LEASES_PER_TENANT_MAX: '4' };
    const narrow = await t.node({ env });
    await t.request('POST', '/api/v1/leases/revoke', { token: t.admin, body: { all: true } });
    await until('none is left', async () => (await t.owner`SELECT 1 FROM leases WHERE state <> 'ended'`).length === 0);
    const rules = [
      { effect: 'allow', actions: ['lease.*', 'secret.read'], resources: ['lease:prod/**', 'secret:prod/**'] },
    ];
    const users = [];
    for (const name of ['limited-a', 'limited-b', 'limited-c']) users.push(await t.user(name, [], rules));
    const take = async (token: string) => {
      const lease = await takeAccess(narrow, callOf(token), { secret: parsePath('prod/web/tls') });
      t.secrets.add(lease.token);
      return lease;
    };
    const [first] = [await take(users[0]!), await take(users[0]!)];
    const busy = { code: 'too_many_requests', retryAfterSeconds: 30 };
    await expect(take(users[0]!)).rejects.toMatchObject({
      ...busy,
      message: expect.stringMatching(/^You have 2 leases alive/),
    });
    for (let i = 0; i < 2; i += 1) await take(users[1]!);
    await expect(take(users[2]!)).rejects.toMatchObject({
      ...busy,
      message: expect.stringMatching(/^This tenant has 4 leases/),
    });
    await t.request('DELETE', `/api/v1/leases/${first!.id}`, { token: users[0]! });
    expect((await take(users[2]!)).state).toBe('active');
  });
});
