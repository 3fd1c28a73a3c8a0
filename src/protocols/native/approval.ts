/** The two-person rule: what a policy allows only once others have approved it. */
import { z } from '@hono/zod-openapi';
import {
  type Approval,
  answerApproval,
  cancelApproval,
  listApprovals,
  readApproval,
  requestApproval,
} from '../../approval/approval.ts';
import { LIMITS } from '../../config.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { listOf, name, pageFields, time, versionNumber } from './schema.ts';

const approval = z
  .object({
    id: z.string(),
    requested_by: name,
    action: z.string(),
    resource: z.string(),
    subject: z
      .string()
      .openapi({ description: 'What of it: a version, `1,2`, `all`, or empty where there is no more.' }),
    reason: z.string(),
    state: z.enum(['open', 'approved', 'used', 'denied', 'cancelled', 'expired']),
    requirements: z
      .array(z.object({ by: name, count: z.int(), within_seconds: z.int() }))
      .openapi({ description: 'What the rules asked for then; what they ask for at the act is what counts.' }),
    approved_by: z.array(name),
    denied_by: z.array(name),
    created_at: time,
    expires_at: time,
    ended_at: time.nullable(),
  })
  .openapi('Approval');

const EXAMPLE = {
  id: 'k3v2m5qy7dzr4abc',
  requested_by: 'app',
  action: 'secret.read',
  resource: 'secret:prod/root/key',
  subject: '3',
  reason: 'incident 4711',
  state: 'open',
  requirements: [{ by: 'custodians', count: 2, within_seconds: 14400 }],
  approved_by: [],
  denied_by: [],
  created_at: '2026-01-02T03:04:05.678901Z',
  expires_at: '2026-01-02T07:04:05.678901Z',
  ended_at: null,
};

const shape = (found: Approval) => ({
  id: found.id,
  requested_by: found.requestedBy,
  action: found.action,
  resource: found.resource,
  subject: found.subject,
  reason: found.reason,
  state: found.state,
  requirements: found.requirements.map(({ by, count, withinSeconds }) => ({
    by,
    count,
    within_seconds: withinSeconds,
  })),
  approved_by: found.approvedBy,
  denied_by: found.deniedBy,
  created_at: found.createdAt,
  expires_at: found.expiresAt,
  ended_at: found.endedAt,
});

export const list = endpoint(
  {
    method: 'get',
    path: '/approvals',
    id: 'listApprovals',
    tag: 'approvals',
    summary: 'List requests for approval',
    description: 'One’s own, those that one may answer, and all for whoever may approval.list.',
    query: z.strictObject({
      open: z
        .enum(['true', 'false'])
        .transform((text) => text === 'true')
        .optional()
        .openapi({ type: 'boolean', description: 'Only those that wait for an answer or for their act.' }),
      ...pageFields,
    }),
    answers: {
      200: {
        about: 'The latest first.',
        schema: listOf(approval),
        example: { items: [EXAMPLE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listApprovals(vault, call, query), shape),
);

export const request = endpoint(
  {
    method: 'post',
    path: '/approvals',
    id: 'requestApproval',
    tag: 'approvals',
    summary: 'Ask others to approve an act of yours',
    description:
      'For what was answered with approval_required. Once approved, the same account does it once, within the time that the rule gives.',
    body: z.strictObject({
      action: z.string().max(64).openapi({ example: 'secret.read' }),
      resource: z.string().max(1024).openapi({ example: 'secret:prod/root/key' }),
      version: versionNumber
        .optional()
        .openapi({ description: 'Of the secret that is read, or the key that is destroyed.' }),
      versions: z.array(versionNumber).min(1).max(LIMITS.secretVersionsKeptMax).optional(),
      reason: z.string().max(LIMITS.auditTextCharsMax).optional().openapi({ description: 'For those who answer.' }),
    }),
    bodyExample: { action: 'secret.read', resource: 'secret:prod/root/key', reason: 'incident 4711' },
    answers: { 201: { about: 'The request.', schema: approval, example: EXAMPLE } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, body }) => json(201, shape(await requestApproval(vault, call, body))),
);

export const read = endpoint(
  {
    method: 'get',
    path: '/approvals/{id}',
    id: 'readApproval',
    tag: 'approvals',
    summary: 'Read a request for approval',
    answers: { 200: { about: 'The request.', schema: approval, example: EXAMPLE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shape(await readApproval(vault, call, param))),
);

const answerOf = (verb: 'approve' | 'deny', summary: string, about: string, after: object) =>
  endpoint(
    {
      method: 'post',
      path: `/approvals/{id}/${verb}`,
      id: `${verb}Approval`,
      tag: 'approvals',
      summary,
      description: 'By holders of the policy that the rule names, but never by whoever asked.',
      body: z.strictObject({}),
      bodyExample: {},
      bodyOptional: true,
      answers: { 200: { about, schema: approval, example: { ...EXAMPLE, ...after } } },
      errors: ['not_found', 'conflict'],
    },
    async ({ vault, call, param }) => json(200, shape(await answerApproval(vault, call, param, verb === 'approve'))),
  );

export const approve = answerOf('approve', 'Approve a request', 'As it is now.', { approved_by: ['admin'] });
export const deny = answerOf('deny', 'Refuse a request, which ends it', 'It has ended.', {
  ...{ state: 'denied', denied_by: ['admin'], ended_at: '2026-01-02T03:05:05.678901Z' },
});

export const cancel = endpoint(
  {
    method: 'delete',
    path: '/approvals/{id}',
    id: 'cancelApproval',
    tag: 'approvals',
    summary: 'Take a request of one’s own back',
    answers: { 204: { about: 'It has ended.' } },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => {
    await cancelApproval(vault, call, param);
    return noContent();
  },
);
