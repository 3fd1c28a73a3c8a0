/** Random numbers: what a repeating, failing or silent generator may not lead to. */
import { execFile } from 'node:child_process';
import crypto from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, expect, test } from 'vitest';
import { seal } from '../src/crypto/envelope.ts';
import { Key, SecretBytes } from '../src/crypto/keys.ts';
import { mintToken, randomId } from '../src/crypto/token.ts';
import { hex, utf8 } from './crypto.reference.ts';

const SECRET = { label: 'secret', tenant: 'aaaaaaaaaaaaaaaa', secret: 'bbbbbbbbbbbbbbbb', version: 1 } as const;
const dist = (file: string) => new URL(`../dist/crypto/${file}`, import.meta.url).href;
const original = crypto.randomFillSync;

function replaceGenerator(fill: (bytes: Uint8Array) => unknown): void {
  crypto.randomFillSync = fill as typeof crypto.randomFillSync;
  syncBuiltinESMExports();
}

/** Random bytes are drawn for 64 nonces at once. */
function sealUntilDrawn(key: Key): void {
  for (let i = 0; i <= 64; i++) seal(key, SECRET, utf8('x'));
}

afterEach(() => replaceGenerator(original as (bytes: Uint8Array) => unknown));

/** Seals `count` times with a generator that always gives the same bytes, and prints the nonces. */
const SEAL_WITH_REPEATING_GENERATOR = `
  import crypto from 'node:crypto';
  import { syncBuiltinESMExports } from 'node:module';
  crypto.randomFillSync = (bytes) => bytes.fill(7);
  syncBuiltinESMExports();
  const { seal } = await import(${JSON.stringify(dist('envelope.js'))});
  const { Key } = await import(${JSON.stringify(dist('keys.js'))});
  const key = Key.fromBytes(1, new Uint8Array(32).fill(1));
  const context = ${JSON.stringify(SECRET)};
  let nonces = '';
  for (let i = 0; i < 20000; i++) nonces += Buffer.from(seal(key, context, new Uint8Array(0)).subarray(38, 62)).toString('hex') + '\\n';
  process.stdout.write(nonces);
`;

test('T-010 two processes with the same repeating generator never make one nonce twice', async () => {
  const run = () =>
    promisify(execFile)(process.execPath, ['--input-type=module', '--eval', SEAL_WITH_REPEATING_GENERATOR], {
      maxBuffer: 8 * 1024 * 1024,
    });
  const outputs = await Promise.all([run(), run()]);
  const nonces = outputs.flatMap(({ stdout }) => stdout.trim().split('\n'));
  expect(nonces.length).toBe(40_000);
  expect(new Set(nonces).size).toBe(40_000);
});

test('T-010 the nonces of one process differ, and so do two envelopes of one plaintext', () => {
  const key = Key.generate(1);
  const nonces = new Set<string>();
  for (let i = 0; i < 20_000; i++) nonces.add(hex(seal(key, SECRET, utf8('x')).subarray(38, 62)));
  expect(nonces.size).toBe(20_000);
});

test('T-010 only the envelope and named keys use the cipher that takes a nonce', () => {
  const src = fileURLToPath(new URL('../src/', import.meta.url));
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const users = files.filter((file) =>
    /from '[^']*(?:xchacha\.ts|@noble\/ciphers[^']*)'/.test(readFileSync(src + file, 'utf8')),
  );
  // The self-test holds the cipher against the draft's vector at every start; aead.ts is what named keys encrypt by.
  expect(users.sort()).toEqual(['crypto/aead.ts', 'crypto/envelope.ts', 'crypto/self-test.ts', 'crypto/xchacha.ts']);
  const importers = files.filter((file) => /from '[^']*aead\.ts'/.test(readFileSync(src + file, 'utf8')));
  // transit/ asks for the names of the ciphers only.
  const calls = files.filter((file) => /\bsealAead\(/.test(readFileSync(src + file, 'utf8')));
  expect(importers.sort()).toEqual(['crypto/named-key.ts', 'crypto/self-test.ts', 'transit/use.ts']);
  expect(calls.sort()).toEqual(['crypto/aead.ts', 'crypto/named-key.ts', 'crypto/self-test.ts']);
  expect(seal.length).toBe(3);
});

test('T-012 a generator that fails, fails the request', () => {
  const key = Key.generate(1);
  replaceGenerator(() => {
    throw new Error('no entropy');
  });
  expect(() => sealUntilDrawn(key)).toThrow('no entropy');
  expect(() => Key.generate(1)).toThrow('no entropy');
  expect(() => SecretBytes.generate(32)).toThrow('no entropy');
  expect(() => randomId()).toThrow('no entropy');
  expect(() => mintToken('system')).toThrow('no entropy');
});

test('T-012 a generator that gives nothing makes no zero nonce, key, id or token', () => {
  const key = Key.generate(1);
  replaceGenerator((bytes) => bytes);
  expect(() => sealUntilDrawn(key)).toThrow(/random bytes/);
  // Nor the next one, nor one after.
  expect(() => seal(key, SECRET, utf8('x'))).toThrow(/random bytes/);
  expect(() => Key.generate(1)).toThrow(/random bytes/);
  expect(() => SecretBytes.generate(32)).toThrow(/random bytes/);
  expect(() => randomId()).toThrow(/random bytes/);
  expect(() => mintToken('system')).toThrow(/random bytes/);
});
