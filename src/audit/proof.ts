/**
 * What proves the caller's log: checkpoints, inclusion and consistency proofs, tiles, the verifier key. Every request
 * makes an entry; what is proven is the log before it.
 *
 * A proof is checked against the root that it is for before it leaves: a vault whose stored tree does not add up says so
 * instead of handing out a proof that fails.
 */
import {
  frontierNodes,
  proveConsistency,
  proveInclusion,
  rootOf,
  type TreeNode,
  verifyConsistency,
  verifyInclusion,
} from '../crypto/merkle.ts';
import { formatVerifierKey } from '../crypto/note.ts';
import type { TenantId, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import { systemKeyVersions } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { openLogKeys, originOf, readCheckpoint, type SignedCheckpoint, signLog } from './checkpoint.ts';
import { type DeletedLog, permitLog } from './log.ts';
import { type Extent, fillTiles, nodesOf, readExtent, readTile, rootAt, TILE_WIDTH } from './tree.ts';

const ask = { action: 'audit.read', resource: 'audit:log' } as const;

export type InclusionProof = {
  readonly origin: string;
  readonly index: number;
  readonly size: number;
  readonly leaf: Uint8Array;
  readonly proof: readonly Uint8Array[];
  readonly root: Uint8Array;
  /** The checkpoint of this size, when one was signed. */
  readonly checkpoint: string | null;
};

/** That the entry at `index` is in the log of `size` entries; the newest checkpoint's size when absent. */
export async function proveEntry(
  vault: Vault,
  call: Call,
  { index, size: wanted }: { index: number; size?: number | undefined },
): Promise<InclusionProof> {
  const details = { proof: 'inclusion', index, ...(wanted === undefined ? {} : { size: wanted }) };
  return prove(vault, call, details, async (tx, tenant, extent) => {
    const { size, checkpoint } = await sizeFor(tx, tenant, extent, wanted);
    const also: TreeNode[] = [{ level: 0, index }, ...frontierNodes(size)];
    let read: Uint8Array[] = [];
    const proof = await proveInclusion(index, size, async (nodes) => {
      read = await nodesOf(tx, tenant, extent)([...also, ...nodes]);
      return read.slice(also.length);
    });
    if (read.length === 0) read = await nodesOf(tx, tenant, extent)(also);
    const leaf = read[0]!;
    const root = rootOf(size, Buffer.concat(read.slice(1, also.length)));
    if (!verifyInclusion(index, size, leaf, proof, root)) throw unproven(`entry ${index} in ${size}`);
    return { origin: originOf(vault, tenant), index, size, leaf, proof, root, checkpoint };
  });
}

export type ConsistencyProof = {
  readonly origin: string;
  readonly from: number;
  readonly to: number;
  readonly proof: readonly Uint8Array[];
  readonly fromRoot: Uint8Array;
  readonly toRoot: Uint8Array;
  readonly checkpoint: string | null;
};

/** That the log of `from` entries is the beginning of the log of `to`; the newest checkpoint's size when absent. */
export async function proveExtension(
  vault: Vault,
  call: Call,
  { from, to: wanted }: { from: number; to?: number | undefined },
): Promise<ConsistencyProof> {
  const details = { proof: 'consistency', from, ...(wanted === undefined ? {} : { to: wanted }) };
  return prove(vault, call, details, async (tx, tenant, extent) => {
    const { size: to, checkpoint } = await sizeFor(tx, tenant, extent, wanted);
    const proof = await proveConsistency(from, to, nodesOf(tx, tenant, extent));
    const fromRoot = await rootAt(tx, tenant, extent, from);
    const toRoot = await rootAt(tx, tenant, extent, to);
    if (!verifyConsistency(from, fromRoot, to, toRoot, proof)) throw unproven(`${from} in ${to}`);
    return { origin: originOf(vault, tenant), from, to, proof, fromRoot, toRoot, checkpoint };
  });
}

/** Up to so many entries are put into tiles while a request waits; the vault's own timer does the rest. */
const FILLED_IN_REQUEST = 1024 * TILE_WIDTH;
const UNTILED_MAX = 8 * TILE_WIDTH;

async function prove<T>(
  vault: Vault,
  call: Call,
  details: Record<string, string | number>,
  make: (tx: Tx, tenant: TenantId, extent: Extent) => Promise<T>,
): Promise<T> {
  return permit(vault, call, ask, async (tx, { tenant }) => {
    let extent = await readExtent(tx, tenant);
    if (extent.size - extent.tiledSize > UNTILED_MAX) extent = await fillTiles(tx, tenant, FILLED_IN_REQUEST);
    return { value: await make(tx, tenant, extent), notes: [{ details }] };
  });
}

/** The size that a proof is for, and the note that was signed over it. */
async function sizeFor(
  tx: Tx,
  tenant: TenantId,
  extent: Extent,
  wanted: number | undefined,
): Promise<{ size: number; checkpoint: string | null }> {
  const signed = await readCheckpoint(tx, tenant, wanted);
  const size = wanted ?? signed?.size ?? extent.size;
  if (size <= extent.size) return { size, checkpoint: signed?.note ?? null };
  throw new VaultError('invalid_request', `The log has ${extent.size} entries, not ${size}.`);
}

function unproven(what: string): VaultError {
  return new VaultError('integrity', `The stored tree of this log does not prove ${what}: it was edited or damaged.`);
}

/** `height` 0 … 6 of c2sp.org/tlog-tiles; `width` hashes of it, 256 when it is whole. `not_found` beyond the log. */
export async function readLogTile(
  vault: Vault,
  call: Call,
  { level, tile, width }: { level: number; tile: number; width: number },
): Promise<Uint8Array> {
  return prove(vault, call, { tile: `${level}/${tile}`, width }, async (tx, tenant, extent) => {
    const hashes = await readTile(tx, tenant, extent, level, tile, width);
    if (!hashes) throw new VaultError('not_found', `The log has no ${width} hashes in tile ${tile} of level ${level}.`);
    return hashes;
  });
}

/** The newest checkpoint, or the one of a size. */
export async function readSignedCheckpoint(
  vault: Vault,
  call: Call,
  size?: number,
  log?: DeletedLog,
): Promise<SignedCheckpoint> {
  const details = { checkpoint: size === undefined ? 'newest' : String(size) };
  return permitLog(vault, call, log, async (tx, tenant) => {
    const checkpoint = await readCheckpoint(tx, tenant, size);
    if (!checkpoint) {
      throw new VaultError('not_found', 'There is no such checkpoint: POST /audit/checkpoint has one signed now.');
    }
    return { value: checkpoint, details };
  });
}

/** Has the log signed as it is, the entry that records this included. */
export async function signCheckpoint(vault: Vault, call: Call): Promise<SignedCheckpoint> {
  const tenant = await permit(vault, call, { action: 'audit.sign', resource: 'audit:log' }, async (_, granted) => {
    return { value: granted.tenant };
  });
  const keys = await openLogKeys(vault);
  try {
    return (await signLog(vault, tenant, keys))!;
  } finally {
    keys.wipe();
  }
}

/** The verifier keys of a log, newest first; those that sign no more too when `all`. */
export async function readVerifierKeys(vault: Vault, call: Call, all: boolean, log?: DeletedLog): Promise<string[]> {
  const versions = await systemKeyVersions(vault, 'log-signing');
  const tenant = await permitLog(vault, call, log, async (_, of) => ({
    value: of,
    details: { key: all ? 'all' : 'active' },
  }));
  return versions.flatMap(({ state, publicKey }) =>
    publicKey && (all || state === 'active') ? [formatVerifierKey(originOf(vault, tenant), publicKey)] : [],
  );
}
