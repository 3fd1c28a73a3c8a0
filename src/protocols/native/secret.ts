/** Secrets: putting, reading, patching, deleting and listing them, and moving one. */
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import type { OpenedVersion } from '../../policy/opened.ts';
import { readSecret } from '../../policy/read.ts';
import type { Written } from '../../secret/insert.ts';
import { type Listed, listSecrets } from '../../secret/list.ts';
import { moveSecret } from '../../secret/move.ts';
import { parsePath } from '../../secret/path.ts';
import { deleteVersions, patchSecret, putSecret } from '../../secret/secret.ts';
import type { PlainAnswer, PlainRoute } from '../protocol.ts';
import { expectedVersion, isFresh, notModified } from './condition.ts';
import { BASE, callOf, endpoint, json, noContent, page } from './endpoint.ts';
import { anyObject, newVersion, newVersionSchema, rawVersion } from './new-version.ts';
import { OPENED_EXAMPLE, openedJson, openedSchema, openedText } from './opened.ts';
import { listOf, pageFields, secretPath, secretPrefix, time, version, versionList } from './schema.ts';

const written = z
  .object({ path: secretPath, version: z.int(), created_at: time, expires_at: time.nullable() })
  .openapi('WrittenVersion');
const WRITTEN_EXAMPLE = {
  path: 'prod/web/db',
  version: 1,
  created_at: '2026-01-02T03:04:05.678901Z',
  expires_at: null,
};
const etag = { ETag: 'The version in double quotes.' };

function answerWritten({ created, path, version, createdAt, expiresAt }: Written): Response {
  const headers = { 'Content-Type': 'application/json', ETag: `"${version}"` };
  return json(created ? 201 : 200, { path, version, created_at: createdAt, expires_at: expiresAt }, headers);
}

export const put = endpoint(
  {
    method: 'put',
    path: '/secrets/{path}',
    id: 'putSecret',
    tag: 'secrets',
    summary: 'Store a new version of a secret',
    description:
      'As application/json: an object with one of `data`, `text` and `bytes`. As text/plain: a text. As any other type ' +
      'but form data: bytes with that content type. `cas: 0` and `If-None-Match: *` say that there must be none yet.',
    conditions: ['If-Match', 'If-None-Match'],
    body: newVersionSchema,
    bodyExample: { data: { url: 'postgres://web@db/web', password: 'a new one every month' }, cas: 0 },
    rawBodies: { 'text/plain': 'hello', 'application/octet-stream': '…' },
    answers: {
      200: { about: 'A further version.', schema: written, example: { ...WRITTEN_EXAMPLE, version: 4 }, headers: etag },
      201: { about: 'The first version.', schema: written, example: WRITTEN_EXAMPLE, headers: etag },
    },
    errors: ['version_mismatch', 'conflict', 'not_found'],
  },
  async (request) => {
    const path = parsePath(request.param);
    const version = request.json ? newVersion(request.body, request.json) : await rawVersion(request);
    const expect = expectedVersion(request.exchange, version.expect);
    return answerWritten(await putSecret(request.vault, request.call, path, { ...version, expect }));
  },
);

export const read = endpoint(
  {
    method: 'get',
    path: '/secrets/{path}',
    id: 'readSecret',
    tag: 'secrets',
    summary: 'Read a secret',
    query: z.strictObject({ version: version.optional() }),
    conditions: ['If-None-Match'],
    answers: {
      200: {
        about: 'The current version, or the one asked for.',
        schema: openedSchema,
        example: OPENED_EXAMPLE,
        headers: etag,
      },
      304: { about: 'The client has this version already.', headers: etag },
    },
    errors: ['not_found', 'integrity'],
  },
  async ({ vault, call, exchange, param, query }) => {
    const opened = await readSecret(vault, call, parsePath(param), query.version ?? 0);
    const etag = `"${opened.version}"`;
    if (isFresh(exchange, etag)) return notModified(etag);
    const headers = { 'Content-Type': 'application/json', ETag: etag };
    return new Response(openedJson(opened), { headers });
  },
);

const READ_ROUTE = BASE + read.spec.path;

/** The same for a client that asks for the current version and has none yet. */
export const plainRead: PlainRoute = {
  prefix: `${BASE}/secrets/`,
  answer: (vault, exchange, param) =>
    readSecret(vault, callOf(exchange, READ_ROUTE), parsePath(param), 0).then(asPlain),
};

function asPlain(opened: OpenedVersion): PlainAnswer {
  return { headers: ['Content-Type', 'application/json', 'ETag', `"${opened.version}"`], body: openedText(opened) };
}

export const patch = endpoint(
  {
    method: 'patch',
    path: '/secrets/{path}',
    id: 'patchSecret',
    tag: 'secrets',
    summary: 'Change some members of a secret’s data',
    description: '`data` is an RFC 7396 merge patch of the current version; the result is a new version.',
    conditions: ['If-Match'],
    body: z.strictObject({
      data: anyObject.openapi({ description: 'null removes a member.', example: { password: 'the next' } }),
      cas: z.int().min(1).max(LIMITS.versionMax).optional(),
    }),
    bodyExample: { data: { password: 'the next', old: null }, cas: 3 },
    bodyTypes: ['application/merge-patch+json', 'application/json'],
    answers: {
      200: { about: 'The new version.', schema: written, example: { ...WRITTEN_EXAMPLE, version: 4 }, headers: etag },
    },
    errors: ['version_mismatch', 'conflict', 'not_found', 'integrity'],
  },
  async ({ vault, call, exchange, param, body, json: received }) => {
    const patch = received!.raw('data')!;
    const expect = expectedVersion(exchange, body.cas);
    return answerWritten(await patchSecret(vault, call, parsePath(param), { patch, expect }));
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/secrets/{path}',
    id: 'deleteSecret',
    tag: 'secrets',
    summary: 'Delete versions so that they can be undeleted',
    query: z.strictObject({
      versions: versionList.optional().openapi({ description: 'The current one when absent.' }),
    }),
    answers: { 204: { about: 'They are not readable any more.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param, query }) => {
    await deleteVersions(vault, call, parsePath(param), query.versions);
    return noContent();
  },
);

const listed = z
  .union([
    z.object({ path: z.string(), folder: z.literal(false), version: z.int(), updated_at: time }),
    z.object({ path: z.string().openapi({ example: 'prod/web/' }), folder: z.literal(true) }),
  ])
  .openapi('ListedSecret');

const shapeListed = (item: Listed) =>
  item.folder
    ? { path: item.path, folder: true }
    : { path: item.path, folder: false, version: item.version, updated_at: item.updatedAt };

export const list = endpoint(
  {
    method: 'get',
    path: '/secrets',
    id: 'listSecrets',
    tag: 'secrets',
    summary: 'List the names of secrets',
    description:
      'Never values. What the caller may not list is not there. A page may be short, or empty, with a cursor.',
    query: z.strictObject({
      prefix: secretPrefix.optional(),
      recursive: z
        .enum(['true', 'false'])
        .optional()
        .transform((text) => text === 'true')
        .openapi({ type: 'boolean', example: true }),
      ...pageFields,
    }),
    answers: {
      200: {
        about: 'In path order. Not recursive, what lies deeper shows as its folder.',
        schema: listOf(listed),
        example: {
          items: [
            { path: 'prod/db', folder: false, version: 3, updated_at: '2026-01-02T03:04:05.678901Z' },
            { path: 'prod/web/', folder: true },
          ],
          next_cursor: null,
        },
      },
    },
    errors: [],
  },
  async ({ vault, call, query }) =>
    page(await listSecrets(vault, call, { ...query, prefix: query.prefix ?? '' }), shapeListed),
);

export const move = endpoint(
  {
    method: 'post',
    path: '/move',
    id: 'moveSecret',
    tag: 'secrets',
    summary: 'Move a secret with all its versions',
    description: 'Needs to read and delete where it is and to write where it goes.',
    body: z.strictObject({ from: secretPath, to: secretPath }),
    bodyExample: { from: 'prod/web/db', to: 'prod/web/database' },
    answers: {
      200: {
        about: 'Where it is now.',
        schema: z.object({ path: secretPath, version: z.int() }).openapi('Moved'),
        example: { path: 'prod/web/database', version: 3 },
      },
    },
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, body }) => json(200, await moveSecret(vault, call, body.from, body.to)),
);
