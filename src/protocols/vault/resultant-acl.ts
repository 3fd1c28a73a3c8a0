/**
 * sys/internal/ui/resultant-acl: all that a token may do, as paths and capabilities. User interfaces show by it what can be
 * clicked; it decides nothing.
 *
 * The patterns that the caller's rules speak of are laid over the table of grant.ts, and each path that comes out is asked
 * about as a request would be: so a bound, a condition or a deny shows as it would be met.
 */
import { mayDo, type OwnPattern, ownPatterns } from '../../policy/store.ts';
import { allMountsFor } from '../../secret/mount.ts';
import { type Answer, data, json } from './answer.ts';
import { type Grant, grantsFor, OF_EVERY_TOKEN } from './grant.ts';
import type { Route, VaultRequest } from './route.ts';

const PATTERNS_MAX = 1000;
const PLACE = /\{(?:path|name)\}/;

async function resultantAcl({ vault, call }: VaultRequest): Promise<Answer> {
  const { everything, patterns } = await ownPatterns(vault, call);
  const named = [...new Map(patterns.map((one) => [`${one.effect} ${one.resource}`, one])).values()];
  const grants = grantsFor(await allMountsFor(vault, call));
  const lines = grants.flatMap((grant) => linesOf(grant, named.slice(0, PATTERNS_MAX)));
  const may = await mayDo(
    vault,
    call,
    lines.flatMap(({ questions }) => questions),
  );
  const paths = new Map<string, Set<string>>();
  const capabilitiesAt = (path: string) => {
    const known = paths.get(path) ?? new Set<string>();
    paths.set(path, known);
    return known;
  };
  for (const { pattern, capabilities } of OF_EVERY_TOKEN) {
    for (const one of capabilities) capabilitiesAt(pattern.replace(PLACE, '*')).add(one);
  }
  for (const { path, needs, questions, effect } of lines) {
    if (questions.every(may)) for (const need of needs) capabilitiesAt(path).add(need);
    else if (effect === 'deny') capabilitiesAt(path);
  }
  const shown = [...paths].map(
    ([path, held]) => [path, { capabilities: held.size === 0 ? ['deny'] : [...held].sort() }] as const,
  );
  const globs = shown.filter(([path]) => path.endsWith('*'));
  const answer = {
    root: everything,
    exact_paths: Object.fromEntries(shown.filter(([path]) => !path.endsWith('*'))),
    glob_paths: Object.fromEntries(globs.map(([path, held]) => [path.slice(0, -1), held])),
  };
  return data(json(answer), { mountType: 'system' });
}

type Line = Pick<Grant, 'needs'> & {
  /** With `*` at its end when it is the beginning of paths, and `+` for a segment of any name. */
  readonly path: string;
  readonly effect: OwnPattern['effect'];
  readonly questions: { readonly action: Grant['actions'][number]; readonly resource: string }[];
};

function linesOf(grant: Grant, patterns: readonly OwnPattern[]): Line[] {
  const ask = (resource: string) => grant.actions.map((action) => ({ action, resource }));
  const { pattern, needs, resource } = grant;
  if (!PLACE.test(resource)) {
    const questions = ask(resource.replace(/\*{1,2}$/, '-').replaceAll('*', '-'));
    return [{ path: pattern.replace(PLACE, '*'), needs, effect: 'allow', questions }];
  }
  return patterns.flatMap(({ effect, resource: spoken }) => {
    const place = placeIn(resource, spoken);
    if (place === undefined) return [];
    const asked = place.replace(/\*+/g, '-') + (grant.lists ? '/-' : '');
    const questions = ask(resource.replace(PLACE, asked).replaceAll('*', '-'));
    return [{ path: pathAt(pattern, place), needs, effect, questions }];
  });
}

/** What a pattern of a rule says of the place in a resource of the table; undefined when it speaks of something else. */
function placeIn(resource: string, spoken: string): string | undefined {
  const before = resource.split(PLACE)[0]!;
  if (spoken === '**' || spoken === `${before.slice(0, before.indexOf(':') + 1)}**`) return '**';
  // A star of the table is one segment of the pattern.
  let at = 0;
  for (const [i, part] of before.split('*').entries()) {
    if (i > 0) at += spoken.slice(at).split('/', 1)[0]!.length;
    if (!spoken.startsWith(part, at)) return undefined;
    at += part.length;
  }
  return spoken.slice(at) || undefined;
}

/** A star at the end of a path is the end of the pattern; any other stands for a segment. */
function pathAt(pattern: string, place: string): string {
  const atEnd = /\{(?:path|name)\}$/.test(pattern);
  const open = atEnd ? place.replace(/\*{1,2}$/, '*') : place;
  const [head, tail] = atEnd && open.endsWith('*') ? [open.slice(0, -1), '*'] : [open, ''];
  const segments = head.split('/').map((segment) => (segment.includes('*') ? '+' : segment));
  return pattern.replace(PLACE, segments.join('/')) + tail;
}

export const RESULTANT_ACL_ROUTES: readonly Route[] = [
  { pattern: 'internal/ui/resultant-acl', verbs: { GET: resultantAcl } },
];
