/** The questions that auditors ask, one route each. What one actor or request did, and denials, are filters of the export. */
import { z } from '@hono/zod-openapi';
import { unread, whoDid } from '../../audit/question.ts';
import { whoCan } from '../../policy/who.ts';
import { endpoint, json, page } from './endpoint.ts';
import { instant, listOf, pageFields, time, wholeNumber } from './schema.ts';

const DAYS_MAX = 3650;
const text = z.string().min(1).max(1024);
const resource = text.openapi({ description: '`<kind>:<name>`.', example: 'secret:prod/web/db' });

const able = z
  .object({
    kind: z.enum(['account', 'certificate_role', 'login_role']).openapi({
      description: 'An account, or a role that whoever fits it may log in by.',
    }),
    name: z.string(),
    disabled: z.boolean(),
    when: z.enum(['always', 'under_conditions']).openapi({ description: 'Whether conditions limit it.' }),
    approval: z.boolean().openapi({ description: 'Whether others must approve first.' }),
    policies: z.array(z.string()).openapi({ description: 'Those held or given that allow it.' }),
  })
  .openapi('Able');

export const whoCanDo = endpoint(
  {
    method: 'get',
    path: '/audit/who-can',
    id: 'whoCan',
    tag: 'audit',
    summary: 'Who could do something, by the policies as they are now',
    query: z.strictObject({ resource, action: text.optional().openapi({ example: 'secret.read' }), ...pageFields }),
    queryExample: { resource: 'secret:prod/web/db' },
    answers: {
      200: {
        about: 'Accounts, then roles of logins, each by name.',
        schema: listOf(able),
        example: {
          items: [
            { kind: 'account', name: 'app', disabled: false, when: 'always', approval: false, policies: ['app'] },
            { kind: 'login_role', name: 'ci', disabled: false, when: 'always', approval: false, policies: ['app'] },
          ],
          next_cursor: null,
        },
      },
    },
    errors: [],
  },
  async ({ vault, call, query: { action = 'secret.read', ...rest } }) =>
    page(await whoCan(vault, call, { action, ...rest }), (able) => able),
);

const did = z
  .object({
    ...{ actor: z.string(), kind: z.string(), ok: z.int(), denied: z.int(), error: z.int() },
    ...{ first_at: time, last_at: time },
  })
  .openapi('Did');

const AT = '2026-01-02T03:04:05.678901Z';

export const whoDidIt = endpoint(
  {
    method: 'get',
    path: '/audit/who-did',
    id: 'whoDid',
    tag: 'audit',
    summary: 'Who did something, how often and when last',
    query: z.strictObject({
      resource: text.openapi({ description: 'A glob, as in policies.', example: 'secret:prod/**' }),
      action: text.optional().openapi({ example: 'secret.read' }),
      from: instant.optional(),
      to: instant.optional(),
    }),
    queryExample: { resource: 'secret:prod/**' },
    answers: {
      200: {
        about: 'The latest first.',
        schema: z.object({ items: z.array(did) }),
        example: {
          items: [{ actor: 'app', kind: 'user', ok: 7, denied: 0, error: 0, first_at: AT, last_at: AT }],
        },
      },
    },
    errors: ['too_large'],
  },
  async ({ vault, call, query }) => {
    const items = await whoDid(vault, call, query);
    return json(200, {
      items: items.map(({ firstAt, lastAt, ...rest }) => ({ ...rest, first_at: firstAt, last_at: lastAt })),
    });
  },
);

export const unreadSecrets = endpoint(
  {
    method: 'get',
    path: '/audit/unread',
    id: 'unreadSecrets',
    tag: 'audit',
    summary: 'Which secrets nobody has read for some days',
    query: z.strictObject({ days: wholeNumber(0, DAYS_MAX).openapi({ example: 90 }) }),
    queryExample: { days: 90 },
    answers: {
      200: {
        about: 'By path.',
        schema: z.object({ items: z.array(z.object({ path: z.string(), created_at: time }).openapi('Unread')) }),
        example: { items: [{ path: 'prod/old', created_at: AT }] },
      },
    },
    errors: ['too_large'],
  },
  async ({ vault, call, query }) => {
    const items = await unread(vault, call, query.days);
    return json(200, { items: items.map(({ path, createdAt }) => ({ path, created_at: createdAt })) });
  },
);
