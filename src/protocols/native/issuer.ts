/** Identities that somebody else proves: issuers of signed tokens, and the login roles that say what they may do. */
import { z } from '@hono/zod-openapi';
import {
  deleteIssuer,
  type IssuerInfo,
  JWT_ALGORITHMS,
  listIssuers,
  putIssuer,
  readIssuer,
} from '../../auth/issuer.ts';
import {
  deleteLoginRole,
  type LoginRoleInfo,
  listLoginRoles,
  putLoginRole,
  readLoginRole,
} from '../../auth/login-role.ts';
import { LIMITS } from '../../config.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { duration, listOf, name, pageQuery, time } from './schema.ts';
import { cidrs } from './token.ts';

const algorithm = z.enum(JWT_ALGORITHMS as [string, ...string[]] as unknown as typeof JWT_ALGORITHMS);
const jwks = z
  .object({ keys: z.array(z.record(z.string(), z.unknown())).max(100) })
  .openapi({ description: 'Public keys (RFC 7517); without them they are found by discovery.' });

const client = z.object({
  id: z.string(),
  confidential: z.boolean().openapi({ description: 'It has a secret, which is never shown.' }),
  redirect_uris: z.array(z.string()),
  scopes: z.array(z.string()),
});

const issuer = z
  .object({
    name,
    issuer: z.string(),
    jwks: jwks.nullable(),
    jwks_url: z.string().nullable(),
    ca: z.string().nullable(),
    algorithms: z.array(algorithm),
    clock_skew_seconds: z.int(),
    client: client.nullable().openapi({ description: 'What the vault is registered as, for people who log in there.' }),
    revision: z.int(),
    created_at: time,
    updated_at: time,
  })
  .openapi('Issuer');

const AT = { created_at: '2026-01-02T03:04:05.678901Z', updated_at: '2026-01-02T03:04:05.678901Z' };
const ISSUER_EXAMPLE = {
  name: 'github',
  issuer: 'https://token.actions.githubusercontent.com',
  jwks: null,
  jwks_url: null,
  ca: null,
  algorithms: ['RS256'],
  clock_skew_seconds: 30,
  client: null,
  revision: 1,
  ...AT,
};

const shape = (found: IssuerInfo) => ({
  name: found.name,
  issuer: found.issuer,
  jwks: found.jwks,
  jwks_url: found.jwksUrl,
  ca: found.ca,
  algorithms: found.algorithms,
  clock_skew_seconds: found.clockSkewSeconds,
  client: found.client && {
    id: found.client.id,
    confidential: found.client.confidential,
    redirect_uris: found.client.redirectUris,
    scopes: found.client.scopes,
  },
  revision: found.revision,
  created_at: found.createdAt,
  updated_at: found.updatedAt,
});

export const list = endpoint(
  {
    method: 'get',
    path: '/issuers',
    id: 'listIssuers',
    tag: 'issuers',
    summary: 'List the issuers of signed tokens',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names.',
        schema: listOf(issuer),
        example: { items: [ISSUER_EXAMPLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listIssuers(vault, call, query), shape),
);

export const read = endpoint(
  {
    method: 'get',
    path: '/issuers/{name}',
    id: 'readIssuer',
    tag: 'issuers',
    summary: 'Read an issuer',
    answers: { 200: { about: 'The issuer.', schema: issuer, example: ISSUER_EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shape(await readIssuer(vault, call, param))),
);

export const put = endpoint(
  {
    method: 'put',
    path: '/issuers/{name}',
    id: 'putIssuer',
    tag: 'issuers',
    summary: 'Create or change an issuer',
    description: 'A change ends every token that a login role of this issuer gave, on every node, before the answer.',
    body: z.strictObject({
      issuer: z.string().max(512).openapi({ description: 'As the claim iss has it, byte for byte.' }),
      jwks: jwks.optional(),
      jwks_url: z.string().max(512).optional().openapi({
        description: 'Where its keys are fetched in place of what discovery says.',
      }),
      ca: z
        .string()
        .max(LIMITS.issuerKeysBytesMax)
        .optional()
        .openapi({ description: 'PEM, to trust where its keys are fetched.' }),
      algorithms: z.array(algorithm).min(1).optional().openapi({ description: 'RS256 alone when absent.' }),
      clock_skew: z
        .union([z.literal(0), duration])
        .optional()
        .openapi({ type: 'string', description: '30s when absent, at most 5m.', example: '30s' }),
      client: z
        .strictObject({
          id: z.string().max(512).openapi({ description: 'What the issuer calls this vault.' }),
          secret: z.string().max(1024).nullable().optional().openapi({
            format: 'password',
            description: 'Absent: as it is, while the id stays the same. null: none.',
          }),
          redirect_uris: z.array(z.string().max(512)).min(1).max(10).optional().openapi({
            description: 'On loopback; without a port, any. http://127.0.0.1/oidc/callback when absent.',
          }),
          scopes: z.array(z.string().max(128)).min(1).max(20).optional().openapi({
            description: 'openid among them, and alone when absent.',
          }),
        })
        .optional()
        .openapi({ description: 'For people who log in there with a browser; absent: none do.' }),
    }),
    bodyExample: { issuer: 'https://token.actions.githubusercontent.com', algorithms: ['RS256'] },
    answers: {
      200: { about: 'Changed.', schema: issuer, example: ISSUER_EXAMPLE },
      201: { about: 'Created.', schema: issuer, example: ISSUER_EXAMPLE },
    },
    errors: ['conflict'],
  },
  async ({ vault, call, param, body }) => {
    const { clock_skew: clockSkewSeconds, jwks_url: jwksUrl, client: given, ...wish } = body;
    const registered = given && {
      id: given.id,
      secret: given.secret,
      redirectUris: given.redirect_uris,
      scopes: given.scopes,
    };
    const stored = await putIssuer(vault, call, param, { ...wish, jwksUrl, clockSkewSeconds, client: registered });
    return json(stored.created ? 201 : 200, shape(stored));
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/issuers/{name}',
    id: 'deleteIssuer',
    tag: 'issuers',
    summary: 'Delete an issuer, the accounts that it vouched for and their tokens',
    description: 'Refused while a login role needs it.',
    answers: { 204: { about: 'They are gone, on every node.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => {
    await deleteIssuer(vault, call, param);
    return noContent();
  },
);

// ---- login roles --------------------------------------------------------------------------------------------------

const text = z.string().max(512);
const rule = z.strictObject({
  claims: z.record(z.string().max(128), z.array(z.string().max(256)).min(1).max(LIMITS.loginRulePatternsMax)).openapi({
    description:
      'All of these claims must fit one of their patterns: `*` is any run of characters but / and :, `**` any run.',
  }),
  policies: z.array(name).min(1).max(LIMITS.policiesPerUserMax),
});

const roleKind = z.enum(['jwt', 'oidc']).openapi({
  description: 'jwt: whoever shows a token of the issuer. oidc: people who log in there with a browser.',
});

const role = z
  .object({
    name,
    kind: roleKind,
    issuer: name,
    audiences: z.array(z.string()),
    rules: z.array(rule),
    token_ttl_seconds: z.int().nullable(),
    cidrs: z.array(z.string()).nullable(),
    revision: z.int(),
    created_at: time,
    updated_at: time,
  })
  .openapi('LoginRole');

const RULE_EXAMPLE = { claims: { repository: ['acme/web'], ref: ['refs/heads/main'] }, policies: ['reader'] };
const ROLE_EXAMPLE = {
  name: 'deploy',
  kind: 'jwt',
  issuer: 'github',
  audiences: ['https://vault.example'],
  rules: [RULE_EXAMPLE],
  token_ttl_seconds: 900,
  cidrs: null,
  revision: 1,
  ...AT,
};

const shapeRole = (found: LoginRoleInfo) => ({
  name: found.name,
  kind: found.kind,
  issuer: found.issuer,
  audiences: found.audiences,
  rules: found.rules,
  token_ttl_seconds: found.tokenTtlSeconds,
  cidrs: found.tokenCidrs,
  revision: found.revision,
  created_at: found.createdAt,
  updated_at: found.updatedAt,
});

export const listRoles = endpoint(
  {
    method: 'get',
    path: '/login-roles',
    id: 'listLoginRoles',
    tag: 'issuers',
    summary: 'List login roles',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names.',
        schema: listOf(role),
        example: { items: [ROLE_EXAMPLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listLoginRoles(vault, call, query), shapeRole),
);

export const readRole = endpoint(
  {
    method: 'get',
    path: '/login-roles/{name}',
    id: 'readLoginRole',
    tag: 'issuers',
    summary: 'Read a login role',
    answers: { 200: { about: 'The role.', schema: role, example: ROLE_EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shapeRole(await readLoginRole(vault, call, param))),
);

export const putRole = endpoint(
  {
    method: 'put',
    path: '/login-roles/{name}',
    id: 'putLoginRole',
    tag: 'issuers',
    summary: 'Create or change a login role',
    description:
      'Whoever shows a token of the issuer, made for one of the audiences, or logs in there (kind oidc), gets the policies of all rules that hold, and ' +
      'does not log in when none does. A change ends every token that the role gave, before the answer.',
    body: z.strictObject({
      kind: roleKind.optional(),
      issuer: name,
      audiences: z.array(text).max(20).optional().openapi({ description: 'What tokens have to be for; not of oidc.' }),
      rules: z.array(rule).min(1).max(LIMITS.loginRulesMax),
      token_ttl: duration.optional(),
      cidrs: cidrs.optional(),
    }),
    bodyExample: {
      issuer: 'github',
      audiences: ['https://vault.example'],
      rules: [RULE_EXAMPLE],
      token_ttl: '15m',
    },
    answers: {
      200: { about: 'Changed.', schema: role, example: ROLE_EXAMPLE },
      201: { about: 'Created.', schema: role, example: ROLE_EXAMPLE },
    },
    errors: ['conflict'],
  },
  async ({ vault, call, param, body }) => {
    const { token_ttl: tokenTtlSeconds, cidrs: tokenCidrs, ...wish } = body;
    const stored = await putLoginRole(vault, call, param, { ...wish, tokenTtlSeconds, tokenCidrs });
    return json(stored.created ? 201 : 200, shapeRole(stored));
  },
);

export const removeRole = endpoint(
  {
    method: 'delete',
    path: '/login-roles/{name}',
    id: 'deleteLoginRole',
    tag: 'issuers',
    summary: 'Delete a login role and end its tokens',
    answers: { 204: { about: 'They are gone, on every node.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => {
    await deleteLoginRole(vault, call, param);
    return noContent();
  },
);
