/**
 * Passwords: hashing under the active pepper, checking, and changing one's own. A password is never stored, logged or
 * compared in a readable form; hashing happens outside transactions, in crypto/password.ts's child process. What a new
 * one must be is password-rule.ts's.
 */
import { randomBytes } from 'node:crypto';
import { normalisePassword } from '../crypto/password.ts';
import { SYSTEM, type TenantId, type Tx, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck } from '../policy/permit.ts';
import { systemKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { checkNewPassword, type PasswordSubject, tooShort } from './password-rule.ts';
import { clearCounters, countFailure, readCounter } from './throttle.ts';

export type PasswordHash = { readonly phc: string; readonly pepperVersion: number };

/** A hash to store, with what is known of the password beside it. */
export type NewPassword = PasswordHash & {
  /** Holds only beside a second factor. */
  readonly short: boolean;
  /** To be changed at the first login, and no good when that is not within `seconds`; undefined: whenever it is. */
  readonly oneTime: { readonly seconds: number | undefined } | undefined;
};

/** In place of a hash: no password fits until an administrator gives one. */
export const NO_PASSWORD = '!';

/** Hashes a new password that its user chose. Throws `invalid_request` with the reason, `busy` when too many are hashed. */
export async function hashPassword(
  vault: Vault,
  password: string,
  subject: PasswordSubject,
  field = 'password',
): Promise<NewPassword> {
  const { bytes, short } = await checkNewPassword(password, subject, field);
  return { ...(await hashUnder(vault, bytes)), short, oneTime: undefined };
}

/** Hashes what oneTimePassword() made. Without `seconds` it waits for its user for ever. */
export async function hashOneTimePassword(vault: Vault, password: string, seconds?: number): Promise<NewPassword> {
  return { ...(await hashUnder(vault, normalisePassword(password))), short: false, oneTime: { seconds } };
}

/** Wipes the bytes. */
async function hashUnder(vault: Vault, password: Uint8Array): Promise<PasswordHash> {
  const pepper = await systemKey(vault, 'pepper');
  try {
    return { phc: await vault.hasher.hash(password, pepper.secret), pepperVersion: pepper.version };
  } finally {
    password.fill(0);
    pepper.secret.wipe();
  }
}

/**
 * Whether the password fits, in the same time for a user that does not exist. `fresh` is the hash to store instead
 * when the parameters or the pepper are not today's.
 */
export async function checkPassword(
  vault: Vault,
  stored: PasswordHash | undefined,
  password: string,
): Promise<{ fits: boolean; fresh: PasswordHash | undefined }> {
  const bytes = normalisePassword(password);
  const active = await systemKey(vault, 'pepper');
  const has = stored !== undefined && stored.phc !== NO_PASSWORD;
  const pepper =
    has && stored.pepperVersion !== active.version ? await systemKey(vault, 'pepper', stored.pepperVersion) : active;
  try {
    if (!has) return { fits: await vault.hasher.verifyDecoy(bytes, pepper.secret), fresh: undefined };
    const fits = await vault.hasher.verify(stored.phc, bytes, pepper.secret);
    const outdated = stored.pepperVersion !== active.version || vault.hasher.needsRehash(stored.phc);
    return { fits, fresh: fits && outdated ? await hashUnder(vault, normalisePassword(password)) : undefined };
  } finally {
    active.secret.wipe();
    pepper.secret.wipe();
  }
}

const ONE_TIME_GROUPS = 5;
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/** A password to be given once and changed: five groups of five characters, 125 bits. */
export function oneTimePassword(): string {
  const groups = Array.from({ length: ONE_TIME_GROUPS }, () =>
    Array.from(randomBytes(ONE_TIME_GROUPS), (byte) => ALPHABET[byte % ALPHABET.length]).join(''),
  );
  return groups.join('-');
}

/**
 * Changes one's own password and ends all of one's tokens, this one too. Throws `login_failed` when the old one is wrong
 * or the user is locked: guesses through a stolen token count as guesses at the login do.
 */
export async function changePassword(
  vault: Vault,
  call: Call,
  { currentPassword, newPassword }: { currentPassword: string; newPassword: string },
): Promise<void> {
  const ask = { action: 'auth.password', resource: 'user:self' } as const;
  const { tenant, userId } = await precheck(vault, call, ask);
  const stored = await transaction(vault.db, [tenant], (tx) => readPassword(tx, tenant, userId));
  const { fits } = await checkPassword(vault, stored, currentPassword);
  const fresh =
    fits && currentPassword !== newPassword
      ? await hashPassword(vault, newPassword, stored, 'new_password')
      : undefined;
  await permit(vault, call, ask, async (tx) => {
    const refused = await settlePassword(vault, tx, call, { tenant, userId, checked: stored, fits });
    if (refused) return { value: undefined, refused };
    if (!fresh)
      throw new VaultError('invalid_request', 'new_password: expected another password than the current one.');
    await storePassword(tx, tenant, userId, fresh);
    return { value: undefined, revokes: true };
  });
}

/**
 * Why a password that somebody inside has given again does not count, or undefined when it does. A wrong one is counted
 * as at the login. Throws `conflict` when it was checked against a hash that is not the stored one any more.
 */
export async function settlePassword(
  vault: Vault,
  tx: Tx,
  call: Call,
  {
    tenant,
    userId,
    checked,
    fits,
  }: {
    readonly tenant: TenantId;
    readonly userId: string;
    readonly checked: PasswordHash;
    readonly fits: boolean;
  },
): Promise<VaultError | undefined> {
  const now = await readPassword(tx, tenant, userId);
  const attempt = { tenant, subject: userId, kind: 'password', source: call.source } as const;
  const counter = await readCounter(tx, attempt);
  if (!fits || counter.locked) {
    await countFailure(vault, tx, attempt, counter);
    return new VaultError('login_failed', 'The current password is not right, or cannot be checked now.');
  }
  if (now.phc !== checked.phc) throw new VaultError('conflict', 'The password was changed meanwhile: log in again.');
  return undefined;
}

/** What is stored, and whose it is; the user's row is locked. */
export async function readPassword(tx: Tx, tenant: TenantId, userId: string): Promise<PasswordHash & PasswordSubject> {
  const [row] = await tx<(PasswordHash & PasswordSubject)[]>`
    SELECT u.password_hash AS phc, u.pepper_version AS "pepperVersion", u.name AS username, t.name AS tenant,
           EXISTS (SELECT 1 FROM totp_factors f WHERE f.tenant_id = u.tenant_id AND f.user_id = u.user_id
                   AND f.state = 'active') AS "secondFactor"
    FROM users u JOIN tenants t USING (tenant_id) WHERE u.tenant_id = ${tenant} AND u.user_id = ${userId} FOR UPDATE OF u`;
  if (!row) throw new VaultError('not_found', 'The user is gone.');
  return row;
}

/** Stores a new password, ends every token of the user and forgets the failed attempts at the old one. */
export async function storePassword(tx: Tx, tenant: TenantId, userId: string, password: NewPassword): Promise<void> {
  const { secondFactor } = await readPassword(tx, tenant, userId);
  // The second factor that it was short for may have gone while it was hashed.
  if (password.short && !secondFactor) throw tooShort('password', false);
  await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  const { phc, pepperVersion, short, oneTime } = password;
  await tx`
    UPDATE users SET password_hash = ${phc}, pepper_version = ${pepperVersion}, short_password = ${short},
           must_change_password = ${oneTime !== undefined},
           password_expires_at = bulla.now() + make_interval(secs => ${oneTime?.seconds ?? null}::double precision)
    WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  await clearCounters(tx, tenant, userId, ['password']);
}

/** Whether none of these accounts still has the password that it was made with. */
export async function firstPasswordsChanged(
  vault: Vault,
  accounts: readonly { readonly tenant: string; readonly username: string }[],
): Promise<boolean> {
  for (const { tenant, username } of accounts) {
    const [found] = await transaction(
      vault.db,
      [SYSTEM],
      (tx) => tx<{ id: TenantId }[]>`SELECT tenant_id AS id FROM tenants WHERE name = ${tenant}`,
    );
    if (!found) continue;
    const rows = await transaction(
      vault.db,
      [found.id],
      (tx) => tx`SELECT 1 FROM users WHERE tenant_id = ${found.id} AND name = ${username} AND must_change_password`,
    );
    if (rows.length > 0) return false;
  }
  return true;
}
