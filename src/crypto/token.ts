/**
 * API tokens, client secrets and ids.
 *
 *     bulla_<tenant id>_<token id>.<secret><checksum>            a token
 *     bullacs_<tenant id>_<secret id>.<secret><checksum>         a client secret of a service, of the same form
 *
 *     tenant id   `system`, or 16 characters of base32 in lower case [a-z2-7]
 *     token id    16 characters of the same
 *     secret      32 random bytes, base64url without padding: 43 characters
 *     checksum    the first 6 characters of base64url(SHA-256(everything before it))
 *
 * The tenant id says in which tenant to look, the token id finds the row, and the row holds only SHA-256(secret): 256
 * random bits need no slow hash. The prefix and the checksum let a scanner know a leaked token from a lookalike and let
 * the server turn nonsense away without a query; they protect nothing. One token has one spelling.
 * This file must never put a token or its secret into an error.
 */
import { hash, randomFillSync, timingSafeEqual } from 'node:crypto';
import { assert } from '../errors.ts';

const SECRET_BYTES = 32;
const ID_CHARACTERS = 16;
const CHECKSUM_CHARACTERS = 6;
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/** The last of 43 characters carries four bits, so its two lowest are zero in the one canonical spelling. */
const FORM =
  /^(bulla|bullacs)_(system|[a-z2-7]{16})_([a-z2-7]{16})\.([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])[A-Za-z0-9_-]{6}$/;
const LENGTH_MAX = 'bullacs__.'.length + 2 * ID_CHARACTERS + 43 + CHECKSUM_CHARACTERS;
const TENANT_ID = /^(?:system|[a-z2-7]{16})$/;

export type MintedToken = {
  /** Shown to its owner once and never stored. */
  readonly token: string;
  readonly tokenId: string;
  readonly secretHash: Uint8Array;
};

export type ParsedToken = { readonly tenantId: string; readonly tokenId: string; readonly secretHash: Uint8Array };

export function mintToken(tenantId: string): MintedToken {
  const { text, id, secretHash } = mint('bulla', tenantId);
  return { token: text, tokenId: id, secretHash };
}

/** What to look up and what to compare with it, or undefined when the text is not a token; never throws. */
export function parseToken(text: string): ParsedToken | undefined {
  const parsed = parse('bulla', text);
  return parsed && { tenantId: parsed.tenantId, tokenId: parsed.id, secretHash: parsed.secretHash };
}

export type MintedClientSecret = {
  /** Shown to its owner once and never stored. */
  readonly clientSecret: string;
  readonly secretId: string;
  readonly secretHash: Uint8Array;
};

export type ParsedClientSecret = {
  readonly tenantId: string;
  readonly secretId: string;
  readonly secretHash: Uint8Array;
};

export function mintClientSecret(tenantId: string): MintedClientSecret {
  const { text, id, secretHash } = mint('bullacs', tenantId);
  return { clientSecret: text, secretId: id, secretHash };
}

export function parseClientSecret(text: string): ParsedClientSecret | undefined {
  const parsed = parse('bullacs', text);
  return parsed && { tenantId: parsed.tenantId, secretId: parsed.id, secretHash: parsed.secretHash };
}

type Prefix = 'bulla' | 'bullacs';

function mint(prefix: Prefix, tenantId: string): { text: string; id: string; secretHash: Uint8Array } {
  assert(TENANT_ID.test(tenantId), 'a tenant id is `system` or 16 characters of base32');
  const id = randomId();
  const secret = randomBytes(SECRET_BYTES);
  const secretHash = sha256(secret);
  const body = `${prefix}_${tenantId}_${id}.${secret.toString('base64url')}`;
  secret.fill(0);
  return { text: body + checksum(body), id, secretHash };
}

function parse(prefix: Prefix, text: string): { tenantId: string; id: string; secretHash: Uint8Array } | undefined {
  if (text.length > LENGTH_MAX) return undefined;
  const match = FORM.exec(text);
  if (match === null || match[1] !== prefix) return undefined;
  const [, , tenantId, id, secretText] = match;
  const body = text.slice(0, -CHECKSUM_CHARACTERS);
  if (checksum(body) !== text.slice(-CHECKSUM_CHARACTERS)) return undefined;
  const secret = Buffer.from(secretText!, 'base64url');
  const secretHash = sha256(secret);
  secret.fill(0);
  return { tenantId: tenantId!, id: id!, secretHash };
}

/** In constant time for hashes of one length. */
export function equalHash(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** 80 random bits as 16 characters of lower-case base32. 32 divides 256, so no character is likelier than another. */
export function randomId(): string {
  let id = '';
  for (const byte of randomBytes(ID_CHARACTERS)) id += ALPHABET[byte % ALPHABET.length];
  return id;
}

/** A password for a machine: 240 random bits in characters that no shell, URL or configuration file quotes. */
export function randomPassword(): string {
  return randomId() + randomId() + randomId();
}

function checksum(body: string): string {
  return hash('sha256', body, 'base64url').slice(0, CHECKSUM_CHARACTERS);
}

function sha256(bytes: Uint8Array): Uint8Array {
  // One character a byte: Node makes a string faster than a small buffer.
  return Buffer.from(hash('sha256', bytes, 'binary'), 'latin1');
}

function randomBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  randomFillSync(bytes);
  assert(
    bytes.some((byte) => byte !== 0),
    'the random number generator gives random bytes',
  );
  return bytes;
}
