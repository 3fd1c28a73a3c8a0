/** Mounts: parts of the tree of secrets for clients that know secrets by mounts, and the settings of what is in them. */
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import {
  changeMount,
  createMount,
  DESCRIPTION_CHARS_MAX,
  listMounts,
  type Mount,
  readMount,
  removeMount,
} from '../../secret/mount.ts';
import { parsePath } from '../../secret/path.ts';
import { endpoint, json, noContent } from './endpoint.ts';
import { duration, secretPath, time } from './schema.ts';

const mount = z
  .object({
    path: secretPath,
    prefix: z.string().openapi({ description: 'Where in the tree of secrets it begins; empty is the root.' }),
    version: z.int().openapi({ description: '1: one value a secret; 2: versions.' }),
    description: z.string(),
    versions_kept: z.int().nullable(),
    cas_required: z.boolean(),
    delete_after: z.int().nullable(),
    created_at: time.nullable(),
  })
  .openapi('Mount');

const EXAMPLE = {
  ...{ path: 'kv', prefix: 'kv', version: 2, description: 'what the build needs', versions_kept: null },
  ...{ cas_required: false, delete_after: null, created_at: '2026-01-02T03:04:05.678901Z' },
};

const shape = (found: Mount) => ({
  path: found.path,
  prefix: found.prefix,
  version: found.version,
  description: found.description,
  versions_kept: found.versionsKept,
  cas_required: found.casRequired,
  delete_after: found.deleteAfterSeconds,
  created_at: found.createdAt,
});

const settings = {
  description: z.string().max(DESCRIPTION_CHARS_MAX).optional(),
  versions_kept: z.int().min(1).max(LIMITS.secretVersionsKeptMax).nullable().optional(),
  cas_required: z.boolean().optional(),
  delete_after: duration.nullable().optional(),
};

const changeOf = (body: z.output<z.ZodObject<typeof settings>>) => ({
  description: body.description,
  versionsKept: body.versions_kept,
  casRequired: body.cas_required,
  deleteAfterSeconds: body.delete_after,
});

export const list = endpoint(
  {
    method: 'get',
    path: '/mounts',
    id: 'listMounts',
    tag: 'mounts',
    summary: 'List the mounts',
    answers: {
      200: {
        about: 'In path order. Every tenant has the mount secret, which is the whole tree.',
        schema: z.object({ items: z.array(mount) }),
        example: { items: [EXAMPLE] },
      },
    },
    errors: [],
  },
  async ({ vault, call }) => json(200, { items: (await listMounts(vault, call)).map(shape) }),
);

export const create = endpoint(
  {
    method: 'post',
    path: '/mounts',
    id: 'createMount',
    tag: 'mounts',
    summary: 'Give a part of the tree of secrets a name of its own under /v1',
    body: z.strictObject({
      path: secretPath,
      version: z
        .union([z.literal(1), z.literal(2)])
        .optional()
        .openapi({ type: 'integer', example: 2 }),
      prefix: secretPath.optional(),
      description: settings.description,
    }),
    bodyExample: { path: 'kv', version: 2 },
    answers: { 201: { about: 'The mount.', schema: mount, example: EXAMPLE } },
    errors: ['conflict', 'not_found'],
  },
  async ({ vault, call, body }) =>
    json(201, shape(await createMount(vault, call, { ...body, version: body.version ?? 2 }))),
);

export const read = endpoint(
  {
    method: 'get',
    path: '/mounts/{path}',
    id: 'readMount',
    tag: 'mounts',
    summary: 'Read a mount and the settings of its secrets',
    answers: { 200: { about: 'The mount.', schema: mount, example: EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shape(await readMount(vault, call, parsePath(param)))),
);

export const update = endpoint(
  {
    method: 'patch',
    path: '/mounts/{path}',
    id: 'changeMount',
    tag: 'mounts',
    summary: 'Change the settings that hold for the secrets of a mount',
    description: 'They hold where a secret has none of its own. null unsets one.',
    body: z.strictObject(settings).refine((change) => Object.keys(change).length > 0, 'expected at least one field'),
    bodyExample: { versions_kept: 20, cas_required: true, delete_after: '30d' },
    answers: { 200: { about: 'As it is now.', schema: mount, example: EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param, body }) =>
    json(200, shape(await changeMount(vault, call, parsePath(param), changeOf(body)))),
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/mounts/{path}',
    id: 'removeMount',
    tag: 'mounts',
    summary: 'Remove a mount that has no secrets',
    answers: { 204: { about: 'Its name is free again.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => {
    await removeMount(vault, call, parsePath(param));
    return noContent();
  },
);
