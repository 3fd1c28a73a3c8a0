/**
 * Encrypting and decrypting with named keys, and data keys.
 *
 * Every call takes `items` and answers one for each, in their order. What is wrong with one item stands in its place as
 * `error`; when it is wrong with all of them, the call itself is refused, and its audit entry says so.
 */
import { z } from '@hono/zod-openapi';
import {
  DATA_KEY_BITS,
  decrypt as decryptItems,
  encrypt as encryptItems,
  makeDataKey,
  makeWrappedDataKey,
  rewrap as rewrapItems,
} from '../../transit/cipher.ts';
import { faultError } from '../../transit/fault.ts';
import { parseKeyName } from '../../transit/name.ts';
import { endpoint, json } from './endpoint.ts';
import {
  answer,
  answerOf,
  associatedData,
  base64,
  common,
  context,
  itemsOf,
  keyVersion,
  reference,
  text64,
} from './transit-item.ts';

const CIPHERTEXT = 'vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w==';

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
