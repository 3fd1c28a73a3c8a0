/** What metrics are told of leases. */

import { SYSTEM, transaction } from '../db/database.ts';
import type { Vault } from '../vault.ts';
import { IS_STUCK } from './lease.ts';

/** What became of a revocation at its target. `checking`: it is looked for once more. */
export type Ended = 'ended' | 'checking' | 'failed';

type Listener = (outcome: Ended, lateSeconds: number) => void;
const listeners = new WeakMap<Vault, Listener>();

/** Hears of every revocation of this node. */
export function onEnds(vault: Vault, listener: Listener): void {
  listeners.set(vault, listener);
}

export function tellEnd(vault: Vault, outcome: Ended, lateSeconds: number): void {
  listeners.get(vault)?.(outcome, lateSeconds);
}

/** How many leases are stuck, over all tenants, and whether the latch holds. */
export async function summariseLeases(vault: Vault): Promise<{ stuck: number; latched: boolean }> {
  const [row] = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<{ stuck: number; latched: boolean }[]>`
      SELECT (SELECT count(*) FROM leases WHERE ${tx.unsafe(IS_STUCK)}) AS stuck,
             EXISTS (SELECT 1 FROM lease_clocks WHERE latched_at IS NOT NULL) AS latched`,
  );
  return row!;
}
