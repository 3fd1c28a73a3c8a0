/** Logging in, what one's own token is, and tokens by their accessor. */
import { z } from '@hono/zod-openapi';
import { login as logIn } from '../../auth/login.ts';
import { changePassword } from '../../auth/password.ts';
import { logout as logOut, readSelf, readToken, renewToken, revokeToken } from '../../auth/token.ts';
import { endpoint, json, noContent } from './endpoint.ts';
import { duration, name, password as passwordField, time } from './schema.ts';

const ACCESSOR = 'k3v2m5qy7dzr4abc';
const USER_ID = 'p7q2xk4mz3nb5cde';
const NOW = '2026-01-02T03:04:05.678901Z';
const HOUR_ON = '2026-01-02T04:04:05.678901Z';
const DAY_ON = '2026-01-03T03:04:05.678901Z';

const token = z.string().openapi({ description: 'Shown this once. Send it as a Bearer token.', example: 'bulla_…' });
const accessor = z.string().openapi({ description: 'Names the token and opens nothing.', example: ACCESSOR });
const ends = { expires_at: time, max_expires_at: time.nullable() };
const endsExample = { expires_at: HOUR_ON, max_expires_at: DAY_ON };
const holder = { tenant: name, username: name, policies: z.array(name) };
const holderExample = { tenant: 'acme', username: 'app', policies: ['reader'] };

export const login = endpoint(
  {
    method: 'post',
    path: '/auth/login',
    id: 'login',
    tag: 'login',
    summary: 'Log in with a password',
    withoutToken: true,
    body: z.strictObject({
      tenant: z.string().max(256).openapi({ example: 'acme' }),
      username: z.string().max(256).openapi({ example: 'app' }),
      password: passwordField,
    }),
    bodyExample: { tenant: 'acme', username: 'app', password: 'correct horse battery staple' },
    answers: {
      200: {
        about: 'A token for this user.',
        schema: z
          .object({ token, accessor, ...holder, ...ends, password_change_required: z.boolean() })
          .openapi('Login'),
        example: {
          token: 'bulla_…',
          accessor: ACCESSOR,
          ...holderExample,
          ...endsExample,
          password_change_required: false,
        },
      },
    },
    errors: ['login_failed', 'tenant_suspended'],
  },
  async ({ vault, call, body }) => {
    const done = await logIn(vault, call, body);
    return json(200, {
      token: done.token,
      accessor: done.accessor,
      tenant: done.tenant,
      username: done.username,
      policies: done.policies,
      ...endsOf(done),
      password_change_required: done.passwordChangeRequired,
    });
  },
);

const endsOf = (value: { expiresAt: string; maxExpiresAt: string | null }) => ({
  expires_at: value.expiresAt,
  max_expires_at: value.maxExpiresAt,
});

export const self = endpoint(
  {
    method: 'get',
    path: '/auth/self',
    id: 'readSelf',
    tag: 'login',
    summary: 'What the token that is shown is',
    answers: {
      200: {
        about: 'The token and its user.',
        schema: z
          .object({
            ...holder,
            user_id: z.string(),
            accessor,
            method: z.string(),
            created_at: time,
            ...ends,
            password_change_required: z.boolean(),
          })
          .openapi('Self'),
        example: {
          ...holderExample,
          user_id: USER_ID,
          accessor: ACCESSOR,
          method: 'password',
          created_at: NOW,
          ...endsExample,
          password_change_required: false,
        },
      },
    },
    errors: [],
  },
  async ({ vault, call }) => {
    const own = await readSelf(vault, call);
    return json(200, {
      tenant: own.tenant,
      username: own.username,
      user_id: own.userId,
      policies: own.policies,
      accessor: own.accessor,
      method: own.method,
      created_at: own.createdAt,
      ...endsOf(own),
      password_change_required: own.passwordChangeRequired,
    });
  },
);

export const renew = endpoint(
  {
    method: 'post',
    path: '/auth/renew',
    id: 'renewToken',
    tag: 'login',
    summary: 'Renew the token that is shown',
    description: 'Counts from now and never passes max_expires_at.',
    body: z.strictObject({ ttl: duration.optional() }),
    bodyExample: { ttl: '1h' },
    bodyOptional: true,
    answers: {
      200: {
        about: 'When it ends now.',
        schema: z.object({ accessor, ...ends }).openapi('Renewal'),
        example: { accessor: ACCESSOR, ...endsExample },
      },
    },
    errors: [],
  },
  async ({ vault, call, body }) => {
    const renewed = await renewToken(vault, call, body.ttl);
    return json(200, { accessor: renewed.accessor, ...endsOf(renewed) });
  },
);

export const logout = endpoint(
  {
    method: 'post',
    path: '/auth/logout',
    id: 'logout',
    tag: 'login',
    summary: 'End the token that is shown',
    body: z.strictObject({}),
    bodyExample: {},
    bodyOptional: true,
    answers: { 204: { about: 'It has ended, on every node.' } },
    errors: [],
  },
  async ({ vault, call }) => {
    await logOut(vault, call);
    return noContent();
  },
);

export const password = endpoint(
  {
    method: 'post',
    path: '/auth/password',
    id: 'changePassword',
    tag: 'login',
    summary: 'Change one’s own password',
    description: 'Ends every token of the user, the one that is shown too.',
    body: z.strictObject({ current_password: passwordField, new_password: passwordField }),
    bodyExample: { current_password: 'correct horse battery staple', new_password: 'stapled battery horse corrected' },
    answers: { 204: { about: 'The new password holds; log in again.' } },
    errors: ['login_failed', 'conflict', 'not_found'],
  },
  async ({ vault, call, body }) => {
    await changePassword(vault, call, { currentPassword: body.current_password, newPassword: body.new_password });
    return noContent();
  },
);

export const readTokenByAccessor = endpoint(
  {
    method: 'get',
    path: '/tokens/{accessor}',
    id: 'readToken',
    tag: 'tokens',
    summary: 'What a token is, by its accessor',
    answers: {
      200: {
        about: 'Never the token itself.',
        schema: z
          .object({ accessor, username: name, method: z.string(), created_at: time, ...ends, source: z.string() })
          .openapi('Token'),
        example: {
          accessor: ACCESSOR,
          username: 'app',
          method: 'password',
          created_at: NOW,
          ...endsExample,
          source: '10.0.0.7',
        },
      },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => {
    const found = await readToken(vault, call, param);
    return json(200, {
      accessor: found.accessor,
      username: found.username,
      method: found.method,
      created_at: found.createdAt,
      ...endsOf(found),
      source: found.source,
    });
  },
);

export const revokeTokenByAccessor = endpoint(
  {
    method: 'delete',
    path: '/tokens/{accessor}',
    id: 'revokeToken',
    tag: 'tokens',
    summary: 'End a token, by its accessor',
    answers: { 204: { about: 'It has ended, on every node.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => {
    await revokeToken(vault, call, param);
    return noContent();
  },
);
