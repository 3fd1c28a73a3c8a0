/** Static accounts: accounts at a target whose password the vault changes. */
import { z } from '@hono/zod-openapi';
import { type AccountInfo, listAccounts, readAccount } from '../../lease/account.ts';
import { putAccount } from '../../lease/account-put.ts';
import { rotateAccount } from '../../lease/account-rotation.ts';
import { revealAccount } from '../../lease/check-out.ts';
import { deleteAccount } from '../../lease/removal.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { duration, listOf, name, pageFields, password, time } from './schema.ts';

const STATES = ['active', 'rotating', 'stuck'] as const;
const seconds = z.int().nullable().openapi({ description: 'Seconds.' });

const account = z
  .object({
    name,
    backend: name,
    username: z.string().openapi({ description: 'As the target writes it.' }),
    state: z.enum(STATES).openapi({
      description:
        'active: the password is proven. rotating: it is being changed, or that was cut off. stuck: changing it has failed several times, or no password of it logs in; it is tried for ever.',
    }),
    rotation_period: seconds,
    end_sessions: z.boolean(),
    default_ttl: seconds,
    max_ttl: seconds,
    rotated_at: time.nullable(),
    next_rotation_at: time.nullable(),
    held_until: time.nullable().openapi({ description: 'Somebody has checked it out.' }),
    attempts: z.int().openapi({ description: 'How often changing the password has failed since it last worked.' }),
    last_error: z.string().nullable(),
    closing: z.boolean(),
    created_at: time,
    updated_at: time,
  })
  .openapi('Account');

const ACCOUNT = {
  name: 'billing',
  backend: 'db',
  username: 'billing_app',
  state: 'active',
  rotation_period: 86400,
  end_sessions: true,
  default_ttl: null,
  max_ttl: 28800,
  rotated_at: '2026-01-02T03:04:05.678901Z',
  next_rotation_at: '2026-01-03T03:04:05.678901Z',
  held_until: null,
  attempts: 0,
  last_error: null,
  closing: false,
  created_at: '2026-01-02T03:04:05.678901Z',
  updated_at: '2026-01-02T03:04:05.678901Z',
} as const;

const shape = (info: AccountInfo) => ({
  name: info.name,
  backend: info.backend,
  username: info.username,
  state: info.state,
  rotation_period: info.periodSeconds,
  end_sessions: info.endSessions,
  default_ttl: info.defaultTtlSeconds,
  max_ttl: info.maxTtlSeconds,
  rotated_at: info.rotatedAt,
  next_rotation_at: info.nextRotationAt,
  held_until: info.heldUntil,
  attempts: info.attempts,
  last_error: info.lastError,
  closing: info.closing,
  created_at: info.createdAt,
  updated_at: info.updatedAt,
});

export const list = endpoint(
  {
    method: 'get',
    path: '/accounts',
    id: 'listAccounts',
    tag: 'accounts',
    summary: 'List static accounts',
    query: z.strictObject({
      ...pageFields,
      state: z.enum(STATES).optional().openapi({ example: 'stuck' }),
    }),
    answers: {
      200: {
        about: 'In the order of their names, without their passwords.',
        schema: listOf(account),
        example: { items: [ACCOUNT], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listAccounts(vault, call, query), shape),
);

export const read = endpoint(
  {
    method: 'get',
    path: '/accounts/{name}',
    id: 'readAccount',
    tag: 'accounts',
    summary: 'Read a static account',
    answers: { 200: { about: 'Never its password.', schema: account, example: ACCOUNT } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shape(await readAccount(vault, call, param))),
);

export const put = endpoint(
  {
    method: 'put',
    path: '/accounts/{name}',
    id: 'putAccount',
    tag: 'accounts',
    summary: 'Create or change a static account',
    description:
      'A password that comes with it is proven by a login and is then the current one: also of an account that is stuck, after it was given one by hand. A new account without one is given another password at once, and is not kept when its target refuses that.',
    body: z.strictObject({
      backend: name,
      username: z.string().openapi({ description: 'As the target writes it: for mysql app@10.0.0.%, say.' }),
      password: password.optional(),
      rotation_period: duration.optional().openapi({ description: 'Never by itself when absent.' }),
      end_sessions: z.boolean().optional().openapi({
        description: 'Whether the end of a check-out ends every session of the account; true when absent.',
      }),
      default_ttl: duration.optional(),
      max_ttl: duration.optional(),
    }),
    bodyExample: { backend: 'db', username: 'billing_app', rotation_period: '24h', max_ttl: '8h' },
    answers: {
      200: { about: 'It was changed.', schema: account, example: ACCOUNT },
      201: {
        about: 'It was created. Its state says whether its password is proven.',
        schema: account,
        example: ACCOUNT,
      },
    },
    errors: ['not_found', 'conflict', 'backend_failed', 'integrity'],
  },
  async ({ vault, call, param, body }) => {
    const { rotation_period, end_sessions, default_ttl, max_ttl, ...rest } = body;
    const times = { defaultTtlSeconds: default_ttl, maxTtlSeconds: max_ttl, periodSeconds: rotation_period };
    const stored = await putAccount(vault, call, param, { ...rest, ...times, endSessions: end_sessions });
    return json(stored.created ? 201 : 200, shape(stored));
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/accounts/{name}',
    id: 'deleteAccount',
    tag: 'accounts',
    summary: 'Delete a static account',
    description:
      'At its target it stays, with the password that it has: read that before. Refused while it is checked out, unless that lease is revoked first, and while it may have either of two passwords, unless forced.',
    query: z.strictObject({
      revoke: z.enum(['true', 'false']).optional().openapi({ description: 'Revoke its lease first.', example: 'true' }),
      force: z.enum(['true', 'false']).optional().openapi({ description: 'Although nobody knows its password then.' }),
    }),
    answers: { 204: { about: 'It is gone.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, query }) => {
    await deleteAccount(vault, call, param, { revoke: query.revoke === 'true', force: query.force === 'true' });
    return noContent();
  },
);

export const rotate = endpoint(
  {
    method: 'post',
    path: '/accounts/{name}/rotate',
    id: 'rotateAccount',
    tag: 'accounts',
    summary: 'Change the password of a static account now',
    description: 'Refused while it is checked out. What fails is answered, and is tried again by the vault.',
    answers: { 200: { about: 'It has a new password.', schema: account, example: ACCOUNT } },
    errors: ['not_found', 'conflict', 'backend_failed', 'integrity'],
  },
  async ({ vault, call, param }) => json(200, shape(await rotateAccount(vault, call, param))),
);

const revealed = z
  .object({
    credential: z.record(z.string(), z.union([z.string(), z.number()])).openapi({
      description: 'What the kind of the backend gives.',
    }),
    rotated_at: time.nullable(),
    next_rotation_at: time.nullable(),
    held_until: time.nullable(),
  })
  .openapi('AccountCredential');

export const reveal = endpoint(
  {
    method: 'get',
    path: '/accounts/{name}/credential',
    id: 'readAccountCredential',
    tag: 'accounts',
    summary: 'Read the current password of a static account',
    description:
      'For programs that share it, and for emergencies: it says who has it to nobody. While the password is being changed, logins find out which one the target takes.',
    answers: {
      200: {
        about: 'What it is logged in with now.',
        schema: revealed,
        example: {
          credential: {
            username: 'billing_app',
            password: 'aifkw5xs2zqmvd3y7t6gn4hbjc2peru5aifkw5xs2zqmvd3y',
            host: 'db.example',
            port: 5432,
            database: 'reports',
            url: 'postgres://billing_app:aifkw5xs2zqmvd3y7t6gn4hbjc2peru5aifkw5xs2zqmvd3y@db.example:5432/reports',
          },
          rotated_at: ACCOUNT.rotated_at,
          next_rotation_at: ACCOUNT.next_rotation_at,
          held_until: null,
        },
      },
    },
    errors: ['not_found', 'backend_failed', 'integrity'],
  },
  async ({ vault, call, param }) => {
    const { account: info, credential } = await revealAccount(vault, call, param);
    const { rotated_at, next_rotation_at, held_until } = shape(info);
    return json(200, { credential, rotated_at, next_rotation_at, held_until });
  },
);
