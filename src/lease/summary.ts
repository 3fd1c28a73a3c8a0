/** What metrics are told of leases. */
import { SYSTEM, type Tx, transaction } from '../db/database.ts';
import type { Vault } from '../vault.ts';

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

/** LIMITS.stuckAttempts, as the index of such leases has it: a parameter would not be seen to be the same. */
export const isStuck = (tx: Tx) => tx`attempts >= 3 AND state <> 'ended'`;

/** How many leases are stuck, over all tenants, and whether the latch holds. */
export async function summariseLeases(vault: Vault): Promise<{ stuck: number; latched: boolean }> {
  const [row] = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<{ stuck: number; latched: boolean }[]>`
      SELECT (SELECT count(*) FROM leases WHERE ${isStuck(tx)}) AS stuck,
             EXISTS (SELECT 1 FROM lease_clocks WHERE latched_at IS NOT NULL) AS latched`,
  );
  return row!;
}
