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
import { policiesIn, refuseNotKept, shapeTokenFields, tokenFieldsIn } from './token-field.ts';

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

async function write(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields } = request;
  refuseNotKept(fields, ['password_hash']);
  const username = nameOf(request);
  const password = fields.string('password');
  const { policies, ...wish } = tokenFieldsIn(fields);
  const tokens = Object.values(wish).some((value) => value !== undefined) ? wish : undefined;
  try {
    await updateUser(vault, call, username, { password, policies, tokens });
  } catch (error) {
    if (!(error instanceof VaultError) || error.code !== 'not_found') throw error;
    if (password === undefined || password === '') throw badRequest('missing password');
    await createUser(vault, call, { username, password, policies, tokens });
  }
  return EMPTY;
}

async function read(request: VaultRequest): Promise<Answer> {
  const user = await readUser(request.vault, request.call, nameOf(request));
  return data(json(shapeTokenFields(user, user.policies)), { mountType: MOUNT_TYPE });
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
