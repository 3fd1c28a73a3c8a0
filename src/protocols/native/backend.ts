/** Backends and roles: where dynamic credentials come from, and which. */
import { z } from '@hono/zod-openapi';
import { BACKEND_KINDS, type BackendInfo, listBackends, putBackend, readBackend } from '../../lease/configuration.ts';
import { deleteBackend, deleteRole } from '../../lease/removal.ts';
import { listRoles, putRole, type RoleInfo, readRole } from '../../lease/role.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { duration, listOf, name, pageQuery, time } from './schema.ts';

const seconds = z.int().nullable().openapi({ description: 'Seconds.' });

const allowedRoles = z.array(z.string()).openapi({
  description: 'Names of the roles and static accounts that it serves, in which * is any characters; null: every one.',
});

const backend = z
  .object({
    name,
    kind: z.enum(BACKEND_KINDS),
    config: z.looseObject({}).openapi({ description: 'Without its secrets.' }),
    allowed_roles: allowedRoles.nullable(),
    default_ttl: seconds,
    max_ttl: seconds,
    closing: z.boolean().openapi({ description: 'It is being deleted and gives no new lease.' }),
    created_at: time,
    updated_at: time,
  })
  .openapi('Backend');

const BACKEND = {
  name: 'db',
  kind: 'postgres',
  config: { host: '127.0.0.1', port: 5432, database: 'reports', username: 'bulla', tls: 'off' },
  allowed_roles: ['reporting', 'app-*'],
  default_ttl: 3600,
  max_ttl: 86400,
  closing: false,
  created_at: '2026-01-02T03:04:05.678901Z',
  updated_at: '2026-01-02T03:04:05.678901Z',
} as const;

const shapeBackend = (info: BackendInfo) => ({
  name: info.name,
  kind: info.kind,
  config: info.config,
  allowed_roles: info.allowedRoles,
  default_ttl: info.defaultTtlSeconds,
  max_ttl: info.maxTtlSeconds,
  closing: info.closing,
  created_at: info.createdAt,
  updated_at: info.updatedAt,
});

const removal = z.strictObject({
  revoke: z
    .enum(['true', 'false'])
    .optional()
    .openapi({ description: 'Revoke its live leases first.', example: 'true' }),
});

export const list = endpoint(
  {
    method: 'get',
    path: '/backends',
    id: 'listBackends',
    tag: 'backends',
    summary: 'List backends',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names.',
        schema: listOf(backend),
        example: { items: [BACKEND], next_cursor: null },
      },
    },
    errors: ['integrity'],
  },
  async ({ vault, call, query }) => page(await listBackends(vault, call, query), shapeBackend),
);

export const read = endpoint(
  {
    method: 'get',
    path: '/backends/{name}',
    id: 'readBackend',
    tag: 'backends',
    summary: 'Read a backend',
    answers: { 200: { about: 'Never its secrets.', schema: backend, example: BACKEND } },
    errors: ['not_found', 'integrity'],
  },
  async ({ vault, call, param }) => json(200, shapeBackend(await readBackend(vault, call, param))),
);

export const put = endpoint(
  {
    method: 'put',
    path: '/backends/{name}',
    id: 'putBackend',
    tag: 'backends',
    summary: 'Create or change a backend',
    description:
      'The configuration is tried on its real target first: wrong credentials and missing rights are told here. Secrets that it leaves out stay as they are. docs/backends.md has what each kind takes.',
    body: z.strictObject({
      kind: z.enum(BACKEND_KINDS),
      config: z.looseObject({}),
      allowed_roles: allowedRoles.nullish(),
      default_ttl: duration.optional(),
      max_ttl: duration.optional(),
    }),
    bodyExample: {
      kind: 'postgres',
      config: {
        host: '127.0.0.1',
        database: 'reports',
        username: 'bulla',
        password: 'correct horse battery staple',
        tls: 'off',
      },
      default_ttl: '1h',
      max_ttl: '24h',
    },
    answers: {
      200: { about: 'It was changed.', schema: backend, example: BACKEND },
      201: { about: 'It was created.', schema: backend, example: BACKEND },
    },
    errors: ['conflict', 'backend_failed', 'integrity'],
  },
  async ({ vault, call, param, body }) => {
    const { kind, config, allowed_roles: allowedRoles, default_ttl: defaultTtlSeconds, max_ttl: maxTtlSeconds } = body;
    const wanted = { kind, config, allowedRoles, defaultTtlSeconds, maxTtlSeconds };
    const stored = await putBackend(vault, call, param, wanted);
    return json(stored.created ? 201 : 200, shapeBackend(stored));
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/backends/{name}',
    id: 'deleteBackend',
    tag: 'backends',
    summary: 'Delete a backend with its roles',
    description:
      'Refused while it has live leases or static accounts, unless it is revoked with them, and while one of these may have either of two passwords, unless forced.',
    query: removal.extend({
      force: z.enum(['true', 'false']).optional().openapi({ description: 'Although nobody knows some password then.' }),
    }),
    answers: { 204: { about: 'It is gone.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, query }) => {
    await deleteBackend(vault, call, param, { revoke: query.revoke === 'true', force: query.force === 'true' });
    return noContent();
  },
);

// ---- roles --------------------------------------------------------------------------------------------------------

const role = z
  .object({
    name,
    backend: name,
    path: z.string().openapi({ description: 'What leases of it are taken by.' }),
    settings: z.looseObject({}),
    default_ttl: seconds,
    max_ttl: seconds,
    leases_max: z.int().nullable(),
    closing: z.boolean(),
    created_at: time,
    updated_at: time,
  })
  .openapi('Role');

const SETTINGS = { grants: [{ on: 'tables', schema: 'public', privileges: ['SELECT'] }] };
const ROLE = {
  name: 'reporting',
  backend: 'db',
  path: 'db/reporting',
  settings: SETTINGS,
  default_ttl: 900,
  max_ttl: 3600,
  leases_max: 100,
  closing: false,
  created_at: '2026-01-02T03:04:05.678901Z',
  updated_at: '2026-01-02T03:04:05.678901Z',
};

const shapeRole = (info: RoleInfo) => ({
  name: info.name,
  backend: info.backend,
  path: info.path,
  settings: info.settings,
  default_ttl: info.defaultTtlSeconds,
  max_ttl: info.maxTtlSeconds,
  leases_max: info.leasesMax,
  closing: info.closing,
  created_at: info.createdAt,
  updated_at: info.updatedAt,
});

export const listOfRoles = endpoint(
  {
    method: 'get',
    path: '/roles',
    id: 'listRoles',
    tag: 'backends',
    summary: 'List roles',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names.',
        schema: listOf(role),
        example: { items: [ROLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listRoles(vault, call, query), shapeRole),
);

export const readOneRole = endpoint(
  {
    method: 'get',
    path: '/roles/{name}',
    id: 'readRole',
    tag: 'backends',
    summary: 'Read a role',
    answers: { 200: { about: 'The role.', schema: role, example: ROLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shapeRole(await readRole(vault, call, param))),
);

const LEASES_MAX = 1_000_000;

export const putOneRole = endpoint(
  {
    method: 'put',
    path: '/roles/{name}',
    id: 'putRole',
    tag: 'backends',
    summary: 'Create or change a role',
    description: 'docs/backends.md has the settings that each kind of backend takes.',
    body: z.strictObject({
      backend: name,
      settings: z.looseObject({}).default({}),
      default_ttl: duration.optional(),
      max_ttl: duration.optional(),
      leases_max: z.int().min(1).max(LEASES_MAX).optional().openapi({ description: 'Alive at once.' }),
    }),
    bodyExample: { backend: 'db', settings: SETTINGS, default_ttl: '15m', max_ttl: '1h' },
    answers: {
      200: { about: 'It was changed.', schema: role, example: ROLE },
      201: { about: 'It was created.', schema: role, example: ROLE },
    },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, body }) => {
    const { backend: of, settings, default_ttl, max_ttl, leases_max: leasesMax } = body;
    const times = { defaultTtlSeconds: default_ttl, maxTtlSeconds: max_ttl };
    const stored = await putRole(vault, call, param, { backend: of, settings, ...times, leasesMax });
    return json(stored.created ? 201 : 200, shapeRole(stored));
  },
);

export const removeRole = endpoint(
  {
    method: 'delete',
    path: '/roles/{name}',
    id: 'deleteRole',
    tag: 'backends',
    summary: 'Delete a role',
    description: 'Refused while it has live leases, unless they are revoked first.',
    query: removal,
    answers: { 204: { about: 'It is gone.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, query }) => {
    await deleteRole(vault, call, param, { revoke: query.revoke === 'true' });
    return noContent();
  },
);
