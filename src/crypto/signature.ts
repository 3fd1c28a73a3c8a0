/**
 * Signatures and message authentication codes of named keys, by node:crypto.
 *
 *     ed25519         RFC 8032, pure: over the message itself
 *     ecdsa           FIPS 186-5 with P-256, P-384 or P-521; as DER, or as r ‖ s of fixed length (RFC 7515 §A.3)
 *     rsa, pss        RFC 8017 §8.1, MGF1 with the same hash
 *     rsa, pkcs1v15   RFC 8017 §8.2
 *     hmac            RFC 2104
 *
 * Verifying never throws for a signature that is not one: it is false. Signing runs in Node's thread pool, since an RSA
 * key of 4096 bits takes milliseconds. SHA-1 and MD5 are not offered.
 */
import {
  constants,
  createHmac,
  hash as digestOf,
  type KeyObject,
  privateEncrypt,
  publicDecrypt,
  sign,
  timingSafeEqual,
  verify,
} from 'node:crypto';
import { promisify } from 'node:util';
import { VaultError } from '../errors.ts';

export const HASHES = [
  ...(['sha2-224', 'sha2-256', 'sha2-384', 'sha2-512'] as const),
  ...(['sha3-224', 'sha3-256', 'sha3-384', 'sha3-512'] as const),
] as const;

export type HashName = (typeof HASHES)[number];

/** As OpenSSL calls it. */
const opensslName = (name: HashName): string => (name.startsWith('sha2-') ? `sha${name.slice(5)}` : name);

export type SignatureScheme = {
  readonly hash: HashName;
  /** The input is the hash already. */
  readonly prehashed: boolean;
  /** Of RSA keys. */
  readonly padding: 'pss' | 'pkcs1v15';
  /** Of PSS: the longest that fits, the length of the hash, or so many bytes. `auto` takes any when verifying. */
  readonly saltLength: 'auto' | 'hash' | number;
  /** Of ECDSA: DER, or r ‖ s. */
  readonly marshaling: 'asn1' | 'jws';
};

const signInPool = promisify(sign) as (
  algorithm: string | null,
  data: Uint8Array,
  key: Parameters<typeof sign>[2],
) => Promise<Buffer>;

/** Throws `invalid_request` for a scheme that the key cannot have. */
export async function signMessage(key: KeyObject, scheme: SignatureScheme, message: Uint8Array): Promise<Uint8Array> {
  if (scheme.prehashed) return privateEncrypt({ key, padding: PKCS1 }, digestInfo(key, scheme, message));
  const { algorithm, options } = parametersOf(key, scheme, 'sign');
  try {
    return await signInPool(algorithm, message, { key, ...options });
  } catch (error) {
    if (scheme.padding === 'pss' && typeof scheme.saltLength === 'number') throw saltTooLong();
    throw error;
  }
}

/** Whether the signature is the key's. Throws `invalid_request` as `signMessage` does. */
export function verifyMessage(
  key: KeyObject,
  scheme: SignatureScheme,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (scheme.prehashed) return verifyDigest(key, digestInfo(key, scheme, message), signature);
  const { algorithm, options } = parametersOf(key, scheme, 'verify');
  try {
    return verify(algorithm, message, { key, ...options }, signature);
  } catch {
    // OpenSSL refuses to look at some texts that are no signatures.
    return false;
  }
}

export function hmacOf(hash: HashName, key: Uint8Array, message: Uint8Array): Uint8Array {
  return createHmac(opensslName(hash), key).update(message).digest();
}

/** Compares in constant time. */
export function equalMac(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

export function hashOf(name: HashName, message: Uint8Array): Uint8Array {
  return digestOf(opensslName(name), message, 'buffer');
}

const PKCS1 = constants.RSA_PKCS1_PADDING;

type SignParameters = {
  readonly algorithm: string | null;
  readonly options: { padding?: number; saltLength?: number; dsaEncoding?: 'der' | 'ieee-p1363' };
};

function parametersOf(key: KeyObject, scheme: SignatureScheme, use: 'sign' | 'verify'): SignParameters {
  if (key.asymmetricKeyType === 'ed25519') return { algorithm: null, options: {} };
  const algorithm = opensslName(scheme.hash);
  if (key.asymmetricKeyType === 'ec') {
    return { algorithm, options: { dsaEncoding: scheme.marshaling === 'asn1' ? 'der' : 'ieee-p1363' } };
  }
  if (scheme.padding === 'pkcs1v15') return { algorithm, options: { padding: PKCS1 } };
  const saltLength = saltLengthOf(scheme.saltLength, use);
  return { algorithm, options: { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength } };
}

function saltLengthOf(saltLength: SignatureScheme['saltLength'], use: 'sign' | 'verify'): number {
  if (saltLength === 'hash') return constants.RSA_PSS_SALTLEN_DIGEST;
  if (saltLength !== 'auto') return saltLength;
  return use === 'sign' ? constants.RSA_PSS_SALTLEN_MAX_SIGN : constants.RSA_PSS_SALTLEN_AUTO;
}

/** What stands before the hash in RFC 8017 §9.2, note 1, and the same for SHA-3 (RFC 9688 gives its object ids). */
const DIGEST_INFO_PREFIX: Readonly<Record<HashName, string>> = {
  'sha2-224': '302d300d06096086480165030402040500041c',
  'sha2-256': '3031300d060960864801650304020105000420',
  'sha2-384': '3041300d060960864801650304020205000430',
  'sha2-512': '3051300d060960864801650304020305000440',
  'sha3-224': '302d300d06096086480165030402070500041c',
  'sha3-256': '3031300d060960864801650304020805000420',
  'sha3-384': '3041300d060960864801650304020905000430',
  'sha3-512': '3051300d060960864801650304020a05000440',
};

/** Only RSA with PKCS #1 v1.5 signs a hash that was made elsewhere: OpenSSL through Node hashes by itself for the others. */
function digestInfo(key: KeyObject, { hash, padding }: SignatureScheme, digest: Uint8Array): Uint8Array {
  if (key.asymmetricKeyType !== 'rsa' || padding !== 'pkcs1v15') {
    throw new VaultError(
      'invalid_request',
      'prehashed: only an RSA key with signature_algorithm pkcs1v15 signs a hash that was made elsewhere; send the message.',
      { details: { reason: 'prehashed_not_supported' } },
    );
  }
  const prefix = Buffer.from(DIGEST_INFO_PREFIX[hash], 'hex');
  if (digest.length !== prefix.at(-1)) {
    throw new VaultError('invalid_request', `input: expected a hash of ${prefix.at(-1)} bytes, as ${hash} gives.`, {
      details: { reason: 'bad_digest_length' },
    });
  }
  return Buffer.concat([prefix, digest]);
}

/** The whole block is compared, so nothing can hide behind the hash. */
function verifyDigest(key: KeyObject, expected: Uint8Array, signature: Uint8Array): boolean {
  try {
    return equalMac(publicDecrypt({ key, padding: PKCS1 }, signature), expected);
  } catch {
    return false;
  }
}

function saltTooLong(): VaultError {
  return new VaultError('invalid_request', 'salt_length: the key is too short for a salt of that length.', {
    details: { reason: 'salt_too_long' },
  });
}
