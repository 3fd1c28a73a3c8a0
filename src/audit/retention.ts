/**
 * How long lines are kept. Retention removes lines, the oldest first and only those that a checkpoint covers; leaf
 * hashes, tiles and checkpoints stay, so every proof still holds and what is left is still proved. Each removal is an
 * entry of the log that it shortens, in the same commit.
 */
import { randomId } from '../crypto/token.ts';
import { type TenantId, transaction } from '../db/database.ts';
import type { Call } from '../policy/access.ts';
import { permit, withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { VAULT_ACTOR } from './entry.ts';

/** `days` null: for ever. Lines before `removedTo` are gone. */
export type Retention = { readonly days: number | null; readonly removedTo: number };

export async function readRetention(vault: Vault, call: Call): Promise<Retention> {
  return permit(vault, call, { action: 'audit.read', resource: 'audit:log' }, async (tx, { tenant }) => {
    const [row] = await tx<Retention[]>`
      SELECT days, removed_to AS "removedTo" FROM audit_retention WHERE tenant_id = ${tenant}`;
    return { value: row ?? { days: null, removedTo: 0 }, notes: [{ details: { setting: 'retention' } }] };
  });
}

export async function setRetention(vault: Vault, call: Call, days: number | null): Promise<Retention> {
  return permit(vault, call, { action: 'audit.retain', resource: 'audit:log' }, async (tx, { tenant }) => {
    const [row] = await tx<Retention[]>`
      INSERT INTO audit_retention (tenant_id, days) VALUES (${tenant}, ${days})
      ON CONFLICT (tenant_id) DO UPDATE SET days = excluded.days
      RETURNING days, removed_to AS "removedTo"`;
    return { value: row!, notes: [{ details: { days: days ?? 'for ever' } }] };
  });
}

/** Of these logs, those whose lines are not kept for ever. */
export async function limitedLogs(vault: Vault, tenants: readonly TenantId[]): Promise<TenantId[]> {
  const rows = await transaction(
    vault.db,
    tenants,
    (tx) => tx<{ tenant: TenantId }[]>`
      SELECT tenant_id AS tenant FROM audit_retention WHERE days IS NOT NULL ORDER BY tenant_id`,
  );
  return rows.map((row) => row.tenant);
}

const SEGMENTS_AT_ONCE = 10_000;
const DEADLINE_MS = 30_000;

/** Removes what is due of a log, in commits of a bounded size. Returns how many entries lost their line. */
export async function removeOldLines(
  vault: Vault,
  tenant: TenantId,
  segmentsAtOnce = SEGMENTS_AT_ONCE,
): Promise<number> {
  const call = { requestId: `retention-${randomId()}`, source: '', protocol: 'vault' };
  let removed = 0;
  for (;;) {
    const gone = await withoutToken(
      vault,
      call,
      [tenant],
      async (tx) => {
        const [row] = await tx<{ first: number; until: number }[]>`
          SELECT first, until FROM bulla.remove_audit_lines(${tenant}, ${segmentsAtOnce})`;
        if (!row) return { value: 0, records: [] };
        const said = { tenant, actor: VAULT_ACTOR, action: 'audit.remove-lines', outcome: 'ok' } as const;
        const details = { from_index: row.first, to_index: row.until };
        return { value: row.until - row.first, records: [{ ...said, resource: 'audit:log', details }] };
      },
      { deadlineMs: DEADLINE_MS },
    );
    if (gone === 0) return removed;
    removed += gone;
  }
}
