/** Rotators: what gives a stored secret a new version by itself. */
import { z } from '@hono/zod-openapi';
import { putRotatorAndRotate, rotateSecret } from '../../job/rotator.ts';
import { parsePath } from '../../secret/path.ts';
import { deleteRotator, listRotators, ROTATOR_KINDS, type RotatorInfo, readRotator } from '../../secret/rotator.ts';
import { webhookCa, webhookSecret, webhookUrl } from '../../webhook.ts';
import { endpoint, json, noContent, page } from './endpoint.ts';
import { duration, listOf, name, pageQuery, secretPath, time } from './schema.ts';

const KIND_ABOUT =
  'password: random characters. diceware: six words. account: the password of a static account, whenever that changes. webhook: what an endpoint of yours answers.';

const shownHook = z.object({ url: z.string(), ca: z.string().optional() });

const rotator = z
  .object({
    path: secretPath,
    kind: z.enum(ROTATOR_KINDS).openapi({ description: KIND_ABOUT }),
    field: z.string().optional(),
    length: z.int().optional(),
    alphabet: z.string().optional(),
    account: name.optional(),
    webhook: shownHook.optional().openapi({ description: 'Without its secret.' }),
    notify: shownHook.optional().openapi({ description: 'Without its secret.' }),
    every: z.int().nullable().openapi({ description: 'Seconds.' }),
    grace: z.int().openapi({ description: 'Seconds that the version before stays readable.' }),
    rotated_at: time.nullable(),
    next_at: time.nullable().openapi({ description: 'By its schedule, or for another try.' }),
    version: z.int().nullable().openapi({ description: 'The last one that it made.' }),
    attempts: z.int().openapi({ description: 'How often it has failed since it last worked.' }),
    last_error: z.string().nullable(),
    notice_error: z
      .string()
      .nullable()
      .openapi({ description: 'Why notify has not been told of the last version yet.' }),
    created_at: time,
    updated_at: time,
  })
  .openapi('Rotator');

const ROTATOR = {
  path: 'prod/web/session-key',
  kind: 'password',
  length: 48,
  notify: { url: 'https://deploy.example/rotated' },
  every: 2592000,
  grace: 86400,
  rotated_at: '2026-01-02T03:04:05.678901Z',
  next_at: '2026-02-01T03:04:05.678901Z',
  version: 4,
  attempts: 0,
  last_error: null,
  notice_error: null,
  created_at: '2026-01-02T03:04:05.678901Z',
  updated_at: '2026-01-02T03:04:05.678901Z',
} as const;

const shape = ({ config, ...info }: RotatorInfo) => ({
  path: info.path,
  ...config,
  every: info.periodSeconds,
  grace: info.graceSeconds,
  rotated_at: info.rotatedAt,
  next_at: info.nextAt,
  version: info.version,
  attempts: info.attempts,
  last_error: info.lastError,
  notice_error: info.noticeError,
  created_at: info.createdAt,
  updated_at: info.updatedAt,
});

export const list = endpoint(
  {
    method: 'get',
    path: '/rotators',
    id: 'listRotators',
    tag: 'rotators',
    summary: 'List rotators',
    query: pageQuery,
    answers: {
      200: {
        about: 'In the order of the paths of their secrets.',
        schema: listOf(rotator),
        example: { items: [ROTATOR], next_cursor: null },
      },
    },
    errors: ['integrity'],
  },
  async ({ vault, call, query }) => page(await listRotators(vault, call, query), shape),
);

export const read = endpoint(
  {
    method: 'get',
    path: '/rotators/{path}',
    id: 'readRotator',
    tag: 'rotators',
    summary: 'Read how a secret rotates',
    answers: { 200: { about: 'Without any secret.', schema: rotator, example: ROTATOR } },
    errors: ['not_found', 'integrity'],
  },
  async ({ vault, call, param }) => json(200, shape(await readRotator(vault, call, parsePath(param)))),
);

/** As webhook.ts has it, described for the document. */
const as = (schema: z.ZodType, expected: string) =>
  z.string().refine((text) => schema.safeParse(text).success, `expected ${expected}`);

const webhook = z.strictObject({
  url: as(webhookUrl, 'an https URL without a user in it').openapi({
    format: 'uri',
    example: 'https://deploy.example/rotated',
  }),
  secret: as(webhookSecret, 'whsec_ and 24 to 64 bytes in base64')
    .optional()
    .openapi({ description: 'whsec_ and 24 to 64 bytes in base64; it stays as it is when absent.' }),
  ca: as(webhookCa, 'at most 64 KiB of PEM').optional(),
});

const CHARACTERS_MAX = 1024;

export const put = endpoint(
  {
    method: 'put',
    path: '/rotators/{path}',
    id: 'putRotator',
    tag: 'rotators',
    summary: 'Let a secret rotate by itself, or change how',
    description:
      'A secret that is not there gets its first version at once. For the kind account it takes account.rotate and account.reveal on that account too. docs/rotators.md has the requests of webhooks.',
    body: z.strictObject({
      kind: z.enum(ROTATOR_KINDS).openapi({ description: KIND_ABOUT }),
      field: z
        .string()
        .min(1)
        .max(128)
        .optional()
        .openapi({ description: 'The member of the data that changes; the whole secret when absent.' }),
      length: z.int().min(1).max(CHARACTERS_MAX).optional(),
      alphabet: z.string().max(CHARACTERS_MAX).optional(),
      account: name.optional(),
      webhook: webhook.optional(),
      notify: webhook.optional().openapi({ description: 'Is told of every new version.' }),
      every: duration
        .optional()
        .openapi({ description: 'Only when somebody asks, or the account changes, when absent.' }),
      grace: duration
        .optional()
        .openapi({ description: 'How long the version before stays readable; a day when absent.' }),
    }),
    bodyExample: { kind: 'password', length: 48, every: '30d', grace: '1d' },
    answers: {
      200: { about: 'It was changed.', schema: rotator, example: ROTATOR },
      201: { about: 'It was created.', schema: rotator, example: ROTATOR },
    },
    errors: ['conflict', 'integrity'],
  },
  async ({ vault, call, param, body }) => {
    const { every: periodSeconds, grace: graceSeconds, ...config } = body;
    const stored = await putRotatorAndRotate(vault, call, parsePath(param), { ...config, periodSeconds, graceSeconds });
    return json(stored.created ? 201 : 200, shape(stored));
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/rotators/{path}',
    id: 'deleteRotator',
    tag: 'rotators',
    summary: 'Let a secret rotate no more',
    answers: { 204: { about: 'The secret stays as it is.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => {
    await deleteRotator(vault, call, parsePath(param));
    return noContent();
  },
);

export const rotate = endpoint(
  {
    method: 'post',
    path: '/rotators/{path}/rotate',
    id: 'rotateSecret',
    tag: 'rotators',
    summary: 'Rotate a secret now',
    description: 'What fails is answered, and is tried again by the vault.',
    answers: { 200: { about: 'It has a new version.', schema: rotator, example: { ...ROTATOR, version: 5 } } },
    errors: ['not_found', 'conflict', 'backend_failed', 'integrity'],
  },
  async ({ vault, call, param }) => json(200, shape(await rotateSecret(vault, call, parsePath(param)))),
);
