/**
 * An export that proves itself (docs/audit.md): entries in order, and between them the hashes that lead to a signed root.
 *
 *     {"proof":"v1","checkpoint":"<signed note>"}     the first line
 *     {"hash":"<base64>","level":L}                   the next 2^L leaves are not in this export; this is their node
 *     {"leaf":"<base64>"}                             the leaf hash of the entry in the next line
 *     {"action":…}                                    an entry
 *
 * Whoever reads it adds leaves and nodes to a Merkle tree from left to right: the tree must come out at the size and the
 * root of the checkpoint. Any choice of entries is proven by this, and nothing of the others is shown but hashes.
 * Pure: both the server and the verifier use it.
 */
import { HASH_BYTES, nodeHash, type TreeNode } from '../crypto/merkle.ts';

export const PROOF_START = '{"proof":"v1",';

/** The subtrees that make up the leaves from `low` to before `high`, in order. */
export function gapNodes(low: number, high: number): TreeNode[] {
  const nodes: TreeNode[] = [];
  for (let at = low; at < high; ) {
    let level = 0;
    let width = 1;
    while (at % (width * 2) === 0 && at + width * 2 <= high) {
      width *= 2;
      level += 1;
    }
    nodes.push({ level, index: at / width });
    at += width;
  }
  return nodes;
}

/** A Merkle tree that grows from left to right by whole subtrees; memory grows with the logarithm of its size. */
export class GrowingTree {
  #size = 0;
  readonly #stack: { readonly level: number; readonly hash: Uint8Array }[] = [];

  get size(): number {
    return this.#size;
  }

  /** False when no subtree of that level can start here: then nothing was added. */
  add(level: number, hash: Uint8Array): boolean {
    const width = 2 ** level;
    if (hash.length !== HASH_BYTES || this.#size % width !== 0 || !Number.isSafeInteger(this.#size + width))
      return false;
    let node = { level, hash };
    for (let last = this.#stack.at(-1); last?.level === node.level; last = this.#stack.at(-1)) {
      this.#stack.pop();
      node = { level: node.level + 1, hash: nodeHash(last.hash, node.hash) };
    }
    this.#stack.push(node);
    this.#size += width;
    return true;
  }

  /** Of what has been added; the tree is not empty. */
  root(): Uint8Array {
    return this.#stack.map(({ hash }) => hash).reduceRight((right, left) => nodeHash(left, right));
  }
}
