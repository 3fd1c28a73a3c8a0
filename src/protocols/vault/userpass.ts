/** auth/userpass: people who log in with a password. The tenant is the one that X-Vault-Namespace names, else `default`. */
import { login } from '../../auth/login.ts';
import { createUser, deleteUser, listUsers, readUser, updateUser } from '../../auth/user.ts';
import { VaultError } from '../../errors.ts';
import { ignoreAbsent } from './absent.ts';
import { type Answer, data, EMPTY, json } from './answer.ts';
import { badRequest, saying } from './error.ts';
import { listing } from './paging.ts';
import type { Route, VaultRequest } from './route.ts';
import { loginAuth } from './token.ts';
import { policiesIn, refuseNotKept, shapeTokenFields } from './token-field.ts';

export const TENANT_DEFAULT = 'default';
const MOUNT_TYPE = 'userpass';

const nameOf = ({ at }: VaultRequest) => at.username!.toLowerCase();

async function logIn(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields, namespace = TENANT_DEFAULT } = request;
  const username = nameOf(request);
  const password = fields.string('password') ?? '';
  if (password === '') throw badRequest('missing password');
  // An older token that is sent along counts for nothing here.
  const attempt = login(vault, { ...call, token: undefined }, { tenant: namespace, username, password });
  const made = await saying(attempt, { login_failed: 'invalid username or password' });
  return loginAuth(made, { username });
}

/** Settings of a login that other servers keep beside the user: what is not enforced is not taken. */
const NOT_KEPT = [
  ...['token_ttl', 'token_max_ttl', 'token_bound_cidrs', 'token_explicit_max_ttl', 'token_no_default_policy'],
  ...['token_num_uses', 'token_period', 'token_strictly_bind_ip', 'ttl', 'max_ttl', 'bound_cidrs', 'password_hash'],
];

async function write(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  refuseNotKept(fields, NOT_KEPT);
  const username = nameOf(request);
  const [password, policies] = [fields.string('password'), policiesIn(fields)];
  try {
    await updateUser(vault, call, username, { password, policies });
  } catch (error) {
    if (!(error instanceof VaultError) || error.code !== 'not_found') throw error;
    if (password === undefined || password === '') throw badRequest('missing password');
    await createUser(vault, call, { username, password, policies });
  }
  return EMPTY;
}

async function read(request: VaultRequest): Promise<Answer> {
  const user = await readUser(request.vault, request.call, nameOf(request));
  const settings = shapeTokenFields({ policies: user.policies });
  return data(json(settings), { mountType: MOUNT_TYPE });
}

const list = listing(
  ({ vault, call }, ask) => listUsers(vault, call, ask),
  ({ username }) => username,
  MOUNT_TYPE,
);

async function remove(request: VaultRequest): Promise<Answer> {
  return ignoreAbsent(deleteUser(request.vault, request.call, nameOf(request)));
}

async function setPassword(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const password = fields.string('password') ?? '';
  if (password === '') throw badRequest('missing password');
  await saying(updateUser(vault, call, nameOf(request), { password }), { not_found: 'username does not exist' });
  return EMPTY;
}

async function setPolicies(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  const policies = policiesIn(fields) ?? [];
  await saying(updateUser(vault, call, nameOf(request), { policies }), { not_found: 'username does not exist' });
  return EMPTY;
}

export const USERPASS_ROUTES: readonly Route[] = [
  { pattern: 'login/{username}', verbs: { POST: logIn }, open: true },
  { pattern: 'users', verbs: { LIST: list } },
  { pattern: 'users/{username}', verbs: { GET: read, POST: write, DELETE: remove } },
  { pattern: 'users/{username}/password', verbs: { POST: setPassword } },
  { pattern: 'users/{username}/policies', verbs: { POST: setPolicies } },
];
