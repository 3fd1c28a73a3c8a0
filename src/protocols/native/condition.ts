/**
 * ETag, If-Match and If-None-Match (RFC 9110 §8.8.3, §13.1) over version numbers.
 *
 * A condition that cannot be kept exactly is refused: a weak tag, a list or `*` on a write would each turn a guarded
 * write into one that overwrites. On a read a tag that does not fit only costs the answer.
 */
import { LIMITS } from '../../config.ts';
import { VaultError } from '../../errors.ts';
import type { Exchange } from '../protocol.ts';

const STRONG = /^"([1-9][0-9]{0,9})"$/;

/** The version that If-Match names, 0 for `If-None-Match: *`, or `inBody`. Throws `invalid_request` for anything else. */
export function expectedVersion({ incoming }: Exchange, inBody?: number): number | undefined {
  const { 'if-match': match, 'if-none-match': noneMatch } = incoming.headers;
  const given = [matched(match), absent(noneMatch), inBody].filter((version) => version !== undefined);
  if (given.length > 1) {
    throw new VaultError('invalid_request', 'give one condition only: If-Match, If-None-Match or cas');
  }
  return given[0];
}

function matched(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const version = Number(STRONG.exec(header)?.[1] ?? 0);
  if (version < 1 || version > LIMITS.versionMax) {
    throw new VaultError('invalid_request', 'If-Match: expected one version in double quotes, such as "3"');
  }
  return version;
}

function absent(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  if (header !== '*')
    throw new VaultError('invalid_request', 'If-None-Match: on a write only * is taken: it must not exist');
  return 0;
}

/** Whether the client has this answer already: RFC 9110 §13.1.2, weak comparison. */
export function isFresh({ incoming }: Exchange, etag: string): boolean {
  const header = incoming.headers['if-none-match'];
  if (header === undefined) return false;
  if (header === etag || header === '*') return true;
  return header.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag);
}

export function notModified(etag: string): Response {
  return new Response(null, { status: 304, headers: { ETag: etag } });
}
