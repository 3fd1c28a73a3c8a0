/**
 * Storing versions: of one secret, or of several of a tenant in one statement.
 *
 * current_version only grows. What is encrypted names the data key version that opens it by a foreign key: a writer that
 * was overtaken by that key's destruction is refused by the database and runs again under the new one.
 */
import { LIMITS } from '../config.ts';
import { seal } from '../crypto/envelope.ts';
import type { Key } from '../crypto/keys.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Permit } from '../policy/permit.ts';
import { activeDataKey, underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { type MountSettings, settingsOf } from './mount.ts';
import type { SecretPath } from './path.ts';
import { checkMetadata, openMetadataOf, type SecretRow, secretAsk, storeMetadata } from './row.ts';

export type SecretKind = 'data' | 'text' | 'bytes';

export type NewVersion = {
  readonly kind: SecretKind;
  /** JSON text of an object, UTF-8 text, or bytes, as `kind` says. At most LIMITS.secretBytesMax. */
  readonly body: Uint8Array;
  readonly contentType?: string | undefined;
  /** The version that must be the current one; 0: there must be none. */
  readonly expect?: number | undefined;
  readonly ttlSeconds?: number | undefined;
  readonly expiresAt?: Timestamp | undefined;
  /** Replaces the custom metadata. Like `versionsKept`, it is changed by who may change it, written with a version or not. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly versionsKept?: number | undefined;
  /** It is the only version that is kept: where it was written, secrets have no others. */
  readonly alone?: true | undefined;
  /** So many versions are kept at least, whatever is set. */
  readonly keptAtLeast?: number | undefined;
  /** The answer is to say the custom metadata, to whoever may read it. */
  readonly tellMetadata?: true | undefined;
};

export type Written = {
  readonly created: boolean;
  readonly path: string;
  readonly version: number;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp | null;
  /** Of the secret, as it is now, where `tellMetadata` asked for it. */
  readonly metadata?: Readonly<Record<string, string>>;
};

export function checkVersion({ body, ttlSeconds, expiresAt, metadata, versionsKept }: NewVersion): void {
  if (body.length > LIMITS.secretBytesMax) {
    throw new VaultError(
      'too_large',
      `A secret holds at most ${LIMITS.secretBytesMax} bytes; this one has ${body.length}.`,
    );
  }
  if (ttlSeconds !== undefined && expiresAt !== undefined) {
    throw new VaultError('invalid_request', 'Give either ttl or expires_at, not both.');
  }
  if (metadata) checkMetadata(metadata);
  if (versionsKept !== undefined) checkVersionsKept(versionsKept);
}

export function checkVersionsKept(count: number): void {
  if (!Number.isInteger(count) || count < 1 || count > LIMITS.secretVersionsKeptMax) {
    throw new VaultError(
      'invalid_request',
      `versions_kept: expected a whole number from 1 to ${LIMITS.secretVersionsKeptMax}.`,
    );
  }
}

/** Who writes: somebody with leave to, or the vault itself. */
export type Writer = Pick<Permit, 'tenant' | 'userId' | 'allows'>;

/** A version to be stored, of a secret that is locked. */
export type Insertion = {
  readonly writer: Writer;
  readonly path: SecretPath;
  readonly secret: SecretRow;
  readonly asked: NewVersion;
};

/** What versions are stored under: the settings of their paths, and the key. */
export type Ground = { readonly settingsAt: (path: SecretPath) => MountSettings; readonly key: Key };

export async function groundOf(vault: Vault, tx: Tx, tenant: TenantId, paths: readonly SecretPath[]): Promise<Ground> {
  const [settingsAt, key] = await Promise.all([settingsOf(tx, tenant, paths), activeDataKey(vault, tx, tenant)]);
  return { settingsAt, key };
}

/** Throws `version_mismatch`, `invalid_request` and `conflict`, as `insertVersions` gives them. */
export async function insertVersion(vault: Vault, tx: Tx, tenant: TenantId, one: Insertion): Promise<Written> {
  const ground = await groundOf(vault, tx, tenant, [one.path]);
  const [written] = await insertVersions(vault, tx, tenant, ground, [one]);
  if (written instanceof VaultError) throw written;
  return written!;
}

/** At most one for each secret. Gives in its place what was written, or why it cannot be; nothing of that is stored. */
export async function insertVersions(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  { settingsAt, key }: Ground,
  insertions: readonly Insertion[],
): Promise<(Written | VaultError)[]> {
  const refused = insertions.map((one) => refusalOf(one, settingsAt(one.path)));
  const rows = insertions.flatMap(({ writer, path, secret, asked }, i) => {
    if (refused[i]) return [];
    const settings = settingsAt(path);
    const version = secret.currentVersion + 1;
    const kept = asked.alone ? 1 : (asked.versionsKept ?? secret.versionsKept);
    const most = kept ?? settings.versionsKept ?? vault.config.secretVersionsKept;
    const envelope = seal(key, { label: 'secret', tenant, secret: secret.secretId, version }, asked.body);
    return {
      ...{ id: secret.secretId, version, kept, kind: asked.kind, contentType: asked.contentType ?? null },
      ...{ envelope: Buffer.from(envelope).toString('base64'), writtenBy: writer.userId },
      ...{ expiresAt: asked.expiresAt ?? null, ttlSeconds: asked.ttlSeconds ?? null },
      deleteAfter: shorter(secret.deleteAfterSeconds, settings.deleteAfterSeconds),
      prunedTo: version - Math.max(most, asked.keptAtLeast ?? 1),
    };
  });
  const times = rows.length > 0 ? await insertRows(tx, tenant, key.version, rows) : new Map<string, Times>();
  await storeMetadataOf(vault, tx, tenant, insertions, refused);
  const told = await tellMetadataOf(vault, tx, tenant, insertions, refused);
  return insertions.map(({ path, secret }, i) => {
    const version = secret.currentVersion + 1;
    const metadata = told(i);
    return (
      refused[i] ?? {
        ...{ created: version === 1, path, version, ...times.get(secret.secretId)! },
        ...(metadata === undefined ? {} : { metadata }),
      }
    );
  });
}

function refusalOf({ path, secret, asked }: Insertion, settings: MountSettings): VaultError | undefined {
  if (asked.expect === undefined && (secret.casRequired || settings.casRequired)) return casRequired(path);
  if (secret.currentVersion >= LIMITS.versionMax) {
    return new VaultError('conflict', `${path} has had as many versions as can be counted.`);
  }
  return versionMismatch(path, secret.currentVersion, asked.expect);
}

/** Why a version is not stored when another one is current than was expected. */
export function versionMismatch(path: string, current: number, expect: number | undefined): VaultError | undefined {
  if (expect === undefined || expect === current) return undefined;
  return new VaultError(
    'version_mismatch',
    `${path} is at version ${current}, not ${expect}: read it again and repeat the change.`,
    { details: { current_version: current } },
  );
}

function casRequired(path: string): VaultError {
  return new VaultError(
    'invalid_request',
    `cas: ${path} is only written by who says which version is current: read it and send its version, or 0 for a new one.`,
    { details: { reason: 'cas_required' } },
  );
}

const shorter = (a: number | null, b: number | null) => (a === null || b === null ? (a ?? b) : Math.min(a, b));

type Row = {
  readonly id: string;
  readonly version: number;
  readonly kept: number | null;
  readonly kind: SecretKind;
  readonly contentType: string | null;
  /** In base64: as bytes it would be sent in hex, half as long again. */
  readonly envelope: string;
  readonly writtenBy: string;
  readonly expiresAt: Timestamp | null;
  readonly ttlSeconds: number | null;
  readonly deleteAfter: number | null;
  /** Versions up to here are not kept any more. */
  readonly prunedTo: number;
};

type Times = { readonly createdAt: Timestamp; readonly expiresAt: Timestamp | null };

/** The times of what was written, by the ids of the secrets. */
async function insertRows(
  tx: Tx,
  tenant: TenantId,
  keyVersion: number,
  rows: readonly Row[],
): Promise<ReadonlyMap<string, Times>> {
  const all = <K extends keyof Row>(field: K) => rows.map((row) => row[field]);
  const old = rows.filter(({ prunedTo }) => prunedTo >= 1);
  // Arrays that are looked into, not joined: a planner that knows nothing of the tables would read a whole tenant.
  const isOld = tx`
    tenant_id = ${tenant} AND secret_id = ANY (${old.map(({ id }) => id)}::text[])
    AND version <= (${old.map(({ prunedTo }) => prunedTo)}::int[])[array_position(${old.map(({ id }) => id)}::text[], secret_id)]`;
  const written = await underActiveKey(
    tx<(Times & { id: string })[]>`
      WITH clock AS MATERIALIZED (SELECT bulla.now() AS now), parents AS (
        UPDATE secrets SET current_version = current_version + 1, updated_at = now,
               versions_kept = (${all('kept')}::int[])[array_position(${all('id')}::text[], secret_id)]
        FROM clock WHERE tenant_id = ${tenant} AND secret_id = ANY (${all('id')}::text[])
      ), pruned AS (DELETE FROM secret_versions WHERE ${isOld}), forgotten AS (DELETE FROM destroyed_versions WHERE ${isOld})
      INSERT INTO secret_versions
        (tenant_id, secret_id, version, key_version, kind, content_type, envelope, created_at, created_by, expires_at)
      SELECT ${tenant}, id, version, ${keyVersion}, kind, content_type, decode(envelope, 'base64'), now, written_by,
             least(expires_at, now + make_interval(secs => ttl), now + make_interval(secs => delete_after))
      FROM clock, unnest(
        ${all('id')}::text[], ${all('version')}::int[], ${all('kind')}::text[], ${all('contentType')}::text[],
        ${all('envelope')}::text[], ${all('writtenBy')}::text[], ${all('expiresAt')}::timestamptz[],
        ${all('ttlSeconds')}::bigint[], ${all('deleteAfter')}::bigint[]
      ) AS a (id, version, kind, content_type, envelope, written_by, expires_at, ttl, delete_after)
      RETURNING secret_id AS id, created_at AS "createdAt", expires_at AS "expiresAt"`,
  );
  return new Map(written.map(({ id, ...times }) => [id, times]));
}

async function storeMetadataOf(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  insertions: readonly Insertion[],
  refused: readonly (VaultError | undefined)[],
): Promise<void> {
  for (const [i, { secret, asked }] of insertions.entries()) {
    if (asked.metadata && !refused[i]) await storeMetadata(vault, tx, tenant, secret.secretId, asked.metadata);
  }
}

/** The custom metadata that the answer to an insertion is to say; undefined: none is to be said. */
async function tellMetadataOf(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  insertions: readonly Insertion[],
  refused: readonly (VaultError | undefined)[],
): Promise<(place: number) => Record<string, string> | undefined> {
  const tells = insertions.map(
    ({ writer, path, asked }, i) =>
      !refused[i] && asked.tellMetadata === true && writer.allows(secretAsk('secret.metadata-read', path)),
  );
  const ids = insertions.filter((_, i) => tells[i]).map(({ secret }) => secret.secretId);
  if (ids.length === 0) return () => undefined;
  const opened = await openMetadataOf(vault, tx, tenant, ids);
  return (i) => (tells[i] ? (opened.get(insertions[i]!.secret.secretId) ?? {}) : undefined);
}
