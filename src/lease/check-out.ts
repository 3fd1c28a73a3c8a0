/**
 * What a static account's password is for: checked out by one holder at a time, as a lease, or read by whoever may.
 *
 * A check-out has nothing to make outside: the password is there and proven, so the lease is active in the commit that
 * takes it. Its end is account-rotation.ts's: it is ended only when the password that the holder knows opens nothing any
 * more. Reading the password gives it to nobody alone; that is for programs that share the account, and for emergencies.
 */
import { lockToken } from '../auth/issue.ts';
import { randomId } from '../crypto/token.ts';
import { RetryTransaction, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Act, type Permit, permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import {
  type AccountInfo,
  accountAsk,
  accountInfo,
  accountsOf,
  busyError,
  findAccount,
  heldError,
  lockAccount,
  noAccount,
} from './account.ts';
import { openPasswords, type Passwords } from './account-password.ts';
import { beginRotation, runRotation } from './account-rotation.ts';
import { requireAllowed } from './allowed-role.ts';
import { backendFailed, type Credential } from './backend.ts';
import {
  type CredentialLease,
  checkLimits,
  fewUses,
  keepCredential,
  type Repeat,
  repeated,
  repeatOf,
  timesOf,
} from './issue.ts';
import { LEASE_COLUMNS, type LeaseInfo } from './lease.ts';
import { checkTtl, lifetimeOf } from './lifetime.ts';
import { type Connected, connected, onTarget } from './pool.ts';
import { wakeSweeper } from './wake.ts';

export type CheckOutAsk = {
  readonly account: string;
  readonly ttlSeconds?: number | undefined;
  readonly idempotencyKey?: string | undefined;
};

/**
 * Throws `conflict` while somebody else has it, and while its password is being changed or is in doubt;
 * `too_many_requests` beyond a limit.
 */
export async function checkOut(vault: Vault, call: Call, ask: CheckOutAsk): Promise<CredentialLease> {
  checkTtl(ask.ttlSeconds);
  const repeat = repeatOf(ask.idempotencyKey, ['account', ask.account, ask.ttlSeconds]);
  const wanted = accountAsk('account.check-out', ask.account);
  const taken = await permit(vault, call, wanted, (tx, granted) => checkOutIn(vault, tx, granted, ask, repeat));
  killpoint('account.checked-out');
  wakeSweeper(vault, Date.parse(taken.expiresAt) - Date.parse(taken.issuedAt));
  return taken;
}

async function checkOutIn(
  vault: Vault,
  tx: Tx,
  granted: Permit,
  { account: name, ttlSeconds }: CheckOutAsk,
  repeat: Repeat,
): Promise<Act<CredentialLease>> {
  const { tenant, actor, userId, tokenId } = granted;
  const before = repeat && (await repeated(vault, tx, granted, repeat));
  if (before && before !== 'waiting') {
    return { value: before, notes: [{ lease: before.id, details: { repeated: true } }] };
  }
  const row = await lockAccount(tx, tenant, name);
  if (row.closing) throw new VaultError('conflict', `The account ${name} is being deleted.`);
  requireAllowed(row.allowedRoles, row.backend, name);
  if (row.heldUntil !== null) throw heldError(name, row.heldUntil);
  if (row.busy) throw busyError(name);
  if (row.inDoubt || row.wanted) {
    throw new VaultError(
      'conflict',
      `The account ${name} waits for its password to be changed: see bulla account show.`,
    );
  }
  const token = await lockToken(tx, tenant, tokenId);
  if (!token) throw new VaultError('unauthenticated', 'The token has ended: log in again.');
  if (token.usesLeft !== null) throw fewUses();
  await checkLimits(vault, tx, granted, undefined);
  const at = await connected(vault, tx, tenant, row.backendId);
  const { current } = await openPasswords(vault, tx, tenant, row.id, row);
  const credential = accountsOf(at).credentialOf(row.username, current!);
  const life = lifetimeOf(vault, ttlSeconds, [row, row.backendTimes]);
  const times = await timesOf(tx, life, token.maxExpiresAt);
  const id = randomId();
  const [lease] = await onceForKey(tx<LeaseInfo[]>`
    INSERT INTO leases (tenant_id, lease_id, kind, path, backend_id, account_id, handle, user_id, holder, token_id, state,
                        renewable, ttl_seconds, issued_at, expires_at, max_expires_at, due_at, idempotency_key, request_hash)
    VALUES (${tenant}, ${id}, 'credential', ${`${row.backend}/${name}`}, ${row.backendId}, ${row.id}, ${row.username},
            ${userId}, ${actor.name ?? userId}, ${tokenId}, 'active', true, ${life.ttlSeconds}, ${times.now},
            ${times.expiresAt}, ${times.maxExpiresAt}, least(${times.expiresAt}::timestamptz, ${token.expiresAt}::timestamptz),
            ${repeat?.key ?? null}, ${repeat?.request ?? null}) RETURNING ${tx.unsafe(LEASE_COLUMNS)}`);
  // Its end rotates it, so the schedule has nothing to do meanwhile.
  await tx`UPDATE static_accounts SET due_at = NULL WHERE tenant_id = ${tenant} AND account_id = ${row.id}`;
  await keepCredential(vault, tx, tenant, id, credential);
  const details = { username: row.username, expires_at: lease!.expiresAt };
  return { value: { ...lease!, credential }, notes: [{ lease: id, details }] };
}

/** The same request, or somebody else, was there first: from the beginning, which finds out. */
async function onceForKey<T>(query: PromiseLike<T>): Promise<T> {
  try {
    return await query;
  } catch (error) {
    throw isUniqueViolation(error) ? new RetryTransaction() : error;
  }
}

export type Revealed = { readonly account: AccountInfo; readonly credential: Credential };

/**
 * What the account is logged in with now. While a change is under way or was cut off, logins say which password that is.
 * Throws `backend_failed` when that cannot be found out.
 */
export async function revealAccount(vault: Vault, call: Call, name: string): Promise<Revealed> {
  const { at, passwords, account } = await permit(
    vault,
    call,
    accountAsk('account.reveal', name),
    async (tx, { tenant }) => {
      const row = await findAccount(tx, tenant, name, 'to read');
      if (!row) throw noAccount(name);
      requireAllowed(row.allowedRoles, row.backend, name);
      const info = await accountInfo(tx, tenant, name);
      const value = {
        at: await connected(vault, tx, tenant, row.backendId),
        passwords: await openPasswords(vault, tx, tenant, row.id, row),
        account: info,
      };
      const details = { username: row.username, state: info.state, checked_out: row.heldUntil !== null };
      return { value, notes: [{ details }] };
    },
  );
  const password = passwords.next === undefined ? passwords.current! : await provenOf(vault, at, account, passwords);
  return { account, credential: accountsOf(at).credentialOf(account.username, password) };
}

/**
 * The password of an account for the vault itself, which keeps it in a secret. With `rotate` it is a new one: the account
 * is rotated, unless that has happened since `since`. Throws `conflict` while it is checked out or being changed.
 */
export async function followAccount(
  vault: Vault,
  tenant: TenantId,
  name: string,
  { since, rotate }: { readonly since: Timestamp | null; readonly rotate: boolean },
): Promise<{ readonly credential: Credential; readonly rotatedAt: Timestamp | undefined }> {
  const look = (begin: boolean) =>
    transaction(vault.db, [tenant], async (tx) => {
      const row = await lockAccount(tx, tenant, name);
      const { rotatedAt } = await accountInfo(tx, tenant, name);
      const at = await connected(vault, tx, tenant, row.backendId);
      const isNew = rotatedAt !== null && (since === null || rotatedAt > since);
      if (begin && !isNew) {
        if (row.heldUntil !== null) throw heldError(name, row.heldUntil);
        if (row.busy) throw busyError(name);
        return { rotation: await beginRotation(vault, tx, at, row.id) };
      }
      if (row.inDoubt) throw busyError(name);
      const { current } = await openPasswords(vault, tx, tenant, row.id, row);
      return { credential: accountsOf(at).credentialOf(row.username, current!), rotatedAt: rotatedAt ?? undefined };
    });
  const first = await look(rotate);
  if (first.rotation === undefined) return first;
  await runRotation(vault, first.rotation, { reason: 'asked', awaited: 'rotating' });
  const after = await look(false);
  if (after.rotation !== undefined) throw busyError(name);
  return after;
}

async function provenOf(
  vault: Vault,
  at: Connected,
  { name, username }: AccountInfo,
  { current, next, before }: Passwords,
): Promise<string> {
  for (const password of [next, current, before]) {
    if (password === undefined) continue;
    const works = await onTarget(vault, at, vault.config.leaseActDeadlineMs, (limits) =>
      accountsOf(at).provePassword({ ...limits, username, password }),
    );
    if (works) return password;
  }
  throw backendFailed(
    `The target lets ${username} in with none of the passwords that ${name} may have: set one there, and say which with bulla account put.`,
    'refused',
  );
}
