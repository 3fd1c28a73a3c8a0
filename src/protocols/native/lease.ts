/** Leases: credentials and accesses that end by themselves; and for operators, whether they do. */
import { z } from '@hono/zod-openapi';
import { takeAccess } from '../../lease/access.ts';
import { checkOut } from '../../lease/check-out.ts';
import { confirmClock, readSweeper, type SweeperInfo } from '../../lease/clock.ts';
import { takeLease } from '../../lease/issue.ts';
import { forceLease, type LeaseInfo, listLeases, readLease, revokeLease, revokeLeases } from '../../lease/lease.ts';
import { renewLease } from '../../lease/renew.ts';
import { endpoint, idempotencyKey, json, page } from './endpoint.ts';
import { duration, listOf, name, pageFields, secretPath, time } from './schema.ts';

const STATES = ['pending', 'active', 'revoking', 'checking', 'ended'] as const;

const lease = z
  .object({
    id: z.string(),
    kind: z.enum(['credential', 'account', 'access']),
    path: z.string().openapi({ description: 'backend/role, backend/account, or that of the secret.' }),
    state: z.enum(STATES).openapi({
      description:
        'pending: not outside yet. revoking: to be gone from the target. checking: gone, and looked for once more, because its issuing was cut off. ended: gone.',
    }),
    stuck: z.boolean().openapi({ description: 'Its revocation has failed several times, and is tried for ever.' }),
    reason: z.string().nullable().openapi({
      description: 'Why it ends: expired, revoked, used, token, role, account, backend, tenant, failed, forced.',
    }),
    holder: z.string(),
    handle: z
      .string()
      .openapi({ description: 'What it is called at the target; of an access, the accessor of its token.' }),
    token_accessor: z.string().openapi({ description: 'Of the token that took it: the lease ends with it.' }),
    issued_at: time,
    expires_at: time,
    max_expires_at: time,
    renewable: z.boolean(),
    renewals: z.int(),
    renewed_at: time.nullable(),
    ended_at: time.nullable(),
    attempts: z.int().openapi({ description: 'How often its revocation has failed.' }),
    last_error: z.string().nullable(),
  })
  .openapi('Lease');

const taken = lease
  .extend({
    credential: z
      .record(z.string(), z.union([z.string(), z.number()]))
      .optional()
      .openapi({ description: 'Of a dynamic credential or an account: what the kind of the backend gives.' }),
    token: z.string().optional().openapi({ description: 'Of access to a stored secret.' }),
  })
  .openapi('TakenLease');

const LEASE = {
  id: 'p7q2xk4mz3nb5cde',
  kind: 'credential',
  path: 'db/reporting',
  state: 'active',
  stuck: false,
  reason: null,
  holder: 'app',
  handle: 'bulla_app_reporting_p7q2xk4mz3nb5cde',
  token_accessor: 'k3v2m5qy7dzr4abc',
  issued_at: '2026-01-02T03:04:05.678901Z',
  expires_at: '2026-01-02T04:04:05.678901Z',
  max_expires_at: '2026-01-03T03:04:05.678901Z',
  renewable: true,
  renewals: 0,
  renewed_at: null,
  ended_at: null,
  attempts: 0,
  last_error: null,
} as const;

const CREDENTIAL = {
  username: 'bulla_app_reporting_p7q2xk4mz3nb5cde',
  password: 'aifkw5xs2zqmvd3y7t6gn4hbjc2peru5aifkw5xs2zqmvd3y',
  host: 'db.example',
  port: 5432,
  database: 'reports',
  url: 'postgres://bulla_app_reporting_p7q2xk4mz3nb5cde:aifkw5xs2zqmvd3y7t6gn4hbjc2peru5aifkw5xs2zqmvd3y@db.example:5432/reports',
};

export const shapeLease = (info: LeaseInfo) => ({
  id: info.id,
  kind: info.kind,
  path: info.path,
  state: info.state,
  stuck: info.stuck,
  reason: info.reason,
  holder: info.holder,
  handle: info.handle,
  token_accessor: info.tokenAccessor,
  issued_at: info.issuedAt,
  expires_at: info.expiresAt,
  max_expires_at: info.maxExpiresAt,
  renewable: info.renewable,
  renewals: info.renewals,
  renewed_at: info.renewedAt,
  ended_at: info.endedAt,
  attempts: info.attempts,
  last_error: info.lastError,
});

const rolePath = z
  .string()
  .openapi({ pattern: '^[a-z0-9][a-z0-9._-]{0,62}/[a-z0-9][a-z0-9._-]{0,62}$', example: 'db/reporting' });
const id = z.string().openapi({ pattern: '^[a-z2-7]{16}$', example: 'k3v2m5qy7dzr4abc' });

const USES_MAX = 1_000_000;

const wanted = z
  .strictObject({
    role: rolePath.optional().openapi({ description: 'For a dynamic credential.' }),
    account: name.optional().openapi({ description: 'For a static account, which nobody else has meanwhile.' }),
    secret: secretPath
      .optional()
      .openapi({ description: 'For access to one stored secret, which need not be there yet.' }),
    ttl: duration.optional().openapi({ description: 'Shortened to what role, backend and token allow.' }),
    uses: z.int().min(1).max(USES_MAX).optional().openapi({ description: 'How often the secret can be read with it.' }),
    parameters: z.looseObject({}).optional().openapi({ description: 'What the kind of the backend takes beside.' }),
  })
  .refine(
    ({ role, account, secret }) => [role, account, secret].filter((one) => one !== undefined).length === 1,
    'expected exactly one of role, account and secret',
  )
  .refine(
    ({ secret, uses }) => secret !== undefined || uses === undefined,
    'uses are counted of access to a secret only',
  )
  .refine(({ role, parameters }) => role !== undefined || parameters === undefined, 'parameters are for a role');

export const create = endpoint(
  {
    method: 'post',
    path: '/leases',
    id: 'createLease',
    tag: 'leases',
    summary: 'Take a lease: a dynamic credential, a static account, or access to one stored secret',
    description:
      'It ends by itself, with the token that took it at the latest. Whoever took it may read, renew and revoke it with that token.',
    body: wanted,
    bodyExample: { role: 'db/reporting', ttl: '15m' },
    idempotent: true,
    answers: {
      201: {
        about: 'The lease, with `credential` or `token`.',
        schema: taken,
        example: { ...LEASE, credential: CREDENTIAL },
      },
    },
    errors: [
      'not_found',
      'conflict',
      'idempotency_mismatch',
      'too_many_requests',
      'backend_failed',
      'integrity',
      'busy',
    ],
  },
  async ({ vault, call, body, exchange }) => {
    const { role, account, secret, ttl: ttlSeconds, uses, parameters } = body;
    const key = { idempotencyKey: idempotencyKey(exchange) };
    if (secret !== undefined) {
      const access = await takeAccess(vault, call, { secret, ttlSeconds, uses, ...key });
      return json(201, { ...shapeLease(access), token: access.token });
    }
    if (account !== undefined) {
      const held = await checkOut(vault, call, { account, ttlSeconds, ...key });
      return json(201, { ...shapeLease(held), credential: held.credential });
    }
    const made = await takeLease(vault, call, { role: role!, ttlSeconds, parameters, ...key });
    return json(201, { ...shapeLease(made), credential: made.credential });
  },
);

export const list = endpoint(
  {
    method: 'get',
    path: '/leases',
    id: 'listLeases',
    tag: 'leases',
    summary: 'List leases',
    description: 'Those that you may list, without their credentials. Ended ones can be seen for a day.',
    query: z.strictObject({
      ...pageFields,
      state: z
        .enum([...STATES, 'stuck'])
        .optional()
        .openapi({ example: 'stuck' }),
      prefix: z.string().max(512).optional().openapi({ description: 'Of the path, by whole segments.', example: 'db' }),
      holder: name.optional(),
      accessor: id.optional().openapi({ description: 'Of the token that took them.' }),
    }),
    answers: {
      200: {
        about: 'In the order in which they were taken.',
        schema: listOf(lease),
        example: { items: [LEASE], next_cursor: null },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listLeases(vault, call, query), shapeLease),
);

export const read = endpoint(
  {
    method: 'get',
    path: '/leases/{id}',
    id: 'readLease',
    tag: 'leases',
    summary: 'Read a lease',
    answers: { 200: { about: 'Never its credential.', schema: lease, example: LEASE } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shapeLease(await readLease(vault, call, param))),
);

export const renew = endpoint(
  {
    method: 'post',
    path: '/leases/{id}/renew',
    id: 'renewLease',
    tag: 'leases',
    summary: 'Let a lease last longer',
    description: 'Counted from now, and never beyond max_expires_at. Without a ttl, what it was taken for.',
    body: z.strictObject({ ttl: duration.optional() }),
    bodyExample: { ttl: '15m' },
    bodyOptional: true,
    answers: { 200: { about: 'The lease as it is now.', schema: lease, example: { ...LEASE, renewals: 1 } } },
    errors: ['not_found', 'conflict', 'backend_failed'],
  },
  async ({ vault, call, param, body }) => json(200, shapeLease(await renewLease(vault, call, param, body.ttl))),
);

const dropped = lease.extend({ warning: z.string().optional() }).openapi('EndedLease');

export const revoke = endpoint(
  {
    method: 'delete',
    path: '/leases/{id}',
    id: 'revokeLease',
    tag: 'leases',
    summary: 'Revoke a lease',
    description:
      'Answers when the credential is gone from its target, or after some seconds with the state revoking, which goes on until it is. With force the lease is dropped although its credential may still work: for targets that are gone for good.',
    query: z.strictObject({ force: z.literal('true').optional() }),
    answers: {
      200: {
        about: 'The lease as it is now; dropped by force, a warning says what may still work.',
        schema: dropped,
        example: {
          ...LEASE,
          state: 'ended',
          reason: 'revoked',
          renewable: false,
          ended_at: '2026-01-02T03:14:05.678901Z',
        },
      },
    },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param, query }) => {
    if (query.force === undefined) return json(200, shapeLease(await revokeLease(vault, call, param)));
    const forced = await forceLease(vault, call, param);
    return json(200, { ...shapeLease(forced), warning: forced.warning });
  },
);

export const revokeMany = endpoint(
  {
    method: 'post',
    path: '/leases/revoke',
    id: 'revokeLeases',
    tag: 'leases',
    summary: 'Revoke many leases',
    description: 'Exactly one of the fields. They are due when this is answered, and are ended in the background.',
    body: z
      .strictObject({
        prefix: z.string().min(1).max(512).optional().openapi({ description: 'Of the path, by whole segments.' }),
        role: rolePath.optional(),
        holder: name.optional(),
        accessor: id.optional().openapi({ description: 'Of the token that took them.' }),
        all: z.literal(true).optional().openapi({ description: 'Every lease of the tenant that you may revoke.' }),
      })
      .refine(
        (body) => Object.keys(body).length === 1,
        'expected exactly one of prefix, role, holder, accessor and all',
      ),
    bodyExample: { prefix: 'db' },
    answers: {
      202: {
        about: 'How many are to be ended.',
        schema: z.object({ condemned: z.int() }).openapi('CondemnedLeases'),
        example: { condemned: 12 },
      },
    },
    errors: [],
  },
  async ({ vault, call, body }) => json(202, await revokeLeases(vault, call, body)),
);

// ---- the sweeper --------------------------------------------------------------------------------------------------

const sweeper = z
  .object({
    latched: z.boolean().openapi({ description: 'The clock has jumped, and no lease expires until it is confirmed.' }),
    latched_at: time.nullable(),
    jump_seconds: z.int().nullable(),
    now: time.openapi({ description: 'The time that would be confirmed.' }),
  })
  .openapi('Sweeper');

const SWEEPER = { latched: false, latched_at: null, jump_seconds: null, now: '2026-01-02T03:04:05.678901Z' };

const shapeSweeper = (info: SweeperInfo) => ({
  latched: info.latched,
  latched_at: info.latchedAt,
  jump_seconds: info.jumpSeconds,
  now: info.now,
});

export const readSweeping = endpoint(
  {
    method: 'get',
    path: '/sweeper',
    id: 'readSweeper',
    tag: 'leases',
    summary: 'See whether leases expire (operators)',
    answers: { 200: { about: 'The latch.', schema: sweeper, example: SWEEPER } },
    errors: [],
  },
  async ({ vault, call }) => json(200, shapeSweeper(await readSweeper(vault, call))),
);

export const confirmSweeping = endpoint(
  {
    method: 'post',
    path: '/sweeper/confirm',
    id: 'confirmSweeper',
    tag: 'leases',
    summary: 'Confirm the time after a jump of the clock (operators)',
    description: 'Leases expire again, at once those whose time has passed.',
    answers: { 200: { about: 'The latch, open.', schema: sweeper, example: SWEEPER } },
    errors: [],
  },
  async ({ vault, call }) => json(200, shapeSweeper(await confirmClock(vault, call))),
);
