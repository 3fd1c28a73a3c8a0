/**
 * Passwords: the rule for new ones, hashing under the active pepper, and checking. A password is never stored, logged
 * or compared in a readable form; hashing happens outside transactions, in crypto/password.ts's child process.
 */
import { randomBytes } from 'node:crypto';
import { normalisePassword } from '../crypto/password.ts';
import { SYSTEM, type TenantId, type Tx, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck } from '../policy/permit.ts';
import { systemKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';

export const PASSWORD_CHARACTERS_MIN = 15;

export type PasswordHash = { readonly phc: string; readonly pepperVersion: number };

/** In place of a hash: no password fits until an administrator gives one. */
export const NO_PASSWORD = '!';

/** Hashes a new password. Throws `invalid_request` when it is too short or not text, `busy` when too many are hashed. */
export async function hashPassword(vault: Vault, password: string): Promise<PasswordHash> {
  if (Array.from(password).length < PASSWORD_CHARACTERS_MIN) {
    throw new VaultError(
      'invalid_request',
      `password: expected at least ${PASSWORD_CHARACTERS_MIN} characters; a few random words are good.`,
    );
  }
  return hashUnder(vault, normalisePassword(password));
}

async function hashUnder(vault: Vault, password: Uint8Array): Promise<PasswordHash> {
  const pepper = await systemKey(vault, 'pepper');
  try {
    return { phc: await vault.hasher.hash(password, pepper.secret), pepperVersion: pepper.version };
  } finally {
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
  const stored = await transaction(vault.db, [tenant], (tx) => readHash(tx, tenant, userId));
  const { fits } = await checkPassword(vault, stored, currentPassword);
  const fresh = fits && currentPassword !== newPassword ? await hashPassword(vault, newPassword) : undefined;
  await permit(vault, call, ask, async (tx) => {
    const now = await readHash(tx, tenant, userId);
    if (!fits || now.locked) {
      if (!fits && !now.locked) await countFailure(vault, tx, tenant, userId);
      const refused = new VaultError('login_failed', 'The current password is not right, or cannot be checked now.');
      return { value: undefined, refused };
    }
    if (!fresh)
      throw new VaultError('invalid_request', 'new_password: expected another password than the current one.');
    if (now.phc !== stored.phc) throw new VaultError('conflict', 'The password was changed meanwhile: log in again.');
    await storeHash(tx, tenant, userId, fresh, false);
    return { value: undefined, revokes: true };
  });
}

/**
 * Counts a wrong password, wherever it was given, and locks the user for a while when there have been too many. The
 * caller holds the user's row, so guesses made at once are counted one by one.
 */
export async function countFailure(vault: Vault, tx: Tx, tenant: TenantId, userId: string): Promise<void> {
  const { loginFailuresMax, loginLockSeconds } = vault.config;
  await tx`
    UPDATE users SET failed_logins = CASE WHEN locked_until IS NULL THEN failed_logins + 1 ELSE 1 END,
           locked_until = CASE WHEN locked_until IS NULL AND failed_logins + 1 >= ${loginFailuresMax}
                               THEN bulla.now() + make_interval(secs => ${loginLockSeconds}) END
    WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
}

async function readHash(
  tx: Tx,
  tenant: TenantId,
  userId: string,
): Promise<PasswordHash & { readonly locked: boolean }> {
  const [row] = await tx<(PasswordHash & { locked: boolean })[]>`
    SELECT password_hash AS phc, pepper_version AS "pepperVersion",
           coalesce(locked_until > bulla.now(), false) AS locked FROM users
    WHERE tenant_id = ${tenant} AND user_id = ${userId} FOR UPDATE`;
  if (!row) throw new VaultError('not_found', 'The user is gone.');
  return row;
}

/** Stores a new password and ends every token of the user. */
export async function storeHash(
  tx: Tx,
  tenant: TenantId,
  userId: string,
  hash: PasswordHash,
  mustChange: boolean,
): Promise<void> {
  await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  await tx`
    UPDATE users SET password_hash = ${hash.phc}, pepper_version = ${hash.pepperVersion},
           must_change_password = ${mustChange}, failed_logins = 0, locked_until = NULL
    WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
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
