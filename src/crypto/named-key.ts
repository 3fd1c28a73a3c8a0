/**
 * Named keys: one version of a key that applications use and never see.
 *
 * Invariant: its bytes leave it inside an envelope, or by `exportAs` and `exportMac`, which whoever asks is to have been
 * allowed. Printing, inspecting and serialising show the type. Every version has, beside its own key, a key for HMACs:
 * the pepper of a password key, all there is of an hmac key. What the envelope of a version holds:
 *
 *     0x01 | length of the HMAC key (2, big endian) | HMAC key | key
 *
 * where the key is the bytes of a cipher or of X25519, the seed of Ed25519, or the PKCS #8 DER of ECDSA and RSA.
 *
 * A derived key is HKDF-SHA-256 of the key without salt, with the caller's context as info: what HashiCorp's transit
 * derives too, so an exported key derives the same elsewhere. 64 bytes are derived: the first are the key, and of a
 * convergent key the last 32 make the nonce, so that equal plaintexts have equal ciphertexts:
 *
 *     nonce = the first bytes of HMAC-SHA-256(nonce key, length of the associated data (8, big endian) ‖ associated data ‖ plaintext)
 *
 * The associated data is in it because one nonce under two of them would give away the key of GCM's tag.
 */
import {
  constants,
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  hkdfSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { inspect, promisify } from 'node:util';
import { assert, VaultError } from '../errors.ts';
import { AEAD_TAG_BYTES, AEADS, type AeadName, openAead, sealAead } from './aead.ts';
import type { Context } from './context.ts';
import { open, type SealingKey, seal } from './envelope.ts';
import { generateHpkeKey, hpkePublicKey, openSealed, sealTo } from './hpke.ts';
import { SecretBytes } from './keys.ts';
import { writeFreshNonce } from './nonce.ts';
import { type HashName, hmacOf, type SignatureScheme, signMessage, verifyMessage } from './signature.ts';

export type KeyFacts = {
  readonly family: 'aead' | 'ed25519' | 'ecdsa' | 'rsa' | 'hpke' | 'hmac' | 'password';
  readonly encrypts: boolean;
  readonly signs: boolean;
  readonly derives: boolean;
  /** What one private operation costs, beside encrypting a small text. It bounds how many a request may ask for. */
  readonly cost: number;
};

const cipher = { family: 'aead', encrypts: true, signs: false, derives: true, cost: 1 } as const;
const ecdsa = { family: 'ecdsa', encrypts: false, signs: true, derives: false, cost: 4 } as const;
const rsa = { family: 'rsa', encrypts: true, signs: true, derives: false } as const;

const FACTS = {
  'aes256-gcm96': cipher,
  'aes128-gcm96': cipher,
  'chacha20-poly1305': cipher,
  'xchacha20-poly1305': cipher,
  ed25519: { family: 'ed25519', encrypts: false, signs: true, derives: true, cost: 1 },
  'ecdsa-p256': ecdsa,
  'ecdsa-p384': ecdsa,
  'ecdsa-p521': ecdsa,
  'rsa-2048': { ...rsa, cost: 16 },
  'rsa-3072': { ...rsa, cost: 32 },
  'rsa-4096': { ...rsa, cost: 64 },
  hpke: { family: 'hpke', encrypts: true, signs: false, derives: false, cost: 8 },
  hmac: { family: 'hmac', encrypts: false, signs: false, derives: false, cost: 1 },
  password: { family: 'password', encrypts: false, signs: false, derives: false, cost: 1 },
} as const satisfies Readonly<Record<string, KeyFacts>>;

export type KeyType = keyof typeof FACTS;

export const KEY_TYPES: Readonly<Record<KeyType, KeyFacts>> = FACTS;
export const KEY_TYPE_NAMES = Object.keys(FACTS) as readonly KeyType[];

/** What a ciphertext is bound to beside the key. */
export type Binding = {
  /** Of a derived key, what it is derived with; of an HPKE key, its info. */
  readonly context: Uint8Array | undefined;
  readonly aad: Uint8Array;
  readonly convergent: boolean;
};

const FORM = 0x01;
const HEADER_BYTES = 3;
export const MAC_BYTES = 32;
export const MAC_BYTES_MAX = 512;
const DERIVED_BYTES = 64;
const NONCE_KEY_OFFSET = 32;
const SEED_BYTES = 32;
const EMPTY = new Uint8Array(0);

/** PKCS #8 of an Ed25519 key is this and then the seed (RFC 8410 §7). */
const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex');

const CURVES = { 'ecdsa-p256': 'prime256v1', 'ecdsa-p384': 'secp384r1', 'ecdsa-p521': 'secp521r1' } as const;
const RSA_BITS = { 'rsa-2048': 2048, 'rsa-3072': 3072, 'rsa-4096': 4096 } as const;

export class NamedKey {
  readonly type: KeyType;
  readonly #key: SecretBytes | undefined;
  readonly #mac: SecretBytes;
  #private: KeyObject | undefined;
  #public: KeyObject | undefined;

  private constructor(type: KeyType, key: SecretBytes | undefined, mac: SecretBytes) {
    this.type = type;
    this.#key = key;
    this.#mac = mac;
  }

  /** A new random key. RSA keys take seconds and are made in Node's thread pool. */
  static async generate(type: KeyType, macBytes: number = MAC_BYTES): Promise<NamedKey> {
    assert(macBytes >= MAC_BYTES && macBytes <= MAC_BYTES_MAX, 'an HMAC key has 32 to 512 bytes');
    const key = await generateBytes(type);
    try {
      return new NamedKey(type, key && SecretBytes.fromBytes(key), SecretBytes.generate(macBytes));
    } finally {
      key?.fill(0);
    }
  }

  /** Opens what `wrap` made. */
  static unwrap(wrapper: SealingKey, context: Context, type: KeyType, envelope: Uint8Array): NamedKey {
    const bytes = open(wrapper, context, envelope);
    try {
      const macEnd = HEADER_BYTES + ((bytes[1] ?? 0) << 8) + (bytes[2] ?? 0);
      if (bytes[0] !== FORM || macEnd > bytes.length) throw notANamedKey();
      const key = macEnd < bytes.length ? SecretBytes.fromBytes(bytes.subarray(macEnd)) : undefined;
      return new NamedKey(type, key, SecretBytes.fromBytes(bytes.subarray(HEADER_BYTES, macEnd)));
    } finally {
      bytes.fill(0);
    }
  }

  wrap(wrapper: SealingKey, context: Context): Uint8Array {
    const key = this.#key?.use((bytes) => Uint8Array.from(bytes)) ?? EMPTY;
    const mac = this.#mac.use((bytes) => Uint8Array.from(bytes));
    const bundle = Buffer.concat([Buffer.of(FORM, mac.length >> 8, mac.length & 0xff), mac, key]);
    try {
      return seal(wrapper, context, bundle);
    } finally {
      for (const bytes of [bundle, key, mac]) bytes.fill(0);
    }
  }

  get wiped(): boolean {
    return this.#mac.wiped;
  }

  /** OpenSSL overwrites the private keys that it was given when the garbage collector frees them. */
  wipe(): void {
    this.#key?.wipe();
    this.#mac.wipe();
    this.#private = undefined;
    this.#public = undefined;
  }

  /**
   * What others may know: PEM of RSA and ECDSA keys, base64 of the 32 bytes of Ed25519 and X25519 keys. Undefined for
   * keys that have no public half, and for a derived Ed25519 key without its context.
   */
  publicKey(context?: Uint8Array): string | undefined {
    switch (KEY_TYPES[this.type].family) {
      case 'rsa':
      case 'ecdsa':
        return this.#publicObject().export({ format: 'pem', type: 'spki' }).toString();
      case 'ed25519':
        return rawEd25519(this.#ed25519(context)).toString('base64');
      case 'hpke':
        return Buffer.from(this.#use(hpkePublicKey)).toString('base64');
      default:
        return undefined;
    }
  }

  // ---- encryption -----------------------------------------------------------------------------------------------

  /** nonce ‖ ciphertext ‖ tag; of RSA keys, OAEP with SHA-256 (RFC 8017 §7.1); of HPKE keys as hpke.ts says. */
  async encrypt(plaintext: Uint8Array, binding: Binding): Promise<Uint8Array | undefined> {
    const { family } = KEY_TYPES[this.type];
    if (family === 'aead') return this.#sealAead(this.type as AeadName, plaintext, binding);
    if (family === 'rsa') return encryptRsa(this.#publicObject(), plaintext);
    assert(family === 'hpke', 'the key encrypts');
    return sealTo(this.#use(hpkePublicKey), binding.context ?? EMPTY, binding.aad, plaintext);
  }

  /** Undefined when the ciphertext was not made by this key with this binding. */
  async decrypt(body: Uint8Array, binding: Binding): Promise<Uint8Array | undefined> {
    const { family } = KEY_TYPES[this.type];
    if (family === 'aead') return this.#openAead(this.type as AeadName, body, binding);
    if (family === 'rsa') return decryptRsa(this.#privateObject(), body);
    assert(family === 'hpke', 'the key decrypts');
    return this.#use((key) => openSealed(key, binding.context ?? EMPTY, binding.aad, body));
  }

  #sealAead(name: AeadName, plaintext: Uint8Array, { context, aad, convergent }: Binding): Uint8Array {
    const { nonceBytes } = AEADS[name];
    return this.#withCipherKey(name, context, (key, nonceKey) => {
      const body = new Uint8Array(nonceBytes + plaintext.length + AEAD_TAG_BYTES);
      const nonce = body.subarray(0, nonceBytes);
      if (convergent) nonce.set(convergentNonce(nonceKey!, aad, plaintext).subarray(0, nonceBytes));
      else writeFreshNonce(nonce);
      body.set(sealAead(name, key, nonce, aad, plaintext), nonceBytes);
      return body;
    });
  }

  #openAead(name: AeadName, body: Uint8Array, { context, aad }: Binding): Uint8Array | undefined {
    const { nonceBytes } = AEADS[name];
    if (body.length < nonceBytes + AEAD_TAG_BYTES) return undefined;
    return this.#withCipherKey(name, context, (key) =>
      openAead(name, key, body.subarray(0, nonceBytes), aad, body.subarray(nonceBytes)),
    );
  }

  #withCipherKey<T>(
    name: AeadName,
    context: Uint8Array | undefined,
    act: (key: Uint8Array, nonceKey: Uint8Array | undefined) => T,
  ): T {
    if (context === undefined) return this.#use((key) => act(key, undefined));
    const derived = this.#use((key) => derive(key, context, DERIVED_BYTES));
    try {
      return act(derived.subarray(0, AEADS[name].keyBytes), derived.subarray(NONCE_KEY_OFFSET));
    } finally {
      derived.fill(0);
    }
  }

  // ---- signatures -----------------------------------------------------------------------------------------------

  async sign(message: Uint8Array, scheme: SignatureScheme, context?: Uint8Array): Promise<Uint8Array> {
    return signMessage(this.#signingObject(context), scheme, message);
  }

  verify(message: Uint8Array, scheme: SignatureScheme, signature: Uint8Array, context?: Uint8Array): boolean {
    const key = context === undefined ? this.#publicObject() : createPublicKey(this.#signingObject(context));
    return verifyMessage(key, scheme, message, signature);
  }

  mac(hash: HashName, message: Uint8Array): Uint8Array {
    return this.#mac.use((key) => hmacOf(hash, key, message));
  }

  // ---- passwords ------------------------------------------------------------------------------------------------

  /** For the hasher, as a copy that the caller wipes: hashing takes longer than a key may be held. */
  pepper(): SecretBytes {
    assert(this.type === 'password', 'only password keys are peppers');
    return this.#mac.use((key) => SecretBytes.fromBytes(key));
  }

  // ---- export ---------------------------------------------------------------------------------------------------

  /**
   * The key itself, as text: base64 of the bytes of ciphers and X25519 and of seed ‖ public key of Ed25519, PKCS #1 PEM
   * of RSA, SEC 1 PEM of ECDSA. Undefined when there is none beside the HMAC key.
   */
  exportAs(): string | undefined {
    switch (KEY_TYPES[this.type].family) {
      case 'rsa':
        return this.#privateObject().export({ format: 'pem', type: 'pkcs1' }).toString();
      case 'ecdsa':
        return this.#privateObject().export({ format: 'pem', type: 'sec1' }).toString();
      case 'ed25519':
        return this.#use((seed) => Buffer.concat([seed, rawEd25519(this.#privateObject())]).toString('base64'));
      case 'aead':
      case 'hpke':
        return this.#use((key) => Buffer.from(key).toString('base64'));
      default:
        return undefined;
    }
  }

  /** Base64. */
  exportMac(): string {
    return this.#mac.use((key) => Buffer.from(key).toString('base64'));
  }

  toString(): string {
    return `[NamedKey ${this.type}]`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }

  #use<T>(borrow: (bytes: Uint8Array) => T): T {
    assert(this.#key !== undefined, `a key of type ${this.type} holds more than an HMAC key`);
    return this.#key.use(borrow);
  }

  #privateObject(): KeyObject {
    this.#private ??= this.#use((bytes) =>
      this.type === 'ed25519'
        ? ed25519Of(bytes)
        : createPrivateKey({ key: viewOf(bytes), format: 'der', type: 'pkcs8' }),
    );
    return this.#private;
  }

  #publicObject(): KeyObject {
    this.#public ??= createPublicKey(this.#privateObject());
    return this.#public;
  }

  #signingObject(context: Uint8Array | undefined): KeyObject {
    return this.type === 'ed25519' ? this.#ed25519(context) : this.#privateObject();
  }

  #ed25519(context: Uint8Array | undefined): KeyObject {
    if (context === undefined) return this.#privateObject();
    const seed = this.#use((key) => derive(key, context, SEED_BYTES));
    try {
      return ed25519Of(seed);
    } finally {
      seed.fill(0);
    }
  }
}

const generatePair = promisify(generateKeyPair);

/** The caller wipes them. */
async function generateBytes(type: KeyType): Promise<Uint8Array | undefined> {
  switch (KEY_TYPES[type].family) {
    case 'aead':
      return randomBytes(AEADS[type as AeadName].keyBytes);
    case 'ed25519':
      return randomBytes(SEED_BYTES);
    case 'hpke':
      return generateHpkeKey();
    case 'ecdsa': {
      const { privateKey } = await generatePair('ec', { namedCurve: CURVES[type as keyof typeof CURVES] });
      return privateKey.export({ format: 'der', type: 'pkcs8' });
    }
    case 'rsa': {
      const { privateKey } = await generatePair('rsa', { modulusLength: RSA_BITS[type as keyof typeof RSA_BITS] });
      return privateKey.export({ format: 'der', type: 'pkcs8' });
    }
    default:
      return undefined;
  }
}

function derive(key: Uint8Array, context: Uint8Array, length: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', key, EMPTY, context, length));
}

function convergentNonce(nonceKey: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(aad.length));
  return createHmac('sha256', nonceKey).update(length).update(aad).update(plaintext).digest();
}

const OAEP = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' } as const;

/** Undefined when it is longer than the key takes: its length less 66 bytes. */
function encryptRsa(key: KeyObject, plaintext: Uint8Array): Uint8Array | undefined {
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  return plaintext.length <= bits / 8 - 66 ? publicEncrypt({ key, ...OAEP }, plaintext) : undefined;
}

function decryptRsa(key: KeyObject, body: Uint8Array): Uint8Array | undefined {
  try {
    return privateDecrypt({ key, ...OAEP }, body);
  } catch {
    // OpenSSL has one error for everything that is wrong with an OAEP ciphertext, and takes the same time for it.
    return undefined;
  }
}

function ed25519Of(seed: Uint8Array): KeyObject {
  const der = Buffer.concat([PKCS8_ED25519, seed]);
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } finally {
    der.fill(0);
  }
}

function rawEd25519(key: KeyObject): Buffer {
  return createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-SEED_BYTES);
}

/** The same bytes as node:crypto wants them. */
function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function notANamedKey(): VaultError {
  return new VaultError('integrity', 'A stored named key has not the form of one: restore its row from a backup.');
}
