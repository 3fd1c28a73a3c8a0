/**
 * While the vault is sealed, every route but these answers `sealed`, whatever protocol it is of: before the token is
 * looked at, because none could be told from another.
 */
import type { IncomingMessage } from 'node:http';
import type { Dialect } from '../protocols/protocol.ts';
import type { Vault } from '../vault.ts';

const OPEN_WHILE_SEALED: ReadonlySet<string> = new Set(['/healthz', '/api/v1/seal', '/api/v1/seal/unseal']);

export function refuseWhileSealed(vault: Vault, { url = '' }: IncomingMessage, dialect?: Dialect): void {
  if (!vault.seal.sealed) return;
  const question = url.indexOf('?');
  const open = dialect?.openWhileSealed ?? OPEN_WHILE_SEALED;
  if (open.has(question === -1 ? url : url.slice(0, question))) return;
  throw vault.seal.error;
}
