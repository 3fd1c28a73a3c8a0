/**
 * auth/approle: machines, which are service accounts here. A role is a service, its role id the client id of that, or one
 * that its owner chose; a secret id is one of its client secrets, of which only the hash is stored, so that it is in one
 * answer and found again only by its accessor or by whoever can show it.
 */
import {
  type ClientSecretInfo,
  type ClientSecretRef,
  createClientSecret,
  deleteClientSecret,
  listClientSecrets,
  readClientSecret,
} from '../../auth/client-secret.ts';
import { service } from '../../auth/methods/service.ts';
import { loginBy } from '../../auth/proven-login.ts';
import {
  createService,
  deleteService,
  listServices,
  readService,
  type ServiceChange,
  type ServiceInfo,
  updateService,
} from '../../auth/service.ts';
import { readSelf } from '../../auth/token.ts';
import { VaultError } from '../../errors.ts';
import { ignoreAbsent } from './absent.ts';
import { type Answer, data, EMPTY, json, TIDY_STARTED } from './answer.ts';
import { badRequest, said, saying } from './error.ts';
import type { Fields } from './field.ts';
import type { APPROLE_PARTS } from './grant.ts';
import { listing } from './paging.ts';
import type { Handler, Route, VaultRequest } from './route.ts';
import { loginAuth, metaOf } from './token.ts';
import { networks, shapeTokenFields, tokenFieldsIn, zeroAsNull } from './token-field.ts';
import { TENANT_DEFAULT } from './userpass.ts';

const MOUNT_TYPE = 'approle';

const nameOf = ({ at }: VaultRequest) => at.role!.toLowerCase();
const noRole = (request: VaultRequest) => () => said('not_found', `role "${nameOf(request)}" does not exist`);

// ---- logging in ---------------------------------------------------------------------------------------------------

const CLIENT_ID = /^(?:system|[a-z2-7]{16})\.[a-z2-7]{16}$/;

async function logIn({ vault, call: { token: _, ...call }, fields, namespace }: VaultRequest): Promise<Answer> {
  const clientId = fields.string('role_id') ?? '';
  const clientSecret = fields.string('secret_id') ?? '';
  if (clientId === '') throw badRequest('missing role_id');
  if (clientSecret === '') throw badRequest('missing secret_id');
  // A client id says its tenant; a role id is of the tenant that is named.
  const tenant = namespace ?? (CLIENT_ID.test(clientId) ? undefined : TENANT_DEFAULT);
  const attempt = loginBy(vault, call, service, { clientId, clientSecret, tenant });
  const made = await saying(attempt, { login_failed: 'invalid role or secret ID' });
  return loginAuth(made, metaOf({ method: 'service', ...made }));
}

// ---- roles --------------------------------------------------------------------------------------------------------

/** The settings of secret ids; whether one is needed at all is not a choice. */
function changeIn(fields: Fields): ServiceChange {
  if (fields.boolean('bind_secret_id') === false) {
    throw badRequest('bind_secret_id: a login without a secret id is not supported');
  }
  if (fields.boolean('local_secret_ids')) throw badRequest('local_secret_ids is not supported by this auth method');
  return {
    ...tokenFieldsIn(fields),
    roleId: fields.string('role_id'),
    secretTtlSeconds: zeroAsNull(fields.duration('secret_id_ttl')),
    secretUses: zeroAsNull(fields.integer('secret_id_num_uses')),
    secretCidrs: networks(fields.strings('secret_id_bound_cidrs') ?? fields.strings('bound_cidr_list')),
  };
}

async function writeRole(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const [name, change] = [nameOf(request), changeIn(fields)];
  try {
    await updateService(vault, call, name, change);
  } catch (error) {
    if (!(error instanceof VaultError) || error.code !== 'not_found') throw error;
    await createService(vault, call, { name, ...change });
  }
  return EMPTY;
}

const shapeRole = (role: ServiceInfo) => ({
  bind_secret_id: true,
  local_secret_ids: false,
  secret_id_bound_cidrs: role.secretCidrs ?? [],
  secret_id_num_uses: role.secretUses ?? 0,
  secret_id_ttl: role.secretTtlSeconds ?? 0,
  ...shapeTokenFields(role, role.policies),
});

async function readRole(request: VaultRequest): Promise<Answer> {
  const role = await readService(request.vault, request.call, nameOf(request));
  return data(json(shapeRole(role)), { mountType: MOUNT_TYPE });
}

const listRoles = listing(
  ({ vault, call }, ask) => listServices(vault, call, ask),
  ({ name }) => name,
  MOUNT_TYPE,
);

async function removeRole(request: VaultRequest): Promise<Answer> {
  return ignoreAbsent(deleteService(request.vault, request.call, nameOf(request)));
}

/** What each part of a role is called in a path, and the field of the role that it is. */
const PARTS: Readonly<Record<(typeof APPROLE_PARTS)[number], keyof ReturnType<typeof shapeRole>>> = {
  policies: 'token_policies',
  period: 'token_period',
  'token-ttl': 'token_ttl',
  'token-max-ttl': 'token_max_ttl',
  'token-num-uses': 'token_num_uses',
  'token-bound-cidrs': 'token_bound_cidrs',
  'bind-secret-id': 'bind_secret_id',
  'local-secret-ids': 'local_secret_ids',
  'secret-id-ttl': 'secret_id_ttl',
  'secret-id-num-uses': 'secret_id_num_uses',
  'secret-id-bound-cidrs': 'secret_id_bound_cidrs',
  'bound-cidr-list': 'secret_id_bound_cidrs',
};

const ABSENT: ServiceChange = { policies: undefined };
const TAKEN_AWAY: Partial<Record<keyof ReturnType<typeof shapeRole>, ServiceChange>> = {
  token_policies: { policies: [] },
  token_period: { tokenPeriodSeconds: null },
  token_ttl: { tokenTtlSeconds: null },
  token_max_ttl: { tokenMaxTtlSeconds: null },
  token_num_uses: { tokenUses: null },
  token_bound_cidrs: { tokenCidrs: null },
  secret_id_ttl: { secretTtlSeconds: null },
  secret_id_num_uses: { secretUses: null },
  secret_id_bound_cidrs: { secretCidrs: null },
};

/** One field of a role, read, written and taken away at a path of its own. */
function partRoutes(part: string, field: keyof ReturnType<typeof shapeRole>): Route {
  const read: Handler = async (request) => {
    const role = shapeRole(await readService(request.vault, request.call, nameOf(request)));
    return data(json({ [field]: role[field] }), { mountType: MOUNT_TYPE });
  };
  const change = (from: (request: VaultRequest) => ServiceChange): Handler => {
    return async (request) => {
      const absent = { not_found: noRole(request) };
      await saying(updateService(request.vault, request.call, nameOf(request), from(request)), absent);
      return EMPTY;
    };
  };
  const names = [field, field.replace(/^token_/, ''), ...(part === 'bound-cidr-list' ? ['bound_cidr_list'] : [])];
  const write = change(({ fields }) => {
    if (!names.some(fields.has)) throw badRequest(`missing ${field}`);
    return changeIn(fields);
  });
  return {
    pattern: `role/{role}/${part}`,
    verbs: { GET: read, POST: write, DELETE: change(() => TAKEN_AWAY[field] ?? ABSENT) },
  };
}

async function readRoleId(request: VaultRequest): Promise<Answer> {
  const { roleId, clientId } = await readService(request.vault, request.call, nameOf(request));
  return data(json({ role_id: roleId ?? clientId }), { mountType: MOUNT_TYPE });
}

async function writeRoleId(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const wanted = fields.string('role_id') ?? '';
  if (wanted === '') throw badRequest('missing role_id');
  const absent = { not_found: noRole(request) };
  const { clientId } = await saying(readService(vault, call, nameOf(request)), absent);
  const roleId = wanted === clientId ? null : wanted;
  await saying(updateService(vault, call, nameOf(request), { roleId }), absent);
  return EMPTY;
}

// ---- secret ids ---------------------------------------------------------------------------------------------------

/** The metadata of a secret id comes as a text that is JSON: names and texts. */
function metadataIn(fields: Fields): Record<string, string> | undefined {
  const given = fields.value('metadata');
  if (given === undefined || given === '') return undefined;
  const wrong = badRequest('failed to parse metadata: expected an object of texts, as JSON');
  let parsed: unknown = given;
  if (typeof given === 'string') {
    try {
      parsed = JSON.parse(given);
    } catch {
      throw wrong;
    }
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw wrong;
  if (!Object.values(parsed).every((text) => typeof text === 'string')) throw wrong;
  return { ...(parsed as Record<string, string>) };
}

const secondsBetween = (start: string, end: string) => Math.round((Date.parse(end) - Date.parse(start)) / 1000);

async function makeSecretId(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  if ((fields.strings('token_bound_cidrs') ?? []).length > 0) {
    throw badRequest('token_bound_cidrs: use cidr_list, which binds the tokens of a secret id too');
  }
  const [ttl, uses] = [fields.duration('ttl') ?? 0, fields.integer('num_uses') ?? 0];
  const wish = {
    ttlSeconds: ttl > 0 ? ttl : undefined,
    uses: uses > 0 ? uses : undefined,
    cidrs: networks(fields.strings('cidr_list')) ?? undefined,
    metadata: metadataIn(fields),
  };
  const made = await saying(createClientSecret(vault, call, nameOf(request), wish), { not_found: noRole(request) });
  const shape = {
    secret_id: made.clientSecret,
    secret_id_accessor: made.id,
    secret_id_num_uses: made.usesLeft ?? 0,
    secret_id_ttl: secondsBetween(made.createdAt, made.expiresAt),
  };
  return data(json(shape), { mountType: MOUNT_TYPE });
}

async function refuseCustom(): Promise<Answer> {
  throw badRequest(
    'custom secret ids are not supported: a secret id is random and stored as its hash; take one from role/<name>/secret-id',
  );
}

/** What has ended or is used up is not there any more for clients of this API. */
const works = ({ expired, usesLeft }: ClientSecretInfo) => !expired && usesLeft !== 0;

const listSecretIds = listing(
  (request, ask) => {
    const page = listClientSecrets(request.vault, request.call, nameOf(request), ask);
    return saying(page, { not_found: noRole(request) });
  },
  (secret) => (works(secret) ? secret.id : undefined),
  MOUNT_TYPE,
);

const shapeSecretId = (found: ClientSecretInfo) => ({
  cidr_list: found.cidrs ?? [],
  creation_time: found.createdAt,
  expiration_time: found.expiresAt,
  last_updated_time: found.lastUsedAt ?? found.createdAt,
  metadata: found.metadata,
  secret_id_accessor: found.id,
  secret_id_num_uses: found.usesLeft ?? 0,
  secret_id_ttl: secondsBetween(found.createdAt, found.expiresAt),
  token_bound_cidrs: found.cidrs ?? [],
});

function shownIn(request: VaultRequest): ClientSecretRef {
  const clientSecret = request.fields.string('secret_id') ?? '';
  if (clientSecret === '') throw badRequest('missing secret_id parameter');
  return { clientSecret };
}

function accessorIn(request: VaultRequest): ClientSecretRef {
  const id = request.fields.string('secret_id_accessor') ?? '';
  if (id === '') throw badRequest('missing "secret_id_accessor" parameter');
  return { id };
}

const isAbsentSecret = (error: unknown) =>
  error instanceof VaultError && error.code === 'not_found' && error.details?.reason === 'no_client_secret';

/** Runs an act on one secret id of the role; `absent` says what is answered when it has none such. */
async function onSecretId<T>(request: VaultRequest, act: Promise<T>, absent: () => Answer): Promise<T | Answer> {
  try {
    return await act;
  } catch (error) {
    if (isAbsentSecret(error)) return absent();
    if (error instanceof VaultError && error.code === 'not_found') throw noRole(request)();
    throw error;
  }
}

const lookup =
  (refOf: (request: VaultRequest) => ClientSecretRef, absent: (request: VaultRequest) => Answer): Handler =>
  async (request) => {
    const found = readClientSecret(request.vault, request.call, nameOf(request), refOf(request));
    const answer = found.then((one) =>
      works(one) ? data(json(shapeSecretId(one)), { mountType: MOUNT_TYPE }) : absent(request),
    );
    return onSecretId(request, answer, () => absent(request));
  };

const destroy =
  (refOf: (request: VaultRequest) => ClientSecretRef, absent: () => Answer): Handler =>
  async (request) => {
    const ended = deleteClientSecret(request.vault, request.call, nameOf(request), refOf(request));
    return onSecretId(
      request,
      ended.then(() => EMPTY),
      absent,
    );
  };

const nothing = () => EMPTY;

function noAccessor({ fields }: VaultRequest): Answer {
  const accessor = fields.string('secret_id_accessor') ?? '';
  const shown = /^[\w-]{1,64}$/.test(accessor) ? accessor : '';
  throw said('not_found', `failed to find accessor entry for secret_id_accessor: "${shown}"`);
}

const badAccessor = () => {
  throw said('forbidden', 'invalid secret id accessor');
};

/** What has ended goes with the next secret id that is made: there is nothing to start. */
async function tidy({ vault, call }: VaultRequest): Promise<Answer> {
  await readSelf(vault, call);
  return { kind: 'envelope', status: 202, warnings: [TIDY_STARTED] };
}

const destroyShown = destroy(shownIn, nothing);
const destroyNamed = destroy(accessorIn, badAccessor);

export const APPROLE_ROUTES: readonly Route[] = [
  { pattern: 'login', verbs: { POST: logIn }, open: true },
  { pattern: 'role', verbs: { LIST: listRoles } },
  { pattern: 'role/{role}', verbs: { GET: readRole, POST: writeRole, DELETE: removeRole } },
  { pattern: 'role/{role}/role-id', verbs: { GET: readRoleId, POST: writeRoleId } },
  { pattern: 'role/{role}/secret-id', verbs: { POST: makeSecretId, LIST: listSecretIds } },
  { pattern: 'role/{role}/custom-secret-id', verbs: { POST: refuseCustom } },
  { pattern: 'role/{role}/secret-id/lookup', verbs: { POST: lookup(shownIn, nothing) } },
  { pattern: 'role/{role}/secret-id/destroy', verbs: { POST: destroyShown, DELETE: destroyShown } },
  { pattern: 'role/{role}/secret-id-accessor/lookup', verbs: { POST: lookup(accessorIn, noAccessor) } },
  { pattern: 'role/{role}/secret-id-accessor/destroy', verbs: { POST: destroyNamed, DELETE: destroyNamed } },
  ...Object.entries(PARTS).map(([part, field]) => partRoutes(part, field)),
  { pattern: 'tidy/secret-id', verbs: { POST: tidy } },
];
