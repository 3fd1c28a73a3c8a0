/**
 * The authenticated ciphers of named keys, each by node:crypto (XChaCha20-Poly1305 through xchacha.ts).
 *
 *     aes128-gcm96, aes256-gcm96   AES-GCM (SP 800-38D), nonce of 12 bytes
 *     chacha20-poly1305            RFC 8439, nonce of 12 bytes
 *     xchacha20-poly1305           draft-irtf-cfrg-xchacha-03, nonce of 24 bytes
 *
 * The tag always has 16 bytes and stands behind the ciphertext. Nothing is returned that was not authenticated. Only
 * named-key.ts and the vectors may call this file: it takes a nonce, and whoever chooses nonces can repeat one.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { assert } from '../errors.ts';
import { openTagged, sealTagged } from './tagged.ts';
import { decrypt, encrypt } from './xchacha.ts';

export type AeadName = 'aes128-gcm96' | 'aes256-gcm96' | 'chacha20-poly1305' | 'xchacha20-poly1305';

export type Aead = {
  readonly keyBytes: 16 | 32;
  readonly nonceBytes: 12 | 24;
  /** Random nonces of 12 bytes collide too likely beyond 2^32 of them (SP 800-38D §8.3), so they are counted. */
  readonly counted: boolean;
};

export const AEADS: Readonly<Record<AeadName, Aead>> = {
  'aes128-gcm96': { keyBytes: 16, nonceBytes: 12, counted: true },
  'aes256-gcm96': { keyBytes: 32, nonceBytes: 12, counted: true },
  'chacha20-poly1305': { keyBytes: 32, nonceBytes: 12, counted: true },
  'xchacha20-poly1305': { keyBytes: 32, nonceBytes: 24, counted: false },
};

export const AEAD_TAG_BYTES = 16;

const OPTIONS = { authTagLength: AEAD_TAG_BYTES } as const;

/** Returns ciphertext ‖ tag. */
export function sealAead(
  name: AeadName,
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): Uint8Array {
  checkLengths(name, key, nonce);
  if (name === 'xchacha20-poly1305') return encrypt(key, nonce, aad, plaintext);
  const sealed = new Uint8Array(plaintext.length + AEAD_TAG_BYTES);
  sealTagged(cipherOf(name, key, nonce), aad, plaintext, sealed);
  return sealed;
}

/** The plaintext, or undefined when any of it is not what `sealAead` was given. */
export function openAead(
  name: AeadName,
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  checkLengths(name, key, nonce);
  if (name === 'xchacha20-poly1305') return decrypt(key, nonce, aad, sealed);
  const length = sealed.length - AEAD_TAG_BYTES;
  if (length < 0) return undefined;
  return openTagged(decipherOf(name, key, nonce), aad, sealed.subarray(0, length), sealed.subarray(length));
}

function checkLengths(name: AeadName, key: Uint8Array, nonce: Uint8Array): void {
  const { keyBytes, nonceBytes } = AEADS[name];
  assert(key.length === keyBytes, `a key of ${name} has ${keyBytes} bytes`);
  assert(nonce.length === nonceBytes, `a nonce of ${name} has ${nonceBytes} bytes`);
}

type Inner = Exclude<AeadName, 'xchacha20-poly1305'>;

function cipherOf(name: Inner, key: Uint8Array, nonce: Uint8Array) {
  if (name === 'aes128-gcm96') return createCipheriv('aes-128-gcm', key, nonce, OPTIONS);
  if (name === 'aes256-gcm96') return createCipheriv('aes-256-gcm', key, nonce, OPTIONS);
  return createCipheriv('chacha20-poly1305', key, nonce, OPTIONS);
}

function decipherOf(name: Inner, key: Uint8Array, nonce: Uint8Array) {
  if (name === 'aes128-gcm96') return createDecipheriv('aes-128-gcm', key, nonce, OPTIONS);
  if (name === 'aes256-gcm96') return createDecipheriv('aes-256-gcm', key, nonce, OPTIONS);
  return createDecipheriv('chacha20-poly1305', key, nonce, OPTIONS);
}
