/**
 * Static accounts against what else goes on: their backend is moved or deleted, a holder is dropped by force, a password is
 * set by hand, and secrets follow all of it.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rotateDueSecrets } from '../src/job/rotator.ts';
import { accountsAt } from './accounts.ts';
import type { TestVault } from './harness.ts';
import { configure, type Target, works } from './lease-target.ts';
import { leaseVault } from './lease-vault.ts';
import { until } from './until.ts';
import { waiting } from './witness.ts';

let t: TestVault;
let target: Target;
let close: () => Promise<void>;

beforeAll(async () => {
  ({ t, target, close } = await leaseVault({ BULLA_LEASE_ACT_DEADLINE: '3s' }));
  await configure(t, target);
});

afterAll(() => close());

const { api, roleAt, made, current, soon, take } = accountsAt(() => ({ t, target }));

/** The entries of an action on a resource. */
async function entries(action: string, resource: string) {
  const { text } = await api('GET', `/audit/entries?action=${action}&resource=${resource}&format=ndjson`);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}

describe('an account', () => {
  it('is not stored for a backend that was changed while its password was proven', async () => {
    const { username, password } = await roleAt('raced');
    let put: ReturnType<typeof api> | undefined;
    await t.owner.begin(async (other) => {
      await other`SELECT 1 FROM backends WHERE name = 'db' FOR UPDATE`;
      put = api('PUT', '/accounts/raced', { backend: 'db', username, password });
      await waiting(t.owner, 1);
      await other`UPDATE backends SET revision = revision + 1 WHERE name = 'db'`;
    });
    expect(await put).toMatchObject({ status: 409, json: { code: 'conflict' } });
    expect((await api('GET', '/accounts/raced')).status).toBe(404);
    expect((await api('PUT', '/accounts/raced', { backend: 'db', username, password })).status).toBe(201);
  });

  it('that is there is not changed for a backend that was changed while its password was proven', async () => {
    const { username, password } = await roleAt('raced again');
    const body = { backend: 'db', username, password };
    expect((await api('PUT', '/accounts/again', body)).status).toBe(201);
    let put: ReturnType<typeof api> | undefined;
    await t.owner.begin(async (other) => {
      await other`SELECT 1 FROM backends WHERE name = 'db' FOR UPDATE`;
      put = api('PUT', '/accounts/again', { ...body, rotation_period: '1d' });
      await waiting(t.owner, 1);
      await other`UPDATE backends SET revision = revision + 1 WHERE name = 'db'`;
    });
    expect(await put).toMatchObject({ status: 409, json: { code: 'conflict' } });
    expect((await api('GET', '/accounts/again')).json.rotation_period).toBe(null);
    expect((await api('PUT', '/accounts/again', { ...body, rotation_period: '1d' })).status).toBe(200);
  });

  it('tried with another password, and a backend that does not let the vault in, leave an entry each', async () => {
    const { username } = await roleAt('guessed');
    const put = (password: string) => api('PUT', '/accounts/guessed', { backend: 'db', username, password });
    expect((await put('not this one')).status).toBe(400);
    expect((await put('nor this')).status).toBe(400);
    const tried = { actor: { name: 'admin' }, outcome: 'error', code: 'invalid_request' };
    expect(await entries('account.write', 'account:guessed')).toMatchObject([tried, tried]);
    const config = { ...target.config, password: 'not this one' };
    expect((await api('PUT', '/backends/guessed', { kind: 'postgres', config })).status).toBe(400);
    expect(await entries('backend.write', 'backend:guessed')).toMatchObject([tried]);
  });

  it('whose holder is dropped by force while its password is being changed can be had again', async () => {
    await made('forced');
    const lease = (await take('forced')).json;
    target.proxy.blackHole = true;
    const revoking = api('DELETE', `/leases/${lease.id}`);
    await until('its password is being changed', async () => {
      const [row] = await t.owner`SELECT claim FROM static_accounts WHERE name = 'forced'`;
      return row!.claim !== null;
    });
    expect((await api('DELETE', `/leases/${lease.id}?force=true`)).status).toBe(200);
    await revoking;
    target.proxy.blackHole = false;
    const next = await until('it can be had again', async () => {
      await soon('forced');
      const answer = await take('forced');
      return answer.status === 201 && answer.json;
    });
    expect(await works(target, lease.credential)).toBe(false);
    expect(await works(target, next.credential)).toBe(true);
  });
});

describe('a secret that follows an account', () => {
  it('has its password after each rotation, whoever asked for it, and waits while somebody has it', async () => {
    await made('followed');
    const put = await api('PUT', '/rotators/app/db', { kind: 'account', account: 'followed', every: '1h' });
    expect(put, put.text).toMatchObject({ status: 201, json: { version: 1, attempts: 0 } });
    const stored = async () => (await api('GET', '/secrets/app/db')).json;
    expect((await stored()).data).toEqual(await current('followed'));
    // By the secret's schedule, which changes the account.
    const first = await current('followed');
    await t.owner`UPDATE rotators SET due_at = now()`;
    await rotateDueSecrets(t.vault);
    expect((await stored()).version).toBe(2);
    expect([await works(target, first), await works(target, (await stored()).data)]).toEqual([false, true]);
    // By the account's end of a check-out, which the secret follows.
    const lease = (await take('followed')).json;
    const refused = await api('POST', '/rotators/app/db/rotate');
    expect([refused.status, refused.json.detail]).toEqual([409, expect.stringMatching(/checked out/)]);
    await api('DELETE', `/leases/${lease.id}`);
    await t.owner`UPDATE rotators SET attempts = 0, due_at = NULL`;
    await rotateDueSecrets(t.vault);
    expect(await stored()).toMatchObject({ version: 3, data: await current('followed') });
    await rotateDueSecrets(t.vault);
    expect((await stored()).version).toBe(3);
  });

  it('has a password that somebody has set by hand, and names no account that is not there', async () => {
    await made('by-hand');
    const rotator = { kind: 'account', account: 'by-hand' };
    expect((await api('PUT', '/rotators/app/hand', rotator)).json).toMatchObject({ version: 1 });
    const before = (await api('GET', '/accounts/by-hand')).json.rotated_at;
    t.secrets.add('set with care');
    await target.sql`ALTER ROLE "by-hand" PASSWORD 'set with care'`;
    const told = { backend: 'db', username: 'by-hand', password: 'set with care', rotation_period: '1d' };
    const put = (await api('PUT', '/accounts/by-hand', told)).json;
    expect(Date.parse(put.rotated_at)).toBeGreaterThan(Date.parse(before));
    expect(Date.parse(put.next_rotation_at) - Date.parse(put.rotated_at)).toBe(86_400_000);
    await rotateDueSecrets(t.vault);
    expect((await api('GET', '/secrets/app/hand')).json).toMatchObject({
      version: 2,
      data: { password: 'set with care' },
    });
    // The same once more is no other password.
    expect((await api('PUT', '/accounts/by-hand', told)).json.rotated_at).toBe(put.rotated_at);
    await rotateDueSecrets(t.vault);
    expect((await api('GET', '/secrets/app/hand')).json.version).toBe(2);
    const nowhere = await api('PUT', '/rotators/app/nowhere', { kind: 'account', account: 'nobody' });
    expect(nowhere).toMatchObject({
      status: 404,
      json: { detail: expect.stringContaining('no static account nobody') },
    });
    expect((await api('GET', '/secrets/app/nowhere')).status).toBe(404);
  });
});

describe('a backend', () => {
  it('with accounts is deleted only when asked to, after their leases', async () => {
    const backend = await api('PUT', '/backends/going', { kind: 'postgres', config: target.config });
    expect(backend.status, backend.text).toBe(201);
    await roleAt('going');
    await api('PUT', '/accounts/going', { backend: 'going', username: 'going' });
    const lease = (await take('going')).json;
    const refused = await api('DELETE', '/backends/going');
    expect([refused.status, refused.json.detail]).toEqual([
      409,
      expect.stringMatching(/static accounts \(1\).*--revoke/),
    ]);
    expect((await api('DELETE', '/backends/going?revoke=true')).status).toBe(204);
    expect(await works(target, lease.credential)).toBe(false);
    expect((await api('GET', '/accounts/going')).status).toBe(404);
    await made('leaving');
    const last = await current('leaving');
    expect((await api('DELETE', '/accounts/leaving')).status).toBe(204);
    expect(await works(target, last)).toBe(true);
  });

  it('with an account that is in doubt is deleted by force only', async () => {
    const backend = await api('PUT', '/backends/doubted', { kind: 'postgres', config: target.config });
    expect(backend.status, backend.text).toBe(201);
    await roleAt('doubted');
    expect((await api('PUT', '/accounts/doubted', { backend: 'doubted', username: 'doubted' })).status).toBe(201);
    await target.sql`ALTER ROLE doubted NOLOGIN`;
    expect((await api('POST', '/accounts/doubted/rotate')).status).toBe(502);
    await t.owner`UPDATE static_accounts SET due_at = NULL WHERE name = 'doubted'`;
    const refused = await api('DELETE', '/backends/doubted?revoke=true');
    expect(refused).toMatchObject({
      status: 409,
      json: { detail: expect.stringMatching(/doubted may have either.*--force/) },
    });
    expect((await api('GET', '/backends/doubted')).json.closing).toBe(false);
    expect((await api('DELETE', '/backends/doubted?revoke=true&force=true')).status).toBe(204);
    expect((await api('GET', '/accounts/doubted')).status).toBe(404);
  });
});
