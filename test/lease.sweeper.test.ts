/** What ends leases, on whatever node: targets that hang, refuse and come back; clocks that jump; rows that are damaged. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { confirmClock, lookAtClock, readSweeper } from '../src/lease/clock.ts';
import { type Sweeper, startSweeper } from '../src/lease/sweeper.ts';
import type { Vault } from '../src/vault.ts';
import { callOf, type TestVault, testVault } from './harness.ts';
import { inState, leaseTarget, makeRole, type Target, takeLease, works } from './lease-target.ts';
import { until } from './until.ts';
import { codeOf } from './witness.ts';

let t: TestVault;
let target: Target;
let other: Vault;
const sweepers: Sweeper[] = [];
/** What was sent to drop a role, by its name. */
const drops = new Map<string, number>();

const QUICK = { BULLA_LEASE_ACT_DEADLINE: '3s' };

beforeAll(async () => {
  t = await testVault({ env: QUICK });
  target = await leaseTarget();
  t.secrets.add(target.config.password);
  target.proxy.carries = (bytes) => {
    for (const [, role] of bytes.toString('latin1').matchAll(/DROP ROLE "(\w+)"/g))
      drops.set(role!, (drops.get(role!) ?? 0) + 1);
  };
  await makeRole(t, 'slow', target.config);
  await makeRole(t, 'well', target.direct);
  other = await t.node({ env: QUICK });
  sweepers.push(startSweeper(t.vault), startSweeper(other));
});

afterEach(() => {
  target.proxy.blackHole = false;
  target.proxy.refuse(false);
});

afterAll(async () => {
  for (const sweeper of sweepers) await sweeper.stop();
  await t.check();
  await t.close();
  await target.close();
});

const taken = (name: string, ttl?: number | string) => takeLease(t, `${name}/${name}`, ttl);

const read = async (id: string) => (await t.request('GET', `/api/v1/leases/${id}`, { token: t.admin })).json;

async function entries(lease: string): Promise<{ action: string; outcome: string }[]> {
  const rows = await t.owner`SELECT lines FROM audit_segments ORDER BY tenant_id, first_seq`;
  const lines = rows.flatMap((row) => row.lines.toString('utf8').split('\n').slice(0, -1)) as string[];
  return lines
    .map((line) => JSON.parse(line))
    .filter((entry) => entry.lease === lease && entry.action !== 'lease.read');
}

describe('several nodes', () => {
  it('T-193 two nodes end each lease once: one outside act, one entry', async () => {
    const leases = await Promise.all(Array.from({ length: 8 }, () => taken('slow', 2)));
    for (const { id } of leases) await inState(t, id, 'ended');
    expect(leases.map(({ handle }) => drops.get(handle))).toEqual(leases.map(() => 1));
    for (const { id } of leases) {
      const said = (await entries(id)).map(({ action, outcome }) => `${action} ${outcome}`);
      expect(said).toEqual(['lease.create ok', 'lease.issue ok', 'lease.expire ok']);
    }
  });
});

describe('a target', () => {
  it('T-078 that hangs keeps only its own leases waiting, and each says why', async () => {
    const hung = await taken('slow', 2);
    target.proxy.blackHole = true;
    const well = await taken('well', 2);
    const ended = await inState(t, well.id, 'ended');
    const late = Date.parse(ended.ended_at as string) - Date.parse(ended.expires_at as string);
    // The target goes on hanging: had it been waited for, this would never have ended.
    expect(late).toBeLessThan(10_000);
    target.proxy.refuse(true);
    const failing = await until('its failure is told', async () => {
      const lease = await read(hung.id);
      return lease.attempts > 0 ? lease : undefined;
    });
    expect(failing).toMatchObject({
      state: 'revoking',
      reason: 'expired',
      last_error: expect.stringMatching(/did not answer/),
    });
    target.proxy.blackHole = false;
    target.proxy.refuse(false);
    expect(await inState(t, hung.id, 'ended')).toMatchObject({ attempts: 0, last_error: null });
  });

  it('that is gone for good: a lease is dropped by force, and it is said loudly what may still work', async () => {
    const lease = await taken('slow');
    target.proxy.refuse(true);
    const revoking = await t.request('DELETE', `/api/v1/leases/${lease.id}`, { token: t.admin });
    expect(revoking.json).toMatchObject({ state: 'revoking', reason: 'revoked' });
    const forced = await t.request('DELETE', `/api/v1/leases/${lease.id}?force=true`, { token: t.admin });
    expect(forced.json).toMatchObject({ state: 'ended', reason: 'forced' });
    expect(forced.json.warning).toContain(lease.handle);
    expect((await entries(lease.id)).at(-1)).toMatchObject({
      action: 'lease.force',
      details: { forced: true, may_still_work: lease.handle },
    });
    target.proxy.refuse(false);
    expect(await works(target, lease.credential)).toBe(true);
  });

  it('that refuses to renew leaves the row as the target knows it', async () => {
    const lease = await taken('slow', '10m');
    target.proxy.refuse(true);
    const renewed = await t.request('POST', `/api/v1/leases/${lease.id}/renew`, {
      token: t.admin,
      body: { ttl: '1h' },
    });
    expect(renewed.status).toBe(502);
    target.proxy.refuse(false);
    expect(await read(lease.id)).toMatchObject({ expires_at: lease.expires_at, renewals: 0, state: 'active' });
  });

  it('that lies: a role that its administrator removed by hand is gone, and that is success', async () => {
    const lease = await taken('well');
    await target.sql.unsafe(`DROP ROLE "${lease.handle}"`);
    const revoked = await t.request('DELETE', `/api/v1/leases/${lease.id}`, { token: t.admin });
    expect(revoked.json).toMatchObject({ state: 'ended', last_error: null });
  });
});

describe('a row', () => {
  it('T-207 that is damaged stops nothing but itself: of a backend, and of a role', async () => {
    await makeRole(t, 'torn', target.direct);
    await makeRole(t, 'blurred', target.direct);
    const torn = await taken('torn', 2);
    const blurred = await taken('blurred', 2);
    const well = await taken('well', 2);
    const kept =
      await t.owner`SELECT envelope, settings FROM backends JOIN roles USING (tenant_id, backend_id) WHERE backends.name = 'torn'`;
    await t.owner`UPDATE backends SET revision = revision + 1, envelope = set_byte(envelope, 80, get_byte(envelope, 80) # 1) WHERE name = 'torn'`;
    await t.owner`UPDATE roles SET settings = '{"half' WHERE name = 'blurred'`;
    await inState(t, well.id, 'ended');
    for (const { id } of [torn, blurred]) {
      await until('the damage is told', async () => (await read(id)).attempts > 0);
      expect((await read(id)).last_error).toMatch(/does not open|was edited|damaged/);
    }
    await t.owner`UPDATE backends SET revision = revision + 1, envelope = ${kept[0]!.envelope} WHERE name = 'torn'`;
    await t.owner`UPDATE roles SET settings = ${kept[0]!.settings} WHERE name = 'blurred'`;
    await t.owner`UPDATE leases SET due_at = now() WHERE attempts > 0 AND state <> 'ended'`;
    await t.owner`NOTIFY bulla_leases`;
    for (const { id } of [torn, blurred]) await inState(t, id, 'ended');
  });
});

describe('access leases', () => {
  it('T-208 a thousand that expire at once end with an entry each, while others read', async () => {
    await t.request('PUT', '/api/v1/secrets/shared/one', { token: t.admin, body: { text: 'x' } });
    const access = await t.request('POST', '/api/v1/leases', { token: t.admin, body: { secret: 'shared/one' } });
    expect(access.status, access.text).toBe(201);
    await t.owner`
      INSERT INTO leases (tenant_id, lease_id, kind, path, handle, user_id, holder, token_id, state, renewable, ttl_seconds,
                          issued_at, expires_at, max_expires_at, due_at)
      SELECT tenant_id, translate(lpad(i::text, 16, '0'), '0189', 'abcd'), kind, path, 'gone' || i, user_id, holder, token_id, state, false, 1, issued_at,
             now(), now(), now() FROM leases, generate_series(1, 1000) AS i WHERE lease_id = ${access.json.id}`;
    await t.owner`NOTIFY bulla_leases`;
    let reads = 0;
    await until('all have ended', async () => {
      const answer = await t.request('GET', '/api/v1/secrets/shared/one', { token: t.admin });
      expect(answer.status).toBe(200);
      reads += 1;
      const [row] =
        await t.owner`SELECT count(*)::int AS left FROM leases WHERE handle LIKE 'gone%' AND state <> 'ended'`;
      return row!.left === 0;
    });
    const rows = await t.owner`SELECT lines FROM audit_segments ORDER BY tenant_id, first_seq`;
    const text = rows.map((row) => row.lines.toString('utf8')).join('');
    expect(text.match(/"action":"lease.expire"[^\n]*"handle":"gone\d+"/g)).toHaveLength(1000);
    expect(reads).toBeGreaterThan(0);
  });
});

describe('a tenant', () => {
  it('T-077 is deleted only when its leases are revoked at their targets; its name shows nothing old', async () => {
    const doomed = await t.tenant('doomed');
    await t.request('PUT', '/api/v1/backends/db', { token: doomed, body: { kind: 'postgres', config: target.config } });
    await t.request('PUT', '/api/v1/roles/app', { token: doomed, body: { backend: 'db' } });
    const lease = (await t.request('POST', '/api/v1/leases', { token: doomed, body: { role: 'db/app' } })).json;
    t.secrets.add(lease.credential.password);
    expect((await t.request('DELETE', '/api/v1/tenants/doomed', { token: t.operator })).status).toBe(204);
    await until(
      'the tenant is gone',
      async () => (await t.owner`SELECT 1 FROM tenants WHERE name = 'doomed'`).length === 0,
    );
    expect(await works(target, lease.credential)).toBe(false);
    const again = await t.tenant('doomed');
    for (const path of ['leases', 'backends', 'roles']) {
      expect((await t.request('GET', `/api/v1/${path}`, { token: again })).json.items).toEqual([]);
    }
  });

  it('T-077 whose target is gone for good goes by force, and the logs say what was given up', async () => {
    const lost = await t.tenant('lost');
    await t.request('PUT', '/api/v1/backends/db', { token: lost, body: { kind: 'postgres', config: target.config } });
    await t.request('PUT', '/api/v1/roles/app', { token: lost, body: { backend: 'db' } });
    const lease = (await t.request('POST', '/api/v1/leases', { token: lost, body: { role: 'db/app' } })).json;
    t.secrets.add(lease.credential.password);
    target.proxy.refuse(true);
    const forced = await t.request('DELETE', '/api/v1/tenants/lost?force=true', { token: t.operator });
    expect(forced.status).toBe(204);
    await until(
      'the tenant is gone',
      async () => (await t.owner`SELECT 1 FROM tenants WHERE name = 'lost'`).length === 0,
    );
    const rows = await t.owner`SELECT lines FROM audit_segments WHERE tenant_id = 'system' ORDER BY first_seq`;
    const lines = rows.flatMap((row) => row.lines.toString('utf8').split('\n').slice(0, -1)) as string[];
    const entry = lines
      .map((line) => JSON.parse(line))
      .filter(({ action }) => action === 'tenant.delete')
      .at(-1);
    expect(entry.details).toMatchObject({ leases_dropped: 1 });
  });
});

describe('the clock', () => {
  it('T-190 a jump of more than an hour latches: nothing expires, revoking goes on, until an operator confirms', async () => {
    for (const sweeper of sweepers.splice(0)) await sweeper.stop();
    const lease = await taken('well', '1h');
    const { seen } = await lookAtClock(t.vault, undefined);
    // Two days pass for the database, and none for anybody who looks at a watch.
    const later = await t.node({ env: QUICK, clockOffsetSeconds: 48 * 3600 });
    expect(await lookAtClock(later, seen)).toMatchObject({ latched: true });
    const jumped = startSweeper(later);
    try {
      // The operator's token has ended in that future: he looks from a node whose clock is right.
      expect(await codeOf(readSweeper(later, callOf(t.operator)))).toBe('unauthenticated');
      expect(await readSweeper(t.vault, callOf(t.operator))).toMatchObject({ latched: true });
      const revoked = await taken('well', '1h');
      await t.owner`UPDATE leases SET state = 'revoking', reason = 'revoked', due_at = now() WHERE lease_id = ${revoked.id}`;
      await t.owner`NOTIFY bulla_leases`;
      await inState(t, revoked.id, 'ended');
      expect(await read(lease.id)).toMatchObject({ state: 'active' });
      expect(await works(target, lease.credential)).toBe(true);
      expect((await t.request('POST', '/api/v1/sweeper/confirm', { token: t.admin })).status).toBe(403);
      expect(await confirmClock(t.vault, callOf(t.operator))).toMatchObject({ latched: false });
      expect(await inState(t, lease.id, 'ended')).toMatchObject({ reason: 'expired' });
    } finally {
      await jumped.stop();
    }
  });

  it('T-190 a clock that goes back revives nothing', async () => {
    const lease = await taken('well', '1h');
    await t.request('DELETE', `/api/v1/leases/${lease.id}`, { token: t.admin });
    const before = await t.node({ env: QUICK, clockOffsetSeconds: -2 * 366 * 24 * 3600 });
    const back = startSweeper(before);
    try {
      await t.owner`NOTIFY bulla_leases`;
      expect(await lookAtClock(before, undefined)).toMatchObject({ latched: false });
      expect(await read(lease.id)).toMatchObject({ state: 'ended' });
      expect(await works(target, lease.credential)).toBe(false);
    } finally {
      await back.stop();
    }
  });
});
