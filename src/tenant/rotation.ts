/**
 * Making and rotating keys: data keys of tenants, the root key, system keys. Owns the tables of keys.
 *
 * Rotation never blocks readers: the new version is there for writes in the same commit that demotes the old one, and
 * the old one goes on opening. A root rotation re-wraps every key and then deletes the old root key's material, which
 * the foreign keys refuse while anything is still wrapped by it.
 */
import { Key, rewrap, type SecretBytes } from '../crypto/keys.ts';
import {
  isForeignKeyViolation,
  isUniqueViolation,
  SYSTEM,
  type TenantId,
  type Timestamp,
  type Tx,
} from '../db/database.ts';
import { type Page, type PageAsk, pageOf, parsePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import {
  activeRootKey,
  dataKeyContext,
  forgetRootKey,
  rootKey,
  rootKeyContext,
  type SystemPurpose,
  systemKeyContext,
} from './keyring.ts';
import { allTenants } from './tenant.ts';

export type DataKeyInfo = {
  readonly version: number;
  readonly state: 'active' | 'decrypt_only' | 'destroyed';
  readonly fingerprint: string;
  readonly createdAt: Timestamp;
  readonly destroyedAt: Timestamp | null;
  readonly rootVersion: number | null;
  /** Stored ciphertexts that this version opens. */
  readonly depends: number;
};

export type RootKeyInfo = {
  readonly version: number;
  readonly state: 'active' | 'retiring' | 'destroyed';
  readonly fingerprint: string;
  readonly seal: string | null;
  readonly createdAt: Timestamp;
  readonly destroyedAt: Timestamp | null;
};

/** Newest first. */
export async function listDataKeys(vault: Vault, call: Call, ask: PageAsk): Promise<Page<DataKeyInfo>> {
  const { limit, after } = parsePage(ask);
  return permit(vault, call, { action: 'key.list', resource: 'key:data' }, async (tx, { tenant }) => {
    const rows = await tx<DataKeyInfo[]>`
      SELECT k.version, k.state, k.fingerprint, k.created_at AS "createdAt", k.destroyed_at AS "destroyedAt",
             m.root_version AS "rootVersion",
             (SELECT count(*) FROM secret_versions v WHERE v.tenant_id = k.tenant_id AND v.key_version = k.version)
             + (SELECT count(*) FROM secret_metadata d WHERE d.tenant_id = k.tenant_id AND d.key_version = k.version)
             AS depends
      FROM data_keys k LEFT JOIN data_key_material m USING (tenant_id, version)
      WHERE k.tenant_id = ${tenant} AND (${after} = '' OR k.version < ${Number(after) || 0})
      ORDER BY k.version DESC LIMIT ${limit + 1}`;
    return { value: pageOf(rows, limit, (key) => String(key.version)) };
  });
}

/** New writes use the new version; everything stored still opens. */
export async function rotateDataKey(vault: Vault, call: Call): Promise<DataKeyInfo> {
  const root = await activeRootVersion(vault);
  return permit(vault, call, { action: 'key.rotate', resource: 'key:data' }, async (tx, { tenant }) => {
    const wrapper = await rootKey(vault, root);
    const [current] = await tx<{ version: number }[]>`
      UPDATE data_keys SET state = 'decrypt_only' WHERE tenant_id = ${tenant} AND state = 'active' RETURNING version`;
    if (!current) throw new VaultError('conflict', 'Another rotation of this data key is running: look at GET /keys.');
    const key = await insertDataKey(tx, tenant, current.version + 1, wrapper);
    return { value: key, notes: [{ version: key.version, details: { fingerprint: key.fingerprint } }] };
  });
}

/** Makes a tenant's data key version; the caller has demoted the one before. */
export async function insertDataKey(tx: Tx, tenant: TenantId, version: number, wrapper: Key): Promise<DataKeyInfo> {
  const key = Key.generate(version);
  try {
    const wrapped = wrapper.wrap(dataKeyContext(tenant, version), key);
    const [row] = await tx<{ createdAt: Timestamp }[]>`
      INSERT INTO data_keys (tenant_id, version, state, fingerprint, created_at)
      VALUES (${tenant}, ${version}, 'active', ${key.fingerprint}, bulla.now()) RETURNING created_at AS "createdAt"`;
    await tx`
      INSERT INTO data_key_material (tenant_id, version, root_version, wrapped)
      VALUES (${tenant}, ${version}, ${wrapper.version}, ${wrapped})`;
    const { fingerprint } = key;
    const createdAt = row!.createdAt;
    return {
      version,
      state: 'active',
      fingerprint,
      createdAt,
      destroyedAt: null,
      rootVersion: wrapper.version,
      depends: 0,
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

/** Makes a root key version and gives the key, which the caller wipes or uses to wrap. */
export async function insertRootKey(
  vault: Vault,
  tx: Tx,
  version: number,
): Promise<{ key: Key; createdAt: Timestamp }> {
  const key = Key.generate(version);
  const wrapped = await vault.seal.wrap(rootKeyContext(vault, version), key);
  try {
    const [row] = await tx<{ createdAt: Timestamp }[]>`
      INSERT INTO root_keys (version, state, fingerprint, created_at)
      VALUES (${version}, 'active', ${key.fingerprint}, bulla.now()) RETURNING created_at AS "createdAt"`;
    await tx`INSERT INTO root_key_material (version, seal, wrapped) VALUES (${version}, ${vault.seal.kind}, ${wrapped})`;
    return { key, createdAt: row!.createdAt };
  } catch (error) {
    key.wipe();
    throw isUniqueViolation(error) ? rootRotating() : error;
  }
}

const rootRotating = () =>
  new VaultError('conflict', 'Another rotation of the root key is running: look at GET /root-keys.');

async function activeRootVersion(vault: Vault): Promise<number> {
  return (await activeRootKey(vault)).version;
}

/** Newest first. */
export async function listRootKeys(vault: Vault, call: Call, ask: PageAsk): Promise<Page<RootKeyInfo>> {
  const { limit, after } = parsePage(ask);
  return permit(vault, call, { action: 'root-key.list', resource: 'key:root' }, async (tx) => {
    const rows = await tx<RootKeyInfo[]>`
      SELECT k.version, k.state, k.fingerprint, m.seal, k.created_at AS "createdAt", k.destroyed_at AS "destroyedAt"
      FROM root_keys k LEFT JOIN root_key_material m USING (tenant_id, version)
      WHERE ${after} = '' OR k.version < ${Number(after) || 0} ORDER BY k.version DESC LIMIT ${limit + 1}`;
    return { value: pageOf(rows, limit, (key) => String(key.version)) };
  });
}

export type RootRotation = RootKeyInfo & { readonly rewrapped: number; readonly destroyedVersion: number };

const ROOT_ROTATION_DEADLINE_MS = 60_000;

/**
 * Makes a root key version, re-wraps every data key and system key under it, and destroys the old one: one commit, so
 * that a crash leaves the old state or the new. A second rotation at the same time gets `conflict`.
 */
export async function rotateRootKey(vault: Vault, call: Call): Promise<RootRotation> {
  const tenants = await allTenants(vault);
  const ask = { action: 'root-key.rotate', resource: 'key:root' } as const;
  const rotation = await permit(
    vault,
    call,
    ask,
    async (tx) => {
      const [old] = await tx<{ version: number }[]>`
        UPDATE root_keys SET state = 'retiring' WHERE state = 'active' RETURNING version`;
      if (!old) throw rootRotating();
      const { key, createdAt } = await insertRootKey(vault, tx, old.version + 1);
      try {
        const from = await rootKey(vault, old.version);
        const rewrapped = (await rewrapDataKeys(tx, from, key)) + (await rewrapSystemKeys(tx, from, key));
        await destroyRootKey(tx, old.version);
        const { version, fingerprint } = key;
        const details = { fingerprint, rewrapped, destroyed_version: old.version };
        const value: RootRotation = {
          ...{ version, state: 'active', fingerprint, seal: vault.seal.kind, createdAt, destroyedAt: null },
          ...{ rewrapped, destroyedVersion: old.version },
        };
        return { value, notes: [{ version, details }] };
      } finally {
        key.wipe();
      }
    },
    { tenants, deadlineMs: ROOT_ROTATION_DEADLINE_MS },
  );
  forgetRootKey(vault, rotation.destroyedVersion);
  return rotation;
}

async function rewrapDataKeys(tx: Tx, from: Key, to: Key): Promise<number> {
  const rows = await tx<{ tenant: TenantId; version: number; wrapped: Uint8Array }[]>`
    SELECT tenant_id AS tenant, version, wrapped FROM data_key_material
    WHERE root_version = ${from.version} AND wrapped IS NOT NULL ORDER BY tenant_id, version FOR UPDATE`;
  for (const { tenant, version, wrapped } of rows) {
    const moved = rewrap(from, to, dataKeyContext(tenant, version), wrapped);
    await tx`
      UPDATE data_key_material SET wrapped = ${moved}, root_version = ${to.version}
      WHERE tenant_id = ${tenant} AND version = ${version}`;
  }
  return rows.length;
}

async function rewrapSystemKeys(tx: Tx, from: Key, to: Key): Promise<number> {
  const rows = await tx<{ purpose: SystemPurpose; version: number; wrapped: Uint8Array }[]>`
    SELECT purpose, version, wrapped FROM system_key_material WHERE root_version = ${from.version} FOR UPDATE`;
  for (const { purpose, version, wrapped } of rows) {
    const moved = rewrap(from, to, systemKeyContext(purpose, version), wrapped);
    await tx`
      UPDATE system_key_material SET wrapped = ${moved}, root_version = ${to.version}
      WHERE purpose = ${purpose} AND version = ${version}`;
  }
  return rows.length;
}

/** The foreign keys of everything wrapped refuse this while anything is left under the version. */
async function destroyRootKey(tx: Tx, version: number): Promise<void> {
  try {
    await tx`DELETE FROM root_key_material WHERE version = ${version}`;
  } catch (error) {
    if (!isForeignKeyViolation(error)) throw error;
    throw new VaultError(
      'conflict',
      'A key was made under the old root key meanwhile, so nothing was rotated: try again.',
    );
  }
  await tx`UPDATE root_keys SET state = 'destroyed', destroyed_at = bulla.now() WHERE version = ${version}`;
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

export async function hasRootKey(tx: Tx): Promise<boolean> {
  const rows = await tx`SELECT 1 FROM root_keys WHERE tenant_id = ${SYSTEM} LIMIT 1`;
  return rows.length > 0;
}
