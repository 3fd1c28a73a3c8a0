/** Versions of the tenant's data key and of the root key: what there is, and rotating. Never bytes of a key. */
import { z } from '@hono/zod-openapi';
import { ENVELOPE_TABLES, rotateKey, rotateRoot as rotateRootKey } from '../../job/reencrypt.ts';
import { listRootKeys, type RootKeyInfo } from '../../tenant/root-key.ts';
import { type DataKeyInfo, destroyDataKey, listDataKeys } from '../../tenant/rotation.ts';
import { BASE, endpoint, json, noContent, page } from './endpoint.ts';
import { JOB, job, shapeJob } from './job.ts';
import { checked, listOf, pageQuery, time, version } from './schema.ts';

const fingerprint = z.string().openapi({ description: 'Of the key’s commitment.', example: '9f2c4d1e0b3a5c67' });
const NOW = '2026-01-02T03:04:05.678901Z';

const dataKey = z
  .object({
    version: z.int(),
    state: z.enum(['active', 'decrypt_only', 'destroyed']),
    fingerprint,
    created_at: time,
    destroyed_at: time.nullable(),
    root_version: z.int().nullable().openapi({ description: 'The root key version that wraps it.' }),
    depends: z.int().openapi({ description: 'Stored ciphertexts that it opens.' }),
    age_seconds: z.int(),
    due_at: time.nullable().openapi({ description: 'When it rotates by itself; null when it does not.' }),
  })
  .openapi('DataKey');

const DATA_KEY = {
  version: 2,
  state: 'active',
  fingerprint: '9f2c4d1e0b3a5c67',
  created_at: NOW,
  destroyed_at: null,
  root_version: 1,
  depends: 12,
  age_seconds: 3600,
  due_at: NOW,
};

const shapeDataKey = (key: DataKeyInfo) => ({
  version: key.version,
  state: key.state,
  fingerprint: key.fingerprint,
  created_at: key.createdAt,
  destroyed_at: key.destroyedAt,
  root_version: key.rootVersion,
  depends: key.depends,
  age_seconds: key.ageSeconds,
  due_at: key.dueAt,
});

export const list = endpoint(
  {
    method: 'get',
    path: '/keys',
    id: 'listKeys',
    tag: 'keys',
    summary: 'List the versions of the tenant’s data key',
    query: pageQuery,
    answers: {
      200: { about: 'Newest first.', schema: listOf(dataKey), example: { items: [DATA_KEY], next_cursor: null } },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listDataKeys(vault, call, query, ENVELOPE_TABLES), shapeDataKey),
);

export const rotate = endpoint(
  {
    method: 'post',
    path: '/keys/rotate',
    id: 'rotateKey',
    tag: 'keys',
    summary: 'Make a new version of the tenant’s data key',
    description:
      'New writes use it; everything stored still opens under the version that it was written with. With `reencrypt`, a job moves everything stored to the new version while reads and writes go on, and then destroys the older versions.',
    body: z.strictObject({ reencrypt: z.boolean().optional() }),
    bodyExample: { reencrypt: false },
    bodyOptional: true,
    answers: {
      200: { about: 'The new version.', schema: dataKey, example: { ...DATA_KEY, depends: 0 } },
      202: {
        about: 'The new version, and the job that moves everything stored to it.',
        schema: dataKey.extend({ job }).openapi('DataKeyRotation'),
        example: { ...DATA_KEY, depends: 0, job: JOB },
        headers: { Location: 'The job.' },
      },
    },
    errors: ['conflict', 'integrity'],
  },
  async ({ vault, call, body }) => {
    const rotation = await rotateKey(vault, call, { reencrypt: body.reencrypt ?? false });
    const key = shapeDataKey(rotation.key);
    if (!rotation.job) return json(200, key);
    return json(
      202,
      { ...key, job: shapeJob(rotation.job) },
      {
        'Content-Type': 'application/json',
        Location: `${BASE}/jobs/${rotation.job.id}`,
      },
    );
  },
);

export const destroy = endpoint(
  {
    method: 'delete',
    path: '/keys/{version}',
    id: 'destroyKey',
    tag: 'keys',
    summary: 'Destroy a version of the data key that nothing depends on',
    description:
      'Its wrapped bytes are deleted. Refused while a stored ciphertext needs it, and for the active version.',
    answers: { 204: { about: 'It is destroyed, or was before.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => {
    await destroyDataKey(vault, call, checked(version, param));
    return noContent();
  },
);

const rootFields = {
  version: z.int(),
  state: z.enum(['active', 'retiring', 'destroyed']),
  fingerprint,
  seal: z.string().nullable().openapi({ description: 'The kind of seal that wraps it; null when it is destroyed.' }),
  created_at: time,
  destroyed_at: time.nullable(),
  age_seconds: z.int(),
  due_at: time.nullable().openapi({ description: 'When it rotates by itself; null when it does not.' }),
};
const rootKey = z.object(rootFields).openapi('RootKey');
const rotation = z
  .object({
    ...rootFields,
    rewrapped: z.int().openapi({ description: 'Keys that are wrapped by it now.' }),
    destroyed_version: z.int(),
    job: z.string().openapi({ description: 'The job that keeps the report.' }),
  })
  .openapi('RootRotation');

const ROOT_KEY = {
  version: 2,
  state: 'active',
  fingerprint: '0b3a5c679f2c4d1e',
  seal: 'file',
  created_at: NOW,
  destroyed_at: null,
  age_seconds: 3600,
  due_at: NOW,
};

const shapeRootKey = (key: RootKeyInfo) => ({
  version: key.version,
  state: key.state,
  fingerprint: key.fingerprint,
  seal: key.seal,
  created_at: key.createdAt,
  destroyed_at: key.destroyedAt,
  age_seconds: key.ageSeconds,
  due_at: key.dueAt,
});

export const listRoots = endpoint(
  {
    method: 'get',
    path: '/root-keys',
    id: 'listRootKeys',
    tag: 'keys',
    summary: 'List the versions of the root key',
    description: 'For operators.',
    query: pageQuery,
    answers: {
      200: { about: 'Newest first.', schema: listOf(rootKey), example: { items: [ROOT_KEY], next_cursor: null } },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listRootKeys(vault, call, query), shapeRootKey),
);

export const rotateRoot = endpoint(
  {
    method: 'post',
    path: '/root-keys/rotate',
    id: 'rotateRootKey',
    tag: 'keys',
    summary: 'Make a new root key, wrap every key under it and destroy the old one',
    description: 'For operators. One commit: a crash leaves the old state or the new.',
    body: z.strictObject({}),
    bodyExample: {},
    bodyOptional: true,
    answers: {
      200: {
        about: 'The new version.',
        schema: rotation,
        example: { ...ROOT_KEY, rewrapped: 4, destroyed_version: 1, job: JOB.id },
      },
    },
    errors: ['conflict', 'integrity'],
  },
  async ({ vault, call }) => {
    const done = await rotateRootKey(vault, call);
    const { rewrapped, destroyedVersion, job } = done;
    return json(200, { ...shapeRootKey(done), rewrapped, destroyed_version: destroyedVersion, job });
  },
);
