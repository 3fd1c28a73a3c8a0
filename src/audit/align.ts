/**
 * Lays the lines of a file beside the hashes of a log and says which lines were edited, are missing, were added or
 * moved. Lines are recognised by their hash wherever they stand, so one lost line does not make all later ones wrong.
 *
 * Up to the first line that is not in its place nothing is kept. From there on: the longest run of lines that are still
 * in the log's order stays (n log n), what else is of the log was moved, and what is unknown was edited or added. An
 * unknown line was edited when an entry is missing between the same neighbours and has its number, or when there are as
 * many of the one as of the other; otherwise it was added.
 */
import { assert } from '../errors.ts';
import type { HashList } from './hashes.ts';

/** First and last, both included. */
export type Range = readonly [first: number, last: number];

/** `entries` are numbers in the log, from 0; `lines` are numbers in the file, from 1. */
export type Finding =
  | { readonly kind: 'edited'; readonly entries: Range; readonly lines: Range }
  | { readonly kind: 'missing'; readonly entries: Range }
  | { readonly kind: 'added'; readonly lines: Range; readonly beforeEntry: number }
  | { readonly kind: 'moved'; readonly entries: Range; readonly lines: Range }
  /** Without a tree: a line that has not the number after its neighbour's. */
  | {
      readonly kind: 'misnumbered';
      readonly line: number;
      readonly expected: number;
      readonly found: number | undefined;
    };

export type Alignment = {
  /** The next line's hash, or undefined when it can not be an entry; and how to learn the number that it gives itself. */
  line(hash: Uint8Array | undefined, seq: () => number | undefined): void;
  /** To be asked once, after the last line. */
  findings(): Finding[];
};

const UNKNOWN = -1;

export function align(hashes: HashList): Alignment {
  /** How many lines stand in their place before the first that does not. */
  let settled = 0;
  /** For each line after those, its position in the log or UNKNOWN. */
  const positions: number[] = [];
  /** The number that an unknown line gives itself, by its place in `positions`. */
  const claims = new Map<number, number>();
  let expected = 0;
  return {
    line: (hash, seq) => {
      const inPlace = hash !== undefined && hashes.isAt(expected, hash);
      if (inPlace && positions.length === 0) {
        settled += 1;
        expected += 1;
        return;
      }
      const known = inPlace ? expected : hash && hashes.positionOf(hash);
      // What stands in its place already was copied: the copy is a line too many.
      const position = known === undefined || known < settled ? UNKNOWN : known;
      const claim = known === undefined ? seq() : undefined;
      if (claim !== undefined) claims.set(positions.length, claim);
      positions.push(position);
      if (position !== UNKNOWN) expected = position + 1;
    },
    findings: () =>
      positions.length === 0 && settled === hashes.length ? [] : explain(settled, hashes.length, positions, claims),
  };
}

function explain(
  settled: number,
  size: number,
  positions: readonly number[],
  claims: ReadonlyMap<number, number>,
): Finding[] {
  const anchors = longestIncreasing(positions);
  const { accounted, movedPlaces } = movedLines(settled, size, positions, anchors);
  const findings = collectFindings();
  for (const place of movedPlaces) findings.moved(positions[place]!, settled + place + 1);
  let low = settled;
  let unknown: number[] = [];
  const closeGap = (high: number) => {
    explainGap(findings, { settled, low, high, unknown, claims, accounted });
    unknown = [];
    low = high + 1;
  };
  positions.forEach((position, place) => {
    if (anchors[place] === 1) closeGap(position);
    else if (!movedPlaces.has(place)) unknown.push(place);
  });
  closeGap(size);
  const all = findings.inOrder();
  assert(all.length > 0, 'a file that is not the log has a fault that can be named');
  return all;
}

type Gap = {
  readonly settled: number;
  /** The entries from low up to high belong between two neighbouring lines. */
  readonly low: number;
  readonly high: number;
  /** Places of the lines there that are no entries. */
  readonly unknown: readonly number[];
  readonly claims: ReadonlyMap<number, number>;
  /** 1 for entries that stand somewhere in the file. */
  readonly accounted: Uint8Array;
};

function explainGap(findings: Findings, { settled, low, high, unknown, claims, accounted }: Gap): void {
  const missing = new Set<number>();
  for (let entry = low; entry < high; entry++) if (accounted[entry - settled] === 0) missing.add(entry);
  const edited: [entry: number, place: number][] = [];
  const strange: number[] = [];
  for (const place of unknown) {
    const claim = claims.get(place);
    if (claim !== undefined && missing.delete(claim)) edited.push([claim, place]);
    else strange.push(place);
  }
  const renumbered = strange.length === missing.size;
  if (renumbered) [...missing].forEach((entry, i) => void edited.push([entry, strange[i]!]));
  edited.sort(([a], [b]) => a - b);
  for (const [entry, place] of edited) findings.edited(entry, settled + place + 1);
  if (renumbered) return;
  for (const entry of missing) findings.missing(entry);
  for (const place of strange) findings.added(settled + place + 1, low);
}

/** The places of lines that left the log's order. `accounted` has 1 for each entry that stands anywhere in the file. */
function movedLines(settled: number, size: number, positions: readonly number[], anchors: Uint8Array) {
  const accounted = new Uint8Array(size - settled);
  positions.forEach((position, place) => {
    if (anchors[place] === 1) accounted[position - settled] = 1;
  });
  const movedPlaces = new Set<number>();
  positions.forEach((position, place) => {
    // A second copy of a line was not moved but added.
    if (position === UNKNOWN || anchors[place] === 1 || accounted[position - settled] === 1) return;
    accounted[position - settled] = 1;
    movedPlaces.add(place);
  });
  return { accounted, movedPlaces };
}

/** 1 for the places of a longest strictly increasing run of known positions (patience sorting). */
function longestIncreasing(positions: readonly number[]): Uint8Array {
  const tails: number[] = [];
  const before: number[] = [];
  positions.forEach((position, place) => {
    before.push(UNKNOWN);
    if (position === UNKNOWN) return;
    let low = 0;
    let high = tails.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (positions[tails[middle]!]! < position) low = middle + 1;
      else high = middle;
    }
    before[place] = low === 0 ? UNKNOWN : tails[low - 1]!;
    tails[low] = place;
  });
  const anchors = new Uint8Array(positions.length);
  for (let place = tails.at(-1) ?? UNKNOWN; place !== UNKNOWN; place = before[place]!) anchors[place] = 1;
  return anchors;
}

/** A range that still grows. */
type Span = [first: number, last: number];

/** Collects findings one by one and joins neighbours of a kind. */
function collectFindings() {
  const edits: { kind: 'edited'; entries: Span; lines: Span }[] = [];
  const gaps: { kind: 'missing'; entries: Span }[] = [];
  const additions: { kind: 'added'; lines: Span; beforeEntry: number }[] = [];
  const moves: { kind: 'moved'; entries: Span; lines: Span }[] = [];
  return {
    edited: (entry: number, line: number): void => {
      if (!joinBoth(edits, entry, line)) edits.push({ kind: 'edited', entries: [entry, entry], lines: [line, line] });
    },
    moved: (entry: number, line: number): void => {
      if (!joinBoth(moves, entry, line)) moves.push({ kind: 'moved', entries: [entry, entry], lines: [line, line] });
    },
    missing: (entry: number): void => {
      const last = gaps.at(-1);
      if (last !== undefined && last.entries[1] === entry - 1) last.entries[1] = entry;
      else gaps.push({ kind: 'missing', entries: [entry, entry] });
    },
    added: (line: number, beforeEntry: number): void => {
      const last = additions.at(-1);
      if (last !== undefined && last.lines[1] === line - 1 && last.beforeEntry === beforeEntry) last.lines[1] = line;
      else additions.push({ kind: 'added', lines: [line, line], beforeEntry });
    },
    inOrder: (): Finding[] => {
      const all = [...edits, ...gaps, ...additions, ...moves];
      const entryOf = (finding: (typeof all)[number]) =>
        finding.kind === 'added' ? finding.beforeEntry : finding.entries[0];
      return all.sort((a, b) => entryOf(a) - entryOf(b));
    },
  };
}

type Findings = ReturnType<typeof collectFindings>;

/** Both the entry and the line follow the last finding's. */
function joinBoth(list: { entries: Span; lines: Span }[], entry: number, line: number): boolean {
  const last = list.at(-1);
  if (last === undefined || last.entries[1] !== entry - 1 || last.lines[1] !== line - 1) return false;
  last.entries[1] = entry;
  last.lines[1] = line;
  return true;
}
