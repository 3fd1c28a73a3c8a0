/**
 * XChaCha20-Poly1305 of libsodium, compiled to WebAssembly, for what is short. Only xchacha.ts calls it.
 *
 * A call copies what it needs to fixed places in the memory of the module. Before it returns, key and text are wiped
 * there, and the module's stack, where libsodium leaves the last part of a text. It is synchronous, so no two calls meet;
 * nothing else uses the module, so its memory never grows.
 */
import load from 'libsodium';
import { assert } from '../errors.ts';

/** What goes through here at most. Longer texts are faster elsewhere. */
export const TEXT_BYTES_MAX = 2048;
/** Our own associated data has some 150 bytes; that of callers of named keys can be longer. */
export const AAD_BYTES_MAX = 1024;

export const KEY_BYTES = 32;
export const NONCE_BYTES = 24;
export const TAG_BYTES = 16;
/** More than calls were seen to use. */
const STACK_BYTES_MAX = 4096;

const sodium = await load();
const memory = sodium.HEAPU8;

// Key and text are neighbours, so that both are wiped at once.
const NONCE_AT = sodium._malloc(NONCE_BYTES + AAD_BYTES_MAX + KEY_BYTES + TEXT_BYTES_MAX + TAG_BYTES);
const AAD_AT = NONCE_AT + NONCE_BYTES;
const KEY_AT = AAD_AT + AAD_BYTES_MAX;
const TEXT_AT = KEY_AT + KEY_BYTES;
assert(NONCE_AT !== 0, 'libsodium has memory');

const [STACK_LOW, STACK_HIGH] = findStack();

/** Writes ciphertext ‖ tag into `target`, which is exactly that long. */
export function sealShort(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
  target: Uint8Array,
): void {
  const { length } = plaintext;
  place(key, nonce, aad, plaintext);
  try {
    encryptInPlace(length, aad.length);
    target.set(memory.subarray(TEXT_AT, TEXT_AT + length + TAG_BYTES));
  } finally {
    wipe(length);
  }
}

/** The plaintext, or undefined when the tag is not that of the ciphertext and the associated data. */
export function openShort(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  const length = sealed.length - TAG_BYTES;
  place(key, nonce, aad, sealed);
  try {
    if (!decryptInPlace(length, aad.length)) return undefined;
    // In memory of its own, as a Buffer because that is what node:crypto gives.
    const plaintext = Buffer.alloc(length);
    plaintext.set(memory.subarray(TEXT_AT, TEXT_AT + length));
    return plaintext;
  } finally {
    wipe(length);
  }
}

function place(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, text: Uint8Array): void {
  assert(
    key.length === KEY_BYTES &&
      nonce.length === NONCE_BYTES &&
      aad.length <= AAD_BYTES_MAX &&
      text.length <= TEXT_BYTES_MAX + TAG_BYTES,
    'what goes through libsodium fits into its places',
  );
  memory.set(nonce, NONCE_AT);
  memory.set(aad, AAD_AT);
  memory.set(key, KEY_AT);
  memory.set(text, TEXT_AT);
}

function encryptInPlace(length: number, aadLength: number): void {
  const { _crypto_aead_xchacha20poly1305_ietf_encrypt: encrypt } = sodium;
  encrypt(TEXT_AT, 0, TEXT_AT, length, 0, AAD_AT, aadLength, 0, 0, NONCE_AT, KEY_AT);
}

/** Whether it was authentic. */
function decryptInPlace(length: number, aadLength: number): boolean {
  const { _crypto_aead_xchacha20poly1305_ietf_decrypt: decrypt } = sodium;
  return decrypt(TEXT_AT, 0, 0, TEXT_AT, length + TAG_BYTES, 0, AAD_AT, aadLength, 0, NONCE_AT, KEY_AT) === 0;
}

function wipe(textBytes: number): void {
  memory.fill(0, KEY_AT, TEXT_AT + textBytes + TAG_BYTES);
  memory.fill(0, STACK_LOW, STACK_HIGH);
}

/**
 * The part of the stack that calls use, which the module does not tell: what they change outside of our places, right
 * below the first of them.
 */
function findStack(): readonly [number, number] {
  const from = NONCE_AT - STACK_BYTES_MAX;
  const [rest, before] = [memory.slice(0, from), memory.slice(from, NONCE_AT)];
  const changed = new Set<number>();
  for (const length of [1, 63, 200, AAD_BYTES_MAX]) {
    memory.fill(length | 1, NONCE_AT, TEXT_AT + length);
    // The last one is not authentic.
    for (const call of [encryptInPlace, decryptInPlace, decryptInPlace]) {
      call(length, length);
      for (const [i, byte] of before.entries()) if (memory[from + i] !== byte) changed.add(from + i);
    }
    memory.fill(0, NONCE_AT, TEXT_AT + length + TAG_BYTES);
  }
  const isAll = Buffer.compare(rest, memory.subarray(0, from)) === 0 && !changed.has(from);
  assert(changed.size > 0 && isAll, 'what libsodium changes beside a text is its stack');
  // In pieces of 16 bytes: one may have been given the value that it had.
  return [Math.min(...changed) & ~15, (Math.max(...changed) & ~15) + 16];
}
