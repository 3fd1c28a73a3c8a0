/**
 * While the vault is sealed, every route but these answers `sealed`, whatever protocol it is of: before the token is
 * looked at, because none could be told from another.
 */
import type { IncomingMessage } from 'node:http';
import type { Vault } from '../vault.ts';

const OPEN_WHILE_SEALED: ReadonlySet<string> = new Set(['/healthz', '/api/v1/seal', '/api/v1/seal/unseal']);

export function refuseWhileSealed(vault: Vault, { url = '' }: IncomingMessage): void {
  if (!vault.seal.sealed) return;
  const question = url.indexOf('?');
  if (OPEN_WHILE_SEALED.has(question === -1 ? url : url.slice(0, question))) return;
  throw vault.seal.error;
}
