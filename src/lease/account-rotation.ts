/**
 * The rotation of a static account's password, in two phases.
 *
 *     1  the next password joins the current one in the envelope, and the account is claimed              commit
 *     2  the target is given the next one, by the user that the backend logs in with
 *     3  a login of the account itself proves that it works
 *     4  it is the current one                                                                            commit
 *
 * A process may die between any two of these, and a target may answer nothing, half or wrongly: both passwords are kept
 * until a login has proven one of them, and the next try gives the target the same one again. Only when the target has
 * refused it and lets the current one in, or was never reached, is the next one given up. Neither proven: the account is
 * stuck, says why, and is tried for ever, less and less often, or until somebody says which password it has.
 */
import { VAULT_ACTOR } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import { randomId, randomPassword } from '../crypto/token.ts';
import { type TenantId, type Tx, transaction } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import type { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Record as LogRecord, type Permit, permit, withoutToken } from '../policy/permit.ts';
import { underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { type AccountInfo, accountAsk, accountInfo, accountsOf, busyError, heldError, lockAccount } from './account.ts';
import { openPasswords, type Passwords, sealPasswords } from './account-password.ts';
import { backendFailed, type Effect, effectOf } from './backend.ts';
import { type Connected, connected, onTarget } from './pool.ts';
import { notifySweepers, wakeSweeper } from './wake.ts';

/** An account in the hands of this node, until its claim runs out. */
export type Rotation = {
  readonly tenant: TenantId;
  readonly id: string;
  readonly name: string;
  readonly username: string;
  readonly claim: string;
  readonly at: Connected;
  readonly next: string;
  readonly current: string | undefined;
  /** Nothing of an earlier try can have reached the target. */
  readonly fresh: boolean;
  readonly attempts: number;
};

export type Reason = 'schedule' | 'asked' | 'new' | 'check-in';

type How = {
  readonly reason: Reason;
  /** Who asked for it; the vault itself when absent. */
  readonly by?: { readonly actor: Permit['actor']; readonly call: Call } | undefined;
  /** The lease at whose end it is: that lease's own tries repeat it, not the schedule's. */
  readonly lease?: string | undefined;
  /** Somebody waits for it, and is told what failed. `making`: of an account that was never there, nothing is kept. */
  readonly awaited?: 'making' | 'rotating' | undefined;
};

/** Longer than the acts of a rotation may take together. */
const CLAIM_SECONDS = 120;
const RETRY_SECONDS_MAX = 60;
/** Each try is a login that fails, and targets lock accounts for that. */
const UNPROVEN_RETRY_SECONDS_MAX = 600;

const origin = (id: string) => ({ requestId: `account-${id}`, source: '', protocol: 'vault' });

// ---- phase one ----------------------------------------------------------------------------------------------------

/** Claims an account that nobody has claimed, and puts the next password beside the current one. The caller has its lock. */
export async function beginRotation(vault: Vault, tx: Tx, at: Connected, id: string): Promise<Rotation> {
  const { tenant } = at;
  const [row] = await tx<
    { name: string; username: string; keyVersion: number; envelope: Uint8Array; attempts: number }[]
  >`
    SELECT name, username, key_version AS "keyVersion", envelope, attempts FROM static_accounts
    WHERE tenant_id = ${tenant} AND account_id = ${id}`;
  const { name, username, attempts } = row!;
  const passwords = await openPasswords(vault, tx, tenant, id, row!);
  const fresh = passwords.next === undefined;
  const next = passwords.next ?? randomPassword();
  const claim = randomId();
  const { keyVersion, envelope } = await sealPasswords(vault, tx, tenant, id, { ...passwords, next });
  await underActiveKey(tx`
    WITH clock AS MATERIALIZED (SELECT bulla.now() + make_interval(secs => ${CLAIM_SECONDS}) AS until)
    UPDATE static_accounts SET key_version = ${keyVersion}, envelope = ${envelope}, in_doubt = true, claim = ${claim},
           claim_until = until, due_at = until
    FROM clock WHERE tenant_id = ${tenant} AND account_id = ${id}`);
  return { tenant, id, name, username, claim, at, next, current: passwords.current, fresh, attempts };
}

// ---- phase two ----------------------------------------------------------------------------------------------------

type Outcome = {
  /** What became of giving the target the next password. */
  readonly given: 'done' | Effect;
  /** Which password a login has proven; undefined: none could be tried. */
  readonly proven: 'next' | 'current' | 'neither' | undefined;
  readonly error: VaultError | undefined;
};

/** Gives the target the next password and records what came of it. Whether the account has it now. */
export async function runRotation(vault: Vault, rotation: Rotation, how: How): Promise<boolean> {
  killpoint('account.proposed');
  const outcome = await giveAndProve(vault, rotation);
  killpoint('account.proven');
  if (outcome.proven === 'next') {
    const kept = await succeed(vault, rotation, how);
    killpoint('account.rotated');
    if (!kept && how.awaited) throw busyError(rotation.name);
    return kept;
  }
  const error = outcome.error ?? notProven(outcome.proven);
  const isNothing = how.awaited === 'making' && rotation.fresh && isUntouched(outcome);
  if (isNothing) await forget(vault, rotation, error, how);
  else await fail(vault, rotation, outcome, error, how);
  if (how.awaited === 'rotating' || isNothing) throw error;
  return false;
}

const isUntouched = ({ given }: Outcome) => given === 'refused' || given === 'unreached';

function notProven(proven: Outcome['proven']): VaultError {
  const what =
    proven === 'current'
      ? 'The target took the new password, and still lets the old one in.'
      : 'The target took the new password, and lets the account in neither with it nor with the old one.';
  return backendFailed(what, 'unknown');
}

async function giveAndProve(vault: Vault, { at, username, next, current }: Rotation): Promise<Outcome> {
  const accounts = accountsOf(at);
  const { leaseActDeadlineMs } = vault.config;
  const lets = (password: string) =>
    onTarget(vault, at, leaseActDeadlineMs, (limits) => accounts.provePassword({ ...limits, username, password }));
  let given: Outcome['given'] = 'done';
  let error: VaultError | undefined;
  try {
    await onTarget(vault, at, leaseActDeadlineMs, (limits) =>
      accounts.setPassword({ ...limits, username, password: next }),
    );
    killpoint('account.changed');
  } catch (failure) {
    given = effectOf(failure);
    error = failure as VaultError;
    // A target that does not answer is not asked twice more.
    if (given !== 'refused') return { given, proven: undefined, error };
  }
  try {
    if (await lets(next)) return { given, proven: 'next', error };
    const proven = current !== undefined && (await lets(current)) ? 'current' : 'neither';
    return { given, proven, error };
  } catch (failure) {
    return { given, proven: undefined, error: error ?? (failure as VaultError) };
  }
}

// ---- what is recorded ---------------------------------------------------------------------------------------------

function record(rotation: Rotation, { reason, by, lease }: How): Omit<LogRecord, 'outcome'> {
  const { tenant, name, username } = rotation;
  const said = { tenant, actor: by?.actor ?? VAULT_ACTOR, action: 'account.rotate', resource: `account:${name}` };
  return { ...said, ...(lease === undefined ? {} : { lease }), details: { username, reason } };
}

/** The row as it is now: a re-encryption may have moved it. Undefined: the claim is another's, or the account gone. */
async function claimed(vault: Vault, tx: Tx, { tenant, id, claim }: Rotation): Promise<Passwords | undefined> {
  const [row] = await tx<{ keyVersion: number; envelope: Uint8Array }[]>`
    SELECT key_version AS "keyVersion", envelope FROM static_accounts
    WHERE tenant_id = ${tenant} AND account_id = ${id} AND claim = ${claim} FOR NO KEY UPDATE`;
  return row && openPasswords(vault, tx, tenant, id, row);
}

async function succeed(vault: Vault, rotation: Rotation, how: How): Promise<boolean> {
  const { tenant, id, next } = rotation;
  return withoutToken(vault, how.by?.call ?? origin(id), [tenant], async (tx) => {
    const passwords = await claimed(vault, tx, rotation);
    if (passwords?.next !== next) return { value: false, records: [] };
    const before = passwords.current === undefined ? {} : { before: passwords.current };
    const { keyVersion, envelope } = await sealPasswords(vault, tx, tenant, id, { current: next, ...before });
    await underActiveKey(tx`
      WITH clock AS MATERIALIZED (SELECT bulla.now() AS now)
      UPDATE static_accounts SET key_version = ${keyVersion}, envelope = ${envelope}, in_doubt = false, unproven = false,
             wanted = false, claim = NULL, claim_until = NULL, attempts = 0, last_error = NULL, rotated_at = now,
             rotated_for = ${how.lease ?? null}, next_rotation_at = now + make_interval(secs => period_seconds),
             due_at = now + make_interval(secs => period_seconds)
      FROM clock WHERE tenant_id = ${tenant} AND account_id = ${id}`);
    return { value: true, records: [{ ...record(rotation, how), outcome: 'ok' }] };
  });
}

/** The next password is kept, unless the target has refused it and lets the current one in, or was never reached. */
async function fail(vault: Vault, rotation: Rotation, outcome: Outcome, error: VaultError, how: How): Promise<void> {
  const { tenant, id, next, current, fresh } = rotation;
  const attempts = rotation.attempts + 1;
  const isUnproven = outcome.proven === 'neither';
  const neverReached = outcome.given === 'unreached' && fresh && current !== undefined;
  const refused = outcome.given === 'refused' && outcome.proven === 'current';
  const most = isUnproven ? UNPROVEN_RETRY_SECONDS_MAX : RETRY_SECONDS_MAX;
  const waitSeconds = Math.min(most, 2 ** Math.min(attempts, 10));
  await withoutToken(vault, how.by?.call ?? origin(id), [tenant], async (tx) => {
    const passwords = await claimed(vault, tx, rotation);
    if (passwords === undefined) return { value: undefined, records: [] };
    if (neverReached || refused) {
      const { next: _, ...kept } = passwords;
      // An earlier try may still arrive with it.
      const settled = fresh ? kept : { ...kept, before: next };
      const { keyVersion, envelope } = await sealPasswords(vault, tx, tenant, id, settled);
      await underActiveKey(tx`
        UPDATE static_accounts SET key_version = ${keyVersion}, envelope = ${envelope}, in_doubt = false
        WHERE tenant_id = ${tenant} AND account_id = ${id}`);
    }
    await tx`
      UPDATE static_accounts SET claim = NULL, claim_until = NULL, attempts = ${attempts}, last_error = ${error.message},
             unproven = CASE WHEN ${outcome.proven === undefined} THEN unproven ELSE ${isUnproven} END,
             due_at = CASE WHEN ${how.lease !== undefined} AND NOT wanted THEN NULL
                           ELSE bulla.now() + make_interval(secs => ${waitSeconds} * (0.5 + random() / 2)) END
      WHERE tenant_id = ${tenant} AND account_id = ${id}`;
    const tell = attempts === 1 || attempts === LIMITS.stuckAttempts || how.awaited !== undefined;
    return {
      value: undefined,
      records: tell ? [{ ...record(rotation, how), outcome: 'error', code: error.code }] : [],
    };
  });
  vault.log.warn(
    { account: rotation.name, attempts, reason: error.message },
    'the password of a static account could not be rotated; it is tried again',
  );
  wakeSweeper(vault, waitSeconds * 1000);
}

/** The target has never had a password of ours for it. */
async function forget(vault: Vault, rotation: Rotation, error: VaultError, how: How): Promise<void> {
  const { tenant, id, claim } = rotation;
  await withoutToken(vault, how.by?.call ?? origin(id), [tenant], async (tx) => {
    await tx`DELETE FROM static_accounts WHERE tenant_id = ${tenant} AND account_id = ${id} AND claim = ${claim}`;
    return { value: undefined, records: [{ ...record(rotation, how), outcome: 'error', code: error.code }] };
  });
}

// ---- who rotates --------------------------------------------------------------------------------------------------

/** Rotates an account now. Throws `conflict` while it is checked out, and what the target says; it is then tried again. */
export async function rotateAccount(vault: Vault, call: Call, name: string): Promise<AccountInfo> {
  const { rotation, actor } = await permit(vault, call, accountAsk('account.rotate', name), async (tx, granted) => {
    const { tenant } = granted;
    const row = await lockAccount(tx, tenant, name);
    if (row.heldUntil !== null) throw heldError(name, row.heldUntil);
    if (row.busy) throw busyError(name);
    const at = await connected(vault, tx, tenant, row.backendId);
    const begun = await beginRotation(vault, tx, at, row.id);
    return { value: { rotation: begun, actor: granted.actor }, notes: [{ details: { begun: true } }] };
  });
  await runRotation(vault, rotation, { reason: 'asked', by: { actor, call }, awaited: 'rotating' });
  const { tenant } = rotation;
  return transaction(vault.db, [tenant], (tx) => accountInfo(tx, tenant, name));
}

/** Rotates an account that is due, unless somebody else does, holds it, or has done it. */
export async function rotateDue(vault: Vault, tenant: TenantId, id: string): Promise<void> {
  const begun = await transaction(vault.db, [tenant], async (tx) => {
    const [row] = await tx<{ backendId: string; reason: Reason; held: boolean }[]>`
      SELECT backend_id AS "backendId", CASE WHEN wanted THEN 'asked' ELSE 'schedule' END AS reason,
             EXISTS (SELECT 1 FROM leases l WHERE l.tenant_id = a.tenant_id AND l.account_id = a.account_id
                       AND l.state <> 'ended') AS held
      FROM static_accounts a
      WHERE tenant_id = ${tenant} AND account_id = ${id} AND due_at <= bulla.now() AND NOT closing
        AND (claim IS NULL OR claim_until <= bulla.now()) FOR NO KEY UPDATE SKIP LOCKED`;
    if (!row) return undefined;
    if (row.held) {
      await tx`
        UPDATE static_accounts SET due_at = bulla.now() + make_interval(secs => ${RETRY_SECONDS_MAX})
        WHERE tenant_id = ${tenant} AND account_id = ${id}`;
      return undefined;
    }
    const at = await connected(vault, tx, tenant, row.backendId);
    return { rotation: await beginRotation(vault, tx, at, id), reason: row.reason };
  });
  if (begun) await runRotation(vault, begun.rotation, { reason: begun.reason });
}

/** Before anybody else checks the account of a lease out, and as soon as its target takes it. */
export async function wantRotation(tx: Tx, tenant: TenantId, lease: string): Promise<void> {
  await tx`
    UPDATE static_accounts SET wanted = true, due_at = bulla.now()
    WHERE tenant_id = ${tenant} AND account_id = (
      SELECT account_id FROM leases WHERE tenant_id = ${tenant} AND lease_id = ${lease})`;
  await notifySweepers(tx);
}

/** What does not open must not be looked at again and again: it waits, and says why. */
export async function quarantineAccount(vault: Vault, tenant: TenantId, id: string, why: string): Promise<void> {
  await transaction(
    vault.db,
    [tenant],
    (tx) => tx`
      UPDATE static_accounts SET attempts = attempts + 1, last_error = ${why},
             due_at = bulla.now() + make_interval(secs => ${RETRY_SECONDS_MAX} * (0.5 + random() / 2))
      WHERE tenant_id = ${tenant} AND account_id = ${id} AND due_at <= bulla.now()`,
  );
}

/**
 * The end of a check-out: the password is changed, then whoever is logged in is logged out. Again after a failure, it
 * goes on where it was. Throws what the lease then shows as its last error.
 */
export async function checkIn(vault: Vault, at: Connected, lease: string, account: string): Promise<void> {
  const { tenant } = at;
  const found = await transaction(vault.db, [tenant], async (tx) => {
    const [row] = await tx<{ name: string; username: string; done: boolean; endSessions: boolean; busy: boolean }[]>`
      SELECT name, username, rotated_for = ${lease} AS done, end_sessions AS "endSessions",
             claim IS NOT NULL AND claim_until > bulla.now() AS busy
      FROM static_accounts WHERE tenant_id = ${tenant} AND account_id = ${account} FOR NO KEY UPDATE`;
    if (!row || row.done) return { row, rotation: undefined };
    if (row.busy) throw backendFailed('Its password is being changed already.', 'refused');
    return { row, rotation: await beginRotation(vault, tx, at, account) };
  });
  const { row, rotation } = found;
  if (!row) return;
  if (rotation) await runRotation(vault, rotation, { reason: 'check-in', lease, awaited: 'rotating' });
  if (!row.endSessions) return;
  const { username } = row;
  await onTarget(vault, at, vault.config.leaseActDeadlineMs, (limits) =>
    accountsOf(at).endSessions({ ...limits, username }),
  );
}
