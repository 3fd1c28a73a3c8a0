/**
 * Leases as their holders and administrators see them: read, listed, revoked; renew.ts renews them. Owns the table
 * leases together with the other files of this folder.
 *
 * A lease is a row, never a timer. It says what exists outside before that exists (issue.ts) and is ended only when that
 * is gone (end.ts). Whoever took a lease may keep it and give it back with the token that took it, whatever policies say
 * since; everybody else needs a policy for the lease's path.
 */
import { endTokens } from '../auth/issue.ts';
import { LIMITS } from '../config.ts';
import { type Fragment, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { notOurs, type Page, type PageAsk, pageOf, parsePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Ask, Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { type Act, type Note, type Permit, permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { wantRotation } from './account-rotation.ts';
import { endNow, KEPT_HOURS } from './end.ts';
import { isStuck } from './summary.ts';
import { notifySweepers } from './wake.ts';

export type LeaseState = 'pending' | 'active' | 'revoking' | 'checking' | 'ended';

export type LeaseInfo = {
  readonly id: string;
  readonly kind: 'credential' | 'account' | 'access';
  /** `backend/role`, `backend/account`, or the secret's. */
  readonly path: string;
  readonly state: LeaseState;
  /** Its revocation has failed several times and is tried for ever. */
  readonly stuck: boolean;
  readonly reason: string | null;
  readonly holder: string;
  /** What it is called at the target: a user name there; of access to a secret, the accessor of its token. */
  readonly handle: string;
  /** The accessor of the token that took it. */
  readonly tokenAccessor: string;
  readonly issuedAt: Timestamp;
  readonly expiresAt: Timestamp;
  /** From now to its end. */
  readonly ttlSeconds: number;
  readonly maxExpiresAt: Timestamp;
  readonly renewals: number;
  readonly renewedAt: Timestamp | null;
  readonly renewable: boolean;
  readonly endedAt: Timestamp | null;
  readonly attempts: number;
  readonly lastError: string | null;
};

export const LEASE_COLUMNS = `
  lease_id AS id, CASE WHEN account_id IS NULL THEN kind ELSE 'account' END AS kind, path, state,
  attempts >= ${LIMITS.stuckAttempts} AND state <> 'ended' AS stuck, reason, holder,
  handle, token_id AS "tokenAccessor", issued_at AS "issuedAt", expires_at AS "expiresAt",
  greatest(0, floor(extract(epoch FROM expires_at - bulla.now())))::int AS "ttlSeconds",
  max_expires_at AS "maxExpiresAt", renewals, renewed_at AS "renewedAt",
  state = 'active' AND renewable AND expires_at < max_expires_at AS renewable, ended_at AS "endedAt", attempts,
  last_error AS "lastError"`;

export type LeaseFilter = PageAsk & {
  readonly state?: LeaseState | 'stuck' | undefined;
  /** Of the path, by whole segments. */
  readonly prefix?: string | undefined;
  readonly holder?: string | undefined;
  readonly accessor?: string | undefined;
};

// ---- what may be done to one --------------------------------------------------------------------------------------

/** What a decision on a lease needs: none of it is told to whoever may not see the lease. */
type Found = {
  readonly path: string;
  readonly tokenId: string;
  /** The token that took it has not what `default` gives. */
  readonly withoutDefault: boolean;
};

/**
 * The ask for an act on a lease. The row is read before the decision, as the name of a tenant is, because it says which
 * resource the act is about; of what is not there, the question is whether the caller may do this to any.
 */
async function askFor(vault: Vault, call: Call, action: Action, id: string): Promise<Ask> {
  const nowhere: Ask = { action, resource: 'lease:', anywhere: true };
  if (!call.token || !/^[a-z2-7]{16}$/.test(id)) return nowhere;
  const { tenantId, tokenId } = call.token;
  const [row] = await transaction(
    vault.db,
    [tenantId as TenantId],
    (tx) => tx<Found[]>`
      SELECT path, token_id AS "tokenId", EXISTS (
               SELECT 1 FROM tokens t
               WHERE t.tenant_id = leases.tenant_id AND t.token_id = leases.token_id AND t.without_default) AS "withoutDefault"
      FROM leases WHERE tenant_id = ${tenantId} AND lease_id = ${id}`,
  );
  if (!row) return nowhere;
  const resource = `lease:${row.path}`;
  // The gate proves the token; if it is that which took the lease, the lease is its holder's.
  return { action: row.tokenId === tokenId && !row.withoutDefault ? 'auth.lease' : action, resource };
}

/**
 * Runs an act on one lease. The entry is that of the action, whoever's right it was. What the caller may not see, does
 * not exist for him.
 */
export async function onLease<T>(
  vault: Vault,
  call: Call,
  action: Action,
  id: string,
  act: (tx: Tx, granted: Permit) => Promise<Act<T>>,
): Promise<T> {
  const ask = await askFor(vault, call, action, id);
  return permit(vault, call, ask, async (tx, granted) => {
    if (ask.anywhere) throw noLease();
    const done = await act(tx, granted);
    const notes = (done.notes ?? [{}]).map((note): Note => ({ action, lease: id, ...note }));
    return { ...done, notes };
  });
}

export const noLease = () => new VaultError('not_found', 'There is no such lease.');

export async function readLease(vault: Vault, call: Call, id: string): Promise<LeaseInfo> {
  return onLease(vault, call, 'lease.read', id, async (tx, { tenant }) => ({ value: await leaseOf(tx, tenant, id) }));
}

/** Throws `not_found`. */
export async function leaseOf(tx: Tx, tenant: TenantId, id: string): Promise<LeaseInfo> {
  const [row] = await tx<LeaseInfo[]>`
    SELECT ${tx.unsafe(LEASE_COLUMNS)} FROM leases WHERE tenant_id = ${tenant} AND lease_id = ${id}`;
  if (!row) throw noLease();
  return row;
}

// ---- lists --------------------------------------------------------------------------------------------------------

/** In the order in which they were taken. */
export async function listLeases(vault: Vault, call: Call, filter: LeaseFilter): Promise<Page<LeaseInfo>> {
  const wanted = { action: 'lease.list', resource: 'lease:', anywhere: true } as const;
  const { limit, after } = parsePage(filter);
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => {
    const seen: LeaseInfo[] = [];
    for (let from = after; ; ) {
      const rows = await readChunk(tx, tenant, filter, from, limit + 1);
      seen.push(...rows.filter((lease) => allows({ action: 'lease.list', resource: `lease:${lease.path}` })));
      if (seen.length > limit || rows.length <= limit) break;
      from = keyOf(rows.at(-1)!);
    }
    return { value: pageOf(seen, limit, keyOf) };
  });
}

const keyOf = (lease: LeaseInfo) => `${lease.issuedAt}/${lease.id}`;

function readChunk(tx: Tx, tenant: TenantId, filter: LeaseFilter, after: string, rows: number): Promise<LeaseInfo[]> {
  const { state, prefix, holder, accessor } = filter;
  const [time = '', id = ''] = after.split('/');
  if (after !== '' && !/^\d{4}-[\d:T.-]+Z$/.test(time)) throw notOurs();
  const inState = state === 'stuck' ? tx`AND ${isStuck(tx)}` : tx`AND state = ${state ?? ''}`;
  return tx<LeaseInfo[]>`
    SELECT ${tx.unsafe(LEASE_COLUMNS)} FROM leases
    WHERE tenant_id = ${tenant} ${after === '' ? tx`` : tx`AND (issued_at, lease_id) > (${time}::timestamptz, ${id})`}
      ${state === undefined ? tx`` : inState}
      ${prefix ? tx`AND (path = ${prefix} OR starts_with(path, ${`${prefix}/`}))` : tx``}
      ${holder === undefined ? tx`` : tx`AND holder = ${holder}`}
      ${accessor === undefined ? tx`` : tx`AND token_id = ${accessor}`}
    ORDER BY issued_at, lease_id LIMIT ${rows}`;
}

// ---- revoking -----------------------------------------------------------------------------------------------------

/** How long a revocation is awaited before the answer says that it goes on. */
const AWAITED_MS = 10_000;

/**
 * Ends a lease. The decision is durable before the target is asked; the answer says whether the credential is gone
 * (`ended`) or still being revoked, which goes on until it is. Again, it changes nothing.
 */
export async function revokeLease(vault: Vault, call: Call, id: string): Promise<LeaseInfo> {
  const { tenant, lease } = await onLease(vault, call, 'lease.revoke', id, async (tx, granted) => {
    const { tokens } = await condemnLeases(tx, granted.tenant, tx`lease_id = ${id}`, 'revoked');
    return { value: { tenant: granted.tenant, lease: await leaseOf(tx, granted.tenant, id) }, revokes: tokens };
  });
  killpoint('lease.condemned');
  if (lease.state !== 'revoking') return lease;
  await endNow(vault, tenant, id, AWAITED_MS);
  return transaction(vault.db, [tenant], (tx) => leaseOf(tx, tenant, id));
}

/**
 * Makes leases due now, and wakes the sweepers. One that is still being issued is marked, and revoked by whoever issues
 * it. Gives how many there were, and whether tokens were among them, which the gate must decide about again.
 */
export async function condemnLeases(
  tx: Tx,
  tenant: TenantId,
  which: Fragment,
  reason: string,
  limit = 10_000,
): Promise<{ readonly count: number; readonly tokens: boolean }> {
  const rows = await tx<{ kind: string; handle: string }[]>`
    WITH chosen AS MATERIALIZED (
      SELECT lease_id FROM leases WHERE tenant_id = ${tenant} AND (${which})
        AND (state = 'active' OR state = 'pending' AND reason IS NULL) ORDER BY lease_id LIMIT ${limit} FOR UPDATE
    )
    UPDATE leases l SET reason = ${reason}, state = CASE l.state WHEN 'active' THEN 'revoking' ELSE l.state END,
           due_at = CASE l.state WHEN 'active' THEN bulla.now() ELSE l.due_at END
    FROM chosen WHERE l.tenant_id = ${tenant} AND l.lease_id = chosen.lease_id RETURNING l.kind, l.handle`;
  const tokens = rows.filter((row) => row.kind === 'access').map((row) => row.handle);
  // A token is nothing outside: it opens nothing from this commit on, whenever its lease is recorded as ended.
  if (tokens.length > 0) await endTokens(tx, tenant, tokens);
  if (rows.count > 0) await notifySweepers(tx);
  return { count: rows.count, tokens: tokens.length > 0 };
}

/** Which leases to revoke: exactly one of these. */
export type Selection = {
  /** Of the path, by whole segments. */
  readonly prefix?: string | undefined;
  /** `backend/role`. */
  readonly role?: string | undefined;
  readonly holder?: string | undefined;
  /** The accessor of the token that took them. */
  readonly accessor?: string | undefined;
  /** Every lease of the tenant. */
  readonly all?: true | undefined;
};

const SELECTED_AT_ONCE = 5_000;
const NONE = { count: 0, tokens: false };

/**
 * Condemns every lease that the selection names and the caller may revoke. All are due when this returns; sweepers end
 * them, and each end is an entry of its own.
 */
export async function revokeLeases(vault: Vault, call: Call, selection: Selection): Promise<{ condemned: number }> {
  const given = Object.entries(selection).filter(([, value]) => value !== undefined);
  if (given.length !== 1) {
    throw new VaultError('invalid_request', 'Give exactly one of prefix, role, holder, accessor and all.');
  }
  const [by, named] = given[0] as [keyof Selection, string | true];
  const details = { by, ...(named === true ? {} : { named }) };
  const wanted = { action: 'lease.revoke', resource: 'lease:', anywhere: true } as const;
  let condemned = 0;
  for (;;) {
    const count = await permit(vault, call, wanted, async (tx, { tenant, allows }) => {
      const paths = await tx<{ path: string }[]>`
        SELECT DISTINCT path FROM leases
        WHERE tenant_id = ${tenant} AND state IN ('pending', 'active') AND reason IS NULL AND ${selected(tx, by, named)}`;
      const mine = paths
        .map((row) => row.path)
        .filter((path) => allows({ action: 'lease.revoke', resource: `lease:${path}` }));
      const which = tx`path = ANY (${mine}) AND ${selected(tx, by, named)}`;
      const { count: value, tokens } =
        mine.length === 0 ? NONE : await condemnLeases(tx, tenant, which, 'revoked', SELECTED_AT_ONCE);
      return { value, notes: [{ details: { ...details, condemned: value } }], revokes: tokens };
    });
    condemned += count;
    if (count < SELECTED_AT_ONCE) return { condemned };
  }
}

/**
 * `path <> ''` is of the index of paths, which has what has not ended (sql/0034_lookups.sql), and `<> 'access'` keeps the planner
 * from that of what is due, which is of credentials.
 */
function selected(tx: Tx, by: keyof Selection, named: string | true) {
  switch (by) {
    case 'prefix':
      return tx`path <> '' AND (path = ${named as string} OR starts_with(path, ${`${named}/`}))`;
    case 'role':
      return tx`path <> '' AND path = ${named as string} AND kind <> 'access' AND account_id IS NULL`;
    case 'holder':
      return tx`path <> '' AND holder = ${named as string}`;
    case 'accessor':
      return tx`token_id = ${named as string}`;
    default:
      return tx`path <> ''`;
  }
}

/**
 * Drops a lease whose target will never answer again. Nothing ends the credential: the answer, the log of the vault and
 * that of the tenant say what may still live outside.
 */
export async function forceLease(
  vault: Vault,
  call: Call,
  id: string,
): Promise<LeaseInfo & { readonly warning: string }> {
  const ask = await askFor(vault, call, 'lease.force', id);
  // The holder alone cannot: it takes somebody who answers for the target.
  const wanted = ask.action === 'auth.lease' ? { ...ask, action: 'lease.force' as const } : ask;
  const dropped = await permit(vault, call, wanted, async (tx, { tenant }) => {
    if (wanted.anywhere) throw noLease();
    const [lease] = await tx<LeaseInfo[]>`
      UPDATE leases SET state = 'ended', reason = 'forced', ended_at = bulla.now(), claim = NULL, idempotency_key = NULL,
             due_at = bulla.now() + make_interval(hours => ${KEPT_HOURS})
      WHERE tenant_id = ${tenant} AND lease_id = ${id} AND state <> 'ended' RETURNING ${tx.unsafe(LEASE_COLUMNS)}`;
    if (!lease) throw new VaultError('conflict', 'The lease has ended already.');
    await tx`DELETE FROM lease_credentials WHERE tenant_id = ${tenant} AND lease_id = ${id}`;
    // Its holder may go on knowing the password: nobody else gets it before it is changed.
    if (lease.kind === 'account') await wantRotation(tx, tenant, id);
    if (lease.kind === 'access') await endTokens(tx, tenant, [lease.handle]);
    const details = { forced: true, may_still_work: lease.handle };
    return { value: lease, notes: [{ lease: id, details }], revokes: lease.kind === 'access' };
  });
  vault.log.warn(
    { lease: id, path: dropped.path, handle: dropped.handle },
    'a lease was dropped by force: its credential may still work until somebody removes it at the target',
  );
  const warning = `${dropped.handle} may still work at ${dropped.path.split('/')[0]}: nothing was revoked there, and nothing will be. Remove it by hand.`;
  return { ...dropped, warning };
}
