/**
 * What ciphers of node:crypto with a tag write and read: ciphertext ‖ tag, in one piece.
 *
 * Nothing is returned that was not authenticated: what was decrypted before the tag was found wrong is wiped.
 */
import type { CipherChaCha20Poly1305, CipherGCM, DecipherChaCha20Poly1305, DecipherGCM } from 'node:crypto';

/** Writes ciphertext ‖ tag into `target`, which is exactly that long and must not overlap `plaintext`. */
export function sealTagged(
  cipher: CipherGCM | CipherChaCha20Poly1305,
  aad: Uint8Array,
  plaintext: Uint8Array,
  target: Uint8Array,
): void {
  cipher.setAAD(aad, { plaintextLength: plaintext.length });
  target.set(cipher.update(plaintext), 0);
  cipher.final();
  target.set(cipher.getAuthTag(), plaintext.length);
}

/** The plaintext, or undefined when the tag is not that of the ciphertext and the associated data. */
export function openTagged(
  decipher: DecipherGCM | DecipherChaCha20Poly1305,
  aad: Uint8Array,
  ciphertext: Uint8Array,
  tag: Uint8Array,
): Uint8Array | undefined {
  decipher.setAAD(aad, { plaintextLength: ciphertext.length });
  decipher.setAuthTag(tag);
  const plaintext = decipher.update(ciphertext);
  try {
    decipher.final();
  } catch {
    // final() throws for one reason only, a tag that does not match; what was decrypted on the way is not plaintext.
    plaintext.fill(0);
    return undefined;
  }
  return plaintext;
}
