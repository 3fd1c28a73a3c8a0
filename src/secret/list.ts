/**
 * Listing secrets by prefix, filtered by policy before paging, never with values.
 *
 * Not recursive, a listing shows what lies directly under the prefix and each folder once; a folder is shown when
 * something in it may be listed. The scan goes over the index in path order and skips the rest of a folder it has shown.
 *
 * A cursor is the last path that was shown. Where a page ends among paths that are hidden, it is one of theirs, sealed:
 *
 *     cursor = base64url(shown path) / "~" base64url(envelope of a hidden path)
 */
import { LIMITS } from '../config.ts';
import { envelopeKeyVersion, open, seal } from '../crypto/envelope.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { encodeCursor, notOurs, type Page, type PageAsk, parsePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Permit, permit } from '../policy/permit.ts';
import { activeDataKey, dataKey } from '../tenant/keyring.ts';
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
/** No character of base64url. */
const SEALED = '~';
const SEALED_LENGTH_MAX = 1024;
/** Sorts after every character of a path and cannot be part of one. */
const AFTER_ALL = '\x7f';

/** One page in path order. A page may be short, or empty, with a cursor to go on from. */
export async function listSecrets(vault: Vault, call: Call, ask: ListAsk): Promise<Page<Listed>> {
  const { prefix, recursive, cursor } = ask;
  const sealed = cursor?.startsWith(SEALED) ? cursor.slice(SEALED.length) : undefined;
  const { limit, after } = parsePage(sealed === undefined ? ask : { limit: ask.limit });
  const wanted = { action: 'secret.list', resource: `secret:${prefix}`, anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, granted) => {
    const start = sealed === undefined ? after : await openCursor(vault, tx, granted.tenant, sealed);
    const page = await scan(vault, tx, granted, prefix === '' ? '' : `${prefix}/`, recursive, limit, start);
    return { value: page, notes: [{ details: { shown: page.items.length } }] };
  });
}

async function scan(
  vault: Vault,
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
  const nextCursor = after === shown ? encodeCursor(shown) : await sealCursor(vault, tx, granted.tenant, after);
  return { items, nextCursor };
}

async function sealCursor(vault: Vault, tx: Tx, tenant: TenantId, path: string): Promise<string> {
  const key = await activeDataKey(vault, tx, tenant);
  return SEALED + Buffer.from(seal(key, { label: 'secret-cursor', tenant }, Buffer.from(path))).toString('base64url');
}

/** It opens as long as the data key is there that it was sealed with: who meets the end of that key begins again. */
async function openCursor(vault: Vault, tx: Tx, tenant: TenantId, text: string): Promise<string> {
  if (text.length > SEALED_LENGTH_MAX) throw notOurs();
  const envelope = Buffer.from(text, 'base64url');
  try {
    const version = envelopeKeyVersion(envelope);
    if (version > LIMITS.versionMax) throw notOurs();
    const key = await dataKey(vault, tx, tenant, version);
    return Buffer.from(open(key, { label: 'secret-cursor', tenant }, envelope)).toString();
  } catch (error) {
    const unopened = error instanceof VaultError && (error.code === 'integrity' || error.code === 'not_found');
    throw unopened ? notOurs() : error;
  }
}

async function chunk(tx: Tx, tenant: TenantId, under: string, after: string): Promise<Row[]> {
  return tx<Row[]>`
    SELECT path, current_version AS version, updated_at AS "updatedAt" FROM secrets
    WHERE tenant_id = ${tenant} AND path > ${after > under ? after : under} AND path < ${under + AFTER_ALL}
    ORDER BY path LIMIT ${CHUNK_ROWS}`;
}
