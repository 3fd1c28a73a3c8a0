/** What takes no named key: hashes, random bytes, and encryption to a public key that the caller names (HPKE). */
import { randomFillSync } from 'node:crypto';
import { LIMITS } from '../config.ts';
import { sealTo } from '../crypto/hpke.ts';
import { type HashName, hashOf } from '../crypto/signature.ts';
import { assert, VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { fault, faultError } from './fault.ts';

export async function computeHash(
  vault: Vault,
  call: Call,
  { hash, input }: { hash: HashName; input: Uint8Array },
): Promise<Uint8Array> {
  const ask = { action: 'transit.hash', resource: 'transit:hash' } as const;
  return permit(vault, call, ask, async () => ({ value: hashOf(hash, input), notes: [{ details: { hash } }] }));
}

export async function makeRandom(vault: Vault, call: Call, { bytes }: { bytes: number }): Promise<Uint8Array> {
  const ask = { action: 'transit.random', resource: 'transit:random' } as const;
  return permit(vault, call, ask, async () => {
    if (!Number.isInteger(bytes) || bytes < 1 || bytes > LIMITS.transitRandomBytesMax) {
      throw new VaultError('invalid_request', `bytes: expected 1 to ${LIMITS.transitRandomBytesMax}.`);
    }
    const value = new Uint8Array(bytes);
    randomFillSync(value);
    assert(bytes < 8 || value.some((byte) => byte !== 0), 'the random number generator gives random bytes');
    return { value, notes: [{ details: { bytes } }] };
  });
}

export type SealAsk = {
  /** Of X25519, 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly plaintext: Uint8Array;
  readonly info: Uint8Array;
  readonly associatedData: Uint8Array;
};

/** encapsulated key ‖ ciphertext ‖ tag, as crypto/hpke.ts says. */
export async function sealToPublicKey(vault: Vault, call: Call, ask: SealAsk): Promise<Uint8Array> {
  return permit(vault, call, { action: 'transit.seal', resource: 'transit:seal' }, async () => {
    const sealed = await sealTo(ask.publicKey, ask.info, ask.associatedData, ask.plaintext);
    if (sealed === undefined) throw faultError(fault('bad_public_key'));
    return { value: sealed };
  });
}
