/**
 * The `aws-kms` seal: the root key is encrypted by a key of AWS KMS, or of anything that speaks its protocol.
 *
 * The official client is loaded only when this seal is used, and takes its credentials from where AWS programs do. The
 * encryption context names the root key; KMS binds and logs it. What is stored names the KMS key, so that a vault is
 * opened by the key that sealed it, whatever is configured for the next one.
 */
import { z } from 'zod';
import type { Context } from '../crypto/context.ts';
import { VaultError } from '../errors.ts';
import {
  assertRoundTrip,
  bound,
  nameFingerprint,
  REMOTE_BLOB_BYTES_MAX,
  REMOTE_DEADLINE_MS,
  remoteSeal,
  unbound,
} from './remote.ts';
import type { Seal, SealMeans, SealMember } from './seal.ts';

const parameters = z.strictObject({ key_id: z.string().min(1).max(2048) });

export const awsKmsSeal: SealMember = {
  create: async (means) => {
    const { keyId } = means.kms;
    if (keyId === undefined) {
      throw new VaultError('sealed', 'BULLA_SEAL_KMS_KEY_ID is not set: name the KMS key that is to seal the vault.');
    }
    const seal = await kmsSeal(means, keyId);
    await assertRoundTrip(seal);
    return { seal, parameters: { key_id: keyId } };
  },
  open: async (means, stored) => {
    const parsed = parameters.safeParse(stored.parameters);
    if (!parsed.success) {
      throw new VaultError('integrity', 'The parameters of the aws-kms seal were edited: restore the table seals.');
    }
    return kmsSeal(means, parsed.data.key_id);
  },
};

async function kmsSeal({ kms: { endpoint, region } }: SealMeans, keyId: string): Promise<Seal> {
  const { DecryptCommand, EncryptCommand, KMSClient } = await import('@aws-sdk/client-kms');
  const client = new KMSClient({
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    maxAttempts: 2,
    requestHandler: { connectionTimeout: REMOTE_DEADLINE_MS, requestTimeout: REMOTE_DEADLINE_MS },
  });
  return remoteSeal({
    kind: 'aws-kms',
    fingerprint: nameFingerprint('aws-kms', keyId),
    wrap: (context, rootKey) =>
      asking(keyId, 'encrypt', async () => {
        const message = bound(context, rootKey);
        try {
          const command = new EncryptCommand({ KeyId: keyId, Plaintext: message, EncryptionContext: named(context) });
          return blobOf((await client.send(command)).CiphertextBlob, keyId);
        } finally {
          message.fill(0);
        }
      }),
    unwrap: (context, wrapped) =>
      asking(keyId, 'decrypt', async () => {
        const command = new DecryptCommand({
          KeyId: keyId,
          CiphertextBlob: wrapped,
          EncryptionContext: named(context),
        });
        const { Plaintext } = await client.send(command);
        return unbound(context, Plaintext ?? new Uint8Array(0));
      }),
    close: () => client.destroy(),
  });
}

/** What KMS binds to the ciphertext and writes into CloudTrail. */
function named(context: Context): Record<string, string> {
  const fields = Object.entries(context).filter(([name]) => name !== 'label');
  return {
    'bulla:what': context.label,
    ...Object.fromEntries(fields.map(([name, value]) => [`bulla:${name}`, String(value)])),
  };
}

function blobOf(blob: Uint8Array | undefined, keyId: string): Uint8Array {
  if (blob !== undefined && blob.length > 0 && blob.length <= REMOTE_BLOB_BYTES_MAX) return blob;
  throw new VaultError('sealed', `KMS answered without a ciphertext for the key ${keyId}; try again.`);
}

/** KMS's errors by their name only: their text repeats what was asked. */
async function asking<T>(keyId: string, what: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof VaultError) throw error;
    const name = String((error as { name?: unknown }).name ?? 'error');
    throw new VaultError(
      'sealed',
      `KMS did not ${what} with the key ${keyId} (${name}): check that it can be reached, that the key is enabled, and the credentials.`,
      { retryAfterSeconds: 5 },
    );
  }
}
