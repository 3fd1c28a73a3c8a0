/** Moving a secret to another path, with all its versions. Nothing is re-encrypted: ciphertexts are bound to its id. */
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Note, permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import type { SecretPath } from './path.ts';
import { checkRotatorMove } from './rotator.ts';
import { lockSecret, secretAsk } from './row.ts';

/**
 * Needs to read and delete where it is, and to write where it goes: otherwise moving would be a way to read. With a
 * rotator it needs what taking that away here, and giving it there, needs.
 * Throws `not_found`, or `conflict` when the target exists.
 */
export async function moveSecret(
  vault: Vault,
  call: Call,
  from: SecretPath,
  to: SecretPath,
): Promise<{ path: string; version: number }> {
  const asks = [secretAsk('secret.write', to), secretAsk('secret.read', from), secretAsk('secret.delete', from)];
  return permit(vault, call, asks, async (tx, granted) => {
    const { tenant } = granted;
    const { secretId, currentVersion } = await lockSecret(tx, tenant, from);
    if (from === to) throw new VaultError('conflict', `There is a secret ${to} already: it is the one to be moved.`);
    await checkRotatorMove(tx, granted, secretId, from, to);
    try {
      await tx`
        UPDATE secrets SET path = ${to}, updated_at = bulla.now() WHERE tenant_id = ${tenant} AND secret_id = ${secretId}`;
    } catch (error) {
      if (isUniqueViolation(error)) throw new VaultError('conflict', `There is a secret ${to} already.`);
      throw error;
    }
    const notes: Note[] = [
      { action: 'secret.write', version: currentVersion, details: { moved_from: `secret:${from}` } },
      { action: 'secret.delete', resource: `secret:${from}`, details: { moved_to: `secret:${to}` } },
    ];
    return { value: { path: to, version: currentVersion }, notes };
  });
}
