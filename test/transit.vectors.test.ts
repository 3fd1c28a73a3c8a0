/**
 * Known answers for named keys: Wycheproof through our own wrappers, RFC 9180's example, and test/vectors/transit.json,
 * which a second implementation made (transit.reference.ts).
 */
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { AEAD_AES_128_GCM, CipherSuite, KDF_HKDF_SHA256, KEM_DHKEM_X25519_HKDF_SHA256 } from 'hpke';
import { describe, expect, test } from 'vitest';
import { AEADS, type AeadName, openAead, sealAead } from '../src/crypto/aead.ts';
import { seal } from '../src/crypto/envelope.ts';
import { hpkePublicKey, openSealed, sealTo } from '../src/crypto/hpke.ts';
import { Key } from '../src/crypto/keys.ts';
import { type KeyType, NamedKey } from '../src/crypto/named-key.ts';
import { hmacOf, type SignatureScheme, verifyMessage } from '../src/crypto/signature.ts';
import { bytes, convergentNonce, derived, hex, hpkeSeal, sealBody } from './transit.reference.ts';

const WYCHEPROOF = new URL('../../shared/vectors/wycheproof/', import.meta.url);
const present = existsSync(WYCHEPROOF);
if (!present) process.stderr.write(`SKIPPED: there are no Wycheproof vectors at ${WYCHEPROOF.pathname}\n`);

type Case = Record<string, string> & { tcId: number; result: 'valid' | 'invalid' | 'acceptable'; flags: string[] };
type Group = Record<string, number> & { tests: Case[]; publicKeyDer: string; publicKey: { pk: string } };
const groups = (name: string): Group[] =>
  JSON.parse(readFileSync(new URL(`${name}_test.json`, WYCHEPROOF), 'utf8')).testGroups;

const SCHEME: SignatureScheme = {
  hash: 'sha2-256',
  prehashed: false,
  padding: 'pss',
  saltLength: 'auto',
  marshaling: 'asn1',
};

describe.runIf(present)('Wycheproof', () => {
  const aead = (file: string, nameOf: (group: Group) => AeadName | undefined) => {
    let [count, valid] = [0, 0];
    for (const group of groups(file)) {
      const name = nameOf(group);
      if (name === undefined) continue;
      for (const vector of group.tests) {
        const [key, nonce, aad, plaintext] = ['key', 'iv', 'aad', 'msg'].map((field) => bytes(vector[field]!));
        if (nonce!.length !== AEADS[name].nonceBytes) continue;
        count += 1;
        const sealed = bytes(vector.ct! + vector.tag!);
        const opened = openAead(name, key!, nonce!, aad!, sealed);
        const wanted = vector.result === 'valid' ? vector.msg : undefined;
        expect(opened && hex(opened), `${file} ${vector.tcId}`).toBe(wanted);
        if (wanted === undefined) continue;
        valid += 1;
        expect(hex(sealAead(name, key!, nonce!, aad!, plaintext!))).toBe(hex(sealed));
      }
    }
    return { count, valid };
  };

  test('T-002 T-028 AES-GCM through our wrapper', () => {
    const names: Record<number, AeadName> = { 128: 'aes128-gcm96', 256: 'aes256-gcm96' };
    const { count, valid } = aead('aes_gcm', ({ keySize, ivSize }) => (ivSize === 96 ? names[keySize!] : undefined));
    expect(count).toBeGreaterThan(100);
    expect(valid).toBeGreaterThan(50);
  });

  test('T-001 T-002 ChaCha20-Poly1305 and XChaCha20-Poly1305 through our wrapper', () => {
    expect(aead('chacha20_poly1305', () => 'chacha20-poly1305').count).toBeGreaterThan(250);
    expect(aead('xchacha20_poly1305', () => 'xchacha20-poly1305').count).toBeGreaterThan(250);
  });

  const signatures = (file: string, keyOf: (group: Group) => ReturnType<typeof createPublicKey>, scheme = SCHEME) => {
    let [count, valid] = [0, 0];
    for (const group of groups(file)) {
      const key = keyOf(group);
      for (const vector of group.tests) {
        count += 1;
        const accepted = verifyMessage(key, scheme, bytes(vector.msg!), bytes(vector.sig!));
        if (vector.result !== 'acceptable') expect(accepted, `${file} ${vector.tcId}`).toBe(vector.result === 'valid');
        if (accepted) valid += 1;
      }
    }
    expect(valid).toBeGreaterThan(0);
    return count;
  };
  const ofDer = ({ publicKeyDer }: Group) =>
    createPublicKey({ key: Buffer.from(publicKeyDer, 'hex'), format: 'der', type: 'spki' });

  test('T-002 ECDSA P-256, RSA-PSS and Ed25519 through our verification: every verdict', () => {
    expect(signatures('ecdsa_secp256r1_sha256', ofDer)).toBe(484);
    expect(signatures('rsa_pss_2048_sha256_mgf1_32', ofDer, { ...SCHEME, saltLength: 'hash' })).toBe(108);
    const ed25519 = ({ publicKey }: Group) =>
      createPublicKey({
        key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(publicKey.pk, 'hex').toString('base64url') },
        format: 'jwk',
      });
    expect(signatures('ed25519', ed25519)).toBeGreaterThan(100);
  });

  test('T-002 HMAC-SHA-256', () => {
    let count = 0;
    for (const group of groups('hmac_sha256')) {
      for (const { key, msg, tag, result, tcId } of group.tests) {
        count += 1;
        const made = hex(hmacOf('sha2-256', bytes(key!), bytes(msg!))).slice(0, tag!.length);
        expect(made === tag, `case ${tcId}`).toBe(result === 'valid');
      }
    }
    expect(count).toBe(174);
  });

  test('T-002 X25519: every low-order public key is refused to be sealed to', async () => {
    let refused = 0;
    for (const group of groups('x25519')) {
      for (const vector of group.tests) {
        if (!/^0*$/.test(vector.shared!)) continue;
        refused += 1;
        expect(await sealTo(bytes(vector.public!), bytes(''), bytes(''), bytes('00')), `case ${vector.tcId}`).toBe(
          undefined,
        );
      }
    }
    expect(refused).toBeGreaterThan(20);
  });
});

describe('HPKE', () => {
  // RFC 9180 §A.1.1: AES-128-GCM. The suite that the vault uses has no example there and differs in the cipher alone.
  const RFC = {
    ephemeral: '52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736',
    privateKey: '4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8',
    publicKey: '3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d',
    enc: '37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431',
    ct: 'f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a',
    info: '4f6465206f6e2061204772656369616e2055726e',
    aad: '436f756e742d30',
    plaintext: '4265617574792069732074727574682c20747275746820626561757479',
  };
  const of = (name: keyof typeof RFC) => bytes(RFC[name]);

  test('RFC 9180 §A.1.1 by the library and by the second implementation', async () => {
    const suite = new CipherSuite(KEM_DHKEM_X25519_HKDF_SHA256, KDF_HKDF_SHA256, AEAD_AES_128_GCM);
    const pair = {
      privateKey: await suite.DeserializePrivateKey(of('privateKey'), false),
      publicKey: await suite.DeserializePublicKey(of('publicKey')),
    };
    const opened = await suite.Open(pair, of('enc'), of('ct'), { info: of('info'), aad: of('aad') });
    expect(hex(opened)).toBe(RFC.plaintext);
    const aead = { id: 1, keyBytes: 16 };
    const sealed = await hpkeSeal(aead, of('ephemeral'), of('publicKey'), of('info'), of('aad'), of('plaintext'));
    expect(hex(sealed)).toBe(RFC.enc + RFC.ct);
  });

  test('the vault’s suite opens what the second implementation sealed, and nothing that was changed', async () => {
    expect(hex(hpkePublicKey(of('privateKey')))).toBe(RFC.publicKey);
    const aead = { id: 2, keyBytes: 32 };
    const sealed = await hpkeSeal(aead, of('ephemeral'), of('publicKey'), of('info'), of('aad'), of('plaintext'));
    const open = (text: Uint8Array, info = of('info'), aad = of('aad')) =>
      openSealed(of('privateKey'), info, aad, text);
    expect(hex((await open(sealed))!)).toBe(RFC.plaintext);
    for (const at of [0, 31, 32, sealed.length - 1]) {
      expect(await open(sealed.map((byte, i) => (i === at ? byte ^ 1 : byte)))).toBe(undefined);
    }
    for (const length of [0, 31, 32, 47]) expect(await open(sealed.slice(0, length))).toBe(undefined);
    expect(await open(sealed, of('aad'))).toBe(undefined);
    expect(await open(sealed, of('info'), of('info'))).toBe(undefined);
  });
});

// ---- our own formats ------------------------------------------------------------------------------------------------

const WRAPPER = Key.fromBytes(1, new Uint8Array(32).fill(9));
const CONTEXT = { label: 'transit-key', tenant: 'aaaaaaaaaaaaaaaa', key: 'bbbbbbbbbbbbbbbb', version: 1 } as const;

/** A named key of these bytes, the way a stored one comes. */
function namedKey(type: KeyType, key: Uint8Array, mac = new Uint8Array(32).fill(7)): NamedKey {
  const bundle = Buffer.concat([Buffer.of(1, mac.length >> 8, mac.length & 0xff), mac, key]);
  return NamedKey.unwrap(WRAPPER, CONTEXT, type, seal(WRAPPER, CONTEXT, bundle));
}

type Vector = {
  readonly about: string;
  readonly type: AeadName;
  readonly key: string;
  readonly context?: string;
  readonly associated_data: string;
  readonly convergent: boolean;
  readonly plaintext: string;
  readonly ciphertext: string;
};

describe('test/vectors/transit.json', () => {
  const vectors = JSON.parse(
    readFileSync(new URL('./vectors/transit.json', import.meta.url), 'utf8'),
  ) as readonly Vector[];

  test.each(vectors)('$about', async (vector) => {
    const key = namedKey(vector.type, bytes(vector.key));
    const context = vector.context === undefined ? undefined : bytes(vector.context);
    const binding = { context, aad: bytes(vector.associated_data), convergent: vector.convergent };
    const body = Buffer.from(vector.ciphertext.slice('vault:v1:'.length), 'base64');
    expect(hex((await key.decrypt(body, binding))!)).toBe(vector.plaintext);
    const keys = context === undefined ? undefined : derived(bytes(vector.key), context);
    const own = keys?.slice(0, AEADS[vector.type].keyBytes) ?? bytes(vector.key);
    const { nonceBytes } = AEADS[vector.type];
    const nonce = vector.convergent
      ? convergentNonce(keys!.slice(32), binding.aad, bytes(vector.plaintext), nonceBytes)
      : Uint8Array.from(body.subarray(0, nonceBytes));
    const again = await sealBody(vector.type, own, nonce, binding.aad, bytes(vector.plaintext));
    expect(Buffer.from(again).toString('base64')).toBe(body.toString('base64'));
    if (vector.convergent) expect(hex((await key.encrypt(bytes(vector.plaintext), binding))!)).toBe(hex(body));
  });

  test('hold every cipher, plain, derived and convergent', () => {
    const kinds = vectors.map(({ type, context, convergent }) => [type, context !== undefined, convergent].join());
    expect(new Set(kinds).size).toBe(12);
  });
});

describe('properties', () => {
  const text = fc.uint8Array({ maxLength: 80 });
  const name = fc.constantFrom<AeadName>('aes128-gcm96', 'aes256-gcm96', 'chacha20-poly1305', 'xchacha20-poly1305');
  const keyBytes = new Uint8Array(32).fill(3);
  const keyOf = (type: AeadName) => namedKey(type, keyBytes.slice(0, AEADS[type].keyBytes));

  test('T-028 a ciphertext opens with exactly its context, associated data and plaintext, however they are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        name,
        text,
        text,
        text,
        fc.nat(),
        fc.boolean(),
        async (type, context, aad, plaintext, cut, convergent) => {
          const key = keyOf(type);
          const binding = { context: Uint8Array.of(1, ...context), aad, convergent };
          const body = (await key.encrypt(plaintext, binding))!;
          expect(hex((await key.decrypt(body, binding))!)).toBe(hex(plaintext));
          // The same bytes, cut elsewhere between context and associated data.
          const joined = [...binding.context, ...aad];
          const at = 1 + (cut % joined.length);
          if (at === binding.context.length) return;
          const moved = {
            context: Uint8Array.from(joined.slice(0, at)),
            aad: Uint8Array.from(joined.slice(at)),
            convergent,
          };
          expect(await key.decrypt(body, moved)).toBe(undefined);
          const bit = cut % (body.length * 8);
          const broken = body.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
          expect(await key.decrypt(broken, binding)).toBe(undefined);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('a key shows nothing of itself when it is printed, and is of no use once it is wiped', async () => {
    const key = keyOf('aes256-gcm96');
    const { inspect } = await import('node:util');
    for (const shown of [String(key), JSON.stringify(key), inspect(key, { showHidden: true, depth: 9 })]) {
      expect(shown).toContain('[NamedKey aes256-gcm96]');
      expect(shown).not.toContain(hex(keyBytes).slice(0, 8));
    }
    key.wipe();
    const binding = { context: undefined, aad: bytes(''), convergent: false };
    await expect(key.encrypt(bytes('00'), binding)).rejects.toThrow(/wiped/);
    expect(() => key.mac('sha2-256', bytes('00'))).toThrow(/wiped/);
  });

  test('a bundle that is none is refused', () => {
    for (const bundle of ['', '01', '0200200000', '01ffff00']) {
      const envelope = seal(WRAPPER, CONTEXT, bytes(bundle));
      expect(() => NamedKey.unwrap(WRAPPER, CONTEXT, 'hmac', envelope)).toThrow(/named key/);
    }
  });

  test('a signature by another curve’s key or of another length is false, not an error', () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'secp384r1' });
    for (const signature of ['', '00', '3006020101020101', 'ff'.repeat(200)]) {
      for (const marshaling of ['asn1', 'jws'] as const) {
        expect(verifyMessage(publicKey, { ...SCHEME, marshaling }, bytes('00'), bytes(signature))).toBe(false);
      }
    }
  });
});
