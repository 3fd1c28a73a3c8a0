/**
 * Paging: a cursor is the key of the last item shown, in base64url. It carries no rights: whatever it says, row security
 * and policies decide what the next page shows.
 */
import { LIMITS } from '../config.ts';
import { VaultError } from '../errors.ts';

export type PageAsk = { readonly limit?: number | undefined; readonly cursor?: string | undefined };
export type Page<T> = { readonly items: T[]; readonly nextCursor: string | null };

/** The parsed ask: how many, and after which key ('' is before the first). Throws `invalid_request`. */
export function parsePage({ limit = LIMITS.pageDefault, cursor }: PageAsk): { limit: number; after: string } {
  if (!Number.isInteger(limit) || limit < 1 || limit > LIMITS.pageMax) {
    throw new VaultError('invalid_request', `limit: expected a whole number from 1 to ${LIMITS.pageMax}.`);
  }
  return { limit, after: cursor === undefined ? '' : decodeCursor(cursor) };
}

/** The same for versions, newest first: the cursor is a version. */
export function parseVersionsPage(ask: PageAsk): { limit: number; before: number } {
  const { limit, after } = parsePage(ask);
  if (after === '') return { limit, before: LIMITS.versionMax };
  if (/^\d{1,9}$/.test(after)) return { limit, before: Number(after) };
  throw notOurs();
}

/**
 * A page of what `visible` lets through, filled from chunks in key order, so that what is hidden leaves no gap that
 * could be counted. `readChunk` gives up to `limit + 1` rows after a key.
 */
export async function visiblePage<T>(
  ask: PageAsk,
  readChunk: (after: string, rows: number) => Promise<readonly T[]>,
  keyOf: (item: T) => string,
  visible: (item: T) => boolean,
): Promise<Page<T>> {
  const { limit, after } = parsePage(ask);
  const seen: T[] = [];
  let from = after;
  for (;;) {
    const rows = await readChunk(from, limit + 1);
    seen.push(...rows.filter(visible));
    if (seen.length > limit || rows.length <= limit) return pageOf(seen, limit, keyOf);
    from = keyOf(rows.at(-1)!);
  }
}

/** Cuts a page out of rows that were read with one more than the limit. */
export function pageOf<T>(rows: readonly T[], limit: number, keyOf: (item: T) => string): Page<T> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return { items, nextCursor: rows.length > limit && last !== undefined ? encodeCursor(keyOf(last)) : null };
}

export function encodeCursor(key: string): string {
  return Buffer.from(key).toString('base64url');
}

function decodeCursor(cursor: string): string {
  const key = Buffer.from(cursor, 'base64url').toString('utf8');
  if (cursor.length > 1024 || encodeCursor(key) !== cursor || key.includes('\0')) {
    throw notOurs();
  }
  return key;
}

export const notOurs = (): VaultError =>
  new VaultError('invalid_request', 'cursor: expected next_cursor of the page before, unchanged.');
