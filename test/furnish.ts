/** One of every kind of thing that a tenant can have, made over HTTP as its administrator would, and what each is called. */
import { generateKeyPairSync } from 'node:crypto';
import { mintToken } from '../src/crypto/token.ts';
import { make, makeRevocationList } from './fixtures/certificate.ts';
import { PASSWORD, type TestVault } from './harness.ts';
import { connectWith, quote, type Target } from './lease-target.ts';
import { isWord, type Operation } from './operation.ts';

/** Everything that a request can name. Two sets of one length make answers of one length. */
export type Names = {
  readonly tenant: string;
  readonly secret: string;
  readonly rotated: string;
  readonly moved: string;
  readonly mount: string;
  readonly user: string;
  readonly service: string;
  readonly clientSecret: string;
  readonly issuer: string;
  readonly loginRole: string;
  readonly tokenRole: string;
  readonly authority: string;
  readonly certificateRole: string;
  readonly group: string;
  readonly policy: string;
  readonly backend: string;
  readonly role: string;
  readonly account: string;
  readonly transitKey: string;
  readonly accessor: string;
  readonly clientSecretId: string;
  readonly approval: string;
  readonly lease: string;
  readonly job: string;
  readonly keyVersion: string;
};

/** What things are called that were never made. `prefix` has six letters. */
export function namesOf(prefix: string): Names {
  const id = (letter: string) => `${prefix}${letter.repeat(10)}`;
  const of = (kind: string) => `${prefix}-${kind}`;
  return {
    ...{ tenant: prefix, secret: of('secret'), rotated: of('rotated'), moved: of('moved') },
    ...{ mount: of('kv'), user: of('user') },
    ...{ service: of('service'), clientSecret: of('cs'), issuer: of('issuer'), loginRole: of('login') },
    tokenRole: of('token-role'),
    ...{ authority: of('ca'), certificateRole: of('cert'), group: of('group'), policy: of('policy') },
    ...{ backend: of('backend'), role: of('role'), account: of('account'), transitKey: of('key') },
    ...{ accessor: id('a'), clientSecretId: id('c'), approval: id('p'), lease: id('l'), job: id('j'), keyVersion: '9' },
  };
}

/** The kind of thing that stands behind a prefix of a route; the first that fits. */
const KINDS: readonly (readonly [RegExp, keyof Names])[] = [
  [/^\/api\/v1\/tenants\/\{name\}$/, 'tenant'],
  [/\/(secrets|versions|metadata|cubbyhole|data|delete|undelete|destroy|subkeys)\/\{path\}$/, 'secret'],
  [/^\/v1\/(\{mount\}|secret|auth\/oidc)\/\{path\}$/, 'secret'],
  [/\/rotators\/\{path\}$/, 'rotated'],
  [/\/mounts\/\{path\}$|^\/v1\/\{mount\}$/, 'mount'],
  [/\/(users|userpass\/users|userpass\/login)\/\{(name|username)\}$/, 'user'],
  [/\/(services\/\{name\}|approle\/role\/\{role\})$/, 'service'],
  [/\/services\/\{name\}\/secrets\/\{secret\}$/, 'clientSecret'],
  [/\/issuers\/\{name\}$/, 'issuer'],
  [/\/(login-roles\/\{name\}|auth\/jwt\/role\/\{role\})$/, 'loginRole'],
  [/\/auth\/token\/(roles|create)\/\{role\}$/, 'tokenRole'],
  [/\/authorities\/\{name\}$/, 'authority'],
  [/\/(certificate-roles|cert\/certs)\/\{name\}$/, 'certificateRole'],
  [/\/groups\/\{name\}$/, 'group'],
  [/\/(policies|policies\/acl|policy)\/\{name\}$/, 'policy'],
  [/\/(backends|database\/(config|reset|rotate-root))\/\{name\}$/, 'backend'],
  [/^\/api\/v1\/roles\/\{name\}$|\/database\/(creds|roles)\/\{role\}$/, 'role'],
  [/\/accounts\/\{name\}$|\/database\/(static-roles|static-creds|rotate-role)\/\{role\}$/, 'account'],
  [/^\/api\/v1\/transit\/.*\{key\}$|^\/v1\/transit\/.*\{name\}$/, 'transitKey'],
  [/\/(tokens|sessions)\/\{accessor\}$/, 'accessor'],
  [/\/approvals\/\{id\}$/, 'approval'],
  [/\/leases\/\{id\}$|\/sys\/(leases\/)?(lookup|renew|revoke|revoke-prefix|revoke-force)\/\{path\}$/, 'lease'],
  [/\/jobs\/\{id\}$/, 'job'],
  [/\/(keys|peppers)\/\{version\}$/, 'keyVersion'],
];

/** The kind of what stands for a name in an operation's path. Undefined: nobody has said what it is. */
export function kindOf({ path }: Operation, name: string): keyof Names | undefined {
  const upTo = path.slice(0, path.indexOf(`{${name}}`) + name.length + 2);
  return KINDS.find(([pattern]) => pattern.test(upTo))?.[1];
}

/** Makes all of it in the tenant of `token`, an administrator's. */
export async function furnish(
  t: TestVault,
  token: string,
  tenant: string,
  prefix: string,
  target: Target,
): Promise<Names> {
  const named = namesOf(prefix);
  const ask = async (method: string, path: string, body?: unknown, by = token) => {
    const answer = await t.request(method, path.startsWith('/v1/') ? path : `/api/v1${path}`, {
      token: by,
      ...(body === undefined ? {} : { body }),
    });
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    return answer.json;
  };
  for (const version of [1, 2]) await ask('PUT', `/secrets/${named.secret}`, { text: `${prefix} value ${version}` });
  await ask('PUT', `/secrets/${named.moved}`, { text: `${prefix} moved value` });
  await ask('PATCH', `/metadata/${named.secret}`, { metadata: { of: prefix } });
  await ask('PUT', `/secrets/${named.rotated}`, { text: `${prefix} rotated value` });
  await ask('PUT', `/rotators/${named.rotated}`, { kind: 'password' });
  await ask('POST', '/mounts', { path: named.mount, version: 1 });
  // Where one place ends and another begins, for those who list.
  await ask('PUT', `/secrets/${named.secret}/inner`, { text: `${prefix} inner value` });
  for (const place of [named.mount, 'cubbyhole'])
    for (const path of [named.secret, `${named.secret}/inner`])
      await ask('POST', `/v1/${place}/${path}`, { a: prefix });
  const rules = [
    {
      effect: 'allow',
      actions: ['secret.read'],
      resources: ['secret:**'],
      approval: { by: named.policy, count: 1, within: '1h' },
    },
  ];
  await ask('PUT', `/policies/${named.policy}`, { rules });
  await ask('POST', '/users', { username: named.user, password: PASSWORD, policies: [named.policy] });
  await ask('POST', '/groups', { name: named.group, policies: ['reader'] });
  await ask('PATCH', `/groups/${named.group}`, { add_members: [named.user] });
  await ask('POST', '/services', { name: named.service, policies: ['reader'] });
  const { client_secret } = await ask('POST', `/services/${named.service}/secrets`, { name: named.clientSecret });
  const jwk = { ...generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'EdDSA' };
  await ask('PUT', `/issuers/${named.issuer}`, { issuer: `https://${prefix}.example`, jwks: { keys: [jwk] } });
  const claims = [{ claims: { sub: ['x'] }, policies: ['reader'] }];
  await ask('PUT', `/login-roles/${named.loginRole}`, { issuer: named.issuer, audiences: ['x'], rules: claims });
  await ask('POST', `/v1/auth/token/roles/${named.tokenRole}`, { allowed_policies: ['reader'] });
  const authority = await make({ name: prefix, ca: true });
  await ask('PUT', `/authorities/${named.authority}`, { certificates: authority.pem });
  await ask('PUT', `/authorities/${named.authority}/crl`, { crl: await makeRevocationList(authority, []) });
  const certified = { authority: named.authority, names: [`dns:*.${prefix}.example`], policies: ['reader'] };
  await ask('PUT', `/certificate-roles/${named.certificateRole}`, certified);
  await ask('PUT', `/backends/${named.backend}`, { kind: 'postgres', config: target.config });
  await ask('PUT', `/roles/${named.role}`, { backend: named.backend, settings: {} });
  const admin = connectWith(target, target.config);
  await admin.unsafe(`CREATE ROLE ${quote(named.account)} LOGIN`);
  await admin.end();
  await ask('PUT', `/accounts/${named.account}`, { backend: named.backend, username: named.account });
  const { id: lease } = await ask('POST', '/leases', { role: `${named.backend}/${named.role}` });
  await ask('POST', '/transit/keys', { name: named.transitKey });
  const user = await t.login(tenant, named.user);
  const { accessor } = await ask('GET', '/auth/self', undefined, user);
  const wish = { action: 'secret.read', resource: `secret:${named.secret}` };
  const { id: approval } = await ask('POST', '/approvals', wish, user);
  await ask('POST', '/keys/rotate', { reencrypt: false });
  const { job } = await ask('POST', '/keys/rotate', { reencrypt: true });
  const clientSecretId = /_([a-z2-7]{16})\./.exec(client_secret)![1]!;
  return { ...named, tenant, accessor, clientSecretId, approval, lease, job: job.id, keyVersion: '3' };
}

/** What requests carry that is made once a file. */
export type Material = { readonly certificates: string; readonly crl: string };

export async function makeMaterial(): Promise<Material> {
  const authority = await make({ name: 'another', ca: true });
  return { certificates: authority.pem, crl: await makeRevocationList(authority, []) };
}

export type Wish = {
  readonly at?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
};

const bound = ({ policy }: Names) => ({ policies: [policy] });
const leased = ({ lease, role }: Names) => ({ body: { lease_id: `database/creds/${role}/${lease}` } });
const leasedAt = ({ lease, role }: Names) => ({ at: { path: `database/creds/${role}/${lease}` } });
const leasedBy = ({ role }: Names) => ({ at: { path: `database/creds/${role}` } });
const byAccessor = ({ accessor }: Names) => ({ body: { accessor } });
const bySecretId = ({ clientSecretId }: Names) => ({ body: { secret_id_accessor: clientSecretId } });
const versions = () => ({ body: { versions: [1, 2] } });
const patch = { 'content-type': 'application/merge-patch+json' };
const text = 'aGVsbG8=';
/** Of the form of a token, and none. */
const UNKNOWN = mintToken('a'.repeat(16)).token;
const CIPHERTEXT = 'vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w==';

/** Parts of a role of /v1, each written at a path of its own. */
const PARTS: Readonly<Record<string, object>> = {
  policies: { token_policies: 'reader' },
  period: { token_period: 0 },
  'token-ttl': { token_ttl: '1h' },
  'token-max-ttl': { token_max_ttl: '2h' },
  'token-num-uses': { token_num_uses: 3 },
  'token-bound-cidrs': { token_bound_cidrs: '10.0.0.0/8' },
  'bind-secret-id': { bind_secret_id: true },
  'local-secret-ids': { local_secret_ids: false },
  'secret-id-ttl': { secret_id_ttl: '1h' },
  'secret-id-num-uses': { secret_id_num_uses: 3 },
  'secret-id-bound-cidrs': { secret_id_bound_cidrs: '10.0.0.0/8' },
  'bound-cidr-list': { bound_cidr_list: '10.0.0.0/8' },
  'role-id': { role_id: 'made-role-id' },
};

/** Requests that name things beside the path, or need more than the document's example. */
const WISHES: Readonly<Record<string, (names: Names, material: Material) => Wish>> = {
  'POST /api/v1/auth/login': ({ tenant, user }) => ({
    body: { tenant, username: user, password: 'not the right one' },
  }),
  'POST /api/v1/auth/jwt': ({ tenant, loginRole }) => ({ body: { tenant, role: loginRole, jwt: 'e30.e30.c2ln' } }),
  'POST /api/v1/auth/oidc/begin': ({ tenant, loginRole }) => ({
    body: { tenant, role: loginRole, redirect_uri: 'http://127.0.0.1:49152/oidc/callback' },
  }),
  'POST /api/v1/auth/cert': ({ tenant, certificateRole }) => ({ body: { tenant, role: certificateRole } }),
  'POST /api/v1/auth/password': () => ({
    body: { current_password: 'not the right one', new_password: 'another that is long enough' },
  }),
  'POST /api/v1/services': (names) => ({ body: { name: 'made-service', ...bound(names) } }),
  'PATCH /api/v1/services/{name}': (names) => ({ body: bound(names) }),
  'PUT /api/v1/login-roles/{name}': ({ issuer, policy }) => ({
    body: { issuer, audiences: ['x'], rules: [{ claims: { sub: ['y'] }, policies: [policy] }] },
  }),
  'POST /api/v1/tokens': (names) => ({ body: bound(names) }),
  'GET /api/v1/tokens': ({ user }) => ({ query: { username: user } }),
  'PUT /api/v1/authorities/{name}': (_, { certificates }) => ({ body: { certificates } }),
  'PUT /api/v1/authorities/{name}/crl': (_, { crl }) => ({ body: { crl } }),
  'PUT /api/v1/certificate-roles/{name}': ({ authority, policy }) => ({
    body: { authority, names: ['dns:*.web.example'], policies: [policy] },
  }),
  'POST /api/v1/users': (names) => ({ body: { username: 'made-user', ...bound(names) } }),
  'PATCH /api/v1/users/{name}': (names) => ({ body: bound(names) }),
  'POST /api/v1/groups': (names) => ({ body: { name: 'made-group', ...bound(names) } }),
  'PATCH /api/v1/groups/{name}': ({ user }) => ({ body: { add_members: [user] } }),
  'POST /api/v1/approvals': ({ secret }) => ({ body: { action: 'secret.read', resource: `secret:${secret}` } }),
  'POST /api/v1/policies/explain': ({ secret, user }) => ({
    body: { action: 'secret.read', resource: `secret:${secret}`, username: user },
  }),
  'PUT /api/v1/secrets/{path}': () => ({ body: { text: 'put' } }),
  'PATCH /api/v1/secrets/{path}': () => ({ body: { data: { a: 1 } } }),
  'GET /api/v1/secrets/{path}': () => ({ query: { version: '1' } }),
  'GET /api/v1/secrets': ({ secret }) => ({ query: { prefix: secret } }),
  'POST /api/v1/move': ({ moved }) => ({ body: { from: moved, to: 'moved/away' } }),
  'POST /api/v1/fetch': ({ secret }) => ({ body: { paths: [secret] } }),
  'POST /api/v1/mounts': ({ mount }) => ({ body: { path: `${mount}-more`, version: 1 } }),
  'PATCH /api/v1/mounts/{path}': () => ({ body: { versions_kept: 20 } }),
  'PUT /api/v1/rotators/{path}': () => ({ body: { kind: 'password' } }),
  'POST /api/v1/leases': ({ backend, role }) => ({ body: { role: `${backend}/${role}` } }),
  'GET /api/v1/leases': ({ backend, user, accessor }) => ({ query: { prefix: backend, holder: user, accessor } }),
  'POST /api/v1/leases/revoke': ({ backend, role }) => ({ body: { prefix: `${backend}/${role}/none` } }),
  'PUT /api/v1/backends/{name}': () => ({ body: { kind: 'ssh', config: {} } }),
  'PUT /api/v1/roles/{name}': ({ backend }) => ({ body: { backend, settings: {} } }),
  'PUT /api/v1/accounts/{name}': ({ backend, account }) => ({ body: { backend, username: account } }),
  'POST /api/v1/tenants/{name}/unlock': ({ user }) => ({ body: { username: user } }),
  'PATCH /api/v1/tenants/{name}': () => ({ body: { state: 'active' } }),
  'GET /api/v1/audit/entries': ({ user, secret }) => ({ query: { actor: user, resource: `secret:${secret}` } }),
  'GET /api/v1/audit/proof/inclusion': () => ({ query: { index: '0' } }),
  'GET /api/v1/audit/who-can': ({ secret }) => ({ query: { resource: `secret:${secret}` } }),
  'GET /api/v1/audit/who-did': ({ secret }) => ({ query: { resource: `secret:${secret}` } }),

  'POST /v1/auth/userpass/login/{username}': ({ tenant }) => ({
    ...{ body: { password: 'not the right one' }, headers: { 'x-vault-namespace': tenant } },
  }),
  'POST /v1/auth/approle/login': ({ tenant, service }) => ({
    ...{ body: { role_id: service, secret_id: 'none' }, headers: { 'x-vault-namespace': tenant } },
  }),
  'POST /v1/auth/jwt/login': ({ tenant, loginRole }) => ({
    ...{ body: { role: loginRole, jwt: 'e30.e30.c2ln' }, headers: { 'x-vault-namespace': tenant } },
  }),
  'POST /v1/auth/cert/login': ({ tenant, certificateRole }) => ({
    ...{ body: { name: certificateRole }, headers: { 'x-vault-namespace': tenant } },
  }),
  'POST /v1/auth/token/lookup-accessor': byAccessor,
  'POST /v1/auth/token/renew-accessor': byAccessor,
  'POST /v1/auth/token/revoke-accessor': byAccessor,
  'POST /v1/auth/token/create': (names) => ({ body: bound(names) }),
  'POST /v1/auth/token/create-orphan': (names) => ({ body: bound(names) }),
  'POST /v1/auth/token/roles/{role}': () => ({ body: { allowed_policies: ['reader'] } }),
  'POST /v1/sys/capabilities': ({ secret }) => ({ body: { token: UNKNOWN, paths: [`secret/data/${secret}`] } }),
  'POST /v1/sys/capabilities-self': ({ secret }) => ({ body: { paths: [`secret/data/${secret}`] } }),
  'POST /v1/sys/capabilities-accessor': ({ accessor, secret }) => ({
    body: { accessor, paths: [`secret/data/${secret}`] },
  }),
  'POST /v1/sys/leases/lookup': leased,
  'POST /v1/sys/leases/renew': leased,
  'POST /v1/sys/leases/revoke': leased,
  'POST /v1/sys/renew': leased,
  'POST /v1/sys/revoke': leased,
  ...Object.fromEntries(
    ['leases/renew', 'renew', 'leases/revoke', 'revoke'].map((path) => [`POST /v1/sys/${path}/{path}`, leasedAt]),
  ),
  'LIST /v1/sys/leases/lookup/{path}': leasedBy,
  'POST /v1/sys/leases/revoke-prefix/{path}': leasedBy,
  'POST /v1/sys/revoke-prefix/{path}': leasedBy,
  'POST /v1/sys/leases/revoke-force/{path}': leasedBy,
  'POST /v1/sys/revoke-force/{path}': leasedBy,
  'POST /v1/sys/mounts/{path}': () => ({ body: { type: 'kv' } }),
  'POST /v1/sys/policies/acl/{name}': () => ({ body: { policy: 'path "secret/data/a" { capabilities = ["read"] }' } }),
  'POST /v1/sys/policy/{name}': () => ({ body: { policy: 'path "secret/data/a" { capabilities = ["read"] }' } }),
  'POST /v1/auth/approle/role/{role}/secret-id-accessor/lookup': bySecretId,
  'POST /v1/auth/approle/role/{role}/secret-id-accessor/destroy': bySecretId,
  'DELETE /v1/auth/approle/role/{role}/secret-id-accessor/destroy': ({ clientSecretId }) => ({
    query: { secret_id_accessor: clientSecretId },
  }),
  ...Object.fromEntries(
    Object.entries(PARTS).map(([part, body]) => [`POST /v1/auth/approle/role/{role}/${part}`, () => ({ body })]),
  ),
  'POST /v1/auth/approle/role/{role}/secret-id/lookup': () => ({ body: { secret_id: 'none' } }),
  'POST /v1/auth/approle/role/{role}/secret-id/destroy': () => ({ body: { secret_id: 'none' } }),
  'DELETE /v1/auth/approle/role/{role}/secret-id/destroy': () => ({ query: { secret_id: 'none' } }),
  'POST /v1/auth/token/lookup': () => ({ body: { token: UNKNOWN } }),
  'POST /v1/auth/token/renew': () => ({ body: { token: UNKNOWN } }),
  'POST /v1/auth/token/revoke': () => ({ body: { token: UNKNOWN } }),
  'POST /v1/auth/token/revoke-orphan': () => ({ body: { token: UNKNOWN } }),
  'POST /v1/sys/wrapping/rewrap': () => ({ body: { token: UNKNOWN } }),
  'POST /v1/sys/wrapping/wrap': () => ({ body: { a: 1 }, headers: { 'x-vault-wrap-ttl': '60' } }),
  'POST /v1/auth/userpass/users/{username}/password': () => ({ body: { password: 'a long one that is new here' } }),
  'POST /v1/auth/userpass/users/{username}/policies': (names) => ({ body: bound(names) }),
  'POST /v1/auth/jwt/role/{role}': (names) => ({
    body: { role_type: 'jwt', bound_audiences: ['x'], bound_claims: { sub: 'x' }, user_claim: 'sub', ...bound(names) },
  }),
  'POST /v1/auth/cert/certs/{name}': (names, { certificates }) => ({
    body: { certificate: certificates, allowed_dns_sans: ['a.example'], ...bound(names) },
  }),
  'POST /v1/secret/data/{path}': () => ({ body: { data: { a: 1 } } }),
  'PATCH /v1/secret/data/{path}': () => ({ body: { data: { a: 2 } }, headers: patch }),
  'POST /v1/secret/metadata/{path}': () => ({ body: { max_versions: 5 } }),
  'PATCH /v1/secret/metadata/{path}': () => ({ body: { max_versions: 6 }, headers: patch }),
  'POST /v1/secret/delete/{path}': versions,
  'POST /v1/secret/undelete/{path}': versions,
  'POST /v1/secret/destroy/{path}': versions,
  'POST /v1/{mount}/{path}': () => ({ body: { a: 1 } }),
  'POST /v1/cubbyhole/{path}': () => ({ body: { a: 1 } }),
  'POST /v1/transit/keys/{name}/config': () => ({ body: { min_decryption_version: 1 } }),
  'POST /v1/transit/keys/{name}/trim': () => ({ body: { min_available_version: 1 } }),
  'POST /v1/transit/encrypt/{name}': () => ({ body: { plaintext: text } }),
  ...Object.fromEntries(
    ['sign', 'verify', 'hmac'].flatMap((verb) =>
      ['', '/{algorithm}'].map((rest) => [
        `POST /v1/transit/${verb}/{name}${rest}`,
        () => ({ body: { input: text, ...(verb === 'verify' ? { signature: `vault:v1:${text}` } : {}) } }),
      ]),
    ),
  ),
  'POST /v1/transit/decrypt/{name}': () => ({ body: { ciphertext: CIPHERTEXT } }),
  'POST /v1/transit/rewrap/{name}': () => ({ body: { ciphertext: CIPHERTEXT } }),
};

/** What to send that an administrator could mean, about things of these names. */
export function wishOf(operation: Operation, names: Names, material: Material): Wish & { at: Record<string, string> } {
  const at = Object.entries(operation.at).map(([name, example]) => {
    const kind = isWord(operation, name) ? undefined : kindOf(operation, name);
    return [name, kind === undefined ? example : names[kind]];
  });
  const { at: wished, ...wish } = WISHES[operation.name]?.(names, material) ?? {};
  return { at: { ...Object.fromEntries(at), ...wished }, ...wish };
}

/** Operations that the table speaks of and nobody serves: the table is old. */
export const unknownWishes = (all: readonly Operation[]) =>
  Object.keys(WISHES).filter((name) => !all.some((operation) => operation.name === name));
