/**
 * What the file and env seals share: a seal key of 32 bytes at hand on this machine.
 *
 * Its written form is `bulla-seal-key-v1:` and the base64 of the bytes, so that no other file is taken for one.
 */
import { Key } from '../crypto/keys.ts';
import { VaultError } from '../errors.ts';
import type { Seal, SealKind } from './seal.ts';

const PREFIX = 'bulla-seal-key-v1:';
const KEY_BYTES = 32;
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
  if (!canonical || bytes.length !== KEY_BYTES) {
    throw new VaultError(
      'sealed',
      `${where} does not hold a seal key (expected "${PREFIX}" and the base64 of ${KEY_BYTES} bytes): restore it from your backup.`,
    );
  }
  try {
    return Key.fromBytes(SEAL_KEY_VERSION, bytes);
  } finally {
    bytes.fill(0);
  }
}

/** A seal around a key at hand. Refuses at once when the database was sealed by another key, naming both fingerprints. */
export function localSeal(kind: SealKind, key: Key, where: string, expectedFingerprint: string | undefined): Seal {
  if (expectedFingerprint !== undefined && expectedFingerprint !== key.fingerprint) {
    throw new VaultError(
      'sealed',
      `${where} holds the seal key ${key.fingerprint}, but this vault was sealed by ${expectedFingerprint}: give it that key, or point it at the database of this one.`,
    );
  }
  return {
    kind,
    fingerprint: key.fingerprint,
    wrap: async (context, rootKey) => key.wrap(context, rootKey),
    unwrap: async (context, wrapped, version) => key.unwrap(context, wrapped, version),
    close: () => key.wipe(),
  };
}
