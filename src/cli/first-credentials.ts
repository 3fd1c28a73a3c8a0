/**
 * first-credentials.json: the passwords of the first two accounts, for whoever started the vault.
 *
 * Mode 0600, written and synced before the accounts exist, removed as soon as both passwords have been changed.
 *
 *     {"address": "http://…", "system": {"tenant", "username", "password"}, "default": {…}}
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { firstPasswordsChanged } from '../auth/password.ts';
import { VaultError } from '../errors.ts';
import type { FirstAccount, FirstCredentials } from '../job/initialise.ts';
import type { Vault } from '../vault.ts';

const CHECK_EVERY_MS = 2_000;

export function credentialsFile(dataDir: string): string {
  return join(dataDir, 'first-credentials.json');
}

export function keepCredentials(dataDir: string, address: string, credentials: FirstCredentials): void {
  const file = credentialsFile(dataDir);
  const { system, default: first } = credentials;
  try {
    replaceFile(file, `${JSON.stringify({ address, system, default: first }, null, 2)}\n`);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new VaultError(
      'unavailable',
      `${file} cannot be written (${code}), so nobody could log in: make its directory writable.`,
    );
  }
}

/** Of a first start that another node was ahead of: these passwords open nothing. */
export function discardCredentials(dataDir: string): void {
  rmSync(credentialsFile(dataDir), { force: true });
}

/** The address may be another one than was asked for (port 0), or than at the first start. */
export function keepAddress(dataDir: string, address: string): void {
  const kept = readCredentials(dataDir);
  if (kept && kept.address !== address) keepCredentials(dataDir, address, kept);
}

/** Whole or not at all: what stands there before may hold the only copy of the passwords. */
function replaceFile(file: string, text: string): void {
  const temporary = `${file}.new`;
  rmSync(temporary, { force: true });
  const descriptor = openSync(temporary, 'wx', 0o600);
  try {
    writeSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(temporary, file);
}

type Kept = FirstCredentials & { readonly address: string };

/** Undefined when there is none any more. */
function readCredentials(dataDir: string): Kept | undefined {
  try {
    return JSON.parse(readFileSync(credentialsFile(dataDir), 'utf8')) as Kept;
  } catch {
    return undefined;
  }
}

/** The first accounts whose passwords nobody has changed; the file goes when there is none, though a kill had kept it. */
export async function unchangedAccounts(vault: Vault, dataDir: string): Promise<readonly FirstAccount[]> {
  const kept = readCredentials(dataDir);
  if (!kept) return [];
  const unchanged: FirstAccount[] = [];
  for (const account of [kept.system, kept.default]) {
    if (!(await firstPasswordsChanged(vault, [account]))) unchanged.push(account);
  }
  if (unchanged.length === 0) discardCredentials(dataDir);
  return unchanged;
}

/** Watches for both passwords to be changed, then removes the file. Returns how to stop watching. */
export function forgetWhenChanged(vault: Vault, dataDir: string): () => Promise<void> {
  const credentials = readCredentials(dataDir);
  if (!credentials) return async () => undefined;
  let checking: Promise<void> = Promise.resolve();
  const check = async () => {
    if (!(await firstPasswordsChanged(vault, [credentials.system, credentials.default]))) return;
    rmSync(credentialsFile(dataDir), { force: true });
    clearInterval(timer);
    vault.log.info('both first passwords are changed: first-credentials.json is removed');
  };
  const timer = setInterval(() => {
    checking = check().catch((error) =>
      vault.log.warn({ err: error }, 'could not look whether the first passwords are changed'),
    );
  }, CHECK_EVERY_MS).unref();
  return async () => {
    clearInterval(timer);
    await checking;
    await check().catch(() => undefined);
  };
}
