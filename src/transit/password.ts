/**
 * Hashing passwords for applications that keep them: Argon2id with the HMAC key of a named key of type `password` as its
 * pepper, so that what leaks from the application's database cannot be guessed without the vault.
 *
 *     hash = "vault:v" version ":" PHC string            version: of the named key
 *
 * The hashes run in the child process that hashes the vault's own logins (crypto/password.ts), outside of every
 * transaction, and take at most half of its queue, a tenant at most half of that: no application keeps people from
 * logging in. The permit is asked for before the work and again after it, with the key's version, so nothing leaves that
 * was taken away meanwhile. Passwords are taken as applications have them, as short as they are.
 */
import type { SecretBytes } from '../crypto/keys.ts';
import { normalisePassword } from '../crypto/password.ts';
import { type Argon2Cost, type PasswordHash, parsePasswordHash } from '../crypto/phc.ts';
import { type TenantId, type Tx, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { fault, faultError, isFault } from './fault.ts';
import { type KeyName, keyAsk } from './name.ts';
import { formatText, parseText } from './text.ts';
import { loadKey, openingFault, type UsableKey } from './use.ts';

export type HashedPassword = { readonly hash: string; readonly keyVersion: number };

/** Throws `busy` beside what the gate throws. */
export async function hashPassword(
  vault: Vault,
  call: Call,
  name: KeyName,
  { password }: { password: string },
): Promise<HashedPassword> {
  const ask = keyAsk('transit.password-hash', name);
  const { tenant } = await precheck(vault, call, ask);
  const phc = await inTurn(vault, tenant, async () => {
    const ready = await prepare(vault, tenant, name, undefined);
    if (ready instanceof VaultError) return ready;
    try {
      return { ...ready, phc: await vault.hasher.hash(normalisePassword(password), ready.pepper) };
    } finally {
      ready.pepper.wipe();
    }
  });
  return permit(vault, call, ask, async (tx, granted) => {
    if (phc instanceof VaultError) throw phc;
    const { version } = phc;
    await assertStill(vault, tx, granted.tenant, name, phc);
    return { value: { hash: formatText(version, phc.phc), keyVersion: version }, notes: [{ version }] };
  });
}

export type VerifiedPassword = {
  readonly valid: boolean;
  /** The password is right, and its hash should be made anew: the key was rotated, or the parameters are not today's. */
  readonly needsRehash: boolean;
};

export async function verifyPassword(
  vault: Vault,
  call: Call,
  name: KeyName,
  { password, hash }: { password: string; hash: string },
): Promise<VerifiedPassword> {
  const ask = keyAsk('transit.password-verify', name);
  const { tenant } = await precheck(vault, call, ask);
  const found = await inTurn(vault, tenant, async () => {
    const stored = parseHash(vault, hash);
    if (stored instanceof VaultError) return stored;
    const ready = await prepare(vault, tenant, name, stored.version);
    if (ready instanceof VaultError) return ready;
    try {
      const valid = await vault.hasher.verify(stored.phc, normalisePassword(password), ready.pepper);
      const outdated = ready.version !== ready.latestVersion || vault.hasher.needsRehash(stored.phc);
      return { ...ready, valid, needsRehash: valid && outdated };
    } finally {
      ready.pepper.wipe();
    }
  });
  return permit(vault, call, ask, async (tx, granted) => {
    if (found instanceof VaultError) throw found;
    const { version, valid, needsRehash } = found;
    await assertStill(vault, tx, granted.tenant, name, found);
    return { value: { valid, needsRehash }, notes: [{ version, details: { valid } }] };
  });
}

type Ready = {
  readonly id: string;
  readonly version: number;
  readonly latestVersion: number;
  /** A copy, to be wiped. */
  readonly pepper: SecretBytes;
};

/** The pepper of a version, of the latest without one; or what the permit that follows is to record and throw. */
async function prepare(
  vault: Vault,
  tenant: TenantId,
  name: KeyName,
  wanted: number | undefined,
): Promise<Ready | VaultError> {
  try {
    return await transaction(vault.db, [tenant], async (tx) => {
      const key = await loadKey(vault, tx, tenant, name, wanted === undefined ? [] : [wanted]);
      const version = wanted ?? key.latestVersion;
      assertHashes(key);
      const refused = openingFault(key, version);
      if (refused) throw faultError(refused.reason === 'version_unknown' ? fault('bad_hash') : refused);
      const pepper = (await key.open(version)).pepper();
      return { id: key.id, version, latestVersion: key.latestVersion, pepper };
    });
  } catch (error) {
    if (error instanceof VaultError && RECORDED.has(error.code)) return error;
    throw error;
  }
}

const RECORDED: ReadonlySet<string> = new Set(['not_found', 'invalid_request', 'integrity']);

function assertHashes({ type, facts }: UsableKey): void {
  if (facts.family === 'password') return;
  throw new VaultError('invalid_request', `A key of type ${type} hashes no passwords: make one of type password.`);
}

/** The version may have been taken away while the hash was computed. */
async function assertStill(vault: Vault, tx: Tx, tenant: TenantId, name: KeyName, used: Ready): Promise<void> {
  const key = await loadKey(vault, tx, tenant, name, [used.version]);
  if (key.id === used.id && openingFault(key, used.version) === undefined) return;
  throw new VaultError('conflict', 'The key was changed while the password was being hashed: try again.');
}

/** What a caller brings may ask for more work than we ever do, and no more than that much. */
const WORK_FACTOR_MAX = 4;
const WORK_KIB_PASSES_MIN = 65_536 * 3;

function parseHash(vault: Vault, text: string): { version: number; phc: string } | VaultError {
  const parsed = parseText(text);
  if (isFault(parsed)) return faultError(fault('bad_hash'));
  const today = vault.config.argon2;
  const asked = tryParse(parsed.rest, today);
  const most = WORK_FACTOR_MAX * Math.max(workOf(today), WORK_KIB_PASSES_MIN);
  if (asked === undefined || workOf(asked) > most) return faultError(fault('bad_hash'));
  return { version: parsed.version, phc: parsed.rest };
}

const workOf = ({ memoryKib, passes }: Argon2Cost) => memoryKib * passes;

function tryParse(phc: string, today: Argon2Cost): PasswordHash | undefined {
  try {
    return parsePasswordHash(phc, today);
  } catch (error) {
    if (error instanceof VaultError && error.code === 'integrity') return undefined;
    throw error;
  }
}

// ---- turns --------------------------------------------------------------------------------------------------------

type Turns = { all: number; readonly byTenant: Map<TenantId, number> };

const turnsOf = new WeakMap<Vault, Turns>();

/** Throws `busy` when applications, or those of the tenant, have as many hashes under way as they may. */
async function inTurn<T>(vault: Vault, tenant: TenantId, work: () => Promise<T>): Promise<T> {
  const { hashConcurrency, hashQueueMax } = vault.config;
  const most = Math.max(1, Math.floor((hashConcurrency + hashQueueMax) / 2));
  const turns = turnsOf.get(vault) ?? { all: 0, byTenant: new Map() };
  turnsOf.set(vault, turns);
  const own = turns.byTenant.get(tenant) ?? 0;
  if (turns.all >= most || own >= Math.max(1, Math.floor(most / 2))) {
    throw new VaultError('busy', 'Too many passwords at once. Try again a little later.', { retryAfterSeconds: 1 });
  }
  turns.all += 1;
  turns.byTenant.set(tenant, own + 1);
  try {
    return await work();
  } finally {
    turns.all -= 1;
    const left = turns.byTenant.get(tenant)! - 1;
    if (left === 0) turns.byTenant.delete(tenant);
    else turns.byTenant.set(tenant, left);
  }
}
