/** XChaCha20-Poly1305 goes two ways, by libsodium what is short and by node:crypto what is not: nobody can tell which. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { hchacha, xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { expect, it, vi } from 'vitest';
import { AAD_BYTES_MAX, type openShort, type sealShort, TEXT_BYTES_MAX } from '../src/crypto/sodium.ts';
import { decrypt, encrypt } from '../src/crypto/xchacha.ts';
import { MODULES } from './process.ts';

const bytes = (seed: number, length: number) =>
  createHash('shake256', { outputLength: length }).update(String(seed)).digest();
const around = (length: number) => [length - 2, length - 1, length, length + 1, length + 2];

function expectNobles(length: number, aadLength: number): void {
  const [key, nonce, aad, plaintext] = [
    bytes(length, 32),
    bytes(length + 1, 24),
    bytes(2, aadLength),
    bytes(3, length),
  ];
  const sealed = encrypt(key, nonce, aad, plaintext);
  expect(Buffer.compare(sealed, xchacha20poly1305(key, nonce, aad).encrypt(plaintext)), `${length}, ${aadLength}`).toBe(
    0,
  );
  const opened = decrypt(key, nonce, aad, sealed)!;
  expect(Buffer.isBuffer(opened)).toBe(true);
  expect(Buffer.compare(opened, plaintext)).toBe(0);
}

it('gives the bytes of @noble/ciphers at every length', () => {
  for (let length = 0; length <= 300; length += 1) expectNobles(length, length % 130);
  for (const length of [...around(TEXT_BYTES_MAX), ...around(65_536), 1_048_576]) expectNobles(length, 150);
  for (const aadLength of around(AAD_BYTES_MAX)) {
    expectNobles(200, aadLength);
    expectNobles(TEXT_BYTES_MAX, aadLength);
  }
});

it.each([0, 200, TEXT_BYTES_MAX, TEXT_BYTES_MAX + 1])('opens nothing that was changed, of %i bytes', (length) => {
  const [key, nonce, aad] = [bytes(1, 32), bytes(2, 24), bytes(3, 40)];
  const sealed = encrypt(key, nonce, aad, bytes(4, length));
  const changed = (from: Uint8Array, at: number) => Uint8Array.from(from, (byte, i) => (i === at ? byte ^ 0x80 : byte));
  for (let at = Math.max(0, length - 20); at < sealed.length; at += 1) {
    expect(decrypt(key, nonce, aad, changed(sealed, at))).toBeUndefined();
  }
  for (let at = 0; at < 24; at += 1) expect(decrypt(key, changed(nonce, at), aad, sealed)).toBeUndefined();
  for (let at = 0; at < 32; at += 1) expect(decrypt(changed(key, at), nonce, aad, sealed)).toBeUndefined();
  for (let at = 0; at < 40; at += 1) expect(decrypt(key, nonce, changed(aad, at), sealed)).toBeUndefined();
  expect(decrypt(key, nonce, aad.subarray(1), sealed)).toBeUndefined();
  expect(decrypt(key, nonce, aad, sealed.subarray(0, -1))).toBeUndefined();
  expect(decrypt(key, nonce, aad, sealed)).toBeDefined();
});

it('leaves neither keys nor plaintext in the memory of libsodium, of what opens and what does not', async () => {
  const { memory, sealShort, openShort } = await freshSodium();
  const [key, nonce, aad] = [bytes(11, 32), bytes(12, 24), bytes(13, 40)];
  for (const length of [8, 32, 63, 64, 65, 200, 1000, TEXT_BYTES_MAX]) {
    const plaintext = bytes(length, length);
    const sealed = Buffer.alloc(length + 16);
    const expectNone = () => expect(found(memory(), [key, subkeyOf(key, nonce), plaintext, sealed])).toEqual([]);
    sealShort(key, nonce, aad, plaintext, sealed);
    expectNone();
    expect(openShort(key, nonce, aad, sealed)).toEqual(plaintext);
    expectNone();
    sealed[0]! ^= 1;
    expect(openShort(key, nonce, aad, sealed)).toBeUndefined();
    expectNone();
  }
  // It is the memory that was used: what is no secret is left there.
  expect(memory().includes(nonce)).toBe(true);
});

/** A module of its own, and what of its memory is not zero at the end. */
async function freshSodium() {
  const { WebAssembly } = globalThis as unknown as { WebAssembly: Assembly };
  const instantiate = vi.spyOn(WebAssembly, 'instantiate');
  try {
    const at = join(MODULES, 'crypto/sodium.js?fresh');
    const fresh = (await import(at)) as { sealShort: typeof sealShort; openShort: typeof openShort };
    const { instance } = await instantiate.mock.results[0]!.value;
    const exported = Object.values(instance.exports).find((one) => one instanceof WebAssembly.Memory)!;
    const memory = () => {
      const all = Buffer.from(exported.buffer);
      return all.subarray(0, all.findLastIndex((byte) => byte !== 0) + 1);
    };
    return { ...fresh, memory };
  } finally {
    instantiate.mockRestore();
  }
}

type Memory = { readonly buffer: ArrayBuffer };
type Assembly = {
  readonly Memory: new () => Memory;
  readonly instantiate: (source: Uint8Array) => Promise<{ instance: { exports: Record<string, Memory> } }>;
};

/** draft-irtf-cfrg-xchacha-03 §2.3. */
function subkeyOf(key: Uint8Array, nonce: Uint8Array): Buffer {
  const words = (from: Uint8Array) => new Uint32Array(Uint8Array.from(from).buffer);
  const subkey = new Uint32Array(8);
  hchacha(words(Buffer.from('expand 32-byte k')), words(key), words(nonce.subarray(0, 16)), subkey);
  return Buffer.from(subkey.buffer);
}

/** Pieces of eight bytes that are there. */
function found(memory: Buffer, secrets: readonly Buffer[]): Buffer[] {
  const pieces = secrets.flatMap((secret) =>
    Array.from({ length: Math.floor(secret.length / 8) }, (_, i) => secret.subarray(8 * i, 8 * i + 8)),
  );
  return pieces.filter((piece) => memory.includes(piece));
}
