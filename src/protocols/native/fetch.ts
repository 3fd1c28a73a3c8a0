/** Many secrets in one request: what an application does when it starts. */
import { createHash } from 'node:crypto';
import { z } from '@hono/zod-openapi';
import { LIMITS } from '../../config.ts';
import type { OpenedVersion } from '../../policy/opened.ts';
import { type FlatSource, flatten, toDotenv } from '../../secret/dotenv.ts';
import { fetchSecrets } from '../../secret/fetch.ts';
import type { SecretPrefix } from '../../secret/path.ts';
import { isFresh, notModified } from './condition.ts';
import { endpoint } from './endpoint.ts';
import { OPENED_EXAMPLE, openedSchema, openedText } from './opened.ts';
import { secretPath, secretPrefix } from './schema.ts';

const FORMATS = ['json', 'flat', 'env'] as const;
type Format = (typeof FORMATS)[number];

const body = z
  .strictObject({
    paths: z.array(secretPath).min(1).max(LIMITS.fetchSecretsMax).optional(),
    prefixes: z.array(secretPrefix).min(1).max(LIMITS.fetchSecretsMax).optional(),
    format: z.enum(FORMATS).optional(),
  })
  .refine(
    ({ paths, prefixes }) => (paths === undefined) !== (prefixes === undefined),
    'expected either paths or prefixes',
  )
  .openapi('Fetch');

export const fetch = endpoint(
  {
    method: 'post',
    path: '/fetch',
    id: 'fetchSecrets',
    tag: 'secrets',
    summary: 'Fetch many secrets at once',
    description:
      '`paths` is all or nothing; `prefixes` gives what lies under them and may be read. `flat` and `env` name each ' +
      `value by its path below the prefix and its key. At most ${LIMITS.fetchSecretsMax} secrets and 32 MiB.`,
    conditions: ['If-None-Match'],
    body,
    bodyExample: { prefixes: ['prod/web'], format: 'json' },
    answers: {
      200: {
        about: 'The current versions, in path order.',
        schema: z.union([
          z.object({ items: z.array(openedSchema) }),
          z.record(z.string(), z.string()).openapi({ description: 'With format flat.' }),
        ]),
        example: { items: [OPENED_EXAMPLE] },
        also: { 'text/plain': "DB_URL=postgres://web@db/web\nDB_PASSWORD='a new one every month'\n" },
        headers: { ETag: 'Changes when any of these secrets does.' },
      },
      304: { about: 'Nothing has changed since that ETag.', headers: { ETag: 'The same.' } },
    },
    errors: ['not_found', 'integrity', 'too_large'],
  },
  async ({ vault, call, exchange, body: { paths, prefixes, format = 'json' } }) => {
    const opened = await fetchSecrets(vault, call, paths ? { paths } : { prefixes: prefixes! });
    const etag = etagOf(opened, format);
    if (isFresh(exchange, etag)) return notModified(etag);
    const { contentType, content } = render(opened, prefixes ?? [], format);
    return new Response(content, { headers: { 'Content-Type': contentType, ETag: etag } });
  },
);

/** Over everything in the answer but the values, which never change within a version. */
function etagOf(opened: readonly OpenedVersion[], format: Format): string {
  const hash = createHash('sha256').update(format);
  for (const { path, version, createdAt, expiresAt, metadata } of opened) {
    hash.update(`\n${path} ${version} ${createdAt} ${expiresAt} ${metadata?.length ?? 0} `).update(metadata ?? '');
  }
  return `"${hash.digest('base64url')}"`;
}

function render(
  opened: readonly OpenedVersion[],
  prefixes: readonly SecretPrefix[],
  format: Format,
): { contentType: string; content: string | Uint8Array<ArrayBuffer> } {
  if (format === 'json') return { contentType: 'application/json', content: itemsOf(opened) };
  const flat = flatten(opened.map((secret) => flatSource(secret, prefixes)));
  if (format === 'flat') return { contentType: 'application/json', content: JSON.stringify(flat) };
  return { contentType: 'text/plain; charset=utf-8', content: toDotenv(flat) };
}

function itemsOf(opened: readonly OpenedVersion[]): Buffer<ArrayBuffer> {
  return Buffer.from(`{"items":[${opened.map(openedText).join(',')}]}`, 'latin1');
}

/** Named below the longest prefix that it was asked for by; whole when it was asked for by its path. */
function flatSource({ path, kind, body: value }: OpenedVersion, prefixes: readonly SecretPrefix[]): FlatSource {
  const above = prefixes.filter((prefix) => prefix === '' || path.startsWith(`${prefix}/`));
  const prefix = above.reduce<string>((longest, next) => (next.length > longest.length ? next : longest), '');
  if (kind === 'bytes') return { path, prefix, kind, bytes: value };
  const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8');
  return kind === 'data' ? { path, prefix, kind, data: text } : { path, prefix, kind, text };
}
