/**
 * Which leases this node ends next: it takes those that are due, each for longer than its end may take.
 *
 * The claim is a commit of its own: two nodes never revoke one lease at the same time, and one that dies holds nobody up
 * for long. A few rows of many are named by an array: joined, they may be looked for by reading all leases of a tenant.
 */
import { randomId } from '../crypto/token.ts';
import { type Fragment, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { type Connected, connected, isFailing } from './pool.ts';
import { inTurn } from './turn.ts';

/** A lease in the hands of this node, until its claim runs out. */
export type Claimed = {
  readonly tenant: TenantId;
  readonly id: string;
  readonly claim: string;
  readonly path: string;
  readonly handle: string;
  readonly holder: string;
  readonly reason: string;
  readonly recheck: boolean;
  readonly attempts: number;
  readonly settings: string | null;
  /** Of a check-out: its end changes the password of this account. */
  readonly accountId: string | null;
  readonly expiresAt: Timestamp;
  /** How long it has been due. */
  readonly lateSeconds: number;
};

const CLAIM_SECONDS = 60;
/** The longest wait between two tries. */
export const RETRY_SECONDS_MAX = 60;
/** Leases that a target which does not answer is told of at once. */
export const TOLD_AT_ONCE = 2_000;

export type Claim = {
  readonly tenant: TenantId;
  readonly backendId: string;
  readonly limit: number;
  /** The latest time that was found plausible: nothing is due that was not due then. */
  readonly upTo: Timestamp;
  /** While the clock is in doubt, nothing expires; what somebody has revoked is still revoked. */
  readonly latched: boolean;
};

/**
 * Takes up to `limit` due leases of a backend. One whose token was renewed meanwhile is put off; one that its target
 * cannot end before its time waits for that time. Sweepers that look at the same time take different ones.
 */
export async function claimDue(
  vault: Vault,
  { tenant, backendId, limit, upTo, latched }: Claim,
): Promise<{ at: Connected; claimed: Claimed[] } | undefined> {
  const claim = randomId();
  const claimIn = async (tx: Tx) => {
    const at = await openedBackend(vault, tx, tenant, backendId);
    if (at instanceof VaultError) {
      await quarantine(tx, tenant, backendId, at.message);
      vault.log.error({ backend: backendId, reason: at.message }, 'a backend does not open; its leases wait');
      return undefined;
    }
    await putOff(tx, tenant, backendId, at, limit);
    if (!latched && isFailing(vault, tenant, backendId)) await showWaiting(tx, tenant, backendId, upTo);
    const claimed = await tx<Omit<Claimed, 'tenant'>[]>`
      WITH due AS MATERIALIZED (
        SELECT lease_id, bulla.now() - due_at AS late FROM leases
        WHERE tenant_id = ${tenant} AND backend_id = ${backendId} AND kind = 'credential' AND state <> 'ended'
          AND due_at <= ${upTo}::timestamptz ${latched ? tx`AND state IN ('revoking', 'checking')` : tx`AND ${hasEnded(tx)}`}
        ORDER BY due_at LIMIT ${limit} FOR UPDATE SKIP LOCKED
      )
      UPDATE leases l SET ${claimColumns(tx, claim)} FROM due WHERE l.tenant_id = ${tenant} AND l.lease_id = due.lease_id
      RETURNING ${claimedColumns(tx)},
                (SELECT extract(epoch FROM late) FROM due WHERE due.lease_id = l.lease_id)::double precision AS "lateSeconds"`;
    return { at, claimed: claimed.map((row) => ({ tenant, ...row })) };
  };
  return inTurn(vault, () => transaction(vault.db, [tenant], claimIn));
}

/** One backend that does not open stops nothing but itself. */
async function openedBackend(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  backendId: string,
): Promise<Connected | VaultError> {
  try {
    return await connected(vault, tx, tenant, backendId);
  } catch (error) {
    if (error instanceof VaultError && !PASSING.has(error.code)) return error;
    throw error;
  }
}

const PASSING: ReadonlySet<string> = new Set(['unavailable', 'outcome_unknown', 'busy', 'sealed']);

async function quarantine(tx: Tx, tenant: TenantId, backendId: string, why: string): Promise<void> {
  await tx`
    WITH due AS MATERIALIZED (
      SELECT lease_id FROM leases WHERE tenant_id = ${tenant} AND backend_id = ${backendId} AND kind = 'credential'
        AND state <> 'ended' AND due_at <= (SELECT bulla.now()) ORDER BY due_at LIMIT ${TOLD_AT_ONCE} FOR UPDATE SKIP LOCKED
    )
    UPDATE leases l SET attempts = attempts + 1, last_error = ${why},
           due_at = bulla.now() + make_interval(secs => ${RETRY_SECONDS_MAX} * (0.5 + random() / 2))
    FROM due WHERE l.tenant_id = ${tenant} AND l.lease_id = due.lease_id`;
}

/** `pending`: whoever was to issue it has not come back in time. */
function claimColumns(tx: Tx, claim: string) {
  return tx`
    claim = ${claim}, due_at = bulla.now() + make_interval(secs => ${CLAIM_SECONDS}),
    recheck = l.recheck OR l.state = 'pending',
    reason = coalesce(l.reason, CASE l.state WHEN 'pending' THEN 'failed'
                                ELSE CASE WHEN l.expires_at <= bulla.now() THEN 'expired' ELSE 'token' END END),
    state = CASE l.state WHEN 'checking' THEN 'checking' ELSE 'revoking' END`;
}

function claimedColumns(tx: Tx) {
  return tx`
    l.lease_id AS id, l.claim, l.path, l.handle, l.holder, l.reason, l.recheck, l.attempts, l.expires_at AS "expiresAt",
    l.account_id AS "accountId",
    (SELECT settings FROM roles r WHERE r.tenant_id = l.tenant_id AND r.role_id = l.role_id) AS settings`;
}

async function putOff(
  tx: Tx,
  tenant: TenantId,
  backendId: string,
  { member }: Connected,
  limit: number,
): Promise<void> {
  await prolongDue(tx, tenant, tx`backend_id = ${backendId} AND kind = 'credential'`, limit);
  if (!member.endsOnlyByExpiry) return;
  await tx`
    UPDATE leases SET due_at = expires_at, state = 'revoking', reason = coalesce(reason, 'token')
    WHERE tenant_id = ${tenant} AND backend_id = ${backendId} AND kind = 'credential' AND state IN ('active', 'revoking')
      AND due_at <= (SELECT bulla.now()) AND expires_at > bulla.now()`;
}

/** Of the first that are due, those last longer whose token was renewed. Locked: what is revoked meanwhile stays due. */
export async function prolongDue(tx: Tx, tenant: TenantId, which: Fragment, limit: number): Promise<void> {
  await tx`
    WITH due AS MATERIALIZED (
      SELECT lease_id, state, expires_at, ${tokenEnd(tx)} AS token_end FROM leases
      WHERE tenant_id = ${tenant} AND state <> 'ended' AND (${which}) AND due_at <= (SELECT bulla.now())
      ORDER BY due_at LIMIT ${limit} FOR UPDATE SKIP LOCKED
    ), longer AS MATERIALIZED (
      SELECT lease_id FROM due WHERE state = 'active' AND expires_at > bulla.now() AND token_end > bulla.now()
    )
    UPDATE leases l SET due_at = least(l.expires_at, (SELECT token_end FROM due WHERE due.lease_id = l.lease_id))
    FROM longer WHERE l.tenant_id = ${tenant} AND l.lease_id = longer.lease_id`;
}

/** When the token ends that a lease hangs under. A subquery, because a join may be planned as a walk through all tokens. */
function tokenEnd(tx: Tx): Fragment {
  return tx`(SELECT k.expires_at FROM tokens k WHERE k.tenant_id = leases.tenant_id AND k.token_id = leases.token_id)`;
}

/** Whether what is due is to end: revoked, past its time, or with its token. */
export function hasEnded(tx: Tx): Fragment {
  return tx`
    (leases.state <> 'active' OR leases.expires_at <= bulla.now() OR ${tokenEnd(tx)} IS NULL OR ${tokenEnd(tx)} <= bulla.now())`;
}

/** What waits for a target that does not answer is seen to be due, although only one of it is tried. */
async function showWaiting(tx: Tx, tenant: TenantId, backendId: string, upTo: Timestamp): Promise<void> {
  await tx`
    WITH due AS MATERIALIZED (
      SELECT lease_id FROM leases
      WHERE tenant_id = ${tenant} AND backend_id = ${backendId} AND kind = 'credential' AND state = 'active'
        AND due_at <= ${upTo}::timestamptz ORDER BY due_at LIMIT ${TOLD_AT_ONCE} FOR UPDATE SKIP LOCKED
    )
    UPDATE leases l SET state = 'revoking',
           reason = coalesce(l.reason, CASE WHEN l.expires_at <= bulla.now() THEN 'expired' ELSE 'token' END)
    FROM due WHERE l.tenant_id = ${tenant} AND l.lease_id = due.lease_id`;
}

/** Takes one lease that is to be revoked, whether it is due yet or not, unless somebody has it. */
export async function claimOne(
  vault: Vault,
  tenant: TenantId,
  id: string,
): Promise<{ at: Connected; claimed: Claimed } | undefined> {
  const claim = randomId();
  return transaction(vault.db, [tenant], async (tx) => {
    const [row] = await tx<{ backendId: string }[]>`
      SELECT backend_id AS "backendId" FROM leases
      WHERE tenant_id = ${tenant} AND lease_id = ${id} AND kind <> 'access' AND state = 'revoking'
        AND (claim IS NULL OR due_at <= bulla.now()) FOR UPDATE SKIP LOCKED`;
    if (!row) return undefined;
    const at = await connected(vault, tx, tenant, row.backendId);
    if (at.member.endsOnlyByExpiry) return undefined;
    const [claimed] = await tx<Omit<Claimed, 'tenant'>[]>`
      UPDATE leases l SET ${claimColumns(tx, claim)} WHERE l.tenant_id = ${tenant} AND l.lease_id = ${id}
      RETURNING ${claimedColumns(tx)}, 0::double precision AS "lateSeconds"`;
    return { at, claimed: { tenant, ...claimed! } };
  });
}
