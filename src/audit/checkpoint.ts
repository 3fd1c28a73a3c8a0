/**
 * Checkpoints: signed notes over size and root of a log (c2sp.org/tlog-checkpoint).
 *
 *     <deployment>/<tenant> ␊ size ␊ root in base64 ␊ ␊ — <deployment>/<tenant> signature ␊
 *
 * Invariants: a log never has two checkpoints of one size; a new one is signed only after the tree that the last one
 * names was shown, by a consistency proof over what is stored, to be the beginning of the tree that is signed; and a
 * note's signature is checked before the note is believed. The row of audit_signing, locked, orders the nodes. They are
 * never deleted.
 */
import type { SecretBytes } from '../crypto/keys.ts';
import { proveConsistency, rootOf, verifyConsistency } from '../crypto/merkle.ts';
import {
  type Checkpoint,
  formatCheckpoint,
  formatVerifierKey,
  NoteSigner,
  openNote,
  parseCheckpoint,
  parseVerifierKey,
  signNote,
  type Verifier,
} from '../crypto/note.ts';
import { randomId } from '../crypto/token.ts';
import { type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { withoutToken } from '../policy/permit.ts';
import { systemKey, systemKeyVersions } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { VAULT_ACTOR } from './entry.ts';
import { assertNotHalted, halt } from './halt.ts';
import { type Extent, fillTiles, lockSigning, nodesOf, rootAt, TILE_WIDTH } from './tree.ts';

export type SignedCheckpoint = {
  readonly tenant: TenantId;
  readonly size: number;
  readonly root: Uint8Array;
  /** The signed note. */
  readonly note: string;
  readonly signedAt: Timestamp;
};

export const originOf = (vault: Vault, tenant: TenantId) => `${vault.deploymentId}/${tenant}`;

/** The log key's versions that sign, newest first, and all that verify. To be wiped after use. */
export type LogKeys = {
  readonly active: number;
  readonly seeds: readonly SecretBytes[];
  readonly publicKeys: readonly { readonly version: number; readonly state: string; readonly publicKey: Uint8Array }[];
  readonly wipe: () => void;
};

export async function openLogKeys(vault: Vault): Promise<LogKeys> {
  const versions = await systemKeyVersions(vault, 'log-signing');
  const active = versions.find((key) => key.state === 'active');
  if (!active) throw new VaultError('unavailable', 'This vault has no log key yet: start the server once to make it.');
  const seeds: SecretBytes[] = [];
  for (const { version, state } of versions) {
    if (state !== 'destroyed') seeds.push((await systemKey(vault, 'log-signing', version)).secret);
  }
  const publicKeys = versions.flatMap(({ version, state, publicKey }) =>
    publicKey ? [{ version, state, publicKey }] : [],
  );
  const wipe = () => {
    for (const seed of seeds) seed.wipe();
  };
  return { active: active.version, seeds, publicKeys, wipe };
}

/** The verifier keys of a log, newest first. Keys that still sign are taken from their seeds, not from the table. */
export function verifiersOf(vault: Vault, tenant: TenantId, keys: LogKeys): Verifier[] {
  const name = originOf(vault, tenant);
  const own = keys.seeds.map((seed) => parseVerifierKey(verifierKeyOf(name, seed)));
  const past = keys.publicKeys.map(({ publicKey }) => parseVerifierKey(formatVerifierKey(name, publicKey)));
  return [...own, ...past.filter((key) => !own.some((other) => other.keyId === key.keyId))];
}

function verifierKeyOf(name: string, seed: SecretBytes): string {
  const signer = new NoteSigner(name, seed);
  signer.wipe();
  return signer.verifierKey;
}

/** The newest checkpoint of a log, or the one of a size, as stored. */
export async function readCheckpoint(tx: Tx, tenant: TenantId, size?: number): Promise<SignedCheckpoint | undefined> {
  const [row] = await tx<SignedCheckpoint[]>`
    SELECT tenant_id AS tenant, size, root, note, signed_at AS "signedAt" FROM audit_checkpoints
    WHERE tenant_id = ${tenant} ${size === undefined ? tx`` : tx`AND size = ${size}`} ORDER BY size DESC LIMIT 1`;
  return row;
}

/** The last notes that witnesses have cosigned. */
async function readCosigned(tx: Tx, tenant: TenantId): Promise<string[]> {
  const rows = await tx<{ cosigned: string }[]>`
    SELECT cosigned FROM audit_deliveries WHERE tenant_id = ${tenant} AND cosigned IS NOT NULL`;
  return rows.map((row) => row.cosigned);
}

/** Opens a note of ours. Throws `integrity` when it is not one, or is another log's. */
export function openCheckpoint(note: string, origin: string, verifiers: readonly Verifier[]): Checkpoint {
  const checkpoint = parseCheckpoint(openNote(Buffer.from(note, 'utf8'), verifiers).text);
  if (checkpoint.origin !== origin) {
    throw new VaultError('integrity', `The checkpoint is of the log ${checkpoint.origin}, not of ${origin}.`);
  }
  return checkpoint;
}

/**
 * Throws `integrity` unless the tree of a checkpoint is the beginning of the stored tree. The message names the log and
 * both sizes: it is what an operator sees.
 */
export async function assertExtends(tx: Tx, tenant: TenantId, before: Checkpoint, extent: Extent): Promise<void> {
  const { origin, size } = before;
  if (size > extent.size) {
    throw new VaultError(
      'integrity',
      `The log ${origin} has ${extent.size} entries, and ${size} were signed: the database is older than its checkpoint, or its end was cut off.`,
    );
  }
  const root = rootOf(extent.size, extent.frontier);
  const proof = await proveConsistency(size, extent.size, nodesOf(tx, tenant, extent));
  if (verifyConsistency(size, before.root, extent.size, root, proof)) return;
  const same = Buffer.compare(await rootAt(tx, tenant, extent, size), before.root) === 0;
  throw new VaultError(
    'integrity',
    same
      ? `The head of the log ${origin} is not the root of its ${extent.size} leaf hashes: entries after ${size} were rewritten.`
      : `The log ${origin} was rewritten before entry ${size}: its first ${size} leaf hashes are not those that were signed.`,
  );
}

/** Checkpoints that nobody has taken to the outside yet, by log. Kept only once somebody has asked. */
const fresh = new WeakMap<Vault, Map<TenantId, SignedCheckpoint>>();

/** What has been signed or met since the last time, on demand or not: the newest of each log. */
export function takeFreshCheckpoints(vault: Vault): SignedCheckpoint[] {
  const taken = [...(fresh.get(vault)?.values() ?? [])];
  fresh.set(vault, new Map());
  return taken;
}

/** Takes what a worker of this node signed as if it had been signed here: the next round takes it to the outside. */
export function meetCheckpoint(vault: Vault, signed: SignedCheckpoint): void {
  const known = fresh.get(vault)?.get(signed.tenant);
  if ((known?.size ?? 0) < signed.size) fresh.get(vault)?.set(signed.tenant, signed);
}

/** What each node of this process has signed or seen last, which no database can take back. */
const seen = new WeakMap<Vault, Map<TenantId, Checkpoint>>();

function seenOf(vault: Vault): Map<TenantId, Checkpoint> {
  const known = seen.get(vault) ?? new Map<TenantId, Checkpoint>();
  seen.set(vault, known);
  return known;
}

/**
 * Signs the log as it is, when it has grown since the last checkpoint, and returns the newest checkpoint; undefined for
 * an empty log. Announces the key first where no entry has. Throws `integrity` when the log is not an extension of what
 * was signed: then nothing was signed, and this node halts.
 */
export async function signLog(vault: Vault, tenant: TenantId, keys: LogKeys): Promise<SignedCheckpoint | undefined> {
  assertNotHalted(vault);
  try {
    return await extend(vault, tenant, keys);
  } catch (error) {
    if (error instanceof VaultError && error.code === 'integrity') halt(vault, error.message);
    throw error;
  }
}

async function extend(vault: Vault, tenant: TenantId, keys: LogKeys): Promise<SignedCheckpoint | undefined> {
  await announceKey(vault, tenant, keys);
  const known = seenOf(vault).get(tenant);
  while (await fillRound(vault, tenant)) {
    // Each round is a commit of its own, so that a long backlog holds no lock for long.
  }
  const signed = await transaction(vault.db, [tenant], async (tx) => {
    const { signedSize } = await lockSigning(tx, tenant);
    const extent = await fillTiles(tx, tenant);
    const verifiers = verifiersOf(vault, tenant, keys);
    const last = await readCheckpoint(tx, tenant);
    const origin = originOf(vault, tenant);
    assertNotTakenBack(origin, last, known, signedSize);
    if (last) await assertExtends(tx, tenant, agreed(last, openCheckpoint(last.note, origin, verifiers)), extent);
    for (const note of await readCosigned(tx, tenant)) {
      await assertExtends(tx, tenant, openCheckpoint(note, origin, verifiers), extent);
    }
    if (extent.size === (last?.size ?? 0)) return last;
    return signExtent(tx, tenant, origin, extent, keys);
  });
  if (!signed) return undefined;
  if (known?.size !== signed.size) fresh.get(vault)?.set(tenant, signed);
  seenOf(vault).set(tenant, { origin: originOf(vault, tenant), ...signed, extensions: [] });
  return signed;
}

/** One commit of tiles; true while more than one whole tile is left. */
async function fillRound(vault: Vault, tenant: TenantId): Promise<boolean> {
  const { size, tiledSize } = await transaction(vault.db, [tenant], (tx) => fillTiles(tx, tenant));
  return size - tiledSize >= 64 * TILE_WIDTH;
}

export async function fillLog(vault: Vault, tenant: TenantId): Promise<void> {
  while (await fillRound(vault, tenant)) {
    // As above.
  }
}

async function signExtent(
  tx: Tx,
  tenant: TenantId,
  origin: string,
  { size, frontier }: Extent,
  keys: LogKeys,
): Promise<SignedCheckpoint> {
  const root = rootOf(size, frontier);
  const signers = keys.seeds.map((seed) => new NoteSigner(origin, seed));
  const note = signNote(formatCheckpoint({ origin, size, root, extensions: [] }), signers);
  for (const signer of signers) signer.wipe();
  const [row] = await tx<{ signedAt: Timestamp }[]>`
    WITH signing AS (
      UPDATE audit_signing SET signed_size = ${size}, signed_at = bulla.now() WHERE tenant_id = ${tenant}
    )
    INSERT INTO audit_checkpoints (tenant_id, size, root, note, key_version, signed_at)
    VALUES (${tenant}, ${size}, ${root}, ${note}, ${keys.active}, bulla.now()) RETURNING signed_at AS "signedAt"`;
  return { tenant, size, root, note, signedAt: row!.signedAt };
}

function assertNotTakenBack(
  origin: string,
  last: SignedCheckpoint | undefined,
  known: Checkpoint | undefined,
  signedSize: number,
): void {
  const least = Math.max(known?.size ?? 0, signedSize);
  if ((last?.size ?? 0) < least) {
    throw new VaultError(
      'integrity',
      `The log ${origin} was signed at size ${least}, and its newest checkpoint is of size ${last?.size ?? 0}: checkpoints were removed, or the database is older.`,
    );
  }
  if (known && last && known.size === last.size && Buffer.compare(known.root, last.root) !== 0) {
    throw new VaultError('integrity', `The log ${origin} has two checkpoints of size ${known.size}: it was forked.`);
  }
}

/** A row and the note in it that say different things were edited. */
function agreed(row: SignedCheckpoint, opened: Checkpoint): Checkpoint {
  if (row.size === opened.size && Buffer.compare(row.root, opened.root) === 0) return opened;
  throw new VaultError(
    'integrity',
    `The checkpoint of size ${row.size} in the log ${opened.origin} was edited: its note says ${opened.size}.`,
  );
}

/** Says in the log itself which key signs it, before the first checkpoint with that key. */
async function announceKey(vault: Vault, tenant: TenantId, keys: LogKeys): Promise<void> {
  const announced = await transaction(vault.db, [tenant], async (tx) => {
    const [row] = await tx<{ version: number }[]>`
      SELECT key_announced AS version FROM audit_signing WHERE tenant_id = ${tenant}`;
    return row?.version ?? 0;
  });
  if (announced >= keys.active) return;
  const verifierKey = verifierKeyOf(originOf(vault, tenant), keys.seeds[0]!);
  const origin = { requestId: `log-key-${randomId()}`, source: '', protocol: 'vault' };
  await withoutToken(vault, origin, [tenant], async (tx) => {
    const { keyAnnounced } = await lockSigning(tx, tenant);
    if (keyAnnounced >= keys.active) return { value: undefined, records: [] };
    await tx`UPDATE audit_signing SET key_announced = ${keys.active} WHERE tenant_id = ${tenant}`;
    const said = { tenant, actor: VAULT_ACTOR, outcome: 'ok', action: 'log-key.announce' } as const;
    return {
      value: undefined,
      records: [{ ...said, resource: 'key:log', version: keys.active, details: { verifier_key: verifierKey } }],
    };
  });
}

/** Of these logs, those with whole tiles to store, and those that have grown and were last signed so long ago. */
export async function dueLogs(
  vault: Vault,
  tenants: readonly TenantId[],
  intervalSeconds: number,
): Promise<{ tenant: TenantId; sign: boolean }[]> {
  return transaction(vault.db, tenants, async (tx) => [
    ...(await tx<{ tenant: TenantId; sign: boolean }[]>`
      SELECT tenant, sign FROM (
        SELECT h.tenant_id AS tenant, h.size - coalesce(s.tiled_size, 0) >= ${TILE_WIDTH} AS fill,
               h.size > coalesce(s.signed_size, 0) AND coalesce(
                 s.signed_at NOT BETWEEN bulla.now() - make_interval(secs => ${intervalSeconds}) AND bulla.now(), true) AS sign
        FROM audit_heads h LEFT JOIN audit_signing s USING (tenant_id)
        WHERE h.size > coalesce(s.signed_size, 0) OR h.size - coalesce(s.tiled_size, 0) >= ${TILE_WIDTH}
      ) logs WHERE fill OR sign ORDER BY tenant`),
  ]);
}
