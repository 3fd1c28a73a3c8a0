/**
 * Static accounts: accounts that are at a target already, whose password the vault knows and changes. Owns the table
 * static_accounts together with the other files of this folder that begin with `account`.
 *
 * Here is what is seen of them, never with a password. They are made and changed in account-put.ts, rotated in
 * account-rotation.ts, and used in check-out.ts.
 */
import { LIMITS } from '../config.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import type { AllowedRoles } from './allowed-role.ts';
import type { Accounts } from './backend.ts';
import type { Times } from './lifetime.ts';
import type { Connected } from './pool.ts';

export type AccountInfo = Times & {
  readonly name: string;
  readonly backend: string;
  /** As the target writes it. */
  readonly username: string;
  /** `rotating`: it may have either of two passwords until a login proves one. `stuck`: that has failed several times. */
  readonly state: 'active' | 'rotating' | 'stuck';
  readonly periodSeconds: number | null;
  readonly endSessions: boolean;
  readonly rotatedAt: Timestamp | null;
  readonly nextRotationAt: Timestamp | null;
  /** Until then. */
  readonly rotatesInSeconds: number | null;
  /** When the lease of whoever has checked it out ends; null when nobody has. */
  readonly heldUntil: Timestamp | null;
  readonly attempts: number;
  readonly lastError: string | null;
  readonly closing: boolean;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

const ACCOUNT_COLUMNS = `a.name, b.name AS backend, a.username,
  CASE WHEN a.unproven OR a.attempts >= ${LIMITS.stuckAttempts} THEN 'stuck' WHEN a.in_doubt THEN 'rotating' ELSE 'active' END AS state,
  a.period_seconds AS "periodSeconds", a.end_sessions AS "endSessions", a.rotated_at AS "rotatedAt",
  a.next_rotation_at AS "nextRotationAt",
  greatest(0, ceil(extract(epoch FROM a.next_rotation_at - bulla.now())))::int AS "rotatesInSeconds",
  (SELECT expires_at FROM leases l WHERE l.tenant_id = a.tenant_id AND l.account_id = a.account_id
     AND l.state <> 'ended') AS "heldUntil",
  a.attempts, a.last_error AS "lastError", a.closing OR b.closing AS closing, a.default_ttl_seconds AS "defaultTtlSeconds",
  a.max_ttl_seconds AS "maxTtlSeconds", a.created_at AS "createdAt", a.updated_at AS "updatedAt"`;

export const accountAsk = (action: Action, name: string) =>
  ({ action, resource: `account:${parseName(name, 'account')}` }) as const;

export type AccountFilter = PageAsk & { readonly state?: AccountInfo['state'] | undefined };

export async function listAccounts(vault: Vault, call: Call, filter: AccountFilter): Promise<Page<AccountInfo>> {
  const wanted = { action: 'account.read', resource: 'account:', anywhere: true } as const;
  const { state } = filter;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      filter,
      (after, rows) => tx<AccountInfo[]>`
        SELECT * FROM (SELECT ${tx.unsafe(ACCOUNT_COLUMNS)} FROM static_accounts a,
                       LATERAL (SELECT * FROM backends WHERE tenant_id = a.tenant_id AND backend_id = a.backend_id LIMIT 1) b
                       WHERE a.tenant_id = ${tenant} AND a.name > ${after} ORDER BY a.name) AS shown
        WHERE ${state === undefined ? tx`true` : tx`state = ${state}`} ORDER BY name LIMIT ${rows}`,
      (row) => row.name,
      (row) => allows(accountAsk('account.read', row.name)),
    ),
  }));
}

export async function readAccount(vault: Vault, call: Call, name: string): Promise<AccountInfo> {
  return permit(vault, call, accountAsk('account.read', name), async (tx, { tenant }) => ({
    value: await accountInfo(tx, tenant, name),
  }));
}

/** Throws `not_found`. */
export async function accountInfo(tx: Tx, tenant: TenantId, name: string): Promise<AccountInfo> {
  const [row] = await tx<AccountInfo[]>`
    SELECT ${tx.unsafe(ACCOUNT_COLUMNS)} FROM static_accounts a JOIN backends b USING (tenant_id, backend_id)
    WHERE a.tenant_id = ${tenant} AND a.name = ${name}`;
  if (!row) throw noAccount(name);
  return row;
}

export const noAccount = (name: string) => new VaultError('not_found', `There is no static account ${name}.`);

/** What acts on an account need to know. `busy`: somebody is rotating it at this moment. */
export type AccountRow = Times & {
  readonly id: string;
  readonly backendId: string;
  readonly backend: string;
  readonly backendTimes: Times;
  readonly backendRevision: number;
  readonly allowedRoles: AllowedRoles;
  readonly username: string;
  readonly keyVersion: number;
  readonly envelope: Uint8Array;
  readonly inDoubt: boolean;
  readonly wanted: boolean;
  readonly busy: boolean;
  readonly closing: boolean;
  readonly heldUntil: Timestamp | null;
};

/** `for change` locks the account until the commit, so that one at a time checks it out, rotates or changes it. */
export async function findAccount(
  tx: Tx,
  tenant: TenantId,
  name: string,
  mode: 'to read' | 'for change',
): Promise<AccountRow | undefined> {
  const [row] = await tx<
    (Omit<AccountRow, 'backendTimes'> & { backendDefault: number | null; backendMax: number | null })[]
  >`
    SELECT a.account_id AS id, a.backend_id AS "backendId", b.name AS backend, b.revision AS "backendRevision",
           b.allowed_roles AS "allowedRoles", a.username, a.key_version AS "keyVersion", a.envelope, a.in_doubt AS "inDoubt",
           a.wanted, a.claim IS NOT NULL AND a.claim_until > bulla.now() AS busy,
           a.closing OR b.closing AS closing, a.default_ttl_seconds AS "defaultTtlSeconds",
           a.max_ttl_seconds AS "maxTtlSeconds", b.default_ttl_seconds AS "backendDefault", b.max_ttl_seconds AS "backendMax",
           (SELECT expires_at FROM leases l WHERE l.tenant_id = a.tenant_id AND l.account_id = a.account_id
              AND l.state <> 'ended') AS "heldUntil"
    FROM static_accounts a JOIN backends b USING (tenant_id, backend_id)
    WHERE a.tenant_id = ${tenant} AND a.name = ${name}
    ${mode === 'for change' ? tx`FOR NO KEY UPDATE OF a FOR SHARE OF b` : tx``}`;
  if (!row) return undefined;
  const { backendDefault, backendMax, ...rest } = row;
  return { ...rest, backendTimes: { defaultTtlSeconds: backendDefault, maxTtlSeconds: backendMax } };
}

/** Throws `not_found`. */
export async function lockAccount(tx: Tx, tenant: TenantId, name: string): Promise<AccountRow> {
  const row = await findAccount(tx, tenant, name, 'for change');
  if (!row) throw noAccount(name);
  return row;
}

export const heldError = (name: string, until: Timestamp) =>
  new VaultError('conflict', `The account ${name} is checked out until ${until}, or until that lease is revoked.`, {
    details: { held_until: until },
  });

export const busyError = (name: string) =>
  new VaultError('conflict', `The password of ${name} is being changed: try again in a moment.`, {
    retryAfterSeconds: 2,
  });

/** Throws `invalid_request` for a kind of backend that has no static accounts. */
export function accountsOf({ backend, member, kind }: Connected): Accounts {
  if (backend.accounts && member.account) return backend.accounts;
  throw new VaultError('invalid_request', `backend: the kind ${kind} has no static accounts.`);
}
