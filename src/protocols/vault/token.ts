/** auth/token: what a token is, renewing it and ending it. */
import { parseTokenText } from '../../auth/bearer.ts';
import {
  listTokens,
  logout,
  readSelf,
  readToken,
  renewToken,
  renewTokenOf,
  revokeOrphaning,
  revokeToken,
  type TokenInfo,
} from '../../auth/token.ts';
import type { VaultError } from '../../errors.ts';
import type { Call } from '../../policy/access.ts';
import { ignoreAbsent } from './absent.ts';
import { type Answer, type Auth, data, EMPTY, json, TIDY_STARTED } from './answer.ts';
import { badRequest, said, saying } from './error.ts';
import { listing } from './paging.ts';
import type { Route, VaultRequest } from './route.ts';

export const MOUNT_TYPE = 'token';

/** Where each method stands: a token says what it came from. */
const MOUNT_OF: Readonly<Record<string, string>> = { password: 'userpass', service: 'approle' };
const mountOf = (method: string) => MOUNT_OF[method] ?? method;

function loginPathOf({ method, username }: TokenInfo): string {
  const path = `auth/${mountOf(method)}/login`;
  return method === 'password' ? `${path}/${username}` : path;
}

/** `default` is what every token may: it is among them, as clients expect, but where a token was made without it. */
export const policiesOf = (policies: readonly string[], withoutDefault: boolean): string[] =>
  [...new Set([...(withoutDefault ? [] : ['default']), ...policies])].sort();

const unixSeconds = (time: string) => Math.floor(Date.parse(time) / 1000);

/** What a login of each method answers as its metadata, and a lookup of its token again. */
export function metaOf({ method, username, metadata }: Pick<TokenInfo, 'method' | 'username' | 'metadata'>) {
  if (method === 'service') return { ...metadata, role_name: username };
  if (method === 'jwt' || method === 'cert') return { ...metadata };
  return { ...metadata, username };
}

function pathOf(token: TokenInfo): string {
  if (token.kind === 'login') return loginPathOf(token);
  return ['auth/token/create', token.role, token.roleSuffix].filter((part) => part !== null).join('/');
}

const isOrphan = ({ parent }: TokenInfo) => parent === null;

/** `accountPolicies` are those of the account where they are known; a token that is bound has the bound ones. */
function shape(token: TokenInfo, accountPolicies: readonly string[], id: string) {
  return {
    accessor: token.accessor,
    ...(token.cidrs === null ? {} : { bound_cidrs: token.cidrs }),
    creation_time: unixSeconds(token.createdAt),
    creation_ttl: token.creationTtlSeconds,
    display_name: token.name ?? `${mountOf(token.method)}-${token.username}`,
    entity_id: '',
    expire_time: token.expiresAt,
    explicit_max_ttl: token.explicitMaxTtlSeconds ?? 0,
    id,
    issue_time: token.createdAt,
    ...(token.renewedAt === null
      ? {}
      : { last_renewal: token.renewedAt, last_renewal_time: unixSeconds(token.renewedAt) }),
    meta: metaOf(token),
    num_uses: token.usesLeft ?? 0,
    orphan: isOrphan(token),
    path: pathOf(token),
    ...(token.periodSeconds === null ? {} : { period: token.periodSeconds }),
    policies: policiesOf(token.bound ?? accountPolicies, token.withoutDefault),
    renewable: token.renewable,
    ...(token.role === null ? {} : { role: token.role }),
    ttl: token.ttlSeconds,
    type: 'service',
  };
}

/** The auth block: of a token that is new, or whose end has moved. */
export function authOf(
  token: TokenInfo,
  accountPolicies: readonly string[],
  clientToken: string,
  seconds = token.ttlSeconds,
): Auth {
  const policies = policiesOf(token.bound ?? accountPolicies, token.withoutDefault);
  return {
    client_token: clientToken,
    accessor: token.accessor,
    policies,
    token_policies: policies,
    metadata: metaOf(token),
    lease_duration: seconds,
    renewable: token.renewable,
    entity_id: '',
    token_type: 'service',
    orphan: isOrphan(token),
    mfa_requirement: null,
    num_uses: token.usesLeft ?? 0,
  };
}

/** What a login of whatever method answers. */
export function loginAuth(
  login: {
    readonly token: string;
    readonly accessor: string;
    readonly policies: readonly string[];
    readonly ttlSeconds: number;
    readonly uses: number | null;
    readonly withoutDefault: boolean;
  },
  metadata: Readonly<Record<string, string>>,
): Answer {
  const policies = policiesOf(login.policies, login.withoutDefault);
  const auth: Auth = {
    ...{ client_token: login.token, accessor: login.accessor, policies, token_policies: policies, metadata },
    ...{ lease_duration: login.ttlSeconds, renewable: true, entity_id: '', token_type: 'service', orphan: true },
    ...{ mfa_requirement: null, num_uses: login.uses ?? 0 },
  };
  return { kind: 'envelope', auth };
}

/** What was shown as the caller's token, whatever it is. */
export const ownText = ({ exchange: { incoming } }: VaultRequest): string =>
  String(incoming.headers['x-vault-token'] ?? incoming.headers.authorization?.slice('Bearer '.length) ?? '');

// ---- looking ------------------------------------------------------------------------------------------------------

async function lookupSelf(request: VaultRequest): Promise<Answer> {
  const self = await readSelf(request.vault, request.call);
  return data(json(shape(self, self.policies, ownText(request))), { mountType: MOUNT_TYPE });
}

const badToken = () => said('forbidden', 'bad token');

/** The accessor of a token of the caller's own tenant, given as its text. Who has no token is told nothing of it. */
async function accessorIn({ vault, call, fields }: VaultRequest): Promise<string | undefined> {
  const text = fields.string('token') ?? '';
  if (text === '') throw badRequest('missing token');
  const token = parseTokenText(text);
  if (token && token.tenantId === call.token?.tenantId) return token.tokenId;
  await readSelf(vault, call);
  return undefined;
}

async function lookup(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const text = fields.string('token') ?? '';
  if (text === '' || text === ownText(request)) return lookupSelf(request);
  const accessor = await accessorIn(request);
  if (accessor === undefined) throw badToken();
  const token = await saying(readToken(vault, call, accessor), { not_found: badToken });
  return data(json(shape(token, token.policies, text)), { mountType: MOUNT_TYPE });
}

const ACCESSOR = /^[a-z2-7]{16}$/;

export function givenAccessor({ fields }: VaultRequest): string {
  const accessor = fields.string('accessor') ?? '';
  if (accessor === '') throw badRequest('missing accessor');
  if (!ACCESSOR.test(accessor)) throw said('forbidden', 'invalid accessor');
  return accessor;
}

async function lookupAccessor(request: VaultRequest): Promise<Answer> {
  const { vault, call } = request;
  const invalid = () => said('forbidden', 'invalid accessor');
  const token = await saying(readToken(vault, call, givenAccessor(request)), { not_found: invalid });
  return data(json(shape(token, token.policies, '')), { mountType: MOUNT_TYPE });
}

const listAccessors = listing(
  ({ vault, call }, ask) => listTokens(vault, call, ask),
  ({ accessor }) => accessor,
  MOUNT_TYPE,
);

// ---- renewing and ending ------------------------------------------------------------------------------------------

const NOT_RENEWABLE = {
  conflict: ({ details }: VaultError) =>
    badRequest(
      details?.reason === 'token_role_gone'
        ? 'original token role could not be found, not renewing'
        : 'lease is not renewable',
    ),
};

function incrementOf({ vault, fields }: VaultRequest): number | undefined {
  const seconds = fields.duration('increment') ?? 0;
  return seconds > 0 ? Math.min(seconds, vault.config.tokenMaxTtlSeconds) : undefined;
}

async function renewBy(request: VaultRequest, call: Call, text: string): Promise<Answer> {
  const { vault } = request;
  const renewed = await saying(renewToken(vault, call, incrementOf(request)), NOT_RENEWABLE);
  const self = await readSelf(vault, call);
  return { kind: 'envelope', auth: authOf(self, self.policies, text, renewed.ttlSeconds), mountType: MOUNT_TYPE };
}

const renewSelf = (request: VaultRequest) => renewBy(request, request.call, ownText(request));

/** Whoever holds a token may renew it: the token that is named is the actor. */
async function renew(request: VaultRequest): Promise<Answer> {
  const text = request.fields.string('token') ?? '';
  if (text === '' || text === ownText(request)) return renewSelf(request);
  await readSelf(request.vault, request.call);
  const token = parseTokenText(text);
  if (!token || token.tenantId !== request.call.token?.tenantId) throw badRequest('token not found');
  return saying(renewBy(request, { ...request.call, token }, text), { unauthenticated: 'token not found' });
}

async function renewAccessor(request: VaultRequest): Promise<Answer> {
  const { vault, call } = request;
  const renewed = renewTokenOf(vault, call, givenAccessor(request), incrementOf(request));
  const invalid = () => said('forbidden', 'invalid accessor');
  const token = await saying(renewed, { ...NOT_RENEWABLE, not_found: invalid });
  return { kind: 'envelope', auth: authOf(token, token.policies, ''), mountType: MOUNT_TYPE };
}

async function revokeSelf({ vault, call }: VaultRequest): Promise<Answer> {
  await logout(vault, call);
  return EMPTY;
}

async function revoke(request: VaultRequest): Promise<Answer> {
  if (request.fields.string('token') === ownText(request)) return revokeSelf(request);
  const accessor = await accessorIn(request);
  return ignoreAbsent(accessor === undefined ? undefined : revokeToken(request.vault, request.call, accessor));
}

async function revokeAccessor(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const accessor = fields.string('accessor') ?? '';
  if (accessor !== '' && !ACCESSOR.test(accessor)) {
    await readSelf(vault, call);
    return EMPTY;
  }
  return ignoreAbsent(revokeToken(vault, call, givenAccessor(request)));
}

async function revokeOrphan(request: VaultRequest): Promise<Answer> {
  const absent = 'token to revoke not found';
  const accessor = await accessorIn(request);
  if (accessor === undefined) throw badRequest(absent);
  await saying(revokeOrphaning(request.vault, request.call, accessor), { not_found: absent });
  return EMPTY;
}

async function tidy({ vault, call }: VaultRequest): Promise<Answer> {
  await readSelf(vault, call);
  return { kind: 'envelope', status: 202, warnings: [TIDY_STARTED] };
}

export const TOKEN_ROUTES: readonly Route[] = [
  { pattern: 'lookup-self', verbs: { GET: lookupSelf, POST: lookupSelf } },
  { pattern: 'lookup', verbs: { GET: lookup, POST: lookup } },
  { pattern: 'lookup-accessor', verbs: { POST: lookupAccessor } },
  { pattern: 'renew-self', verbs: { POST: renewSelf } },
  { pattern: 'renew', verbs: { POST: renew } },
  { pattern: 'renew-accessor', verbs: { POST: renewAccessor } },
  { pattern: 'revoke-self', verbs: { POST: revokeSelf } },
  { pattern: 'revoke', verbs: { POST: revoke } },
  { pattern: 'revoke-accessor', verbs: { POST: revokeAccessor } },
  { pattern: 'revoke-orphan', verbs: { POST: revokeOrphan } },
  { pattern: 'accessors', verbs: { LIST: listAccessors } },
  { pattern: 'tidy', verbs: { POST: tidy } },
];
