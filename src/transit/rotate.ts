/**
 * New versions of named keys: when somebody asks, when the latest is past its age, and when it has encrypted as often as
 * is safe. Which version is replaced is said beforehand where the vault itself rotates, so of two nodes that see the
 * same key one rotates it and the other finds that it is done.
 */
import { VAULT_ACTOR } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import type { KeyType, NamedKey } from '../crypto/named-key.ts';
import { randomId } from '../crypto/token.ts';
import { SYSTEM, type TenantId, type Tx, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck, withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { infoOf, insertVersion, type KeyInfo, keyRow } from './key.ts';
import { makeKey } from './make.ts';
import { type KeyName, keyAsk } from './name.ts';

/** Throws `not_found`, and `conflict` when the key was replaced by one of another type meanwhile. */
export async function rotateKey(vault: Vault, call: Call, name: KeyName): Promise<KeyInfo> {
  const ask = keyAsk('transit.rotate', name);
  const { tenant } = await precheck(vault, call, ask);
  const made = await makeFor(vault, tenant, name);
  if (made === undefined) return permit(vault, call, ask, async (tx) => ({ value: await infoOf(tx, tenant, name) }));
  try {
    return await permit(vault, call, ask, async (tx) => {
      const version = await addVersion(vault, tx, tenant, name, made, undefined);
      return { value: await infoOf(tx, tenant, name), notes: [{ version }] };
    });
  } finally {
    made.wipe();
  }
}

/** Rotates if `version` is still the latest. Throws `conflict` when it is not, `not_found` when the key is gone. */
export async function rotateByItself(
  vault: Vault,
  tenant: TenantId,
  name: KeyName,
  version: number,
  why: 'by_age' | 'by_count',
): Promise<void> {
  const made = await makeFor(vault, tenant, name);
  if (made === undefined) return;
  const origin = { requestId: `schedule-${randomId()}`, source: '', protocol: 'vault' };
  try {
    await withoutToken(vault, origin, [tenant], async (tx) => {
      const next = await addVersion(vault, tx, tenant, name, made, version);
      const said = { tenant, actor: VAULT_ACTOR, outcome: 'ok' } as const;
      const about = { action: 'transit.rotate', resource: `transit:${name}`, version: next, details: { [why]: true } };
      return { value: undefined, records: [{ ...said, ...about }] };
    });
  } finally {
    made.wipe();
  }
}

export type DueNamedKey = { readonly tenant: TenantId; readonly name: KeyName; readonly version: number };

/**
 * Keys whose latest version is past their auto_rotate_period, oldest first. Tenants in a subquery, because a join may be
 * planned as a walk through the keys of all of them.
 */
export async function readDueNamedKeys(vault: Vault, limit: number): Promise<DueNamedKey[]> {
  return transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<DueNamedKey[]>`
      SELECT k.tenant_id AS tenant, k.name, k.latest_version AS version
      FROM transit_keys k WHERE k.auto_rotate_seconds > 0
        AND k.counted_from < (SELECT bulla.steady_now()) - make_interval(secs => k.auto_rotate_seconds)
        AND (SELECT state FROM tenants t WHERE t.tenant_id = k.tenant_id) = 'active'
      ORDER BY k.counted_from LIMIT ${limit}`,
  );
}

/** A new version of the key's type, made outside of the transaction that stores it. Undefined when there is no key. */
async function makeFor(vault: Vault, tenant: TenantId, name: KeyName): Promise<NamedKey | undefined> {
  const [row] = await transaction(
    vault.db,
    [tenant],
    (tx) => tx<{ type: KeyType; macBytes: number }[]>`
      SELECT type, mac_bytes AS "macBytes" FROM transit_keys WHERE tenant_id = ${tenant} AND name = ${name}`,
  );
  return row && makeKey(row.type, row.macBytes);
}

async function addVersion(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  name: KeyName,
  made: NamedKey,
  expected: number | undefined,
): Promise<number> {
  const { id, type, latestVersion } = await keyRow(tx, tenant, name, 'lock');
  if (type !== made.type || (expected !== undefined && expected !== latestVersion)) {
    throw new VaultError('conflict', 'The key was changed meanwhile: look at it and try again.');
  }
  const version = latestVersion + 1;
  if (version > LIMITS.versionMax)
    throw new VaultError('conflict', 'The key has had as many versions as can be counted.');
  await insertVersion(vault, tx, tenant, id, version, made);
  await tx`
    UPDATE transit_keys SET latest_version = ${version}, counted_from = bulla.steady_now()
    WHERE tenant_id = ${tenant} AND key_id = ${id}`;
  return version;
}
