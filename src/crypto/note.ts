/**
 * Signed notes (c2sp.org/signed-note) and log checkpoints (c2sp.org/tlog-checkpoint), with Ed25519 keys.
 *
 * A note is a text that ends in a newline, an empty line, and one or more signature lines:
 *
 *     <text>
 *
 *     — <key name> <base64 of key id (4, big endian) ‖ signature (64)>
 *
 * It is valid UTF-8 without control characters below U+0020 other than newline. The signature is over the text with
 * its last newline and without the empty line. A key name is not empty and holds no Unicode space and no plus.
 *
 *     key id       = first 4 bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)
 *     verifier key = name + "+" + key id in 8 hex digits + "+" + base64(0x01 ‖ public key)
 *
 * The text of a checkpoint is at least three lines, none of them empty: origin, tree size in decimal, root hash in
 * base64, then extension lines.
 *
 * Invariant: `openNote` returns a text only when a key that the caller trusts signed it and no signature by a trusted
 * key is wrong; signatures by others are ignored. Private keys leave a `NoteSigner` in no form.
 */
import { createPrivateKey, createPublicKey, hash, type KeyObject, sign, verify } from 'node:crypto';
import { inspect } from 'node:util';
import { assert, VaultError } from '../errors.ts';
import type { SecretBytes } from './keys.ts';

/** A key whose signatures are trusted. */
export type Verifier = { readonly name: string; readonly keyId: number; readonly publicKey: Uint8Array };

export type OpenedNote = {
  readonly text: string;
  /** The trusted keys that signed, in the order of their lines, each once. */
  readonly signedBy: readonly Verifier[];
};

export type Checkpoint = {
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
  readonly extensions: readonly string[];
};

const ED25519 = 0x01;
const PUBLIC_KEY_BYTES = 32;
const SEED_BYTES = 32;
const SIGNATURE_BYTES = 64;
const KEY_ID_BYTES = 4;
const HASH_BYTES = 32;
/** The specification asks for at least 16. */
const SIGNATURES_MAX = 100;
const NOTE_BYTES_MAX = 1_000_000;

/** Signs notes under one name. Made from a seed of 32 bytes, which is not kept; prints redacted. */
export class NoteSigner {
  readonly name: string;
  readonly keyId: number;
  readonly verifierKey: string;
  #privateKey: KeyObject | undefined;

  constructor(name: string, seed: SecretBytes) {
    assert(isKeyName(name), 'a key name is not empty and holds no space and no plus');
    assert(seed.length === SEED_BYTES, `an Ed25519 seed has ${SEED_BYTES} bytes`);
    this.#privateKey = seed.use(privateKeyOf);
    const publicKey = rawPublicKey(this.#privateKey);
    this.name = name;
    this.keyId = keyIdOf(name, publicKey);
    this.verifierKey = formatVerifierKey(name, publicKey);
  }

  sign(text: Uint8Array): Uint8Array {
    assert(this.#privateKey !== undefined, 'a wiped signer is not used');
    return sign(null, text, this.#privateKey);
  }

  /** Lets go of the private key; OpenSSL overwrites it when the garbage collector frees it. */
  wipe(): void {
    this.#privateKey = undefined;
  }

  toString(): string {
    return `[NoteSigner ${this.name}+${hexId(this.keyId)}]`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

export function formatVerifierKey(name: string, publicKey: Uint8Array): string {
  assert(isKeyName(name) && publicKey.length === PUBLIC_KEY_BYTES, 'a verifier key has a name and 32 bytes');
  const encoded = Buffer.from([ED25519, ...publicKey]).toString('base64');
  return `${name}+${hexId(keyIdOf(name, publicKey))}+${encoded}`;
}

export function parseVerifierKey(text: string): Verifier {
  const match = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/.exec(text);
  const bytes = match === null ? undefined : decodeBase64(match[3]!);
  if (match === null || bytes === undefined || !isKeyName(match[1]!)) {
    throw refused('A verifier key is to read name+id+base64, with an id of 8 hex digits; this one does not.');
  }
  if (bytes[0] !== ED25519 || bytes.length !== 1 + PUBLIC_KEY_BYTES) {
    throw refused('A verifier key is to be of algorithm 1, Ed25519, with 32 bytes; this one is not.');
  }
  const name = match[1]!;
  const publicKey = bytes.slice(1);
  const keyId = keyIdOf(name, publicKey);
  if (hexId(keyId) !== match[2]) {
    throw refused(`The id in the verifier key of ${name} is not that of its name and key: it was mistyped or edited.`);
  }
  return { name, keyId, publicKey };
}

/** The note with one signature line for each signer, in their order. */
export function signNote(text: string, signers: readonly NoteSigner[]): string {
  assert(text.endsWith('\n') && !FORBIDDEN.test(text), 'a note text ends in a newline and holds no control characters');
  assert(signers.length > 0, 'a note has at least one signature');
  const bytes = Buffer.from(text, 'utf8');
  const lines = signers.map((signer) => {
    const id = Buffer.alloc(KEY_ID_BYTES);
    id.writeUInt32BE(signer.keyId);
    return `— ${signer.name} ${Buffer.concat([id, signer.sign(bytes)]).toString('base64')}\n`;
  });
  return `${text}\n${lines.join('')}`;
}

/** Parses a note and verifies every signature by one of `verifiers`; throws `integrity` unless there is one and all hold. */
export function openNote(note: Uint8Array, verifiers: readonly Verifier[]): OpenedNote {
  const { text, signatures } = parseNote(note);
  const bytes = Buffer.from(text, 'utf8');
  const signedBy: Verifier[] = [];
  for (const { name, keyId, signature } of signatures) {
    const known = verifiers.filter((verifier) => verifier.name === name && verifier.keyId === keyId);
    assert(known.length <= 1, 'no two verifiers have one name and id');
    const verifier = known[0];
    if (verifier === undefined) continue;
    if (!verifySignature(verifier.publicKey, bytes, signature)) {
      throw refused(
        `The note's signature by ${name}+${hexId(keyId)} is wrong: the note was edited after it was signed.`,
      );
    }
    if (!signedBy.includes(verifier)) signedBy.push(verifier);
  }
  if (signedBy.length === 0) {
    throw refused(
      'The note is signed by no key that is trusted here. Check that the verifier key belongs to this log.',
    );
  }
  return { text, signedBy };
}

/** Ed25519 over raw bytes (RFC 8032); false for anything that is not a signature by this key, never an exception. */
export function verifySignature(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== PUBLIC_KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false;
  const x = Buffer.from(publicKey).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  return verify(null, message, key, signature);
}

export function formatCheckpoint({ origin, size, root, extensions }: Checkpoint): string {
  const lines = [origin, String(size), Buffer.from(root).toString('base64'), ...extensions];
  assert(Number.isSafeInteger(size) && size >= 0 && root.length === HASH_BYTES, 'a checkpoint has a size and a root');
  assert(
    lines.every((line) => line !== '' && !line.includes('\n') && !FORBIDDEN.test(line)),
    'the lines of a checkpoint are not empty and hold no control characters',
  );
  return `${lines.join('\n')}\n`;
}

export function parseCheckpoint(text: string): Checkpoint {
  const lines = text.split('\n');
  if (lines.pop() !== '' || lines.length < 3 || lines.includes('')) {
    throw refused(
      'A checkpoint is to have three or more lines, none of them empty: origin, size, root; this one has not.',
    );
  }
  const [origin, sizeText, rootText, ...extensions] = lines;
  const size = Number(sizeText);
  if (!/^(?:0|[1-9][0-9]*)$/.test(sizeText!) || !Number.isSafeInteger(size)) {
    throw refused('The second line of a checkpoint is to be the tree size in decimal, up to 2^53-1; this one is not.');
  }
  const root = decodeBase64(rootText!);
  if (root?.length !== HASH_BYTES) {
    throw refused('The third line of a checkpoint is to be the root hash, 32 bytes in base64; this one is not.');
  }
  return { origin: origin!, size, root, extensions };
}

type ParsedSignature = { readonly name: string; readonly keyId: number; readonly signature: Uint8Array };

function parseNote(note: Uint8Array): { text: string; signatures: ParsedSignature[] } {
  if (note.length > NOTE_BYTES_MAX) throw refused(`A note is to have at most ${NOTE_BYTES_MAX} bytes.`);
  const message = decodeUtf8(note);
  if (message === undefined || FORBIDDEN.test(message)) {
    throw refused('A note is to be UTF-8 without control characters; this one is not.');
  }
  // The text may hold empty lines itself: the last one separates it from the signatures.
  const split = message.lastIndexOf('\n\n');
  if (split < 0 || !message.endsWith('\n') || split + 2 === message.length) {
    throw refused(
      'A note is to be a text, an empty line and signature lines, each ended by a newline; this one is not.',
    );
  }
  const lines = message.slice(split + 2, -1).split('\n');
  if (lines.length > SIGNATURES_MAX) throw refused(`A note is to have at most ${SIGNATURES_MAX} signatures.`);
  return { text: message.slice(0, split + 1), signatures: lines.map(parseSignature) };
}

function parseSignature(line: string): ParsedSignature {
  const match = /^— ([^ ]+) ([^ ]+)$/.exec(line);
  const bytes = match === null ? undefined : decodeBase64(match[2]!);
  if (match === null || bytes === undefined || bytes.length <= KEY_ID_BYTES || !isKeyName(match[1]!)) {
    throw refused('A signature line is to read "— name base64"; one of this note does not.');
  }
  return { name: match[1]!, keyId: bytes.readUInt32BE(0), signature: bytes.subarray(KEY_ID_BYTES) };
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const FORBIDDEN = /[\u0000-\u0009\u000b-\u001f]|\p{Surrogate}/u;

function isKeyName(name: string): boolean {
  return name !== '' && !/[+]|\p{White_Space}|\p{Surrogate}/u.test(name) && !FORBIDDEN.test(name);
}

function keyIdOf(name: string, publicKey: Uint8Array): number {
  const input = Buffer.concat([Buffer.from(`${name}\n`, 'utf8'), Buffer.from([ED25519]), publicKey]);
  return hash('sha256', input, 'buffer').readUInt32BE(0);
}

function hexId(keyId: number): string {
  return keyId.toString(16).padStart(8, '0');
}

/** PKCS #8 of an Ed25519 key is this and then the seed (RFC 8410 §7). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

function privateKeyOf(seed: Uint8Array): KeyObject {
  const der = Buffer.concat([PKCS8_PREFIX, seed]);
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } finally {
    der.fill(0);
  }
}

function rawPublicKey(privateKey: KeyObject): Uint8Array {
  const der = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  return Uint8Array.from(der.subarray(-PUBLIC_KEY_BYTES));
}

/** Standard base64 with padding (RFC 4648 §4), in its one canonical spelling. */
function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

function refused(message: string): VaultError {
  return new VaultError('integrity', message);
}
