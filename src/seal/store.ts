/**
 * The one row that says which seal the root keys are under, and whether an operator has sealed the vault.
 *
 * Owns the table seals. Root keys refer to the row by its id, so a root key can be made under the current seal only, and
 * a seal that anything is still wrapped by cannot go: the foreign key says so, on every node.
 */
import { isForeignKeyViolation, type Timestamp, type Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { type NewSeal, SEAL_KINDS, type SealKind, type SealParameters, type StoredSeal } from './seal.ts';

export type SealRow = StoredSeal & { readonly rootVersion: number };

/** What every node looks at again and again. */
export type SealGlance = {
  readonly id: string;
  readonly kind: string;
  /** Since when an operator has sealed the vault. */
  readonly sealedAt: Timestamp | null;
  /** Of a migration whose root key rotation is still to come: the kind of the seal before. */
  readonly migratingFrom: string | null;
};

export async function glance(tx: Tx): Promise<SealGlance | undefined> {
  const [row] = await tx<SealGlance[]>`
    SELECT seal_id AS id, kind, sealed_at AS "sealedAt",
           (SELECT s.carried_from FROM root_keys k WHERE k.version = s.carried_root_version AND k.state <> 'destroyed')
           AS "migratingFrom"
    FROM seals s`;
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

/** Stores the first seal of a vault. */
export async function insertSeal(tx: Tx, id: string, { seal, parameters }: NewSeal): Promise<void> {
  await tx`
    INSERT INTO seals (seal_id, kind, parameters, created_at)
    VALUES (${id}, ${seal.kind}, ${JSON.stringify(parameters)}, bulla.now())`;
}

export type CarriedKey = { readonly version: number; readonly before: Uint8Array; readonly after: Uint8Array };

/** Every root key as the current seal wraps it, the active one first. */
export async function readCarried(tx: Tx): Promise<{ version: number; wrapped: Uint8Array; sealId: string }[]> {
  return tx<{ version: number; wrapped: Uint8Array; sealId: string }[]>`
    SELECT version, wrapped, seal_id AS "sealId" FROM root_key_material JOIN root_keys USING (tenant_id, version)
    ORDER BY state = 'active' DESC, version`;
}

/**
 * Puts another seal in the place of the one that the vault has: every root key as the new one wraps it, the old seal
 * gone, in the caller's transaction. Throws `conflict` when a root key or the seal has changed since it was read.
 */
export async function replaceSeal(
  tx: Tx,
  from: string,
  to: { readonly id: string; readonly made: NewSeal },
  keys: readonly CarriedKey[],
): Promise<void> {
  const [current] = await tx<{ id: string; kind: string }[]>`SELECT seal_id AS id, kind FROM seals FOR UPDATE`;
  if (current?.id !== from) throw changed();
  const { seal, parameters } = to.made;
  await tx`
    INSERT INTO seals (seal_id, kind, parameters, created_at, carried_root_version, carried_from)
    VALUES (${to.id}, ${seal.kind}, ${JSON.stringify(parameters)}, bulla.now(), ${keys[0]!.version}, ${current.kind})`;
  for (const { version, before, after } of keys) {
    const moved = await tx`
      UPDATE root_key_material SET wrapped = ${after}, seal = ${seal.kind}, seal_id = ${to.id}
      WHERE version = ${version} AND wrapped = ${before} AND seal_id = ${from}`;
    if (moved.count !== 1) throw changed();
  }
  try {
    await tx`DELETE FROM seals WHERE seal_id = ${from}`;
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
