/**
 * What `bulla server` does about the seal on the host itself: read a passphrase from a descriptor, and show the shares of
 * a new vault once.
 */
import { fsyncSync, readFileSync, writeSync } from 'node:fs';
import type { Config } from '../config.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';

/** Asks a person; `again` asks twice and compares. */
export type AskPassphrase = (question: string, again: boolean) => Promise<string>;

/** The passphrase, once: from the descriptor where one is given, otherwise from the terminal where there is one. */
export function passphraseSource(
  config: Config,
  ask: AskPassphrase | undefined,
): (purpose: 'new' | 'open') => Promise<string | undefined> {
  let asked = false;
  return async (purpose) => {
    if (asked) return undefined;
    asked = true;
    if (config.sealPassphraseFd !== undefined) return readDescriptor(config.sealPassphraseFd);
    const text = await ask?.(
      purpose === 'new' ? 'New passphrase of the seal' : 'Passphrase of the seal',
      purpose === 'new',
    );
    return text === '' ? undefined : text;
  };
}

function readDescriptor(descriptor: number): string {
  try {
    return readFileSync(descriptor, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new VaultError(
      'sealed',
      `BULLA_SEAL_PASSPHRASE_FD: the descriptor ${descriptor} cannot be read (${code}): open it for the server, as in 3< file.`,
    );
  }
}

/**
 * Shows the shares of a new vault before anything depends on them. Throws `sealed` where nobody could see them: with
 * fewer than the threshold kept, nothing could ever be read again.
 */
export function showShares(
  vault: Vault,
  io: { readonly stdout: { write(text: string): unknown }; readonly isTty: boolean },
): void {
  const shares = vault.seal.newShares;
  if (shares.length === 0) return;
  const { sealSharesFd, sealShamir } = vault.config;
  if (sealSharesFd !== undefined) {
    writeShares(sealSharesFd, shares);
  } else if (io.isTty) {
    io.stdout.write(
      [
        `The seal of this vault was split into ${shares.length} shares, and any ${sealShamir.threshold} of them open it. They are shown this once:`,
        ...shares.map((share) => `  ${share}`),
        'Give each to somebody else. With fewer than that left, what the vault holds is lost at the next restart.',
        '',
      ].join('\n'),
    );
  } else {
    throw new VaultError(
      'sealed',
      'A new vault under the shamir seal shows its shares once: start it on a terminal, or set BULLA_SEAL_SHARES_FD to a descriptor to write them to.',
    );
  }
}

function writeShares(descriptor: number, shares: readonly string[]): void {
  try {
    writeSync(descriptor, `${shares.join('\n')}\n`);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new VaultError('sealed', `BULLA_SEAL_SHARES_FD: the descriptor ${descriptor} cannot be written (${code}).`);
  }
  try {
    fsyncSync(descriptor);
  } catch {
    // A pipe cannot be synced.
  }
}
