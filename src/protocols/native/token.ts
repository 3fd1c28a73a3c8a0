/** Tokens: children of the one that is shown, and all of them by accessor, which names a token and opens nothing. */
import { z } from '@hono/zod-openapi';
import { createToken } from '../../auth/child.ts';
import { listTokens, readToken, revokeToken, type TokenInfo } from '../../auth/token.ts';
import { LIMITS } from '../../config.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { duration, listOf, name, pageFields, time } from './schema.ts';

export const ACCESSOR = 'k3v2m5qy7dzr4abc';
const NOW = '2026-01-02T03:04:05.678901Z';
const HOUR_ON = '2026-01-02T04:04:05.678901Z';
const DAY_ON = '2026-01-03T03:04:05.678901Z';

export const tokenText = z
  .string()
  .openapi({ description: 'Shown this once. Send it as a Bearer token.', example: 'bulla_…' });
export const accessor = z.string().openapi({ description: 'Names the token and opens nothing.', example: ACCESSOR });
export const ends = {
  expires_at: time,
  max_expires_at: time.nullable().openapi({ description: 'No renewal passes it; null: it is periodic and has none.' }),
};
export const endsExample = { expires_at: HOUR_ON, max_expires_at: DAY_ON };
export const endsOf = (value: { expiresAt: string; maxExpiresAt: string | null }) => ({
  expires_at: value.expiresAt,
  max_expires_at: value.maxExpiresAt,
});

export const cidrs = z
  .array(z.string().max(64))
  .min(1)
  .max(LIMITS.tokenCidrsMax)
  .openapi({ description: 'Networks that it may be used from.', example: ['10.0.0.0/8'] });

const metadata = z.record(z.string().min(1).max(64), z.string().max(256));

export const tokenFields = {
  accessor,
  kind: z.enum(['login', 'child', 'lease', 'wrapping']),
  username: name,
  account_kind: z.enum(['person', 'service', 'external']),
  method: z.string().openapi({ description: 'How the login at the top was proven.', example: 'password' }),
  mfa: z.boolean(),
  parent: accessor.nullable().openapi({ description: 'The token that it hangs under and ends with.' }),
  token_policies: z
    .array(name)
    .nullable()
    .openapi({ description: 'One of these must allow an act too; null: the account’s policies alone decide.' }),
  uses_left: z.int().nullable(),
  cidrs: z.array(z.string()).nullable(),
  certificate: z
    .string()
    .nullable()
    .openapi({ description: 'SHA-256 of the client certificate that it is bound to, in hex.' }),
  period_seconds: z.int().nullable(),
  renewable: z.boolean(),
  explicit_max_ttl_seconds: z.int().nullable().openapi({
    description: 'From its making to an end that no renewal passes, also of a periodic one; null: none was asked for.',
  }),
  without_default: z.boolean().openapi({
    description: 'It does not look at, renew or end itself, and keeps nothing: only what its policies allow.',
  }),
  role: z.string().nullable().openapi({ description: 'The token role that it was made by.' }),
  name: z.string().nullable(),
  metadata,
  source: z.string().openapi({ description: 'The address that it was asked for from.' }),
  created_at: time,
  ...ends,
};

const token = z.object(tokenFields).openapi('Token');
const newToken = z.object({ token: tokenText, ...tokenFields }).openapi('NewToken');

export const TOKEN_EXAMPLE = {
  accessor: ACCESSOR,
  kind: 'login',
  username: 'app',
  account_kind: 'person',
  method: 'password',
  mfa: false,
  parent: null,
  token_policies: null,
  uses_left: null,
  cidrs: null,
  certificate: null,
  period_seconds: null,
  renewable: true,
  explicit_max_ttl_seconds: null,
  without_default: false,
  role: null,
  name: null,
  metadata: {},
  source: '10.0.0.7',
  created_at: NOW,
  ...endsExample,
};

const CHILD_EXAMPLE = {
  ...TOKEN_EXAMPLE,
  accessor: 'z4c3n6ra8e5s5bcd',
  kind: 'child',
  parent: ACCESSOR,
  token_policies: ['reader'],
  uses_left: 10,
  cidrs: ['10.0.0.0/8'],
  name: 'deploy-17',
  metadata: { pipeline: '17' },
};

export const shapeOf = (found: TokenInfo) => ({
  accessor: found.accessor,
  kind: found.kind,
  username: found.username,
  account_kind: found.accountKind,
  method: found.method,
  mfa: found.mfa,
  parent: found.parent,
  token_policies: found.bound,
  uses_left: found.usesLeft,
  cidrs: found.cidrs,
  certificate: found.certificate,
  period_seconds: found.periodSeconds,
  renewable: found.renewable,
  explicit_max_ttl_seconds: found.explicitMaxTtlSeconds,
  without_default: found.withoutDefault,
  role: found.role,
  name: found.name,
  metadata: found.metadata,
  source: found.source,
  created_at: found.createdAt,
  ...endsOf(found),
});

export const create = endpoint(
  {
    method: 'post',
    path: '/tokens',
    id: 'createToken',
    tag: 'tokens',
    summary: 'Make a token under the one that is shown',
    description:
      'The child is of the same account, ends with its parent at the latest, and does nothing that its parent may not do: ' +
      'what bounds the parent bounds it too, and what is given here narrows it further. A periodic token is renewed for ' +
      'its period again and again, as long as its parent lives. A token with few uses makes no other.',
    body: z.strictObject({
      ttl: duration.optional(),
      period: duration.optional().openapi({ description: 'In place of ttl: each renewal lasts this long.' }),
      renewable: z.boolean().optional(),
      policies: z.array(name).max(LIMITS.policiesPerUserMax).optional(),
      uses: z.int().min(1).max(LIMITS.tokenUsesMax).optional().openapi({ description: 'Acts that it does.' }),
      cidrs: cidrs.optional(),
      name: name.optional(),
      metadata: metadata.optional(),
    }),
    bodyExample: { ttl: '15m', policies: ['reader'], uses: 10, cidrs: ['10.0.0.0/8'], name: 'deploy-17' },
    bodyOptional: true,
    answers: {
      201: { about: 'The token, this once.', schema: newToken, example: { token: 'bulla_…', ...CHILD_EXAMPLE } },
    },
    errors: ['conflict'],
  },
  async ({ vault, call, body }) => {
    const { ttl: ttlSeconds, period: periodSeconds, ...wish } = body;
    const made = await createToken(vault, call, { ttlSeconds, periodSeconds, ...wish });
    return json(201, { token: made.token, ...shapeOf(made) });
  },
);

export const list = endpoint(
  {
    method: 'get',
    path: '/tokens',
    id: 'listTokens',
    tag: 'tokens',
    summary: 'List tokens that have not ended',
    query: z.strictObject({
      ...pageFields,
      username: name.optional().openapi({ description: 'Of this account only.' }),
    }),
    answers: {
      200: {
        about: 'In the order of their accessors; never the tokens themselves.',
        schema: listOf(token),
        example: { items: [TOKEN_EXAMPLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listTokens(vault, call, query), shapeOf),
);

export const read = endpoint(
  {
    method: 'get',
    path: '/tokens/{accessor}',
    id: 'readToken',
    tag: 'tokens',
    summary: 'What a token is, by its accessor',
    description: 'One’s own, and what hangs under it, needs no policy.',
    answers: { 200: { about: 'Never the token itself.', schema: token, example: TOKEN_EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shapeOf(await readToken(vault, call, param))),
);

export const revoke = endpoint(
  {
    method: 'delete',
    path: '/tokens/{accessor}',
    id: 'revokeToken',
    tag: 'tokens',
    summary: 'End a token and all that hangs under it, by its accessor',
    description: 'One’s own, and what hangs under it, needs no policy.',
    answers: { 204: { about: 'They have ended, on every node.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => {
    await revokeToken(vault, call, param);
    return noContent();
  },
);
