/**
 * The envelope: the form of every ciphertext that the vault makes.
 *
 *     offset  bytes
 *          0      1  format version, 0x01
 *          1      1  algorithm, 0x01: XChaCha20-Poly1305
 *          2      4  version of the key, big endian, from 1
 *          6     32  key commitment
 *         38     24  nonce
 *         62      n  ciphertext, as long as the plaintext
 *     62 + n     16  Poly1305 tag
 *
 * From a key of 32 bytes, HKDF-SHA-256 (RFC 5869; no salt, 32 bytes out) derives with info `bulla/v1/encrypt` the
 * encryption key and with info `bulla/v1/commit` the commitment. The first 8 bytes of the commitment, in hex, are the
 * fingerprint that people see.
 *
 * The associated data is the 38 bytes before the nonce, then `encodeContext(context)` (context.ts): the label and the
 * ids of what the ciphertext belongs to. An envelope that was moved to another row therefore does not open there.
 *
 * Opening checks, in this order: the length (at least 78), the format version, the algorithm, the key version, the
 * commitment (in constant time), and only then decrypts. The commitment is what makes an envelope open under one key
 * only: Poly1305 alone does not commit to its key. Every failure is the same `integrity` error with the same words, so
 * a caller learns nothing from which check failed.
 *
 * The nonce is made while sealing (nonce.ts): no function takes one. This file must never return a byte of plaintext that
 * was not authenticated, nor write key bytes anywhere. docs/envelope.md says the same for other implementations,
 * test/vectors/envelope-*.json holds examples.
 */
import { hkdfSync, timingSafeEqual } from 'node:crypto';
import { inspect } from 'node:util';
import { assert, VaultError } from '../errors.ts';
import { type Context, contextLength, LABEL, writeContext } from './context.ts';
import { writeFreshNonce } from './nonce.ts';
import { decrypt, encryptInto, KEY_BYTES, NONCE_BYTES, TAG_BYTES } from './xchacha.ts';

const FORMAT_VERSION = 1;
const ALGORITHM_XCHACHA20_POLY1305 = 1;
const COMMITMENT_OFFSET = 6;
const COMMITMENT_BYTES = 32;
const NONCE_OFFSET = COMMITMENT_OFFSET + COMMITMENT_BYTES;
const BODY_OFFSET = NONCE_OFFSET + NONCE_BYTES;
const FINGERPRINT_BYTES = 8;
const KEY_VERSION_MAX = 0xffff_ffff;

/** How much longer an envelope is than what it holds. */
export const ENVELOPE_OVERHEAD: number = BODY_OFFSET + TAG_BYTES;

let sealUnder: (key: SealingKey, context: Context, plaintext: Uint8Array, envelope: Uint8Array) => void;
let openUnder: (key: SealingKey, context: Context, envelope: Uint8Array) => Uint8Array;

/**
 * What seals and opens: the encryption key and the commitment derived from 32 bytes that are not kept. keys.ts adds
 * what a key of the chain can do besides. The derived bytes are readable by `seal` and `open` of this file only.
 */
export class SealingKey {
  readonly version: number;
  /** The first 8 bytes of the commitment in hex: what people compare. */
  readonly fingerprint: string;
  readonly #encryptionKey: Uint8Array;
  readonly #commitment: Uint8Array;
  #wiped = false;

  /** Derives from `bytes`, which stay the caller's to wipe. */
  constructor(version: number, bytes: Uint8Array) {
    assert(
      Number.isInteger(version) && version >= 1 && version <= KEY_VERSION_MAX,
      'a key version is from 1 to 2^32-1',
    );
    assert(bytes.length === KEY_BYTES, `a key has ${KEY_BYTES} bytes`);
    this.version = version;
    this.#encryptionKey = derive(bytes, LABEL.encrypt);
    this.#commitment = derive(bytes, LABEL.commit);
    this.fingerprint = hex(this.#commitment.subarray(0, FINGERPRINT_BYTES));
  }

  get wiped(): boolean {
    return this.#wiped;
  }

  /** Overwrites what was derived; the key cannot be used afterwards. */
  wipe(): void {
    this.#wiped = true;
    this.#encryptionKey.fill(0);
  }

  toString(): string {
    return `[Key v${this.version} ${this.fingerprint}]`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }

  static {
    sealUnder = (key, context, plaintext, envelope) => {
      assert(!key.#wiped, 'a wiped key is not used');
      assert(
        envelope.length === ENVELOPE_OVERHEAD + plaintext.length,
        'an envelope is as long as what it holds, and its overhead',
      );
      const aad = associatedData(contextLength(context));
      aad[0] = FORMAT_VERSION;
      aad[1] = ALGORITHM_XCHACHA20_POLY1305;
      aad.writeUInt32BE(key.version, 2);
      aad.set(key.#commitment, COMMITMENT_OFFSET);
      writeContext(context, aad, NONCE_OFFSET);

      envelope.set(aad.subarray(0, NONCE_OFFSET));
      const nonce = envelope.subarray(NONCE_OFFSET, BODY_OFFSET);
      writeFreshNonce(nonce);
      encryptInto(key.#encryptionKey, nonce, aad, plaintext, envelope.subarray(BODY_OFFSET));
    };

    openUnder = (key, context, envelope) => {
      assert(!key.#wiped, 'a wiped key is not used');
      const aad = associatedData(contextLength(context));
      writeContext(context, aad, NONCE_OFFSET);
      if (!hasKnownForm(envelope) || envelopeKeyVersion(envelope) !== key.version) throw doesNotOpen();
      if (!timingSafeEqual(envelope.subarray(COMMITMENT_OFFSET, NONCE_OFFSET), key.#commitment)) throw doesNotOpen();
      aad.set(envelope.subarray(0, NONCE_OFFSET));
      const nonce = envelope.subarray(NONCE_OFFSET, BODY_OFFSET);
      const plaintext = decrypt(key.#encryptionKey, nonce, aad, envelope.subarray(BODY_OFFSET));
      if (plaintext === undefined) throw doesNotOpen();
      return plaintext;
    };
  }
}

/** Scratch space for associated data: everything here is synchronous, so no two calls meet in it. None of it is secret. */
const scratch = Buffer.alloc(1024);

function associatedData(contextBytes: number): Buffer {
  const length = NONCE_OFFSET + contextBytes;
  return length <= scratch.length ? scratch.subarray(0, length) : Buffer.alloc(length);
}

/** Encrypts `plaintext` under a nonce never used before, bound to `context`. */
export function seal(key: SealingKey, context: Context, plaintext: Uint8Array): Uint8Array {
  const envelope = new Uint8Array(ENVELOPE_OVERHEAD + plaintext.length);
  sealUnder(key, context, plaintext, envelope);
  return envelope;
}

/** The same into `envelope`, which is exactly as long as one of this plaintext and must not overlap it: many side by side. */
export function sealInto(key: SealingKey, context: Context, plaintext: Uint8Array, envelope: Uint8Array): void {
  sealUnder(key, context, plaintext, envelope);
}

/** Decrypts an envelope that `seal` made with this key and context; anything else throws `integrity`. */
export function open(key: SealingKey, context: Context, envelope: Uint8Array): Uint8Array {
  return openUnder(key, context, envelope);
}

/** The version of the key that an envelope says it was made with. Nothing is authenticated yet. */
export function envelopeKeyVersion(envelope: Uint8Array): number {
  if (!hasKnownForm(envelope)) throw doesNotOpen();
  return envelope[2]! * 0x100_0000 + ((envelope[3]! << 16) | (envelope[4]! << 8) | envelope[5]!);
}

/** The commitment to the key that an envelope says it was made with: a view, not a copy. Nothing is authenticated yet. */
export function envelopeCommitment(envelope: Uint8Array): Uint8Array {
  if (!hasKnownForm(envelope)) throw doesNotOpen();
  return envelope.subarray(COMMITMENT_OFFSET, NONCE_OFFSET);
}

/** The fingerprint of the key that an envelope asks for, to be shown beside the one that is at hand. */
export function envelopeFingerprint(envelope: Uint8Array): string {
  return hex(envelopeCommitment(envelope).subarray(0, FINGERPRINT_BYTES));
}

function hasKnownForm(envelope: Uint8Array): boolean {
  return (
    envelope.length >= ENVELOPE_OVERHEAD &&
    envelope[0] === FORMAT_VERSION &&
    envelope[1] === ALGORITHM_XCHACHA20_POLY1305
  );
}

function doesNotOpen(): VaultError {
  return new VaultError(
    'integrity',
    'Stored bytes do not open: they were moved, edited or damaged, or belong to another key. Restore them from a backup.',
  );
}

function derive(key: Uint8Array, label: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', key, EMPTY, label, KEY_BYTES));
}

const EMPTY = new Uint8Array(0);

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
