/**
 * What the seals with a key of their own share: file, env, passphrase and shamir all end in 32 bytes at hand.
 *
 * A seal key's written form is `bulla-seal-key-v1:` and the base64 of the bytes, so that no other file is taken for one.
 */
import { envelopeFingerprint } from '../crypto/envelope.ts';
import { Key } from '../crypto/keys.ts';
import { VaultError } from '../errors.ts';
import type { Seal, SealKind, StoredSeal } from './seal.ts';

const PREFIX = 'bulla-seal-key-v1:';
export const SEAL_KEY_BYTES = 32;
/** A seal key has no versions: another one is another seal. */
const SEAL_KEY_VERSION = 1;

export function formatSealKey(bytes: Uint8Array): string {
  return `${PREFIX}${Buffer.from(bytes).toString('base64')}\n`;
}

/** Reads the written form. `where` names the file or variable in the error; the text itself never appears. */
export function parseSealKey(text: string, where: string): Key {
  const line = text.trim();
  const bytes = Buffer.from(line.startsWith(PREFIX) ? line.slice(PREFIX.length) : '', 'base64');
  const canonical = formatSealKey(bytes).trim() === line;
  if (!canonical || bytes.length !== SEAL_KEY_BYTES) {
    throw new VaultError(
      'sealed',
      `${where} does not hold a seal key (expected "${PREFIX}" and the base64 of ${SEAL_KEY_BYTES} bytes): restore it from your backup.`,
    );
  }
  return takeSealKey(bytes);
}

/** A seal key from its bytes, which are wiped. */
export function takeSealKey(bytes: Uint8Array): Key {
  try {
    return Key.fromBytes(SEAL_KEY_VERSION, bytes);
  } finally {
    bytes.fill(0);
  }
}

/** A seal around a key at hand. */
export function localSeal(kind: SealKind, key: Key): Seal {
  return {
    kind,
    fingerprint: key.fingerprint,
    wrap: async (context, rootKey) => key.wrapSecret(context, rootKey),
    unwrap: async (context, wrapped) => key.unwrapSecret(context, wrapped),
    close: () => key.wipe(),
  };
}

/** Whether a key is the one that wrapped what the database holds, as far as its commitment says. */
export function fits(key: Key, stored: StoredSeal): boolean {
  return envelopeFingerprint(stored.wrapped) === key.fingerprint;
}

/** The seal of a vault around the key found at `where`. Refuses another key at once, naming both fingerprints. */
export function storedLocalSeal(kind: SealKind, key: Key, where: string, stored: StoredSeal): Seal {
  if (fits(key, stored)) return localSeal(kind, key);
  const found = key.fingerprint;
  key.wipe();
  throw new VaultError(
    'sealed',
    `${where} holds the seal key ${found}, but this vault was sealed by ${envelopeFingerprint(stored.wrapped)}: give it that key, or point it at the database of this one.`,
  );
}
