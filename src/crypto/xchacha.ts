/**
 * XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), in two ways that give the same bytes.
 *
 * What is short, as nearly all secrets are, goes through libsodium (WebAssembly, sodium.ts): a cipher object of node:crypto
 * costs some 6 µs to make and more to collect, several times what 250 bytes take there. What is longer goes through
 * ChaCha20-Poly1305 of node:crypto, which is compiled for the processor, under a subkey that HChaCha20 of @noble/ciphers
 * makes. From 2 KiB on that is the faster one (Node 20.20).
 *
 * Invariant: both give the bytes of @noble/ciphers' own XChaCha20-Poly1305, which tests compare at every length that matters.
 * Only envelope.ts and the vectors may call this file: it takes a nonce, and whoever chooses nonces can repeat one.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { hchacha } from '@noble/ciphers/chacha.js';
import { assert } from '../errors.ts';
import { AAD_BYTES_MAX, KEY_BYTES, NONCE_BYTES, openShort, sealShort, TAG_BYTES, TEXT_BYTES_MAX } from './sodium.ts';
import { openTagged, sealTagged } from './tagged.ts';

export { KEY_BYTES, NONCE_BYTES, TAG_BYTES } from './sodium.ts';

/** Returns ciphertext ‖ tag. */
export function encrypt(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const sealed = new Uint8Array(plaintext.length + TAG_BYTES);
  encryptInto(key, nonce, aad, plaintext, sealed);
  return sealed;
}

/** Writes ciphertext ‖ tag into `target`, which is exactly that long and must not overlap `plaintext`. */
export function encryptInto(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
  target: Uint8Array,
): void {
  assert(target.length === plaintext.length + TAG_BYTES, 'the target holds the ciphertext and its tag');
  checkLengths(key, nonce);
  if (isShort(plaintext.length, aad)) {
    sealShort(key, nonce, aad, plaintext, target);
    return;
  }
  prepare(key, nonce);
  const cipher = createCipheriv('chacha20-poly1305', subkeyBytes, innerNonce, OPTIONS);
  subkey.fill(0);
  sealTagged(cipher, aad, plaintext, target);
}

/** Returns the plaintext, or undefined when key, nonce, associated data, ciphertext or tag are not those of `encrypt`. */
export function decrypt(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  checkLengths(key, nonce);
  const length = sealed.length - TAG_BYTES;
  if (length < 0) return undefined;
  if (isShort(length, aad)) return openShort(key, nonce, aad, sealed);
  prepare(key, nonce);
  const decipher = createDecipheriv('chacha20-poly1305', subkeyBytes, innerNonce, OPTIONS);
  subkey.fill(0);
  return openTagged(decipher, aad, sealed.subarray(0, length), sealed.subarray(length));
}

const isShort = (length: number, aad: Uint8Array) => length <= TEXT_BYTES_MAX && aad.length <= AAD_BYTES_MAX;

const OPTIONS = { authTagLength: TAG_BYTES } as const;

/** "expand 32-byte k", the constant of ChaCha (RFC 8439 §2.3), as words in memory order. */
const sigma = new Uint32Array(Uint8Array.from(Buffer.from('expand 32-byte k')).buffer);

// Scratch space. Everything here is synchronous, so no two calls meet in it; the key words and the subkey are wiped
// before the call returns.
const keyWords = new Uint32Array(KEY_BYTES / 4);
const keyWordBytes = new Uint8Array(keyWords.buffer);
const nonceWords = new Uint32Array(4);
const nonceWordBytes = new Uint8Array(nonceWords.buffer);
const subkey = new Uint32Array(KEY_BYTES / 4);
const subkeyBytes = new Uint8Array(subkey.buffer);
const innerNonce = new Uint8Array(12);

function checkLengths(key: Uint8Array, nonce: Uint8Array): void {
  assert(key.length === KEY_BYTES, `a key has ${KEY_BYTES} bytes`);
  assert(nonce.length === NONCE_BYTES, `a nonce has ${NONCE_BYTES} bytes`);
}

/** Leaves the subkey and the inner nonce (four zero bytes, then the nonce's last eight; draft §2.3) in the scratch space. */
function prepare(key: Uint8Array, nonce: Uint8Array): void {
  keyWordBytes.set(key);
  nonceWordBytes.set(nonce.subarray(0, 16));
  hchacha(sigma, keyWords, nonceWords, subkey);
  keyWords.fill(0);
  innerNonce.set(nonce.subarray(16), 4);
}
