/**
 * Encrypting and decrypting with named keys, moving ciphertexts to newer versions, and data keys. What a batch cannot do
 * for one item it says in that item's place; see use.ts for what is decided and recorded.
 */
import { randomBytes } from 'node:crypto';
import type { Binding } from '../crypto/named-key.ts';
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

type Bound = {
  /** Of a derived key what it is derived with, of an HPKE key its info. */
  readonly context?: Uint8Array | undefined;
  readonly associatedData?: Uint8Array | undefined;
};

export type EncryptItem = Bound & {
  readonly plaintext: Uint8Array;
  /** 0 or absent: the latest. */
  readonly keyVersion?: number | undefined;
};
export type Encrypted = { readonly ciphertext: string; readonly keyVersion: number };

export async function encrypt(
  vault: Vault,
  call: Call,
  name: KeyName,
  items: readonly Item<EncryptItem>[],
): Promise<Result<Encrypted>[]> {
  return useKey<EncryptItem, Encrypted>(vault, call, name, items, {
    action: 'transit.encrypt',
    asksFor: ({ keyVersion }) => keyVersion,
    check: checkEncrypts,
    encrypts: true,
    act: (key, item) => encryptItem(key, item, item.keyVersion),
  });
}

export type DecryptItem = Bound & { readonly ciphertext: string };
export type Decrypted = { readonly plaintext: Uint8Array; readonly keyVersion: number };

export async function decrypt(
  vault: Vault,
  call: Call,
  name: KeyName,
  items: readonly Item<DecryptItem>[],
): Promise<Result<Decrypted>[]> {
  return useKey<DecryptItem, Decrypted>(vault, call, name, items, {
    action: 'transit.decrypt',
    madeBy,
    check: checkEncrypts,
    act: decryptItem,
  });
}

export type RewrapItem = DecryptItem & { readonly keyVersion?: number | undefined };

/** The plaintext stays inside. */
export async function rewrap(
  vault: Vault,
  call: Call,
  name: KeyName,
  items: readonly Item<RewrapItem>[],
): Promise<Result<Encrypted>[]> {
  return useKey<RewrapItem, Encrypted>(vault, call, name, items, {
    action: 'transit.rewrap',
    madeBy,
    asksFor: ({ keyVersion }) => keyVersion,
    check: checkEncrypts,
    encrypts: true,
    act: async (key, item) => {
      const opened = await decryptItem(key, item);
      if (isFault(opened)) return opened;
      try {
        return await encryptItem(key, { ...item, plaintext: opened.plaintext }, item.keyVersion);
      } finally {
        opened.plaintext.fill(0);
      }
    },
  });
}

export const DATA_KEY_BITS = [128, 256, 512] as const;

export type DataKeyAsk = Bound & {
  readonly bits: (typeof DATA_KEY_BITS)[number];
  readonly keyVersion?: number | undefined;
};
export type DataKey = Encrypted & { readonly plaintext: Uint8Array };

/** A new random key under the named key, and readable beside it. */
export async function makeDataKey(vault: Vault, call: Call, name: KeyName, ask: DataKeyAsk): Promise<Result<DataKey>> {
  const [result] = await useKey<DataKeyAsk, DataKey>(vault, call, name, [ask], dataKeyUse('transit.datakey'));
  return result!;
}

/** The same without the readable one: it is only encryption. */
export async function makeWrappedDataKey(
  vault: Vault,
  call: Call,
  name: KeyName,
  ask: DataKeyAsk,
): Promise<Result<Encrypted>> {
  const [result] = await useKey<DataKeyAsk, DataKey>(vault, call, name, [ask], dataKeyUse('transit.encrypt'));
  if ('fault' in result!) return result;
  result!.ok.plaintext.fill(0);
  const { ciphertext, keyVersion } = result!.ok;
  return { ok: { ciphertext, keyVersion } };
}

const dataKeyUse = (action: 'transit.datakey' | 'transit.encrypt') => ({
  action,
  asksFor: ({ keyVersion }: DataKeyAsk) => keyVersion,
  check: checkEncrypts,
  encrypts: true as const,
  act: async (key: UsableKey, { bits, ...bound }: DataKeyAsk): Promise<DataKey | Fault> => {
    const plaintext = randomBytes(bits / 8);
    const encrypted = await encryptItem(key, { ...bound, plaintext }, bound.keyVersion);
    return isFault(encrypted) ? encrypted : { ...encrypted, plaintext };
  },
});

function checkEncrypts({ type, facts }: UsableKey): void {
  if (facts.encrypts) return;
  throw new VaultError('invalid_request', `A key of type ${type} neither encrypts nor decrypts.`, {
    details: { reason: 'encryption_not_supported' },
  });
}

const madeBy = ({ ciphertext }: DecryptItem): number | undefined => {
  const parsed = parseText(ciphertext);
  return isFault(parsed) ? undefined : parsed.version;
};

async function encryptItem(key: UsableKey, item: EncryptItem, wanted: number | undefined): Promise<Encrypted | Fault> {
  const version = encryptionVersion(key, wanted);
  if (typeof version !== 'number') return version;
  const binding = bindingOf(key, item);
  if (isFault(binding)) return binding;
  const body = await (await key.open(version)).encrypt(item.plaintext, binding);
  if (body === undefined) return fault('plaintext_too_long');
  return { ciphertext: formatBytes(version, body), keyVersion: version };
}

async function decryptItem(key: UsableKey, item: DecryptItem): Promise<Decrypted | Fault> {
  const parsed = parseText(item.ciphertext);
  if (isFault(parsed)) return parsed;
  const { version } = parsed;
  const body = decodeBytes(parsed.rest);
  if (body === undefined) return fault('bad_base64');
  const refused = openingFault(key, version);
  if (refused) return refused;
  const binding = bindingOf(key, item);
  if (isFault(binding)) return binding;
  if (body.length < SHORTEST_BODY_BYTES) return fault('bad_length');
  const plaintext = await (await key.open(version)).decrypt(body, binding);
  return plaintext === undefined ? fault('does_not_open') : { plaintext, keyVersion: version };
}

/** A nonce of 12 bytes and a tag. */
const SHORTEST_BODY_BYTES = 28;
const EMPTY = new Uint8Array(0);

function bindingOf(key: UsableKey, { context, associatedData = EMPTY }: Bound): Binding | Fault {
  const refused = contextFault(key, context);
  if (refused) return refused;
  if (associatedData.length > 0 && key.facts.family === 'rsa') return fault('aad_unsupported');
  return { context, aad: associatedData, convergent: key.convergent };
}
