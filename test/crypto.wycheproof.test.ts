/**
 * Other people's vectors: Wycheproof (read from beside the checkout; where it is missing the skip is printed) and the
 * examples of the RFCs. They go through our own wrappers where those take such input, and through node:crypto's
 * primitive under them where ours fix a length or a key.
 */
import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { hchacha } from '@noble/ciphers/chacha.js';
import { describe, expect, test } from 'vitest';
import { SecretBytes } from '../src/crypto/keys.ts';
import { NoteSigner, parseVerifierKey, verifySignature } from '../src/crypto/note.ts';
import { decrypt, encrypt } from '../src/crypto/xchacha.ts';
import { hex, unhex, utf8 } from './crypto.reference.ts';

const WYCHEPROOF = new URL('../../shared/vectors/wycheproof/', import.meta.url);
const present = existsSync(WYCHEPROOF);

type Case = Record<string, string> & { tcId: number; result: 'valid' | 'invalid' | 'acceptable'; size: number };
type Group = { tests: Case[]; ivSize: number; publicKey?: { pk: string } };

function groups(name: string): Group[] {
  return JSON.parse(readFileSync(new URL(`${name}_test.json`, WYCHEPROOF), 'utf8')).testGroups;
}

if (!present) process.stderr.write(`SKIPPED: there are no Wycheproof vectors at ${WYCHEPROOF.pathname}\n`);

describe.runIf(present)('Wycheproof', () => {
  test('T-001 XChaCha20-Poly1305: every verdict through our wrapper', () => {
    let [count, valid] = [0, 0];
    for (const group of groups('xchacha20_poly1305')) {
      for (const vector of group.tests) {
        count += 1;
        const [key, nonce, aad, plaintext] = [vector.key, vector.iv, vector.aad, vector.msg].map((text) =>
          unhex(text!),
        );
        const sealed = unhex(vector.ct! + vector.tag!);
        const run = () => decrypt(key!, nonce!, aad!, sealed);
        if (nonce!.length !== 24) {
          expect(run, `case ${vector.tcId}`).toThrow(/nonce has 24 bytes/);
          expect(vector.result).toBe('invalid');
          continue;
        }
        const opened = run();
        expect(opened === undefined ? undefined : hex(opened), `case ${vector.tcId}`).toBe(
          vector.result === 'valid' ? vector.msg : undefined,
        );
        if (vector.result !== 'valid') continue;
        valid += 1;
        expect(hex(encrypt(key!, nonce!, aad!, plaintext!))).toBe(hex(sealed));
      }
    }
    expect(count).toBe(315);
    expect(valid).toBeGreaterThan(200);
  });

  test('T-002 ChaCha20-Poly1305 of node:crypto, which does the inner part', () => {
    let count = 0;
    for (const group of groups('chacha20_poly1305')) {
      for (const vector of group.tests) {
        if (group.ivSize !== 96) continue;
        count += 1;
        const [key, nonce, aad, plaintext, tag] = [vector.key, vector.iv, vector.aad, vector.msg, vector.tag].map(
          (text) => unhex(text!),
        );
        const open = () => {
          const decipher = createDecipheriv('chacha20-poly1305', key!, nonce!, { authTagLength: 16 });
          decipher.setAAD(aad!, { plaintextLength: plaintext!.length });
          decipher.setAuthTag(tag!);
          return hex(Buffer.concat([decipher.update(unhex(vector.ct!)), decipher.final()]));
        };
        if (vector.result === 'valid') expect(open(), `case ${vector.tcId}`).toBe(vector.msg);
        else expect(open, `case ${vector.tcId}`).toThrow();
      }
    }
    expect(count).toBeGreaterThan(250);
  });

  test('T-002 T-026 HKDF-SHA-256 of node:crypto, and a length beyond 255 blocks is an error', () => {
    let tooLarge = 0;
    for (const group of groups('hkdf_sha256')) {
      for (const vector of group.tests) {
        const derive = () =>
          hex(
            new Uint8Array(
              hkdfSync('sha256', unhex(vector.ikm!), unhex(vector.salt!), unhex(vector.info!), vector.size),
            ),
          );
        if (vector.result === 'valid') {
          expect(derive(), `case ${vector.tcId}`).toBe(vector.okm);
        } else {
          expect(derive, `case ${vector.tcId}`).toThrow();
          tooLarge += 1;
        }
      }
    }
    expect(tooLarge).toBeGreaterThan(0);
  });

  test('T-002 Ed25519: every verdict through our verification', () => {
    let [count, valid] = [0, 0];
    for (const group of groups('ed25519')) {
      const publicKey = unhex(group.publicKey!.pk);
      for (const vector of group.tests) {
        count += 1;
        const accepted = verifySignature(publicKey, unhex(vector.msg!), unhex(vector.sig!));
        expect(accepted, `case ${vector.tcId}`).toBe(vector.result === 'valid');
        if (accepted) valid += 1;
      }
    }
    expect(count).toBeGreaterThan(100);
    expect(valid).toBeGreaterThan(50);
  });
});

describe('examples of the specifications', () => {
  const SUNSCREEN =
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";

  test('draft-irtf-cfrg-xchacha-03 §2.2.1, HChaCha20', () => {
    const words = (text: string) => new Uint32Array(unhex(text).buffer);
    const out = new Uint32Array(8);
    const key = hex(Uint8Array.from({ length: 32 }, (_, i) => i));
    hchacha(words(hex(utf8('expand 32-byte k'))), words(key), words('000000090000004a0000000031415927'), out);
    expect(hex(new Uint8Array(out.buffer))).toBe('82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc');
  });

  test('draft-irtf-cfrg-xchacha-03 §A.3.1, XChaCha20-Poly1305', () => {
    const key = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);
    const nonce = Uint8Array.from({ length: 24 }, (_, i) => 0x40 + i);
    const sealed = encrypt(key, nonce, unhex('50515253c0c1c2c3c4c5c6c7'), utf8(SUNSCREEN));
    expect(hex(sealed)).toBe(
      'bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e' +
        'c0875924c1c7987947deafd8780acf49',
    );
  });

  test('RFC 8439 §2.8.2, ChaCha20-Poly1305', () => {
    const key = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);
    const cipher = createCipheriv('chacha20-poly1305', key, unhex('070000004041424344454647'), { authTagLength: 16 });
    cipher.setAAD(unhex('50515253c0c1c2c3c4c5c6c7'), { plaintextLength: SUNSCREEN.length });
    expect(hex(cipher.update(utf8(SUNSCREEN))).slice(0, 32)).toBe('d31a8d34648e60db7b86afbc53ef7ec2');
    cipher.final();
    expect(hex(cipher.getAuthTag())).toBe('1ae10b594f09e26a7e902ecbd0600691');
  });

  test('RFC 5869 §A.1, HKDF-SHA-256', () => {
    const okm = hkdfSync(
      'sha256',
      unhex('0b'.repeat(22)),
      unhex('000102030405060708090a0b0c'),
      unhex('f0f1f2f3f4f5f6f7f8f9'),
      42,
    );
    expect(hex(new Uint8Array(okm))).toBe(
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    );
  });

  test.each([
    [
      '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
      '',
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
    ],
    [
      '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
      '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
      '72',
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
    ],
    [
      'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
      'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
      'af82',
      '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
    ],
  ])('RFC 8032 §7.1, Ed25519, seed %s', (seed, publicKey, message, signature) => {
    const signer = new NoteSigner('example', SecretBytes.fromBytes(unhex(seed)));
    expect(verifySignature(unhex(publicKey), unhex(message), unhex(signature))).toBe(true);
    expect(hex(parseVerifierKey(signer.verifierKey).publicKey)).toBe(publicKey);
    expect(hex(signer.sign(unhex(message)))).toBe(signature);
  });
});
