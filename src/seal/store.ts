/**
 * The one row that says which seal the root keys are under, and whether an operator has sealed the vault.
 *
 * Owns the table seals. Root keys refer to the row by its id, so a root key can be made under the current seal only, and
 * a seal that anything is still wrapped by cannot go: the foreign key says so, on every node.
 */
import type { Timestamp, Tx } from '../db/database.ts';
import { isForeignKeyViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import { type NewSeal, SEAL_KINDS, type SealKind, type SealParameters, type StoredSeal } from './seal.ts';

export type SealRow = StoredSeal & { readonly rootVersion: number };

/** What every node looks at again and again. */
export type SealGlance = {
  readonly id: string;
  /** Since when an operator has sealed the vault. */
  readonly sealedAt: Timestamp | null;
};

export async function glance(tx: Tx): Promise<SealGlance | undefined> {
  const [row] = await tx<SealGlance[]>`SELECT seal_id AS id, sealed_at AS "sealedAt" FROM seals`;
  return row;
}

/** Undefined in a vault that has no root key yet. */
export async function readSeal(tx: Tx): Promise<SealRow | undefined> {
  const [row] = await tx<{ id: string; kind: string; parameters: string; wrapped: Uint8Array; rootVersion: number }[]>`
    SELECT seal_id AS id, s.kind, s.parameters, m.wrapped, m.version AS "rootVersion"
    FROM seals s JOIN root_key_material m USING (tenant_id, seal_id) JOIN root_keys k USING (tenant_id, version)
    WHERE k.state = 'active'`;
  return row && { ...row, kind: kindOf(row.kind), parameters: parse(row.parameters) };
}

function kindOf(text: string): SealKind {
  const kind = SEAL_KINDS.find((known) => known === text);
  if (kind !== undefined) return kind;
  throw new VaultError(
    'sealed',
    'The vault was sealed by a kind of seal that this release does not know: update Bulla.',
  );
}

function parse(text: string): SealParameters {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as SealParameters;
  } catch {
    // Falls through: an edited row.
  }
  throw new VaultError('integrity', 'The parameters of the seal were edited: restore the table seals from a backup.');
}

/** Stores a seal that a root key is about to refer to. */
export async function insertSeal(tx: Tx, id: string, { seal, parameters }: NewSeal): Promise<void> {
  await tx`
    INSERT INTO seals (seal_id, kind, parameters, created_at)
    VALUES (${id}, ${seal.kind}, ${JSON.stringify(parameters)}, bulla.now())`;
}

/**
 * Puts another seal beside the one that the vault has, in the caller's transaction, which then moves every root key to
 * it and calls `removeSeal`. Throws `conflict` when the seal has changed since it was read.
 */
export async function insertSealBeside(tx: Tx, from: string, id: string, made: NewSeal): Promise<void> {
  const [current] = await tx<{ id: string }[]>`SELECT seal_id AS id FROM seals FOR UPDATE`;
  if (current?.id !== from) throw changed();
  await insertSeal(tx, id, made);
}

/** The foreign key refuses this while a root key is under it. */
export async function removeSeal(tx: Tx, id: string): Promise<void> {
  try {
    await tx`DELETE FROM seals WHERE seal_id = ${id}`;
  } catch (error) {
    throw isForeignKeyViolation(error) ? changed() : error;
  }
}

function changed(): VaultError {
  return new VaultError(
    'conflict',
    'The root key or the seal changed meanwhile, so nothing was migrated: look at GET /seal and try again.',
  );
}

/** Whether it was open before. */
export async function markSealed(tx: Tx): Promise<boolean> {
  const done = await tx`UPDATE seals SET sealed_at = bulla.now() WHERE sealed_at IS NULL`;
  return done.count === 1;
}

export async function markUnsealed(tx: Tx, id: string): Promise<void> {
  await tx`UPDATE seals SET sealed_at = NULL WHERE seal_id = ${id} AND sealed_at IS NOT NULL`;
}
