/**
 * The stored Merkle tree of a log: tiles (c2sp.org/tlog-tiles) and the leaf hashes behind them.
 *
 *     tile (level, n) = the hashes at height 8·level with the indexes 256·n … 256·n+255
 *
 * Appending writes leaf hashes only. `fillTiles` follows: it stores level 0 in whole tiles and adds the root of each to
 * the tile above, all in one commit with `tiled_size`, so a crash loses nothing that it would not make again. A node is
 * read from tiles below `tiled_size` and made from leaf hashes after it, so a proof reads O(log n) rows.
 *
 * Nothing here is believed: what is read must add up to a root that the caller trusts.
 */
import {
  appendLeaves,
  EMPTY_TREE,
  frontierNodes,
  HASH_BYTES,
  nodeHash,
  rootOf,
  type TreeNode,
} from '../crypto/merkle.ts';
import type { TenantId, Tx } from '../db/database.ts';
import { assert, VaultError } from '../errors.ts';

export const TILE_WIDTH = 256;
const TILE_BYTES = TILE_WIDTH * HASH_BYTES;
const TILE_HEIGHT = 8;

/** How far a log and its tiles have come. */
export type Extent = { readonly size: number; readonly frontier: Uint8Array; readonly tiledSize: number };

/** Unlocked: a log only grows, so what was complete stays so. */
export async function readExtent(tx: Tx, tenant: TenantId): Promise<Extent> {
  const [row] = await tx<Extent[]>`
    SELECT h.size, h.frontier, coalesce(s.tiled_size, 0) AS "tiledSize"
    FROM audit_heads h LEFT JOIN audit_signing s USING (tenant_id) WHERE h.tenant_id = ${tenant}`;
  if (!row) throw damaged('The head of this audit log is missing: restore the table audit_heads from a backup.');
  return row;
}

/** Locks the row that orders tiles and signatures of a log, making it where it is new. */
export async function lockSigning(
  tx: Tx,
  tenant: TenantId,
): Promise<{ tiledSize: number; signedSize: number; keyAnnounced: number }> {
  const locked = () => tx<{ tiledSize: number; signedSize: number; keyAnnounced: number }[]>`
    SELECT tiled_size AS "tiledSize", signed_size AS "signedSize", key_announced AS "keyAnnounced"
    FROM audit_signing WHERE tenant_id = ${tenant} FOR UPDATE`;
  const [row] = await locked();
  if (row) return row;
  await tx`INSERT INTO audit_signing (tenant_id) VALUES (${tenant}) ON CONFLICT (tenant_id) DO NOTHING`;
  return (await locked())[0]!;
}

const FILLED_AT_ONCE = 256 * TILE_WIDTH;

/**
 * Stores the tiles that have filled, up to `entriesMax` entries, under the lock of `lockSigning`. Returns the extent
 * afterwards; more is to be done while a whole tile is left.
 */
export async function fillTiles(tx: Tx, tenant: TenantId, entriesMax = FILLED_AT_ONCE): Promise<Extent> {
  const { tiledSize } = await lockSigning(tx, tenant);
  const extent = await readExtent(tx, tenant);
  const end = Math.min(extent.size - (extent.size % TILE_WIDTH), tiledSize + entriesMax);
  if (end <= tiledSize) return { ...extent, tiledSize };
  const leaves = await readLeaves(tx, tenant, tiledSize, end);
  const first = tiledSize / TILE_WIDTH;
  const count = (end - tiledSize) / TILE_WIDTH;
  await tx`
    INSERT INTO audit_tiles (tenant_id, level, tile, hashes)
    SELECT ${tenant}, 0, ${first}::bigint + i, substring(${leaves}::bytea FROM i * ${TILE_BYTES}::int + 1 FOR ${TILE_BYTES}::int)
    FROM generate_series(0, ${count - 1}::int) AS i`;
  await growLevels(tx, tenant, first, rootsOf(leaves));
  await tx`UPDATE audit_signing SET tiled_size = ${end} WHERE tenant_id = ${tenant}`;
  return { ...extent, tiledSize: end };
}

/** Adds the roots of full tiles to the tiles above, level by level. `first` is the index of the first in its level. */
async function growLevels(tx: Tx, tenant: TenantId, first: number, roots: Buffer): Promise<void> {
  let index = first;
  let added = roots;
  for (let level = 1; added.length > 0; level += 1) {
    const tile = Math.floor(index / TILE_WIDTH);
    const held = index % TILE_WIDTH === 0 ? undefined : await readTileRow(tx, tenant, level, tile);
    if ((held?.length ?? 0) !== (index % TILE_WIDTH) * HASH_BYTES) {
      throw damaged(`Tile ${tile} of level ${level} of this audit log is missing or damaged.`);
    }
    const all = held ? Buffer.concat([held, added]) : added;
    const full = Math.floor(all.length / TILE_BYTES);
    await tx`
      INSERT INTO audit_tiles (tenant_id, level, tile, hashes)
      SELECT ${tenant}, ${level}, ${tile}::bigint + i, substring(${all}::bytea FROM i * ${TILE_BYTES}::int + 1 FOR ${TILE_BYTES}::int)
      FROM generate_series(0, ${Math.ceil(all.length / TILE_BYTES) - 1}::int) AS i
      ON CONFLICT (tenant_id, level, tile) DO UPDATE SET hashes = excluded.hashes`;
    index = tile;
    added = rootsOf(all.subarray(0, full * TILE_BYTES));
  }
}

function rootsOf(tiles: Buffer): Buffer {
  const roots: Uint8Array[] = [];
  for (let at = 0; at < tiles.length; at += TILE_BYTES) roots.push(subtreeRoot(tiles.subarray(at, at + TILE_BYTES)));
  return Buffer.concat(roots);
}

/** Of a power of two of hashes. */
function subtreeRoot(hashes: Uint8Array): Uint8Array {
  if (hashes.length === HASH_BYTES) return hashes;
  const { frontier } = appendLeaves(EMPTY_TREE.size, EMPTY_TREE.frontier, hashes);
  assert(frontier.length === HASH_BYTES, 'a subtree has a power of two of leaves');
  return frontier;
}

async function readTileRow(tx: Tx, tenant: TenantId, level: number, tile: number): Promise<Buffer | undefined> {
  const [row] = await tx<{ hashes: Buffer }[]>`
    SELECT hashes FROM audit_tiles WHERE tenant_id = ${tenant} AND level = ${level} AND tile = ${tile}`;
  return row?.hashes;
}

/** The leaf hashes from `from` to before `end`. `integrity` names the first that is missing. */
async function readLeaves(tx: Tx, tenant: TenantId, from: number, end: number): Promise<Buffer> {
  if (end <= from) return Buffer.alloc(0);
  // Only what is asked for leaves the database: a row may hold many more.
  const rows = await tx<{ start: number; hashes: Buffer }[]>`
    SELECT greatest(l.first_seq, ${from}) AS start,
           substring(l.hashes FROM ((greatest(l.first_seq, ${from}) - l.first_seq) * ${HASH_BYTES} + 1)::int
             FOR ((least(l.first_seq + l.count, ${end}) - greatest(l.first_seq, ${from})) * ${HASH_BYTES})::int) AS hashes
    FROM (SELECT coalesce(max(first_seq), 0) AS low FROM audit_leaves
          WHERE tenant_id = ${tenant} AND first_seq <= ${from}) AS bound
    CROSS JOIN LATERAL (
      SELECT first_seq, count, hashes FROM audit_leaves
      WHERE tenant_id = ${tenant} AND first_seq >= bound.low AND first_seq < ${end} OFFSET 0
    ) AS l
    WHERE l.first_seq + l.count > ${from} ORDER BY l.first_seq`;
  let at = from;
  for (const { start, hashes } of rows) {
    if (start !== at) break;
    at += hashes.length / HASH_BYTES;
  }
  if (at === end) return Buffer.concat(rows.map((row) => row.hashes));
  throw damaged(`The leaf hash of entry ${at} is missing from the table audit_leaves.`);
}

/** Reads hashes of complete subtrees: what proveInclusion and proveConsistency ask for. */
export function nodesOf(tx: Tx, tenant: TenantId, { tiledSize, size }: Extent) {
  return async (nodes: readonly TreeNode[]): Promise<Uint8Array[]> => {
    const parts = nodes.flatMap((node) => splitAt(node, tiledSize));
    const end = Math.max(0, ...parts.map((node) => (node.index + 1) * 2 ** node.level));
    assert(end <= size, 'a node is read once it is complete');
    const tiled = parts.filter((node) => isTiled(node, tiledSize));
    // Sent together: one round trip.
    const [tiles, tail] = await Promise.all([readTiles(tx, tenant, tiled), readLeaves(tx, tenant, tiledSize, end)]);
    const known = new Map<string, Uint8Array>();
    const hashOf = (node: TreeNode): Uint8Array => {
      const key = `${node.level}/${node.index}`;
      const hash = known.get(key) ?? computed(node);
      known.set(key, hash);
      return hash;
    };
    const computed = (node: TreeNode): Uint8Array => {
      if (isTiled(node, tiledSize)) return fromTile(tiles, node);
      const start = node.index * 2 ** node.level - tiledSize;
      if (start >= 0) {
        return subtreeRoot(tail.subarray(start * HASH_BYTES, (start + 2 ** node.level) * HASH_BYTES));
      }
      const [left, right] = childrenOf(node);
      return nodeHash(hashOf(left), hashOf(right));
    };
    return nodes.map(hashOf);
  };
}

const childrenOf = ({ level, index }: TreeNode): [TreeNode, TreeNode] => [
  { level: level - 1, index: index * 2 },
  { level: level - 1, index: index * 2 + 1 },
];

const isTiled = ({ level, index }: TreeNode, tiledSize: number) => (index + 1) * 2 ** level <= tiledSize;

/** A node that the end of the tiles cuts, as nodes that lie on one side of it. */
function splitAt(node: TreeNode, tiledSize: number): TreeNode[] {
  const start = node.index * 2 ** node.level;
  if (isTiled(node, tiledSize) || start >= tiledSize) return [node];
  return childrenOf(node).flatMap((child) => splitAt(child, tiledSize));
}

type Place = { readonly level: number; readonly tile: number; readonly start: number; readonly width: number };

function placeOf({ level, index }: TreeNode): Place {
  const width = 2 ** (level % TILE_HEIGHT);
  const first = index * width;
  return {
    level: Math.floor(level / TILE_HEIGHT),
    tile: Math.floor(first / TILE_WIDTH),
    start: first % TILE_WIDTH,
    width,
  };
}

const tileKey = ({ level, tile }: Pick<Place, 'level' | 'tile'>) => `${level}/${tile}`;

async function readTiles(tx: Tx, tenant: TenantId, nodes: readonly TreeNode[]): Promise<Map<string, Buffer>> {
  const wanted = new Map(nodes.map(placeOf).map((place) => [tileKey(place), place]));
  if (wanted.size === 0) return new Map();
  const places = [...wanted.values()];
  const rows = await tx<{ level: number; tile: number; hashes: Buffer }[]>`
    SELECT t.level, t.tile, t.hashes
    FROM unnest(${places.map((place) => place.level)}::int[], ${places.map((place) => String(place.tile))}::text[])
         AS w (level, tile)
    CROSS JOIN LATERAL (
      SELECT level, tile, hashes FROM audit_tiles
      WHERE tenant_id = ${tenant} AND level = w.level AND tile = w.tile::bigint OFFSET 0
    ) t`;
  return new Map(rows.map((row) => [tileKey(row), row.hashes]));
}

function fromTile(tiles: ReadonlyMap<string, Buffer>, node: TreeNode): Uint8Array {
  const place = placeOf(node);
  const hashes = tiles.get(tileKey(place));
  const end = (place.start + place.width) * HASH_BYTES;
  if (!hashes || hashes.length < end) {
    throw damaged(`Tile ${place.tile} of level ${place.level} of this audit log is missing or damaged.`);
  }
  return subtreeRoot(hashes.subarray(place.start * HASH_BYTES, end));
}

/** The root of the log as it was at `size`. */
export async function rootAt(tx: Tx, tenant: TenantId, extent: Extent, size: number): Promise<Uint8Array> {
  if (size === extent.size) return rootOf(size, extent.frontier);
  const hashes = await nodesOf(tx, tenant, extent)(frontierNodes(size));
  return rootOf(size, Buffer.concat(hashes));
}

/** `width` hashes of a tile from its beginning; undefined where the log does not have so many. */
export async function readTile(
  tx: Tx,
  tenant: TenantId,
  extent: Extent,
  level: number,
  tile: number,
  width: number,
): Promise<Buffer | undefined> {
  const first = tile * TILE_WIDTH;
  const height = level * TILE_HEIGHT;
  if ((first + width) * 2 ** height > extent.size) return undefined;
  const nodes = Array.from({ length: width }, (_, i) => ({ level: height, index: first + i }));
  return Buffer.concat(await nodesOf(tx, tenant, extent)(nodes));
}

function damaged(message: string): VaultError {
  return new VaultError('integrity', message);
}
