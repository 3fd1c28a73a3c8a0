/**
 * HPKE (RFC 9180) in base mode: encryption to a public key, by the `hpke` package on top of Node's WebCrypto.
 *
 * One suite: DHKEM(X25519, HKDF-SHA256) 0x0020, HKDF-SHA256 0x0001, AES-256-GCM 0x0002. A sealed message is
 *
 *     encapsulated key (32) ‖ ciphertext ‖ tag (16)
 *
 * It says who can read it and nothing about who wrote it. A low-order public key is refused by the agreement itself.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import {
  AEAD_AES_256_GCM,
  CipherSuite,
  DecapError,
  DeserializeError,
  EncapError,
  KDF_HKDF_SHA256,
  KEM_DHKEM_X25519_HKDF_SHA256,
  OpenError,
  ValidationError,
} from 'hpke';

const HPKE_KEY_BYTES = 32;
const ENCAPSULATED_BYTES = 32;

const suite = new CipherSuite(KEM_DHKEM_X25519_HKDF_SHA256, KDF_HKDF_SHA256, AEAD_AES_256_GCM);

/** PKCS #8 of an X25519 key is this and then its 32 bytes (RFC 8410 §7). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');

/** A new private key. The caller wipes it. */
export function generateHpkeKey(): Uint8Array {
  const der = generateKeyPairSync('x25519').privateKey.export({ format: 'der', type: 'pkcs8' });
  const key = Uint8Array.from(der.subarray(-HPKE_KEY_BYTES));
  der.fill(0);
  return key;
}

export function hpkePublicKey(privateKey: Uint8Array): Uint8Array {
  const der = Buffer.concat([PKCS8_PREFIX, privateKey]);
  try {
    const key = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }));
    return Uint8Array.from(key.export({ format: 'der', type: 'spki' }).subarray(-HPKE_KEY_BYTES));
  } finally {
    der.fill(0);
  }
}

/** Undefined when the public key is none. */
export async function sealTo(
  publicKey: Uint8Array,
  info: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): Promise<Uint8Array | undefined> {
  if (publicKey.length !== HPKE_KEY_BYTES) return undefined;
  try {
    const key = await suite.DeserializePublicKey(publicKey);
    const { encapsulatedSecret, ciphertext } = await suite.Seal(key, plaintext, { info, aad });
    return Buffer.concat([encapsulatedSecret, ciphertext]);
  } catch (error) {
    // X25519 with a low-order key gives zeros (RFC 9180 §7.1.4).
    if (error instanceof EncapError || isNone(error)) return undefined;
    throw error;
  }
}

/** Undefined when anything is not what `sealTo` was given. `privateKey` is read before the first await. */
export async function openSealed(
  privateKey: Uint8Array,
  info: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
): Promise<Uint8Array | undefined> {
  const own = Uint8Array.from(privateKey);
  try {
    const pair = {
      publicKey: await suite.DeserializePublicKey(hpkePublicKey(own)),
      privateKey: await suite.DeserializePrivateKey(own, false),
    };
    const encapsulated = sealed.subarray(0, ENCAPSULATED_BYTES);
    return await suite.Open(pair, encapsulated, sealed.subarray(ENCAPSULATED_BYTES), { info, aad });
  } catch (error) {
    if (error instanceof DecapError || error instanceof OpenError || isNone(error)) return undefined;
    throw error;
  } finally {
    own.fill(0);
  }
}

const isNone = (error: unknown) => error instanceof DeserializeError || error instanceof ValidationError;
