/**
 * A new version of a secret as it comes in: JSON with one of three kinds of value, or a body that is the value itself.
 *
 * `data` is taken as the received text. Form data is refused, because it is what curl sends when the header was
 * forgotten, and a secret with a content type by accident is found when it is needed.
 */
import { isUtf8 } from 'node:buffer';
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import { VaultError } from '../../errors.ts';
import type { NewVersion } from '../../secret/insert.ts';
import { mediaType, type Request } from './endpoint.ts';
import type { StrictJson } from './json.ts';
import { duration, instant } from './schema.ts';

const CONTENT_TYPE =
  /^[\w!#$&^.+-]{1,64}\/[\w!#$&^.+-]{1,64}(?:[ \t]*;[ \t]*[\w!#$&^.+-]{1,64}=(?:[\w!#$&^.+-]{1,128}|"[\w !#$&^.+:/?=-]{1,128}"))*$/;
const CONTENT_TYPE_LENGTH_MAX = 255;

const contentType = z
  .string()
  .max(CONTENT_TYPE_LENGTH_MAX)
  .regex(CONTENT_TYPE, 'expected a media type such as application/x-pem-file')
  .openapi({ example: 'application/x-pem-file' });

const metadata = z.record(z.string().min(1).max(128), z.string()).openapi({ example: { owner: 'team-web' } });

/** A JSON object of any content: its text is what counts. */
export const anyObject = z
  .custom<object>((value) => typeof value === 'object' && value !== null && !Array.isArray(value), 'expected an object')
  .openapi({ type: 'object', additionalProperties: true });

export const newVersionSchema = z
  .strictObject({
    data: anyObject.optional().openapi({ description: 'Stored and answered as the text that was received.' }),
    text: z.string().optional(),
    bytes: z.string().optional().openapi({ description: 'Base64 with padding.', format: 'byte' }),
    content_type: contentType.optional(),
    cas: z
      .int()
      .min(0)
      .max(LIMITS.versionMax)
      .optional()
      .openapi({ description: 'The current version; 0: there must be none.' }),
    ttl: duration.optional(),
    expires_at: instant.optional(),
    metadata: metadata.optional().openapi({ description: 'Whoever may write the metadata may bring it along.' }),
    versions_kept: z
      .int()
      .min(1)
      .max(LIMITS.secretVersionsKeptMax)
      .optional()
      .openapi({ description: 'As metadata: it takes `secret.metadata-write` too.' }),
  })
  .refine(
    ({ data, text, bytes }) => [data, text, bytes].filter((value) => value !== undefined).length === 1,
    'expected exactly one of data, text and bytes',
  )
  .refine(({ data, content_type }) => data === undefined || content_type === undefined, {
    path: ['content_type'],
    message: 'data is JSON; leave it out',
  })
  .refine(({ ttl, expires_at }) => ttl === undefined || expires_at === undefined, {
    path: ['expires_at'],
    message: 'expected either ttl or expires_at',
  })
  .openapi('NewVersion');

export function newVersion(body: z.output<typeof newVersionSchema>, json: StrictJson): NewVersion {
  const common = {
    contentType: body.content_type,
    expect: body.cas,
    ttlSeconds: body.ttl,
    expiresAt: body.expires_at,
    metadata: body.metadata,
    versionsKept: body.versions_kept,
  };
  if (body.bytes !== undefined) return { kind: 'bytes', body: fromBase64(body.bytes), ...common };
  if (body.text !== undefined) return { kind: 'text', body: Buffer.from(body.text), ...common };
  return { kind: 'data', body: Buffer.from(json.raw('data')!), ...common };
}

/** One spelling for some bytes: the padded standard alphabet. */
function fromBase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') === text) return bytes;
  throw new VaultError('invalid_request', 'bytes: expected base64 of the standard alphabet with padding.');
}

const FORMS = new Set(['application/x-www-form-urlencoded', 'multipart/form-data', 'application/merge-patch+json']);

/** A body that is the value itself. */
export async function rawVersion({ exchange, host }: Request): Promise<NewVersion> {
  const contentType = exchange.incoming.headers['content-type'] ?? '';
  const essence = contentType.split(';', 1)[0]!.trim().toLowerCase();
  if (!isRawType(contentType, essence)) {
    throw new VaultError(
      'unsupported_media_type',
      'send application/json, text/plain in UTF-8, or the content type of the bytes, such as application/octet-stream',
    );
  }
  const body = await host.readBody(exchange);
  if (essence !== 'text/plain') return { kind: 'bytes', body, contentType };
  if (isUtf8(body)) return { kind: 'text', body };
  throw new VaultError('invalid_request', 'the body is not valid UTF-8; send bytes as application/octet-stream');
}

function isRawType(contentType: string, essence: string): boolean {
  if (contentType.length > CONTENT_TYPE_LENGTH_MAX || !CONTENT_TYPE.test(contentType)) return false;
  if (essence === 'text/plain') return mediaType(contentType) !== undefined;
  return essence !== 'application/json' && !FORMS.has(essence);
}
