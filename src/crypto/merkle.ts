/**
 * The Merkle tree of RFC 6962 §2.1, kept as a frontier; pure.
 *
 *     leaf hash = SHA-256(0x00 ‖ line)      node hash = SHA-256(0x01 ‖ left ‖ right)      empty tree = SHA-256("")
 *
 * A tree of `size` leaves is the row of complete subtrees that the binary digits of `size` name, largest first. The
 * frontier is their roots, 32 bytes each, one after the other: all that appending and the root need. Sizes and indexes
 * are integers up to 2^53−1, so they are divided, never shifted.
 *
 * A node is named by its level and its index in that level: it covers the leaves from index × 2^level to
 * (index + 1) × 2^level and exists once all of them do. Proofs are made of such nodes only, so what is stored of them
 * never changes. This file must never decide what a proof is about: callers bring sizes and roots they trust.
 */
import { hash } from 'node:crypto';
import { assert, VaultError } from '../errors.ts';

export const HASH_BYTES = 32;

/** A tree as it is stored. */
export type Tree = { readonly size: number; readonly frontier: Uint8Array };

export const EMPTY_TREE: Tree = { size: 0, frontier: new Uint8Array(0) };

/** A complete subtree. */
export type TreeNode = { readonly level: number; readonly index: number };

/** Reads the hashes of complete subtrees, in the order asked for; one call per proof. */
export type NodeReader = (nodes: readonly TreeNode[]) => Promise<readonly Uint8Array[]>;

export function leafHash(line: Uint8Array): Uint8Array {
  return Buffer.from(leafDigest(line), 'latin1');
}

/** The same, written into `target` at `offset`: for many leaves. */
export function writeLeafHash(line: Uint8Array, target: Buffer, offset: number): void {
  target.write(leafDigest(line), offset, HASH_BYTES, 'latin1');
}

/** The same of a line given as text. */
export function writeLeafHashOfText(line: string, target: Buffer, offset: number): void {
  // UTF-8 is at most three times as long as the text.
  const bytesMax = 1 + line.length * 3;
  const input = bytesMax <= leafInput.length ? leafInput : Buffer.alloc(bytesMax);
  const end = 1 + input.write(line, 1, 'utf8');
  target.write(digest(input.subarray(0, end)), offset, HASH_BYTES, 'latin1');
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  assert(left.length === HASH_BYTES && right.length === HASH_BYTES, 'a node has two hashes of 32 bytes');
  nodeInput.set(left, 1);
  nodeInput.set(right, 1 + HASH_BYTES);
  return sha256(nodeInput);
}

/** Appends n leaves, given as n × 32 bytes of leaf hashes. */
export function appendLeaves(size: number, frontier: Uint8Array, leafHashes: Uint8Array): Tree {
  checkFrontier(size, frontier);
  assert(leafHashes.length % HASH_BYTES === 0, 'leaf hashes have 32 bytes each');
  const count = leafHashes.length / HASH_BYTES;
  assert(Number.isSafeInteger(size + count), 'a tree has at most 2^53-1 leaves');

  const stack = Buffer.alloc(DEPTH_MAX * HASH_BYTES);
  stack.set(frontier);
  let end = frontier.length;
  for (let i = 0; i < count; i++) {
    copyBytes(leafHashes, i * HASH_BYTES, HASH_BYTES, stack, end);
    end += HASH_BYTES;
    // Each trailing 1 of the size is a complete subtree as large as the one just made: the two become one.
    for (let n = size + i; n % 2 === 1; n = Math.floor(n / 2)) {
      end -= HASH_BYTES;
      copyBytes(stack, end - HASH_BYTES, 2 * HASH_BYTES, nodeInput, 1);
      stack.write(digest(nodeInput), end - HASH_BYTES, HASH_BYTES, 'latin1');
    }
  }
  return { size: size + count, frontier: Uint8Array.prototype.slice.call(stack, 0, end) };
}

/** For few bytes: what views would cost is more than the copying. */
function copyBytes(from: Uint8Array, at: number, length: number, to: Uint8Array, toAt: number): void {
  for (let i = 0; i < length; i++) to[toAt + i] = from[at + i]!;
}

export function rootOf(size: number, frontier: Uint8Array): Uint8Array {
  checkFrontier(size, frontier);
  if (size === 0) return sha256(frontier);
  let root: Uint8Array = frontier.slice(-HASH_BYTES);
  for (let end = frontier.length - HASH_BYTES; end > 0; end -= HASH_BYTES) {
    root = nodeHash(frontier.subarray(end - HASH_BYTES, end), root);
  }
  return root;
}

/** The root over leaf hashes that come one by one; memory does not grow with their number. */
export function treeRoot(leafHashes: Iterable<Uint8Array>): Uint8Array {
  let tree = EMPTY_TREE;
  for (const leaf of leafHashes) tree = appendLeaves(tree.size, tree.frontier, leaf);
  return rootOf(tree.size, tree.frontier);
}

/** The complete subtrees whose roots are the frontier of a tree of `size` leaves, largest first. */
export function frontierNodes(size: number): TreeNode[] {
  return cover(0, size);
}

/** The audit path of the leaf at `index` in the tree of `size` leaves (RFC 6962 §2.1.1), from the leaf up. */
export async function proveInclusion(index: number, size: number, read: NodeReader): Promise<Uint8Array[]> {
  checkSize(size);
  if (!(Number.isSafeInteger(index) && index >= 0 && index < size)) throw outside('index', index, size - 1);
  const path: TreeNode[][] = [];
  let low = 0;
  let high = size;
  while (high - low > 1) {
    const middle = low + splitOf(high - low);
    if (index < middle) {
      path.unshift(cover(middle, high));
      high = middle;
    } else {
      path.unshift(cover(low, middle));
      low = middle;
    }
  }
  return readProof(path, read);
}

/** That the tree of `oldSize` leaves is the beginning of the tree of `size` leaves (RFC 6962 §2.1.2). */
export async function proveConsistency(oldSize: number, size: number, read: NodeReader): Promise<Uint8Array[]> {
  checkSize(size);
  if (!(Number.isSafeInteger(oldSize) && oldSize >= 0 && oldSize <= size)) throw outside('old size', oldSize, size);
  if (oldSize === 0 || oldSize === size) return [];
  const path: TreeNode[][] = [];
  let low = 0;
  let high = size;
  while (oldSize !== high) {
    const middle = low + splitOf(high - low);
    if (oldSize <= middle) {
      path.unshift(cover(middle, high));
      high = middle;
    } else {
      path.unshift(cover(low, middle));
      low = middle;
    }
  }
  // Where the old tree is not itself a subtree on the left edge, the verifier needs its last part to start from.
  if (low > 0) path.unshift(cover(low, high));
  return readProof(path, read);
}

/** RFC 9162 §2.1.3.2. */
export function verifyInclusion(
  index: number,
  size: number,
  leaf: Uint8Array,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!isIndex(index) || !isIndex(size) || index >= size || !areHashes([leaf, root, ...proof])) return false;
  let first = index;
  let last = size - 1;
  let computed = leaf;
  for (const sibling of proof) {
    if (last === 0) return false;
    if (first % 2 === 1 || first === last) {
      computed = nodeHash(sibling, computed);
      while (first % 2 === 0 && first !== 0) {
        first = Math.floor(first / 2);
        last = Math.floor(last / 2);
      }
    } else {
      computed = nodeHash(computed, sibling);
    }
    first = Math.floor(first / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && equal(computed, root);
}

/** RFC 9162 §2.1.4.2. The empty tree is the beginning of every tree; equal sizes need equal roots; both without a proof. */
export function verifyConsistency(
  oldSize: number,
  oldRoot: Uint8Array,
  size: number,
  root: Uint8Array,
  proof: readonly Uint8Array[],
): boolean {
  if (!isIndex(oldSize) || !isIndex(size) || oldSize > size || !areHashes([oldRoot, root, ...proof])) return false;
  if (oldSize === size) return proof.length === 0 && equal(oldRoot, root) && (size > 0 || equal(root, sha256(EMPTY)));
  if (oldSize === 0) return proof.length === 0 && equal(oldRoot, sha256(EMPTY));
  let first = oldSize - 1;
  let last = size - 1;
  while (first % 2 === 1) {
    first = Math.floor(first / 2);
    last = Math.floor(last / 2);
  }
  // When the old size is a power of two, the old root itself is where both computations start (step 2).
  const [start, ...rest] = first === 0 ? [oldRoot, ...proof] : proof;
  if (start === undefined) return false;
  let oldComputed = start;
  let computed = start;
  for (const sibling of rest) {
    if (last === 0) return false;
    if (first % 2 === 1 || first === last) {
      oldComputed = nodeHash(sibling, oldComputed);
      computed = nodeHash(sibling, computed);
      while (first % 2 === 0 && first !== 0) {
        first = Math.floor(first / 2);
        last = Math.floor(last / 2);
      }
    } else {
      computed = nodeHash(computed, sibling);
    }
    first = Math.floor(first / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && equal(oldComputed, oldRoot) && equal(computed, root);
}

const DEPTH_MAX = 54;
const EMPTY = new Uint8Array(0);

// Inputs of the hash function, reused: everything that fills them is synchronous. leafInput[0] stays 0x00 and
// nodeInput[0] stays 0x01, the prefixes that keep a leaf from ever passing as a node (RFC 6962 §2.1).
const leafInput = Buffer.alloc(4096);
const nodeInput = Buffer.alloc(1 + 2 * HASH_BYTES);
nodeInput[0] = 0x01;

function leafDigest(line: Uint8Array): string {
  const end = line.length + 1;
  const input = end <= leafInput.length ? leafInput : Buffer.alloc(end);
  input.set(line, 1);
  return digest(input.subarray(0, end));
}

/** One character a byte: Node makes strings several times faster than small buffers, and a log is hashed leaf by leaf. */
function digest(input: Uint8Array): string {
  return hash('sha256', input, 'binary');
}

function sha256(input: Uint8Array): Uint8Array {
  return Buffer.from(digest(input), 'latin1');
}

/** The largest power of two below n, for n ≥ 2. */
function splitOf(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

/** The complete subtrees that make up the leaves from `low` to `high`, largest first; `low` is a multiple of each. */
function cover(low: number, high: number): TreeNode[] {
  const nodes: TreeNode[] = [];
  for (let at = low; at < high; ) {
    let level = 0;
    let width = 1;
    while (width * 2 <= high - at) {
      width *= 2;
      level += 1;
    }
    nodes.push({ level, index: at / width });
    at += width;
  }
  return nodes;
}

/** Reads all nodes of a proof at once, then joins those of one subtree to its root, from the right. */
async function readProof(path: readonly (readonly TreeNode[])[], read: NodeReader): Promise<Uint8Array[]> {
  const nodes = path.flat();
  if (nodes.length === 0) return [];
  const hashes = await read(nodes);
  assert(hashes.length === nodes.length, 'as many hashes are read as nodes were asked for');
  let next = 0;
  return path.map((part) => {
    const own = hashes.slice(next, next + part.length);
    next += part.length;
    return own.reduceRight((right, left) => nodeHash(left, right));
  });
}

function checkSize(size: number): void {
  assert(isIndex(size), 'a tree size is an integer from 0 to 2^53-1');
}

function checkFrontier(size: number, frontier: Uint8Array): void {
  checkSize(size);
  let subtrees = 0;
  for (let n = size; n > 0; n = Math.floor(n / 2)) subtrees += n % 2;
  if (frontier.length === subtrees * HASH_BYTES) return;
  throw new VaultError(
    'integrity',
    `A tree of ${size} leaves has a frontier of ${subtrees * HASH_BYTES} bytes, this one has ${frontier.length}: its row was edited or damaged.`,
  );
}

function isIndex(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function areHashes(values: readonly Uint8Array[]): boolean {
  return values.every((value) => value.length === HASH_BYTES);
}

/** Hashes in proofs are public: nothing is learned from how long a comparison takes. */
function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function outside(what: string, value: number, max: number): VaultError {
  return new VaultError('invalid_request', `The ${what} is to be an integer from 0 to ${max}; ${value} was asked for.`);
}
