/** What proves the caller's audit log: checkpoints, proofs, tiles and the key that they verify under. */
import { z } from '@hono/zod-openapi';
import {
  proveEntry,
  proveExtension,
  readLogTile,
  readSignedCheckpoint,
  readVerifierKeys,
  signCheckpoint,
} from '../../audit/proof.ts';
import { readRetention, setRetention } from '../../audit/retention.ts';
import { parseTilePath } from '../../audit/tile-path.ts';
import { rotateLogKey } from '../../tenant/log-key.ts';
import { endpoint, json } from './endpoint.ts';
import { deletedLog, time, wholeNumber } from './schema.ts';

const index = wholeNumber(0, Number.MAX_SAFE_INTEGER);
const size = wholeNumber(1, Number.MAX_SAFE_INTEGER);
const TEXT = { 'Content-Type': 'text/plain; charset=utf-8' };
const text = (body: string) => new Response(body, { headers: TEXT });
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

const HASH = 'X5i9Vq0eJ8r1lq3r7cJX0m1wq0yC1oHq0m4Uo2b9bFs=';
const NOTE =
  `abcdefghij234567/m3x7kq2zp5nb4cde\n1024\n${HASH}\n\n— abcdefghij234567/m3x7kq2zp5nb4cde ` +
  'yXmZ0QnKc1o0zJH4b0cQ5v1J9v8bq1cJb2g7qk1mX9o3i2k0Z0b1f8vN3l5kq2W7d6s5a4p3o2i1u0y9t8r7e6w5q4==\n';
const KEY = 'abcdefghij234567/m3x7kq2zp5nb4cde+c97999d1+AQ4ybUVm0s8n0x7l6f5d4s3a2p1o0i9u8y7t6r5e4w3q';

export const checkpoint = endpoint(
  {
    method: 'get',
    path: '/audit/checkpoint',
    id: 'readCheckpoint',
    tag: 'audit',
    summary: 'Read the newest signed checkpoint of the log, or the one of a size',
    description: 'A signed note as in c2sp.org/tlog-checkpoint. The log is signed every minute while it grows.',
    query: z.strictObject({ size: size.optional(), log: deletedLog }),
    answers: {
      200: { about: 'Origin, size, root; signatures.', contentType: 'text/plain', schema: z.string(), example: NOTE },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, query }) => text((await readSignedCheckpoint(vault, call, query.size, query.log)).note),
);

export const sign = endpoint(
  {
    method: 'post',
    path: '/audit/checkpoint',
    id: 'signCheckpoint',
    tag: 'audit',
    summary: 'Have the log signed as it is now',
    body: z.strictObject({}),
    bodyExample: {},
    bodyOptional: true,
    answers: {
      200: { about: 'The checkpoint.', contentType: 'text/plain', schema: z.string(), example: NOTE },
    },
    errors: ['integrity'],
  },
  async ({ vault, call }) => text((await signCheckpoint(vault, call)).note),
);

const hash = z.string().openapi({ description: '32 bytes in base64.', example: HASH });
const hashes = z.array(hash);
const note = z.string().nullable().openapi({ description: 'The checkpoint of this size, if one was signed.' });

export const inclusion = endpoint(
  {
    method: 'get',
    path: '/audit/proof/inclusion',
    id: 'proveInclusion',
    tag: 'audit',
    summary: 'Prove that an entry is in the log',
    description: 'RFC 9162 §2.1.3. The size is that of the newest checkpoint unless another is given.',
    query: z.strictObject({ index, size: size.optional() }),
    queryExample: { index: 7 },
    answers: {
      200: {
        about: 'The audit path, from the leaf up.',
        schema: z
          .object({
            origin: z.string(),
            index: z.int(),
            size: z.int(),
            leaf_hash: hash,
            proof: hashes,
            root: hash,
            checkpoint: note,
          })
          .openapi('InclusionProof'),
        example: {
          ...{ origin: 'abcdefghij234567/m3x7kq2zp5nb4cde', index: 7, size: 8, leaf_hash: HASH },
          ...{ proof: [HASH, HASH, HASH], root: HASH, checkpoint: null },
        },
      },
    },
    errors: ['integrity'],
  },
  async ({ vault, call, query }) => {
    const { leaf, proof, root, ...said } = await proveEntry(vault, call, query);
    return json(200, { ...said, leaf_hash: base64(leaf), proof: proof.map(base64), root: base64(root) });
  },
);

export const consistency = endpoint(
  {
    method: 'get',
    path: '/audit/proof/consistency',
    id: 'proveConsistency',
    tag: 'audit',
    summary: 'Prove that the log at one size is the beginning of the log at another',
    description: 'RFC 9162 §2.1.4. `to` is the size of the newest checkpoint unless another is given.',
    query: z.strictObject({ from: index, to: size.optional() }),
    queryExample: { from: 1000 },
    answers: {
      200: {
        about: 'The proof.',
        schema: z
          .object({
            ...{ origin: z.string(), from: z.int(), to: z.int(), proof: hashes },
            ...{ from_root: hash, to_root: hash, checkpoint: note },
          })
          .openapi('ConsistencyProof'),
        example: {
          ...{ origin: 'abcdefghij234567/m3x7kq2zp5nb4cde', from: 1000, to: 1024, proof: [HASH] },
          ...{ from_root: HASH, to_root: HASH, checkpoint: null },
        },
      },
    },
    errors: ['integrity'],
  },
  async ({ vault, call, query }) => {
    const { proof, fromRoot, toRoot, ...said } = await proveExtension(vault, call, query);
    return json(200, { ...said, proof: proof.map(base64), from_root: base64(fromRoot), to_root: base64(toRoot) });
  },
);

export const tile = endpoint(
  {
    method: 'get',
    path: '/audit/tile/{tile}',
    id: 'readTile',
    tag: 'audit',
    summary: 'Read a tile of the tree',
    description:
      'As in c2sp.org/tlog-tiles: `<level>/<n>`, with `.p/<width>` for the first hashes of a tile that is not full.',
    answers: {
      200: {
        about: 'Up to 256 hashes of 32 bytes each.',
        contentType: 'application/octet-stream',
        schema: z.string().openapi({ format: 'binary' }),
        example: '…',
      },
    },
    errors: ['not_found', 'integrity'],
  },
  async ({ vault, call, param }) => {
    const bytes = await readLogTile(vault, call, parseTilePath(param));
    return new Response(new Uint8Array(bytes), { headers: { 'Content-Type': 'application/octet-stream' } });
  },
);

export const key = endpoint(
  {
    method: 'get',
    path: '/audit/key',
    id: 'readLogKey',
    tag: 'audit',
    summary: 'Read the verifier key of the log',
    description: 'As in c2sp.org/signed-note: `name+hash+base64`. With `all`, older keys follow, a line each.',
    query: z.strictObject({ all: z.enum(['true', 'false']).optional(), log: deletedLog }),
    answers: {
      200: { about: 'The key.', contentType: 'text/plain', schema: z.string(), example: `${KEY}\n` },
    },
    errors: [],
  },
  async ({ vault, call, query }) => {
    const keys = await readVerifierKeys(vault, call, query.all === 'true', query.log);
    return text(keys.map((line) => `${line}\n`).join(''));
  },
);

export const rotateKey = endpoint(
  {
    method: 'post',
    path: '/audit/key/rotate',
    id: 'rotateLogKey',
    tag: 'audit',
    summary: 'Make a new key that signs checkpoints',
    description:
      'For operators. The old key signs beside it for BULLA_LOG_KEY_OVERLAP; each log announces the new one.',
    body: z.strictObject({}),
    bodyExample: {},
    bodyOptional: true,
    answers: {
      200: {
        about: 'The new version.',
        schema: z.object({ version: z.int(), state: z.string(), public_key: hash, created_at: time }).openapi('LogKey'),
        example: { version: 2, state: 'active', public_key: HASH, created_at: '2026-01-02T03:04:05.678901Z' },
      },
    },
    errors: ['conflict', 'integrity'],
  },
  async ({ vault, call }) => {
    const { version, state, publicKey, createdAt } = await rotateLogKey(vault, call);
    return json(200, { version, state, public_key: publicKey, created_at: createdAt });
  },
);

const retentionState = z
  .object({
    days: z.int().nullable().openapi({ description: 'null: for ever.' }),
    removed_to: z.int().openapi({ description: 'Lines before this number are gone; their hashes are not.' }),
  })
  .openapi('Retention');

export const retention = endpoint(
  {
    method: 'get',
    path: '/audit/retention',
    id: 'readRetention',
    tag: 'audit',
    summary: 'How long lines are kept',
    answers: { 200: { about: 'The setting.', schema: retentionState, example: { days: 365, removed_to: 1000 } } },
    errors: [],
  },
  async ({ vault, call }) => {
    const { days, removedTo } = await readRetention(vault, call);
    return json(200, { days, removed_to: removedTo });
  },
);

const DAYS_MAX = 36_500;

export const retain = endpoint(
  {
    method: 'put',
    path: '/audit/retention',
    id: 'setRetention',
    tag: 'audit',
    summary: 'Set how long lines are kept',
    description:
      'Older lines are removed within the hour, once a checkpoint covers them. Their hashes stay: every proof still holds.',
    body: z.strictObject({ days: z.int().min(1).max(DAYS_MAX).nullable() }),
    bodyExample: { days: 365 },
    answers: { 200: { about: 'The setting.', schema: retentionState, example: { days: 365, removed_to: 1000 } } },
    errors: [],
  },
  async ({ vault, call, body }) => {
    const { days, removedTo } = await setRetention(vault, call, body.days);
    return json(200, { days, removed_to: removedTo });
  },
);
