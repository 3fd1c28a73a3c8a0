/** How a sweeper of any node hears that something is due: PostgreSQL's NOTIFY for the others, a call for our own. */
import type { Tx } from '../db/database.ts';
import type { Vault } from '../vault.ts';

export const CHANNEL = 'bulla_leases';

/** With the commit, every node's sweeper looks. For what is due now; what is due later its own node remembers. */
export async function notifySweepers(tx: Tx): Promise<void> {
  await tx`SELECT pg_notify(${CHANNEL}, '')`;
}

const wakers = new WeakMap<Vault, (inMs: number) => void>();

/** Lets this node's sweeper look in so many milliseconds at the latest. */
export function wakeSweeper(vault: Vault, inMs: number): void {
  wakers.get(vault)?.(inMs);
}

export function onWake(vault: Vault, waker: ((inMs: number) => void) | undefined): void {
  if (waker) wakers.set(vault, waker);
  else wakers.delete(vault);
}
