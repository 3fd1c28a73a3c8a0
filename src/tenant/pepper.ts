/** The versions of the pepper, as rows of the keys' tables. What depends on one and who may change it is job/pepper.ts's. */
import type { SecretBytes } from '../crypto/keys.ts';
import type { Timestamp, Tx } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { isForeignKeyViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { activeRootKey } from './keyring.ts';
import { insertSystemKey } from './rotation.ts';

export type PepperVersion = {
  readonly version: number;
  readonly state: 'active' | 'retiring' | 'destroyed';
  readonly createdAt: Timestamp;
  readonly destroyedAt: Timestamp | null;
};

/** Newest first. */
export function pepperVersions(tx: Tx): Promise<PepperVersion[]> {
  return tx<PepperVersion[]>`
    SELECT version, state, created_at AS "createdAt", destroyed_at AS "destroyedAt" FROM system_keys
    WHERE purpose = 'pepper' ORDER BY version DESC`;
}

/** Retires the active version and stores the next one. Throws `conflict` when another rotation was first. */
export async function replacePepper(
  vault: Vault,
  tx: Tx,
  pepper: SecretBytes,
): Promise<Pick<PepperVersion, 'version' | 'createdAt'>> {
  const [old] = await tx<{ version: number }[]>`
    UPDATE system_keys SET state = 'retiring' WHERE purpose = 'pepper' AND state = 'active' RETURNING version`;
  if (!old) throw new VaultError('conflict', 'Another rotation of the pepper is running: look at GET /peppers.');
  killpoint('pepper.retired');
  const version = old.version + 1;
  await insertSystemKey(tx, 'pepper', version, pepper, await activeRootKey(vault));
  killpoint('pepper.inserted');
  const [row] = await tx<{ createdAt: Timestamp }[]>`
    SELECT created_at AS "createdAt" FROM system_keys WHERE purpose = 'pepper' AND version = ${version}`;
  return { version, ...row! };
}

/** The state of a version, and which one is active. Throws `not_found`. */
export async function assertPepper(
  tx: Tx,
  version: number,
): Promise<{ state: PepperVersion['state']; active: number }> {
  const rows = await tx<{ version: number; state: PepperVersion['state'] }[]>`
    SELECT version, state FROM system_keys WHERE purpose = 'pepper' AND (version = ${version} OR state = 'active')`;
  const found = rows.find((row) => row.version === version);
  const active = rows.find((row) => row.state === 'active');
  if (!found || !active) throw new VaultError('not_found', `There is no pepper version ${version}.`);
  return { state: found.state, active: active.version };
}

/** The foreign keys of passwords refuse this while one depends on the version: `conflict`, and the transaction is lost. */
export async function deletePepper(tx: Tx, version: number): Promise<void> {
  try {
    await tx`DELETE FROM system_key_material WHERE purpose = 'pepper' AND version = ${version}`;
  } catch (error) {
    if (!isForeignKeyViolation(error)) throw error;
    throw new VaultError(
      'conflict',
      'Passwords still depend on this pepper: see GET /peppers/{version}/users, wait for their logins, or end them with end_passwords.',
    );
  }
  await tx`
    UPDATE system_keys SET state = 'destroyed', destroyed_at = bulla.now()
    WHERE purpose = 'pepper' AND version = ${version}`;
}
