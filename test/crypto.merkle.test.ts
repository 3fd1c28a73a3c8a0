/** The Merkle tree against a naive one written from RFC 6962's definitions, for every tree up to 512 leaves. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  appendLeaves,
  EMPTY_TREE,
  frontierNodes,
  leafHash,
  type NodeReader,
  nodeHash,
  proveConsistency,
  proveInclusion,
  rootOf,
  type Tree,
  type TreeNode,
  treeRoot,
  verifyConsistency,
  verifyInclusion,
} from '../src/crypto/merkle.ts';
import { hex, unhex, utf8 } from './crypto.reference.ts';

const N = 512;
const sha256 = (...parts: Uint8Array[]) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

const lines = Array.from({ length: N }, (_, i) => utf8(`line ${i}`));
const leaves = lines.map((line) => sha256(Uint8Array.of(0), line));

/** The largest power of two below n, as the RFC calls it k. */
const below = (n: number) => 2 ** (31 - Math.clz32(n - 1));

/** MTH(D[low:high]) of RFC 6962 §2.1. */
const naiveRoots = new Map<number, Uint8Array>();
function naiveRoot(low: number, high: number): Uint8Array {
  if (high === low) return sha256();
  if (high - low === 1) return leaves[low]!;
  const name = low * 1024 + high;
  let root = naiveRoots.get(name);
  if (root === undefined) {
    const middle = low + below(high - low);
    root = sha256(Uint8Array.of(1), naiveRoot(low, middle), naiveRoot(middle, high));
    naiveRoots.set(name, root);
  }
  return root;
}

/** PATH(m, D[low:high]) of §2.1.1. */
function naivePath(m: number, low: number, high: number): Uint8Array[] {
  if (high - low === 1) return [];
  const k = below(high - low);
  return m < k
    ? [...naivePath(m, low, low + k), naiveRoot(low + k, high)]
    : [...naivePath(m - k, low + k, high), naiveRoot(low, low + k)];
}

/** SUBPROOF(m, D[low:high], b) of §2.1.2. */
function naiveSubproof(m: number, low: number, high: number, whole: boolean): Uint8Array[] {
  if (m === high - low) return whole ? [] : [naiveRoot(low, high)];
  const k = below(high - low);
  return m <= k
    ? [...naiveSubproof(m, low, low + k, whole), naiveRoot(low + k, high)]
    : [...naiveSubproof(m - k, low + k, high, false), naiveRoot(low, low + k)];
}

/** Complete subtrees only: anything else was never stored. */
const reader =
  (size: number): NodeReader =>
  async (nodes: readonly TreeNode[]) =>
    nodes.map(({ level, index }) => {
      const [low, high] = [index * 2 ** level, (index + 1) * 2 ** level];
      if (high > size) throw new Error('a subtree that is not complete was asked for');
      return naiveRoot(low, high);
    });

const flatten = (hashes: readonly Uint8Array[]) => new Uint8Array(Buffer.concat(hashes));
const flip = (bytes: Uint8Array, bit: number) =>
  bytes.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));

describe('growing', () => {
  test('the root of every size is that of the naive tree, and the frontier its complete subtrees', () => {
    let tree: Tree = EMPTY_TREE;
    for (let size = 0; size <= N; size++) {
      expect(hex(rootOf(tree.size, tree.frontier))).toBe(hex(naiveRoot(0, size)));
      const subtrees = frontierNodes(size).map(({ level, index }) =>
        naiveRoot(index * 2 ** level, (index + 1) * 2 ** level),
      );
      expect(hex(tree.frontier)).toBe(hex(flatten(subtrees)));
      if (size < N) tree = appendLeaves(tree.size, tree.frontier, leafHash(lines[size]!));
    }
  });

  test('appending at once, in any pieces, and streaming are the same', () => {
    for (const cut of [0, 1, 3, 100, 255, 256, 257, 511]) {
      const first = appendLeaves(0, EMPTY_TREE.frontier, flatten(leaves.slice(0, cut)));
      const tree = appendLeaves(first.size, first.frontier, flatten(leaves.slice(cut)));
      expect(tree.size).toBe(N);
      expect(hex(rootOf(tree.size, tree.frontier))).toBe(hex(naiveRoot(0, N)));
    }
    expect(hex(treeRoot(leaves.slice(0, 300)))).toBe(hex(naiveRoot(0, 300)));
    expect(hex(treeRoot([]))).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  });

  test('appending leaves what it was given as it was', () => {
    const tree = appendLeaves(0, EMPTY_TREE.frontier, flatten(leaves.slice(0, 7)));
    const kept = tree.frontier.slice();
    appendLeaves(tree.size, tree.frontier, flatten(leaves.slice(7, 20)));
    expect(tree.frontier).toEqual(kept);
  });

  test('a frontier that does not fit its size is an integrity error', () => {
    for (const [size, length] of [
      [0, 32],
      [1, 0],
      [3, 32],
      [4, 64],
      [7, 95],
      [2 ** 53 - 1, 32],
    ] as const) {
      expect(() => rootOf(size, new Uint8Array(length))).toThrowError(/edited or damaged/);
      expect(() => appendLeaves(size, new Uint8Array(length), leaves[0]!)).toThrowError(/edited or damaged/);
    }
    expect(() => appendLeaves(-1, EMPTY_TREE.frontier, leaves[0]!)).toThrow(/assertion/);
    expect(() => appendLeaves(0, EMPTY_TREE.frontier, new Uint8Array(33))).toThrow(/assertion/);
  });

  test('sizes beyond 2^32 grow and prove', async () => {
    const size = 2 ** 40 + 2 ** 33 + 1;
    const fake = ({ level, index }: TreeNode) => sha256(utf8(`${level}/${index}`));
    const read: NodeReader = async (nodes) => nodes.map(fake);
    const frontier = flatten(frontierNodes(size).map(fake));
    const grown = appendLeaves(size, frontier, leaves[0]!);
    const roots = [rootOf(size, frontier), rootOf(grown.size, grown.frontier)] as const;
    const stored: NodeReader = async (nodes) =>
      nodes.map((node) => (node.level === 0 && node.index === size ? leaves[0]! : fake(node)));
    const consistency = await proveConsistency(size, grown.size, stored);
    expect(verifyConsistency(size, roots[0], grown.size, roots[1], consistency)).toBe(true);
    const last = await proveInclusion(size - 1, size, read);
    expect(verifyInclusion(size - 1, size, fake({ level: 0, index: size - 1 }), last, roots[0])).toBe(true);
  });

  test('T-091 a leaf never passes as a node: the prefixes differ', () => {
    const [left, right] = [leaves[0]!, leaves[1]!];
    expect(hex(leafHash(flatten([left, right])))).not.toBe(hex(nodeHash(left, right)));
    expect(hex(leafHash(new Uint8Array(10_000)))).toBe(hex(sha256(new Uint8Array(10_001))));
    expect(hex(leafHash(new Uint8Array(0)))).toBe('6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d');
  });
});

describe('the example tree of certificate-transparency', () => {
  const inputs = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'];
  const roots = [
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
    'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
    'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
    '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
    'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
    '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
  ];

  test.each(roots.map((root, i) => [i + 1, root] as const))('the root of %i leaves', (size, root) => {
    expect(hex(treeRoot(inputs.slice(0, size).map((input) => leafHash(unhex(input)))))).toBe(root);
  });
});

describe('proving', () => {
  test('T-091 inclusion for each index of trees up to 129 and from 501 to 512, and every 17th between', async () => {
    for (let size = 1; size <= N; size++) {
      const root = naiveRoot(0, size);
      let allVerify = true;
      for (let index = 0; index < size; index += size < 130 || size > 500 ? 1 : 17) {
        const proof = await proveInclusion(index, size, reader(size));
        allVerify &&= verifyInclusion(index, size, leaves[index]!, proof, root);
        if (size <= 65) expect(proof.map(hex)).toEqual(naivePath(index, 0, size).map(hex));
      }
      expect(allVerify, `size ${size}`).toBe(true);
    }
  });

  test('T-091 consistency for all m < n ≤ 512, equal to the naive proof', () => {
    for (let size = 1; size <= N; size++) {
      let allVerify = true;
      for (let old = 1; old < size; old++) {
        const proof = naiveSubproof(old, 0, size, true);
        allVerify &&= verifyConsistency(old, naiveRoot(0, old), size, naiveRoot(0, size), proof);
      }
      expect(allVerify, `size ${size}`).toBe(true);
    }
  });

  test('T-091 the consistency proofs that we make are the naive ones', async () => {
    for (let size = 1; size <= N; size += size < 130 ? 1 : 13) {
      const read = reader(size);
      let allEqual = true;
      for (let old = 1; old <= size; old++) {
        const proof = flatten(await proveConsistency(old, size, read));
        allEqual &&= Buffer.compare(proof, flatten(naiveSubproof(old, 0, size, true))) === 0;
      }
      expect(allEqual, `size ${size}`).toBe(true);
    }
  });

  test('T-091 any single change of an inclusion proof breaks it', async () => {
    for (const size of [1, 2, 7, 8, 13, 64, 200]) {
      const root = naiveRoot(0, size);
      for (const index of new Set([0, Math.floor(size / 2), size - 1])) {
        const leaf = leaves[index]!;
        const proof = await proveInclusion(index, size, reader(size));
        const holds = (
          changed: Partial<{ index: number; size: number; leaf: Uint8Array; proof: Uint8Array[]; root: Uint8Array }>,
        ) => {
          const all = { index, size, leaf, proof, root, ...changed };
          return verifyInclusion(all.index, all.size, all.leaf, all.proof, all.root);
        };
        expect(holds({})).toBe(true);
        for (let bit = 0; bit < 256; bit += 5) {
          expect(holds({ leaf: flip(leaf, bit) })).toBe(false);
          expect(holds({ root: flip(root, bit) })).toBe(false);
          for (const i of proof.keys()) {
            expect(holds({ proof: proof.map((hash, j) => (i === j ? flip(hash, bit) : hash)) })).toBe(false);
          }
        }
        for (const i of proof.keys()) {
          expect(holds({ proof: proof.filter((_, j) => i !== j) })).toBe(false);
          expect(holds({ proof: [...proof.slice(0, i), proof[i]!, ...proof.slice(i)] })).toBe(false);
          expect(holds({ proof: proof.map((hash, j) => (i === j ? hash.subarray(1) : hash)) })).toBe(false);
        }
        expect(holds({ proof: [...proof, leaf] })).toBe(false);
        for (const other of [-1, index + 1, size, 1.5, Number.NaN]) {
          if (other !== index) expect(holds({ index: other })).toBe(false);
        }
        expect(holds({ size: 0 }) || holds({ size: size * 2 + 1 })).toBe(false);
      }
    }
  });

  test('T-091 any single change of a consistency proof breaks it', async () => {
    for (const [old, size] of [
      [1, 2],
      [3, 4],
      [4, 8],
      [6, 8],
      [7, 15],
      [64, 200],
      [100, 199],
    ] as const) {
      const [oldRoot, root] = [naiveRoot(0, old), naiveRoot(0, size)];
      const proof = await proveConsistency(old, size, reader(size));
      expect(verifyConsistency(old, oldRoot, size, root, proof)).toBe(true);
      for (let bit = 0; bit < 256; bit += 5) {
        expect(verifyConsistency(old, flip(oldRoot, bit), size, root, proof)).toBe(false);
        expect(verifyConsistency(old, oldRoot, size, flip(root, bit), proof)).toBe(false);
        for (const i of proof.keys()) {
          const changed = proof.map((hash, j) => (i === j ? flip(hash, bit) : hash));
          expect(verifyConsistency(old, oldRoot, size, root, changed)).toBe(false);
        }
      }
      for (const i of proof.keys()) {
        expect(
          verifyConsistency(
            old,
            oldRoot,
            size,
            root,
            proof.filter((_, j) => i !== j),
          ),
        ).toBe(false);
      }
      expect(verifyConsistency(old, oldRoot, size, root, [...proof, root])).toBe(false);
      expect(verifyConsistency(size, root, old, oldRoot, proof)).toBe(false);
      expect(verifyConsistency(old - 1, oldRoot, size, root, proof)).toBe(false);
    }
  });

  test('the empty tree and an equal tree need no proof, and take none', async () => {
    const [empty, root] = [naiveRoot(0, 0), naiveRoot(0, 9)];
    expect(await proveConsistency(0, 9, reader(9))).toEqual([]);
    expect(await proveConsistency(9, 9, reader(9))).toEqual([]);
    expect(verifyConsistency(0, empty, 9, root, [])).toBe(true);
    expect(verifyConsistency(9, root, 9, root, [])).toBe(true);
    expect(verifyConsistency(0, empty, 0, empty, [])).toBe(true);
    expect(verifyConsistency(0, root, 9, root, [])).toBe(false);
    expect(verifyConsistency(0, root, 0, root, [])).toBe(false);
    expect(verifyConsistency(9, empty, 9, root, [])).toBe(false);
    expect(verifyConsistency(9, root, 9, root, [root])).toBe(false);
  });

  test('asking for what is not in the tree is an invalid request', async () => {
    for (const index of [-1, 9, 1.5, Number.NaN])
      await expect(proveInclusion(index, 9, reader(9))).rejects.toThrow(/index/);
    for (const old of [-1, 10, 1.5]) await expect(proveConsistency(old, 9, reader(9))).rejects.toThrow(/old size/);
  });
});
