/**
 * Fetching many secrets in one request: what an application does at start-up. One commit, one audit entry per secret.
 * Named secrets are read as single ones are (policy/read.ts), beside the fetches of others.
 */
import { LIMITS } from '../config.ts';
import type { TenantId, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { checkApproved, type OpenedVersion, openVersion, unpackVersions, type VersionRow } from '../policy/opened.ts';
import { type Act, type Permit, permit } from '../policy/permit.ts';
import { readSecrets } from '../policy/read.ts';
import type { Vault } from '../vault.ts';
import type { SecretPath, SecretPrefix } from './path.ts';
import { secretAsk } from './row.ts';

/** All of `paths` or nothing; or what lies under `prefixes` and may be read. */
export type FetchAsk = { readonly paths: readonly SecretPath[] } | { readonly prefixes: readonly SecretPrefix[] };

/** Current versions, in path order. Throws `not_found` and `forbidden` for paths, `too_large`, and what the gate throws. */
export async function fetchSecrets(vault: Vault, call: Call, ask: FetchAsk): Promise<readonly OpenedVersion[]> {
  if ('prefixes' in ask) {
    checkCount(ask.prefixes.length);
    return fetchUnder(vault, call, ask.prefixes);
  }
  const paths = [...new Set(ask.paths)].sort();
  checkCount(paths.length);
  return readSecrets(vault, call, paths, () => fetchAlone(vault, call, paths));
}

/** The way of those that cannot be given as things are: what is wrong is told, or an approval redeemed. */
function fetchAlone(vault: Vault, call: Call, paths: readonly SecretPath[]): Promise<OpenedVersion[]> {
  const wanted = paths.map((path) => ({ ...secretAsk('secret.read', path), subject: 'current' }));
  return permit(vault, call, wanted, async (tx, { tenant, approved }) => {
    const opened = await openAll(vault, tx, tenant, paths, true);
    for (const one of opened) checkApproved(approved, one);
    return recorded(opened);
  });
}

function fetchUnder(vault: Vault, call: Call, prefixes: readonly SecretPrefix[]): Promise<OpenedVersion[]> {
  const wanted = prefixes.map(
    (prefix) => ({ action: 'secret.read', resource: `secret:${prefix}`, anywhere: true }) as const,
  );
  return permit(vault, call, wanted, async (tx, granted) => {
    const paths = await under(tx, granted, prefixes);
    const opened = await openAll(vault, tx, granted.tenant, paths, false);
    for (const one of opened) checkApproved(granted.approved, one);
    return recorded(opened);
  });
}

function checkCount(asked: number): void {
  if (asked === 0) throw new VaultError('invalid_request', 'paths, prefixes: expected at least one.');
  if (asked > LIMITS.fetchSecretsMax) throw tooMany(asked);
}

function recorded(opened: OpenedVersion[]): Act<OpenedVersion[]> {
  const notes = opened.map(({ path, version }) => ({ resource: `secret:${path}`, version }));
  return { value: opened, notes: notes.length > 0 ? notes : [{ details: { secrets: 0 } }] };
}

async function under(tx: Tx, { tenant, allows }: Permit, prefixes: readonly SecretPrefix[]): Promise<string[]> {
  const found = new Set<string>();
  for (const prefix of prefixes) {
    const from = prefix === '' ? '' : `${prefix}/`;
    const rows = await tx<{ path: string }[]>`
      SELECT path FROM secrets WHERE tenant_id = ${tenant} AND path > ${from} AND path < ${`${from}\x7f`}
      ORDER BY path LIMIT ${SCANNED_MAX + 1}`;
    if (rows.length > SCANNED_MAX) {
      throw new VaultError(
        'too_large',
        `There are more than ${SCANNED_MAX} secrets under ${prefix || 'the root'}: fetch smaller prefixes.`,
      );
    }
    for (const { path } of rows) if (allows({ action: 'secret.read', resource: `secret:${path}` })) found.add(path);
  }
  if (found.size > LIMITS.fetchSecretsMax) throw tooMany(found.size);
  return [...found].sort();
}

const SCANNED_MAX = 10_000;

function tooMany(count: number): VaultError {
  return new VaultError(
    'too_large',
    `One fetch gives at most ${LIMITS.fetchSecretsMax} secrets; this one asks for ${count}: use smaller prefixes.`,
  );
}

async function openAll(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  paths: readonly string[],
  all: boolean,
): Promise<OpenedVersion[]> {
  // One round trip; no ciphertext is read when there is too much of it.
  const [answer] = await tx<{ bytes: number; packed: Uint8Array | null }[]>`
    SELECT size.bytes, (
      SELECT string_agg(record_send(ROW(r.place::int, s.secret_id, v.version, v.key_version, v.kind, v.content_type,
                                        v.envelope, v.created_at, v.expires_at, m.key_version, m.envelope)), '')
      FROM unnest(${[...paths]}::text[]) WITH ORDINALITY AS r (path, place)
      JOIN secrets s ON s.tenant_id = ${tenant} AND s.path = r.path
      JOIN secret_versions v
           ON v.tenant_id = s.tenant_id AND v.secret_id = s.secret_id AND v.version = s.current_version
      LEFT JOIN secret_metadata m ON m.tenant_id = s.tenant_id AND m.secret_id = s.secret_id
      WHERE size.bytes <= ${LIMITS.fetchBytesMax}
        AND v.deleted_at IS NULL AND (v.expires_at IS NULL OR v.expires_at > bulla.now())) AS packed
    FROM (SELECT coalesce(sum(octet_length(v.envelope)), 0)::bigint AS bytes FROM secrets s JOIN secret_versions v
               ON v.tenant_id = s.tenant_id AND v.secret_id = s.secret_id AND v.version = s.current_version
          WHERE s.tenant_id = ${tenant} AND s.path = ANY (${[...paths]})) size`;
  const { bytes, packed } = answer!;
  if (bytes > LIMITS.fetchBytesMax) throw tooLarge(bytes);
  const rows = unpackVersions(packed, paths.length);
  if (all) requireEvery(paths, rows);
  const opened: OpenedVersion[] = [];
  for (const [i, row] of rows.entries()) {
    if (row) opened.push(await openVersion(vault, tx, tenant, paths[i]!, row));
  }
  return opened;
}

function requireEvery(paths: readonly string[], rows: readonly (VersionRow | undefined)[]): void {
  const missing = paths.filter((_, i) => rows[i] === undefined);
  if (missing.length > 0) {
    throw new VaultError(
      'not_found',
      `There is no readable secret ${missing.slice(0, 5).join(', ')}${missing.length > 5 ? ' …' : ''}.`,
    );
  }
}

function tooLarge(bytes: number): VaultError {
  return new VaultError(
    'too_large',
    `One fetch gives at most ${LIMITS.fetchBytesMax} bytes; this one asks for ${bytes}: fetch in parts.`,
  );
}
