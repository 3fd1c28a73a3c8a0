/**
 * Every label of the vault's cryptography, and the encoding that binds a ciphertext to what it belongs to.
 *
 * Invariant: no two labels are equal, and no two contexts encode to the same bytes. A label never changes its meaning
 * and never loses or gains a field: what needs another shape takes a new label (`…/v2/…`).
 * This file must never normalise, trim or default what it is given: two spellings are two contexts.
 */
import { assert } from '../errors.ts';

/** What HKDF-SHA-256 derives from an unwrapped key (`info`), and what separates our other hashes from each other. */
export const LABEL = {
  encrypt: 'bulla/v1/encrypt',
  commit: 'bulla/v1/commit',
  nonce: 'bulla/v1/nonce',
  share: 'bulla/v1/share',
  shareChecksum: 'bulla/v1/share-checksum',
  sealPassphrase: 'bulla/v1/seal-passphrase',
  sealBinding: 'bulla/v1/seal-binding',
  recoveryCode: 'bulla/v1/recovery-code',
  oidcState: 'bulla/v1/oidc-state',
  oidcNonce: 'bulla/v1/oidc-nonce',
  oidcVerifier: 'bulla/v1/oidc-verifier',
} as const;

/** What a ciphertext is and what it belongs to. The names are ids that are never used again, not names people choose. */
export type Context =
  | { readonly label: 'secret'; readonly tenant: string; readonly secret: string; readonly version: number }
  | { readonly label: 'secret-metadata'; readonly tenant: string; readonly secret: string }
  | { readonly label: 'data-key'; readonly tenant: string; readonly version: number }
  | { readonly label: 'system-key'; readonly purpose: 'pepper' | 'log-signing'; readonly version: number }
  | { readonly label: 'root-key'; readonly deployment: string; readonly version: number }
  | { readonly label: 'kept-answer'; readonly tenant: string; readonly actor: string; readonly key: string }
  | { readonly label: 'lease-credential'; readonly tenant: string; readonly lease: string }
  | { readonly label: 'backend-config'; readonly tenant: string; readonly backend: string }
  | { readonly label: 'static-account'; readonly tenant: string; readonly account: string }
  | { readonly label: 'rotator'; readonly tenant: string; readonly secret: string }
  | { readonly label: 'totp-seed'; readonly tenant: string; readonly user: string }
  | { readonly label: 'issuer-secret'; readonly tenant: string; readonly issuer: string }
  | { readonly label: 'cubbyhole'; readonly tenant: string; readonly token: string; readonly path: string }
  | { readonly label: 'transit-key'; readonly tenant: string; readonly key: string; readonly version: number }
  | { readonly label: 'secret-cursor'; readonly tenant: string };

type FieldsOf<C> = C extends Context ? readonly Exclude<keyof C, 'label'>[] : never;

/** The order in which the fields of each label are encoded. Final: stored ciphertexts depend on it. */
export const CONTEXT_FIELDS: { readonly [L in Context['label']]: FieldsOf<Extract<Context, { label: L }>> } = {
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
  'transit-key': ['tenant', 'key', 'version'],
  'secret-cursor': ['tenant'],
};

/** The label as it is encoded. */
export function contextLabel(label: Context['label']): string {
  return `bulla/v1/context/${label}`;
}

const STRING = 0x73; // 's'
const INTEGER = 0x69; // 'i'
const PREFIX_BYTES = 5;
const INTEGER_BYTES = 8;
const STRING_BYTES_MAX = 1024;

/**
 * Encodes a context. Each field is
 *
 *     type (1: 's' or 'i') | length (4, big endian) | bytes
 *
 * where a string is its UTF-8 and an integer its 8 bytes, big endian. The first field is the label as a string; the
 * label fixes which fields follow and in which order. Every field says its own length and type, so the encoding can be
 * read back in one way only: ("ab", "c") is not ("a", "bc"), and 1 is not "1".
 */
export function encodeContext(context: Context): Uint8Array {
  const encoded = Buffer.alloc(contextLength(context));
  writeContext(context, encoded, 0);
  return encoded;
}

/** How many bytes `writeContext` writes; the envelope asks first, so that it can build its associated data in one buffer. */
export function contextLength(context: Context): number {
  const fields = fieldsOf(context);
  let length = PREFIX_BYTES + LABEL_BYTES[context.label].length;
  for (const name of fields) {
    const value = fieldValue(context, name);
    length += PREFIX_BYTES + (typeof value === 'number' ? INTEGER_BYTES : stringLength(name, value));
  }
  return length;
}

/** Writes the encoding into `target` at `offset` and returns the offset behind it. */
export function writeContext(context: Context, target: Buffer, offset: number): number {
  const label = LABEL_BYTES[context.label];
  let end = writePrefix(target, offset, STRING, label.length);
  target.set(label, end);
  end += label.length;
  for (const name of fieldsOf(context)) {
    const value = fieldValue(context, name);
    if (typeof value === 'number') {
      if (!Number.isSafeInteger(value) || value < 0) throw broken(name, 'is an integer from 0 to 2^53-1');
      end = writePrefix(target, end, INTEGER, INTEGER_BYTES);
      end = target.writeUInt32BE(Math.floor(value / 2 ** 32), end);
      end = target.writeUInt32BE(value >>> 0, end);
    } else {
      const written = target.write(value, end + PREFIX_BYTES, 'utf8');
      end = writePrefix(target, end, STRING, written) + written;
    }
  }
  return end;
}

const LABEL_BYTES = Object.fromEntries(
  Object.keys(CONTEXT_FIELDS).map((label) => [label, Buffer.from(contextLabel(label as Context['label']))]),
) as Readonly<Record<Context['label'], Buffer>>;

function fieldsOf(context: Context): readonly string[] {
  assert(Object.hasOwn(CONTEXT_FIELDS, context.label), 'a context has a label of the closed set');
  return CONTEXT_FIELDS[context.label];
}

function fieldValue(context: Context, name: string): string | number {
  const value: unknown = (context as Readonly<Record<string, unknown>>)[name];
  if (typeof value !== 'string' && typeof value !== 'number') throw broken(name, 'is a string or an integer');
  return value;
}

/** UTF-8 turns every lone surrogate into U+FFFD, so text that holds one would not be injective: it is refused. */
function stringLength(name: string, value: string): number {
  const length = Buffer.byteLength(value, 'utf8');
  if (length === 0 || length > STRING_BYTES_MAX) throw broken(name, `has 1 to ${STRING_BYTES_MAX} bytes`);
  if (length !== value.length && LONE_SURROGATE.test(value)) throw broken(name, 'is well-formed Unicode');
  return length;
}

/** Put together only where it fails: this runs for every read. */
const broken = (name: string, rule: string) => new Error(`assertion failed: context field ${name} ${rule}`);

const LONE_SURROGATE = /\p{Surrogate}/u;

function writePrefix(target: Buffer, offset: number, type: number, length: number): number {
  return target.writeUInt32BE(length, target.writeUInt8(type, offset));
}
