/** A bound on the transactions of the ends of leases that run at once on this node. */
import { createTurns, type Turns } from '../turns.ts';
import type { Vault } from '../vault.ts';

/** Many leases that end together leave the connections of the vault's database to others. */
const TURNS = 3;
const turns = new WeakMap<Vault, Turns>();

export function inTurn<T>(vault: Vault, work: () => Promise<T>): Promise<T> {
  const turn = turns.get(vault) ?? createTurns(TURNS);
  turns.set(vault, turn);
  return turn(work);
}
