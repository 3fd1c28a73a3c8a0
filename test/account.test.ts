/**
 * Static accounts on a real PostgreSQL: taken over, checked out by one at a time, rotated, and what is so when the target
 * refuses, hangs or lets nobody in. Whatever happens, a password that the vault has is the one that works.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkOut } from '../src/lease/check-out.ts';
import { startSweeper } from '../src/lease/sweeper.ts';
import { accountsAt } from './accounts.ts';
import { callOf, type TestVault } from './harness.ts';
import { configure, connectWith, inState, quote, type Target, works } from './lease-target.ts';
import { leaseVault } from './lease-vault.ts';
import { until } from './until.ts';

let t: TestVault;
let target: Target;
let close: () => Promise<void>;

beforeAll(async () => {
  // The sweeper may act within a second of a failure; what waits for a deadline is few.
  ({ t, target, close } = await leaseVault({ BULLA_LEASE_ACT_DEADLINE: '3s' }));
  await configure(t, target);
});

afterAll(() => close());

const { api, roleAt, made, current, soon, take } = accountsAt(() => ({ t, target }));

describe('an account', () => {
  it('without a password is given one that a login proves, and the old one opens nothing any more', async () => {
    const before = await roleAt('taken over');
    const put = await api('PUT', '/accounts/over', { backend: 'db', username: 'taken over', rotation_period: '1d' });
    expect(put).toMatchObject({ status: 201, json: { state: 'active', attempts: 0, held_until: null } });
    expect(put.text).not.toMatch(/password"/);
    expect(await works(target, before)).toBe(false);
    const now = await current('over');
    expect(now).toMatchObject({ username: 'taken over', database: target.config.database });
    expect(await works(target, now)).toBe(true);
    const again = await api('PUT', '/accounts/over', { backend: 'db', username: 'taken over', max_ttl: '5m' });
    expect(again).toMatchObject({ status: 200, json: { rotation_period: null, next_rotation_at: null, max_ttl: 300 } });
    expect(await current('over')).toEqual(now);
  });

  it('with its password keeps it; a wrong one, another account, and the backend’s own are refused', async () => {
    const { username, password } = await roleAt('as given');
    const put = (body: object, name = 'given') => api('PUT', `/accounts/${name}`, { backend: 'db', username, ...body });
    const wrong = await put({ password: 'not this one' });
    expect(wrong).toMatchObject({ status: 400, json: { code: 'invalid_request' } });
    expect(wrong.text).not.toContain('not this one');
    expect((await put({ password })).status).toBe(201);
    expect((await current('given')).password).toBe(password);
    expect((await put({ username: 'another' })).status).toBe(409);
    expect((await put({}, 'twice')).status).toBe(409);
    expect((await put({ username: target.config.username }, 'own')).status).toBe(400);
    expect((await put({ backend: 'nowhere' }, 'own')).status).toBe(404);
    expect((await put({ rotation_period: 59 }, 'own')).status).toBe(400);
  });

  it('goes nowhere else with its backend by the word of somebody who may not reveal it; nor does a lease', async () => {
    const writer = await t.user('mover', [], [{ effect: 'allow', actions: ['backend.*'], resources: ['backend:**'] }]);
    const movable = { ...target.config, username: 'movable', password: 'known to the mover' };
    const admin = connectWith(target, target.config);
    await admin.unsafe(`CREATE ROLE movable LOGIN CREATEROLE PASSWORD '${movable.password}'`);
    await admin.end();
    t.secrets.add(movable.password);
    const move = (config: object, token = writer) =>
      api('PUT', '/backends/moving', { kind: 'postgres', config }, token);
    expect((await move(movable)).status).toBe(201);
    const elsewhere = { ...movable, port: target.direct.port };
    expect((await move(elsewhere)).status).toBe(200);
    const { username, password } = await roleAt('moved along');
    expect((await api('PUT', '/accounts/along', { backend: 'moving', username, password })).status).toBe(201);
    const refused = await move(movable);
    expect(refused).toMatchObject({ status: 403, json: { action: 'account.reveal', resource: 'account:along' } });
    expect((await move({ ...elsewhere, database: 'postgres' })).status).toBe(200);
    expect((await move(movable, t.admin)).status).toBe(200);
    expect((await api('DELETE', '/accounts/along')).status).toBeLessThan(300);
    expect((await api('PUT', '/roles/any', { backend: 'moving', settings: {} })).status).toBe(201);
    const lease = await api('POST', '/leases', { role: 'moving/any' });
    expect(lease.status, lease.text).toBe(201);
    t.secrets.add(lease.json.credential.password);
    expect((await move(elsewhere)).json).toMatchObject({ action: 'lease.force', resource: 'lease:moving/any' });
    await api('DELETE', `/leases/${lease.json.id}`);
    expect((await move(elsewhere)).status).toBe(200);
  });

  it('that the target does not know, or does not let be changed, is not there afterwards', async () => {
    for (const username of ['nobody at all', 'postgres']) {
      const refused = await api('PUT', '/accounts/none', { backend: 'db', username });
      expect(refused).toMatchObject({ status: 502, json: { code: 'backend_failed', effect: 'refused' } });
      expect((await api('GET', '/accounts/none')).status).toBe(404);
    }
    const key = (await api('POST', '/leases', { role: 'db/reporting', ttl: 60 })).json;
    t.secrets.add(key.credential.password);
    const ssh = await api('PUT', '/backends/ssh', { kind: 'ssh', config: {} });
    expect(ssh.status, ssh.text).toBe(201);
    const kind = await api('PUT', '/accounts/none', { backend: 'ssh', username: 'x' });
    expect(kind).toMatchObject({ status: 400 });
    expect(kind.json.detail).toMatch(/ssh has no static accounts/);
  });

  it('is its tenant’s, and each action its own', async () => {
    await made('guarded');
    const rules = [{ effect: 'allow', actions: ['account.read', 'account.reveal'], resources: ['account:guarded'] }];
    const reader = await t.user('reader-of-accounts', [], rules);
    expect(await works(target, await current('guarded', reader))).toBe(true);
    expect((await take('guarded', reader)).status).toBe(403);
    expect((await api('POST', '/accounts/guarded/rotate', undefined, reader)).status).toBe(403);
    expect((await api('DELETE', '/accounts/guarded', undefined, reader)).status).toBe(403);
    const listed = (await api('GET', '/accounts', undefined, reader)).json.items;
    expect(listed.map((one: { name: string }) => one.name)).toEqual(['guarded']);
    const other = await t.tenant('another');
    for (const path of ['/accounts/guarded', '/accounts/guarded/credential']) {
      expect((await api('GET', path, undefined, other)).status).toBe(404);
    }
    expect((await api('GET', '/accounts/guarded/credential', undefined, t.operator)).status).toBe(404);
    const entries = await api('GET', '/audit/entries?action=account.reveal&format=ndjson');
    expect(entries.text).toContain('"account:guarded"');
  });
});

describe('a check-out', () => {
  it('T-193 is one holder’s at a time, and at its end the password is another and its sessions are gone', async () => {
    await made('held', { max_ttl: '10m' });
    const taken = await Promise.all(Array.from({ length: 6 }, () => take('held', t.admin, { ttl: '1h' })));
    const [lease, ...more] = taken.filter((answer) => answer.status === 201);
    expect(more).toEqual([]);
    const others = taken.filter((answer) => answer.status !== 201);
    for (const { status, json } of others) {
      expect([status, json.held_until]).toEqual([409, lease!.json.expires_at]);
    }
    expect(lease!.json).toMatchObject({ kind: 'account', path: 'db/held', state: 'active', handle: 'held' });
    const credential = lease!.json.credential;
    const session = connectWith(target, credential);
    await session`SELECT 1`;
    expect((await api('POST', '/accounts/held/rotate')).status).toBe(409);
    expect((await api('DELETE', '/accounts/held')).status).toBe(409);
    const renewed = await api('POST', `/leases/${lease!.json.id}/renew`, { ttl: '2m' });
    expect(renewed.json).toMatchObject({ renewals: 1 });
    const ended = await api('DELETE', `/leases/${lease!.json.id}`);
    expect(ended.json).toMatchObject({ state: 'ended', reason: 'revoked', last_error: null });
    await expect(session`SELECT 1`).rejects.toThrow();
    await session.end({ timeout: 1 });
    expect(await works(target, credential)).toBe(false);
    expect(await works(target, await current('held'))).toBe(true);
    // The vault has given itself no membership that stays.
    const [row] = await target.sql`
      SELECT pg_has_role(${target.config.username}, 'held', 'USAGE') AS member`;
    expect(row!.member).toBe(false);
    expect((await take('held')).status).toBe(201);
  });

  it('ends by its time and with its token, and gives a retry the same again', async () => {
    await made('short');
    const first = (await take('short', t.admin, { ttl: 1 })).json;
    expect(await inState(t, first.id, 'ended')).toMatchObject({ reason: 'expired' });
    const user = await t.user(
      'short-holder',
      [],
      [{ effect: 'allow', actions: ['account.*'], resources: ['account:**'] }],
    );
    const ask = () =>
      t.request('POST', '/api/v1/leases', {
        token: user,
        body: { account: 'short' },
        headers: { 'idempotency-key': 'k' },
      });
    const [one, two] = [await ask(), await ask()];
    t.secrets.add(one.json.credential.password);
    expect([one.status, two.json]).toEqual([201, one.json]);
    await api('DELETE', `/tokens/${one.json.token_accessor}`);
    expect(await inState(t, one.json.id, 'ended')).toMatchObject({ reason: 'token' });
    expect(await works(target, one.json.credential)).toBe(false);
  });

  it('T-194 is not ended while its password still works, and nobody else has the account meanwhile', async () => {
    await made('late');
    const lease = (await take('late')).json;
    target.proxy.refuse(true);
    try {
      const revoking = await api('DELETE', `/leases/${lease.id}`);
      expect(revoking.json).toMatchObject({ state: 'revoking', reason: 'revoked' });
      expect((await take('late')).status).toBe(409);
    } finally {
      target.proxy.refuse(false);
    }
    await soon('late');
    await inState(t, lease.id, 'ended');
    expect(await works(target, lease.credential)).toBe(false);
    // Dropped by force, the next holder still gets a password that the one before does not know.
    const forced = (await take('late')).json;
    await api('DELETE', `/leases/${forced.id}?force=true`);
    const next = await until('it can be had again', async () => {
      const answer = await take('late');
      return answer.status === 201 && answer.json;
    });
    expect(next.credential.password).not.toBe(forced.credential.password);
    expect(await works(target, forced.credential)).toBe(false);
  });
});

describe('a rotation', () => {
  it('T-192 is one at a time on any node, by its schedule too', async () => {
    await made('often', { rotation_period: '1h' });
    const before = await current('often');
    const answers = await Promise.all(Array.from({ length: 5 }, () => api('POST', '/accounts/often/rotate')));
    expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(1);
    expect(answers.every(({ status }) => status === 200 || status === 409)).toBe(true);
    const asked = await current('often');
    expect([await works(target, before), await works(target, asked)]).toEqual([false, true]);
    const other = startSweeper(await t.node());
    try {
      await t.owner`UPDATE static_accounts SET due_at = now(), next_rotation_at = now() WHERE name = 'often'`;
      await t.owner`NOTIFY bulla_leases`;
      await until('the schedule has rotated it', async () => !(await works(target, asked)));
    } finally {
      await other.stop();
    }
    expect(await works(target, await current('often'))).toBe(true);
    const said = await api('GET', '/audit/entries?action=account.rotate&resource=account:often&format=ndjson');
    const byVault = said.text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
      .filter((entry) => entry.actor.kind === 'vault');
    expect(byVault).toMatchObject([{ outcome: 'ok', details: { reason: 'schedule' } }]);
  });

  it('T-173 cut off at a target that hangs leaves two passwords, of which the one that works is found and then kept', async () => {
    await made('hung');
    target.proxy.blackHole = true;
    const cut = await api('POST', '/accounts/hung/rotate');
    expect(cut).toMatchObject({ status: 502, json: { code: 'backend_failed', effect: 'unknown' } });
    expect((await api('GET', '/accounts/hung')).json).toMatchObject({ state: 'rotating', attempts: 1 });
    expect((await take('hung')).status).toBe(409);
    expect((await api('DELETE', '/accounts/hung')).status).toBe(409);
    target.proxy.blackHole = false;
    expect(await works(target, await current('hung'))).toBe(true);
    await until('it is proven', async () => {
      await soon('hung');
      return (await api('GET', '/accounts/hung')).json.state === 'active';
    });
    expect(await works(target, await current('hung'))).toBe(true);
  });

  it('that no login proves is stuck and says why, until somebody says which password it has', async () => {
    await made('shut');
    await target.sql`ALTER ROLE shut NOLOGIN`;
    const refused = await api('POST', '/accounts/shut/rotate');
    expect(refused).toMatchObject({ status: 502 });
    expect(refused.json.detail).toMatch(/neither/);
    const stuck = (await api('GET', '/accounts?state=stuck')).json.items;
    expect(stuck).toMatchObject([{ name: 'shut', state: 'stuck' }]);
    expect((await api('GET', '/accounts/shut/credential')).status).toBe(502);
    await target.sql`ALTER ROLE shut LOGIN PASSWORD 'set by hand'`;
    t.secrets.add('set by hand');
    // The sweeper may be at it just now.
    const told = await until('nobody rotates it', async () => {
      const put = await api('PUT', '/accounts/shut', { backend: 'db', username: 'shut', password: 'set by hand' });
      return put.status !== 409 && put;
    });
    expect(told).toMatchObject({ status: 200, json: { state: 'active', attempts: 0, last_error: null } });
    expect(await current('shut')).toMatchObject({ password: 'set by hand' });
  });

  it('that the target refuses leaves the password as it is, and can be asked for again', async () => {
    await made('kept');
    const before = await current('kept');
    await target.sql.unsafe(`REVOKE kept FROM ${quote(target.config.username)}`);
    expect(await api('POST', '/accounts/kept/rotate')).toMatchObject({ status: 502, json: { effect: 'refused' } });
    expect((await api('GET', '/accounts/kept')).json).toMatchObject({ attempts: 1 });
    expect(await current('kept')).toEqual(before);
    await target.sql.unsafe(`GRANT kept TO ${quote(target.config.username)} WITH ADMIN OPTION`);
    expect((await api('POST', '/accounts/kept/rotate')).status).toBe(200);
    expect(await works(target, before)).toBe(false);
  });
});

describe('its envelope', () => {
  it('T-172 moves to a new data key, and opens nowhere else', async () => {
    await made('moved');
    const before = await current('moved');
    await api('POST', '/keys/rotate', {});
    const rotated = await api('POST', '/accounts/moved/rotate');
    expect(rotated.status, rotated.text).toBe(200);
    const [row] = await t.owner`SELECT key_version AS version FROM static_accounts WHERE name = 'moved'`;
    expect(row!.version).toBe(2);
    await t.owner`
      UPDATE static_accounts SET envelope = (SELECT envelope FROM static_accounts WHERE name = 'over') WHERE name = 'guarded'`;
    expect(await api('GET', '/accounts/guarded/credential')).toMatchObject({
      status: 500,
      json: { code: 'integrity' },
    });
    await expect(checkOut(t.vault, callOf(t.admin), { account: 'guarded' })).rejects.toMatchObject({
      code: 'integrity',
    });
    await api('DELETE', '/accounts/guarded');
    expect(await works(target, before)).toBe(false);
  });
});
