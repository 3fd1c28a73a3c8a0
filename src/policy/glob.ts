/**
 * The resource patterns of a policy, compiled once and matched without regular expressions.
 *
 *     pattern = "**" / noun ":" glob                  "**" alone is every resource of every noun
 *     glob    = segment *( "/" segment )
 *     segment = "**" / 1*( A-Z a-z 0-9 . _ ~ @ + = - ) with at most one "*" and any "${user.name}" in it
 *
 * `*` stands for any characters within one segment: the whole of it (`prod/*`), or a part (`web-*`, `*.pem`, `a*z`),
 * where it may stand for nothing. `**` stands for whole segments: one or more at the end (`prod/**` is neither `prod`
 * nor `prod-backup/x`), none or more anywhere else (`prod/**` + `/password` is also `prod/password`). Case-sensitive.
 *
 * A pattern with a template such as `${user.name}` matches nothing before template.ts has put the account in its place.
 *
 * Matching compares each segment of a pattern with each segment of a resource at most once, so a hostile pattern costs
 * its own length times the 16 segments of a path, and no more (T-109).
 */
import { NOUNS } from './action.ts';
import { hasTemplate, withEachTemplateAs } from './template.ts';

export const RESOURCE_PATTERN_LENGTH_MAX = 520;

/** A resource such as `secret:prod/app/db`, split once however many patterns look at it. */
export type Resource = {
  readonly text: string;
  segments: readonly string[] | undefined;
};

/** Patterns that are plain prefixes or plain names are the common ones, and need no splitting. */
export type Glob =
  | { readonly kind: 'everything' }
  | { readonly kind: 'exact'; readonly text: string }
  | { readonly kind: 'under'; readonly prefix: string }
  | { readonly kind: 'segments'; readonly start: string; readonly segments: readonly GlobSegment[] }
  | { readonly kind: 'template'; readonly text: string };

export type GlobSegment =
  | { readonly kind: 'any-depth' }
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'star'; readonly prefix: string; readonly suffix: string };

/** What is wrong with a pattern, as the end of a sentence, or the compiled pattern. */
export function compileGlob(pattern: string): Glob | string {
  if (pattern.length > RESOURCE_PATTERN_LENGTH_MAX) {
    return `has ${pattern.length} characters; at most ${RESOURCE_PATTERN_LENGTH_MAX} are allowed`;
  }
  if (pattern === '**') return { kind: 'everything' };
  const colon = pattern.indexOf(':');
  if (colon === -1 || !NOUNS.has(pattern.slice(0, colon))) {
    return `must be "**" or start with one of ${[...NOUNS].map((noun) => `${noun}:`).join(' ')}`;
  }
  const segments: GlobSegment[] = [];
  for (const text of pattern.slice(colon + 1).split('/')) {
    const segment = compileSegment(text);
    if (typeof segment === 'string') return segment;
    segments.push(segment);
  }
  if (hasTemplate(pattern)) return { kind: 'template', text: pattern };
  return choose(pattern, pattern.slice(0, colon + 1), segments);
}

/** The pattern as it is written. */
export function patternText(glob: Glob): string {
  switch (glob.kind) {
    case 'everything':
      return '**';
    case 'under':
      return `${glob.prefix}**`;
    case 'segments':
      return glob.start + glob.segments.map(segmentText).join('/');
    default:
      return glob.text;
  }
}

function segmentText(segment: GlobSegment): string {
  if (segment.kind === 'any-depth') return '**';
  return segment.kind === 'literal' ? segment.text : `${segment.prefix}*${segment.suffix}`;
}

export function resourceOf(text: string): Resource {
  return { text, segments: undefined };
}

/** Whether the pattern covers the resource. `resource.text` is canonical: no empty, `.` or `..` segment. */
export function covers(glob: Glob, resource: Resource): boolean {
  switch (glob.kind) {
    case 'everything':
      return true;
    case 'exact':
      return glob.text === resource.text;
    case 'under':
      return resource.text.length > glob.prefix.length && resource.text.startsWith(glob.prefix);
    case 'segments':
      if (!resource.text.startsWith(glob.start)) return false;
      resource.segments ??= resource.text.slice(resource.text.indexOf(':') + 1).split('/');
      return coversSegments(glob.segments, resource.segments);
    case 'template':
      throw new Error('assertion failed: templates are filled before anything is decided');
  }
}

function compileSegment(written: string): GlobSegment | string {
  const text = withEachTemplateAs(written, 'x');
  if (text === '**') return { kind: 'any-depth' };
  if (text === '') return 'has an empty segment; write no leading, trailing or double slash';
  if (text === '.' || text === '..') return 'has a "." or ".." segment, which no resource has';
  let star = -1;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '*') {
      if (star !== -1) return 'has more than one "*" in a segment; "**" must be a whole segment';
      star = at;
    } else if (!isLiteral(text.charCodeAt(at))) {
      return 'has a character that is not one of A-Z a-z 0-9 . _ ~ @ + = - / *, or a template that does not exist';
    }
  }
  if (star === -1) return { kind: 'literal', text };
  return { kind: 'star', prefix: text.slice(0, star), suffix: text.slice(star + 1) };
}

function isLiteral(code: number): boolean {
  return (
    (code >= 0x61 && code <= 0x7a) ||
    (code >= 0x40 && code <= 0x5a) || // @ and A-Z
    (code >= 0x30 && code <= 0x39) ||
    '._~+=-'.includes(String.fromCharCode(code))
  );
}

function choose(pattern: string, start: string, segments: readonly GlobSegment[]): Glob {
  const firstWild = segments.findIndex((segment) => segment.kind !== 'literal');
  if (firstWild === -1) return { kind: 'exact', text: pattern };
  if (firstWild === segments.length - 1 && segments[firstWild]!.kind === 'any-depth') {
    return { kind: 'under', prefix: pattern.slice(0, -'**'.length) };
  }
  return { kind: 'segments', start, segments };
}

/**
 * Left to right, remembering only the last `**`: when what follows it does not fit, it takes one segment more and what
 * follows is tried one further on. Giving earlier `**` more cannot help, since the later one takes anything.
 */
function coversSegments(pattern: readonly GlobSegment[], path: readonly string[]): boolean {
  let at = 0;
  let next = 0;
  let anyDepth = -1;
  let resumeAt = 0;
  while (at < path.length) {
    const segment = pattern[next];
    if (segment?.kind === 'any-depth') {
      // At the end it needs at least one segment, and `at < path.length` says that there is one.
      if (next === pattern.length - 1) return true;
      anyDepth = next++;
      resumeAt = at;
    } else if (segment !== undefined && coversSegment(segment, path[at]!)) {
      at++;
      next++;
    } else if (anyDepth !== -1) {
      at = ++resumeAt;
      next = anyDepth + 1;
    } else {
      return false;
    }
  }
  return next === pattern.length;
}

function coversSegment(segment: GlobSegment, text: string): boolean {
  if (segment.kind === 'literal') return segment.text === text;
  if (segment.kind === 'any-depth') return false;
  return (
    text.length >= segment.prefix.length + segment.suffix.length &&
    text.startsWith(segment.prefix) &&
    text.endsWith(segment.suffix)
  );
}
