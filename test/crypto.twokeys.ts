/**
 * One ciphertext, two keys: what Poly1305 does not prevent and the key commitment must (case T-009).
 *
 * The tag is s + Σ block_i × r^(n−i+1) mod 2^130−5, mod 2^128. For a tag of our choice, two keys give two linear
 * equations; two free ciphertext blocks solve them. A block of 16 bytes is a number from 2^128 to 2^129, a quarter of
 * the field, so one tag in sixteen gives blocks that exist; others are tried.
 */
import { chacha20, hchacha, xchacha20poly1305 } from '@noble/ciphers/chacha.js';

const P = (1n << 130n) - 5n;
const BLOCK = 1n << 128n;

function littleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex').padStart(2, '0')}`);
}

function bytesOf(value: bigint): Uint8Array {
  return new Uint8Array(Buffer.from(value.toString(16).padStart(32, '0'), 'hex').reverse());
}

function modulo(value: bigint): bigint {
  return ((value % P) + P) % P;
}

function power(base: bigint, exponent: bigint): bigint {
  let [result, square] = [1n, modulo(base)];
  for (let e = exponent; e > 0n; e >>= 1n) {
    if (e & 1n) result = modulo(result * square);
    square = modulo(square * square);
  }
  return result;
}

function oneTimeKey(key: Uint8Array, nonce: Uint8Array): { r: bigint; s: bigint } {
  const words = (bytes: Uint8Array) => new Uint32Array(Uint8Array.from(bytes).buffer);
  const subkey = new Uint32Array(8);
  hchacha(words(Buffer.from('expand 32-byte k')), words(key), words(nonce.subarray(0, 16)), subkey);
  const inner = new Uint8Array(12);
  inner.set(nonce.subarray(16), 4);
  const stream = chacha20(new Uint8Array(subkey.buffer), inner, new Uint8Array(32));
  const r = littleEndian(stream.subarray(0, 16)) & 0x0ffffffc0ffffffc0ffffffc0fffffffn;
  return { r, s: littleEndian(stream.subarray(16)) };
}

function blocksOf(bytes: Uint8Array): bigint[] {
  const padded = new Uint8Array(Math.ceil(bytes.length / 16) * 16);
  padded.set(bytes);
  return Array.from(
    { length: padded.length / 16 },
    (_, i) => littleEndian(padded.subarray(16 * i, 16 * i + 16)) + BLOCK,
  );
}

/** A ciphertext of 48 bytes and its tag that decrypt under both keys with this nonce and associated data. */
export function ciphertextUnderTwoKeys(a: Uint8Array, b: Uint8Array, nonce: Uint8Array, aad: Uint8Array): Uint8Array {
  const keys = [oneTimeKey(a, nonce), oneTimeKey(b, nonce)] as const;
  const fixed = new Uint8Array(16).fill(0x42);
  const lengths = new Uint8Array(16);
  new DataView(lengths.buffer).setBigUint64(0, BigInt(aad.length), true);
  new DataView(lengths.buffer).setBigUint64(8, 48n, true);
  const known = [...blocksOf(aad), ...blocksOf(fixed), 0n, 0n, ...blocksOf(lengths)];
  const rest = keys.map(({ r }) => known.reduce((sum, block) => modulo((sum + block) * r), 0n));
  for (let attempt = 0n; attempt < 10_000n; attempt++) {
    const tag = modulo(attempt * 0x9e3779b97f4a7c15f39cc0605cedc835n) % BLOCK;
    // block x stands third from the end (r^3), block y second (r^2), the lengths last.
    const [ka, kb] = keys.map(({ s }, i) => modulo(((tag - s + BLOCK) % BLOCK) - rest[i]!)) as [bigint, bigint];
    const [ra, rb] = [keys[0].r, keys[1].r];
    const [qa, qb] = [modulo(ka * power(ra * ra, P - 2n)), modulo(kb * power(rb * rb, P - 2n))]; // x·r + y
    const x = modulo((qa - qb) * power(ra - rb, P - 2n));
    const y = modulo(qa - x * ra);
    if (x < BLOCK || y < BLOCK || x >= 2n * BLOCK || y >= 2n * BLOCK) continue;
    return new Uint8Array(Buffer.concat([fixed, bytesOf(x - BLOCK), bytesOf(y - BLOCK), bytesOf(tag)]));
  }
  throw new Error('no ciphertext found');
}

export function opensUnder(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, body: Uint8Array): Uint8Array {
  return xchacha20poly1305(key, nonce, aad).decrypt(body);
}
