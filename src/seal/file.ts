/**
 * The `file` seal: the seal key lies in a file of this machine that only the vault's user can read.
 *
 * Whoever has the file and the database has everything, so it is refused unless it is a plain file of mode 0600 owned by us.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { envelopeFingerprint } from '../crypto/envelope.ts';
import { VaultError } from '../errors.ts';
import { formatSealKey, localSeal, parseSealKey, SEAL_KEY_BYTES, storedLocalSeal } from './local-key.ts';
import type { SealMember } from './seal.ts';

export const fileSeal: SealMember = {
  create: async ({ file }) => {
    createIfMissing(file);
    return { seal: localSeal('file', parseSealKey(readOwned(file), file)), parameters: {} };
  },
  open: async ({ file }, stored) => {
    const text = readOwned(file, envelopeFingerprint(stored.wrapped));
    return storedLocalSeal('file', parseSealKey(text, file), file, stored);
  },
};

function readOwned(file: string, expectedFingerprint?: string): string {
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

/**
 * Written and synced before any root key is wrapped by it, so that a crash never leaves a root key without its seal; and
 * under another name first, so that a crash never leaves half a key.
 */
function createIfMissing(file: string): void {
  const bytes = randomBytes(SEAL_KEY_BYTES);
  const draft = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    const descriptor = openSync(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    writeSync(descriptor, formatSealKey(bytes));
    fsyncSync(descriptor);
    closeSync(descriptor);
    linkSync(draft, file);
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
    rmSync(draft, { force: true });
  }
}
