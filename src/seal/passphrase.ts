/**
 * The `passphrase` seal: the seal key is Argon2id of a passphrase that people know.
 *
 * Salt and cost lie in the database; they are believed within bounds only, so that an edited row takes no memory. The
 * passphrase is asked on a terminal or read from a descriptor when the vault starts, or given to a vault that runs.
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { Key } from '../crypto/keys.ts';
import { VaultError } from '../errors.ts';
import { fits, localSeal, takeSealKey } from './local-key.ts';
import type { SealMeans, SealMember, StoredSeal, Unsealer } from './seal.ts';

const SALT_BYTES = 16;
const CHARACTERS_MIN = 15;

const MEMORY_KIB_MAX = 2_097_152;

const parameters = z
  .strictObject({
    salt: z.base64().length(24),
    memory_kib: z.int().min(8_192).max(MEMORY_KIB_MAX),
    passes: z.int().min(1).max(32),
    lanes: z.int().min(1).max(16),
  })
  .refine(({ memory_kib, passes }) => memory_kib * passes <= 2 * MEMORY_KIB_MAX);

export const passphraseSeal: SealMember = {
  create: async (means) => {
    const passphrase = await means.passphrase?.('new');
    if (passphrase === undefined) {
      throw new VaultError(
        'sealed',
        'A passphrase seal is made with a passphrase: start on a terminal, or set BULLA_SEAL_PASSPHRASE_FD to a descriptor that holds it.',
      );
    }
    if (Array.from(passphrase).length < CHARACTERS_MIN) {
      throw new VaultError(
        'invalid_request',
        `passphrase: expected at least ${CHARACTERS_MIN} characters; a few random words are good.`,
      );
    }
    const { memoryKib, passes, lanes } = means.passphraseCost;
    const salt = randomBytes(SALT_BYTES).toString('base64');
    const made = parameters.parse({ salt, memory_kib: memoryKib, passes, lanes });
    return { seal: localSeal('passphrase', await derive(means, made, passphrase)), parameters: made };
  },
  open: async (means, stored) => {
    const passphrase = await means.passphrase?.('open');
    if (passphrase === undefined) return undefined;
    const key = await derive(means, parametersOf(stored), passphrase);
    if (fits(key, stored)) return localSeal('passphrase', key);
    key.wipe();
    means.log('the passphrase that was given does not open the seal');
    return undefined;
  },
  unsealer,
};

function parametersOf(stored: StoredSeal): z.output<typeof parameters> {
  const parsed = parameters.safeParse(stored.parameters);
  if (parsed.success) return parsed.data;
  throw new VaultError('integrity', 'The parameters of the passphrase seal were edited: restore the table seals.');
}

async function derive(means: SealMeans, of: z.output<typeof parameters>, passphrase: string): Promise<Key> {
  const cost = { memoryKib: of.memory_kib, passes: of.passes, lanes: of.lanes };
  return takeSealKey(await means.deriveKey(passphrase, Buffer.from(of.salt, 'base64'), cost));
}

function unsealer(means: SealMeans, stored: StoredSeal): Unsealer {
  const of = parametersOf(stored);
  return {
    takes: 'passphrase',
    progress: () => undefined,
    offer: async (text) => {
      const key = await derive(means, of, text);
      if (fits(key, stored)) return { state: 'open', seal: localSeal('passphrase', key) };
      key.wipe();
      return { state: 'refused', reason: 'wrong', why: 'This passphrase does not open the seal.' };
    },
    close: () => undefined,
  };
}
