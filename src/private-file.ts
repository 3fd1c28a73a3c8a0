/**
 * Files that only their owner may read, written so that no half of one is ever there: to a new name beside it, synced,
 * then renamed. A file that is replaced has the new rights, not the old.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { VaultError } from './errors.ts';

export type PrivateFile = {
  write(bytes: Uint8Array): void;
  /** Durable under its name on return. */
  keep(): void;
  /** Leaves nothing behind, and does nothing after keep(). */
  drop(): void;
};

export function createPrivateFile(path: string): PrivateFile {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  let descriptor: number | undefined = named(path, () => openSync(temporary, 'wx', 0o600));
  const end = () => {
    if (descriptor !== undefined) closeSync(descriptor);
    descriptor = undefined;
  };
  return {
    write: (bytes) => {
      for (let at = 0; at < bytes.length; ) {
        at += named(path, () => writeSync(descriptor!, bytes, at, bytes.length - at));
      }
    },
    keep: () => {
      named(path, () => fsyncSync(descriptor!));
      end();
      named(path, () => renameSync(temporary, path));
    },
    drop: () => {
      end();
      rmSync(temporary, { force: true });
    },
  };
}

export function writePrivateFile(path: string, bytes: Uint8Array): void {
  const file = createPrivateFile(path);
  try {
    file.write(bytes);
    file.keep();
  } finally {
    file.drop();
  }
}

function named<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw new VaultError('invalid_request', `${path} cannot be written (${(error as NodeJS.ErrnoException).code}).`);
  }
}
