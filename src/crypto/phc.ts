/**
 * How a password hash is stored: the PHC string of Argon2id, and what its parameters may be.
 *
 *     $argon2id$v=19$m=<KiB>,t=<passes>,p=<lanes>$<salt>$<hash>
 *
 * Salt and hash are base64 without padding. A row can be edited by whoever writes to the database, so a string is read
 * strictly, in its one canonical spelling, and its cost is bounded before any memory is taken (case T-033): weaker or
 * older parameters than today's are fine, absurd ones are not. This file must never hash anything.
 */
import { VaultError } from '../errors.ts';

export type Argon2Cost = { readonly memoryKib: number; readonly passes: number; readonly lanes: number };

export type PasswordHash = Argon2Cost & { readonly salt: Uint8Array; readonly hash: Uint8Array };

/** RFC 9106 §4: 128 bits of salt are enough for everything. */
export const SALT_BYTES = 16;
export const PASSWORD_HASH_BYTES = 32;

const SALT_BYTES_MIN = 8;
const SALT_BYTES_MAX = 64;
const HASH_BYTES_MIN = 16;
const HASH_BYTES_MAX = 64;
const TEXT_MAX = 300;

/** What a stored string may ask for when the configuration does not ask for more itself. */
const MEMORY_KIB_MAX = 1_048_576;
const PASSES_MAX = 32;
const LANES_MAX = 16;
/** Memory times passes is the work: 4 GiB-passes take some seconds. */
const WORK_MAX = 4 * MEMORY_KIB_MAX;

/** The least memory for a number of passes: OWASP Password Storage Cheat Sheet and ASVS 5.0 appendix C. */
const FLOOR: readonly { readonly passes: number; readonly memoryKib: number }[] = [
  { passes: 3, memoryKib: 12_288 },
  { passes: 2, memoryKib: 19_456 },
  { passes: 1, memoryKib: 47_104 },
];

const FORM =
  /^\$argon2id\$v=19\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,9}),p=([1-9][0-9]{0,9})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;

/** Refuses a configuration below the floor, with the sentence that says what to set (case T-030). */
export function checkFloor({ memoryKib, passes, lanes }: Argon2Cost): void {
  const floor = FLOOR.find((entry) => passes >= entry.passes);
  const whole = [memoryKib, passes, lanes].every((value) => Number.isSafeInteger(value) && value >= 1);
  if (whole && floor !== undefined && memoryKib >= floor.memoryKib && memoryKib >= 8 * lanes) return;
  throw new VaultError(
    'invalid_request',
    `Argon2id with m=${memoryKib} KiB, t=${passes}, p=${lanes} is below the floor of OWASP and ASVS. ` +
      'Take at least m=19456 with t=2, or m=47104 with t=1, or m=12288 with t=3, and p of 1 or more.',
  );
}

export function formatPasswordHash({ memoryKib, passes, lanes, salt, hash }: PasswordHash): string {
  return `$argon2id$v=19$m=${memoryKib},t=${passes},p=${lanes}$${unpadded(salt)}$${unpadded(hash)}`;
}

/** Reads a stored string. `configured` only ever widens what is accepted. */
export function parsePasswordHash(text: string, configured: Argon2Cost): PasswordHash {
  const match = text.length <= TEXT_MAX ? FORM.exec(text) : null;
  if (match === null) throw poisoned('is not an Argon2id string of version 19');
  const [memoryKib, passes, lanes] = [Number(match[1]), Number(match[2]), Number(match[3])] as const;
  if (
    memoryKib > Math.max(MEMORY_KIB_MAX, configured.memoryKib) ||
    passes > Math.max(PASSES_MAX, configured.passes) ||
    lanes > Math.max(LANES_MAX, configured.lanes) ||
    memoryKib * passes > Math.max(WORK_MAX, configured.memoryKib * configured.passes) ||
    memoryKib < 8 * lanes
  ) {
    throw poisoned(`asks for m=${memoryKib}, t=${passes}, p=${lanes}, which this vault never wrote`);
  }
  const salt = decode(match[4]!, SALT_BYTES_MIN, SALT_BYTES_MAX);
  const hash = decode(match[5]!, HASH_BYTES_MIN, HASH_BYTES_MAX);
  if (salt === undefined || hash === undefined) throw poisoned('has a salt or hash of the wrong form');
  return { memoryKib, passes, lanes, salt, hash };
}

function decode(text: string, min: number, max: number): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.length >= min && bytes.length <= max && unpadded(bytes) === text ? bytes : undefined;
}

function unpadded(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('base64')
    .replace(/={1,2}$/, '');
}

function poisoned(what: string): VaultError {
  return new VaultError(
    'integrity',
    `A stored password hash ${what}: its row was edited or damaged. Reset the password.`,
  );
}
