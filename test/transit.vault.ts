/** For the tests of named keys: a vault of a file's own, and keys, ciphertexts and faults in short. */
import { afterAll, beforeAll, expect } from 'vitest';
import { KEY_TYPE_NAMES, KEY_TYPES } from '../src/crypto/named-key.ts';
import { decrypt, type EncryptItem, encrypt } from '../src/transit/cipher.ts';
import { createKey, type NewKey } from '../src/transit/key.ts';
import { type KeyName, parseKeyName } from '../src/transit/name.ts';
import type { Result } from '../src/transit/use.ts';
import type { Vault } from '../src/vault.ts';
import { callOf, type TestVault, testVault } from './harness.ts';

export let t: TestVault;

/** Once a file: makes its vault, and proves it when all is done. */
export function ownVault(): void {
  beforeAll(async () => {
    t = await testVault();
    for (const text of ['secret of a customer', 'for the vault only', 'one of the last']) t.secrets.add(text);
  });
  afterAll(async () => {
    await t.check();
    await t.close();
  });
}

export const utf8 = (text: string) => Buffer.from(text);
export const name = (text: string) => parseKeyName(text);
export const call = (token = t.admin) => callOf(token);

export async function make(text: string, wanted: NewKey = {}, token = t.admin): Promise<KeyName> {
  await createKey(t.vault, call(token), name(text), wanted);
  return name(text);
}

/** The only result of a call, or the reason of its fault. */
export function only<T>(results: readonly Result<T>[]): T {
  expect(results).toHaveLength(1);
  const [result] = results;
  if ('fault' in result!) throw new Error(`fault ${result.fault.reason}`);
  return result!.ok;
}
export const reasonOf = <T>(results: readonly Result<T>[]) =>
  results.map((result) => ('fault' in result ? result.fault.reason : 'ok'));

export const enc = async (key: KeyName, item: EncryptItem, token = t.admin, vault: Vault = t.vault) =>
  only(await encrypt(vault, call(token), key, [item])).ciphertext;
export const dec = async (
  key: KeyName,
  ciphertext: string,
  bound: object = {},
  vault: Vault = t.vault,
  token = t.admin,
) => Buffer.from(only(await decrypt(vault, call(token), key, [{ ciphertext, ...bound }])).plaintext).toString();

/** Longer RSA keys take seconds to make: test/long/transit.test.ts has them. */
export const QUICK = KEY_TYPE_NAMES.filter((type) => type !== 'rsa-3072' && type !== 'rsa-4096');
export const CIPHERS = KEY_TYPE_NAMES.filter((type) => KEY_TYPES[type].family === 'aead');
export const flipped = (text: string, back = 6) => {
  const at = text.length - back;
  return text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1);
};
