/**
 * Whose log is read: the caller's own, or, for operators, that of a tenant which was deleted. A log outlives its tenant,
 * whose tokens ended with it, so nobody else could export what is left of it; the log of a tenant that lives is its own.
 */
import { asTenantId, type TenantId, type Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import type { Details } from './entry.ts';

/** A log to read instead of one's own: the id that its tenant had. */
export type DeletedLog = string | undefined;

/**
 * Runs `read` on the log, in the transaction that records who read it. Throws `invalid_request` for what is no id,
 * `not_found` when no deleted tenant had it.
 */
export async function permitLog<T>(
  vault: Vault,
  call: Call,
  deleted: DeletedLog,
  read: (tx: Tx, tenant: TenantId) => Promise<{ value: T; details: Details }>,
): Promise<T> {
  if (deleted === undefined) {
    return permit(vault, call, { action: 'audit.read', resource: 'audit:log' }, async (tx, { tenant }) => {
      const { value, details } = await read(tx, tenant);
      return { value, notes: [{ details }] };
    });
  }
  const log = parseLog(deleted);
  const ask = { action: 'audit.read-deleted', resource: `audit:${log}` } as const;
  const act = async (tx: Tx) => {
    const rows = await tx`
      SELECT 1 FROM tenants WHERE tenant_id = ${log} AND state IN ('deleting', 'deleted')`;
    if (rows.length === 0) throw new VaultError('not_found', `No tenant that was deleted had the id ${log}.`);
    const { value, details } = await read(tx, log);
    return { value, notes: [{ details: { ...details, log } }] };
  };
  return permit(vault, call, ask, act, { tenants: [log] });
}

function parseLog(text: string): TenantId {
  if (/^[a-z2-7]{16}$/.test(text)) return asTenantId(text);
  throw new VaultError('invalid_request', 'log: expected the 16 characters that were the id of the deleted tenant.');
}
