/**
 * The tokens that `bulla login` keeps: one file of the user's own, mode 0600 in a directory of 0700, by server address.
 *
 *     {"version": 1, "tokens": {"http://127.0.0.1:8200": {"token": …, "tenant": …, "username": …, "expires_at": …}}}
 *
 * A file that others may read is refused, because its tokens must count as known.
 */
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { VaultError } from '../errors.ts';
import { writePrivateFile } from '../private-file.ts';

export type KeptToken = {
  readonly token: string;
  readonly tenant: string;
  readonly username: string;
  readonly expires_at: string;
};

type Kept = Record<string, KeptToken>;

export function tokenFile(stateDir: string): string {
  return join(stateDir, 'token.json');
}

export function readToken(stateDir: string, address: string): KeptToken | undefined {
  return read(tokenFile(stateDir))[address];
}

/** Undefined forgets it. */
export function keepToken(stateDir: string, address: string, token: KeptToken | undefined): void {
  const file = tokenFile(stateDir);
  const { [address]: _, ...others } = read(file);
  const tokens: Kept = token === undefined ? others : { ...others, [address]: token };
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writePrivateFile(file, Buffer.from(`${JSON.stringify({ version: 1, tokens }, null, 2)}\n`));
}

function read(file: string): Kept {
  const stats = statSync(file, { throwIfNoEntry: false });
  if (stats === undefined) return {};
  if (process.platform !== 'win32' && (stats.mode & 0o077) !== 0) {
    throw new VaultError(
      'invalid_request',
      `${file} can be read by others, so its tokens must count as known: remove it and log in again.`,
    );
  }
  try {
    const { version, tokens } = JSON.parse(readFileSync(file, 'utf8')) as { version: unknown; tokens: Kept };
    if (version === 1 && typeof tokens === 'object' && tokens !== null) return tokens;
  } catch {
    // The parser's error would quote the file.
  }
  throw new VaultError('invalid_request', `${file} is not a token file of this version: remove it and log in again.`);
}
