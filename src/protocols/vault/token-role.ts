/**
 * auth/token/roles: templates that tokens are made by, at auth/token/create/<role>.
 *
 * A role here narrows and never widens: what it allows is had only by who holds it already. What would be kept and not
 * enforced is refused by its name.
 */
import {
  deleteTokenRole,
  listTokenRoles,
  putTokenRole,
  readTokenRole,
  type TokenRole,
  type TokenRoleWish,
} from '../../auth/token-role.ts';
import { ignoreAbsent } from './absent.ts';
import { type Answer, data, EMPTY, json } from './answer.ts';
import { badRequest } from './error.ts';
import { type Fields, isEmpty } from './field.ts';
import { listing } from './paging.ts';
import type { Route, VaultRequest } from './route.ts';
import { MOUNT_TYPE } from './token.ts';
import { networks, zeroAsNull } from './token-field.ts';

const nameOf = ({ at }: VaultRequest) => at.role!.toLowerCase();

/** Only logins have a ttl of their own here: a token takes the one that it is asked for. */
const NOT_KEPT = ['allowed_entity_aliases', 'token_strictly_bind_ip', 'token_ttl', 'token_max_ttl', 'token_policies'];

function refuseUnsupported(fields: Fields): void {
  const set = NOT_KEPT.find((name) => !isEmpty(fields.value(name)));
  if (set !== undefined) throw badRequest(`${set} is not supported by token roles`);
  const type = fields.string('token_type') || 'service';
  if (type === 'batch' || type === 'default-batch') throw badRequest('token_type: batch tokens are not supported');
  if (!['service', 'default-service', 'default'].includes(type)) throw badRequest(`invalid 'token_type' value`);
}

/** A field and its older name. */
const either = <T>(read: (name: string) => T | undefined, name: string, older: string): T | undefined =>
  read(name) ?? read(older);

/** What is not given stays as it is. */
function wishIn(fields: Fields): TokenRoleWish {
  refuseUnsupported(fields);
  const suffix = fields.string('path_suffix');
  return {
    allowedPolicies: fields.strings('allowed_policies'),
    allowedPatterns: fields.strings('allowed_policies_glob'),
    disallowedPolicies: fields.strings('disallowed_policies'),
    disallowedPatterns: fields.strings('disallowed_policies_glob'),
    orphan: fields.boolean('orphan'),
    renewable: fields.boolean('renewable'),
    withoutDefault: fields.boolean('token_no_default_policy'),
    suffix: suffix === '' ? null : suffix,
    explicitMaxTtlSeconds: zeroAsNull(either(fields.duration, 'token_explicit_max_ttl', 'explicit_max_ttl')),
    periodSeconds: zeroAsNull(either(fields.duration, 'token_period', 'period')),
    uses: zeroAsNull(fields.integer('token_num_uses')),
    cidrs: networks(either(fields.strings, 'token_bound_cidrs', 'bound_cidrs')),
  };
}

async function write(request: VaultRequest): Promise<Answer> {
  await putTokenRole(request.vault, request.call, nameOf(request), wishIn(request.fields));
  return EMPTY;
}

const shape = (role: TokenRole) => ({
  allowed_entity_aliases: [],
  allowed_policies: role.allowedPolicies,
  allowed_policies_glob: role.allowedPatterns,
  disallowed_policies: role.disallowedPolicies,
  disallowed_policies_glob: role.disallowedPatterns,
  explicit_max_ttl: role.explicitMaxTtlSeconds ?? 0,
  name: role.name,
  orphan: role.orphan,
  path_suffix: role.suffix ?? '',
  period: role.periodSeconds ?? 0,
  renewable: role.renewable,
  ...(role.cidrs === null ? {} : { token_bound_cidrs: role.cidrs }),
  token_explicit_max_ttl: role.explicitMaxTtlSeconds ?? 0,
  token_no_default_policy: role.withoutDefault,
  ...(role.uses === null ? {} : { token_num_uses: role.uses }),
  token_period: role.periodSeconds ?? 0,
  token_type: 'default-service',
});

async function read(request: VaultRequest): Promise<Answer> {
  const role = await readTokenRole(request.vault, request.call, nameOf(request));
  return data(json(shape(role)), { mountType: MOUNT_TYPE });
}

const list = listing(
  ({ vault, call }, ask) => listTokenRoles(vault, call, ask),
  ({ name }) => name,
  MOUNT_TYPE,
);

async function remove(request: VaultRequest): Promise<Answer> {
  return ignoreAbsent(deleteTokenRole(request.vault, request.call, nameOf(request)));
}

export const TOKEN_ROLE_ROUTES: readonly Route[] = [
  { pattern: 'roles', verbs: { LIST: list } },
  { pattern: 'roles/{role}', verbs: { GET: read, POST: write, DELETE: remove } },
];
