/**
 * Whether this node still trusts its database. When a log is found not to extend what was signed before, the node stops:
 * it signs nothing more and serves no secret until it is started again and the check at the start holds or an operator
 * has acknowledged the rollback. Only our own checks halt; what a witness says never does.
 */
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';

const reasons = new WeakMap<Vault, string>();
const listeners = new WeakMap<Vault, (reason: string) => void>();

/** Hears once, when this node halts. */
export function onHalt(vault: Vault, listener: (reason: string) => void): void {
  listeners.set(vault, listener);
}

/** The first reason stays. */
export function halt(vault: Vault, reason: string): void {
  if (reasons.has(vault)) return;
  reasons.set(vault, reason);
  vault.log.fatal({ reason }, 'the audit log is not what was signed: no secret is served');
  listeners.get(vault)?.(reason);
}

export function haltReason(vault: Vault): string | undefined {
  return reasons.get(vault);
}

/** What a caller hears of a node that has halted, or undefined. */
export function haltRefusal(vault: Vault): VaultError | undefined {
  if (!reasons.has(vault)) return undefined;
  return new VaultError(
    'sealed',
    'This vault has found that its audit log is not the one that it signed, and serves no secret: see its log, and docs/audit.md.',
  );
}

/** Throws `sealed` when this node has halted. */
export function assertNotHalted(vault: Vault): void {
  const refusal = haltRefusal(vault);
  if (refusal) throw refusal;
}
