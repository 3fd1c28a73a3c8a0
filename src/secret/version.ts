/** The versions of a secret: history, undeleting, destroying. */
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import type { SecretKind } from './insert.ts';
import type { SecretPath } from './path.ts';
import { lockSecret, secretAsk, secretAt } from './row.ts';
import { checkVersions, type Missing, notesOf } from './secret.ts';

export type VersionInfo = {
  readonly version: number;
  readonly state: 'readable' | 'deleted' | 'expired' | 'destroyed';
  readonly kind: SecretKind;
  readonly createdAt: Timestamp;
  /** The id of the user who wrote it. */
  readonly createdBy: string;
  readonly expiresAt: Timestamp | null;
  readonly deletedAt: Timestamp | null;
  readonly destroyedAt: Timestamp | null;
};

export type History = {
  readonly path: string;
  readonly currentVersion: number;
  readonly items: readonly VersionInfo[];
};

/** Every version that is kept, newest first, without values. */
export async function listVersions(vault: Vault, call: Call, path: SecretPath): Promise<History> {
  return permit(vault, call, secretAsk('secret.history', path), async (tx, { tenant }) => {
    const { secretId, currentVersion } = await secretAt(tx, tenant, path);
    return { value: { path, currentVersion, items: await versionsOf(tx, tenant, secretId) } };
  });
}

/** Newest first. */
export async function versionsOf(tx: Tx, tenant: TenantId, secretId: string): Promise<VersionInfo[]> {
  return tx<VersionInfo[]>`
      SELECT version, kind, created_at AS "createdAt", created_by AS "createdBy", expires_at AS "expiresAt",
             deleted_at AS "deletedAt", NULL::timestamptz AS "destroyedAt",
             CASE WHEN deleted_at IS NOT NULL THEN 'deleted' WHEN expires_at <= bulla.now() THEN 'expired'
                  ELSE 'readable' END AS state
      FROM secret_versions WHERE tenant_id = ${tenant} AND secret_id = ${secretId}
      UNION ALL
      SELECT version, kind, created_at, created_by, NULL, NULL, destroyed_at, 'destroyed'
      FROM destroyed_versions WHERE tenant_id = ${tenant} AND secret_id = ${secretId}
      ORDER BY version DESC`;
}

/** Brings deleted versions back. Throws `not_found` when one is destroyed or was never there. */
export async function undeleteVersions(
  vault: Vault,
  call: Call,
  path: SecretPath,
  versions: readonly number[],
  missing: Missing = 'refuse',
): Promise<void> {
  const wanted = checkVersions(versions);
  await permit(vault, call, secretAsk('secret.undelete', path), async (tx, { tenant }) => {
    const { secretId } = await lockSecret(tx, tenant, path);
    const rows = await tx<{ version: number }[]>`
      UPDATE secret_versions SET deleted_at = NULL
      WHERE tenant_id = ${tenant} AND secret_id = ${secretId} AND version = ANY (${wanted}::int[])
      RETURNING version`;
    return { value: undefined, notes: notesOf(path, wanted, rows, missing) };
  });
}

/** The ciphertext is gone for good; that the version was there stays known. Repeating it changes nothing. */
export async function destroyVersions(
  vault: Vault,
  call: Call,
  path: SecretPath,
  versions: readonly number[],
  missing: Missing = 'refuse',
): Promise<void> {
  const wanted = checkVersions(versions);
  const ask = { ...secretAsk('secret.destroy', path), subject: [...wanted].sort((a, b) => a - b).join(',') };
  await permit(vault, call, ask, async (tx, { tenant }) => {
    const { secretId } = await lockSecret(tx, tenant, path);
    const rows = await tx<{ version: number }[]>`
      WITH gone AS (
        DELETE FROM secret_versions
        WHERE tenant_id = ${tenant} AND secret_id = ${secretId} AND version = ANY (${wanted}::int[])
        RETURNING version, kind, created_at, created_by
      ), kept AS (
        INSERT INTO destroyed_versions (tenant_id, secret_id, version, kind, created_at, created_by, destroyed_at)
        SELECT ${tenant}, ${secretId}, version, kind, created_at, created_by, bulla.now() FROM gone RETURNING version
      )
      SELECT version FROM kept
      UNION SELECT version FROM destroyed_versions
            WHERE tenant_id = ${tenant} AND secret_id = ${secretId} AND version = ANY (${wanted}::int[])`;
    return { value: undefined, notes: notesOf(path, wanted, rows, missing) };
  });
}
