/**
 * Requests that were refused before any verb saw them: a body that is no JSON, a path that is not canonical, a route
 * that does not exist. Whoever sent one with a token of ours is known, so there is an entry with the request's id.
 */
import { append } from '../audit/append.ts';
import { markRecorded } from '../audit/recorded.ts';
import { type TenantId, transaction } from '../db/database.ts';
import type { ErrorCode } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { type Call, proves, readAccess, resolve } from './access.ts';

/** `route` is a pattern of ours, never what was sent. Nothing is recorded for a token that was never issued. */
export async function recordRefused(
  vault: Vault,
  call: Call,
  { method, route, code }: { method: string; route: string; code: ErrorCode },
): Promise<void> {
  const { token, requestId, source, protocol } = call;
  if (!token) return;
  const tenant = token.tenantId as TenantId;
  const done = await transaction(vault.db, [tenant], async (tx) => {
    const [row] = await readAccess(tx, [token]);
    if (!row || !proves(row, token)) return false;
    const { actor } = await resolve(vault, tx, token, row, source);
    const details = { method, route };
    const origin = { requestId, source, protocol };
    const outcome = code === 'forbidden' ? 'denied' : 'error';
    const entry = { origin, actor, action: 'request.refused', outcome, code, details } as const;
    await append(tx, [{ tenant, entries: [entry] }]);
    return true;
  });
  if (done) markRecorded(call);
}
