/**
 * The uses of a token that has few: counted by the gate, in the transaction of what the token does. Part of the table
 * tokens.
 */
import type { Tx } from '../db/database.ts';

/**
 * Takes one use. False when none is left: whoever asks at the same time waits for this transaction, and is then counted
 * or refused. The use comes back when the transaction is undone.
 */
export async function useToken(
  tx: Tx,
  token: { readonly tenantId: string; readonly tokenId: string },
): Promise<boolean> {
  const taken = await tx`
    UPDATE tokens SET uses_left = uses_left - 1
    WHERE tenant_id = ${token.tenantId} AND token_id = ${token.tokenId} AND uses_left > 0 RETURNING uses_left`;
  return taken.length > 0;
}
