/**
 * The keyring: root key, data keys and system keys, unwrapped for use.
 *
 *     seal ──wraps──▶ root key ──wraps──▶ data key of a tenant, pepper, log signing key
 *
 * Keys are cached by what never changes (kind, tenant, version) for a bounded time. A key is handed out to be used
 * before the next await: the cache may wipe it afterwards. Making and destroying keys is rotation.ts's and
 * root-key.ts's; this file only reads.
 */
import type { Context } from '../crypto/context.ts';
import { Key, type SecretBytes } from '../crypto/keys.ts';
import { RetryTransaction, SYSTEM, type TenantId, type Tx, transaction } from '../db/database.ts';
import { isForeignKeyViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';

export type SystemPurpose = 'pepper' | 'log-signing';

export const rootKeyContext = (vault: Vault, version: number): Context => ({
  label: 'root-key',
  deployment: vault.deploymentId,
  version,
});

export const dataKeyContext = (tenant: TenantId, version: number): Context => ({ label: 'data-key', tenant, version });

export const systemKeyContext = (purpose: SystemPurpose, version: number): Context => ({
  label: 'system-key',
  purpose,
  version,
});

export const ROOT_KEY_BYTES = 32;

const rootId = (version: number) => `root/${version}`;
const dataId = (tenant: TenantId, version: number) => `data/${tenant}/${version}`;

/** The root key of a version. `integrity` when its row does not open, `not_found` when it is destroyed. */
export async function rootKey(vault: Vault, version: number): Promise<Key> {
  const cached = vault.keys.get(rootId(version));
  if (cached) return cached;
  const [row] = await transaction(
    vault.keyDb,
    [SYSTEM],
    (tx) => tx<{ wrapped: Uint8Array; sealId: string; fingerprint: string; state: string }[]>`
      SELECT wrapped, seal_id AS "sealId", fingerprint, state
      FROM root_key_material JOIN root_keys USING (tenant_id, version) WHERE version = ${version}`,
  );
  if (!row) throw new VaultError('not_found', `Root key version ${version} does not exist any more.`);
  if (row.state === 'destroyed') throw putBack('root key', version, row.fingerprint);
  // Another node has migrated the vault to another seal.
  if (!vault.seal.knows(row.sealId)) await vault.seal.follow();
  const secret = await vault.seal.unwrap(rootKeyContext(vault, version), row.wrapped);
  const key = keyFrom(version, secret, row.fingerprint);
  vault.keys.set(rootId(version), key);
  return key;
}

/** Destroying deletes the bytes, so somebody put them back: they are not used. */
function putBack(kind: string, version: number, fingerprint: string): VaultError {
  return new VaultError(
    'integrity',
    `The ${kind} version ${version} (${fingerprint}) was destroyed, but its bytes are in the database again: remove them and find out who put them there.`,
  );
}

function notTheKey(version: number, fingerprint: string, found: Key): VaultError {
  const opened = found.fingerprint;
  found.wipe();
  return new VaultError(
    'integrity',
    `Data key version ${version} is ${opened}, not ${fingerprint} as its row says: it was edited. Restore it from a backup.`,
  );
}

/** A root key of its own bytes, which are wiped. A seal that commits to no key could give back another one. */
function keyFrom(version: number, secret: SecretBytes, fingerprint: string): Key {
  try {
    const key = secret.length === ROOT_KEY_BYTES ? secret.use((bytes) => Key.fromBytes(version, bytes)) : undefined;
    if (key?.fingerprint === fingerprint) return key;
    key?.wipe();
  } finally {
    secret.wipe();
  }
  throw new VaultError(
    'integrity',
    `What the seal opened is not root key version ${version} (${fingerprint}): its row was edited. Restore it from a backup.`,
  );
}

/** The version that wraps new keys, with its key. */
export async function activeRootKey(vault: Vault): Promise<Key> {
  for (let attempt = 1; ; attempt += 1) {
    const [row] = await transaction(
      vault.keyDb,
      [SYSTEM],
      (tx) => tx<{ version: number }[]>`SELECT version FROM root_keys WHERE state = 'active'`,
    );
    if (!row) throw new VaultError('sealed', 'This vault has no root key yet: start it once to initialise it.');
    try {
      return await rootKey(vault, row.version);
    } catch (error) {
      // A rotation has destroyed it between the two reads.
      if (attempt < 3 && error instanceof VaultError && error.code === 'not_found') continue;
      throw error;
    }
  }
}

/** The data key of a version, to open with. `not_found` when it is destroyed. */
export async function dataKey(vault: Vault, tx: Tx, tenant: TenantId, version: number): Promise<Key> {
  return cachedDataKey(vault, tenant, version) ?? loadDataKey(vault, tx, tenant, version);
}

/** The same when it is in memory already. */
export function cachedDataKey(vault: Vault, tenant: TenantId, version: number): Key | undefined {
  return vault.keys.get(dataId(tenant, version));
}

/**
 * The data key to write with. A writer that is overtaken by its destruction meets a foreign key violation, because
 * every ciphertext's row refers to the key's material: `underActiveKey` runs it again, and it finds the new version here.
 */
export async function activeDataKey(vault: Vault, tx: Tx, tenant: TenantId): Promise<Key> {
  const [row] = await tx<{ version: number }[]>`
    SELECT version FROM data_keys WHERE tenant_id = ${tenant} AND state = 'active'`;
  if (!row) throw new VaultError('not_found', 'The tenant has no active data key.');
  return dataKey(vault, tx, tenant, row.version);
}

/** Stores what was sealed under the active key. Its key, or what the row hangs under, gone meanwhile: from the beginning. */
export async function underActiveKey<T>(query: PromiseLike<T>): Promise<T> {
  try {
    return await query;
  } catch (error) {
    throw isForeignKeyViolation(error) ? new RetryTransaction() : error;
  }
}

/** A root rotation may destroy the wrapping version between the two reads; the row then names the new one. */
async function loadDataKey(vault: Vault, tx: Tx, tenant: TenantId, version: number): Promise<Key> {
  for (let attempt = 1; ; attempt += 1) {
    const [row] = await tx<{ rootVersion: number; wrapped: Uint8Array | null; state: string; fingerprint: string }[]>`
      SELECT m.root_version AS "rootVersion", m.wrapped, k.state, k.fingerprint
      FROM data_key_material m JOIN data_keys k USING (tenant_id, version)
      WHERE m.tenant_id = ${tenant} AND m.version = ${version}`;
    if (!row?.wrapped) throw new VaultError('not_found', `Data key version ${version} is destroyed.`);
    if (row.state === 'destroyed') throw putBack('data key', version, row.fingerprint);
    try {
      const root = await rootKey(vault, row.rootVersion);
      const key = root.unwrap(dataKeyContext(tenant, version), row.wrapped, version);
      if (key.fingerprint !== row.fingerprint) throw notTheKey(version, row.fingerprint, key);
      vault.keys.set(dataId(tenant, version), key);
      return key;
    } catch (error) {
      if (attempt < 3 && error instanceof VaultError && error.code === 'not_found') continue;
      throw error;
    }
  }
}

export type SystemKey = { readonly version: number; readonly secret: SecretBytes };

/** A system key's secret bytes; without a version, the active one. The caller wipes them after use. */
export async function systemKey(vault: Vault, purpose: SystemPurpose, version?: number): Promise<SystemKey> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await loadSystemKey(vault, purpose, version);
    } catch (error) {
      // As for data keys: a root rotation has destroyed the wrapping version between the two reads.
      if (attempt < 3 && error instanceof VaultError && error.code === 'not_found') continue;
      throw error;
    }
  }
}

async function loadSystemKey(vault: Vault, purpose: SystemPurpose, version: number | undefined): Promise<SystemKey> {
  const [row] = await transaction(
    vault.keyDb,
    [SYSTEM],
    (tx) => tx<{ version: number; rootVersion: number; wrapped: Uint8Array; sealed: boolean }[]>`
      SELECT version, root_version AS "rootVersion", wrapped, bulla.is_sealed() AS sealed
      FROM system_key_material JOIN system_keys USING (tenant_id, purpose, version)
      WHERE purpose = ${purpose} AND ${version === undefined ? tx`state = 'active'` : tx`version = ${version}`}`,
  );
  if (!row) {
    throw new VaultError(
      'integrity',
      `The ${purpose} ${version ?? ''} is missing: restore the table system_key_material from a backup.`,
    );
  }
  // Before this node has looked: a login would otherwise still find the root key in memory.
  if (row.sealed) throw new VaultError('sealed', 'The vault is sealed.');
  const root = await rootKey(vault, row.rootVersion);
  return { version: row.version, secret: root.unwrapSecret(systemKeyContext(purpose, row.version), row.wrapped) };
}

/** What is known of the versions of a system key, newest first. The public keys of destroyed ones stay. */
export async function systemKeyVersions(
  vault: Vault,
  purpose: SystemPurpose,
): Promise<{ version: number; state: string; publicKey: Uint8Array | null }[]> {
  return transaction(vault.keyDb, [SYSTEM], async (tx) => [
    ...(await tx<{ version: number; state: string; publicKey: Uint8Array | null }[]>`
      SELECT version, state, public_key AS "publicKey" FROM system_keys
      WHERE purpose = ${purpose} ORDER BY version DESC`),
  ]);
}

/** Drops what is in memory of a tenant's keys: they are destroyed, or the tenant is. */
export function forgetDataKeys(vault: Vault, tenant: TenantId, version?: number): void {
  if (version === undefined) vault.keys.dropPrefix(`data/${tenant}/`);
  else vault.keys.drop(dataId(tenant, version));
}

export function forgetRootKey(vault: Vault, version: number): void {
  vault.keys.drop(rootId(version));
}
