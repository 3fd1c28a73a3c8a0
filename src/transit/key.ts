/**
 * Named keys: making, listing, configuring, trimming and deleting them. Owns transit_keys, transit_key_versions and
 * transit_key_uses together with the other files of this folder.
 *
 * What takes something away (a version, the key, an older version's use) bumps the log head's acl_revision, as every act
 * does that takes access away: an operation decided before it is decided again, so on no node does an `ok` with a
 * version follow the answer that it is gone.
 */
import { LIMITS } from '../config.ts';
import { KEY_TYPES, type KeyType, MAC_BYTES, MAC_BYTES_MAX, type NamedKey } from '../crypto/named-key.ts';
import { randomId } from '../crypto/token.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck } from '../policy/permit.ts';
import { activeDataKey, underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { versionContext } from './envelopes.ts';
import { makeKey } from './make.ts';
import { type KeyName, keyAsk } from './name.ts';

export { KEY_TYPE_NAMES, KEY_TYPES, type KeyType } from '../crypto/named-key.ts';

export type KeyVersionInfo = {
  readonly version: number;
  readonly createdAt: Timestamp;
  /** See NamedKey.publicKey; null for a key without a public half. */
  readonly publicKey: string | null;
};

export type KeyInfo = {
  readonly name: string;
  readonly type: KeyType;
  readonly derived: boolean;
  readonly convergent: boolean;
  readonly exportable: boolean;
  readonly deletionAllowed: boolean;
  readonly macBytes: number;
  readonly latestVersion: number;
  readonly minAvailableVersion: number;
  readonly minDecryptionVersion: number;
  /** The least that may be asked for to encrypt or sign with; 0: min_decryption_version. */
  readonly minEncryptionVersion: number;
  /** 0: never by itself. */
  readonly autoRotateSeconds: number;
  readonly createdAt: Timestamp;
  /** Newest first; at most LIMITS.transitVersionsShownMax. */
  readonly versions: readonly KeyVersionInfo[];
};

export type NewKey = {
  readonly type?: KeyType | undefined;
  readonly derived?: boolean | undefined;
  readonly convergent?: boolean | undefined;
  readonly exportable?: boolean | undefined;
  readonly autoRotateSeconds?: number | undefined;
  /** Of the HMAC key. */
  readonly macBytes?: number | undefined;
};

export type KeyChange = {
  readonly minDecryptionVersion?: number | undefined;
  readonly minEncryptionVersion?: number | undefined;
  readonly deletionAllowed?: boolean | undefined;
  /** Only to true: what has been handed out cannot be called back. */
  readonly exportable?: boolean | undefined;
  readonly autoRotateSeconds?: number | undefined;
};

const AUTO_ROTATE_SECONDS_MIN = 3600;

export type Created = { readonly created: boolean; readonly key: KeyInfo };

/**
 * Makes a key with its first version. One that is there already stays as it is: `created` is false, or `conflict` is
 * thrown with `ifExists: 'conflict'`.
 */
export async function createKey(
  vault: Vault,
  call: Call,
  name: KeyName,
  wanted: NewKey,
  { ifExists = 'conflict' }: { ifExists?: 'conflict' | 'keep' } = {},
): Promise<Created> {
  const settings = checkNew(wanted);
  const ask = keyAsk('transit.create', name);
  // RSA keys take seconds to make, which no transaction may wait for.
  await precheck(vault, call, ask);
  const made = await makeKey(settings.type, settings.macBytes);
  try {
    return await permit(vault, call, ask, async (tx, { tenant }) => {
      const id = await insertKey(tx, tenant, name, settings);
      if (id === undefined && ifExists === 'conflict') throw exists();
      if (id !== undefined) await insertVersion(vault, tx, tenant, id, 1, made);
      const key = await infoOf(tx, tenant, name);
      const details = { type: key.type, ...(id === undefined ? { existed: true } : {}) };
      return { value: { created: id !== undefined, key }, notes: [{ version: key.latestVersion, details }] };
    });
  } finally {
    made.wipe();
  }
}

type Settings = Required<{ [K in keyof NewKey]: Exclude<NewKey[K], undefined> }>;

function checkNew(wanted: NewKey): Settings {
  const { type = 'aes256-gcm96', derived = false, convergent = false, macBytes = MAC_BYTES } = wanted;
  const { exportable = false, autoRotateSeconds = 0 } = wanted;
  const facts = KEY_TYPES[type];
  if (derived && !facts.derives) throw wrong(`derived: a key of type ${type} cannot be derived.`);
  if (convergent && !(derived && facts.family === 'aead')) {
    throw wrong('convergent_encryption: expected a derived key of a cipher.');
  }
  if (macBytes !== MAC_BYTES && facts.family !== 'hmac') throw wrong('key_size: only keys of type hmac have one.');
  if (!Number.isInteger(macBytes) || macBytes < MAC_BYTES || macBytes > MAC_BYTES_MAX) {
    throw wrong(`key_size: expected ${MAC_BYTES} to ${MAC_BYTES_MAX} bytes.`);
  }
  checkAutoRotate(autoRotateSeconds);
  return { type, derived, convergent, exportable, autoRotateSeconds, macBytes };
}

function checkAutoRotate(seconds: number): void {
  if (seconds === 0 || (Number.isSafeInteger(seconds) && seconds >= AUTO_ROTATE_SECONDS_MIN)) return;
  throw wrong('auto_rotate_period: expected 0 to disable, or at least an hour.');
}

const wrong = (message: string) => new VaultError('invalid_request', message);

const exists = () =>
  new VaultError('conflict', 'There is a named key of this name already.', { details: { reason: 'exists' } });

/** Undefined when the name is taken. */
async function insertKey(tx: Tx, tenant: TenantId, name: KeyName, settings: Settings): Promise<string | undefined> {
  const { type, derived, convergent, exportable, autoRotateSeconds, macBytes } = settings;
  const [row] = await tx<{ id: string }[]>`
    INSERT INTO transit_keys (tenant_id, key_id, name, type, derived, convergent, exportable, mac_bytes,
                              latest_version, auto_rotate_seconds, created_at)
    VALUES (${tenant}, ${randomId()}, ${name}, ${type}, ${derived}, ${convergent}, ${exportable},
            ${macBytes}, 1, ${autoRotateSeconds}, bulla.now())
    ON CONFLICT (tenant_id, name) DO NOTHING RETURNING key_id AS id`;
  return row?.id;
}

/** Stores a version under the tenant's active data key; one destroyed meanwhile makes the transaction run again. */
export async function insertVersion(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  id: string,
  version: number,
  key: NamedKey,
): Promise<void> {
  const wrapper = await activeDataKey(vault, tx, tenant);
  const envelope = key.wrap(wrapper, versionContext(tenant, id, version));
  await underActiveKey(tx`
    WITH made AS (
      INSERT INTO transit_key_versions (tenant_id, key_id, version, key_version, envelope, public_key, created_at)
      VALUES (${tenant}, ${id}, ${version}, ${wrapper.version}, ${envelope}, ${key.publicKey() ?? null}, bulla.now())
      RETURNING tenant_id, key_id, version)
    INSERT INTO transit_key_uses (tenant_id, key_id, version) SELECT tenant_id, key_id, version FROM made`);
}

// ---- looking ------------------------------------------------------------------------------------------------------

type KeyRow = Omit<KeyInfo, 'versions'> & { readonly id: string };

/** The row, to look at or locked until the commit. Throws `not_found`. */
export async function keyRow(tx: Tx, tenant: TenantId, name: KeyName, lock?: 'lock'): Promise<KeyRow> {
  const [row] = await tx<KeyRow[]>`
    SELECT key_id AS id, name, type, derived, convergent, exportable,
           deletion_allowed AS "deletionAllowed", mac_bytes AS "macBytes", latest_version AS "latestVersion",
           min_available_version AS "minAvailableVersion", min_decryption_version AS "minDecryptionVersion",
           min_encryption_version AS "minEncryptionVersion", auto_rotate_seconds AS "autoRotateSeconds",
           created_at AS "createdAt"
    FROM transit_keys WHERE tenant_id = ${tenant} AND name = ${name} ${lock ? tx`FOR UPDATE` : tx``}`;
  if (!row) throw noKey();
  return row;
}

export const noKey = () =>
  new VaultError('not_found', 'There is no named key of this name.', { details: { reason: 'no_key' } });

export async function infoOf(tx: Tx, tenant: TenantId, name: KeyName): Promise<KeyInfo> {
  const { id, ...row } = await keyRow(tx, tenant, name);
  const versions = await tx<KeyVersionInfo[]>`
    SELECT version, created_at AS "createdAt", public_key AS "publicKey" FROM transit_key_versions
    WHERE tenant_id = ${tenant} AND key_id = ${id} ORDER BY version DESC LIMIT ${LIMITS.transitVersionsShownMax}`;
  return { ...row, versions: [...versions] };
}

export async function readKey(vault: Vault, call: Call, name: KeyName): Promise<KeyInfo> {
  return permit(vault, call, keyAsk('transit.read', name), async (tx, { tenant }) => ({
    value: await infoOf(tx, tenant, name),
  }));
}

export type ListedKey = Pick<KeyInfo, 'name' | 'type' | 'latestVersion' | 'createdAt'>;

/** Those that the caller may see, by name. */
export async function listKeys(vault: Vault, call: Call, ask: PageAsk): Promise<Page<ListedKey>> {
  const wanted = { action: 'transit.list', resource: 'transit:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => {
    const page = await visiblePage(
      ask,
      (after, rows) => tx<ListedKey[]>`
        SELECT name, type, latest_version AS "latestVersion", created_at AS "createdAt" FROM transit_keys
        WHERE tenant_id = ${tenant} AND name > ${after} ORDER BY name LIMIT ${rows}`,
      ({ name }) => name,
      ({ name }) => allows({ action: 'transit.list', resource: `transit:${name}` }),
    );
    return { value: page, notes: [{ details: { shown: page.items.length } }] };
  });
}

// ---- changing -----------------------------------------------------------------------------------------------------

/** Throws `not_found`, `invalid_request` and `conflict`. */
export async function configureKey(vault: Vault, call: Call, name: KeyName, change: KeyChange): Promise<KeyInfo> {
  if (change.autoRotateSeconds !== undefined) checkAutoRotate(change.autoRotateSeconds);
  return permit(vault, call, keyAsk('transit.configure', name), async (tx, { tenant }) => {
    const row = await keyRow(tx, tenant, name, 'lock');
    const next = changed(row, change);
    await tx`
      UPDATE transit_keys SET min_decryption_version = ${next.minDecryptionVersion},
             min_encryption_version = ${next.minEncryptionVersion}, deletion_allowed = ${next.deletionAllowed},
             exportable = ${next.exportable},
             auto_rotate_seconds = ${next.autoRotateSeconds}
      WHERE tenant_id = ${tenant} AND key_id = ${row.id}`;
    const details = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
    const takesAway =
      next.minDecryptionVersion > row.minDecryptionVersion || next.minEncryptionVersion > row.minEncryptionVersion;
    return { value: await infoOf(tx, tenant, name), notes: [{ details }], revokes: takesAway };
  });
}

function changed(row: KeyRow, change: KeyChange): KeyRow {
  const next = { ...row };
  for (const [name, value] of Object.entries(change)) if (value !== undefined) Object.assign(next, { [name]: value });
  const { latestVersion: latest, minAvailableVersion: available } = row;
  if (next.minDecryptionVersion < available || next.minDecryptionVersion > latest) {
    throw wrong(`min_decryption_version: expected a version from ${available} to ${latest}.`);
  }
  const encryption = next.minEncryptionVersion;
  if (encryption !== 0 && (encryption < next.minDecryptionVersion || encryption > latest)) {
    throw wrong(
      `min_encryption_version: expected 0, or a version from min_decryption_version (${next.minDecryptionVersion}) to ${latest}.`,
    );
  }
  if (row.exportable && !next.exportable) {
    throw wrong('exportable: once allowed, it cannot be taken back; make a new key.');
  }
  return next;
}

/** Destroys every version below `minAvailableVersion`: nothing that they encrypted ever opens again. */
export async function trimKey(
  vault: Vault,
  call: Call,
  name: KeyName,
  { minAvailableVersion: wanted }: { minAvailableVersion: number },
): Promise<KeyInfo> {
  return permit(vault, call, keyAsk('transit.trim', name), async (tx, { tenant }) => {
    const row = await keyRow(tx, tenant, name, 'lock');
    checkTrim(row, wanted);
    const gone = await tx`
      DELETE FROM transit_key_versions WHERE tenant_id = ${tenant} AND key_id = ${row.id} AND version < ${wanted}
      RETURNING version`;
    await tx`
      UPDATE transit_keys SET min_available_version = ${wanted} WHERE tenant_id = ${tenant} AND key_id = ${row.id}`;
    const details = { min_available_version: wanted, versions_destroyed: gone.length };
    return { value: await infoOf(tx, tenant, name), notes: [{ details }], revokes: true };
  });
}

function checkTrim({ minAvailableVersion, minDecryptionVersion, minEncryptionVersion }: KeyRow, wanted: number): void {
  if (wanted < minAvailableVersion) {
    throw wrong(`min_available_version: versions below ${minAvailableVersion} are gone already.`);
  }
  if (wanted > minDecryptionVersion || (minEncryptionVersion !== 0 && wanted > minEncryptionVersion)) {
    throw wrong(
      `min_available_version: expected at most min_decryption_version, which is ${minDecryptionVersion}; raise it first.`,
    );
  }
}

/** Deletes a key with all its versions, when its settings allow that. Throws `conflict` otherwise. */
export async function deleteKey(vault: Vault, call: Call, name: KeyName): Promise<void> {
  await permit(vault, call, keyAsk('transit.delete', name), async (tx, { tenant }) => {
    const row = await keyRow(tx, tenant, name, 'lock');
    if (!row.deletionAllowed) {
      throw new VaultError('conflict', 'Deletion is not allowed for this key: set deletion_allowed first.', {
        details: { reason: 'deletion_not_allowed' },
      });
    }
    await tx`DELETE FROM transit_keys WHERE tenant_id = ${tenant} AND key_id = ${row.id}`;
    return {
      value: undefined,
      notes: [{ details: { type: row.type, latest_version: row.latestVersion } }],
      revokes: true,
    };
  });
}

/** Removes every named key of a tenant that is being deleted. */
export async function removeNamedKeys(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM transit_keys WHERE tenant_id = ${tenant}`;
}

/** Drops what is in memory of a tenant's named keys. */
export function forgetNamedKeys(vault: Vault, tenant: TenantId): void {
  vault.namedKeys.dropPrefix(`${tenant}/`);
}
