/**
 * auth/jwt: workloads that show a token which somebody else has signed. The configuration of this method is the issuer
 * `jwt` of the tenant; its roles are login roles. A role of another issuer logs in here too, and is the native
 * interface's to change.
 *
 * An identity is an issuer, a claim and what that says; whatever would be kept and not enforced is refused by its name.
 */
import { type JwtAlgorithm, keysAsPem, keysFromPem, putIssuer, readIssuer } from '../../auth/issuer.ts';
import {
  deleteLoginRole,
  type LoginRoleInfo,
  listLoginRoles,
  putLoginRole,
  readLoginRole,
} from '../../auth/login-role.ts';
import { jwt } from '../../auth/methods/jwt.ts';
import { loginBy } from '../../auth/proven-login.ts';
import { VaultError } from '../../errors.ts';
import { ignoreAbsent } from './absent.ts';
import { type Answer, data, EMPTY, json } from './answer.ts';
import { badRequest, saying } from './error.ts';
import type { Fields } from './field.ts';
import { listing } from './paging.ts';
import type { Route, VaultRequest } from './route.ts';
import { loginAuth, metaOf } from './token.ts';
import { refuseNotKept, shapeTokenFields, tokenFieldsIn } from './token-field.ts';
import { TENANT_DEFAULT } from './userpass.ts';

const MOUNT_TYPE = 'jwt';
const ISSUER = 'jwt';
const nameOf = ({ at }: VaultRequest) => at.role!.toLowerCase();

async function logIn({ vault, call: { token: _, ...call }, fields, namespace }: VaultRequest): Promise<Answer> {
  const [role, shown] = [fields.string('role') ?? '', fields.string('jwt') ?? ''];
  if (shown === '') throw badRequest(role === '' ? 'missing role' : 'missing token');
  const wanted = role === '' ? { defaultOf: ISSUER } : role.toLowerCase();
  const credentials = { tenant: namespace ?? TENANT_DEFAULT, role: wanted, jwt: shown };
  // Whether it is the role or the token that is wrong, is for the log.
  const made = await saying(loginBy(vault, call, jwt, credentials), {
    login_failed: 'error validating token: the role or the token is not right',
    invalid_request: 'missing role',
  });
  return loginAuth(made, metaOf({ method: 'jwt', ...made }));
}

// ---- the issuer ---------------------------------------------------------------------------------------------------

const EXACTLY_ONE = "exactly one of 'jwt_validation_pubkeys', 'jwks_url' or 'oidc_discovery_url' must be set";

const CONFIG_NOT_KEPT = [
  ...['oidc_client_id', 'oidc_client_secret', 'oidc_response_mode', 'oidc_response_types'],
  ...['jwks_pairs', 'provider_config', 'namespace_in_state', 'override_allowed_server_names'],
];

async function configure({ vault, call, fields }: VaultRequest): Promise<Answer> {
  const pems = fields.strings('jwt_validation_pubkeys') ?? [];
  const [url, discovery] = [fields.string('jwks_url') ?? '', fields.string('oidc_discovery_url') ?? ''];
  if ([pems.length > 0, url !== '', discovery !== ''].filter(Boolean).length !== 1) throw badRequest(EXACTLY_ONE);
  refuseNotKept(fields, CONFIG_NOT_KEPT);
  const bound = fields.string('bound_issuer') ?? '';
  if (discovery !== '' && bound !== '' && bound !== discovery) {
    throw badRequest('bound_issuer: an issuer that is found by discovery is the one that oidc_discovery_url names');
  }
  const issuer = discovery === '' ? bound : discovery;
  if (issuer === '') throw badRequest('bound_issuer is required beside keys: an issuer is known by its "iss"');
  const ca = fields.string(url === '' ? 'oidc_discovery_ca_pem' : 'jwks_ca_pem') || undefined;
  const algorithms = fields.strings('jwt_supported_algs') as JwtAlgorithm[] | undefined;
  await putIssuer(vault, call, ISSUER, {
    issuer,
    jwks: pems.length > 0 ? keysFromPem(pems) : undefined,
    jwksUrl: url === '' ? undefined : url,
    ca,
    algorithms: algorithms?.length ? algorithms : undefined,
    defaultRole: fields.string('default_role')?.toLowerCase() || undefined,
  });
  return EMPTY;
}

async function readConfig({ vault, call }: VaultRequest): Promise<Answer> {
  const found = await readIssuer(vault, call, ISSUER);
  const shape = {
    bound_issuer: found.issuer,
    default_role: found.defaultRole ?? '',
    jwks_ca_pem: found.jwksUrl === null ? '' : (found.ca ?? ''),
    jwks_url: found.jwksUrl ?? '',
    jwt_supported_algs: found.algorithms,
    jwt_validation_pubkeys: found.jwks === null ? [] : keysAsPem(found.jwks),
    oidc_client_id: '',
    oidc_discovery_ca_pem: found.jwksUrl === null ? (found.ca ?? '') : '',
    oidc_discovery_url: found.jwks === null && found.jwksUrl === null ? found.issuer : '',
    provider_config: {},
  };
  return data(json(shape), { mountType: MOUNT_TYPE });
}

// ---- roles --------------------------------------------------------------------------------------------------------

const ROLE_NOT_KEPT = [
  ...['groups_claim', 'allowed_redirect_uris', 'oidc_scopes', 'verbose_oidc_logging', 'max_age'],
  ...['expiration_leeway', 'not_before_leeway', 'clock_skew_leeway', 'callback_mode'],
];

/** Claims that must fit: texts as they are, or with `*` for any run of characters. */
function claimsIn(fields: Fields): Record<string, string[]> {
  const type = fields.string('bound_claims_type') ?? 'string';
  if (type !== 'string' && type !== 'glob') throw badRequest("invalid 'bound_claims_type'");
  const plain = (text: string) => {
    if (text.includes('*')) throw badRequest("a claim with * takes 'bound_claims_type' glob");
    return text;
  };
  const given = fields.value('bound_claims') ?? {};
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw badRequest("invalid 'bound_claims'");
  const claims: Record<string, string[]> = {};
  for (const [name, value] of Object.entries(given)) {
    const wanted = (Array.isArray(value) ? value : [value]).map(String);
    claims[name] = wanted.map((text) => (type === 'glob' ? text.replaceAll(/\*+/g, '**') : plain(text)));
  }
  const subject = fields.string('bound_subject') ?? '';
  if (subject !== '') claims.sub = [plain(subject)];
  if (Object.keys(claims).length === 0) {
    throw badRequest(
      'bound_subject or bound_claims is required: with neither, everybody that the issuer knows would fit',
    );
  }
  return claims;
}

async function writeRole(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const type = fields.string('role_type') ?? 'oidc';
  if (type !== 'jwt') throw badRequest("role_type: only 'jwt' is supported; a login in a browser (oidc) is not");
  const user = fields.string('user_claim') ?? '';
  if (user === '') throw badRequest('a user claim must be defined on the role');
  // A name that begins with a slash is a pointer here.
  if (user.startsWith('/') !== (fields.boolean('user_claim_json_pointer') ?? false)) {
    throw badRequest('user_claim: a pointer such as /job/id goes with user_claim_json_pointer, and only that');
  }
  refuseNotKept(fields, ROLE_NOT_KEPT);
  const { policies = [], ...tokens } = tokenFieldsIn(fields);
  const audiences = fields.strings('bound_audiences') ?? [];
  if (audiences.length === 0) throw badRequest('bound_audiences is required: whom its tokens are made for');
  const before = await roleOrNone(request);
  if (before && before.issuer !== ISSUER) throw badRequest(`the role is one of the issuer ${before.issuer}`);
  const rules = [{ claims: claimsIn(fields), policies }];
  await putLoginRole(vault, call, nameOf(request), {
    ...{ ...tokens, issuer: ISSUER, audiences, rules, subjectClaim: user, claimNames: fields.map('claim_mappings') },
  });
  return EMPTY;
}

async function roleOrNone(request: VaultRequest): Promise<LoginRoleInfo | undefined> {
  try {
    return await readLoginRole(request.vault, request.call, nameOf(request));
  } catch (error) {
    // Who may write and not read is told by the write.
    if (error instanceof VaultError && (error.code === 'not_found' || error.code === 'forbidden')) return undefined;
    throw error;
  }
}

async function readRole(request: VaultRequest): Promise<Answer> {
  const role = await readLoginRole(request.vault, request.call, nameOf(request));
  const [rule, ...more] = role.rules;
  if (!rule || more.length > 0) {
    throw badRequest(`the role has ${role.rules.length} rules, which this API cannot show: see /api/v1/login-roles`);
  }
  const { sub, ...others } = rule.claims;
  const isPlain = sub?.length === 1 && !sub[0]!.includes('*');
  const claims = isPlain ? others : rule.claims;
  const isGlob = Object.values(claims).some((patterns) => patterns.some((text) => text.includes('*')));
  const shown = Object.entries(claims).map(([name, texts]) => [name, texts.map((text) => text.replaceAll('**', '*'))]);
  const shape = {
    bound_audiences: role.audiences,
    bound_claims: Object.keys(claims).length === 0 ? null : Object.fromEntries(shown),
    bound_claims_type: isGlob ? 'glob' : 'string',
    bound_subject: isPlain ? sub[0] : '',
    role_type: 'jwt',
    claim_mappings: Object.keys(role.claimNames).length === 0 ? null : role.claimNames,
    user_claim: role.subjectClaim,
    user_claim_json_pointer: role.subjectClaim.startsWith('/'),
    ...shapeTokenFields(role, rule.policies),
  };
  return data(json(shape), { mountType: MOUNT_TYPE });
}

const listRoles = listing(
  ({ vault, call }, ask) => listLoginRoles(vault, call, ask),
  ({ name }) => name,
  MOUNT_TYPE,
);

async function removeRole(request: VaultRequest): Promise<Answer> {
  return ignoreAbsent(deleteLoginRole(request.vault, request.call, nameOf(request)));
}

export const JWT_ROUTES: readonly Route[] = [
  { pattern: 'login', verbs: { POST: logIn }, open: true },
  { pattern: 'config', verbs: { GET: readConfig, POST: configure } },
  { pattern: 'role', verbs: { LIST: listRoles } },
  { pattern: 'role/{role}', verbs: { GET: readRole, POST: writeRole, DELETE: removeRole } },
];

async function refuseOidc(): Promise<Answer> {
  throw badRequest(
    'login in a browser (oidc) is not supported: workloads with a signed token log in at auth/jwt/login',
  );
}

/** Whatever a client asks of it: refused by its name, because the path is one that it knows. */
export const OIDC_ROUTES: readonly Route[] = [
  {
    pattern: '{path}',
    verbs: { GET: refuseOidc, POST: refuseOidc, DELETE: refuseOidc, LIST: refuseOidc },
    open: true,
  },
];
