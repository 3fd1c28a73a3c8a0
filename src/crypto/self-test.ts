/**
 * Known answers of every primitive that the vault uses, tried before it serves: a broken build, a patched library or a
 * processor that computes wrongly is a sentence at the start and not a vault of unreadable ciphertexts.
 *
 * Argon2id has its own (password.ts), in the process that hashes. A primitive that comes into use comes in here too.
 */
import { createHash, createPrivateKey, createPublicKey, diffieHellman, hkdfSync, sign, verify } from 'node:crypto';
import { VaultError } from '../errors.ts';
import { openAead, sealAead } from './aead.ts';
import { open, seal } from './envelope.ts';
import { Key } from './keys.ts';
import { leafHash, treeRoot } from './merkle.ts';
import { hmacOf, verifyMessage } from './signature.ts';
import { decrypt, encrypt } from './xchacha.ts';

export type KnownAnswer = { readonly name: string; readonly holds: () => boolean };

const hex = (text: string) => Buffer.from(text, 'hex');
const equals = (bytes: ArrayBuffer | Uint8Array | undefined, expected: string) =>
  bytes !== undefined && Buffer.from(bytes as Uint8Array).toString('hex') === expected;

/** 00 01 02 … */
const counting = (length: number, from = 0) => Uint8Array.from({ length }, (_, i) => from + i);

const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

export const KNOWN_ANSWERS: readonly KnownAnswer[] = [
  {
    name: 'SHA-256 (FIPS 180-4, "abc")',
    holds: () =>
      equals(
        createHash('sha256').update('abc').digest(),
        'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
      ),
  },
  {
    name: 'HKDF-SHA-256 (RFC 5869 A.1)',
    holds: () =>
      equals(
        hkdfSync('sha256', Buffer.alloc(22, 0x0b), counting(13), counting(10, 0xf0), 42),
        '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
      ),
  },
  {
    name: 'XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 A.3.1)',
    holds: () => {
      const [key, nonce, aad] = [counting(32, 0x80), counting(24, 0x40), hex('50515253c0c1c2c3c4c5c6c7')];
      const sealed = encrypt(key, nonce, aad, Buffer.from(SUNSCREEN));
      const broken = Uint8Array.from(sealed, (byte, i) => (i === 5 ? byte ^ 1 : byte));
      return (
        equals(sealed, SUNSCREEN_SEALED) &&
        equals(decrypt(key, nonce, aad, sealed), Buffer.from(SUNSCREEN).toString('hex')) &&
        decrypt(key, nonce, aad, broken) === undefined
      );
    },
  },
  {
    name: 'XChaCha20-Poly1305 (4 KiB of zeros, by @noble/ciphers)',
    holds: () => {
      const [key, nonce, aad] = [counting(32, 0x80), counting(24, 0x40), hex('50515253c0c1c2c3c4c5c6c7')];
      const zeros = Buffer.alloc(4096);
      const sealed = encrypt(key, nonce, aad, zeros);
      const broken = Uint8Array.from(sealed, (byte, i) => (i === 5 ? byte ^ 1 : byte));
      return (
        equals(createHash('sha256').update(sealed).digest(), ZEROS_SEALED_SHA256) &&
        equals(decrypt(key, nonce, aad, sealed), zeros.toString('hex')) &&
        decrypt(key, nonce, aad, broken) === undefined
      );
    },
  },
  {
    name: 'Ed25519 (RFC 8032 7.1, test 1)',
    holds: () => {
      const seed = hex('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60');
      const key = createPrivateKey({ key: Buffer.concat([PKCS8_ED25519, seed]), format: 'der', type: 'pkcs8' });
      const signature = sign(null, Buffer.alloc(0), key);
      const good = verify(null, Buffer.alloc(0), createPublicKey(key), signature);
      return (
        good && equals(signature, ED25519_SIGNATURE) && !verify(null, Buffer.of(0), createPublicKey(key), signature)
      );
    },
  },
  {
    name: 'AES-256-GCM (the GCM submission, test case 14)',
    holds: () => {
      const [key, nonce, aad, plaintext] = [Buffer.alloc(32), Buffer.alloc(12), Buffer.alloc(0), Buffer.alloc(16)];
      const sealed = sealAead('aes256-gcm96', key, nonce, aad, plaintext);
      const broken = Uint8Array.from(sealed, (byte, i) => (i === 5 ? byte ^ 1 : byte));
      return (
        equals(sealed, 'cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919') &&
        equals(openAead('aes256-gcm96', key, nonce, aad, sealed), '00'.repeat(16)) &&
        openAead('aes256-gcm96', key, nonce, aad, broken) === undefined
      );
    },
  },
  {
    name: 'ChaCha20-Poly1305 (RFC 8439 2.8.2)',
    holds: () => {
      const [key, nonce, aad] = [counting(32, 0x80), hex('070000004041424344454647'), hex('50515253c0c1c2c3c4c5c6c7')];
      const sealed = sealAead('chacha20-poly1305', key, nonce, aad, Buffer.from(SUNSCREEN));
      const broken = Uint8Array.from(sealed, (byte, i) => (i === 5 ? byte ^ 1 : byte));
      return (
        equals(sealed, SUNSCREEN_SEALED_IETF) &&
        equals(openAead('chacha20-poly1305', key, nonce, aad, sealed), Buffer.from(SUNSCREEN).toString('hex')) &&
        openAead('chacha20-poly1305', key, nonce, aad, broken) === undefined
      );
    },
  },
  {
    name: 'X25519 (RFC 7748 5.2)',
    holds: () => {
      const scalar = hex('a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4');
      const point = hex('e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c');
      const der = Buffer.concat([PKCS8_X25519, scalar]);
      const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
      const publicKey = createPublicKey({ key: Buffer.concat([SPKI_X25519, point]), format: 'der', type: 'spki' });
      const shared = diffieHellman({ privateKey, publicKey });
      return equals(shared, 'c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552');
    },
  },
  {
    name: 'HMAC-SHA-256 (RFC 4231, test case 2)',
    holds: () =>
      equals(
        hmacOf('sha2-256', Buffer.from('Jefe'), Buffer.from('what do ya want for nothing?')),
        '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
      ),
  },
  {
    name: 'ECDSA P-256 (RFC 6979 A.2.5)',
    holds: () => {
      const key = createPublicKey({ key: Buffer.concat([SPKI_P256, hex(P256_POINT)]), format: 'der', type: 'spki' });
      const good = verifyMessage(key, SCHEME, Buffer.from('sample'), hex(P256_SIGNATURE));
      return good && !verifyMessage(key, SCHEME, Buffer.from('simple'), hex(P256_SIGNATURE));
    },
  },
  {
    name: 'RSA-PSS, SHA-256 (Wycheproof rsa_pss_2048_sha256_mgf1_32, 3)',
    holds: () => {
      const key = createPublicKey({ key: hex(RSA_SPKI), format: 'der', type: 'spki' });
      const scheme = { ...SCHEME, saltLength: 'hash' } as const;
      const good = verifyMessage(key, scheme, Buffer.from('Test'), hex(RSA_SIGNATURE));
      return good && !verifyMessage(key, scheme, Buffer.from('test'), hex(RSA_SIGNATURE));
    },
  },
  {
    name: 'envelope (docs/envelope.md)',
    holds: () => {
      const [key, other] = [Key.fromBytes(1, counting(32)), Key.fromBytes(1, counting(32, 1))];
      const context = { label: 'secret', tenant: 'aaaaaaaaaaaaaaaa', secret: 'bbbbbbbbbbbbbbbb', version: 1 } as const;
      const again = seal(key, context, hex('00ff'));
      return (
        equals(open(key, context, hex(ENVELOPE)), ENVELOPE_PLAINTEXT) &&
        equals(open(key, context, again), '00ff') &&
        refuses(() => open(other, context, hex(ENVELOPE))) &&
        refuses(() => open(key, { ...context, version: 2 }, hex(ENVELOPE)))
      );
    },
  },
  {
    name: 'Merkle tree (RFC 6962)',
    holds: () =>
      equals(treeRoot([]), EMPTY_SHA256) &&
      equals(leafHash(new Uint8Array(0)), '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'),
  },
];

/** Throws `integrity` naming what computes wrongly. */
export function assertKnownAnswers(answers: readonly KnownAnswer[] = KNOWN_ANSWERS): void {
  const wrong = answers.filter(({ holds }) => !safely(holds)).map(({ name }) => name);
  if (wrong.length === 0) return;
  throw new VaultError(
    'integrity',
    `The self-test failed: ${wrong.join(', ')} does not give the known answer. Nothing is served: check this installation, its Node.js and this machine.`,
  );
}

function safely(holds: () => boolean): boolean {
  try {
    return holds();
  } catch {
    return false;
  }
}

function refuses(opening: () => unknown): boolean {
  try {
    opening();
    return false;
  } catch (error) {
    return error instanceof VaultError && error.code === 'integrity';
  }
}

const SCHEME = { hash: 'sha2-256', prehashed: false, padding: 'pss', saltLength: 'auto', marshaling: 'jws' } as const;
const PKCS8_ED25519 = hex('302e020100300506032b657004220420');
const PKCS8_X25519 = hex('302e020100300506032b656e04220420');
const SPKI_X25519 = hex('302a300506032b656e032100');
/** SPKI of a P-256 key is this and then 0x04, x and y. */
const SPKI_P256 = hex('3059301306072a8648ce3d020106082a8648ce3d030107034200');
const P256_POINT =
  '0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299';
const P256_SIGNATURE =
  'efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8';
const RSA_SPKI =
  '30820122300d06092a864886f70d01010105000382010f003082010a0282010100a2b451a07d0aa5f96e455671513550514a8a5b462ebef717094fa1fee82224e637f9746d3f7cafd31878d80325b6ef5a1700f65903b469429e89d6eac8845097b5ab393189db92512ed8a7711a1253facd20f79c15e8247f3d3e42e46e48c98e254a2fe9765313a03eff8f17e1a029397a1fa26a8dce26f490ed81299615d9814c22da610428e09c7d9658594266f5c021d0fceca08d945a12be82de4d1ece6b4c03145b5d3495d4ed5411eb878daf05fd7afc3e09ada0f1126422f590975a1969816f48698bcbba1b4d9cae79d460d8f9f85e7975005d9bc22c4e5ac0f7c1a45d12569a62807d3b9a02e5a530e773066f453d1f5b4c2e9cf7820283f742b9d50203010001';
const RSA_SIGNATURE =
  '401eb03cdb47ca88033e3030f6bdecbac8f5c8fc1dd6a13d23d379ed9a2b309891d13d74fea9d21d159b9e6d8f37efa2489962e24555f56dd434ff1d31ce4f9f5abd3f22cbea8b691d6a11e44efb83e2bca155e6a164325e0fde2a8865afd5c9f51161a9d615f62af7ec2e31b3e5ab649c164490d31d88cfae35b84aea7925690f929a144b6d2f48e8fb894a52deecd1b9a6496990c4ecf1588699a42cacd10c53af350514e4291ea9a058e77f101e32c1c0cefa61d945f7bc931f8bd19e7ba3169358a60e5a8b0123bc3199b9fdcafe8e519c41ba675491a27b85e44ef2d77277c10fe107293c8290186913bc9a99b640d8da041b64f31eab1d35920985f4a5';
const ED25519_SIGNATURE =
  'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b';
const ZEROS_SEALED_SHA256 = '8b809b97fb2d7746c17a2c40adf777208309f358dcce5dae7315814bd96ae6d3';
const SUNSCREEN =
  "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
const SUNSCREEN_SEALED =
  'bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49';
const SUNSCREEN_SEALED_IETF =
  'd31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691';
const ENVELOPE_PLAINTEXT = '7b2264617461223a7b2270617373776f7264223a2268756e74657232227d7d';
const ENVELOPE =
  '010100000001451c22c60a80c5534a0cd63b9c05095f41d12457a1e5ff787f9691740aa8c91357d1d96c34fa42ffe0f32ffcd015117bb63b3ad36be21d48ce9540201c13ec92bcb788ed1eab80969e7f9cb44d50841f4c413d28926dfe9c6f497cd358200165391ae2f771ad84';
