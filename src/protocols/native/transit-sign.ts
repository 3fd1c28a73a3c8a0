/** Signing and verifying with named keys, HMACs, and the passwords of applications' users. */
import { z } from '@hono/zod-openapi';
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
import { endpoint, json } from './endpoint.ts';
import { password } from './schema.ts';
import { answer, answerOf, base64, common, context, itemsOf, keyVersion, reference } from './transit-item.ts';

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
