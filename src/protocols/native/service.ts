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
    role_id: z.string().nullable().openapi({ description: 'What clients of other interfaces may name it by.' }),
    token_max_ttl_seconds: z.int().nullable(),
    token_period_seconds: z.int().nullable(),
    token_uses: z.int().nullable(),
    token_cidrs: z.array(z.string()).nullable(),
    secret_ttl_seconds: z.int().nullable(),
    secret_uses: z.int().nullable(),
    secret_cidrs: z.array(z.string()).nullable(),
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
  role_id: null,
  token_ttl_seconds: 900,
  token_max_ttl_seconds: null,
  token_period_seconds: null,
  token_uses: null,
  token_cidrs: null,
  secret_ttl_seconds: null,
  secret_uses: null,
  secret_cidrs: null,
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
  role_id: found.roleId,
  token_ttl_seconds: found.tokenTtlSeconds,
  token_max_ttl_seconds: found.tokenMaxTtlSeconds,
  token_period_seconds: found.tokenPeriodSeconds,
  token_uses: found.tokenUses,
  token_cidrs: found.tokenCidrs,
  secret_ttl_seconds: found.secretTtlSeconds,
  secret_uses: found.secretUses,
  secret_cidrs: found.secretCidrs,
  created_at: found.createdAt,
  last_login_at: found.lastLoginAt,
});

const durationOrNull = duration.nullable().openapi({
  anyOf: [{ type: 'string', pattern: '^[0-9]{1,10}[smhd]?$' }, { type: 'integer', minimum: 1 }, { type: 'null' }],
});

const usesOrNull = z
  .int()
  .min(1)
  .max(LIMITS.tokenUsesMax)
  .nullable()
  .optional()
  .openapi({ anyOf: [{ type: 'integer', minimum: 1, maximum: LIMITS.tokenUsesMax }, { type: 'null' }] });
const cidrsOrNull = z
  .array(z.string())
  .min(1)
  .max(LIMITS.tokenCidrsMax)
  .nullable()
  .optional()
  .openapi({
    anyOf: [
      { type: 'array', items: { type: 'string' }, minItems: 1, maxItems: LIMITS.tokenCidrsMax },
      { type: 'null' },
    ],
  });

/** What bounds tokens and client secrets to come; null takes a bound away. */
const bounds = {
  token_max_ttl: durationOrNull.optional().openapi({ description: 'How long its tokens can be renewed for.' }),
  token_uses: usesOrNull.openapi({ description: 'How many acts a token of it does.' }),
  token_cidrs: cidrsOrNull.openapi({ description: 'Where its tokens may be used from.' }),
  secret_ttl: durationOrNull.optional().openapi({ description: 'How long a client secret works when none is said.' }),
  secret_uses: usesOrNull.openapi({ description: 'How many logins a client secret does when none is said.' }),
  secret_cidrs: cidrsOrNull.openapi({ description: 'Where every client secret of it works at most.' }),
};

type Bounds = { readonly [K in keyof typeof bounds]?: z.output<(typeof bounds)[K]> };

function settingsOf<
  Rest extends Bounds & { token_ttl?: number | null | undefined; token_period?: number | null | undefined },
>({
  token_ttl: tokenTtlSeconds,
  token_period: tokenPeriodSeconds,
  token_max_ttl: tokenMaxTtlSeconds,
  token_uses: tokenUses,
  token_cidrs: tokenCidrs,
  secret_ttl: secretTtlSeconds,
  secret_uses: secretUses,
  secret_cidrs: secretCidrs,
  ...rest
}: Rest) {
  const token = { tokenTtlSeconds, tokenPeriodSeconds, tokenMaxTtlSeconds, tokenUses, tokenCidrs };
  return { ...rest, ...token, secretTtlSeconds, secretUses, secretCidrs };
}

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
      ...bounds,
    }),
    bodyExample: { name: 'billing', description: 'reads the payment keys', policies: ['reader'], token_ttl: '15m' },
    answers: { 201: { about: 'The service.', schema: service, example: EXAMPLE } },
    errors: ['conflict'],
  },
  async ({ vault, call, body }) => json(201, shape(await createService(vault, call, settingsOf(body)))),
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
        ...bounds,
      })
      .refine((change) => Object.keys(change).length > 0, 'expected at least one field to change'),
    bodyExample: { policies: ['reader'], disabled: false },
    answers: { 200: { about: 'The service as it is now.', schema: service, example: EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param, body }) => json(200, shape(await updateService(vault, call, param, settingsOf(body)))),
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
  uses_left: z.int().nullable().openapi({ description: 'Logins that it still does; null: however many.' }),
  metadata: z.record(z.string(), z.string()).openapi({ description: 'What the tokens given for it show.' }),
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
  uses_left: null,
  metadata: {},
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
  uses_left: found.usesLeft,
  metadata: found.metadata,
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
      uses: z.int().min(1).max(LIMITS.tokenUsesMax).optional().openapi({ description: 'Logins that it does.' }),
      metadata: z.record(z.string().max(64), z.string().max(512)).optional(),
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
    await deleteClientSecret(vault, call, param, { name: params.secret! });
    return noContent();
  },
);
