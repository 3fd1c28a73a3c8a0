/** A bound on the transactions of the ends of leases that run at once on this node. */
import type { Vault } from '../vault.ts';

/** Many leases that end together leave the connections of the vault's database to others. */
const TURNS = 3;
const turns = new WeakMap<Vault, { running: number; waiting: (() => void)[] }>();

/** Runs `work` when fewer than that many are at it; first come, first served. */
export async function inTurn<T>(vault: Vault, work: () => Promise<T>): Promise<T> {
  const turn = turns.get(vault) ?? { running: 0, waiting: [] };
  turns.set(vault, turn);
  if (turn.running >= TURNS) await new Promise<void>((resolve) => turn.waiting.push(resolve));
  else turn.running += 1;
  try {
    return await work();
  } finally {
    const next = turn.waiting.shift();
    if (next) next();
    else turn.running -= 1;
  }
}
