/** Policies: what users of a tenant may do. The document's own rules are policy/policy.ts's. */
import { z } from '@hono/zod-openapi';
import { policySchema } from '../../policy/policy.ts';
import {
  deletePolicy,
  listPolicies,
  type PolicyInfo,
  putPolicy,
  readPolicy,
  type StoredPolicy,
} from '../../policy/store.ts';
import { expectedVersion } from './condition.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { listOf, name, pageQuery, time } from './schema.ts';

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
