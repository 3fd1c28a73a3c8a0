/** Users of a tenant: people and programs that log in with a password. */
import { z } from '@hono/zod-openapi';
import {
  createUser,
  deleteUser,
  listUsers,
  readUser,
  type UserInfo,
  unlockUser,
  updateUser,
  type WithOneTimePassword,
} from '../../auth/user.ts';
import { LIMITS } from '../../config.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { listOf, name, pageQuery, password, time } from './schema.ts';

const user = z
  .object({
    id: z.string(),
    username: name,
    kind: z
      .enum(['person', 'external'])
      .openapi({ description: 'external: proven by somebody else, without a password here.' }),
    policies: z.array(name),
    groups: z.array(name).openapi({ description: 'Whose policies it has beside its own.' }),
    disabled: z.boolean(),
    locked_until: time.nullable(),
    password_change_required: z.boolean(),
    mfa_required: z.boolean().openapi({ description: 'This user must have one, whatever the tenant says.' }),
    totp: z.boolean().openapi({ description: 'There is a second factor.' }),
    created_at: time,
    last_login_at: time.nullable(),
  })
  .openapi('User');

const oneTime = z.string().openapi({ description: 'Shown this once, and to be changed at the first login.' });
const withOneTimePassword = user.extend({ one_time_password: oneTime.optional() }).openapi('UserWithPassword');

const EXAMPLE = {
  id: 'p7q2xk4mz3nb5cde',
  username: 'app',
  kind: 'person',
  policies: ['reader'],
  groups: ['web'],
  disabled: false,
  locked_until: null,
  password_change_required: true,
  mfa_required: false,
  totp: false,
  created_at: '2026-01-02T03:04:05.678901Z',
  last_login_at: null,
};
const EXAMPLE_WITH_PASSWORD = { ...EXAMPLE, one_time_password: 'k3v2m-5qy7d-zr4ab-c6def-ghijk' };

const shape = (found: UserInfo) => ({
  id: found.id,
  username: found.username,
  kind: found.kind,
  policies: found.policies,
  groups: found.groups,
  disabled: found.disabled,
  locked_until: found.lockedUntil,
  password_change_required: found.passwordChangeRequired,
  mfa_required: found.mfaRequired,
  totp: found.totp,
  created_at: found.createdAt,
  last_login_at: found.lastLoginAt,
});

const shapeOnce = (made: WithOneTimePassword) =>
  made.oneTimePassword === undefined ? shape(made) : { ...shape(made), one_time_password: made.oneTimePassword };

const policies = z.array(name).max(LIMITS.policiesPerUserMax);

export const list = endpoint(
  {
    method: 'get',
    path: '/users',
    id: 'listUsers',
    tag: 'users',
    summary: 'List users',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names.',
        schema: listOf(user),
        example: { items: [EXAMPLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listUsers(vault, call, query), shape),
);

export const create = endpoint(
  {
    method: 'post',
    path: '/users',
    id: 'createUser',
    tag: 'users',
    summary: 'Create a user',
    description: 'Without a password, a one-time password is made and answered this once.',
    body: z.strictObject({
      username: name,
      password: password.optional(),
      policies: policies.optional(),
      mfa_required: z.boolean().optional(),
    }),
    bodyExample: { username: 'app', policies: ['reader'] },
    answers: { 201: { about: 'The user.', schema: withOneTimePassword, example: EXAMPLE_WITH_PASSWORD } },
    errors: ['conflict'],
  },
  async ({ vault, call, body }) => {
    const { mfa_required: mfaRequired, ...user } = body;
    return json(201, shapeOnce(await createUser(vault, call, { ...user, mfaRequired })));
  },
);

export const read = endpoint(
  {
    method: 'get',
    path: '/users/{name}',
    id: 'readUser',
    tag: 'users',
    summary: 'Read a user',
    answers: { 200: { about: 'Never the password.', schema: user, example: EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shape(await readUser(vault, call, param))),
);

export const update = endpoint(
  {
    method: 'patch',
    path: '/users/{name}',
    id: 'updateUser',
    tag: 'users',
    summary: 'Change a user’s policies, state or password',
    description: 'A new password and disabling end every token of the user, on every node, before the answer.',
    body: z
      .strictObject({
        policies: policies.optional(),
        disabled: z.boolean().optional(),
        mfa_required: z.boolean().optional(),
        password: password.optional(),
        reset_password: z.literal(true).optional().openapi({ description: 'Makes a one-time password.' }),
      })
      .refine((change) => Object.keys(change).length > 0, 'expected at least one field to change'),
    bodyExample: { policies: ['reader'], disabled: false },
    answers: { 200: { about: 'The user as it is now.', schema: withOneTimePassword, example: EXAMPLE } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, body }) => {
    const { reset_password: resetPassword, mfa_required: mfaRequired, ...change } = body;
    return json(200, shapeOnce(await updateUser(vault, call, param, { ...change, resetPassword, mfaRequired })));
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/users/{name}',
    id: 'deleteUser',
    tag: 'users',
    summary: 'Delete a user and end its tokens',
    answers: { 204: { about: 'It is gone.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => {
    await deleteUser(vault, call, param);
    return noContent();
  },
);

export const unlock = endpoint(
  {
    method: 'post',
    path: '/users/{name}/unlock',
    id: 'unlockUser',
    tag: 'users',
    summary: 'Forget the failed logins of a user',
    body: z.strictObject({}),
    bodyExample: {},
    bodyOptional: true,
    answers: { 200: { about: 'The user as it is now.', schema: user, example: EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shape(await unlockUser(vault, call, param))),
);
