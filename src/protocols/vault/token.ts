/** auth/token: what a token is, renewing it, ending it, and making others that are no stronger. */
import { parseTokenText } from '../../auth/bearer.ts';
import {
  type ChildWish,
  createToken,
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
import { VaultError } from '../../errors.ts';
import type { Call } from '../../policy/access.ts';
import { ignoreAbsent } from './absent.ts';
import { type Answer, type Auth, data, EMPTY, json, TIDY_STARTED } from './answer.ts';
import { badRequest, notFound, said, saying } from './error.ts';
import type { Fields } from './field.ts';
import { listing } from './paging.ts';
import type { Route, VaultRequest } from './route.ts';

const MOUNT_TYPE = 'token';

/** Where each method stands: a token says what it came from. */
const MOUNT_OF: Readonly<Record<string, string>> = { password: 'userpass', service: 'approle' };
const mountOf = (method: string) => MOUNT_OF[method] ?? method;

function loginPathOf({ method, username }: TokenInfo): string {
  const path = `auth/${mountOf(method)}/login`;
  return method === 'password' ? `${path}/${username}` : path;
}

/** `default` is what every token may: it is always among them, as clients expect. */
export const policiesOf = (policies: readonly string[]): string[] => [...new Set(['default', ...policies])].sort();

const unixSeconds = (time: string) => Math.floor(Date.parse(time) / 1000);

/** What a login of each method answers as its metadata, and a lookup of its token again. */
export function metaOf({ method, username, metadata }: Pick<TokenInfo, 'method' | 'username' | 'metadata'>) {
  if (method === 'service') return { ...metadata, role_name: username };
  if (method === 'jwt' || method === 'cert') return { ...metadata };
  return { ...metadata, username };
}

const isOrphan = ({ parent }: TokenInfo) => parent === null;

/** `accountPolicies` are those of the account where they are known; a token that is bound has the bound ones. */
function shape(token: TokenInfo, accountPolicies: readonly string[], id: string) {
  return {
    accessor: token.accessor,
    ...(token.cidrs === null ? {} : { bound_cidrs: token.cidrs }),
    creation_time: unixSeconds(token.createdAt),
    creation_ttl: Math.round((Date.parse(token.expiresAt) - Date.parse(token.createdAt)) / 1000),
    display_name: token.name ?? `${mountOf(token.method)}-${token.username}`,
    entity_id: '',
    expire_time: token.expiresAt,
    explicit_max_ttl: 0,
    id,
    issue_time: token.createdAt,
    meta: metaOf(token),
    num_uses: token.usesLeft ?? 0,
    orphan: isOrphan(token),
    path: token.kind === 'login' ? loginPathOf(token) : 'auth/token/create',
    ...(token.periodSeconds === null ? {} : { period: token.periodSeconds }),
    policies: policiesOf(token.bound ?? accountPolicies),
    renewable: token.renewable,
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
  const policies = policiesOf(token.bound ?? accountPolicies);
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
    readonly uses?: number | null;
  },
  metadata: Readonly<Record<string, string>>,
): Answer {
  const policies = policiesOf(login.policies);
  const auth: Auth = {
    ...{ client_token: login.token, accessor: login.accessor, policies, token_policies: policies, metadata },
    ...{ lease_duration: login.ttlSeconds, renewable: true, entity_id: '', token_type: 'service', orphan: true },
    ...{ mfa_requirement: null, num_uses: login.uses ?? 0 },
  };
  return { kind: 'envelope', auth };
}

const ownText = ({ exchange: { incoming } }: VaultRequest): string =>
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

const NOT_RENEWABLE = { conflict: 'lease is not renewable' } as const;

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
  const token = await saying(renewTokenOf(vault, call, givenAccessor(request), incrementOf(request)), {
    ...NOT_RENEWABLE,
    not_found: () => said('forbidden', 'invalid accessor'),
  });
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

// ---- making -------------------------------------------------------------------------------------------------------

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** What is asked for and not done here is refused, never left out in silence. */
function refuseUnsupported(fields: Fields): void {
  const type = fields.string('type') || 'service';
  if (type === 'batch') throw badRequest('batch tokens are not supported');
  if (type !== 'service' && type !== 'default') throw badRequest(`invalid 'type' value`);
  if ((fields.string('id') ?? '') !== '') throw badRequest('root or sudo privileges required to specify token id');
  if ((fields.string('entity_alias') ?? '') !== '') throw badRequest('entity aliases are not supported');
  if ((fields.duration('explicit_max_ttl') ?? 0) > 0) throw badRequest('explicit_max_ttl is not supported: use ttl');
  if (fields.boolean('no_default_policy'))
    throw badRequest('no_default_policy is not supported: what default grants is every token’s');
  if (fields.strings('policies')?.includes('root')) {
    throw badRequest('root tokens may not be created without parent token being root');
  }
}

function wishOf({ fields }: VaultRequest, orphan: boolean): ChildWish {
  refuseUnsupported(fields);
  const policies = fields.strings('policies')?.filter((name) => name !== 'default');
  const period = fields.duration('period') ?? 0;
  const ttl = fields.duration('ttl') ?? fields.duration('lease') ?? 0;
  const display = fields.string('display_name') || undefined;
  const meta = fields.map('meta') ?? {};
  const named = display === undefined || NAME.test(display);
  return {
    policies: policies?.length ? policies : undefined,
    ...(period > 0 ? { periodSeconds: period } : ttl > 0 ? { ttlSeconds: ttl } : {}),
    renewable: fields.boolean('renewable') ?? true,
    uses: (fields.integer('num_uses') ?? 0) > 0 ? fields.integer('num_uses') : undefined,
    name: named ? display : undefined,
    metadata: named ? { ...meta } : { ...meta, display_name: display },
    orphan,
    policiesHeld: true,
  };
}

/** What `create` alone says of a leave that the caller lacks; `create-orphan` has a path of its own, and a 403. */
function refusalOf(error: unknown, always: 'orphan' | 'child'): unknown {
  const { action, reason } = (error instanceof VaultError && error.details) || {};
  if (reason === 'not_held') return badRequest('child policies must be subset of parent');
  if (always === 'child' && action === 'token.orphan') {
    return badRequest('root or sudo privileges required to create orphan token');
  }
  return error;
}

const create =
  (always: 'orphan' | 'child') =>
  async (request: VaultRequest): Promise<Answer> => {
    const { vault, call, fields } = request;
    const orphan = always === 'orphan' || (fields.boolean('no_parent') ?? false);
    const wish = wishOf(request, orphan);
    const most = vault.config.tokenMaxTtlSeconds;
    const capped = wish.ttlSeconds === undefined ? wish : { ...wish, ttlSeconds: Math.min(wish.ttlSeconds, most) };
    const made = await saying(createToken(vault, call, capped), {
      conflict: 'restricted use token cannot generate child tokens',
    }).catch((error: unknown) => {
      throw refusalOf(error, always);
    });
    // A token without bounds has all of its maker's: the account says which.
    const account = made.bound === null ? (await readSelf(vault, call)).policies : [];
    return { kind: 'envelope', auth: authOf(made, account, made.token), mountType: MOUNT_TYPE };
  };

async function tidy({ vault, call }: VaultRequest): Promise<Answer> {
  await readSelf(vault, call);
  return { kind: 'envelope', status: 202, warnings: [TIDY_STARTED] };
}

// ---- roles --------------------------------------------------------------------------------------------------------

/** There are none, and so none is found. */
const roleAbsent = async ({ vault, call }: VaultRequest): Promise<Answer> => {
  await readSelf(vault, call);
  throw notFound();
};

async function refuseRole({ vault, call }: VaultRequest): Promise<Answer> {
  await readSelf(vault, call);
  throw badRequest(
    'token roles are not supported: a token made with another has no more than that one; for others, make an approle or a jwt role',
  );
}

async function createByRole({ vault, call, at }: VaultRequest): Promise<Answer> {
  await readSelf(vault, call);
  throw badRequest(`unknown role ${at.role}`);
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
  { pattern: 'create', verbs: { POST: create('child') } },
  { pattern: 'create-orphan', verbs: { POST: create('orphan') } },
  { pattern: 'create/{role}', verbs: { POST: createByRole } },
  { pattern: 'roles', verbs: { LIST: roleAbsent } },
  { pattern: 'roles/{role}', verbs: { GET: roleAbsent, POST: refuseRole, DELETE: refuseRole } },
  { pattern: 'accessors', verbs: { LIST: listAccessors } },
  { pattern: 'tidy', verbs: { POST: tidy } },
];
