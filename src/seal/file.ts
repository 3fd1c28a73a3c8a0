/**
 * The `file` seal: the seal key lies in a file of this machine that only the vault's user can read.
 *
 * Whoever has the file and the database has everything, so it is refused unless it is a plain file of mode 0600 owned by us.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { VaultError } from '../errors.ts';
import { formatSealKey, localSeal, parseSealKey } from './local-key.ts';
import type { Seal, SealOptions } from './seal.ts';

export function openFileSeal({ file, create, expectedFingerprint }: SealOptions): Seal {
  if (create) createIfMissing(file);
  return localSeal('file', parseSealKey(readOwned(file, expectedFingerprint), file), file, expectedFingerprint);
}

function readOwned(file: string, expectedFingerprint: string | undefined): string {
  const descriptor = openExisting(file, expectedFingerprint);
  try {
    const stat = fstatSync(descriptor);
    if (!stat.isFile() || (stat.mode & 0o077) !== 0 || stat.uid !== process.geteuid?.()) {
      throw new VaultError(
        'sealed',
        `The seal key ${file} must be a plain file of mode 0600 owned by the user that runs Bulla: chmod 600 and chown it.`,
      );
    }
    return readFileSync(descriptor, 'utf8');
  } finally {
    closeSync(descriptor);
  }
}

function openExisting(file: string, expectedFingerprint: string | undefined): number {
  try {
    return openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    const expected = expectedFingerprint ? ` The vault was sealed by key ${expectedFingerprint}.` : '';
    throw new VaultError(
      'sealed',
      `The seal key ${file} cannot be read (${code}): restore it from your backup, or set BULLA_SEAL_FILE to where it is.${expected}`,
    );
  }
}

/** Written and synced before any root key is wrapped by it, so that a crash never leaves a root key without its seal. */
function createIfMissing(file: string): void {
  const bytes = randomBytes(32);
  try {
    const descriptor = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    writeSync(descriptor, formatSealKey(bytes));
    fsyncSync(descriptor);
    closeSync(descriptor);
    const directory = openSync(dirname(file), constants.O_RDONLY);
    fsyncSync(directory);
    closeSync(directory);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EEXIST') return;
    throw new VaultError(
      'sealed',
      `The seal key ${file} cannot be written (${code}): make its directory writable, or set BULLA_SEAL_FILE.`,
    );
  } finally {
    bytes.fill(0);
  }
}
