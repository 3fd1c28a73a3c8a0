/** Whether the vault can serve: its database answers. Says nothing about any tenant and is not recorded. */
import { SYSTEM, transaction } from '../db/database.ts';
import type { Vault } from '../vault.ts';

/** Throws `unavailable` when the database cannot be reached or does not answer within the deadline. */
export async function assertReady(vault: Vault): Promise<void> {
  await transaction(vault.db, [SYSTEM], (tx) => tx`SELECT 1`);
}
