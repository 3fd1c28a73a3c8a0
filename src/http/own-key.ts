/**
 * Keys that the vault makes for its own certificates: P-256, in files that only it can read.
 *
 * The key stays when its certificate is renewed, so that clients may pin it. Beside it lies the one that will replace
 * it: its pin is handed out in advance, and it takes over when the first one's file is removed.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { VaultError } from '../errors.ts';
import { writePrivateFile } from '../private-file.ts';
import { pinOf } from './certificate.ts';

export type OwnFiles = {
  readonly directory: string;
  readonly keyFile: string;
  readonly certFile: string;
};

export function ownFiles(dataDir: string): OwnFiles {
  const directory = join(dataDir, 'tls');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return { directory, keyFile: join(directory, 'server.key'), certFile: join(directory, 'server.crt') };
}

/** The key that serves, made where there is none. */
export function serverKey({ directory, keyFile }: OwnFiles): KeyObject {
  const backup = join(directory, BACKUP);
  if (!existsSync(keyFile) && existsSync(backup)) renameSync(backup, keyFile);
  return keyIn(keyFile);
}

/** Of the key that will replace it. */
export function backupPin({ directory }: OwnFiles): string {
  return pinOf(createPublicKey(keyIn(join(directory, BACKUP))));
}

const BACKUP = 'backup.key';

export function keyIn(file: string): KeyObject {
  if (!existsSync(file)) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    writePrivateFile(file, Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' })));
    return privateKey;
  }
  try {
    return createPrivateKey(readFileSync(file));
  } catch {
    throw new VaultError(
      'invalid_request',
      `${file} holds no private key; restore it, or remove it to have a new one.`,
    );
  }
}
