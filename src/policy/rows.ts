/**
 * The rows of a round of reads: who asks and what is asked for, as far as they are known (known.ts), and the rest from the
 * database in one round trip, which is known from then on.
 */
import { LIMITS } from '../config.ts';
import type { ParsedToken } from '../crypto/token.ts';
import { inOneTrip, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { cachedDataKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { type AccessRow, readAccess } from './access.ts';
import type { Known } from './known.ts';
import { unpackVersions, type VersionRow } from './opened.ts';
import { hasRate } from './rate.ts';

/** `version` 0 is the current one. */
export type Reading = { readonly token: ParsedToken; readonly path: string; readonly version: number };

/** Larger envelopes are read one by one, and each time, which bounds what a round holds in memory. */
const SHARED_ENVELOPE_BYTES_MAX = 16 * 1024;
const ENVELOPE_BYTES_MAX = LIMITS.secretBytesMax + 1024;

/** What is known of a tenant, if anything is. */
export type KnownOf = (tenant: TenantId) => Known | undefined;

/** Under which count, and when, rows of a tenant were thought to stand that were not read. */
export type Under = { readonly changes: number; readonly now: Timestamp };

/**
 * Who asks and what is asked for, for each reading: as far as it is known, and the rest from the database, which is then
 * known. `under` has the tenants of which anything was known.
 */
export async function rowsOf(vault: Vault, tx: Tx, readings: readonly Reading[], knownOf: KnownOf) {
  const names = readings.map(({ token }) => nameOf(token));
  const rowOfToken = new Map<string, AccessRow>();
  const rowOfReading: (VersionRow | undefined)[] = new Array(readings.length).fill(undefined);
  const tokensToRead = new Map<string, ParsedToken>();
  const toRead: number[] = [];
  const under = new Map<string, Under>();
  let known: Known | undefined;
  let now: Timestamp = '';
  for (let i = 0; i < readings.length; i += 1) {
    const reading = readings[i]!;
    const tenant = reading.token.tenantId as TenantId;
    if (i === 0 || readings[i - 1]!.token.tenantId !== tenant) {
      known = knownOf(tenant);
      now = known?.now() ?? '';
    }
    const name = names[i]!;
    const version = known?.version(versionName(reading));
    const isKnown = version !== undefined && opensNow(vault, reading, version, now);
    if (isKnown) rowOfReading[i] = version;
    else toRead.push(i);
    const row = known?.token(name);
    if (known && (isKnown || row) && !under.has(tenant)) under.set(tenant, { changes: known.changes, now });
    if (rowOfToken.has(name) || tokensToRead.has(name)) continue;
    if (row) rowOfToken.set(name, { ...row, now });
    else tokensToRead.set(name, reading.token);
  }
  const rowOfAsker = () => names.map((name) => rowOfToken.get(name));
  if (tokensToRead.size === 0 && toRead.length === 0) return { rowOfAsker: rowOfAsker(), rowOfReading, under };
  const asked = toRead.map((i) => readings[i]!);
  const [accessRows, versions] = await inOneTrip(
    tokensToRead.size === 0 ? NO_ROWS : readAccess(tx, [...tokensToRead.values()]),
    asked.length === 0 ? NOTHING_READ : readVersions(tx, asked),
  );
  for (const row of accessRows) {
    rowOfToken.set(nameOf(row), row);
    if (isKept(row)) knownOf(row.tenantId as TenantId)?.keepToken(nameOf(row), row, row.changes);
  }
  for (const [at, reading] of asked.entries()) {
    const row = versions!.rows[at];
    rowOfReading[toRead[at]!] = row;
    const isSmall = row?.envelope && row.envelope.length <= SHARED_ENVELOPE_BYTES_MAX;
    const { tenantId } = reading.token;
    if (!isSmall || versions!.changes === undefined || tenantId !== asked[0]!.token.tenantId) continue;
    knownOf(tenantId as TenantId)?.keepVersion(versionName(reading), row, versions!.changes);
  }
  return { rowOfAsker: rowOfAsker(), rowOfReading, under };
}

const NO_ROWS: Promise<AccessRow[]> = Promise.resolve([]);
const NOTHING_READ = Promise.resolve(undefined);

/** What is sealed or comes too fast is told without an entry, so nothing would say that it still is so. */
const isKept = (row: AccessRow) => !row.sealed && !hasRate(row);

/** A path holds no line feed. */
const versionName = ({ path, version }: Reading) => (version === 0 ? path : `${version}\n${path}`);

/** Whether a version that is known has not expired, and its keys are in memory: one that is gone may have been destroyed. */
function opensNow(vault: Vault, { token }: Reading, row: VersionRow, now: Timestamp): boolean {
  const hasKey = (version: number) => cachedDataKey(vault, token.tenantId as TenantId, version) !== undefined;
  if (row.expiresAt !== null && row.expiresAt <= now) return false;
  return hasKey(row.keyVersion) && (row.metadataKeyVersion === null || hasKey(row.metadataKeyVersion));
}

/** A token id names a token in its tenant only: one that claims another tenant is another token. */
const nameOf = ({ tenantId, tokenId }: { readonly tenantId: string; readonly tokenId: string }) =>
  `${tenantId}.${tokenId}`;

/**
 * What is asked for: a row for each reading whose secret and version are there and readable, and how often what reads rest on had
 * changed in the first one's tenant. Tenant ids and paths hold no line feed, so that lists of them need no quoting.
 */
export async function readVersions(
  tx: Tx,
  readings: readonly Reading[],
): Promise<{ readonly rows: (VersionRow | undefined)[]; readonly changes: number | undefined }> {
  const largest = readings.length === 1 ? ENVELOPE_BYTES_MAX : SHARED_ENVELOPE_BYTES_MAX;
  const tenants = readings.map((reading) => reading.token.tenantId).join('\n');
  const paths = readings.map((reading) => reading.path).join('\n');
  const versions = readings.map((reading) => reading.version).join('\n');
  const [answer] = await tx<{ packed: Uint8Array | null; changes: number | null }[]>`
    SELECT h.changes, (SELECT string_agg(record_send(ROW(r.member::int, s.secret_id, v.version, v.key_version, v.kind, v.content_type, v.envelope,
                                      v.created_at, v.expires_at, m.key_version, m.envelope)), '')
    FROM unnest(string_to_array(${tenants}, E'\\n'), string_to_array(${paths}, E'\\n'), string_to_array(${versions}, E'\\n')::int[])
         WITH ORDINALITY AS r (tenant_id, path, version, member),
    LATERAL (SELECT secret_id, current_version FROM secrets
             WHERE tenant_id = r.tenant_id AND path = r.path LIMIT 1) s,
    LATERAL (SELECT version, key_version, kind, content_type, created_at, expires_at,
                    CASE WHEN octet_length(envelope) <= ${largest} THEN envelope END AS envelope
             FROM secret_versions WHERE tenant_id = r.tenant_id AND secret_id = s.secret_id
               AND version = CASE r.version WHEN 0 THEN s.current_version ELSE r.version END
               AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > bulla.now()) LIMIT 1) v
    LEFT JOIN LATERAL (SELECT key_version, envelope FROM secret_metadata
                       WHERE tenant_id = r.tenant_id AND secret_id = s.secret_id LIMIT 1) m ON true) AS packed
    FROM (VALUES (${readings[0]!.token.tenantId})) AS first (tenant_id) LEFT JOIN audit_heads h USING (tenant_id)`;
  return { rows: unpackVersions(answer!.packed, readings.length), changes: answer!.changes ?? undefined };
}
