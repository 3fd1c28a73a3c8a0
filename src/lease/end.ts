/**
 * The end of a lease: claimed by one sweeper of one node, revoked at its target, and only then recorded as ended.
 *
 *     due ──claim──▶ revoking ──target──▶ ended            the claim and each outcome are commits of their own
 *                        └──── fails ───▶ due again, later and later, for ever
 *
 * Whatever stops in between, the lease is due again when its claim runs out: the outside act happens at least once, and
 * its end is recorded once. A lease whose issuing was cut off is revoked twice, the second time an hour later, because
 * what was sent may arrive late.
 */
import { VAULT_ACTOR } from '../audit/entry.ts';
import { deleteTokens, endTokens } from '../auth/issue.ts';
import { LIMITS } from '../config.ts';
import { randomId } from '../crypto/token.ts';
import { type Fragment, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { VaultError } from '../errors.ts';
import { type Record as LogRecord, withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { checkIn } from './account-rotation.ts';
import { effectOf } from './backend.ts';
import { type Claimed, claimOne, hasEnded, prolongDue, RETRY_SECONDS_MAX, TOLD_AT_ONCE } from './claim.ts';
import { type Connected, isFailing, onTarget } from './pool.ts';
import { type Ended, tellEnd } from './summary.ts';
import { inTurn } from './turn.ts';
import { wakeSweeper } from './wake.ts';

const RECHECK_SECONDS = 3600;
/** How long what is known of an ended lease can be read. */
export const KEPT_HOURS = 24;

const origin = (id: string) => ({ requestId: `lease-${id}`, source: '', protocol: 'vault' });

/**
 * Revokes one lease now, if nobody else does, and waits for it up to a time; its end goes on after that. What fails is in
 * the row and in the log, not thrown: the sweepers go on.
 */
export async function endNow(vault: Vault, tenant: TenantId, id: string, awaitedMs: number): Promise<void> {
  const taken = await claimOne(vault, tenant, id);
  const ended = taken
    ? endClaimed(vault, taken.at, taken.claimed).catch((error) =>
        vault.log.error({ err: error }, 'a lease was not ended'),
      )
    : endKept(vault, tenant, id);
  let timer: NodeJS.Timeout | undefined;
  const enough = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, awaitedMs);
  });
  await Promise.race([ended, enough]);
  clearTimeout(timer);
}

/** An access lease has nothing outside: it ends in one commit. */
async function endKept(vault: Vault, tenant: TenantId, id: string): Promise<void> {
  await withoutToken(vault, origin(id), [tenant], async (tx) => {
    const rows = await endAccess(tx, tenant, tx`lease_id = ${id}`, 1);
    return { value: undefined, records: rows };
  });
}

/** Revokes a claimed lease at its target and records how it went. */
export async function endClaimed(vault: Vault, at: Connected, claimed: Claimed): Promise<Ended> {
  const startedMs = vault.clock.monotonicMs();
  const outcome = await tryToEnd(vault, at, claimed);
  tellEnd(vault, outcome, claimed.lateSeconds + (vault.clock.monotonicMs() - startedMs) / 1000);
  return outcome;
}

async function tryToEnd(vault: Vault, at: Connected, claimed: Claimed): Promise<Ended> {
  killpoint('lease.claimed');
  try {
    const { accountId } = claimed;
    const role: unknown = claimed.settings === null ? undefined : JSON.parse(claimed.settings);
    if (accountId !== null) await checkIn(vault, at, claimed.id, accountId);
    else
      await onTarget(vault, at, vault.config.leaseActDeadlineMs, (limits) =>
        at.backend.revoke({ ...limits, role, handle: claimed.handle }),
      );
  } catch (error) {
    await inTurn(vault, () => failed(vault, at, claimed, error instanceof VaultError ? error : unreadable()));
    return 'failed';
  }
  killpoint('lease.revoked');
  return inTurn(vault, () => conclude(vault, claimed));
}

/** The settings of the role are no JSON any more. */
const unreadable = () =>
  new VaultError('integrity', 'The role of this lease does not open: its row was damaged. Put it again.');

async function conclude(vault: Vault, claimed: Claimed): Promise<Ended> {
  const { tenant, id, claim, recheck, attempts } = claimed;
  const ended = await withoutToken(vault, origin(id), [tenant], async (tx) => {
    if (recheck) {
      const rows = await tx`
        UPDATE leases SET state = 'checking', recheck = false, claim = NULL, attempts = 0, last_error = NULL,
               idempotency_key = NULL, due_at = bulla.now() + make_interval(secs => ${RECHECK_SECONDS})
        WHERE tenant_id = ${tenant} AND lease_id = ${id} AND claim = ${claim} AND state <> 'ended'`;
      return { value: rows.count > 0, records: [] };
    }
    const rows = await tx`
      UPDATE leases SET state = 'ended', ended_at = bulla.now(), claim = NULL, attempts = 0, last_error = NULL,
             due_at = bulla.now() + make_interval(hours => ${KEPT_HOURS})
      WHERE tenant_id = ${tenant} AND lease_id = ${id} AND claim = ${claim} AND state <> 'ended'`;
    await tx`
      DELETE FROM lease_credentials WHERE tenant_id = ${tenant} AND lease_id = ${id}
        AND EXISTS (SELECT 1 FROM leases l WHERE l.tenant_id = ${tenant} AND l.lease_id = ${id} AND l.ended_at IS NOT NULL)`;
    return { value: rows.count > 0, records: rows.count > 0 ? [endRecord(claimed, 'ok')] : [] };
  });
  killpoint('lease.ended');
  if (attempts > 0 && ended) vault.log.info({ lease: id, path: claimed.path, attempts }, 'a stuck lease has ended');
  return recheck ? 'checking' : 'ended';
}

/** The action says why it ended: `lease.expire` by its time, `lease.end` by anything else, which `reason` names. */
function endRecord(
  lease: { tenant: TenantId; id: string; path: string; handle: string; holder: string; reason: string },
  outcome: 'ok' | 'error',
): LogRecord {
  const { tenant, id, path, handle, holder, reason } = lease;
  const action = reason === 'expired' ? 'lease.expire' : 'lease.end';
  const details = { handle, holder, reason };
  return { tenant, actor: VAULT_ACTOR, action, resource: `lease:${path}`, lease: id, outcome, details };
}

/**
 * The lease is due again, later each time up to a minute. When the target did not answer at all, so are all others that
 * were due there, without being tried: each shows why it waits. The log of the tenant hears of the first failure and of
 * those that make it stuck, not of every try.
 */
async function failed(vault: Vault, at: Connected, claimed: Claimed, error: VaultError): Promise<void> {
  const { tenant, id, claim, path } = claimed;
  const attempts = claimed.attempts + 1;
  const waitSeconds = Math.min(RETRY_SECONDS_MAX, 2 ** Math.min(attempts, 6));
  const alone = effectOf(error) === 'refused';
  await withoutToken(vault, origin(id), [tenant], async (tx) => {
    const rows = await tx`
      UPDATE leases SET claim = NULL, attempts = ${attempts}, last_error = ${error.message},
             due_at = bulla.now() + make_interval(secs => ${waitSeconds} * (0.5 + random() / 2))
      WHERE tenant_id = ${tenant} AND lease_id = ${id} AND claim = ${claim} AND state <> 'ended'`;
    if (!alone) await markOthers(tx, at, error.message);
    const tell = rows.count > 0 && (attempts === 1 || attempts === LIMITS.stuckAttempts);
    return { value: undefined, records: tell ? [{ ...endRecord(claimed, 'error'), code: error.code }] : [] };
  });
  vault.log.warn(
    { lease: id, path, attempts, reason: error.message },
    'a lease could not be revoked; it is tried again',
  );
  wakeSweeper(vault, waitSeconds * 1000);
}

async function markOthers(tx: Tx, { tenant, id }: Connected, error: string): Promise<void> {
  await tx`
    WITH due AS MATERIALIZED (
      SELECT lease_id FROM leases
      WHERE tenant_id = ${tenant} AND backend_id = ${id} AND kind = 'credential' AND state IN ('revoking', 'checking')
        AND due_at <= (SELECT bulla.now()) AND claim IS NULL ORDER BY due_at LIMIT ${TOLD_AT_ONCE} FOR UPDATE SKIP LOCKED
    )
    UPDATE leases l SET attempts = attempts + 1, last_error = ${error},
           due_at = bulla.now() + make_interval(secs => least(${RETRY_SECONDS_MAX}, power(2, least(attempts + 1, 6))) * (0.5 + random() / 2))
    FROM due WHERE l.tenant_id = ${tenant} AND l.lease_id = due.lease_id`;
}

/** A target that answers again: whatever waited for it is due now. */
export async function reviveDue(vault: Vault, { tenant, id }: Connected): Promise<void> {
  if (isFailing(vault, tenant, id)) return;
  await transaction(
    vault.db,
    [tenant],
    (tx) => tx`
      UPDATE leases SET due_at = bulla.now() WHERE tenant_id = ${tenant} AND backend_id = ${id}
        AND kind = 'credential' AND state IN ('revoking', 'checking') AND attempts > 0 AND claim IS NULL`,
  );
}

// ---- access leases ------------------------------------------------------------------------------------------------

type AccessRow = { id: string; path: string; handle: string; holder: string; reason: string };

/**
 * Ends access leases that the condition names: their tokens open nothing any more, in the same commit. Gives the entries
 * that are to be written.
 */
export async function endAccess(tx: Tx, tenant: TenantId, which: Fragment, limit: number): Promise<LogRecord[]> {
  const rows = await tx<AccessRow[]>`
    WITH due AS MATERIALIZED (
      SELECT lease_id FROM leases WHERE tenant_id = ${tenant} AND kind <> 'credential' AND state <> 'ended' AND ${which}
      ORDER BY due_at LIMIT ${limit} FOR UPDATE SKIP LOCKED
    )
    UPDATE leases l SET state = 'ended', ended_at = bulla.now(), claim = NULL,
           reason = coalesce(l.reason, CASE WHEN l.expires_at <= bulla.now() THEN 'expired' ELSE 'token' END),
           due_at = bulla.now() + make_interval(hours => ${KEPT_HOURS})
    FROM due WHERE l.tenant_id = ${tenant} AND l.lease_id = due.lease_id
    RETURNING l.lease_id AS id, l.path, l.handle, l.holder, l.reason`;
  if (rows.length > 0) {
    await endTokens(
      tx,
      tenant,
      rows.map((row) => row.handle),
    );
    await tx`DELETE FROM lease_credentials WHERE tenant_id = ${tenant} AND lease_id = ANY (${rows.map((row) => row.id)})`;
  }
  return rows.map((row) => endRecord({ tenant, ...row }, 'ok'));
}

/** Ends up to `limit` access leases of a tenant that are due. Gives how many. */
export async function endDueAccess(
  vault: Vault,
  tenant: TenantId,
  limit: number,
  upTo: Timestamp,
  latched: boolean,
): Promise<number> {
  return withoutToken(vault, origin(`sweep-${randomId()}`), [tenant], async (tx) => {
    await prolongDue(tx, tenant, tx`kind = 'access'`, limit);
    const which = latched
      ? tx`kind = 'access' AND due_at <= ${upTo}::timestamptz AND state = 'revoking'`
      : tx`kind = 'access' AND due_at <= ${upTo}::timestamptz AND ${hasEnded(tx)}`;
    const records = await endAccess(tx, tenant, which, limit);
    return { value: records.length, records };
  });
}

/** Removes what is known of leases that ended long ago. */
export async function removeEnded(vault: Vault, tenant: TenantId, limit: number): Promise<number> {
  return transaction(vault.db, [tenant], async (tx) => {
    const rows = await tx<{ kind: string; handle: string }[]>`
      WITH gone AS MATERIALIZED (
        SELECT lease_id FROM leases WHERE tenant_id = ${tenant} AND state = 'ended' AND due_at <= (SELECT bulla.now())
        ORDER BY due_at LIMIT ${limit} FOR UPDATE SKIP LOCKED
      )
      DELETE FROM leases l USING gone WHERE l.tenant_id = ${tenant} AND l.lease_id = gone.lease_id
      RETURNING l.kind, l.handle`;
    await deleteTokens(
      tx,
      tenant,
      rows.filter((row) => row.kind === 'access').map((row) => row.handle),
    );
    return rows.length;
  });
}
