/**
 * Verifies an export offline against what was signed: bytes in, a report out. No server, no database, no secret.
 *
 *     the whole log (NDJSON)        every line is hashed and the tree must come out at the checkpoint's size and root;
 *                                   FILE.tree is read only when it does not, to say which line is wrong
 *     a self-proving export         see proof-format.ts; each line is checked against its leaf hash, all of them
 *                                   against the root
 *     anything else                 only the numbering can be checked, and the report says so
 *
 * With a key the checkpoint's signature is checked; with an older checkpoint, that the log is an extension of it. A log
 * that was rolled back or forked is shown by the two notes. Memory does not grow with the file while nothing is wrong.
 * It must never say `ok` of a file in which one bit of one entry was changed.
 */
import { appendLeaves, EMPTY_TREE, HASH_BYTES, leafHash, rootOf, type Tree, writeLeafHash } from '../crypto/merkle.ts';
import { type Checkpoint, openNote, parseCheckpoint, parseVerifierKey, type Verifier } from '../crypto/note.ts';
import { VaultError } from '../errors.ts';
import { GrowingTree, PROOF_START } from './proof-format.ts';
import { type ByteSource, forEachLine, seqOf, type VerifyReport, verifyExport } from './verify.ts';

/** Reads a file from its beginning; called at most twice. */
export type Reopen = () => ByteSource;

export type VerifyLogOptions = {
  /** FILE.tree. */
  readonly tree?: Reopen | undefined;
  /** The signed note over the export, FILE.checkpoint. A self-proving export carries its own. */
  readonly checkpoint?: string | undefined;
  /** Verifier keys that are trusted. Without any, signatures are not checked. */
  readonly keys?: readonly string[] | undefined;
  /** A note that was trusted before. */
  readonly older?: string | undefined;
};

export type LogReport = Omit<VerifyReport, 'checked'> & {
  readonly checked: VerifyReport['checked'] | 'checkpoint' | 'proof';
  /** Whose signature on the checkpoint was checked. */
  readonly signedBy: readonly string[];
  /** The size of the older checkpoint that this log was shown to extend. */
  readonly extends?: number;
  /** What is wrong beside single lines, in sentences. */
  readonly problems: readonly string[];
};

export async function verifyLog(file: Reopen, options: VerifyLogOptions = {}): Promise<LogReport> {
  const start = await firstBytes(file());
  const keys = (options.keys ?? []).map(parseVerifierKey);
  const older = options.older === undefined ? undefined : readNote(options.older, keys);
  if (start.startsWith(PROOF_START)) return verifyProven(file(), keys, older);
  if (options.checkpoint === undefined) return verifyUnsigned(file, options, older);
  return verifyWhole(file, options.tree, readNote(options.checkpoint, keys), older);
}

async function firstBytes(source: ByteSource): Promise<string> {
  for await (const piece of source) return Buffer.from(piece).toString('latin1', 0, PROOF_START.length);
  return '';
}

type ReadNote = {
  readonly checkpoint: Checkpoint | undefined;
  readonly signedBy: readonly string[];
  readonly problem?: string;
};

/** A checkpoint, with its signatures checked when there are keys. */
function readNote(note: string, keys: readonly Verifier[]): ReadNote {
  try {
    if (keys.length === 0) {
      return { checkpoint: parseCheckpoint(note.slice(0, note.lastIndexOf('\n\n') + 1)), signedBy: [] };
    }
    const { text, signedBy } = openNote(Buffer.from(note, 'utf8'), keys);
    return { checkpoint: parseCheckpoint(text), signedBy: signedBy.map((key) => key.name) };
  } catch (error) {
    if (error instanceof VaultError) return { checkpoint: undefined, signedBy: [], problem: error.message };
    throw error;
  }
}

// ---- the whole log ------------------------------------------------------------------------------------------------

async function verifyUnsigned(
  file: Reopen,
  { tree }: VerifyLogOptions,
  older: ReadNote | undefined,
): Promise<LogReport> {
  const report = await verifyExport(file(), tree?.());
  const problems = older?.problem === undefined ? [] : [`The older checkpoint cannot be used: ${older.problem}`];
  if (!older?.checkpoint) return { ...report, signedBy: [], problems, ok: report.ok && problems.length === 0 };
  const folded = await fold(file(), older.checkpoint.size);
  problems.push(...extensionProblems(older.checkpoint, folded, report.origin));
  const shown = problems.length === 0 ? { extends: older.checkpoint.size } : {};
  return { ...report, ...shown, signedBy: older.signedBy, problems, ok: report.ok && problems.length === 0 };
}

async function verifyWhole(
  file: Reopen,
  tree: Reopen | undefined,
  note: ReadNote,
  older: ReadNote | undefined,
): Promise<LogReport> {
  const problems: string[] = [];
  if (note.problem !== undefined) problems.push(`The checkpoint cannot be used: ${note.problem}`);
  if (older?.problem !== undefined) problems.push(`The older checkpoint cannot be used: ${older.problem}`);
  const { checkpoint } = note;
  if (!checkpoint) return { ok: false, checked: 'checkpoint', lines: 0, findings: [], signedBy: [], problems };
  const folded = await fold(file(), older?.checkpoint?.size);
  if (older?.checkpoint) problems.push(...extensionProblems(older.checkpoint, folded, checkpoint.origin));
  const { origin, size } = checkpoint;
  const root = base64(checkpoint.root);
  const facts = { checked: 'checkpoint', lines: folded.size, origin, size, root, signedBy: note.signedBy } as const;
  const whole = folded.size === size && base64(folded.root) === root;
  if (whole && folded.misnumbered !== undefined) {
    problems.push(
      `Line ${folded.misnumbered + 1} does not have the number ${folded.misnumbered}, though it was signed so.`,
    );
  }
  if (whole) {
    const shown = older?.checkpoint && problems.length === 0 ? { extends: older.checkpoint.size } : {};
    return { ...facts, ...shown, ok: problems.length === 0, findings: [], problems };
  }
  const named = await nameWrongLines(file, tree, size, root, folded);
  return { ...facts, ...named, ok: false, problems: [...problems, ...named.problems] };
}

type Named = Pick<VerifyReport, 'findings' | 'treeProblem'> & { readonly problems: string[] };

/** The lines are not what was signed: with a tree that is, the wrong ones can be named. */
async function nameWrongLines(
  file: Reopen,
  tree: Reopen | undefined,
  size: number,
  root: string,
  folded: Folded,
): Promise<Named> {
  const problem = `The ${folded.size} lines do not add up to the checkpoint's ${size} entries.`;
  const gap =
    folded.misnumbered === undefined ? [] : [`Line ${folded.misnumbered + 1} is the first without its number.`];
  if (!tree) return { findings: [], problems: [problem, ...gap, 'With FILE.tree the wrong lines can be named.'] };
  const report = await verifyExport(file(), tree());
  const { treeProblem, findings } = report;
  if (treeProblem !== undefined) return { findings: [], treeProblem, problems: [problem, ...gap] };
  if (report.size === size && report.root === root) return { findings, problems: [] };
  const foreign = `it is of size ${report.size} with another root than the checkpoint of size ${size}`;
  return { findings: [], treeProblem: foreign, problems: [problem, ...gap] };
}

type Folded = {
  readonly size: number;
  readonly root: Uint8Array;
  /** The root when the tree had `stop` leaves. */
  readonly rootAtStop: Uint8Array | undefined;
  /** The first line, from 0, whose number is not its place. */
  readonly misnumbered: number | undefined;
};

const BATCH = 4096;

/** Hashes every line into a tree. */
async function fold(source: ByteSource, stop: number | undefined): Promise<Folded> {
  let tree: Tree = EMPTY_TREE;
  let rootAtStop = stop === 0 ? rootOf(0, EMPTY_TREE.frontier) : undefined;
  let misnumbered: number | undefined;
  const batch = Buffer.alloc(BATCH * HASH_BYTES);
  let filled = 0;
  const flush = () => {
    tree = appendLeaves(tree.size, tree.frontier, batch.subarray(0, filled * HASH_BYTES));
    filled = 0;
  };
  await forEachLine(source, (line) => {
    const index = tree.size + filled;
    // A line that is too long to be an entry still changes the root.
    const bytes = line ?? EMPTY_LINE;
    if (misnumbered === undefined && seqOf(bytes) !== index) misnumbered = index;
    writeLeafHash(bytes, batch, filled * HASH_BYTES);
    filled += 1;
    if (filled === BATCH || index + 1 === stop) flush();
    if (index + 1 === stop) rootAtStop = rootOf(tree.size, tree.frontier);
  });
  flush();
  return { size: tree.size, root: rootOf(tree.size, tree.frontier), rootAtStop, misnumbered };
}

const EMPTY_LINE = Buffer.alloc(0);
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

function extensionProblems(older: Checkpoint, { size, rootAtStop }: Folded, origin: string | undefined): string[] {
  if (origin !== undefined && older.origin !== origin) {
    return [`The older checkpoint is of the log ${older.origin}, and this is ${origin}.`];
  }
  if (rootAtStop === undefined) {
    return [
      `The older checkpoint was signed at size ${older.size}, and this log has ${size} entries: it was rolled back.`,
    ];
  }
  if (base64(rootAtStop) === base64(older.root)) return [];
  return [
    `This log was forked or rewritten before entry ${older.size}: its first ${older.size} entries are not those of the older checkpoint. The two notes prove it.`,
  ];
}

// ---- self-proving exports -----------------------------------------------------------------------------------------

/** 32 bytes in base64 have one spelling each. */
const HASH_LINE = /^\{"hash":"([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)","level":(0|[1-9]\d?)\}$/;
const LEAF_LINE = /^\{"leaf":"([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)"\}$/;

/** What has been read of a self-proving export. */
type Proven = {
  readonly tree: GrowingTree;
  note: string | undefined;
  /** Whether the line before announced an entry, and with which hash. */
  leaf: Uint8Array | undefined;
  lines: number;
  entries: number;
  rootAtStop: Uint8Array | undefined;
  problem: string | undefined;
  firstEdited: { readonly entry: number; readonly line: number } | undefined;
};

async function verifyProven(
  source: ByteSource,
  keys: readonly Verifier[],
  older: ReadNote | undefined,
): Promise<LogReport> {
  const proven: Proven = {
    tree: new GrowingTree(),
    ...{ note: undefined, leaf: undefined, lines: 0, entries: 0, rootAtStop: undefined },
    ...{ problem: undefined, firstEdited: undefined },
  };
  const stop = older?.checkpoint?.size;
  await forEachLine(source, (line) => {
    proven.lines += 1;
    if (proven.problem === undefined) takeLine(proven, line);
    if (proven.tree.size === stop && stop > 0 && proven.rootAtStop === undefined)
      proven.rootAtStop = proven.tree.root();
  });
  return reportOf(proven, keys, older);
}

function takeLine(proven: Proven, line: Buffer | undefined): void {
  if (proven.leaf !== undefined && line !== undefined) {
    takeEntry(proven, line, proven.leaf);
    return;
  }
  const problem = takeStep(proven, line);
  if (problem !== undefined) proven.problem = `Line ${proven.lines} ${problem}.`;
}

/** Takes a line that is no announced entry, or says what is wrong with it. */
function takeStep(proven: Proven, line: Buffer | undefined): string | undefined {
  if (line === undefined) return 'is too long';
  if (proven.note === undefined) {
    proven.note = noteOf(line);
    return proven.note === undefined ? 'does not carry a checkpoint' : undefined;
  }
  const text = line.toString('latin1', 0, STEP_CHARS_MAX);
  const leaf = LEAF_LINE.exec(text);
  if (leaf) {
    proven.leaf = Buffer.from(leaf[1]!, 'base64');
    return undefined;
  }
  const hash = HASH_LINE.exec(text);
  if (!hash) return 'is neither a hash nor an entry that a leaf hash announces: it was added';
  return proven.tree.add(Number(hash[2]), Buffer.from(hash[1]!, 'base64'))
    ? undefined
    : 'is a hash that does not fit there';
}

const STEP_CHARS_MAX = 120;

function takeEntry(proven: Proven, line: Buffer, leaf: Uint8Array): void {
  const entry = proven.tree.size;
  const isIt = Buffer.compare(leafHash(line), leaf) === 0 && seqOf(line) === entry;
  if (!isIt) proven.firstEdited ??= { entry, line: proven.lines };
  proven.tree.add(0, leaf);
  proven.leaf = undefined;
  proven.entries += 1;
}

function noteOf(line: Buffer): string | undefined {
  try {
    const { proof, checkpoint } = JSON.parse(line.toString('utf8')) as { proof: unknown; checkpoint: unknown };
    return proof === 'v1' && typeof checkpoint === 'string' ? checkpoint : undefined;
  } catch {
    return undefined;
  }
}

function reportOf(proven: Proven, keys: readonly Verifier[], older: ReadNote | undefined): LogReport {
  const { tree, entries, firstEdited } = proven;
  const problems: string[] = proven.problem === undefined ? [] : [proven.problem];
  const note = readNote(proven.note ?? '', keys);
  if (note.problem !== undefined) problems.push(`The checkpoint cannot be used: ${note.problem}`);
  const { checkpoint } = note;
  const facts = checkpoint && { origin: checkpoint.origin, size: checkpoint.size, root: base64(checkpoint.root) };
  const said = { checked: 'proof', lines: entries, signedBy: note.signedBy, ...facts } as const;
  if (checkpoint && proven.problem === undefined) {
    const whole = tree.size === checkpoint.size && tree.size > 0 && base64(tree.root()) === base64(checkpoint.root);
    if (!whole) {
      problems.push(
        `The hashes do not add up to the checkpoint of ${checkpoint.size} entries: entries are missing or hashes were changed.`,
      );
    }
  }
  if (older) problems.push(...provenExtension(older, checkpoint, proven));
  const at = firstEdited && ([firstEdited.entry, firstEdited.entry] as const);
  const lines = firstEdited && ([firstEdited.line, firstEdited.line] as const);
  const findings = at && lines ? [{ kind: 'edited', entries: at, lines } as const] : [];
  const ok = problems.length === 0 && findings.length === 0;
  return { ...said, ...(ok && older?.checkpoint ? { extends: older.checkpoint.size } : {}), ok, findings, problems };
}

function provenExtension(older: ReadNote, checkpoint: Checkpoint | undefined, { tree, rootAtStop }: Proven): string[] {
  if (!older.checkpoint) return [`The older checkpoint cannot be used: ${older.problem}`];
  const { size } = older.checkpoint;
  if (rootAtStop === undefined && size <= tree.size) {
    return [
      `This export is not cut at entry ${size}, so it cannot show that it extends the older checkpoint: export again with --checkpoint.`,
    ];
  }
  const folded = { size: tree.size, root: older.checkpoint.root, rootAtStop, misnumbered: undefined };
  return extensionProblems(older.checkpoint, folded, checkpoint?.origin);
}
