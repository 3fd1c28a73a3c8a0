/**
 * The row of a secret: finding, locking and making it, and its metadata, which is sealed.
 */
import { LIMITS } from '../config.ts';
import { open, seal } from '../crypto/envelope.ts';
import { randomId } from '../crypto/token.ts';
import { RetryTransaction, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Action } from '../policy/action.ts';
import { activeDataKey, dataKey, underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import type { SecretPath } from './path.ts';

export type SecretRow = {
  readonly secretId: string;
  readonly currentVersion: number;
  readonly versionsKept: number | null;
  readonly casRequired: boolean;
  readonly deleteAfterSeconds: number | null;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export const secretAsk = (action: Action, path: SecretPath) => ({ action, resource: `secret:${path}` }) as const;

/** The secret's row, locked until the commit. Throws `not_found`. */
export async function lockSecret(tx: Tx, tenant: TenantId, path: SecretPath): Promise<SecretRow> {
  return (await findSecret(tx, tenant, path, 'lock')) ?? fail(noSecret(path));
}

/** The secret's row, to look at. Throws `not_found`. */
export async function secretAt(tx: Tx, tenant: TenantId, path: SecretPath): Promise<SecretRow> {
  return (await findSecret(tx, tenant, path)) ?? fail(noSecret(path));
}

const noSecret = (path: string) => new VaultError('not_found', `There is no secret ${path}.`);

const SECRET_COLUMNS = `secret_id AS "secretId", current_version AS "currentVersion", versions_kept AS "versionsKept",
  cas_required AS "casRequired", delete_after_seconds AS "deleteAfterSeconds", created_at AS "createdAt",
  updated_at AS "updatedAt"`;

async function findSecret(tx: Tx, tenant: TenantId, path: SecretPath, lock?: 'lock'): Promise<SecretRow | undefined> {
  const [row] = await tx<SecretRow[]>`
    SELECT ${tx.unsafe(SECRET_COLUMNS)} FROM secrets WHERE tenant_id = ${tenant} AND path = ${path} ${lock ? tx`FOR UPDATE` : tx``}`;
  return row;
}

/** The secret's row, locked; made when it is not there, without a version. */
export async function findOrInsert(tx: Tx, tenant: TenantId, path: SecretPath): Promise<SecretRow> {
  // Somebody else made it meanwhile and has committed, and it was removed again.
  return (await findOrInsertAll(tx, tenant, [path])).get(path) ?? fail(new RetryTransaction());
}

/**
 * The rows of several secrets, each path once. They are locked in the order of their paths, so that two who lock several
 * never wait for each other. One that somebody else makes and removes meanwhile is missing.
 */
export async function findOrInsertAll(
  tx: Tx,
  tenant: TenantId,
  paths: readonly SecretPath[],
): Promise<ReadonlyMap<SecretPath, SecretRow>> {
  const rows = await lockAll(tx, tenant, paths);
  const missing = paths.filter((path) => !rows.has(path)).sort();
  if (missing.length === 0) return rows;
  const made = await tx<(SecretRow & { path: SecretPath })[]>`
    INSERT INTO secrets (tenant_id, secret_id, path, current_version, created_at, updated_at)
    SELECT ${tenant}, id, path, 0, bulla.now(), bulla.now()
    FROM unnest(${missing.map(randomId)}::text[], ${missing}::text[]) AS made (id, path)
    ON CONFLICT (tenant_id, path) DO NOTHING RETURNING path, ${tx.unsafe(SECRET_COLUMNS)}`;
  for (const { path, ...row } of made) rows.set(path, row);
  const others = missing.filter((path) => !rows.has(path));
  if (others.length === 0) return rows;
  return new Map([...rows, ...(await lockAll(tx, tenant, others))]);
}

async function lockAll(tx: Tx, tenant: TenantId, paths: readonly SecretPath[]): Promise<Map<SecretPath, SecretRow>> {
  const rows = await tx<(SecretRow & { path: SecretPath })[]>`
    SELECT path, ${tx.unsafe(SECRET_COLUMNS)} FROM secrets
    WHERE tenant_id = ${tenant} AND path = ANY (${paths as SecretPath[]}::text[]) ORDER BY path FOR UPDATE`;
  return new Map(rows.map(({ path, ...row }) => [path, row]));
}

function fail(error: Error): never {
  throw error;
}

export function checkMetadata(metadata: Readonly<Record<string, string>>): void {
  if (Buffer.byteLength(JSON.stringify(metadata)) > LIMITS.metadataBytesMax) {
    throw new VaultError('too_large', `metadata: expected at most ${LIMITS.metadataBytesMax} bytes of JSON.`);
  }
}

/** Seals and stores the custom metadata of a secret. */
export async function storeMetadata(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  secretId: string,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const key = await activeDataKey(vault, tx, tenant);
  const envelope = seal(
    key,
    { label: 'secret-metadata', tenant, secret: secretId },
    Buffer.from(JSON.stringify(metadata)),
  );
  await underActiveKey(tx`
    INSERT INTO secret_metadata (tenant_id, secret_id, key_version, envelope, updated_at)
    VALUES (${tenant}, ${secretId}, ${key.version}, ${envelope}, bulla.now())
    ON CONFLICT (tenant_id, secret_id) DO UPDATE
      SET key_version = excluded.key_version, envelope = excluded.envelope, updated_at = excluded.updated_at`);
}

/** The custom metadata of a secret; none is an empty object. */
export async function openMetadata(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  secret: string,
): Promise<Record<string, string>> {
  return (await openMetadataOf(vault, tx, tenant, [secret])).get(secret) ?? {};
}

/** The custom metadata of those of the secrets that have some, by their ids. */
export async function openMetadataOf(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  secrets: readonly string[],
): Promise<ReadonlyMap<string, Record<string, string>>> {
  const rows = await tx<{ secret: string; keyVersion: number; envelope: Uint8Array }[]>`
    SELECT secret_id AS secret, key_version AS "keyVersion", envelope FROM secret_metadata
    WHERE tenant_id = ${tenant} AND secret_id = ANY (${secrets as string[]}::text[])`;
  const opened = new Map<string, Record<string, string>>();
  for (const { secret, keyVersion, envelope } of rows) {
    const key = await dataKey(vault, tx, tenant, keyVersion);
    const text = Buffer.from(open(key, { label: 'secret-metadata', tenant, secret }, envelope)).toString('utf8');
    opened.set(secret, JSON.parse(text));
  }
  return opened;
}

/** Removes every secret of a tenant that is being deleted, a batch at a time. Returns how many went. */
export async function removeSecrets(tx: Tx, tenant: TenantId, limit: number): Promise<number> {
  const rows = await tx`
    DELETE FROM secrets WHERE tenant_id = ${tenant} AND secret_id IN (
      SELECT secret_id FROM secrets WHERE tenant_id = ${tenant} LIMIT ${limit}) RETURNING secret_id`;
  return rows.length;
}

export async function countSecrets(tx: Tx, tenant: TenantId): Promise<number> {
  const [row] = await tx<{ count: number }[]>`SELECT count(*) FROM secrets WHERE tenant_id = ${tenant}`;
  return row!.count;
}
