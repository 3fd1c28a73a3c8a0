/** What is known of a secret beside its versions, and removing it whole. */
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import { type Metadata, patchMetadata, readMetadata, removeSecret } from '../../secret/metadata.ts';
import { parsePath } from '../../secret/path.ts';
import { endpoint, json, noContent } from './endpoint.ts';
import { duration, secretPath, time } from './schema.ts';

const metadata = z
  .object({
    path: secretPath,
    current_version: z.int(),
    versions_kept: z.int(),
    cas_required: z.boolean(),
    delete_after: z
      .int()
      .nullable()
      .openapi({ description: 'Seconds from its writing until a version is not readable.' }),
    created_at: time,
    updated_at: time,
    metadata: z.record(z.string(), z.string()),
  })
  .openapi('Metadata');

const EXAMPLE = {
  path: 'prod/web/db',
  current_version: 3,
  versions_kept: 10,
  cas_required: false,
  delete_after: null,
  created_at: '2026-01-02T03:04:05.678901Z',
  updated_at: '2026-01-02T03:04:05.678901Z',
  metadata: { owner: 'team-web' },
};

const answer = (found: Metadata) =>
  json(200, {
    path: found.path,
    current_version: found.currentVersion,
    versions_kept: found.versionsKept,
    cas_required: found.casRequired,
    delete_after: found.deleteAfterSeconds,
    created_at: found.createdAt,
    updated_at: found.updatedAt,
    metadata: found.metadata,
  });

export const read = endpoint(
  {
    method: 'get',
    path: '/metadata/{path}',
    id: 'readMetadata',
    tag: 'metadata',
    summary: 'Read the metadata and settings of a secret',
    answers: { 200: { about: 'Without the value.', schema: metadata, example: EXAMPLE } },
    errors: ['not_found', 'integrity'],
  },
  async ({ vault, call, param }) => answer(await readMetadata(vault, call, parsePath(param))),
);

export const patch = endpoint(
  {
    method: 'patch',
    path: '/metadata/{path}',
    id: 'patchMetadata',
    tag: 'metadata',
    summary: 'Change the metadata and settings of a secret',
    body: z
      .strictObject({
        metadata: z
          .record(z.string().min(1).max(128), z.string().nullable())
          .optional()
          .openapi({ description: 'A merge patch: null removes a member.', example: { owner: 'team-web', old: null } }),
        versions_kept: z.int().min(1).max(LIMITS.secretVersionsKeptMax).optional(),
        cas_required: z
          .boolean()
          .optional()
          .openapi({ description: 'Whether a write must say which version is current.' }),
        delete_after: duration
          .nullable()
          .optional()
          .openapi({
            description: 'How long after its writing a new version is readable; null: for good.',
            anyOf: [
              { type: 'string', pattern: '^[0-9]{1,10}[smhd]?$' },
              { type: 'integer', minimum: 1 },
              { type: 'null' },
            ],
          }),
      })
      .refine((change) => Object.keys(change).length > 0, 'expected at least one field to change'),
    bodyExample: { metadata: { owner: 'team-web', old: null }, versions_kept: 20 },
    bodyTypes: ['application/merge-patch+json', 'application/json'],
    answers: { 200: { about: 'As they are now.', schema: metadata, example: EXAMPLE } },
    errors: ['not_found', 'integrity'],
  },
  async ({ vault, call, param, body }) => {
    const change = {
      metadata: body.metadata,
      versionsKept: body.versions_kept,
      casRequired: body.cas_required,
      deleteAfterSeconds: body.delete_after,
    };
    return answer(await patchMetadata(vault, call, parsePath(param), change));
  },
);

export const remove = endpoint(
  {
    method: 'delete',
    path: '/metadata/{path}',
    id: 'removeSecret',
    tag: 'metadata',
    summary: 'Remove a secret with all its versions for good',
    answers: { 204: { about: 'Only the audit log still names it.' } },
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => {
    await removeSecret(vault, call, parsePath(param));
    return noContent();
  },
);
