/**
 * A policy text in the vault's own rules.
 *
 * Each path of the text is laid over the table of grant.ts: where they meet, the capabilities become actions on
 * resources. What this API enforces and the vault's rules would not is refused and never left out in silence: conditions
 * on parameters and wrapping, templates, and overlapping paths of which the closer one takes something away without a
 * deny. There the other server lets the closest path alone decide, while here allows add up and a deny wins.
 */
import type { PolicyDocument } from '../../policy/policy.ts';
import type { Mount } from '../../secret/mount.ts';
import { badRequest } from './error.ts';
import { CAPABILITIES, type Capability, FIXED_PLACES, type Grant, grantsFor } from './grant.ts';
import { type PathBlock, parsePolicyText } from './hcl.ts';

type Rule = PolicyDocument['rules'][number];

/** A path of a policy: its segments, the last one open at its end when it ends with `*`. */
type Pattern = { readonly text: string; readonly segments: readonly string[]; readonly open: boolean };
type Path = { readonly pattern: Pattern; readonly capabilities: ReadonlySet<Capability> };

/** Throws what the client reads. `mounts` are those of the tenant. */
export function translatePolicy(text: string, mounts: readonly Mount[]): PolicyDocument {
  const paths = mergedPaths(parsePolicyText(text));
  const grants = grantsFor(mounts);
  for (const { pattern } of paths) requirePlace(pattern, mounts);
  for (const path of paths) for (const closer of paths) if (path !== closer) checkOverlap(path, closer, grants);
  return { rules: paths.flatMap((path) => rulesOf(path, grants)) };
}

// ---- paths --------------------------------------------------------------------------------------------------------

const OLD_POLICIES: Readonly<Record<string, readonly Capability[]>> = {
  deny: ['deny'],
  read: ['read', 'list'],
  write: ['create', 'read', 'update', 'delete', 'list'],
  sudo: ['create', 'read', 'update', 'delete', 'list', 'sudo'],
};

/** One path that stands twice has what both say. */
function mergedPaths(blocks: readonly PathBlock[]): Path[] {
  const merged = new Map<string, Path>();
  for (const block of blocks) {
    const pattern = patternOf(block.path);
    const before = merged.get(pattern.text)?.capabilities ?? [];
    merged.set(pattern.text, { pattern, capabilities: new Set([...before, ...capabilitiesOf(block)]) });
  }
  return [...merged.values()];
}

const SEGMENT = /^[A-Za-z0-9._~@+=-]{1,128}$/;

function patternOf(path: string): Pattern {
  const refuse = (why: string) => badRequest(`failed to parse policy: path "${path}": ${why}`);
  if (path.length > 512) throw badRequest('failed to parse policy: a path is too long');
  if (path.includes('{{')) throw refuse('templates are not supported');
  const text = path.replace(/^\//, '');
  if (text.includes('+*')) throw refuse('cannot use "+*" in a path');
  const open = text.endsWith('*');
  const segments = (open ? text.slice(0, -1) : text.replace(/\/$/, '')).split('/');
  const last = segments.length - 1;
  const fits = segments.every((segment, i) => SEGMENT.test(segment) || (open && i === last && segment === ''));
  if (!fits) throw refuse('a segment is not of A-Z a-z 0-9 . _ ~ @ + = -, with * at the end of the path only');
  return { text, segments, open };
}

const KNOWN_SETTINGS = new Set(['capabilities', 'policy', 'comment']);

function capabilitiesOf({ path, settings }: PathBlock): Capability[] {
  for (const name of settings.keys()) {
    if (!KNOWN_SETTINGS.has(name))
      throw badRequest(`failed to parse policy: path "${path}": ${nameOf(name)} is not enforced here`);
  }
  const [list, old] = [settings.get('capabilities') ?? [], settings.get('policy')];
  if (old !== undefined && !(typeof old === 'string' && Object.hasOwn(OLD_POLICIES, old))) {
    throw badRequest(`path "${path}": invalid policy`);
  }
  if (!Array.isArray(list)) throw badRequest(`failed to parse policy: path "${path}": capabilities is no list`);
  const named = list.map((capability: unknown) => {
    const known = CAPABILITIES.find((one) => one === capability);
    if (!known) throw badRequest(`path "${path}": invalid capability "${nameOf(capability)}"`);
    return known;
  });
  return [...named, ...(old === undefined ? [] : OLD_POLICIES[old as string]!)];
}

/** A word of the text that may be repeated: short and plain, or not at all. */
const nameOf = (value: unknown) => (typeof value === 'string' && /^[a-z_]{1,40}$/.test(value) ? value : 'a setting');

/** Rules are made for what is mounted now: a path into nowhere would grant something the day that a mount comes. */
function requirePlace({ text, segments, open }: Pattern, mounts: readonly Mount[]): void {
  const [first = ''] = segments;
  if (first === '+' || (open && segments.length === 1)) return;
  if (FIXED_PLACES.has(first)) return;
  const inMount = mounts.some(({ path }) => {
    const parts = path.split('/');
    return parts.every((part, i) => segments[i] === part || segments[i] === '+' || (open && i >= segments.length - 1));
  });
  if (!inMount) throw badRequest(`path "${text}": there is no mount ${first}/: mount it first`);
}

// ---- from paths to rules ------------------------------------------------------------------------------------------

const RESOURCES_MAX = 50;

function rulesOf({ pattern, capabilities }: Path, grants: readonly Grant[]): Rule[] {
  const denied = capabilities.has('deny');
  if (!denied) requireWhole(pattern, capabilities, grants);
  const actionsOf = new Map<string, Set<string>>();
  for (const one of grants) {
    if (!denied && !one.needs.every((need) => capabilities.has(need))) continue;
    const resources = resourcesOf(one, pattern);
    if (resources.length === 0) continue;
    const key = resources.join(' ');
    const actions = actionsOf.get(key) ?? new Set();
    for (const action of one.actions) actions.add(action);
    actionsOf.set(key, actions);
  }
  return [...actionsOf].map(([key, actions]) => ({
    effect: denied ? 'deny' : 'allow',
    actions: [...actions].sort(),
    resources: key.split(' ').slice(0, RESOURCES_MAX),
  }));
}

/** A path into one part of a mount that grants half of an act would grant nothing: its author is told. */
function requireWhole(pattern: Pattern, capabilities: ReadonlySet<Capability>, grants: readonly Grant[]): void {
  const writes = (['create', 'update', 'patch'] as const).filter((capability) => capabilities.has(capability));
  if (writes.length === 0 || (capabilities.has('create') && capabilities.has('update'))) return;
  const touched = grants.filter((one) => resourcesOf(one, pattern).length > 0);
  const served = touched.some(
    (one) =>
      one.needs.every((need) => capabilities.has(need)) && one.needs.some((need) => need !== 'read' && need !== 'list'),
  );
  const halved = touched.some((one) => one.needs.includes('create'));
  if (!halved || served) return;
  throw badRequest(
    `path "${pattern.text}": create, update and patch are one act here: name create and update together`,
  );
}

/** The closest path alone decides on the other server; that is the same here only where it grants no less, or denies. */
function checkOverlap(path: Path, closer: Path, grants: readonly Grant[]): void {
  if (!overlap(path.pattern, closer.pattern) || !isCloser(closer.pattern, path.pattern)) return;
  if (closer.capabilities.has('deny')) return;
  const refuse = (why: string) =>
    badRequest(`path "${closer.pattern.text}" lies within "${path.pattern.text}" and ${why}`);
  if (path.capabilities.has('deny')) throw refuse('allows what that denies: here a deny always wins');
  for (const one of grants) {
    const met = resourcesOf(one, closer.pattern).length > 0;
    const [wide, narrow] = [path, closer].map(({ capabilities }) => one.needs.every((need) => capabilities.has(need)));
    if (met && wide && !narrow) {
      throw refuse(`grants less: name ${one.needs.join(' and ')} there too, or deny it`);
    }
  }
}

/** Whether some path of a request fits both. */
function overlap(a: Pattern, b: Pattern): boolean {
  for (let i = 0; ; i++) {
    const [left, right] = [a.segments[i], b.segments[i]];
    if (left === undefined || right === undefined) {
      return left === right || (left === undefined ? isOpenAt(a, i) : isOpenAt(b, i));
    }
    const [leftOpen, rightOpen] = [a.open && i === a.segments.length - 1, b.open && i === b.segments.length - 1];
    if (leftOpen || rightOpen) {
      if (left === '+' || right === '+') return true;
      if (leftOpen && rightOpen) return left.startsWith(right) || right.startsWith(left);
      return leftOpen ? right.startsWith(left) : left.startsWith(right);
    }
    if (left !== '+' && right !== '+' && left !== right) return false;
  }
}

const isOpenAt = ({ segments, open }: Pattern, i: number) => open && i >= segments.length;

/** The order of the other server: the first wildcard later, then none at the end, then fewer `+`, then longer. */
function isCloser(a: Pattern, b: Pattern): boolean {
  const wild = ({ text }: Pattern) => {
    const at = text.search(/\+|\*$/);
    return at === -1 ? Number.POSITIVE_INFINITY : at;
  };
  if (wild(a) !== wild(b)) return wild(a) > wild(b);
  if (a.open !== b.open) return !a.open;
  const plus = ({ segments }: Pattern) => segments.filter((segment) => segment === '+').length;
  if (plus(a) !== plus(b)) return plus(a) < plus(b);
  return a.text.length === b.text.length ? a.text > b.text : a.text.length > b.text.length;
}

/** The resources of a line of the table that a path covers; none when they do not meet. */
function resourcesOf({ pattern, resource, lists }: Grant, { segments, open }: Pattern): string[] {
  const places = placesOf(pattern.split('/'), segments, open);
  if (!places) return [];
  const place = places.path ?? places.name;
  if (place === undefined) return [resource];
  // A list shows what lies under the path that is named; an open path covers those already.
  const globs = lists && !open ? place.map((glob) => `${glob}/*`) : place;
  return globs.map((glob) => resource.replace(/\{(path|name)\}/, glob));
}

type Places = { name?: readonly string[]; path?: readonly string[] };

const globOf = (segment: string) => (segment === '+' ? '*' : segment);

function placesOf(template: readonly string[], segments: readonly string[], open: boolean): Places | undefined {
  const places: Places = {};
  for (let i = 0; i < template.length; i++) {
    const wanted = template[i]!;
    const given = segments[i];
    if (given === undefined) return undefined;
    const isEnd = open && i === segments.length - 1;
    if (wanted === '{path}') {
      const tail = template.slice(i + 1);
      const end = segments.length - (open ? 0 : tail.length);
      if (end <= i || (!open && tail.some((part, at) => !['+', part].includes(segments[end + at]!)))) return undefined;
      places.path ??= globsFrom(segments.slice(i, end), open);
      return places;
    }
    if (isEnd) return restOf(template.slice(i), given, places);
    if (wanted === '{name}') places.name = [globOf(given)];
    else if (given !== '+' && given !== wanted) return undefined;
  }
  return segments.length === template.length ? places : undefined;
}

/** An open end covers what is left of a template, if its start does. */
function restOf([first = '', ...rest]: readonly string[], start: string, places: Places): Places | undefined {
  if (first === '{name}') places.name = [`${start}*`];
  else if (!first.startsWith(start)) return undefined;
  if (rest.includes('{name}')) places.name ??= ['*'];
  if (rest.includes('{path}')) places.path ??= ['**'];
  return places;
}

function globsFrom(segments: readonly string[], open: boolean): string[] {
  if (!open) return [segments.map(globOf).join('/')];
  const before = segments.slice(0, -1).map(globOf);
  const start = segments.at(-1)!;
  if (start === '') return [[...before, '**'].join('/')];
  return [[...before, `${start}*`].join('/'), [...before, `${start}*`, '**'].join('/')];
}
