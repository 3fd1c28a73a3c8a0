/**
 * What a token may do at a path, in the capabilities of this API: found by asking the vault's own rules what each line of
 * the table of grant.ts asks, so that the answer is what a request would meet.
 */
import { parseTokenText } from '../../auth/bearer.ts';
import type { Call } from '../../policy/access.ts';
import { mayDo, mayTokenDo, type Question } from '../../policy/store.ts';
import { allMountsFor } from '../../secret/mount.ts';
import type { Answer } from './answer.ts';
import { badRequest, said, saying } from './error.ts';
import { type Capability, type Grant, grantsFor, OF_EVERY_TOKEN } from './grant.ts';
import { twice } from './mount-info.ts';
import { matchRoute, type Route, type VaultRequest } from './route.ts';
import { givenAccessor } from './token.ts';

const PATHS_MAX = 256;

/** The lines of the table that a path meets, each with what it asks there. */
function linesAt(path: string, grants: readonly Grant[]): { grant: Grant; questions: Question[] }[] {
  return grants.flatMap((grant) => {
    const match = matchRoute([{ pattern: grant.pattern, verbs: {} }], path);
    if (!match) return [];
    const place = match.at.path ?? match.at.name ?? '';
    const name = grant.lists ? `${place}/-` : place;
    const resource = grant.resource.replace(/\{(path|name)\}/, name).replace(/\*{1,2}$/, '-');
    return [{ grant, questions: grant.actions.map((action) => ({ action, resource })) }];
  });
}

/** Whether the token has what `default` gives. */
const BY_DEFAULT: Question = { action: 'auth.self', resource: 'token:self' };

function capabilitiesAt(path: string, grants: readonly Grant[], may: (question: Question) => boolean): string[] {
  const found = new Set<Capability>();
  for (const { pattern, capabilities } of may(BY_DEFAULT) ? OF_EVERY_TOKEN : []) {
    if (matchRoute([{ pattern, verbs: {} }], path)) for (const capability of capabilities) found.add(capability);
  }
  for (const { grant, questions } of linesAt(path, grants)) {
    if (questions.every(may)) for (const need of grant.needs) found.add(need);
  }
  return found.size === 0 ? ['deny'] : [...found].sort();
}

function pathsOf({ fields }: VaultRequest): string[] {
  const paths = fields.strings('paths') ?? fields.strings('path') ?? [];
  if (paths.length === 0) throw badRequest('paths must be supplied');
  if (paths.length > PATHS_MAX) throw badRequest(`at most ${PATHS_MAX} paths`);
  return paths;
}

const canonical = (path: string) => path.replace(/^\/|\/$/g, '');

type Asking = (questions: Question[]) => Promise<(question: Question) => boolean>;

async function answerFor(
  { vault }: VaultRequest,
  call: Call,
  paths: readonly string[],
  ask: Asking = (questions) => mayDo(vault, call, questions),
): Promise<Answer> {
  const grants = grantsFor(await allMountsFor(vault, call));
  const asked = paths.flatMap((path) => linesAt(canonical(path), grants).flatMap(({ questions }) => questions));
  const may = await ask([BY_DEFAULT, ...asked]);
  const answers = paths.map((path) => [path, capabilitiesAt(canonical(path), grants, may)] as const);
  const single = answers.length === 1 ? { capabilities: answers[0]![1] } : {};
  return twice({ ...Object.fromEntries(answers), ...single });
}

const ofSelf = (request: VaultRequest): Promise<Answer> => answerFor(request, request.call, pathsOf(request));

/** Whoever shows another's token may ask what it can do: that token is the actor. */
async function ofToken(request: VaultRequest): Promise<Answer> {
  const { call, fields, exchange } = request;
  const token = parseTokenText(fields.string('token') ?? '');
  const paths = pathsOf(request);
  if (!token || token.tenantId !== call.token?.tenantId) throw badRequest('invalid token');
  const by = { ...call, token };
  exchange.call = by;
  const ask: Asking = (questions) => mayDo(request.vault, by, questions, { ofAnyToken: true });
  return saying(answerFor(request, by, paths, ask), { unauthenticated: 'invalid token' });
}

/** By its accessor, for whoever may look at it. */
async function ofAccessor(request: VaultRequest): Promise<Answer> {
  const { vault, call } = request;
  const [paths, accessor] = [pathsOf(request), givenAccessor(request)];
  const ask: Asking = (questions) =>
    saying(mayTokenDo(vault, call, accessor, questions), { not_found: () => said('forbidden', 'invalid accessor') });
  return answerFor(request, call, paths, ask);
}

export const CAPABILITY_ROUTES: readonly Route[] = [
  { pattern: 'capabilities-self', verbs: { POST: ofSelf } },
  { pattern: 'capabilities', verbs: { POST: ofToken } },
  { pattern: 'capabilities-accessor', verbs: { POST: ofAccessor } },
];
