/** Versions of the pepper of all passwords: what there is, who depends on which, rotating, destroying. For operators. */
import { z } from '@hono/zod-openapi';
import { destroyPepper, listPeppers, listUnderPepper, type PepperInfo, rotatePepper } from '../../job/pepper.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { checked, duration, listOf, name, pageFields, pageQuery, time, version } from './schema.ts';

const pepper = z
  .object({
    version: z.int(),
    state: z.enum(['active', 'retiring', 'destroyed']),
    users: z.int().openapi({ description: 'Passwords that depend on it, in all tenants.' }),
    created_at: time,
    destroyed_at: time.nullable(),
  })
  .openapi('Pepper');

const NOW = '2026-01-02T03:04:05.678901Z';
const PEPPER = { version: 2, state: 'active', users: 12, created_at: NOW, destroyed_at: null };

const shape = ({ version, state, users, createdAt, destroyedAt }: PepperInfo) => ({
  ...{ version, state, users },
  created_at: createdAt,
  destroyed_at: destroyedAt,
});

const common = { tag: 'keys' } as const;

export const list = endpoint(
  {
    ...common,
    method: 'get',
    path: '/peppers',
    id: 'listPeppers',
    summary: 'List the versions of the pepper, and how many passwords depend on each',
    query: pageQuery,
    answers: {
      200: {
        about: 'Newest first.',
        schema: listOf(pepper),
        example: { items: [PEPPER], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listPeppers(vault, call, query), shape),
);

export const rotate = endpoint(
  {
    ...common,
    method: 'post',
    path: '/peppers/rotate',
    id: 'rotatePepper',
    summary: 'Make a new pepper',
    description:
      'New passwords use it at once, others from the next login on. The old one stays until nobody needs it.',
    body: z.strictObject({}),
    bodyExample: {},
    bodyOptional: true,
    answers: { 200: { about: 'The new version.', schema: pepper, example: { ...PEPPER, users: 0 } } },
    errors: ['conflict', 'integrity'],
  },
  async ({ vault, call }) => json(200, shape(await rotatePepper(vault, call))),
);

export const users = endpoint(
  {
    ...common,
    method: 'get',
    path: '/peppers/{version}/users',
    id: 'listUsersUnderPepper',
    summary: 'List the users whose password depends on a pepper',
    description: 'Of one that was replaced: those who have not logged in since.',
    query: z.strictObject({
      ...pageFields,
      absent_for: duration
        .optional()
        .openapi({ description: 'Only who has not logged in for at least so long.', example: '30d' }),
    }),
    answers: {
      200: {
        about: 'By tenant.',
        schema: listOf(z.object({ tenant: name, username: name, last_login_at: time.nullable() })),
        example: { items: [{ tenant: 'acme', username: 'alice', last_login_at: NOW }], next_cursor: null },
      },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, param, query: { absent_for: absentSeconds, ...asked } }) => {
    const found = await listUnderPepper(vault, call, checked(version, param), { ...asked, absentSeconds });
    return page(found, ({ tenant, username, lastLoginAt }) => ({ tenant, username, last_login_at: lastLoginAt }));
  },
);

export const destroy = endpoint(
  {
    ...common,
    method: 'delete',
    path: '/peppers/{version}',
    id: 'destroyPepper',
    summary: 'Destroy a pepper that was replaced',
    description:
      'Refused while a password depends on it. With `end_passwords=true` those passwords end, and their users cannot log in until an administrator of their tenant resets them.',
    query: z.strictObject({
      end_passwords: z
        .enum(['true', 'false'])
        .optional()
        .openapi({ description: 'Whether to end the passwords that depend on it.', example: 'false' }),
    }),
    answers: { 204: { about: 'It is destroyed, or was before.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, query }) => {
    await destroyPepper(vault, call, checked(version, param), { endPasswords: query.end_passwords === 'true' });
    return noContent();
  },
);
