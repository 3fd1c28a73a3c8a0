/** Tenants, for operators: the directory, and the life of one. Nothing that a tenant holds. */
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import { createTenant, deleteTenant } from '../../job/tenant.ts';
import { unlockTenantAdmin } from '../../job/unlock.ts';
import { listTenants, readTenant, type TenantInfo, updateTenant } from '../../tenant/tenant.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { listOf, name, pageQuery, time } from './schema.ts';

const fields = {
  id: z.string(),
  name,
  state: z.enum(['active', 'suspended', 'deleting']),
  mfa_required: z.boolean().openapi({ description: 'Every person in it must have a second factor.' }),
  created_at: time,
  quotas: z.object({
    secrets: z.int(),
    users: z.int().openapi({ description: 'Accounts of every kind.' }),
    requests_per_second: z.int().nullable().openapi({ description: 'On each node; null is no limit.' }),
    account_requests_per_second: z.int().nullable(),
  }),
  usage: z.object({ secrets: z.int(), users: z.int() }).openapi({ description: 'How many there are.' }),
};
const tenant = z.object(fields).openapi('Tenant');
const newTenant = z
  .object({
    ...fields,
    admin: z.object({
      username: name,
      one_time_password: z.string().openapi({ description: 'Shown this once, and to be changed at the first login.' }),
    }),
  })
  .openapi('NewTenant');

const EXAMPLE = {
  id: 'm3x7kq2zp5nb4cde',
  name: 'acme',
  state: 'active',
  mfa_required: false,
  created_at: '2026-01-02T03:04:05.678901Z',
  quotas: { secrets: 100_000, users: 10_000, requests_per_second: null, account_requests_per_second: null },
  usage: { secrets: 120, users: 7 },
};

const shape = (found: TenantInfo) => ({
  id: found.id,
  name: found.name,
  state: found.state,
  mfa_required: found.mfaRequired,
  created_at: found.createdAt,
  quotas: {
    secrets: found.quotas.secrets,
    users: found.quotas.users,
    requests_per_second: found.quotas.requestsPerSecond,
    account_requests_per_second: found.quotas.accountRequestsPerSecond,
  },
  usage: found.usage,
});

const quota = z.int().min(0).max(LIMITS.quotaMax).optional();
const rate = z.int().min(1).max(LIMITS.ratePerSecondMax).nullable().optional();

export const list = endpoint(
  {
    method: 'get',
    path: '/tenants',
    id: 'listTenants',
    tag: 'tenants',
    summary: 'List tenants',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names.',
        schema: listOf(tenant),
        example: { items: [EXAMPLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listTenants(vault, call, query), shape),
);

export const create = endpoint(
  {
    method: 'post',
    path: '/tenants',
    id: 'createTenant',
    tag: 'tenants',
    summary: 'Create a tenant with its first administrator',
    body: z.strictObject({ name, admin_username: name.optional() }),
    bodyExample: { name: 'acme', admin_username: 'admin' },
    answers: {
      201: {
        about: 'The tenant, and the password of its administrator this once.',
        schema: newTenant,
        example: { ...EXAMPLE, admin: { username: 'admin', one_time_password: 'k3v2m-5qy7d-zr4ab-c6def-ghijk' } },
      },
    },
    errors: ['conflict'],
  },
  async ({ vault, call, body }) => {
    const made = await createTenant(vault, call, { name: body.name, adminUsername: body.admin_username });
    const { username, oneTimePassword } = made.admin;
    return json(201, { ...shape(made), admin: { username, one_time_password: oneTimePassword } });
  },
);

export const read = endpoint(
  {
    method: 'get',
    path: '/tenants/{name}',
    id: 'readTenant',
    tag: 'tenants',
    summary: 'Read a tenant',
    answers: { 200: { about: 'The tenant.', schema: tenant, example: EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shape(await readTenant(vault, call, param))),
);

export const update = endpoint(
  {
    method: 'patch',
    path: '/tenants/{name}',
    id: 'updateTenant',
    tag: 'tenants',
    summary: 'Suspend or resume a tenant, require second factors in it, or set its quotas',
    description: 'A suspended tenant answers 403 to everything.',
    body: z
      .strictObject({
        state: z.enum(['active', 'suspended']).optional(),
        mfa_required: z.boolean().optional(),
        quotas: z
          .strictObject({ secrets: quota, users: quota, requests_per_second: rate, account_requests_per_second: rate })
          .optional()
          .openapi({
            description: 'What is not said stays. Less than there is takes nothing away and lets nothing new in.',
          }),
      })
      .refine((change) => Object.keys(change).length > 0, 'expected at least one field to change'),
    bodyExample: { state: 'suspended' },
    answers: {
      200: { about: 'The tenant as it is now.', schema: tenant, example: { ...EXAMPLE, state: 'suspended' } },
    },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, body }) => {
    const { quotas } = body;
    const change = {
      state: body.state,
      mfaRequired: body.mfa_required,
      quotas: quotas && {
        secrets: quotas.secrets,
        users: quotas.users,
        requestsPerSecond: quotas.requests_per_second,
        accountRequestsPerSecond: quotas.account_requests_per_second,
      },
    };
    return json(200, shape(await updateTenant(vault, call, param, change)));
  },
);

export const unlock = endpoint(
  {
    method: 'post',
    path: '/tenants/{name}/unlock',
    id: 'unlockTenant',
    tag: 'tenants',
    summary: 'Let the last administrator of a tenant in again',
    description: 'Forgets the failed logins of that administrator while no other one of the tenant can log in.',
    body: z.strictObject({
      username: name,
      remove_totp: z
        .literal(true)
        .optional()
        .openapi({ description: 'The second factor is lost: take it away, and end every session.' }),
    }),
    bodyExample: { username: 'admin' },
    answers: { 204: { about: 'The administrator may try again.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, body }) => {
    await unlockTenantAdmin(vault, call, param, { username: body.username, removeTotp: body.remove_totp });
    return noContent();
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/tenants/{name}',
    id: 'deleteTenant',
    tag: 'tenants',
    summary: 'Delete a tenant, its data keys first',
    description:
      'Its audit log stays. The name can be used again and shows nothing old. Its leases are revoked first; with force, those whose target does not answer are given up, and the log says which.',
    query: z.strictObject({ force: z.literal('true').optional() }),
    answers: { 204: { about: 'It is gone.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, query }) => {
    await deleteTenant(vault, call, param, { force: query.force === 'true' });
    return noContent();
  },
);
