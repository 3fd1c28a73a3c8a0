/**
 * Signing and verifying with named keys, and HMACs. Every key has an HMAC key beside its own, so `hmac` works with any
 * type. A signature that is not one of this key is `valid: false`; only a text that no named key made is a fault.
 */
import { equalMac, type HashName, type SignatureScheme } from '../crypto/signature.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Vault } from '../vault.ts';
import { type Fault, fault, isFault } from './fault.ts';
import type { KeyName } from './name.ts';
import { decodeBytes, formatBytes, parseText } from './text.ts';
import {
  contextFault,
  encryptionVersion,
  type Item,
  openingFault,
  type Result,
  type UsableKey,
  useKey,
} from './use.ts';

export type { HashName, SignatureScheme } from '../crypto/signature.ts';
export { HASHES } from '../crypto/signature.ts';

export const SCHEME_DEFAULT: SignatureScheme = {
  hash: 'sha2-256',
  prehashed: false,
  padding: 'pss',
  saltLength: 'auto',
  marshaling: 'asn1',
};

export type SignItem = {
  readonly input: Uint8Array;
  /** Of a derived key. */
  readonly context?: Uint8Array | undefined;
  /** 0 or absent: the latest. */
  readonly keyVersion?: number | undefined;
};
/** `publicKey`: of a derived key, which is listed nowhere. */
export type Signed = { readonly signature: string; readonly keyVersion: number; readonly publicKey?: string };

export async function sign(
  vault: Vault,
  call: Call,
  name: KeyName,
  scheme: SignatureScheme,
  items: readonly Item<SignItem>[],
): Promise<Result<Signed>[]> {
  return useKey<SignItem, Signed>(vault, call, name, items, {
    action: 'transit.sign',
    asksFor: ({ keyVersion }) => keyVersion,
    check: checkSigns(scheme),
    act: (key, item) => signItem(key, item, scheme),
  });
}

export type VerifyItem = {
  readonly input: Uint8Array;
  readonly context?: Uint8Array | undefined;
  /** What `sign` gave. */
  readonly signature: string;
};
export type Verified = { readonly valid: boolean };

export async function verify(
  vault: Vault,
  call: Call,
  name: KeyName,
  scheme: SignatureScheme,
  items: readonly Item<VerifyItem>[],
): Promise<Result<Verified>[]> {
  return useKey<VerifyItem, Verified>(vault, call, name, items, {
    action: 'transit.verify',
    madeBy: ({ signature }) => versionIn(signature),
    check: checkSigns(scheme),
    act: async (key, { input, context, signature }) => {
      const found = await verifying(key, signature, scheme.marshaling === 'jws' ? 'base64url' : 'base64');
      if (isFault(found)) return found;
      const refused = contextFault(key, context);
      if (refused) return refused;
      return { valid: (await key.open(found.version)).verify(input, scheme, found.bytes, context) };
    },
  });
}

export type HmacItem = { readonly input: Uint8Array; readonly keyVersion?: number | undefined };
export type Hmac = { readonly hmac: string; readonly keyVersion: number };

export async function hmac(
  vault: Vault,
  call: Call,
  name: KeyName,
  hash: HashName,
  items: readonly Item<HmacItem>[],
): Promise<Result<Hmac>[]> {
  return useKey<HmacItem, Hmac>(vault, call, name, items, {
    action: 'transit.hmac',
    asksFor: ({ keyVersion }) => keyVersion,
    check: checkMacs,
    act: async (key, { input, keyVersion }) => {
      const version = encryptionVersion(key, keyVersion);
      if (typeof version !== 'number') return version;
      const mac = (await key.open(version)).mac(hash, input);
      return { hmac: formatBytes(version, mac), keyVersion: version };
    },
  });
}

export type VerifyHmacItem = { readonly input: Uint8Array; readonly hmac: string };

export async function verifyHmac(
  vault: Vault,
  call: Call,
  name: KeyName,
  hash: HashName,
  items: readonly Item<VerifyHmacItem>[],
): Promise<Result<Verified>[]> {
  return useKey<VerifyHmacItem, Verified>(vault, call, name, items, {
    action: 'transit.verify',
    madeBy: (item) => versionIn(item.hmac),
    check: checkMacs,
    act: async (key, { input, hmac }) => {
      const found = await verifying(key, hmac, 'base64');
      if (isFault(found)) return found;
      return { valid: equalMac((await key.open(found.version)).mac(hash, input), found.bytes) };
    },
  });
}

async function signItem(key: UsableKey, item: SignItem, scheme: SignatureScheme): Promise<Signed | Fault> {
  const { input, context } = item;
  const version = encryptionVersion(key, item.keyVersion);
  if (typeof version !== 'number') return version;
  const refused = contextFault(key, context);
  if (refused) return refused;
  const named = await key.open(version);
  const publicKey = context === undefined ? undefined : named.publicKey(context);
  const bytes = await named.sign(input, scheme, context);
  const signature = formatBytes(version, bytes, scheme.marshaling === 'jws' ? 'base64url' : 'base64');
  return { signature, keyVersion: version, ...(publicKey === undefined ? {} : { publicKey }) };
}

function versionIn(text: string): number | undefined {
  const parsed = parseText(text);
  return isFault(parsed) ? undefined : parsed.version;
}

async function verifying(
  key: UsableKey,
  text: string,
  encoding: 'base64' | 'base64url',
): Promise<{ version: number; bytes: Uint8Array } | Fault> {
  const parsed = parseText(text);
  if (isFault(parsed)) return parsed;
  const bytes = decodeBytes(parsed.rest, encoding);
  if (bytes === undefined) return fault('bad_base64');
  return openingFault(key, parsed.version) ?? { version: parsed.version, bytes };
}

const checkSigns =
  ({ prehashed }: SignatureScheme) =>
  ({ type, facts }: UsableKey): void => {
    if (!facts.signs) {
      throw new VaultError('invalid_request', `A key of type ${type} does not sign.`, {
        details: { reason: 'signing_not_supported' },
      });
    }
    if (prehashed && facts.family !== 'rsa') {
      throw new VaultError(
        'invalid_request',
        'prehashed: only an RSA key with pkcs1v15 signs a hash that was made elsewhere; send the message.',
        { details: { reason: 'prehashed_not_supported' } },
      );
    }
  };

/** What a password was hashed with is for nothing else. */
function checkMacs({ type, facts }: UsableKey): void {
  if (facts.family !== 'password') return;
  throw new VaultError('invalid_request', `A key of type ${type} only hashes passwords.`, {
    details: { reason: 'hmac_not_supported' },
  });
}
