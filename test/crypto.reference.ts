/**
 * A second way to the envelope's bytes, written from docs/envelope.md and not from src: noble's HKDF and
 * XChaCha20-Poly1305, and its own table of contexts. It takes a nonce, which is why it may never move to src.
 */
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';

export type Fields = Record<string, string | number>;

const ORDER: Record<string, string[]> = {
  secret: ['tenant', 'secret', 'version'],
  'secret-metadata': ['tenant', 'secret'],
  'data-key': ['tenant', 'version'],
  'system-key': ['purpose', 'version'],
  'root-key': ['deployment', 'version'],
  'kept-answer': ['tenant', 'actor', 'key'],
  'lease-credential': ['tenant', 'lease'],
  'backend-config': ['tenant', 'backend'],
  'static-account': ['tenant', 'account'],
  rotator: ['tenant', 'secret'],
  'totp-seed': ['tenant', 'user'],
  'issuer-secret': ['tenant', 'issuer'],
  cubbyhole: ['tenant', 'token', 'path'],
  'secret-cursor': ['tenant'],
  'transit-key': ['tenant', 'key', 'version'],
};

export const utf8 = (text: string) => new TextEncoder().encode(text);
export const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
export const unhex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));

function bigEndian(value: bigint, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * (bytes - 1 - i))) & 0xffn));
}

function field(value: string | number): Uint8Array {
  const bytes = typeof value === 'number' ? bigEndian(BigInt(value), 8) : utf8(value);
  return Buffer.concat([utf8(typeof value === 'number' ? 'i' : 's'), bigEndian(BigInt(bytes.length), 4), bytes]);
}

export function referenceContext(context: Fields): Uint8Array {
  const label = String(context.label);
  return Buffer.concat([field(`bulla/v1/context/${label}`), ...ORDER[label]!.map((name) => field(context[name]!))]);
}

export function referenceDerive(key: Uint8Array, info: string): Uint8Array {
  return hkdf(sha256, key, undefined, utf8(info), 32);
}

export type Parts = {
  key: Uint8Array;
  context: Fields;
  nonce: Uint8Array;
  plaintext: Uint8Array;
  formatVersion?: number;
  algorithm?: number;
  keyVersion?: number;
  commitment?: Uint8Array;
};

/** An envelope whose every part can be chosen, so that a wrong one is wrong in exactly one way. */
export function referenceSeal(parts: Parts): { envelope: Uint8Array; associatedData: Uint8Array } {
  const header = Buffer.concat([
    Uint8Array.of(parts.formatVersion ?? 1, parts.algorithm ?? 1),
    bigEndian(BigInt(parts.keyVersion ?? 1), 4),
    parts.commitment ?? referenceDerive(parts.key, 'bulla/v1/commit'),
  ]);
  const associatedData = Buffer.concat([header, referenceContext(parts.context)]);
  const encryptionKey = referenceDerive(parts.key, 'bulla/v1/encrypt');
  const body = xchacha20poly1305(encryptionKey, parts.nonce, associatedData).encrypt(parts.plaintext);
  return { envelope: new Uint8Array(Buffer.concat([header, parts.nonce, body])), associatedData };
}
