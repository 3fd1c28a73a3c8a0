/**
 * An opened secret version as JSON, written by hand.
 *
 * `data` is spliced as the text that was stored, so integers beyond 2^53 and the order of keys survive. The bytes of a
 * document are copied once and never become a string. A path needs no escaping, because a canonical one has nothing to
 * escape.
 */
import { z } from '@hono/zod-openapi';
import type { OpenedVersion } from '../../policy/opened.ts';
import { secretPath, time } from './schema.ts';

export const openedSchema = z
  .object({
    path: secretPath,
    version: z.int(),
    kind: z.enum(['data', 'text', 'bytes']),
    data: z.looseObject({}).optional().openapi({ description: 'When kind is data: the object as it was received.' }),
    text: z.string().optional(),
    bytes: z.string().optional().openapi({ description: 'Base64.', format: 'byte' }),
    content_type: z.string().optional(),
    created_at: time,
    expires_at: time.nullable(),
    metadata: z.record(z.string(), z.string()),
  })
  .openapi('Secret');

export const OPENED_EXAMPLE = {
  path: 'prod/web/db',
  version: 3,
  kind: 'data',
  data: { url: 'postgres://web@db/web', password: 'a new one every month' },
  created_at: '2026-01-02T03:04:05.678901Z',
  expires_at: null,
  metadata: { owner: 'team-web' },
} as const;

/** The pieces of `{"path":…,"metadata":…}`, to be joined. */
export function openedParts(opened: OpenedVersion): Uint8Array[] {
  const { path, version, kind, contentType, createdAt, expiresAt, metadata } = opened;
  const typed = contentType === null ? '' : `,"content_type":${JSON.stringify(contentType)}`;
  const expires = expiresAt === null ? 'null' : `"${expiresAt}"`;
  const head = `{"path":"${path}","version":${version},"kind":"${kind}","${kind}":`;
  const tail = `${typed},"created_at":"${createdAt}","expires_at":${expires},"metadata":`;
  return [Buffer.from(head), jsonOf(opened), Buffer.from(tail), metadata ?? NO_METADATA, CLOSE];
}

/** The whole in one piece. */
export function openedJson(opened: OpenedVersion): Buffer {
  return Buffer.concat(openedParts(opened));
}

const NO_METADATA = Buffer.from('{}');
const CLOSE = Buffer.from('}');

function jsonOf({ kind, body }: OpenedVersion): Uint8Array {
  if (kind === 'data') return body;
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  return kind === 'text'
    ? Buffer.from(JSON.stringify(bytes.toString('utf8')))
    : Buffer.from(`"${bytes.toString('base64')}"`);
}
