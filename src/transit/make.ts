/** Making the bytes of a key, outside of every transaction, and never more RSA keys at once than the machine can bear. */
import { LIMITS } from '../config.ts';
import { KEY_TYPES, type KeyType, NamedKey } from '../crypto/named-key.ts';
import { VaultError } from '../errors.ts';

let beingMade = 0;

/** The caller wipes it. Throws `busy`. */
export async function makeKey(type: KeyType, macBytes: number): Promise<NamedKey> {
  if (KEY_TYPES[type].family !== 'rsa') return NamedKey.generate(type, macBytes);
  if (beingMade >= LIMITS.transitKeysMadeMax) {
    throw new VaultError('busy', 'Other RSA keys are being made. Try again a little later.', { retryAfterSeconds: 2 });
  }
  beingMade += 1;
  try {
    return await NamedKey.generate(type, macBytes);
  } finally {
    beingMade -= 1;
  }
}
