/**
 * An opened secret version as JSON, written by hand.
 *
 * `data` is spliced as the text that was stored, so integers beyond 2^53 and the order of keys survive. A path needs no
 * escaping, because a canonical one has nothing to escape.
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

/** `{"path":…,"metadata":…}`, one character a byte: what an answer is made of in one piece. */
export function openedText(opened: OpenedVersion): string {
  const { path, version, kind, contentType, createdAt, expiresAt, metadata } = opened;
  const typed = contentType === null ? '' : `,"content_type":${utf8(JSON.stringify(contentType))}`;
  const expires = expiresAt === null ? 'null' : `"${expiresAt}"`;
  const said = metadata === undefined ? '{}' : view(metadata).toString('latin1');
  return `{"path":"${path}","version":${version},"kind":"${kind}","${kind}":${valueText(opened)}${typed},"created_at":"${createdAt}","expires_at":${expires},"metadata":${said}}`;
}

/** The same as bytes. */
export function openedJson(opened: OpenedVersion): Buffer<ArrayBuffer> {
  return Buffer.from(openedText(opened), 'latin1');
}

function valueText({ kind, body }: OpenedVersion): string {
  const bytes = view(body);
  if (kind === 'data') return bytes.toString('latin1');
  return kind === 'text' ? utf8(JSON.stringify(bytes.toString('utf8'))) : `"${bytes.toString('base64')}"`;
}

/** Text as its UTF-8, one character a byte. */
const utf8 = (text: string) => Buffer.from(text, 'utf8').toString('latin1');

const view = (bytes: Uint8Array) =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
