/**
 * Making, rotating and destroying the data keys of tenants, and making system keys. Owns the tables of keys, with
 * root-key.ts.
 *
 * Rotation never blocks readers: the new version is there for writes in the same commit that demotes the old one, and
 * the old one goes on opening.
 */
import { Key, type SecretBytes } from '../crypto/keys.ts';
import { RetryTransaction, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { type Page, type PageAsk, pageOf, parseVersionsPage } from '../db/page.ts';
import { isForeignKeyViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { ageColumns } from './age.ts';
import { activeRootKey, dataKeyContext, forgetDataKeys, type SystemPurpose, systemKeyContext } from './keyring.ts';
import { dependsOn, type EnvelopeTable } from './reencrypt.ts';

export type DataKeyInfo = {
  readonly version: number;
  readonly state: 'active' | 'decrypt_only' | 'destroyed';
  readonly fingerprint: string;
  readonly createdAt: Timestamp;
  readonly destroyedAt: Timestamp | null;
  readonly rootVersion: number | null;
  readonly ageSeconds: number;
  /** When it rotates by itself; null when it does not. */
  readonly dueAt: Timestamp | null;
  /** Stored ciphertexts that this version opens. */
  readonly depends: number;
};

/** Newest first. `stored`: the tables whose ciphertexts count as depending on a version. */
export async function listDataKeys(
  vault: Vault,
  call: Call,
  ask: PageAsk,
  stored: readonly EnvelopeTable[],
): Promise<Page<DataKeyInfo>> {
  const { limit, before } = parseVersionsPage(ask);
  return permit(vault, call, { action: 'key.list', resource: 'key:data' }, async (tx, { tenant }) => {
    const rows = await tx<DataKeyInfo[]>`
      SELECT k.version, k.state, k.fingerprint, k.created_at AS "createdAt", k.destroyed_at AS "destroyedAt",
             m.root_version AS "rootVersion", ${dependsOn(tx, stored)} AS depends,
             ${ageColumns(tx, vault.config.dataKeyMaxAgeSeconds)}
      FROM data_keys k LEFT JOIN data_key_material m USING (tenant_id, version)
      WHERE k.tenant_id = ${tenant} AND k.version < ${before}
      ORDER BY k.version DESC LIMIT ${limit + 1}`;
    return { value: pageOf(rows, limit, (key) => String(key.version)) };
  });
}

/**
 * New writes use the new version from the commit on; everything stored still opens. `expected`: the version that must
 * still be the active one.
 */
export async function rotateDataKey(vault: Vault, tx: Tx, tenant: TenantId, expected?: number): Promise<DataKeyInfo> {
  const [current] = await tx<{ version: number }[]>`
    UPDATE data_keys SET state = 'decrypt_only' WHERE tenant_id = ${tenant} AND state = 'active'
      AND ${expected === undefined ? tx`true` : tx`version = ${expected}`} RETURNING version`;
  if (!current) throw new VaultError('conflict', 'Another rotation of this data key is running: look at GET /keys.');
  killpoint('data-key.demoted');
  const key = await insertDataKey(tx, tenant, current.version + 1, await activeRootKey(vault));
  killpoint('data-key.inserted');
  const [age] = await tx<{ ageSeconds: number; dueAt: Timestamp | null }[]>`
    SELECT ${ageColumns(tx, vault.config.dataKeyMaxAgeSeconds)} FROM data_keys k
    WHERE k.tenant_id = ${tenant} AND k.version = ${key.version}`;
  return { ...key, ...age! };
}

/** Destroys a version that nothing depends on any more: its bytes are gone in the commit that says so. */
export async function destroyDataKey(vault: Vault, call: Call, version: number): Promise<void> {
  const ask = { action: 'key.destroy', resource: 'key:data', subject: String(version) } as const;
  const tenant = await permit(vault, call, ask, async (tx, granted) => {
    const [key] = await tx<{ state: string; fingerprint: string }[]>`
      SELECT state, fingerprint FROM data_keys WHERE tenant_id = ${granted.tenant} AND version = ${version} FOR UPDATE`;
    if (!key) throw new VaultError('not_found', `There is no data key version ${version}.`);
    if (key.state === 'active') {
      throw new VaultError('conflict', 'The active data key cannot be destroyed: rotate it first.');
    }
    if (key.state === 'decrypt_only') await destroyVersions(tx, granted.tenant, [version]);
    return { value: granted.tenant, notes: [{ version, details: { fingerprint: key.fingerprint } }] };
  });
  forgetDataKeys(vault, tenant, version);
}

/**
 * Deletes the bytes of versions. The foreign keys of everything encrypted refuse that while a row is left under one:
 * `conflict`, and the transaction is lost. A writer that comes later is refused the same way and runs again.
 */
export async function destroyVersions(tx: Tx, tenant: TenantId, versions: readonly number[]): Promise<void> {
  try {
    await tx`DELETE FROM data_key_material WHERE tenant_id = ${tenant} AND version = ANY (${[...versions]}::int[])`;
  } catch (error) {
    if (!isForeignKeyViolation(error)) throw error;
    throw new VaultError(
      'conflict',
      'Stored ciphertexts still depend on this data key: re-encrypt them first with POST /keys/rotate {"reencrypt": true}.',
    );
  }
  killpoint('reencrypt.material-deleted');
  await tx`
    UPDATE data_keys SET state = 'destroyed', destroyed_at = bulla.now()
    WHERE tenant_id = ${tenant} AND version = ANY (${[...versions]}::int[]) AND state = 'decrypt_only'`;
}

/** The versions below one that are not destroyed: what a re-encryption ends. */
export async function oldVersions(
  tx: Tx,
  tenant: TenantId,
  below: number,
): Promise<{ version: number; fingerprint: string }[]> {
  return tx<{ version: number; fingerprint: string }[]>`
    SELECT version, fingerprint FROM data_keys
    WHERE tenant_id = ${tenant} AND version < ${below} AND state = 'decrypt_only' ORDER BY version`;
}

/**
 * Makes a tenant's data key version; the caller has demoted the one before. Where a root rotation has destroyed the
 * wrapper meanwhile, the transaction runs again under the new one: the caller asks for the wrapper inside of it.
 */
export async function insertDataKey(tx: Tx, tenant: TenantId, version: number, wrapper: Key): Promise<DataKeyInfo> {
  const key = Key.generate(version);
  const root = wrapper.version;
  try {
    const wrapped = wrapper.wrap(dataKeyContext(tenant, version), key);
    const [row] = await tx<{ createdAt: Timestamp }[]>`
      INSERT INTO data_keys (tenant_id, version, state, fingerprint, created_at)
      VALUES (${tenant}, ${version}, 'active', ${key.fingerprint}, bulla.now()) RETURNING created_at AS "createdAt"`;
    await tx`
      INSERT INTO data_key_material (tenant_id, version, root_version, wrapped)
      VALUES (${tenant}, ${version}, ${root}, ${wrapped})`.catch((error: unknown) => {
      throw isForeignKeyViolation(error) ? new RetryTransaction() : error;
    });
    return {
      ...{ version, state: 'active', fingerprint: key.fingerprint, createdAt: row!.createdAt, destroyedAt: null },
      ...{ rootVersion: root, depends: 0, ageSeconds: 0, dueAt: null },
    };
  } finally {
    key.wipe();
  }
}

/** Makes a key of the deployment. */
export async function insertSystemKey(
  tx: Tx,
  purpose: SystemPurpose,
  version: number,
  secret: SecretBytes,
  wrapper: Key,
): Promise<void> {
  await tx`
    INSERT INTO system_keys (purpose, version, state, created_at) VALUES (${purpose}, ${version}, 'active', bulla.now())`;
  await tx`
    INSERT INTO system_key_material (purpose, version, root_version, wrapped)
    VALUES (${purpose}, ${version}, ${wrapper.version}, ${wrapper.wrapSecret(systemKeyContext(purpose, version), secret)})`;
}

/** Destroys every data key of a tenant that is being deleted: its ciphertexts cannot be opened from here on. */
export async function destroyDataKeys(tx: Tx, tenant: TenantId): Promise<number> {
  await tx`UPDATE data_key_material SET wrapped = NULL WHERE tenant_id = ${tenant}`;
  const rows = await tx`
    UPDATE data_keys SET state = 'destroyed', destroyed_at = bulla.now()
    WHERE tenant_id = ${tenant} AND state <> 'destroyed' RETURNING version`;
  return rows.length;
}

/** Removes what is left of a deleted tenant's keys, after everything that they encrypted. */
export async function removeDataKeyMaterial(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM data_key_material WHERE tenant_id = ${tenant}`;
}
