/**
 * Listing secrets by prefix, filtered by policy before paging, never with values.
 *
 * Not recursive, a listing shows what lies directly under the prefix and each folder once; a folder is shown when
 * something in it may be listed. The scan goes over the index in path order and skips the rest of a folder it has shown.
 */
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { encodeCursor, type Page, type PageAsk, parsePage } from '../db/page.ts';
import type { Call } from '../policy/access.ts';
import { type Permit, permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import type { SecretPrefix } from './path.ts';

export type Listed =
  | { readonly path: string; readonly folder: false; readonly version: number; readonly updatedAt: Timestamp }
  | { readonly path: string; readonly folder: true };

export type ListAsk = PageAsk & { readonly prefix: SecretPrefix; readonly recursive: boolean };

type Row = { readonly path: string; readonly version: number; readonly updatedAt: Timestamp };

const CHUNK_ROWS = 500;
/** A page ends early, with a cursor, rather than look at more rows than this. */
const SCANNED_ROWS_MAX = 20_000;
/** Sorts after every character of a path and cannot be part of one. */
const AFTER_ALL = '\x7f';

/** One page in path order. A page may be short, or empty, with a cursor to go on from. */
export async function listSecrets(vault: Vault, call: Call, ask: ListAsk): Promise<Page<Listed>> {
  const { limit, after } = parsePage(ask);
  const { prefix, recursive } = ask;
  const wanted = { action: 'secret.list', resource: `secret:${prefix}`, anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, granted) => {
    const page = await scan(tx, granted, prefix === '' ? '' : `${prefix}/`, recursive, limit, after);
    return { value: page, notes: [{ details: { shown: page.items.length } }] };
  });
}

async function scan(
  tx: Tx,
  granted: Permit,
  under: string,
  recursive: boolean,
  limit: number,
  start: string,
): Promise<Page<Listed>> {
  const items: Listed[] = [];
  let after = start;
  let shown = start;
  for (let scanned = 0; scanned < SCANNED_ROWS_MAX; scanned += CHUNK_ROWS) {
    const rows = await chunk(tx, granted.tenant, under, after);
    for (const row of rows) {
      if (row.path <= after) continue;
      const visible = granted.allows({ action: 'secret.list', resource: `secret:${row.path}` });
      // There is a next page when something visible is on it: what is hidden is neither counted nor named by a cursor.
      if (visible && items.length === limit) return { items, nextCursor: encodeCursor(shown) };
      after = row.path;
      if (!visible) continue;
      const slash = recursive ? -1 : row.path.indexOf('/', under.length);
      if (slash === -1) {
        items.push({ path: row.path, folder: false, version: row.version, updatedAt: row.updatedAt });
      } else {
        const path = row.path.slice(0, slash + 1);
        items.push({ path, folder: true });
        after = path + AFTER_ALL;
      }
      shown = after;
    }
    if (rows.length < CHUNK_ROWS) return { items, nextCursor: null };
  }
  return { items, nextCursor: encodeCursor(after) };
}

async function chunk(tx: Tx, tenant: TenantId, under: string, after: string): Promise<Row[]> {
  return tx<Row[]>`
    SELECT path, current_version AS version, updated_at AS "updatedAt" FROM secrets
    WHERE tenant_id = ${tenant} AND path > ${after > under ? after : under} AND path < ${under + AFTER_ALL}
    ORDER BY path LIMIT ${CHUNK_ROWS}`;
}
