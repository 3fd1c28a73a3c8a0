/**
 * That every request is in the log: those that no verb recorded get an entry when their token is ours, and are counted
 * when it is not. What protocols and http/ call when an answer is made and when it has gone.
 */
import { countUnrecorded, isRecorded } from '../audit/recorded.ts';
import { parseBearerOf } from '../auth/bearer.ts';
import { type ErrorCode, VaultError } from '../errors.ts';
import { recordRefused } from '../policy/refused.ts';
import type { Vault } from '../vault.ts';
import type { Exchange } from './protocol.ts';

/** The log cannot be written now, or the verb has looked at the token already and it is nobody's. */
const UNRECORDABLE: ReadonlySet<ErrorCode> = new Set([
  'unavailable',
  'busy',
  'outcome_unknown',
  'sealed',
  'unauthenticated',
  // One entry each would make a flood of requests one of entries.
  'too_many_requests',
]);

/** Records a refused request that has no entry yet. Never throws: an answer is waiting. */
export async function recordUnheard(vault: Vault, exchange: Exchange, code: ErrorCode, method: string): Promise<void> {
  const { incoming, requestId, source, route, dialect } = exchange;
  const token = dialect ? dialect.tokenOf(incoming) : parseBearerOf(incoming.socket, incoming.headers.authorization);
  exchange.call ??= { requestId, source, protocol: 'http', token, certificate: exchange.clientCertificate?.thumbprint };
  if (isRecorded(exchange.call) || UNRECORDABLE.has(code)) return;
  try {
    await recordRefused(vault, exchange.call, { method, route, code });
  } catch (error) {
    // It is counted instead, as every request without an entry.
    if (!(error instanceof VaultError)) vault.log.error({ request: requestId }, 'a refused request was not recorded');
  }
}

/** Counts a request that has no entry, when its answer has gone; whether it is one. */
export function countUnheard(vault: Vault, { call, source, code }: Exchange): boolean {
  if (call && isRecorded(call)) return false;
  countUnrecorded(vault, source, code ?? 'ok');
  return true;
}

/** Counts what never became a request. */
export const countUnread = countUnrecorded;
