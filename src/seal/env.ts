/**
 * The `env` seal: the seal key comes in BULLA_SEAL_KEY, from whatever starts the vault.
 *
 * The environment of a process can be read by its user and is inherited by children, so we start children without it
 * and documents name the file seal as the better choice.
 */
import { VaultError } from '../errors.ts';
import { localSeal, parseSealKey } from './local-key.ts';
import type { Seal, SealOptions } from './seal.ts';

const WHERE = 'BULLA_SEAL_KEY';

export function openEnvSeal({ key, expectedFingerprint }: SealOptions): Seal {
  if (key === undefined) {
    throw new VaultError(
      'sealed',
      `${WHERE} is not set: put the seal key there (make one with: printf 'bulla-seal-key-v1:%s' "$(openssl rand -base64 32)"), or use BULLA_SEAL=file.`,
    );
  }
  return localSeal('env', parseSealKey(key, WHERE), WHERE, expectedFingerprint);
}
