/** Policies: what users of a tenant may do. The document's own rules are policy/policy.ts's. */
import { z } from '@hono/zod-openapi';
import { type DecidingRule, type Explanation, explain as explainWhy } from '../../policy/explain.ts';
import { policySchema } from '../../policy/policy.ts';
import { type Preview, previewPolicy } from '../../policy/preview.ts';
import {
  deletePolicy,
  listPolicies,
  listPolicyChanges,
  type PolicyInfo,
  putPolicy,
  readPolicy,
  type StoredPolicy,
} from '../../policy/store.ts';
import { expectedVersion } from './condition.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { instant, listOf, name, pageQuery, time } from './schema.ts';

const info = { name, revision: z.int(), built_in: z.boolean(), created_at: time, updated_at: time };
const listed = z.object(info).openapi('PolicyInfo');
const policy = z.object({ ...info, rules: policySchema.shape.rules }).openapi('Policy');

const RULES = [
  {
    effect: 'allow',
    actions: ['secret.read', 'secret.list'],
    resources: ['secret:prod/web/**'],
    conditions: { cidrs: ['10.0.0.0/8'] },
  },
];
const INFO_EXAMPLE = {
  name: 'web-reader',
  revision: 1,
  built_in: false,
  created_at: '2026-01-02T03:04:05.678901Z',
  updated_at: '2026-01-02T03:04:05.678901Z',
};
const EXAMPLE = { ...INFO_EXAMPLE, rules: RULES };

const shapeInfo = (found: PolicyInfo) => ({
  name: found.name,
  revision: found.revision,
  built_in: found.builtIn,
  created_at: found.createdAt,
  updated_at: found.updatedAt,
});

function answer(status: number, found: StoredPolicy): Response {
  const headers = { 'Content-Type': 'application/json', ETag: `"${found.revision}"` };
  return json(status, { ...shapeInfo(found), rules: found.rules }, headers);
}

const etag = { ETag: 'The revision in double quotes.' };

export const list = endpoint(
  {
    method: 'get',
    path: '/policies',
    id: 'listPolicies',
    tag: 'policies',
    summary: 'List policies',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names.',
        schema: listOf(listed),
        example: { items: [INFO_EXAMPLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listPolicies(vault, call, query), shapeInfo),
);

export const read = endpoint(
  {
    method: 'get',
    path: '/policies/{name}',
    id: 'readPolicy',
    tag: 'policies',
    summary: 'Read a policy',
    answers: { 200: { about: 'The policy.', schema: policy, example: EXAMPLE, headers: etag } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => answer(200, await readPolicy(vault, call, param)),
);

const change = z
  .object({
    number: z.int(),
    revision: z.int(),
    rules: policySchema.shape.rules.nullable().openapi({ description: 'null: it was deleted.' }),
    changed_by: z.string().nullable().openapi({ description: 'The id of the account; null: the vault itself.' }),
    changed_by_name: z.string().nullable().openapi({ description: 'Its name then.' }),
    changed_at: time,
  })
  .openapi('PolicyChange');

export const changes = endpoint(
  {
    method: 'get',
    path: '/policies/{name}/versions',
    id: 'listPolicyChanges',
    tag: 'policies',
    summary: 'List what a policy has been, and who changed it',
    description: 'Deleted policies of that name too. At most 50 a page.',
    query: pageQuery,
    answers: {
      200: {
        about: 'The latest first.',
        schema: listOf(change),
        example: {
          items: [
            {
              ...{ number: 1, revision: 1, rules: RULES, changed_by: 'p7q2xk4mz3nb5cde', changed_by_name: 'admin' },
              changed_at: INFO_EXAMPLE.created_at,
            },
          ],
          next_cursor: null,
        },
      },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, param, query }) =>
    page(await listPolicyChanges(vault, call, param, query), (one) => ({
      number: one.number,
      revision: one.revision,
      rules: one.rules,
      changed_by: one.changedBy,
      changed_by_name: one.changedByName,
      changed_at: one.changedAt,
    })),
);

export const put = endpoint(
  {
    method: 'put',
    path: '/policies/{name}',
    id: 'putPolicy',
    tag: 'policies',
    summary: 'Create or replace a policy',
    description: 'The next request of every holder obeys it, on every node.',
    conditions: ['If-Match', 'If-None-Match'],
    body: policySchema,
    bodyExample: { rules: RULES },
    answers: {
      200: { about: 'It was replaced.', schema: policy, example: { ...EXAMPLE, revision: 2 }, headers: etag },
      201: { about: 'It was created.', schema: policy, example: EXAMPLE, headers: etag },
    },
    errors: ['conflict', 'version_mismatch'],
  },
  async ({ vault, call, exchange, param, body }) => {
    const stored = await putPolicy(vault, call, param, body, expectedVersion(exchange));
    return answer(stored.created ? 201 : 200, stored);
  },
);

const rule = policySchema.shape.rules.element;

const holderChange = z
  .object({
    username: name,
    kind: z.enum(['person', 'service', 'external']),
    gains: z.array(rule).openapi({ description: 'Rules that come to allow, and restrictions that go.' }),
    loses: z.array(rule).openapi({ description: 'Rules that allow no longer, and restrictions that come.' }),
  })
  .openapi('HolderChange');
const preview = z
  .object({
    name,
    revision: z.int().openapi({ description: 'Of the policy that is stored; 0 when there is none.' }),
    holders: z.int().openapi({ description: 'Accounts that hold it, by themselves or by a group.' }),
    changes: z.array(holderChange),
    truncated: z.boolean().openapi({ description: 'There are more holders than were looked at.' }),
  })
  .openapi('PolicyPreview');

const shapePreview = (found: Preview) => ({
  name: found.name,
  revision: found.revision,
  holders: found.holders,
  changes: found.changes,
  truncated: found.truncated,
});

export const dryRun = endpoint(
  {
    method: 'post',
    path: '/policies/{name}/dry_run',
    id: 'previewPolicy',
    tag: 'policies',
    summary: 'See who would gain and lose what, if this replaced the policy',
    description: 'Nothing is changed. Whoever may not make the change is refused here too.',
    body: policySchema,
    bodyExample: { rules: RULES },
    answers: {
      200: {
        about: 'Those for whom something would change, by name.',
        schema: preview,
        example: {
          ...{ name: 'web-reader', revision: 1, holders: 1, truncated: false },
          changes: [{ username: 'app', kind: 'person', gains: RULES, loses: [] }],
        },
      },
    },
    errors: [],
  },
  async ({ vault, call, param, body }) => json(200, shapePreview(await previewPolicy(vault, call, param, body))),
);

const decidingFields = {
  policy: name,
  revision: z.int(),
  index: z.int().openapi({ description: 'Its place in the policy, from 0.' }),
  rule: rule.nullable().openapi({ description: 'null to whoever may not read the policy.' }),
};
const deciding = z.object(decidingFields).openapi('DecidingRule');
const explanation = z
  .object({
    username: name,
    allowed: z.boolean(),
    reason: z.enum([
      ...(['allowed', 'no_rule', 'denied', 'conditions', 'approval', 'template', 'token', 'disabled'] as const),
      'other_tenant',
    ]),
    rule: deciding.nullable().openapi({ description: 'The rule that decided, if one did.' }),
    almost: z
      .array(z.object({ ...decidingFields, conditions: z.array(z.string()) }))
      .openapi({ description: 'Rules that would allow it, and which of their conditions do not hold.' }),
    requirements: z.array(z.object({ by: name, count: z.int(), within_seconds: z.int() })),
    smallest_rule: rule.nullable().openapi({ description: 'The least that would allow it; null where no rule could.' }),
  })
  .openapi('Explanation');

const shapeRule = ({ policy: held, revision, index, rule: said }: DecidingRule) => ({
  ...{ policy: held, revision, index, rule: said },
});

const shapeExplanation = (found: Explanation) => ({
  username: found.username,
  allowed: found.allowed,
  reason: found.reason,
  rule: found.rule && shapeRule(found.rule),
  almost: found.almost.map((one) => ({ ...shapeRule(one), conditions: one.conditions })),
  requirements: found.requirements.map(({ by, count, withinSeconds }) => ({
    by,
    count,
    within_seconds: withinSeconds,
  })),
  smallest_rule: found.smallestRule,
});

export const explain = endpoint(
  {
    method: 'post',
    path: '/policies/explain',
    id: 'explainPolicy',
    tag: 'policies',
    summary: 'May this account do this to that, and which rule says so',
    description:
      'About oneself, everybody may ask; about others, whoever may policy.explain. Nothing is said of whether it exists.',
    body: z.strictObject({
      action: z.string().max(64).openapi({ example: 'secret.read' }),
      resource: z.string().max(1024).openapi({ example: 'secret:prod/web/db' }),
      username: name.optional().openapi({ description: 'Oneself when absent.' }),
      circumstances: z
        .strictObject({
          source: z.string().max(64).optional().openapi({ description: 'An address.' }),
          now: instant.optional(),
          mfa: z.boolean().optional(),
          token_kind: z.string().max(32).optional(),
        })
        .optional()
        .openapi({ description: 'What is not said is that of this request about oneself, and unknown about others.' }),
    }),
    bodyExample: { action: 'secret.read', resource: 'secret:prod/web/db' },
    answers: {
      200: {
        about: 'By the policies as they are now.',
        schema: explanation,
        example: {
          ...{ username: 'app', allowed: false, reason: 'no_rule', rule: null, almost: [], requirements: [] },
          smallest_rule: { effect: 'allow', actions: ['secret.read'], resources: ['secret:prod/web/db'] },
        },
      },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, body }) => {
    const { circumstances, ...asked } = body;
    const { token_kind: tokenKind, ...rest } = circumstances ?? {};
    return json(
      200,
      shapeExplanation(await explainWhy(vault, call, { ...asked, circumstances: { ...rest, tokenKind } })),
    );
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/policies/{name}',
    id: 'deletePolicy',
    tag: 'policies',
    summary: 'Delete a policy',
    answers: { 204: { about: 'Whoever held it holds it no longer.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => {
    await deletePolicy(vault, call, param);
    return noContent();
  },
);
