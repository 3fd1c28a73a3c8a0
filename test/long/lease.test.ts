/** Leases on targets that hang for long, and tenants that are deleted while theirs do: `npm run test:long`. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startJobs } from '../../src/job/kinds.ts';
import { type Sweeper, startSweeper } from '../../src/lease/sweeper.ts';
import { type TestVault, testVault } from '../harness.ts';
import { inState, leaseTarget, makeRole, type Target, takeLease, works } from '../lease-target.ts';
import { until } from '../until.ts';

let t: TestVault;
let target: Target;
const sweepers: Sweeper[] = [];
const QUICK = { BULLA_LEASE_ACT_DEADLINE: '3s' };

beforeAll(async () => {
  t = await testVault({ env: QUICK });
  target = await leaseTarget();
  t.secrets.add(target.config.password);
  await makeRole(t, 'slow', target.config);
  await makeRole(t, 'well', target.direct);
  sweepers.push(startSweeper(t.vault), startSweeper(await t.node({ env: QUICK })));
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

describe('a target', () => {
  it('T-078 that hangs keeps only its own leases waiting; they are shown as stuck, and end when it answers', async () => {
    const hung = await taken('slow', 2);
    target.proxy.blackHole = true;
    const well = await taken('well', 2);
    const ended = await inState(t, well.id, 'ended');
    const late = Date.parse(ended.ended_at as string) - Date.parse(ended.expires_at as string);
    // The target goes on hanging: had it been waited for, this would never have ended.
    expect(late).toBeLessThan(10_000);
    const issue = await t.request('POST', '/api/v1/leases', { token: t.admin, body: { role: 'slow/slow' } });
    expect(issue).toMatchObject({ status: 502, json: { code: 'backend_failed', effect: 'unknown' } });
    target.proxy.refuse(true);
    target.proxy.blackHole = false;
    const stuck = await until('the lease is stuck', async () => {
      const found = (await t.request('GET', '/api/v1/leases?state=stuck', { token: t.admin })).json.items;
      return found.find((lease: { id: string }) => lease.id === hung.id);
    });
    expect(stuck).toMatchObject({ state: 'revoking', stuck: true, reason: 'expired' });
    expect(stuck.last_error).toMatch(/did not answer/);
    target.proxy.refuse(false);
    expect(await inState(t, hung.id, 'ended')).toMatchObject({ attempts: 0, last_error: null });
    expect(await works(target, hung.credential)).toBe(false);
    const cutOff = (await t.request('GET', '/api/v1/leases?state=checking', { token: t.admin })).json.items;
    expect(cutOff).toMatchObject([{ path: 'slow/slow', reason: 'failed' }]);
  });
});

describe('a tenant', () => {
  it('T-077 is deleted only when its leases are revoked at their targets, its keys after them; its name shows nothing old', async () => {
    const doomed = await t.tenant('doomed');
    const body = { kind: 'postgres', config: target.config };
    expect((await t.request('PUT', '/api/v1/backends/db', { token: doomed, body })).status).toBe(201);
    await t.request('PUT', '/api/v1/roles/app', { token: doomed, body: { backend: 'db' } });
    const take = async () =>
      (await t.request('POST', '/api/v1/leases', { token: doomed, body: { role: 'db/app' } })).json;
    const leases = await Promise.all([take(), take(), take()]);
    for (const { credential } of leases) t.secrets.add(credential.password);
    target.proxy.refuse(true);
    const first = await t.request('DELETE', '/api/v1/tenants/doomed', { token: t.operator });
    expect(first.status).toBe(204);
    const [row] = await t.owner`SELECT tenant_id AS id, state FROM tenants WHERE name = 'doomed'`;
    expect(row!.state).toBe('deleting');
    // Nothing of it is served any more, and what opens the way to its target is still there.
    expect((await t.request('GET', '/api/v1/leases', { token: doomed })).status).toBe(401);
    expect(
      await t.owner`SELECT 1 FROM data_key_material WHERE tenant_id = ${row!.id} AND wrapped IS NOT NULL`,
    ).toHaveLength(1);
    expect(await works(target, leases[0].credential).catch(() => 'unreachable')).toBe('unreachable');
    target.proxy.refuse(false);
    await t.owner`UPDATE leases SET due_at = now() WHERE tenant_id = ${row!.id}`;
    await t.owner`UPDATE jobs SET not_before = now(), heartbeat_at = now() - interval '1 minute' WHERE state IN ('queued', 'running')`;
    const jobs = startJobs(t.vault);
    try {
      await until('the tenant is gone', async () => {
        const [now] = await t.owner`SELECT state FROM tenants WHERE tenant_id = ${row!.id}`;
        return now!.state === 'deleted';
      });
    } finally {
      await jobs.stop();
    }
    for (const { credential } of leases) expect(await works(target, credential)).toBe(false);
    for (const table of ['leases', 'lease_credentials', 'roles', 'backends', 'data_key_material']) {
      expect(await t.owner`SELECT 1 FROM ${t.owner(table)} WHERE tenant_id = ${row!.id}`).toHaveLength(0);
    }
    const again = await t.tenant('doomed');
    for (const path of ['leases', 'backends', 'roles']) {
      expect((await t.request('GET', `/api/v1/${path}`, { token: again })).json.items).toEqual([]);
    }
  });
});
