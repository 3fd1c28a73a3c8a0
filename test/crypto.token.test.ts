/** Tokens and ids: one spelling each, nothing to guess, nothing stored that opens anything. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { equalHash, mintToken, parseToken, randomId } from '../src/crypto/token.ts';
import { hex } from './crypto.reference.ts';

const TENANT = 'abcdefgh234567aa';

test('T-048 a minted token parses to its tenant, its id and the hash that is stored', () => {
  for (const tenantId of ['system', TENANT]) {
    const { token, tokenId, secretHash } = mintToken(tenantId);
    expect(token).toMatch(new RegExp(`^bulla_${tenantId}_${tokenId}\\.[A-Za-z0-9_-]{49}$`));
    expect(parseToken(token)).toEqual({ tenantId, tokenId, secretHash });
    const secret = Buffer.from(token.split('.')[1]!.slice(0, 43), 'base64url');
    expect(secret.length).toBe(32);
    expect(hex(secretHash)).toBe(createHash('sha256').update(secret).digest('hex'));
  }
});

test('T-048 no two tokens share an id or a secret, and every character of an id occurs', () => {
  const tokens = Array.from({ length: 2000 }, () => mintToken('system'));
  expect(new Set(tokens.map(({ tokenId }) => tokenId)).size).toBe(2000);
  expect(new Set(tokens.map(({ secretHash }) => hex(secretHash))).size).toBe(2000);
  const counts = new Map<string, number>();
  for (const { tokenId } of tokens)
    for (const character of tokenId) counts.set(character, (counts.get(character) ?? 0) + 1);
  expect([...counts.keys()].sort().join('')).toBe('234567abcdefghijklmnopqrstuvwxyz');
  // 1000 of each are expected; six standard deviations are 187.
  for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(187);
});

test('T-048 the checksum is fixed, so that scanners can be written', () => {
  const body = `bulla_system_aaaaaaaaaaaaaaaa.${'A'.repeat(43)}`;
  const checksum = createHash('sha256').update(body).digest('base64url').slice(0, 6);
  expect(checksum).toBe('eQlD4N');
  expect(parseToken(body + checksum)?.tokenId).toBe('aaaaaaaaaaaaaaaa');
});

test('a token with any one character changed, added or removed is no token', () => {
  const { token } = mintToken(TENANT);
  fc.assert(
    fc.property(fc.nat(token.length - 1), fc.constantFrom(...'aZ0_-.=~ \u0000é'), (at, character) => {
      if (token[at] !== character)
        expect(parseToken(token.slice(0, at) + character + token.slice(at + 1))).toBeUndefined();
      expect(parseToken(token.slice(0, at) + character + token.slice(at))).toBeUndefined();
      expect(parseToken(token.slice(0, at) + token.slice(at + 1))).toBeUndefined();
    }),
    { numRuns: 500 },
  );
});

test('a secret in a second base64url spelling is no token, although its checksum fits', () => {
  const body = `bulla_system_aaaaaaaaaaaaaaaa.${'A'.repeat(42)}B`;
  const checksum = createHash('sha256').update(body).digest('base64url').slice(0, 6);
  expect(parseToken(body + checksum)).toBeUndefined();
});

test('anything else is no token and no exception', () => {
  for (const text of ['', 'bulla_', 'x'.repeat(1_000_000), 'bulla_SYSTEM_aaaaaaaaaaaaaaaa.', 'Bearer x', '\ud800']) {
    expect(parseToken(text)).toBeUndefined();
  }
  for (const tenantId of ['', 'System', 'abc', 'abcdefgh2345678a', '../../../../../..']) {
    expect(() => mintToken(tenantId)).toThrow(/assertion/);
  }
});

test('hashes compare equal only when they are', () => {
  const [a, b] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(1)];
  expect(equalHash(a, b)).toBe(true);
  b[31] = 0;
  expect(equalHash(a, b)).toBe(false);
  expect(equalHash(a, a.subarray(1))).toBe(false);
  expect(equalHash(new Uint8Array(0), a)).toBe(false);
});

test('ids are 16 characters of base32', () => {
  for (let i = 0; i < 100; i++) expect(randomId()).toMatch(/^[a-z2-7]{16}$/);
});
