/** Groups of users and services: who is in one may do what its policies allow. */
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import {
  createGroup,
  deleteGroup,
  type GroupInfo,
  listGroups,
  listMembers,
  readGroup,
  updateGroup,
} from '../../policy/group.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { listOf, name, pageQuery, time } from './schema.ts';

const group = z
  .object({
    id: z.string(),
    name,
    policies: z.array(name),
    members: z.int().openapi({ description: 'How many.' }),
    created_at: time,
    updated_at: time,
  })
  .openapi('Group');
const member = z
  .object({ username: name, kind: z.enum(['person', 'service', 'external']), added_at: time })
  .openapi('Member');

const AT = '2026-01-02T03:04:05.678901Z';
const EXAMPLE = {
  id: 'p7q2xk4mz3nb5cde',
  name: 'web',
  policies: ['reader'],
  members: 2,
  created_at: AT,
  updated_at: AT,
};

const shape = (found: GroupInfo) => ({
  id: found.id,
  name: found.name,
  policies: found.policies,
  members: found.members,
  created_at: found.createdAt,
  updated_at: found.updatedAt,
});

const policies = z.array(name).max(LIMITS.policiesPerUserMax);
const members = z.array(name).max(LIMITS.membersAtOnceMax);

export const list = endpoint(
  {
    method: 'get',
    path: '/groups',
    id: 'listGroups',
    tag: 'groups',
    summary: 'List groups',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names.',
        schema: listOf(group),
        example: { items: [EXAMPLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listGroups(vault, call, query), shape),
);

export const create = endpoint(
  {
    method: 'post',
    path: '/groups',
    id: 'createGroup',
    tag: 'groups',
    summary: 'Create a group',
    description: 'Refused for policies that the caller does not hold: nobody gives what they do not hold.',
    body: z.strictObject({ name, policies: policies.optional(), members: members.optional() }),
    bodyExample: { name: 'web', policies: ['reader'] },
    answers: { 201: { about: 'The group.', schema: group, example: EXAMPLE } },
    errors: ['conflict'],
  },
  async ({ vault, call, body }) => json(201, shape(await createGroup(vault, call, body))),
);

export const read = endpoint(
  {
    method: 'get',
    path: '/groups/{name}',
    id: 'readGroup',
    tag: 'groups',
    summary: 'Read a group',
    answers: { 200: { about: 'Without its members, of which there may be many.', schema: group, example: EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shape(await readGroup(vault, call, param))),
);

export const listed = endpoint(
  {
    method: 'get',
    path: '/groups/{name}/members',
    id: 'listMembers',
    tag: 'groups',
    summary: 'List who is in a group',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of their names.',
        schema: listOf(member),
        example: { items: [{ username: 'app', kind: 'person', added_at: AT }], next_cursor: null },
      },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, param, query }) =>
    page(await listMembers(vault, call, param, query), ({ username, kind, addedAt }) => ({
      username,
      kind,
      added_at: addedAt,
    })),
);

export const update = endpoint(
  {
    method: 'patch',
    path: '/groups/{name}',
    id: 'updateGroup',
    tag: 'groups',
    summary: 'Change the policies or the members of a group',
    description: 'All of it or nothing. The next request of every member obeys it, on every node.',
    body: z
      .strictObject({
        policies: policies.optional().openapi({ description: 'In place of all it has.' }),
        add_members: members.optional(),
        remove_members: members.optional(),
      })
      .refine((change) => Object.keys(change).length > 0, 'expected at least one field to change'),
    bodyExample: { add_members: ['app'] },
    answers: { 200: { about: 'The group as it is now.', schema: group, example: EXAMPLE } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, body }) => {
    const { add_members: addMembers, remove_members: removeMembers, policies: held } = body;
    return json(200, shape(await updateGroup(vault, call, param, { policies: held, addMembers, removeMembers })));
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/groups/{name}',
    id: 'deleteGroup',
    tag: 'groups',
    summary: 'Delete a group',
    answers: { 204: { about: 'Its members have what they hold themselves.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => {
    await deleteGroup(vault, call, param);
    return noContent();
  },
);
