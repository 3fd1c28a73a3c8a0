/**
 * OpenSSH certificates, as bytes (PROTOCOL.certkeys of OpenSSH; data types of RFC 4251 §5, keys of RFC 4253 §6.6,
 * RFC 5656 §3.1 and RFC 8709 §4). Signatures are made by node:crypto; nothing here does I/O.
 */
import { createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import { VaultError } from '../../errors.ts';

const NONCE_BYTES = 32;
const USER = 1;
const HOST = 2;
const RSA_BITS_MIN = 2048;

/** A public key as it stands in authorized_keys: its type, and the rest of its blob. */
export type SshPublicKey = { readonly type: string; readonly fields: Buffer };

export const KEY_TYPES = [
  'ssh-ed25519',
  'sk-ssh-ed25519@openssh.com',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ecdsa-sha2-nistp256@openssh.com',
  'ssh-rsa',
] as const;
export type KeyType = (typeof KEY_TYPES)[number];

/** How many fields follow the type in a key's blob. */
const FIELDS: Readonly<Record<KeyType, number>> = {
  'ssh-ed25519': 1,
  'sk-ssh-ed25519@openssh.com': 2,
  'ecdsa-sha2-nistp256': 2,
  'ecdsa-sha2-nistp384': 2,
  'ecdsa-sha2-nistp521': 2,
  'sk-ecdsa-sha2-nistp256@openssh.com': 3,
  'ssh-rsa': 2,
};

/** `ssh-ed25519 AAAA… comment`; undefined when it is not exactly one key of a type that is known. */
export function parsePublicKey(line: string): SshPublicKey | undefined {
  const match = /^([a-z0-9@.-]{1,64}) ([A-Za-z0-9+/]{1,8192}={0,2})(?: [^\n\r\0]{0,1024})?\n?$/.exec(line);
  const type = KEY_TYPES.find((known) => known === match?.[1]);
  if (!match || type === undefined) return undefined;
  const blob = Buffer.from(match[2]!, 'base64');
  if (blob.toString('base64').replace(/={1,2}$/, '') !== match[2]!.replace(/={1,2}$/, '')) return undefined;
  const parts = splitStrings(blob);
  if (parts?.length !== FIELDS[type] + 1 || parts[0]!.toString('latin1') !== type) return undefined;
  return { type, fields: blob.subarray(4 + parts[0]!.length) };
}

/** Bits of an RSA key's modulus; undefined for others. */
function rsaBitsOf({ type, fields }: SshPublicKey): number | undefined {
  if (type !== 'ssh-rsa') return undefined;
  const modulus = splitStrings(fields)![1]!;
  const first = modulus.findIndex((byte) => byte !== 0);
  return first === -1 ? 0 : (modulus.length - first) * 8 - Math.clz32(modulus[first]!) + 24;
}

export const isWeak = (key: SshPublicKey) => (rsaBitsOf(key) ?? RSA_BITS_MIN) < RSA_BITS_MIN;

export type Certificate = {
  readonly key: SshPublicKey;
  readonly kind: 'user' | 'host';
  /** 64 bits. */
  readonly serial: bigint;
  readonly keyId: string;
  /** At least one: none would be everybody. */
  readonly principals: readonly string[];
  /** Seconds since 1970. */
  readonly validAfter: number;
  readonly validBefore: number;
  readonly criticalOptions: Readonly<Record<string, string>>;
  readonly extensions: readonly string[];
};

/** The certificate as one line, `<type>-cert-v01@openssh.com AAAA… <key id>`. */
export function signCertificate(authority: KeyObject, certificate: Certificate): string {
  const { key, kind, serial, keyId, principals, validAfter, validBefore } = certificate;
  if (principals.length === 0) throw new Error('a certificate without principals is valid for everybody');
  const type = `${key.type.replace(/@openssh\.com$/, '')}-cert-v01@openssh.com`;
  const body = Buffer.concat([
    string(type),
    string(randomBytes(NONCE_BYTES)),
    key.fields,
    uint64(serial),
    uint32(kind === 'user' ? USER : HOST),
    string(keyId),
    string(Buffer.concat(principals.map(string))),
    uint64(BigInt(validAfter)),
    uint64(BigInt(validBefore)),
    string(options(Object.entries(certificate.criticalOptions).map(([name, value]) => [name, string(value)]))),
    string(options(certificate.extensions.map((name) => [name, Buffer.alloc(0)]))),
    string(''),
    string(publicBlob(authority)),
  ]);
  return `${type} ${Buffer.concat([body, string(signature(authority, body))]).toString('base64')} ${keyId}`;
}

/** In the order of their names, as the specification wants them. */
function options(pairs: readonly (readonly [string, Buffer])[]): Buffer {
  const sorted = [...pairs].sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.concat(sorted.flatMap(([name, value]) => [string(name), string(value)]));
}

/** Curves of RFC 5656, with the hash that each signs by. */
const CURVES = {
  'P-256': { name: 'nistp256', hash: 'sha256' },
  'P-384': { name: 'nistp384', hash: 'sha384' },
  'P-521': { name: 'nistp521', hash: 'sha512' },
} as const;

const curveOf = (name: string | undefined) => CURVES[name as keyof typeof CURVES];
const bytes = (text: string | undefined) => Buffer.from(text ?? '', 'base64url');

/** The public half of a key of ours as an SSH blob. Throws `invalid_request` for a kind of key that SSH does not take. */
function publicBlob(privateKey: KeyObject): Buffer {
  const jwk = createPublicKey(privateKey).export({ format: 'jwk' });
  if (jwk.kty === 'OKP' && jwk.crv === 'Ed25519') return Buffer.concat([string('ssh-ed25519'), string(bytes(jwk.x))]);
  if (jwk.kty === 'RSA' && bytes(jwk.n).length * 8 >= RSA_BITS_MIN) {
    return Buffer.concat([string('ssh-rsa'), mpint(bytes(jwk.e)), mpint(bytes(jwk.n))]);
  }
  const curve = jwk.kty === 'EC' ? curveOf(jwk.crv) : undefined;
  if (curve) {
    const point = Buffer.concat([Buffer.of(4), bytes(jwk.x), bytes(jwk.y)]);
    return Buffer.concat([string(`ecdsa-sha2-${curve.name}`), string(curve.name), string(point)]);
  }
  throw new VaultError(
    'invalid_request',
    'expected an Ed25519, ECDSA (P-256, P-384, P-521) or RSA key of 2048 bits or more',
  );
}

/** The line for TrustedUserCAKeys, or after `@cert-authority` in known_hosts. */
export function publicLine(privateKey: KeyObject): string {
  const blob = publicBlob(privateKey);
  return `${splitStrings(blob)![0]!.toString('latin1')} ${blob.toString('base64')}`;
}

/** RSA by SHA-512 (RFC 8332), never by SHA-1. */
function signature(authority: KeyObject, body: Buffer): Buffer {
  const { kty, crv } = createPublicKey(authority).export({ format: 'jwk' });
  if (kty === 'OKP') return Buffer.concat([string('ssh-ed25519'), string(sign(null, body, authority))]);
  if (kty === 'RSA') return Buffer.concat([string('rsa-sha2-512'), string(sign('sha512', body, authority))]);
  const { name, hash } = curveOf(crv);
  const raw = sign(hash, body, { key: authority, dsaEncoding: 'ieee-p1363' });
  const [r, s] = [raw.subarray(0, raw.length / 2), raw.subarray(raw.length / 2)];
  return Buffer.concat([string(`ecdsa-sha2-${name}`), string(Buffer.concat([mpint(r), mpint(s)]))]);
}

// ---- data types of RFC 4251 §5 ------------------------------------------------------------------------------------

function uint32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

function uint64(value: bigint): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(value);
  return out;
}

function string(value: string | Uint8Array): Buffer {
  const data = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
  return Buffer.concat([uint32(data.length), data]);
}

/** A positive integer without leading zeros, but for the one that keeps it positive. */
function mpint(value: Buffer): Buffer {
  const first = value.findIndex((byte) => byte !== 0);
  const digits = first === -1 ? Buffer.alloc(0) : value.subarray(first);
  return string((digits[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), digits]) : digits);
}

/** The strings that fill a blob exactly; undefined when they do not. */
function splitStrings(blob: Buffer): Buffer[] | undefined {
  const parts: Buffer[] = [];
  let at = 0;
  while (at < blob.length) {
    if (at + 4 > blob.length) return undefined;
    const end = at + 4 + blob.readUInt32BE(at);
    if (end > blob.length) return undefined;
    parts.push(blob.subarray(at + 4, end));
    at = end;
  }
  return parts;
}
