/** Logging in, and what the holder of a token does to their own login. */
import { z } from '@hono/zod-openapi';
import { login as logIn } from '../../auth/login.ts';
import { jwt } from '../../auth/methods/jwt.ts';
import { service } from '../../auth/methods/service.ts';
import { changePassword } from '../../auth/password.ts';
import { loginBy, type ProvenLogin } from '../../auth/proven-login.ts';
import { logout as logOut, readSelf, renewToken } from '../../auth/token.ts';
import { LIMITS } from '../../config.ts';
import { endpoint, json, noContent } from './endpoint.ts';
import { duration, name, password as passwordField, totp } from './schema.ts';
import {
  ACCESSOR,
  accessor,
  ends,
  endsExample,
  endsOf,
  shapeOf,
  TOKEN_EXAMPLE,
  tokenFields,
  tokenText,
} from './token.ts';

const USER_ID = 'p7q2xk4mz3nb5cde';
const holder = { tenant: name, username: name, policies: z.array(name) };
const holderExample = { tenant: 'acme', username: 'app', policies: ['reader'] };

export const login = endpoint(
  {
    method: 'post',
    path: '/auth/login',
    id: 'login',
    tag: 'login',
    summary: 'Log in with a password',
    description:
      'A user with a second factor gives a code of it, or a recovery code, as "totp". Who leaves it out hears totp_required, but only when the password is right.',
    withoutToken: true,
    body: z.strictObject({
      tenant: z.string().max(256).openapi({ example: 'acme' }),
      username: z.string().max(256).openapi({ example: 'app' }),
      password: passwordField,
      totp: totp.optional(),
    }),
    bodyExample: { tenant: 'acme', username: 'app', password: 'correct horse battery staple' },
    answers: {
      200: {
        about: 'A token for this user.',
        schema: z
          .object({
            token: tokenText,
            accessor,
            ...holder,
            ...ends,
            password_change_required: z.boolean(),
            mfa: z.boolean(),
            mfa_required: z.boolean(),
          })
          .openapi('Login'),
        example: {
          token: 'bulla_…',
          accessor: ACCESSOR,
          ...holderExample,
          ...endsExample,
          password_change_required: false,
          mfa: false,
          mfa_required: false,
        },
      },
    },
    errors: ['login_failed', 'totp_required', 'tenant_suspended'],
  },
  async ({ vault, call, body }) => {
    const done = await logIn(vault, call, body);
    return json(200, {
      ...shapeProven(done),
      password_change_required: done.passwordChangeRequired,
      mfa: done.mfa,
      mfa_required: done.mfaRequired,
    });
  },
);

export const proven = z.object({ token: tokenText, accessor, ...holder, ...ends }).openapi('ProvenLogin');
export const provenExample = { token: 'bulla_…', accessor: ACCESSOR, ...holderExample, ...endsExample };
export const shapeProven = (done: Omit<ProvenLogin, 'uses' | 'metadata'>) => ({
  token: done.token,
  accessor: done.accessor,
  tenant: done.tenant,
  username: done.username,
  policies: done.policies,
  ...endsOf(done),
});
export const boundTo = z
  .array(name)
  .max(LIMITS.policiesPerUserMax)
  .optional()
  .openapi({ description: 'Binds the token: one of these must allow an act too.' });

export const serviceLogin = endpoint(
  {
    method: 'post',
    path: '/auth/service',
    id: 'loginService',
    tag: 'login',
    summary: 'Log a service in with a client secret',
    description: 'What is wrong with a login is told to nobody but the log. Stock clients take POST /oauth/token.',
    withoutToken: true,
    body: z.strictObject({
      client_id: z.string().max(256),
      client_secret: z.string().max(256).openapi({ format: 'password' }),
      policies: boundTo,
    }),
    bodyExample: { client_id: 'qzj4mz3nb5cdep7k.p7q2xk4mz3nb5cde', client_secret: 'bullacs_…' },
    answers: { 200: { about: 'A token for this service.', schema: proven, example: provenExample } },
    errors: ['login_failed', 'tenant_suspended'],
  },
  async ({ vault, call, body }) => {
    const credentials = { clientId: body.client_id, clientSecret: body.client_secret };
    return json(200, shapeProven(await loginBy(vault, call, service, credentials, { policies: body.policies })));
  },
);

export const jwtLogin = endpoint(
  {
    method: 'post',
    path: '/auth/jwt',
    id: 'loginJwt',
    tag: 'login',
    summary: 'Log in with a token that somebody else has signed',
    description:
      'By a login role: see PUT /login-roles/{name}. Its account is that of the issuer and the subject, made at the first ' +
      'login. What is wrong with a login is told to nobody but the log.',
    withoutToken: true,
    body: z.strictObject({
      tenant: z.string().max(256).openapi({ example: 'acme' }),
      role: z.string().max(256).openapi({ example: 'deploy' }),
      jwt: z.string().max(LIMITS.jwtLengthMax).openapi({ format: 'password' }),
      policies: boundTo,
    }),
    bodyExample: { tenant: 'acme', role: 'deploy', jwt: 'eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl' },
    answers: { 200: { about: 'A token for this identity.', schema: proven, example: provenExample } },
    errors: ['login_failed', 'tenant_suspended'],
  },
  async ({ vault, call, body }) => {
    const { policies, ...credentials } = body;
    return json(200, shapeProven(await loginBy(vault, call, jwt, credentials, { policies })));
  },
);

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
            ...tokenFields,
            ...holder,
            user_id: z.string(),
            password_change_required: z.boolean(),
          })
          .openapi('Self'),
        example: {
          ...TOKEN_EXAMPLE,
          ...holderExample,
          user_id: USER_ID,
          password_change_required: false,
        },
      },
    },
    errors: [],
  },
  async ({ vault, call }) => {
    const own = await readSelf(vault, call);
    return json(200, {
      ...shapeOf(own),
      tenant: own.tenant,
      user_id: own.userId,
      policies: own.policies,
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
