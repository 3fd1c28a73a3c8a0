/** database/ and sys/leases under /v1: a credential of a real PostgreSQL, renewed, looked at and ended as its clients do. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { TestVault } from './harness.ts';
import { configure, type Target, works } from './lease-target.ts';
import { leaseVault } from './lease-vault.ts';
import { errors, v1Of } from './v1.ts';

let t: TestVault;
let target: Target;
let close: () => Promise<void>;
beforeAll(async () => {
  ({ t, target, close } = await leaseVault());
  await configure(t, target, { grants: [] });
});
afterAll(() => close());

const v1 = v1Of(() => t);

async function taken(token = t.admin) {
  const answer = await v1('GET', 'database/creds/reporting', undefined, token);
  expect(answer.status, answer.text).toBe(200);
  t.secrets.add(answer.json.data.password);
  return answer.json;
}

it('a credential works until its lease is revoked, by its id in the body or in the path', async () => {
  const first = await taken();
  expect(first).toMatchObject({
    lease_id: expect.stringMatching(/^database\/creds\/reporting\/[a-z2-7]{16}$/),
    renewable: true,
    lease_duration: 3600,
  });
  expect(await works(target, first.data)).toBe(true);
  const about = await v1('PUT', 'sys/leases/lookup', { lease_id: first.lease_id });
  expect(about.json.data).toMatchObject({
    id: first.lease_id,
    last_renewal: null,
    renewable: true,
    ttl: expect.any(Number),
  });
  const renewed = await v1('PUT', 'sys/leases/renew', { lease_id: first.lease_id, increment: 1800 });
  expect(renewed.json).toMatchObject({ data: null, lease_id: first.lease_id, renewable: true, lease_duration: 1800 });
  expect((await v1('POST', `sys/leases/renew/${first.lease_id}`, { increment: null })).status).toBe(200);
  expect((await v1('PUT', 'sys/leases/revoke', { lease_id: first.lease_id })).status).toBe(204);
  expect(await works(target, first.data)).toBe(false);
  expect(errors(await v1('PUT', 'sys/leases/lookup', { lease_id: first.lease_id }))).toEqual([400, ['invalid lease']]);
  const second = await taken();
  expect((await v1('PUT', `sys/revoke/${second.lease_id}`)).status).toBe(204);
  expect(await works(target, second.data)).toBe(false);
  const third = await taken();
  expect((await v1('PUT', 'sys/leases/revoke', { lease_id: third.lease_id, sync: false })).status).toBe(202);
});

it('a token ends what hangs under it, and a prefix what was taken there', async () => {
  await v1('PUT', 'sys/policies/acl/db', { policy: 'path "database/creds/reporting" { capabilities = ["read"] }' });
  const { client_token: token } = (await v1('POST', 'auth/token/create', { policies: ['db'] })).json.auth;
  const own = await taken(token);
  expect((await v1('PUT', 'sys/leases/renew', { lease_id: own.lease_id }, token)).status).toBe(200);
  const others = await taken();
  expect((await v1('PUT', 'sys/leases/revoke', { lease_id: others.lease_id }, token)).status).not.toBe(202);
  expect(await works(target, others.data)).toBe(true);
  expect((await v1('LIST', 'sys/leases/lookup/database/creds/reporting')).json.data.keys).toHaveLength(2);
  expect((await v1('LIST', 'sys/leases/lookup/database')).json.data.keys).toEqual(['creds/']);
  expect((await v1('PUT', 'sys/leases/revoke-prefix/database/creds/reporting')).status).toBe(204);
  await expect.poll(() => works(target, others.data), { timeout: 60_000 }).toBe(false);
  await expect.poll(() => works(target, own.data), { timeout: 60_000 }).toBe(false);
  // A credential works no more a moment before its lease says that it has ended.
  const left = async () => errors(await v1('LIST', 'sys/leases/lookup/database'));
  await expect.poll(left, { timeout: 60_000 }).toEqual([404, []]);
});

it('by force a prefix is given up where its target does not answer, and ended where it does', async () => {
  const one = await taken();
  expect((await v1('PUT', 'sys/leases/revoke-force/database/creds/reporting')).status).toBe(204);
  expect(await works(target, one.data)).toBe(false);
  const other = await taken();
  await target.kill();
  expect((await v1('PUT', 'sys/leases/revoke-force/database/creds/reporting')).status).toBe(204);
  expect(errors(await v1('PUT', 'sys/leases/lookup', { lease_id: other.lease_id }))).toEqual([400, ['invalid lease']]);
  await target.start();
  expect(await works(target, other.data)).toBe(true);
}, 60_000);

it('a token whose uses are counted takes no lease, and a limit says so in the words of its clients', async () => {
  const few = (await v1('POST', 'auth/token/create', { num_uses: 3 })).json.auth.client_token;
  expect(errors(await v1('GET', 'database/creds/reporting', undefined, few))).toEqual([
    ...[400, ['Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.']],
  ]);
  const settings = { backend: 'db', settings: { grants: [] } };
  await t.request('PUT', '/api/v1/roles/reporting', { token: t.admin, body: { ...settings, leases_max: 1 } });
  const one = await taken();
  const more = await v1('GET', 'database/creds/reporting');
  expect([more.status, more.headers.get('retry-after')]).toEqual([429, expect.stringMatching(/^\d+$/)]);
  expect(more.json.errors).toEqual([expect.stringMatching(/: rate limit quota exceeded$/)]);
  expect((await v1('PUT', 'sys/leases/revoke', { lease_id: one.lease_id })).status).toBe(204);
  await t.request('PUT', '/api/v1/roles/reporting', { token: t.admin, body: settings });
});

it('a lease that is renewed no more says why: it has ended, has expired, or never was renewable', async () => {
  const renew = async ({ lease_id }: { lease_id: string }) => errors(await v1('PUT', 'sys/leases/renew', { lease_id }));
  const revoked = await taken();
  await v1('PUT', 'sys/leases/revoke', { lease_id: revoked.lease_id });
  expect(await renew(revoked)).toEqual([400, ['lease not found']]);
  const other = await taken();
  const id = other.lease_id.split('/').at(-1);
  // What a sweeper does is due later: so nobody ends it meanwhile.
  await t.owner`UPDATE leases SET expires_at = clock_timestamp() - interval '1 second' WHERE lease_id = ${id}`;
  expect(await renew(other)).toEqual([400, ['lease expired']]);
  await t.owner`UPDATE leases SET expires_at = due_at, renewable = false WHERE lease_id = ${id}`;
  expect(await renew(other)).toEqual([400, ['lease is not renewable']]);
  expect((await v1('PUT', 'sys/leases/revoke', { lease_id: other.lease_id })).status).toBe(204);
});

it('what is not there has its text', async () => {
  expect(errors(await v1('GET', 'database/creds/none'))).toEqual([400, ['unknown role: none']]);
  expect(
    errors(await v1('PUT', 'sys/leases/renew', { lease_id: 'database/creds/reporting/aaaaaaaaaaaaaaaa' })),
  ).toEqual([400, ['lease not found']]);
  expect(errors(await v1('PUT', 'sys/leases/renew', {}))).toEqual([400, ['missing lease ID']]);
  expect((await v1('PUT', 'sys/leases/revoke', { lease_id: 'database/creds/reporting/aaaaaaaaaaaaaaaa' })).status).toBe(
    204,
  );
  expect((await v1('LIST', 'database/roles')).json.data.keys).toEqual(['reporting']);
  expect((await v1('GET', 'database/roles/reporting')).json.data.db_name).toBe('db');
  expect((await v1('LIST', 'database/config')).json.data.keys).toEqual(['db']);
});
