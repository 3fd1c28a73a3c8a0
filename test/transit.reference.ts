/**
 * A second way to what named keys make, written from docs/transit.md and RFC 9180 and not from src: noble's hashes and
 * ChaCha, WebCrypto's AES. It takes nonces and ephemeral keys, which is why it may never move to src.
 */
import { createPrivateKey, createPublicKey, diffieHellman, webcrypto } from 'node:crypto';
import { chacha20poly1305, xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { expand, extract, hkdf } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';

export const bytes = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'));
export const hex = (data: Uint8Array) => Buffer.from(data).toString('hex');
const ascii = (text: string) => new TextEncoder().encode(text);
const concat = (...parts: Uint8Array[]) => Uint8Array.from(Buffer.concat(parts));

export const derived = (key: Uint8Array, context: Uint8Array) => hkdf(sha256, key, undefined, context, 64);

export function convergentNonce(
  nonceKey: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
  length: number,
): Uint8Array {
  const size = new Uint8Array(8);
  new DataView(size.buffer).setBigUint64(0, BigInt(aad.length));
  return hmac(sha256, nonceKey, concat(size, aad, plaintext)).slice(0, length);
}

/** nonce ‖ ciphertext ‖ tag */
export async function sealBody(
  type: string,
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): Promise<Uint8Array> {
  if (type === 'chacha20-poly1305') return concat(nonce, chacha20poly1305(key, nonce, aad).encrypt(plaintext));
  if (type === 'xchacha20-poly1305') return concat(nonce, xchacha20poly1305(key, nonce, aad).encrypt(plaintext));
  return concat(nonce, await aesGcm(key, nonce, aad, plaintext));
}

async function aesGcm(key: Uint8Array, iv: Uint8Array, additionalData: Uint8Array, plaintext: Uint8Array) {
  const imported = await webcrypto.subtle.importKey('raw', key, 'AES-GCM', false, ['encrypt']);
  return new Uint8Array(await webcrypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData }, imported, plaintext));
}

// ---- HPKE, RFC 9180, base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-GCM -------------------------------------

const VERSION = ascii('HPKE-v1');
const i2osp = (n: number, length: number) => Uint8Array.from({ length }, (_, i) => n >> (8 * (length - 1 - i)));

const labeledExtract = (suite: Uint8Array, salt: Uint8Array, label: string, ikm: Uint8Array) =>
  extract(sha256, concat(VERSION, suite, ascii(label), ikm), salt);
const labeledExpand = (suite: Uint8Array, prk: Uint8Array, label: string, info: Uint8Array, length: number) =>
  expand(sha256, prk, concat(i2osp(length, 2), VERSION, suite, ascii(label), info), length);

const x25519Private = (raw: Uint8Array) =>
  createPrivateKey({
    key: Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), raw]),
    format: 'der',
    type: 'pkcs8',
  });
const x25519Public = (raw: Uint8Array) =>
  createPublicKey({
    key: Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), raw]),
    format: 'der',
    type: 'spki',
  });

/** encapsulated key ‖ ciphertext ‖ tag, by an ephemeral key that the caller chooses. */
export async function hpkeSeal(
  aead: { id: number; keyBytes: number },
  ephemeral: Uint8Array,
  recipient: Uint8Array,
  info: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): Promise<Uint8Array> {
  const own = x25519Private(ephemeral);
  const enc = Uint8Array.from(createPublicKey(own).export({ format: 'der', type: 'spki' }).subarray(-32));
  const dh = diffieHellman({ privateKey: own, publicKey: x25519Public(recipient) });
  const kem = concat(ascii('KEM'), i2osp(0x20, 2));
  const prk = labeledExtract(kem, new Uint8Array(0), 'eae_prk', dh);
  const shared = labeledExpand(kem, prk, 'shared_secret', concat(enc, recipient), 32);
  const suite = concat(ascii('HPKE'), i2osp(0x20, 2), i2osp(1, 2), i2osp(aead.id, 2));
  const pskIdHash = labeledExtract(suite, new Uint8Array(0), 'psk_id_hash', new Uint8Array(0));
  const infoHash = labeledExtract(suite, new Uint8Array(0), 'info_hash', info);
  const schedule = concat(Uint8Array.of(0), pskIdHash, infoHash);
  const secret = labeledExtract(suite, shared, 'secret', new Uint8Array(0));
  const key = labeledExpand(suite, secret, 'key', schedule, aead.keyBytes);
  const nonce = labeledExpand(suite, secret, 'base_nonce', schedule, 12);
  return concat(enc, await aesGcm(key, nonce, aad, plaintext));
}
