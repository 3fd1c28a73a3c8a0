/** Leases of dynamic credentials on a real PostgreSQL: taken, renewed, revoked, and what must be so at each step. */
import { type AddressInfo, createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, TestVault } from './harness.ts';
import { configure, connectWith, inState, type Target, works } from './lease-target.ts';
import { leaseVault } from './lease-vault.ts';
import { until } from './until.ts';

let t: TestVault;
let target: Target;
let close: () => Promise<void>;

beforeAll(async () => {
  ({ t, target, close } = await leaseVault());
  await target.sql`CREATE TABLE public.facts AS SELECT 42 AS answer`;
  await target.sql`ALTER TABLE public.facts OWNER TO ${target.sql(target.config.username)}`;
  await configure(t, target, { grants: [{ on: 'tables', schema: 'public', privileges: ['SELECT'] }] });
});

afterAll(() => close());

const take = (body: object, token = t.admin, headers = {}): Promise<Answer> =>
  t.request('POST', '/api/v1/leases', { token, body, headers });

async function taken(body: object = {}, token = t.admin) {
  const answer = await take({ role: 'db/reporting', ...body }, token);
  expect(answer.status, answer.text).toBe(201);
  t.secrets.add(answer.json.credential.password);
  return answer.json;
}

describe('a lease', () => {
  it('gives a credential that works, with the rights of its role and no more, and is gone when revoked', async () => {
    const lease = await taken({ ttl: '10m' });
    expect(lease).toMatchObject({ kind: 'credential', path: 'db/reporting', state: 'active', holder: 'admin' });
    const sql = connectWith(target, lease.credential);
    expect(await sql`SELECT answer FROM public.facts`).toEqual([{ answer: 42 }]);
    await expect(sql`DELETE FROM public.facts`).rejects.toMatchObject({ code: '42501' });
    const revoked = await t.request('DELETE', `/api/v1/leases/${lease.id}`, { token: t.admin });
    expect(revoked.json).toMatchObject({ state: 'ended', reason: 'revoked', last_error: null });
    // Its session is ended too, before the answer.
    await expect(sql`SELECT 1`).rejects.toThrow();
    await sql.end({ timeout: 1 });
    expect(await works(target, lease.credential)).toBe(false);
    expect(await target.roles()).not.toContain(lease.handle);
    const again = await t.request('DELETE', `/api/v1/leases/${lease.id}`, { token: t.admin });
    expect(again.json).toMatchObject({ state: 'ended', reason: 'revoked' });
  });

  it('expires by itself', async () => {
    const lease = await taken({ ttl: 1 });
    const ended = await inState(t, lease.id, 'ended');
    expect(ended).toMatchObject({ reason: 'expired', attempts: 0 });
    expect(await works(target, lease.credential)).toBe(false);
  });
});

describe('what is asked for', () => {
  const HUGE = 1_000_000_000;
  it('a ttl of 0, negative, fractional or of any other spelling is refused, for taking and for renewing', async () => {
    const lease = await taken({ ttl: 60 });
    for (const ttl of [
      0,
      -1,
      1.5,
      '1.5h',
      '-1h',
      '',
      'forever',
      '0',
      '0s',
      ' 1h',
      '1e400',
      '1e3',
      null,
      true,
      [60],
      {},
    ]) {
      expect([ttl, (await take({ role: 'db/reporting', ttl })).status]).toEqual([ttl, 400]);
      const renewed = await t.request('POST', `/api/v1/leases/${lease.id}/renew`, { token: t.admin, body: { ttl } });
      expect([ttl, renewed.status]).toEqual([ttl, 400]);
    }
    const after = await t.request('GET', `/api/v1/leases/${lease.id}`, { token: t.admin });
    expect(after.json).toMatchObject({ expires_at: lease.expires_at, renewals: 0 });
  });

  it('lasts an hour by default, is cut to every maximum, and never beyond what its token can be renewed to', async () => {
    const seconds = (lease: { issued_at: string; expires_at: string }) =>
      (Date.parse(lease.expires_at) - Date.parse(lease.issued_at)) / 1000;
    const usual = await taken();
    expect(seconds(usual)).toBe(3600);
    const self = await t.request('GET', '/api/v1/auth/self', { token: t.admin });
    const huge = await taken({ ttl: HUGE });
    expect(huge.expires_at).toBe(self.json.max_expires_at);
    await t.request('PUT', '/api/v1/roles/short', {
      token: t.admin,
      body: { backend: 'db', default_ttl: '2m', max_ttl: '3m' },
    });
    expect(seconds(await taken({ role: 'db/short' }))).toBe(120);
    const capped = await taken({ role: 'db/short', ttl: '1h' });
    expect(seconds(capped)).toBe(180);
    expect(capped).toMatchObject({ renewable: false, max_expires_at: capped.expires_at });
  });

  it('renewing counts from now, reaches the target, and ends at the maximum', async () => {
    const lease = await taken({ role: 'db/short', ttl: 30 });
    const renewed = await t.request('POST', `/api/v1/leases/${lease.id}/renew`, { token: t.admin, body: { ttl: 60 } });
    expect(renewed.json).toMatchObject({ renewals: 1, state: 'active' });
    const lasts = Date.parse(renewed.json.expires_at) - Date.parse(renewed.json.renewed_at);
    expect(lasts).toBe(60_000);
    const [role] = await target.sql`SELECT rolvaliduntil AS until FROM pg_roles WHERE rolname = ${lease.handle}`;
    expect((role!.until as Date).getTime()).toBe(Date.parse(renewed.json.expires_at));
    const huge = await t.request('POST', `/api/v1/leases/${lease.id}/renew`, { token: t.admin, body: { ttl: HUGE } });
    expect(huge.json).toMatchObject({ expires_at: lease.max_expires_at, renewable: false });
  });

  it.each([
    ['a role that does not exist', { role: 'db/nothing' }, 404],
    ['a role of another backend', { role: 'other/reporting' }, 404],
    ['a path that is none', { role: 'reporting' }, 400],
    ['a path with a blank', { role: 'db/ reporting' }, 400],
    ['both kinds', { role: 'db/reporting', secret: 'a' }, 400],
    ['neither kind', {}, 400],
    ['parameters that nobody takes', { role: 'db/reporting', parameters: { public_key: 'x' } }, 400],
  ])('%s is refused', async (_, body, status) => {
    expect((await take(body)).status).toBe(status);
  });
});

describe('an Idempotency-Key', () => {
  it('T-125 gives the same credential to the same request of the same user, also at once, and to nobody else', async () => {
    const app = await t.user('idem', [], [{ effect: 'allow', actions: ['lease.*'], resources: ['lease:db/**'] }]);
    const headers = { 'idempotency-key': 'once-1' };
    const body = { role: 'db/reporting', ttl: 300 };
    const before = (await target.roles()).length;
    const answers = await Promise.all(Array.from({ length: 8 }, () => take(body, t.admin, headers)));
    expect(answers.map((answer) => answer.status)).toEqual(new Array(8).fill(201));
    const [first] = answers;
    t.secrets.add(first!.json.credential.password);
    for (const answer of answers) {
      expect(answer.json.id).toBe(first!.json.id);
      expect(answer.json.credential).toEqual(first!.json.credential);
    }
    expect((await target.roles()).length).toBe(before + 1);
    const other = await take(body, app, headers);
    t.secrets.add(other.json.credential.password);
    expect(other.json.id).not.toBe(first!.json.id);
    expect(await take({ ...body, ttl: 301 }, t.admin, headers)).toMatchObject({
      status: 422,
      json: { code: 'idempotency_mismatch' },
    });
    await t.request('DELETE', `/api/v1/leases/${first!.json.id}`, { token: t.admin });
    expect((await take(body, t.admin, headers)).status).toBe(409);
    expect((await take(body, t.admin, { 'idempotency-key': 'two words' })).status).toBe(400);
  });
});

describe('who may', () => {
  it('whoever took a lease keeps it with that token; others need a policy, and other tenants see nothing', async () => {
    const app = await t.user(
      'owner',
      [],
      [{ effect: 'allow', actions: ['lease.create'], resources: ['lease:db/reporting'] }],
    );
    const stranger = await t.user(
      'stranger',
      [],
      [{ effect: 'allow', actions: ['lease.*'], resources: ['lease:other/**'] }],
    );
    const elsewhere = await t.tenant('elsewhere');
    const lease = await taken({}, app);
    const path = `/api/v1/leases/${lease.id}`;
    expect((await t.request('GET', path, { token: app })).status).toBe(200);
    expect((await t.request('POST', `${path}/renew`, { token: app })).status).toBe(200);
    expect((await take({ role: 'db/short' }, app)).status).toBe(403);
    for (const [token, status] of [
      [stranger, 403],
      [elsewhere, 404],
    ] as const) {
      for (const [method, suffix] of [
        ['GET', ''],
        ['POST', '/renew'],
        ['DELETE', ''],
      ] as const) {
        const answer = await t.request(method, path + suffix, { token });
        const absent = await t.request(method, `/api/v1/leases/aaaaaaaaaaaaaaaa${suffix}`, { token });
        if (token === elsewhere) expect(answer.status).toBe(status);
        expect(answer.status === 403 ? 403 : 404).toBe(answer.status);
        expect(absent.status).toBe(404);
      }
      expect((await t.request('GET', '/api/v1/leases', { token })).json.items).toEqual([]);
    }
    expect((await t.request('DELETE', `${path}?force=true`, { token: app })).status).toBe(403);
    expect((await t.request('DELETE', path, { token: app })).json.state).toBe('ended');
    expect((await t.request('GET', '/api/v1/leases', { token: t.operator })).status).toBe(404);
  });

  it('lists by state, prefix, holder and token, page by page', async () => {
    const app = await t.user('lister', ['admin']);
    for (let i = 0; i < 3; i += 1) await taken({ ttl: 300 }, app);
    const list = async (query: string) => (await t.request('GET', `/api/v1/leases?${query}`, { token: t.admin })).json;
    const all = await list('holder=lister');
    expect(all.items).toHaveLength(3);
    const pages: string[] = [];
    for (let cursor = ''; ; ) {
      const { items, next_cursor } = await list(`holder=lister&limit=2${cursor}`);
      pages.push(...items.map((item: { id: string }) => item.id));
      if (next_cursor === null) break;
      cursor = `&cursor=${next_cursor}`;
    }
    expect(pages).toEqual(all.items.map((item: { id: string }) => item.id));
    expect((await list('holder=lister&state=ended')).items).toEqual([]);
    expect((await list('holder=lister&prefix=db')).items).toHaveLength(3);
    expect((await list('holder=lister&prefix=d')).items).toEqual([]);
    expect((await list(`accessor=${all.items[0].token_accessor}`)).items).toHaveLength(3);
    const revoked = await t.request('POST', '/api/v1/leases/revoke', { token: t.admin, body: { holder: 'lister' } });
    expect(revoked).toMatchObject({ status: 202, json: { condemned: 3 } });
    for (const { id } of all.items) await inState(t, id, 'ended');
  });
});

describe('what leases hang under', () => {
  it('T-076 a lease ends with its token: revoked, with its parent, with its user, or shortened', async () => {
    const rules = [{ effect: 'allow', actions: ['lease.*', 'token.create'], resources: ['lease:db/**', 'token:**'] }];
    const user = await t.user('hung', [], rules);
    const byToken = await taken({}, user);
    const child = await t.request('POST', '/api/v1/tokens', { token: user, body: {} });
    expect(child.status, child.text).toBe(201);
    const byParent = await taken({}, child.json.token);
    await t.request('DELETE', `/api/v1/tokens/${byToken.token_accessor}`, { token: t.admin });
    for (const lease of [byToken, byParent]) {
      expect(await inState(t, lease.id, 'ended')).toMatchObject({ reason: 'token' });
      expect(await works(target, lease.credential)).toBe(false);
    }
    const again = await t.login('default', 'hung');
    const byUser = await taken({}, again);
    await t.request('DELETE', '/api/v1/users/hung', { token: t.admin });
    await inState(t, byUser.id, 'ended');
    const short = await t.user('shortened', [], rules);
    const shortened = await taken({}, short);
    await t.request('POST', '/api/v1/auth/renew', { token: short, body: { ttl: 1 } });
    expect(await inState(t, shortened.id, 'ended')).toMatchObject({ reason: 'token' });
  });

  it('a lease outlives the first end of a token that was renewed since, and is due when that token ends', async () => {
    const user = await t.user('renewed', [], [{ effect: 'allow', actions: ['lease.*'], resources: ['lease:db/**'] }]);
    const lease = await taken({ ttl: '500h' }, user);
    const renewed = await t.request('POST', '/api/v1/auth/renew', { token: user, body: { ttl: 300 } });
    // As time does: the end that the token had when the lease was taken has passed.
    await t.owner`UPDATE leases SET due_at = now() - interval '1 second' WHERE lease_id = ${lease.id}`;
    await t.owner`NOTIFY bulla_leases`;
    const due = await until('the sweeper has looked', async () => {
      const [row] = await t.owner`SELECT due_at AS due FROM leases WHERE lease_id = ${lease.id} AND due_at > now()`;
      return row && (row.due as Date).getTime();
    });
    expect(due).toBe(Date.parse(renewed.json.expires_at));
    expect((await t.request('GET', `/api/v1/leases/${lease.id}`, { token: user })).json.state).toBe('active');
    expect(await works(target, lease.credential)).toBe(true);
  });

  it('a role and a backend with live leases are deleted only when those are revoked first', async () => {
    await t.request('PUT', '/api/v1/roles/doomed', { token: t.admin, body: { backend: 'db' } });
    const lease = await taken({ role: 'db/doomed' });
    expect(await t.request('DELETE', '/api/v1/roles/doomed', { token: t.admin })).toMatchObject({ status: 409 });
    expect(await t.request('DELETE', '/api/v1/backends/db', { token: t.admin })).toMatchObject({ status: 409 });
    expect(await works(target, lease.credential)).toBe(true);
    expect((await t.request('DELETE', '/api/v1/roles/doomed?revoke=true', { token: t.admin })).status).toBe(204);
    expect(await works(target, lease.credential)).toBe(false);
    expect((await t.request('GET', '/api/v1/roles/doomed', { token: t.admin })).status).toBe(404);
    expect((await t.request('GET', `/api/v1/leases/${lease.id}`, { token: t.admin })).json).toMatchObject({
      state: 'ended',
      reason: 'role',
    });
  });
});

describe('limits', () => {
  it('of a role are exact however many ask at once, and say so with 429', async () => {
    await t.request('PUT', '/api/v1/roles/few', { token: t.admin, body: { backend: 'db', leases_max: 3 } });
    const answers = await Promise.all(Array.from({ length: 8 }, () => take({ role: 'db/few' })));
    const made = answers.filter((answer) => answer.status === 201);
    for (const answer of made) t.secrets.add(answer.json.credential.password);
    expect(made).toHaveLength(3);
    const refused = answers.find((answer) => answer.status !== 201)!;
    expect(refused).toMatchObject({ status: 429, json: { code: 'too_many_requests' } });
    expect(refused.json.detail).toMatch(/This role has 3 leases alive/);
    await t.request('DELETE', `/api/v1/leases/${made[0]!.json.id}`, { token: t.admin });
    const next = await taken({ role: 'db/few' });
    expect(next.state).toBe('active');
  });
});

describe('the password of a backend', () => {
  const wanted = (config: object) =>
    t.request('PUT', '/api/v1/backends/db', { token: t.admin, body: { kind: 'postgres', config } });

  it('goes to no other place, and no less protected, than it was given for', async () => {
    const { password: _, ...known } = target.config;
    const heard: Buffer[] = [];
    // Whoever may change a backend and does not know its password: a server that asks for it as it is.
    const thief = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (bytes) => {
        heard.push(bytes);
        socket.write(Buffer.from('520000000800000003', 'hex'));
      });
    });
    await new Promise<void>((listening) => thief.listen(0, '127.0.0.1', listening));
    const { port } = thief.address() as AddressInfo;
    const { owner } = t;
    const [before] = await owner`SELECT revision FROM backends WHERE name = 'db'`;
    for (const other of [{ port }, { host: 'localhost' }, { tls: 'verify' }, { ca: 'x' }, { username: 'another' }]) {
      const answer = await wanted({ ...known, ...other });
      expect([other, answer.status]).toEqual([other, 400]);
      expect(answer.json.detail).toMatch(/^config.password: give it again/);
    }
    thief.close();
    expect(Buffer.concat(heard).toString('latin1')).not.toContain(target.config.password);
    expect(heard).toEqual([]);
    expect(await owner`SELECT revision FROM backends WHERE name = 'db'`).toEqual([before]);
    expect((await wanted(known)).status, 'what leads to the same place keeps it').toBe(200);
  });
});
