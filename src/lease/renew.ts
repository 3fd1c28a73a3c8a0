/**
 * Renewing a lease: first its row, then its target.
 *
 * A process that dies between the two leaves a credential that ends too early, never one that ends too late. A target that
 * does not follow takes the row back to what it knows.
 */
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Act, type Permit, withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { LEASE_COLUMNS, type LeaseInfo, type LeaseState, noLease, onLease } from './lease.ts';
import { checkTtl } from './lifetime.ts';
import { type Connected, connected, onTarget } from './pool.ts';

type Renewal = {
  readonly lease: LeaseInfo;
  readonly before: Timestamp;
  readonly tenant: TenantId;
  readonly actor: Permit['actor'];
  readonly at: Connected | undefined;
  readonly settings: string | null;
};

type Row = {
  readonly state: LeaseState;
  readonly live: boolean;
  readonly renewable: boolean;
  readonly before: Timestamp;
  readonly backendId: string | null;
  readonly accountId: string | null;
  readonly settings: string | null;
};

/**
 * Lets a lease last `ttlSeconds` from now (its own time when absent), never beyond its maximum. Throws `conflict` when
 * the lease has ended or is not renewable, `backend_failed` when the target did not follow.
 */
export async function renewLease(vault: Vault, call: Call, id: string, ttlSeconds?: number): Promise<LeaseInfo> {
  const wanted = checkTtl(ttlSeconds);
  const renewal = await onLease(vault, call, 'lease.renew', id, (tx, granted) =>
    prolong(vault, tx, granted, id, wanted),
  );
  killpoint('lease.renewing');
  if (!renewal.at) return renewal.lease;
  const { at, lease } = renewal;
  const role: unknown = JSON.parse(renewal.settings!);
  try {
    await onTarget(vault, at, vault.config.leaseActDeadlineMs, (limits) =>
      at.backend.renew({ ...limits, role, handle: lease.handle, expiresAt: lease.expiresAt }),
    );
  } catch (error) {
    await takeBack(vault, call, renewal, error as VaultError);
    throw error;
  }
  killpoint('lease.renewed');
  return lease;
}

async function prolong(
  vault: Vault,
  tx: Tx,
  { tenant, actor }: Permit,
  id: string,
  wanted: number | undefined,
): Promise<Act<Renewal>> {
  const [row] = await tx<Row[]>`
    SELECT l.state, l.expires_at > bulla.now() AS live, l.renewable, l.expires_at AS before, l.backend_id AS "backendId",
           l.account_id AS "accountId",
           (SELECT settings FROM roles r WHERE r.tenant_id = l.tenant_id AND r.role_id = l.role_id) AS settings
    FROM leases l WHERE l.tenant_id = ${tenant} AND l.lease_id = ${id} FOR UPDATE`;
  if (!row) throw noLease();
  if (row.state !== 'active') throw cannotRenew('ended', 'The lease has ended: take another one.');
  if (!row.live) throw cannotRenew('expired', 'The lease has expired: take another one.');
  if (!row.renewable) {
    throw cannotRenew('not_renewable', 'This lease cannot be renewed: take another one before it ends.');
  }
  const [token] = await tx<{ expiresAt: Timestamp }[]>`
    SELECT k.expires_at AS "expiresAt" FROM tokens k JOIN leases l ON k.tenant_id = l.tenant_id AND k.token_id = l.token_id
    WHERE l.tenant_id = ${tenant} AND l.lease_id = ${id} AND k.expires_at > bulla.now()`;
  if (!token) throw cannotRenew('ended', 'The token that took this lease has ended, and the lease with it.');
  const [lease] = await tx<LeaseInfo[]>`
    WITH clock AS MATERIALIZED (SELECT bulla.now() AS now)
    UPDATE leases SET expires_at = least(now + make_interval(secs => coalesce(${wanted ?? null}::bigint, ttl_seconds)), max_expires_at),
           due_at = least(now + make_interval(secs => coalesce(${wanted ?? null}::bigint, ttl_seconds)), max_expires_at,
                          ${token.expiresAt}::timestamptz),
           renewals = renewals + 1, renewed_at = now
    FROM clock WHERE tenant_id = ${tenant} AND lease_id = ${id} RETURNING ${tx.unsafe(LEASE_COLUMNS)}`;
  // Nothing outside knows how long an access or a check-out lasts.
  const isOutside = row.backendId !== null && row.accountId === null;
  const at = isOutside ? await connected(vault, tx, tenant, row.backendId!) : undefined;
  const value = { lease: lease!, before: row.before, tenant, actor, at, settings: row.settings };
  return { value, notes: [{ details: { expires_at: lease!.expiresAt } }] };
}

function cannotRenew(why: 'ended' | 'expired' | 'not_renewable', message: string): VaultError {
  return new VaultError('conflict', message, { details: { reason: `lease_${why}` } });
}

/** The target did not follow: the row says again what the target knows, unless somebody has renewed it since. */
async function takeBack(
  vault: Vault,
  call: Call,
  { lease, before, tenant, actor }: Renewal,
  error: VaultError,
): Promise<void> {
  await withoutToken(vault, call, [tenant], async (tx) => {
    await tx`
      UPDATE leases SET expires_at = ${before}, due_at = least(due_at, ${before}::timestamptz), renewals = renewals - 1,
             last_error = ${error.message}
      WHERE tenant_id = ${tenant} AND lease_id = ${lease.id} AND state = 'active' AND expires_at = ${lease.expiresAt}`;
    const said = { tenant, actor, action: 'lease.renew', resource: `lease:${lease.path}`, lease: lease.id } as const;
    return { value: undefined, records: [{ ...said, outcome: 'error', code: error.code }] };
  });
}
