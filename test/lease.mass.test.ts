/** Many leases that end together: a batch of ends reads its own rows only, whatever PostgreSQL knows of the table. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { asTenantId, type TenantId, type Timestamp } from '../src/db/database.ts';
import { endDueAccess, removeEnded } from '../src/lease/end.ts';
import { type TestVault, testVault } from './harness.ts';

const LEASES = 40_000;
const BATCH = 250;
const LATER = '2100-01-01T00:00:00Z' as Timestamp;

let t: TestVault;
let tenant: TenantId;

beforeAll(async () => {
  t = await testVault();
  const [row] = await t.owner`SELECT tenant_id FROM tenants WHERE name = 'default'`;
  tenant = asTenantId(row!.tenant_id);
  await t.request('PUT', '/api/v1/secrets/mass/one', { token: t.admin, body: { text: 'x' } });
});

afterAll(async () => {
  await t.close();
});

/** Rows as a flood of short leases leaves them, of which PostgreSQL knows nothing yet, or all. */
async function makeDue(counted: boolean): Promise<void> {
  await t.owner`TRUNCATE leases CASCADE`;
  const lease = await t.request('POST', '/api/v1/leases', { token: t.admin, body: { secret: 'mass/one', ttl: '1h' } });
  expect(lease.status, lease.text).toBe(201);
  await t.owner`
    INSERT INTO leases (tenant_id, lease_id, kind, path, handle, user_id, holder, token_id, state, renewable, ttl_seconds,
                        issued_at, expires_at, max_expires_at, due_at)
    SELECT tenant_id, translate(lpad(i::text, 16, '0'), '0189', 'abcd'), kind, path, 'mass' || i, user_id, holder, token_id,
           state, false, 1, issued_at, now() - interval '1 s', now() - interval '1 s', now() - interval '1 s'
    FROM leases, generate_series(1, ${LEASES}) AS i WHERE lease_id = ${lease.json.id}`;
  if (counted) await t.owner`VACUUM ANALYZE leases`;
}

/** The median of what a batch takes. */
async function batchMs(): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 15; i += 1) {
    const startedMs = performance.now();
    expect(await endDueAccess(t.vault, tenant, BATCH, LATER, false)).toBe(BATCH);
    times.push(performance.now() - startedMs);
  }
  return times.sort((a, b) => a - b)[7]!;
}

it('a batch of ends among forty thousand takes as long whether PostgreSQL has counted them or not', async () => {
  await makeDue(false);
  const [known] = await t.owner`SELECT reltuples FROM pg_class WHERE oid = 'bulla.leases'::regclass`;
  expect(known!.reltuples).toBeLessThan(LEASES / 100);
  const uncounted = await batchMs();
  await makeDue(true);
  // Joined to the rows that are due, it was fifty times as long.
  expect(uncounted / (await batchMs())).toBeLessThan(8);
  await t.owner`UPDATE leases SET due_at = now() - interval '1 s' WHERE state = 'ended'`;
  expect(await removeEnded(t.vault, tenant, 1000)).toBe(1000);
});
