/**
 * Checks an exported log offline: bytes in, a report out. It needs no server, no database and no key.
 *
 * With the tree (FILE.tree) the leaf hashes are first checked against the root; only if they agree are they believed,
 * and each line is checked against its hash. Without the tree only the numbering of the lines can be checked, and the
 * report says so. Files are streamed: 32 bytes are kept of an entry, and some more from the first wrong line on.
 * It must never say `ok` of a file in which one bit of one line was changed, and never blame a line when the hashes
 * themselves are not to be believed.
 *
 *     FILE.tree = "bulla-tree-v1" LF origin LF size LF root LF LF *( leaf hash LF )      hashes in base64, in order
 */
import { appendLeaves, EMPTY_TREE, leafHash, rootOf, type Tree } from '../crypto/merkle.ts';
import { align, type Finding } from './align.ts';
import { HashList } from './hashes.ts';

export type { Finding } from './align.ts';

export type VerifyReport = {
  readonly ok: boolean;
  /** What was checked: every line against the tree, or only that the lines are numbered without gaps. */
  readonly checked: 'tree' | 'numbering';
  /** Lines in the file. */
  readonly lines: number;
  /** Of the tree, as it says itself. */
  readonly origin?: string;
  readonly size?: number;
  /** Base64. Two reports of the same log with the same size have the same root. */
  readonly root?: string;
  /** Why the tree is not to be believed; then no line is named. */
  readonly treeProblem?: string;
  /** In the order of the log. */
  readonly findings: readonly Finding[];
};

export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export async function verifyExport(file: ByteSource, tree?: ByteSource): Promise<VerifyReport> {
  if (tree === undefined) return verifyNumbering(file);
  const read = await readTree(tree);
  if (typeof read === 'string') {
    return { ok: false, checked: 'tree', lines: 0, treeProblem: read, findings: [] };
  }
  const { origin, size, root, problem, hashes } = read;
  const facts = { checked: 'tree', origin, size, root } as const;
  if (problem !== undefined) return { ...facts, ok: false, lines: 0, treeProblem: problem, findings: [] };

  const alignment = align(hashes);
  const lines = await forEachLine(file, (line) => alignment.line(line && leafHash(line), () => line && seqOf(line)));
  const findings = alignment.findings();
  return { ...facts, ok: findings.length === 0, lines, findings };
}

async function verifyNumbering(file: ByteSource): Promise<VerifyReport> {
  const findings: Finding[] = [];
  let number = 0;
  let expected: number | undefined;
  const lines = await forEachLine(file, (line) => {
    number += 1;
    const found = line && seqOf(line);
    if (found === undefined || (expected !== undefined && found !== expected)) {
      findings.push({ kind: 'misnumbered', line: number, expected: expected ?? 0, found });
    }
    if (found !== undefined) expected = found + 1;
    else if (expected !== undefined) expected += 1;
  });
  return { ok: findings.length === 0, checked: 'numbering', lines, findings };
}

/** The largest entry has some thousands of bytes. What is longer than this is no entry and is not kept. */
const LINE_BYTES_MAX = 1024 * 1024;
const LF = 0x0a;

/** Calls back with each line without its line feed, or undefined when it is too long to be one. Returns their number. */
export async function forEachLine(source: ByteSource, take: (line: Buffer | undefined) => void): Promise<number> {
  let lines = 0;
  let kept: Buffer = Buffer.alloc(0);
  let tooLong = false;
  const end = (line: Buffer) => {
    take(tooLong || line.length > LINE_BYTES_MAX ? undefined : line);
    tooLong = false;
    lines += 1;
  };
  for await (const piece of source) {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    let start = 0;
    for (let at = bytes.indexOf(LF); at >= 0; at = bytes.indexOf(LF, start)) {
      const line = bytes.subarray(start, at);
      end(kept.length === 0 ? line : Buffer.concat([kept, line]));
      kept = Buffer.alloc(0);
      start = at + 1;
    }
    if (start === bytes.length) continue;
    if (kept.length > LINE_BYTES_MAX) tooLong = true;
    // Copied, because the source may use its buffer again.
    kept = tooLong ? kept : Buffer.concat([kept, bytes.subarray(start)]);
  }
  if (kept.length > 0) end(kept);
  return lines;
}

/**
 * The entry's own number. The last `"seq":` of a line is the entry's: within a string its quotes would be escaped, and
 * what follows it in the canonical order has no members of its own.
 */
export function seqOf(line: Buffer): number | undefined {
  const at = line.lastIndexOf('"seq":');
  if (at < 0) return undefined;
  const digits = /^(0|[1-9]\d{0,15})[,}]/.exec(line.toString('latin1', at + 6, at + 6 + 17));
  return digits === null ? undefined : Number(digits[1]);
}

type ReadTree = {
  readonly origin: string;
  readonly size: number;
  readonly root: string;
  /** Set when hashes, size and root do not belong together. */
  readonly problem: string | undefined;
  readonly hashes: HashList;
};

const TREE_FORMAT = 'bulla-tree-v1';
const HEADER_LINES = 5;
/** 32 bytes in base64, the one spelling of each. */
const HASH_TEXT = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;

/** The tree, or in a sentence why the file is none. */
async function readTree(source: ByteSource): Promise<ReadTree | string> {
  const header: string[] = [];
  const hashes = new HashList();
  const grown = grower(hashes);
  let broken: number | undefined;
  let lines = 0;
  await forEachLine(source, (line) => {
    lines += 1;
    const text = line === undefined || line.length > 1000 ? '' : line.toString('latin1');
    if (lines <= HEADER_LINES) header.push(text);
    else if (HASH_TEXT.test(text)) hashes.push(text);
    else broken ??= lines;
    if (hashes.length % BATCH === 0) grown();
  });
  const [format, origin, sizeText, root, empty] = header;
  if (format !== TREE_FORMAT) return `it does not begin with "${TREE_FORMAT}"`;
  if (!origin || !/^(0|[1-9]\d{0,15})$/.test(sizeText ?? '') || !HASH_TEXT.test(root ?? '') || empty !== '') {
    return 'its first lines are not origin, size, root and an empty line';
  }
  if (broken !== undefined) return `its line ${broken} is not a hash`;
  const size = Number(sizeText);
  const tree = grown();
  const computed = Buffer.from(rootOf(tree.size, tree.frontier)).toString('base64');
  return { origin, size, root: root!, problem: disagreement(size, root!, tree.size, computed), hashes };
}

function disagreement(size: number, root: string, hashes: number, computed: string): string | undefined {
  if (size !== hashes) return `it says that it has ${size} hashes and has ${hashes}`;
  return root === computed ? undefined : 'its hashes do not add up to its root, so they, the root or both were changed';
}

const BATCH = 4096;

/** Grows the Merkle tree by the hashes that came since the last call. */
function grower(hashes: HashList): () => Tree {
  let tree = EMPTY_TREE;
  return () => {
    for (const piece of hashes.from(tree.size)) tree = appendLeaves(tree.size, tree.frontier, piece);
    return tree;
  };
}
