/** Service accounts and their client secrets: machines that log in without a person. */
import { z } from '@hono/zod-openapi';
import {
  type ClientSecretInfo,
  createClientSecret,
  deleteClientSecret,
  listClientSecrets,
} from '../../auth/client-secret.ts';
import {
  createService,
  deleteService,
  listServices,
  readService,
  type ServiceInfo,
  updateService,
} from '../../auth/service.ts';
import { LIMITS } from '../../config.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { duration, listOf, name, pageQuery, time } from './schema.ts';
import { cidrs } from './token.ts';

const policies = z.array(name).max(LIMITS.policiesPerUserMax);
const description = z.string().max(256);

const service = z
  .object({
    id: z.string(),
    name,
    client_id: z.string().openapi({ description: 'What it logs in with beside a client secret.' }),
    description,
    policies: z.array(name),
    disabled: z.boolean(),
    token_ttl_seconds: z.int().nullable(),
    token_period_seconds: z.int().nullable(),
    created_at: time,
    last_login_at: time.nullable(),
  })
  .openapi('Service');

const EXAMPLE = {
  id: 'p7q2xk4mz3nb5cde',
  name: 'billing',
  client_id: 'qzj4mz3nb5cdep7k.p7q2xk4mz3nb5cde',
  description: 'reads the payment keys',
  policies: ['reader'],
  disabled: false,
  token_ttl_seconds: 900,
  token_period_seconds: null,
  created_at: '2026-01-02T03:04:05.678901Z',
  last_login_at: null,
};

const shape = (found: ServiceInfo) => ({
  id: found.id,
  name: found.name,
  client_id: found.clientId,
  description: found.description,
  policies: found.policies,
  disabled: found.disabled,
  token_ttl_seconds: found.tokenTtlSeconds,
  token_period_seconds: found.tokenPeriodSeconds,
  created_at: found.createdAt,
  last_login_at: found.lastLoginAt,
});

const durationOrNull = duration.nullable().openapi({
  anyOf: [{ type: 'string', pattern: '^[0-9]{1,10}[smhd]?$' }, { type: 'integer', minimum: 1 }, { type: 'null' }],
});

const TTL = 'How long its tokens last; null: as configured.';
const PERIOD = 'In place of token_ttl: its tokens are periodic, renewed for this long as long as their secret works.';

export const list = endpoint(
  {
    method: 'get',
    path: '/services',
    id: 'listServices',
    tag: 'services',
    summary: 'List service accounts',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names.',
        schema: listOf(service),
        example: { items: [EXAMPLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listServices(vault, call, query), shape),
);

export const create = endpoint(
  {
    method: 'post',
    path: '/services',
    id: 'createService',
    tag: 'services',
    summary: 'Create a service account',
    description: 'It cannot log in before it has a client secret. Its name is one that no user has.',
    body: z.strictObject({
      name,
      description: description.optional(),
      policies: policies.optional(),
      token_ttl: duration.optional().openapi({ description: TTL }),
      token_period: duration.optional().openapi({ description: PERIOD }),
    }),
    bodyExample: { name: 'billing', description: 'reads the payment keys', policies: ['reader'], token_ttl: '15m' },
    answers: { 201: { about: 'The service.', schema: service, example: EXAMPLE } },
    errors: ['conflict'],
  },
  async ({ vault, call, body }) => {
    const { token_ttl: tokenTtlSeconds, token_period: tokenPeriodSeconds, ...rest } = body;
    return json(201, shape(await createService(vault, call, { ...rest, tokenTtlSeconds, tokenPeriodSeconds })));
  },
);

export const read = endpoint(
  {
    method: 'get',
    path: '/services/{name}',
    id: 'readService',
    tag: 'services',
    summary: 'Read a service account',
    answers: { 200: { about: 'Never a client secret.', schema: service, example: EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shape(await readService(vault, call, param))),
);

export const update = endpoint(
  {
    method: 'patch',
    path: '/services/{name}',
    id: 'updateService',
    tag: 'services',
    summary: 'Change a service account’s policies, state or tokens to come',
    description: 'Disabling ends every token of the service, on every node, before the answer.',
    body: z
      .strictObject({
        description: description.optional(),
        policies: policies.optional(),
        disabled: z.boolean().optional(),
        token_ttl: durationOrNull.optional().openapi({ description: TTL }),
        token_period: durationOrNull.optional().openapi({ description: PERIOD }),
      })
      .refine((change) => Object.keys(change).length > 0, 'expected at least one field to change'),
    bodyExample: { policies: ['reader'], disabled: false },
    answers: { 200: { about: 'The service as it is now.', schema: service, example: EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param, body }) => {
    const { token_ttl: tokenTtlSeconds, token_period: tokenPeriodSeconds, ...rest } = body;
    const change = { ...rest, tokenTtlSeconds, tokenPeriodSeconds };
    return json(200, shape(await updateService(vault, call, param, change)));
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/services/{name}',
    id: 'deleteService',
    tag: 'services',
    summary: 'Delete a service account, its client secrets and its tokens',
    answers: { 204: { about: 'They are gone, on every node.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => {
    await deleteService(vault, call, param);
    return noContent();
  },
);

// ---- client secrets -----------------------------------------------------------------------------------------------

const secretFields = {
  id: z.string(),
  name,
  cidrs: z.array(z.string()).nullable(),
  created_at: time,
  expires_at: time,
  expired: z.boolean(),
  last_used_at: time.nullable(),
  last_used_from: z.string().nullable(),
};

const clientSecret = z.object(secretFields).openapi('ClientSecret');
const newClientSecret = z
  .object({
    client_id: z.string(),
    client_secret: z.string().openapi({ description: 'Shown this once.' }),
    ...secretFields,
  })
  .openapi('NewClientSecret');

const SECRET_EXAMPLE = {
  id: 'r5s7ab2cz3nb5cde',
  name: '2026-q1',
  cidrs: null,
  created_at: '2026-01-02T03:04:05.678901Z',
  expires_at: '2026-04-02T03:04:05.678901Z',
  expired: false,
  last_used_at: null,
  last_used_from: null,
};

const shapeSecret = (found: ClientSecretInfo) => ({
  id: found.id,
  name: found.name,
  cidrs: found.cidrs,
  created_at: found.createdAt,
  expires_at: found.expiresAt,
  expired: found.expired,
  last_used_at: found.lastUsedAt,
  last_used_from: found.lastUsedFrom,
});

export const listSecrets = endpoint(
  {
    method: 'get',
    path: '/services/{name}/secrets',
    id: 'listClientSecrets',
    tag: 'services',
    summary: 'List the client secrets of a service',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names; never the secrets themselves.',
        schema: listOf(clientSecret),
        example: { items: [SECRET_EXAMPLE], next_cursor: null },
      },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, param, query }) => page(await listClientSecrets(vault, call, param, query), shapeSecret),
);

export const createSecret = endpoint(
  {
    method: 'post',
    path: '/services/{name}/secrets',
    id: 'createClientSecret',
    tag: 'services',
    summary: 'Make a client secret of a service',
    description:
      'Several work side by side. With `replaces`, the old one ends after the overlap (a day when absent), and the tokens ' +
      'that were given for it with it.',
    body: z.strictObject({
      name: name.openapi({ example: '2026-q1' }),
      ttl: duration.optional().openapi({ description: '90 days when absent, unless configured otherwise.' }),
      cidrs: cidrs.optional().openapi({ description: 'Where it, and the tokens given for it, may be used from.' }),
      replaces: name.optional(),
      overlap: duration.optional(),
    }),
    bodyExample: { name: '2026-q1', ttl: '90d' },
    answers: {
      201: {
        about: 'The client secret, this once.',
        schema: newClientSecret,
        example: { client_id: EXAMPLE.client_id, client_secret: 'bullacs_…', ...SECRET_EXAMPLE },
      },
    },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, body }) => {
    const { ttl: ttlSeconds, overlap: overlapSeconds, ...rest } = body;
    const made = await createClientSecret(vault, call, param, { ...rest, ttlSeconds, overlapSeconds });
    return json(201, { client_id: made.clientId, client_secret: made.clientSecret, ...shapeSecret(made) });
  },
);

export const removeSecret = endpoint(
  {
    method: 'delete',
    path: '/services/{name}/secrets/{secret}',
    id: 'deleteClientSecret',
    tag: 'services',
    summary: 'End a client secret and the tokens that were given for it',
    answers: { 204: { about: 'They have ended, on every node.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param, params }) => {
    await deleteClientSecret(vault, call, param, params.secret!);
    return noContent();
  },
);
