/**
 * What named keys do: encrypt, decrypt, sign, verify, hash. Bytes are base64 on both ways.
 *
 * Every call takes `items` and answers one for each, in their order. What is wrong with one item stands in its place as
 * `error`; when it is wrong with all of them, the call itself is refused, and its audit entry says so.
 */
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import {
  DATA_KEY_BITS,
  decrypt as decryptItems,
  encrypt as encryptItems,
  makeDataKey,
  makeWrappedDataKey,
  rewrap as rewrapItems,
} from '../../transit/cipher.ts';
import { faultError } from '../../transit/fault.ts';
import { computeHash, makeRandom, sealToPublicKey } from '../../transit/keyless.ts';
import { parseKeyName } from '../../transit/name.ts';
import { hashPassword, verifyPassword } from '../../transit/password.ts';
import {
  HASHES,
  hmac as hmacItems,
  SCHEME_DEFAULT,
  type SignatureScheme,
  sign as signItems,
  verifyHmac as verifyHmacItems,
  verify as verifyItems,
} from '../../transit/sign.ts';
import type { Result } from '../../transit/use.ts';
import { endpoint, json } from './endpoint.ts';
import { password } from './schema.ts';

const base64 = z
  .string()
  .transform((text, context) => {
    const bytes = Buffer.from(text, 'base64');
    if (bytes.toString('base64') === text) return bytes;
    context.addIssue({ code: 'custom', message: 'expected bytes in base64, with padding' });
    return z.NEVER;
  })
  .openapi({ type: 'string', format: 'byte' });

const context = base64.optional().openapi({
  description: `Of a derived key; at most ${LIMITS.transitContextBytesMax} bytes. Of an hpke key its info.`,
});
const associatedData = base64
  .optional()
  .openapi({ description: 'Bound to the ciphertext and not in it: the same is needed to open it.' });
const keyVersion = z
  .int()
  .min(0)
  .max(LIMITS.versionMax)
  .optional()
  .openapi({ description: 'The latest when absent or 0.' });
const reference = z.string().max(256).optional().openapi({ description: 'Comes back with the answer.' });

const itemsOf = <T extends z.ZodType>(item: T) =>
  z.strictObject({ items: z.array(item).min(1).max(LIMITS.transitCostMax) });

const answerOf = <T extends z.ZodRawShape>(fields: T) =>
  z.object({
    items: z.array(
      z
        .object(fields)
        .partial()
        .extend({
          error: z.string().optional().openapi({ description: 'What is wrong with the item, in place of the rest.' }),
          reference: z.string().optional(),
        }),
    ),
  });

/** Throws when every item failed: the call is recorded as failed too. */
function answer<T>(results: readonly Result<T>[], shape: (ok: T) => object): Response {
  const faults = results.flatMap((result) => ('fault' in result ? [result.fault] : []));
  if (faults.length === results.length) throw faultError(faults[0]!);
  const items = results.map((result) => {
    const named = result.reference === undefined ? {} : { reference: result.reference };
    return 'fault' in result ? { error: result.fault.message, ...named } : { ...shape(result.ok), ...named };
  });
  return json(200, { items });
}

const text64 = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');

const CIPHERTEXT = 'vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w==';
const common = { method: 'post', tag: 'transit', errors: ['not_found', 'conflict', 'integrity'] } as const;

// ---- encryption ---------------------------------------------------------------------------------------------------

const encrypted = answerOf({ ciphertext: z.string(), key_version: z.int() });
const ENCRYPTED = { items: [{ ciphertext: CIPHERTEXT, key_version: 1 }] };
const shapeEncrypted = ({ ciphertext, keyVersion }: { ciphertext: string; keyVersion: number }) => ({
  ciphertext,
  key_version: keyVersion,
});

export const encrypt = endpoint(
  {
    ...common,
    path: '/transit/encrypt/{key}',
    id: 'encryptWithNamedKey',
    summary: 'Encrypt with a named key',
    body: itemsOf(
      z.strictObject({
        plaintext: base64,
        context,
        associated_data: associatedData,
        key_version: keyVersion,
        reference,
      }),
    ),
    bodyExample: { items: [{ plaintext: 'NDExMSAxMTExIDExMTEgMTExMQ==' }] },
    answers: { 200: { about: 'A ciphertext for each.', schema: encrypted, example: ENCRYPTED } },
  },
  async ({ vault, call, param, body }) => {
    const items = body.items.map((item) => ({
      plaintext: item.plaintext,
      context: item.context,
      associatedData: item.associated_data,
      keyVersion: item.key_version,
      reference: item.reference,
    }));
    return answer(await encryptItems(vault, call, parseKeyName(param), items), shapeEncrypted);
  },
);

export const decrypt = endpoint(
  {
    ...common,
    path: '/transit/decrypt/{key}',
    id: 'decryptWithNamedKey',
    summary: 'Decrypt with a named key',
    body: itemsOf(z.strictObject({ ciphertext: z.string(), context, associated_data: associatedData, reference })),
    bodyExample: { items: [{ ciphertext: CIPHERTEXT }] },
    answers: {
      200: {
        about: 'A plaintext for each.',
        schema: answerOf({ plaintext: z.string(), key_version: z.int() }),
        example: { items: [{ plaintext: 'NDExMSAxMTExIDExMTEgMTExMQ==', key_version: 1 }] },
      },
    },
  },
  async ({ vault, call, param, body }) => {
    const items = body.items.map(({ associated_data, ...item }) => ({ ...item, associatedData: associated_data }));
    return answer(await decryptItems(vault, call, parseKeyName(param), items), (ok) => ({
      plaintext: text64(ok.plaintext),
      key_version: ok.keyVersion,
    }));
  },
);

export const rewrap = endpoint(
  {
    ...common,
    path: '/transit/rewrap/{key}',
    id: 'rewrapWithNamedKey',
    summary: 'Move ciphertexts to the latest version of their named key',
    description: 'Their plaintext stays inside the vault.',
    body: itemsOf(
      z.strictObject({
        ciphertext: z.string(),
        context,
        associated_data: associatedData,
        key_version: keyVersion,
        reference,
      }),
    ),
    bodyExample: { items: [{ ciphertext: CIPHERTEXT }] },
    answers: { 200: { about: 'A ciphertext for each.', schema: encrypted, example: ENCRYPTED } },
  },
  async ({ vault, call, param, body }) => {
    const items = body.items.map((item) => ({
      ciphertext: item.ciphertext,
      context: item.context,
      associatedData: item.associated_data,
      keyVersion: item.key_version,
      reference: item.reference,
    }));
    return answer(await rewrapItems(vault, call, parseKeyName(param), items), shapeEncrypted);
  },
);

const dataKeyBody = z.strictObject({
  bits: z.union(DATA_KEY_BITS.map((bits) => z.literal(bits))).default(256),
  context,
  associated_data: associatedData,
  key_version: keyVersion,
});
const askOf = (body: z.output<typeof dataKeyBody>) => ({
  bits: body.bits,
  context: body.context,
  associatedData: body.associated_data,
  keyVersion: body.key_version,
});

const wrappedDataKey = z.object({ ciphertext: z.string(), key_version: z.int() });
const WRAPPED = { ciphertext: CIPHERTEXT, key_version: 1 };

export const dataKey = endpoint(
  {
    ...common,
    path: '/transit/datakey/{key}',
    id: 'makeDataKey',
    summary: 'Make a data key: readable, and under a named key',
    description: 'Encrypt large data with the readable one, keep only the ciphertext beside it, and forget the rest.',
    body: dataKeyBody,
    bodyExample: { bits: 256 },
    bodyOptional: true,
    answers: {
      200: {
        about: 'The data key.',
        schema: wrappedDataKey.extend({ plaintext: z.string() }).openapi('TransitDataKey'),
        example: { ...WRAPPED, plaintext: 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=' },
      },
    },
  },
  async ({ vault, call, param, body }) => {
    const result = await makeDataKey(vault, call, parseKeyName(param), askOf(body));
    if ('fault' in result) throw faultError(result.fault);
    return json(200, { ...shapeEncrypted(result.ok), plaintext: text64(result.ok.plaintext) });
  },
);

export const wrapped = endpoint(
  {
    ...common,
    path: '/transit/wrapped-datakey/{key}',
    id: 'makeWrappedDataKey',
    summary: 'Make a data key that only whoever may decrypt can read',
    body: dataKeyBody,
    bodyExample: { bits: 256 },
    bodyOptional: true,
    answers: {
      200: {
        about: 'The data key under the named key.',
        schema: wrappedDataKey.openapi('TransitWrappedDataKey'),
        example: WRAPPED,
      },
    },
  },
  async ({ vault, call, param, body }) => {
    const result = await makeWrappedDataKey(vault, call, parseKeyName(param), askOf(body));
    if ('fault' in result) throw faultError(result.fault);
    return json(200, shapeEncrypted(result.ok));
  },
);

// ---- signatures ---------------------------------------------------------------------------------------------------

const hashName = z.enum(HASHES);

const scheme = {
  hash_algorithm: hashName.optional().openapi({ description: 'sha2-256 when absent; ed25519 has its own.' }),
  signature_algorithm: z.enum(['pss', 'pkcs1v15']).optional().openapi({ description: 'Of RSA keys; pss when absent.' }),
  marshaling_algorithm: z
    .enum(['asn1', 'jws'])
    .optional()
    .openapi({ description: 'Of ECDSA keys: DER in base64, or r ‖ s in base64url; asn1 when absent.' }),
  salt_length: z
    .union([z.enum(['auto', 'hash']), z.int().min(0).max(512)])
    .optional()
    .openapi({ description: 'Of pss: the longest that fits when absent.' }),
  prehashed: z
    .boolean()
    .optional()
    .openapi({ description: 'The input is the hash already; for RSA keys with pkcs1v15 only.' }),
};

function schemeOf(body: {
  hash_algorithm?: SignatureScheme['hash'] | undefined;
  signature_algorithm?: SignatureScheme['padding'] | undefined;
  marshaling_algorithm?: SignatureScheme['marshaling'] | undefined;
  salt_length?: SignatureScheme['saltLength'] | undefined;
  prehashed?: boolean | undefined;
}): SignatureScheme {
  return {
    hash: body.hash_algorithm ?? SCHEME_DEFAULT.hash,
    padding: body.signature_algorithm ?? SCHEME_DEFAULT.padding,
    marshaling: body.marshaling_algorithm ?? SCHEME_DEFAULT.marshaling,
    saltLength: body.salt_length ?? SCHEME_DEFAULT.saltLength,
    prehashed: body.prehashed ?? SCHEME_DEFAULT.prehashed,
  };
}

const SIGNATURE = 'vault:v1:MEUCIQCykqYZM59uVnowXJUcDcvMQtFuR/IZ+eoOduCdh3C/NAIgAXfmBJLFqCQvdvB7/jZh2';
const verified = answerOf({ valid: z.boolean() });
const VERIFIED = { items: [{ valid: true }] };

export const sign = endpoint(
  {
    ...common,
    path: '/transit/sign/{key}',
    id: 'signWithNamedKey',
    summary: 'Sign with a named key',
    body: itemsOf(z.strictObject({ input: base64, context, key_version: keyVersion, reference })).extend(scheme),
    bodyExample: { items: [{ input: 'aGVsbG8=' }] },
    answers: {
      200: {
        about: 'A signature for each.',
        schema: answerOf({
          signature: z.string(),
          key_version: z.int(),
          public_key: z.string().openapi({ description: 'Of a derived key.' }),
        }),
        example: { items: [{ signature: SIGNATURE, key_version: 1 }] },
      },
    },
  },
  async ({ vault, call, param, body }) => {
    const items = body.items.map(({ key_version, ...item }) => ({ ...item, keyVersion: key_version }));
    return answer(await signItems(vault, call, parseKeyName(param), schemeOf(body), items), (ok) => ({
      signature: ok.signature,
      key_version: ok.keyVersion,
      ...(ok.publicKey === undefined ? {} : { public_key: ok.publicKey }),
    }));
  },
);

export const verify = endpoint(
  {
    ...common,
    path: '/transit/verify/{key}',
    id: 'verifyWithNamedKey',
    summary: 'Verify signatures of a named key',
    body: itemsOf(z.strictObject({ input: base64, signature: z.string(), context, reference })).extend(scheme),
    bodyExample: { items: [{ input: 'aGVsbG8=', signature: SIGNATURE }] },
    answers: { 200: { about: 'Whether each is right.', schema: verified, example: VERIFIED } },
  },
  async ({ vault, call, param, body }) => {
    const results = await verifyItems(vault, call, parseKeyName(param), schemeOf(body), body.items);
    return answer(results, ({ valid }) => ({ valid }));
  },
);

const HMAC = 'vault:v1:sXW1fYnqbLYG+zNj8lONqnPEsAoTRnvskFrIBACs8ZM=';

export const hmac = endpoint(
  {
    ...common,
    path: '/transit/hmac/{key}',
    id: 'hmacWithNamedKey',
    summary: 'Compute HMACs with a named key',
    body: itemsOf(z.strictObject({ input: base64, key_version: keyVersion, reference })).extend({
      hash_algorithm: hashName.optional(),
    }),
    bodyExample: { items: [{ input: 'aGVsbG8=' }], hash_algorithm: 'sha2-256' },
    answers: {
      200: {
        about: 'An HMAC for each.',
        schema: answerOf({ hmac: z.string(), key_version: z.int() }),
        example: { items: [{ hmac: HMAC, key_version: 1 }] },
      },
    },
  },
  async ({ vault, call, param, body }) => {
    const items = body.items.map(({ key_version, ...item }) => ({ ...item, keyVersion: key_version }));
    const results = await hmacItems(vault, call, parseKeyName(param), body.hash_algorithm ?? 'sha2-256', items);
    return answer(results, (ok) => ({ hmac: ok.hmac, key_version: ok.keyVersion }));
  },
);

export const verifyHmac = endpoint(
  {
    ...common,
    path: '/transit/verify-hmac/{key}',
    id: 'verifyHmacWithNamedKey',
    summary: 'Verify HMACs of a named key',
    body: itemsOf(z.strictObject({ input: base64, hmac: z.string(), reference })).extend({
      hash_algorithm: hashName.optional(),
    }),
    bodyExample: { items: [{ input: 'aGVsbG8=', hmac: HMAC }] },
    answers: { 200: { about: 'Whether each is right.', schema: verified, example: VERIFIED } },
  },
  async ({ vault, call, param, body }) => {
    const hash = body.hash_algorithm ?? 'sha2-256';
    const results = await verifyHmacItems(vault, call, parseKeyName(param), hash, body.items);
    return answer(results, ({ valid }) => ({ valid }));
  },
);

// ---- passwords ----------------------------------------------------------------------------------------------------

const HASH =
  'vault:v1:$argon2id$v=19$m=65536,t=3,p=4$AAECAwQFBgcICQoLDA0ODw$gLPgTb3Ff3aBtXWSz6mWMzh0mkXiMdZq3vHmFOqSxL4';

export const passwordHash = endpoint(
  {
    ...common,
    path: '/transit/password-hash/{key}',
    id: 'hashPassword',
    summary: 'Hash a password of an application’s own user',
    description: 'Argon2id with the named key, of type password, as its pepper.',
    body: z.strictObject({ password }),
    bodyExample: { password: 'correct horse battery staple' },
    answers: {
      200: {
        about: 'What the application keeps.',
        schema: z.object({ hash: z.string(), key_version: z.int() }).openapi('PasswordHash'),
        example: { hash: HASH, key_version: 1 },
      },
    },
  },
  async ({ vault, call, param, body }) => {
    const { hash, keyVersion: made } = await hashPassword(vault, call, parseKeyName(param), body);
    return json(200, { hash, key_version: made });
  },
);

export const passwordVerify = endpoint(
  {
    ...common,
    path: '/transit/password-verify/{key}',
    id: 'verifyPassword',
    summary: 'Verify a password against what hashing it gave',
    body: z.strictObject({ password, hash: z.string().max(512) }),
    bodyExample: { password: 'correct horse battery staple', hash: HASH },
    answers: {
      200: {
        about: 'Whether it fits.',
        schema: z
          .object({
            valid: z.boolean(),
            needs_rehash: z.boolean().openapi({
              description:
                'It fits, and should be hashed anew: the key was rotated, or the parameters are not today’s.',
            }),
          })
          .openapi('PasswordVerdict'),
        example: { valid: true, needs_rehash: false },
      },
    },
  },
  async ({ vault, call, param, body }) => {
    const { valid, needsRehash } = await verifyPassword(vault, call, parseKeyName(param), body);
    return json(200, { valid, needs_rehash: needsRehash });
  },
);

// ---- without a key ------------------------------------------------------------------------------------------------

const format = z.enum(['base64', 'hex']).default('base64');
const written = (bytes: Uint8Array, as: 'base64' | 'hex') =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString(as);

export const hash = endpoint(
  {
    ...common,
    path: '/transit/hash',
    id: 'computeHash',
    summary: 'Compute a hash',
    body: z.strictObject({ input: base64, algorithm: hashName.default('sha2-256'), format }),
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
