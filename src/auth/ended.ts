/**
 * Forgetting what has ended: tokens whose account never logs in again, which would stay for ever.
 *
 * A token that has ended is kept for some days, because whoever shows it is known and recorded until then. What goes
 * here opened nothing any more, so nothing of it is an act.
 */
import { SYSTEM, type TenantId, transaction } from '../db/database.ts';
import type { Vault } from '../vault.ts';

const KEPT = '7 days';
const LOOKED_AT = 5_000;
const REMOVED_AT_ONCE = 500;

/**
 * One bounded round over the tenants where something is due; tells how many tokens have gone. They are found by their time:
 * `=` would have the planner walk through all of a tenant.
 */
export async function forgetEnded(vault: Vault): Promise<number> {
  const due = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<{ tenant: TenantId }[]>`
      SELECT tenant FROM bulla.tenants_with_ended_tokens(${KEPT}::interval, ${LOOKED_AT}) AS tenant`,
  );
  let gone = 0;
  for (const { tenant } of due) {
    gone += await transaction(vault.db, [tenant], async (tx) => {
      const removed = await tx`
        WITH ended AS MATERIALIZED (
          SELECT token_id FROM tokens
          WHERE tenant_id IS NOT DISTINCT FROM ${tenant} AND kind <> 'lease'
            AND expires_at <= (SELECT bulla.now()) - ${KEPT}::interval
          ORDER BY expires_at LIMIT ${REMOVED_AT_ONCE} FOR UPDATE SKIP LOCKED)
        DELETE FROM tokens t USING ended e WHERE t.tenant_id = ${tenant} AND t.token_id = e.token_id`;
      return removed.count;
    });
  }
  return gone;
}
