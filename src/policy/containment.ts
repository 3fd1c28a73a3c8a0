/**
 * One resource pattern against another: does everything that the one covers lie within the other, do they share anything?
 *
 * A pattern is read as a list of segments in which `**` stands for none or more; one at the end, which needs a segment,
 * is written `*` and `**` here. Among neighbours the `*` come before one `**`, so that two spellings of one meaning are
 * one list. Then `inner` lies within `outer` when `outer` matches `inner` as if it were a path whose wildcards are
 * segments of their own. A template may come out as any segment: it counts as one `*`, the widest that it can be.
 *
 * `isWithin` never says yes where it is no; `meet` never says no where it is yes.
 */
import type { Glob } from './glob.ts';
import { hasTemplate, withEachTemplateAs } from './template.ts';

type Segment = { readonly prefix: string; readonly suffix: string } | string;
const ANY: Segment = Object.freeze({ prefix: '', suffix: '' });
/** A `*` beside a `**`: which of the two comes first says nothing. */
const FREE: Segment = Object.freeze({ prefix: '', suffix: '' });
const DEEP = Symbol('none or more segments');
type Token = Segment | typeof DEEP;

/** A pattern to be compared. `noun` is undefined for `**`, which is every resource of every noun. */
export type Pattern = { readonly noun: string | undefined; readonly tokens: readonly Token[] };

export function patternOf(glob: Glob): Pattern {
  switch (glob.kind) {
    case 'everything':
      return { noun: undefined, tokens: [ANY, DEEP] };
    case 'exact':
    case 'template':
      return parsed(glob.text);
    case 'under':
      return parsed(`${glob.prefix}**`);
    case 'segments':
      return parsed(
        glob.start +
          glob.segments
            .map((s) => (s.kind === 'any-depth' ? '**' : s.kind === 'literal' ? s.text : `${s.prefix}*${s.suffix}`))
            .join('/'),
      );
  }
}

function parsed(text: string): Pattern {
  const colon = text.indexOf(':');
  const segments = text.slice(colon + 1).split('/');
  const tokens = segments.flatMap((segment, at): Token[] => {
    if (segment !== '**') return [segmentOf(segment)];
    return at === segments.length - 1 ? [ANY, DEEP] : [DEEP];
  });
  return { noun: text.slice(0, colon), tokens: inOrder(tokens) };
}

function segmentOf(written: string): Segment {
  // Two wildcards in one segment are read as one that covers all between them, and more.
  const text = hasTemplate(written) ? withEachTemplateAs(written, '*') : written;
  const star = text.indexOf('*');
  return star === -1 ? text : { prefix: text.slice(0, star), suffix: text.slice(text.lastIndexOf('*') + 1) };
}

const isAny = (token: Token) => typeof token === 'object' && token.prefix === '' && token.suffix === '';

/** Each run of whole wildcards that has a `**` in it: its `*` first, then one `**`. */
function inOrder(tokens: readonly Token[]): Token[] {
  const ordered: Token[] = [];
  for (let at = 0; at < tokens.length; ) {
    let end = at;
    while (end < tokens.length && (tokens[end] === DEEP || isAny(tokens[end]!))) end++;
    const run = tokens.slice(at, end);
    if (run.includes(DEEP)) ordered.push(...run.filter((token) => token !== DEEP).map(() => FREE), DEEP);
    else ordered.push(...run);
    if (end < tokens.length) ordered.push(tokens[end]!);
    at = end + 1;
  }
  return ordered;
}

/** Whether everything that `inner` covers of the noun is covered by `outer`. */
export function isWithin(inner: Pattern, outer: Pattern, noun: string): boolean {
  if (inner.noun !== undefined && inner.noun !== noun) return true;
  if (outer.noun !== undefined && outer.noun !== noun) return false;
  return reaches(inner.tokens, outer.tokens);
}

/** Whether some resource of the noun may be covered by both. */
export function meet(a: Pattern, b: Pattern, noun: string): boolean {
  if ((a.noun ?? noun) !== noun || (b.noun ?? noun) !== noun) return false;
  return reachesBoth(a.tokens, b.tokens);
}

/** Whether `outer` matches `inner` token by token. Each pair is looked at once. */
function reaches(inner: readonly Token[], outer: readonly Token[]): boolean {
  // row[j]: the tokens of inner so far are matched by the first j of outer.
  let row: boolean[] = [true];
  for (let j = 0; j < outer.length; j++) row.push(row[j]! && outer[j] === DEEP);
  for (const token of inner) {
    const next: boolean[] = [token === DEEP && outer[0] === FREE && row[0]!];
    for (let j = 0; j < outer.length; j++) {
      const other = outer[j]!;
      // A `*` that may as well stand behind its `**` lets one of inner pass.
      const passes = token === DEEP && outer[j + 1] === FREE && row[j + 1]!;
      const matched =
        other === DEEP
          ? row[j + 1]! || next[j]! || row[j]!
          : token !== DEEP && row[j]! && isSegmentWithin(token, other);
      next.push(matched || passes);
    }
    row = next;
  }
  return row.at(-1)!;
}

function reachesBoth(a: readonly Token[], b: readonly Token[]): boolean {
  let row: boolean[] = [true];
  for (let j = 0; j < b.length; j++) row.push(row[j]! && b[j] === DEEP);
  for (const token of a) {
    const next: boolean[] = [token === DEEP && row[0]!];
    for (let j = 0; j < b.length; j++) {
      const other = b[j]!;
      if (token === DEEP || other === DEEP) next.push(row[j + 1]! || next[j]! || row[j]!);
      else next.push(row[j]! && doSegmentsMeet(token, other));
    }
    row = next;
  }
  return row.at(-1)!;
}

function isSegmentWithin(inner: Segment, outer: Segment): boolean {
  if (typeof outer === 'string') return inner === outer;
  const { prefix, suffix } = outer;
  if (typeof inner === 'string') {
    return inner.length >= prefix.length + suffix.length && inner.startsWith(prefix) && inner.endsWith(suffix);
  }
  return inner.prefix.startsWith(prefix) && inner.suffix.endsWith(suffix);
}

function doSegmentsMeet(a: Segment, b: Segment): boolean {
  if (typeof a === 'string') return isSegmentWithin(a, b);
  if (typeof b === 'string') return isSegmentWithin(b, a);
  const prefixes = a.prefix.startsWith(b.prefix) || b.prefix.startsWith(a.prefix);
  return prefixes && (a.suffix.endsWith(b.suffix) || b.suffix.endsWith(a.suffix));
}
