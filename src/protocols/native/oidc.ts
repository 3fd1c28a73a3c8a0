/** People who log in at an OpenID provider with a browser: where to send it, and what it brings back. */
import { z } from '@hono/zod-openapi';
import { oidc } from '../../auth/methods/oidc.ts';
import { beginLogin } from '../../auth/oidc.ts';
import { loginBy } from '../../auth/proven-login.ts';
import { boundTo, proven, provenExample, shapeProven } from './auth.ts';
import { endpoint, json } from './endpoint.ts';
import { time } from './schema.ts';

const LOGIN = 'B1t4c2h3i8n9g0k5e6y7p8l9a0c1e2h3o4l5d6e7r8A';
const tenant = z.string().max(256).openapi({ example: 'acme' });
const login = z.string().max(64).openapi({ format: 'password', description: 'Its holder alone concludes the login.' });

export const begin = endpoint(
  {
    method: 'post',
    path: '/auth/oidc/begin',
    id: 'beginOidcLogin',
    tag: 'login',
    summary: 'Begin a login at an OpenID provider',
    description:
      'By a login role of the kind oidc. A browser is sent to authorization_url, and comes back to redirect_uri, which is ' +
      'on the machine of whoever logs in, with state, code and iss: those go to POST /auth/oidc. Before they are sent, ' +
      'whoever sits at the browser has to say that it was they who began.',
    withoutToken: true,
    body: z.strictObject({
      tenant,
      role: z.string().max(256).openapi({ example: 'people' }),
      redirect_uri: z.string().max(512).openapi({
        description: 'As registered (PUT /issuers/{name}), with the port of the moment where that has none.',
      }),
    }),
    bodyExample: { tenant: 'acme', role: 'people', redirect_uri: 'http://127.0.0.1:49152/oidc/callback' },
    answers: {
      200: {
        about: 'Where to send the browser, and what concludes the login within ten minutes.',
        schema: z.object({ login, authorization_url: z.string(), expires_at: time }).openapi('OidcLogin'),
        example: {
          login: LOGIN,
          authorization_url: 'https://login.example/authorize?response_type=code&client_id=bulla&…',
          expires_at: '2026-01-02T03:14:05.678901Z',
        },
      },
    },
    errors: ['login_failed', 'unavailable'],
  },
  async ({ vault, call, body }) => {
    const { redirect_uri: redirectUri, ...rest } = body;
    const begun = await beginLogin(vault, call, { ...rest, redirectUri });
    return json(200, { login: begun.login, authorization_url: begun.authorizationUrl, expires_at: begun.expiresAt });
  },
);

export const conclude = endpoint(
  {
    method: 'post',
    path: '/auth/oidc',
    id: 'loginOidc',
    tag: 'login',
    summary: 'Conclude a login at an OpenID provider',
    description:
      'Once, whatever comes of it. Its account is that of the issuer and the subject, made at the first login. What is ' +
      'wrong with a login is told to nobody but the log.',
    withoutToken: true,
    body: z.strictObject({
      tenant,
      login,
      state: z.string().max(512),
      code: z.string().min(1).max(4096).openapi({ format: 'password' }),
      iss: z.string().max(512).optional().openapi({ description: 'As the browser brought it (RFC 9207).' }),
      policies: boundTo,
    }),
    bodyExample: {
      ...{ tenant: 'acme', login: LOGIN, state: 'S7ta8te9of1the2login3as4the5browser6brought7i', code: 'SplxlOBeZQQ' },
      iss: 'https://login.example',
    },
    answers: { 200: { about: 'A token for this identity.', schema: proven, example: provenExample } },
    errors: ['login_failed', 'tenant_suspended', 'unavailable'],
  },
  async ({ vault, call, body }) => {
    const { policies, ...credentials } = body;
    return json(200, shapeProven(await loginBy(vault, call, oidc, credentials, { policies })));
  },
);
