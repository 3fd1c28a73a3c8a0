/** Whether the vault can serve: its database answers. Says nothing about any tenant and is not recorded. */
import { assertNotHalted } from '../audit/halt.ts';
import { SYSTEM, transaction } from '../db/database.ts';
import type { Vault } from '../vault.ts';

/**
 * Throws `sealed` when this node has halted, `unavailable` when the database cannot be reached or does not answer
 * within the deadline.
 */
export async function assertReady(vault: Vault): Promise<void> {
  assertNotHalted(vault);
  await transaction(vault.db, [SYSTEM], (tx) => tx`SELECT 1`);
}
