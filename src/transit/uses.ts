/**
 * How often a version with nonces of 12 bytes has encrypted. Random nonces of that length collide too likely after 2^32
 * of them (SP 800-38D §8.3), so uses are counted before they happen: a block of them is reserved, durably, and only what
 * is reserved is used. A node that dies loses the rest of its block: the count is over, never under (case T-011).
 */
import { LIMITS } from '../config.ts';
import { type TenantId, transaction } from '../db/database.ts';
import type { Vault } from '../vault.ts';

/** Reserved by this node and not yet used, by tenant, key and version. */
const reservedHere = new WeakMap<Vault, Map<string, number>>();

/** Nodes forget blocks rather than remember without bound. */
const REMEMBERED_MAX = 10_000;

/** Takes `count` uses. False when the version has not so many left: it is to be rotated. */
export async function takeUses(
  vault: Vault,
  tenant: TenantId,
  key: string,
  version: number,
  count: number,
): Promise<boolean> {
  const here = reservedHere.get(vault) ?? new Map<string, number>();
  reservedHere.set(vault, here);
  const id = `${tenant}/${key}/${version}`;
  while ((here.get(id) ?? 0) < count) {
    if (!(await reserve(vault, tenant, key, version))) return false;
    if (here.size >= REMEMBERED_MAX) here.clear();
    here.set(id, (here.get(id) ?? 0) + LIMITS.transitUsesBlock);
  }
  here.set(id, here.get(id)! - count);
  return true;
}

/** On the lane for keys: the caller is inside a transaction and holds a lane of the others. */
async function reserve(vault: Vault, tenant: TenantId, key: string, version: number): Promise<boolean> {
  const { transitUsesBlock: block, transitUsesMax: max } = LIMITS;
  const rows = await transaction(
    vault.keyDb,
    [tenant],
    (tx) => tx`
      UPDATE transit_key_uses SET reserved = reserved + ${block}
      WHERE tenant_id = ${tenant} AND key_id = ${key} AND version = ${version} AND reserved + ${block}::bigint <= ${max}::bigint
      RETURNING 1`,
  );
  return rows.length > 0;
}
