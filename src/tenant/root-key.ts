/**
 * The root key: made at the first start, rotated, listed.
 *
 * A rotation re-wraps every data key and system key under the new version and then deletes the old one's material, which
 * the foreign keys refuse while anything is still wrapped by it: one commit, so that a crash leaves the old state or the
 * new.
 */
import { Key, rewrap, SecretBytes } from '../crypto/keys.ts';
import { SYSTEM, showTenants, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { type Page, type PageAsk, pageOf, parseVersionsPage } from '../db/page.ts';
import { isForeignKeyViolation, isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck } from '../policy/permit.ts';
import type { Seal, SealKind } from '../seal/seal.ts';
import type { Vault } from '../vault.ts';
import { ageColumns } from './age.ts';
import {
  activeRootKey,
  dataKeyContext,
  forgetRootKey,
  ROOT_KEY_BYTES,
  rootKey,
  rootKeyContext,
  type SystemPurpose,
  systemKeyContext,
} from './keyring.ts';
import { allTenants } from './tenant.ts';

export type RootKeyInfo = {
  readonly version: number;
  readonly state: 'active' | 'retiring' | 'destroyed';
  readonly fingerprint: string;
  readonly seal: string | null;
  readonly createdAt: Timestamp;
  readonly destroyedAt: Timestamp | null;
  readonly ageSeconds: number;
  readonly dueAt: Timestamp | null;
};

/** Makes the first root key and gives it; the caller wipes it after wrapping with it. */
export async function insertRootKey(vault: Vault, tx: Tx, version: number): Promise<Key> {
  const next = await prepareRootKey(vault, version, vault.seal);
  try {
    await storeRootKey(tx, next);
    return next.key;
  } catch (error) {
    next.key.wipe();
    throw error;
  }
}

/** Throws `conflict` when another rotation, another first start, or a migration to another seal was first. */
async function storeRootKey(tx: Tx, { key, wrapped, seal }: NewRootKey): Promise<Timestamp> {
  try {
    const [row] = await tx<{ createdAt: Timestamp }[]>`
      INSERT INTO root_keys (version, state, fingerprint, created_at)
      VALUES (${key.version}, 'active', ${key.fingerprint}, bulla.now()) RETURNING created_at AS "createdAt"`;
    await tx`
      INSERT INTO root_key_material (version, seal, seal_id, wrapped)
      VALUES (${key.version}, ${seal.kind}, ${seal.id}, ${wrapped})`;
    return row!.createdAt;
  } catch (error) {
    throw isUniqueViolation(error) || isForeignKeyViolation(error) ? rootRotating() : error;
  }
}

const rootRotating = () =>
  new VaultError(
    'conflict',
    'The root key is being rotated or moved to another seal by somebody else: look at GET /root-keys.',
  );

async function activeRootVersion(vault: Vault): Promise<number> {
  return (await activeRootKey(vault)).version;
}

/** Newest first. */
export async function listRootKeys(vault: Vault, call: Call, ask: PageAsk): Promise<Page<RootKeyInfo>> {
  const { limit, before } = parseVersionsPage(ask);
  return permit(vault, call, { action: 'root-key.list', resource: 'key:root' }, async (tx) => {
    const rows = await tx<RootKeyInfo[]>`
      SELECT k.version, k.state, k.fingerprint, m.seal, k.created_at AS "createdAt", k.destroyed_at AS "destroyedAt",
             ${ageColumns(tx, vault.config.rootKeyMaxAgeSeconds)}
      FROM root_keys k LEFT JOIN root_key_material m USING (tenant_id, version)
      WHERE k.version < ${before} ORDER BY k.version DESC LIMIT ${limit + 1}`;
    return { value: pageOf(rows, limit, (key) => String(key.version)) };
  });
}

export type RootRotation = RootKeyInfo & { readonly rewrapped: number; readonly destroyedVersion: number };

const ROOT_ROTATION_DEADLINE_MS = 120_000;
/** Tenants whose keys are re-wrapped together; row security is opened for these only. */
const TENANTS_AT_ONCE = 500;
/** About two milliseconds of encryption between two looks at the event loop. */
const KEYS_PER_TURN = 64;

/**
 * Makes a root key version, re-wraps every data key and system key under it, and destroys the old one: one commit, so
 * that a crash leaves the old state or the new. Readers and writers go on meanwhile; a second rotation at the same time
 * gets `conflict`. `also` runs in the same transaction and may add to its record.
 */
export async function rotateRootKey(
  vault: Vault,
  call: Call,
  also: (tx: Tx, rotation: RootRotation, startedBy: string) => Promise<void> = async () => undefined,
): Promise<RootRotation> {
  const ask = { action: 'root-key.rotate', resource: 'key:root', subject: '' } as const;
  await precheck(vault, call, ask);
  return replaceRoot(vault, await activeRootVersion(vault), (act, options) =>
    permit(
      vault,
      call,
      ask,
      async (tx, { userId }) => {
        const { rotation, note } = await act(tx);
        await also(tx, rotation, userId);
        return { value: rotation, notes: [note] };
      },
      options,
    ),
  );
}

export type RootAct = (
  tx: Tx,
) => Promise<{ rotation: RootRotation; note: { version: number; details: Record<string, string | number> } }>;

/** `run` gives the transaction of the system tenant, and records what the act says. Throws `conflict`. */
export async function replaceRoot(
  vault: Vault,
  old: number,
  run: (act: RootAct, options: { deadlineMs: number }) => Promise<RootRotation>,
): Promise<RootRotation> {
  const tenants = await allTenants(vault);
  const next = await prepareRootKey(vault, old + 1, vault.seal);
  try {
    const act: RootAct = async (tx) => {
      const rotation = await replaceRootKey(vault, tx, old, next, tenants);
      const { version, fingerprint, rewrapped } = rotation;
      return { rotation, note: { version, details: { fingerprint, rewrapped, destroyed_version: old } } };
    };
    const rotation = await run(act, { deadlineMs: ROOT_ROTATION_DEADLINE_MS });
    killpoint('root-key.committed');
    return rotation;
  } finally {
    next.key.wipe();
    forgetRootKey(vault, old);
  }
}

/** What wraps a root key, with the id of its row. */
export type WrappingSeal = Pick<Seal, 'kind' | 'wrap'> & { readonly id: string };

export type NewRootKey = {
  readonly key: Key;
  readonly wrapped: Uint8Array;
  readonly seal: { readonly id: string; readonly kind: SealKind };
};

/** A new root key, wrapped by a seal: before the transaction, because a seal may have to ask the outside. */
export async function prepareRootKey(vault: Vault, version: number, seal: WrappingSeal): Promise<NewRootKey> {
  const { id, kind } = seal;
  const secret = SecretBytes.generate(ROOT_KEY_BYTES);
  try {
    const wrapped = await seal.wrap(rootKeyContext(vault, version), secret);
    const key = secret.use((bytes) => Key.fromBytes(version, bytes));
    killpoint('root-key.wrapped');
    return { key, wrapped, seal: { id, kind } };
  } finally {
    secret.wipe();
  }
}

/** The rotation itself, for a transaction of the system tenant. `next` stays the caller's to wipe. */
export async function replaceRootKey(
  vault: Vault,
  tx: Tx,
  old: number,
  next: NewRootKey,
  tenants: readonly TenantId[],
): Promise<RootRotation> {
  const [retired] = await tx`
    UPDATE root_keys SET state = 'retiring' WHERE state = 'active' AND version = ${old} RETURNING version`;
  if (!retired) throw rootRotating();
  killpoint('root-key.retired');
  const createdAt = await storeRootKey(tx, next);
  killpoint('root-key.inserted');
  let rewrapped = 0;
  for (let at = 0; at < tenants.length; at += TENANTS_AT_ONCE) {
    rewrapped += await rewrapDataKeys(vault, tx, old, next.key, tenants.slice(at, at + TENANTS_AT_ONCE));
    killpoint('root-key.rewrapping');
  }
  rewrapped += await rewrapSystemKeys(vault, tx, old, next.key);
  killpoint('root-key.rewrapped');
  await destroyRootKey(tx, old);
  killpoint('root-key.destroyed');
  const { version, fingerprint } = next.key;
  const [age] = await tx<{ ageSeconds: number; dueAt: Timestamp | null }[]>`
    SELECT ${ageColumns(tx, vault.config.rootKeyMaxAgeSeconds)} FROM root_keys k WHERE k.version = ${version}`;
  return {
    ...{ version, state: 'active', fingerprint, seal: next.seal.kind, createdAt, destroyedAt: null },
    ...{ rewrapped, destroyedVersion: old, ...age! },
  };
}

type WrappedDataKey = { readonly tenant: TenantId; readonly version: number; readonly wrapped: Uint8Array };

async function rewrapDataKeys(
  vault: Vault,
  tx: Tx,
  old: number,
  to: Key,
  tenants: readonly TenantId[],
): Promise<number> {
  await showTenants(tx, [SYSTEM, ...tenants]);
  // Not FOR UPDATE: whoever writes a ciphertext refers to these rows and shall not wait for the end of the rotation.
  const rows = await tx<WrappedDataKey[]>`
    SELECT tenant_id AS tenant, version, wrapped FROM data_key_material
    WHERE tenant_id = ANY (${[...tenants]}) AND root_version = ${old} AND wrapped IS NOT NULL
    ORDER BY tenant_id, version FOR NO KEY UPDATE`;
  const moved: string[] = [];
  for (let at = 0; at < rows.length; at += KEYS_PER_TURN) {
    if (at > 0) await new Promise(setImmediate);
    const from = await rootKey(vault, old);
    for (const { tenant, version, wrapped } of rows.slice(at, at + KEYS_PER_TURN)) {
      const envelope = rewrap(from, to, dataKeyContext(tenant, version), wrapped);
      moved.push(Buffer.from(envelope.buffer, envelope.byteOffset, envelope.length).toString('base64'));
    }
  }
  await tx`
    UPDATE data_key_material m SET wrapped = decode(u.wrapped, 'base64'), root_version = ${to.version}
    FROM unnest(${rows.map((row) => row.tenant)}::text[], ${rows.map((row) => row.version)}::int[], ${moved}::text[])
         AS u (tenant_id, version, wrapped)
    WHERE m.tenant_id = u.tenant_id AND m.version = u.version`;
  // Of a tenant that is being deleted the bytes are gone; its rows name the root key until they go too.
  await tx`
    UPDATE data_key_material SET root_version = ${to.version}
    WHERE tenant_id = ANY (${[...tenants]}) AND root_version = ${old} AND wrapped IS NULL`;
  await showTenants(tx, [SYSTEM]);
  return rows.length;
}

async function rewrapSystemKeys(vault: Vault, tx: Tx, old: number, to: Key): Promise<number> {
  const rows = await tx<{ purpose: SystemPurpose; version: number; wrapped: Uint8Array }[]>`
    SELECT purpose, version, wrapped FROM system_key_material WHERE root_version = ${old} FOR UPDATE`;
  for (const { purpose, version, wrapped } of rows) {
    const moved = rewrap(await rootKey(vault, old), to, systemKeyContext(purpose, version), wrapped);
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
      { details: { reason: 'key_made_meanwhile' } },
    );
  }
  await tx`UPDATE root_keys SET state = 'destroyed', destroyed_at = bulla.now() WHERE version = ${version}`;
}

export async function hasRootKey(tx: Tx): Promise<boolean> {
  const rows = await tx`SELECT 1 FROM root_keys WHERE tenant_id = ${SYSTEM} LIMIT 1`;
  return rows.length > 0;
}
