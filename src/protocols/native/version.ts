/** The versions of a secret: history, undeleting, destroying. Never values. */
import { z } from '@hono/zod-openapi';
import { parsePath } from '../../secret/path.ts';
import { destroyVersions, listVersions, undeleteVersions, type VersionInfo } from '../../secret/version.ts';
import { endpoint, json, noContent } from './endpoint.ts';
import { secretPath, time, versionsBody } from './schema.ts';

const info = z
  .object({
    version: z.int(),
    state: z.enum(['readable', 'deleted', 'expired', 'destroyed']),
    kind: z.enum(['data', 'text', 'bytes']),
    created_at: time,
    created_by: z.string().openapi({ description: 'The id of the user who wrote it.' }),
    expires_at: time.nullable(),
    deleted_at: time.nullable(),
    destroyed_at: time.nullable(),
  })
  .openapi('VersionInfo');

const shape = (item: VersionInfo) => ({
  version: item.version,
  state: item.state,
  kind: item.kind,
  created_at: item.createdAt,
  created_by: item.createdBy,
  expires_at: item.expiresAt,
  deleted_at: item.deletedAt,
  destroyed_at: item.destroyedAt,
});

export const list = endpoint(
  {
    method: 'get',
    path: '/versions/{path}',
    id: 'listVersions',
    tag: 'versions',
    summary: 'List the versions of a secret',
    answers: {
      200: {
        about: 'Newest first.',
        schema: z.object({ path: secretPath, current_version: z.int(), items: z.array(info) }).openapi('History'),
        example: {
          path: 'prod/web/db',
          current_version: 1,
          items: [
            {
              version: 1,
              state: 'readable',
              kind: 'data',
              created_at: '2026-01-02T03:04:05.678901Z',
              created_by: 'p7q2xk4mz3nb5cde',
              expires_at: null,
              deleted_at: null,
              destroyed_at: null,
            },
          ],
        },
      },
    },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => {
    const history = await listVersions(vault, call, parsePath(param));
    return json(200, { path: history.path, current_version: history.currentVersion, items: history.items.map(shape) });
  },
);

export const undelete = endpoint(
  {
    method: 'post',
    path: '/versions/{path}/undelete',
    id: 'undeleteVersions',
    tag: 'versions',
    summary: 'Bring deleted versions back',
    body: versionsBody,
    bodyExample: { versions: [1, 2] },
    answers: { 204: { about: 'They are readable again, unless they have expired.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param, body }) => {
    await undeleteVersions(vault, call, parsePath(param), body.versions);
    return noContent();
  },
);

export const destroy = endpoint(
  {
    method: 'post',
    path: '/versions/{path}/destroy',
    id: 'destroyVersions',
    tag: 'versions',
    summary: 'Destroy the ciphertext of versions for good',
    body: versionsBody,
    bodyExample: { versions: [1, 2] },
    answers: { 204: { about: 'They are gone from the live database.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param, body }) => {
    await destroyVersions(vault, call, parsePath(param), body.versions);
    return noContent();
  },
);
