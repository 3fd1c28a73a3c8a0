/**
 * The `env` seal: the seal key comes in BULLA_SEAL_KEY, from whatever starts the vault.
 *
 * The environment of a process can be read by its user and is inherited by children, so we start children without it
 * and documents name the file seal as the better choice.
 */
import type { Key } from '../crypto/keys.ts';
import { VaultError } from '../errors.ts';
import { localSeal, parseSealKey, storedLocalSeal } from './local-key.ts';
import type { SealMeans, SealMember } from './seal.ts';

const WHERE = 'BULLA_SEAL_KEY';

export const envSeal: SealMember = {
  create: async (means) => ({ seal: localSeal('env', readKey(means)), parameters: {} }),
  open: async (means, stored) => storedLocalSeal('env', readKey(means), WHERE, stored),
};

function readKey({ key }: SealMeans): Key {
  if (key !== undefined) return parseSealKey(key, WHERE);
  throw new VaultError(
    'sealed',
    `${WHERE} is not set: put the seal key there (make one with: printf 'bulla-seal-key-v1:%s' "$(openssl rand -base64 32)"), or use BULLA_SEAL=file.`,
  );
}
