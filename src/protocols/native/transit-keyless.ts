/** What takes no named key: hashes, random bytes, and encryption to a public key that the caller names. */
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import { computeHash, makeRandom, sealToPublicKey } from '../../transit/keyless.ts';
import { HASHES } from '../../transit/sign.ts';
import { endpoint, json } from './endpoint.ts';
import { base64, common, text64 } from './transit-item.ts';

const format = z.enum(['base64', 'hex']).default('base64');
const written = (bytes: Uint8Array, as: 'base64' | 'hex') =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString(as);

export const hash = endpoint(
  {
    ...common,
    path: '/transit/hash',
    id: 'computeHash',
    summary: 'Compute a hash',
    body: z.strictObject({ input: base64, algorithm: z.enum(HASHES).default('sha2-256'), format }),
    bodyExample: { input: 'aGVsbG8=', algorithm: 'sha2-256', format: 'hex' },
    answers: {
      200: {
        about: 'The hash.',
        schema: z.object({ hash: z.string() }).openapi('HashSum'),
        example: { hash: '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824' },
      },
    },
  },
  async ({ vault, call, body }) => {
    const sum = await computeHash(vault, call, { hash: body.algorithm, input: body.input });
    return json(200, { hash: written(sum, body.format) });
  },
);

export const random = endpoint(
  {
    ...common,
    path: '/transit/random',
    id: 'makeRandom',
    summary: 'Have random bytes',
    body: z.strictObject({ bytes: z.int().min(1).max(LIMITS.transitRandomBytesMax).default(32), format }),
    bodyExample: { bytes: 32 },
    bodyOptional: true,
    answers: {
      200: {
        about: 'The bytes.',
        schema: z.object({ random_bytes: z.string() }).openapi('RandomBytes'),
        example: { random_bytes: 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=' },
      },
    },
  },
  async ({ vault, call, body }) =>
    json(200, { random_bytes: written(await makeRandom(vault, call, body), body.format) }),
);

export const sealTo = endpoint(
  {
    ...common,
    path: '/transit/seal',
    id: 'sealToPublicKey',
    summary: 'Encrypt to a public key (HPKE)',
    description:
      'RFC 9180, base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. The answer is the encapsulated key, 32 bytes, and then the ciphertext. With `vault:v<version>:` before it, a named key of type hpke opens it, with `info` as its context.',
    body: z.strictObject({
      public_key: base64.openapi({ description: 'The 32 bytes of an X25519 public key.' }),
      plaintext: base64,
      info: base64.optional(),
      associated_data: base64.optional(),
    }),
    bodyExample: { public_key: 'N7SMBl/4bm7YbUoF6oI1f5SpjYDKfCkLbIpBLZrd8g0=', plaintext: 'aGVsbG8=' },
    answers: {
      200: {
        about: 'What the holder of the private key opens.',
        schema: z.object({ sealed: z.string() }).openapi('Sealed'),
        example: { sealed: 'mJ3Nq0P9Ff5kM0Jm2cE5jHqkC1X6x3t8dA1r9Yc0VXw8cQ6lP2uVn4m9Y7a1hJ3k5w==' },
      },
    },
  },
  async ({ vault, call, body }) => {
    const sealed = await sealToPublicKey(vault, call, {
      publicKey: body.public_key,
      plaintext: body.plaintext,
      info: body.info ?? EMPTY,
      associatedData: body.associated_data ?? EMPTY,
    });
    return json(200, { sealed: text64(sealed) });
  },
);

const EMPTY = new Uint8Array(0);
