/**
 * sys/auth: the methods of logging in, each at the place where it always stands. There is none to be added or taken away:
 * a method that nobody may log in by is one without roles or users. Beside it, what only other servers have is answered as
 * empty, so that a client that looks around finds nothing and goes on.
 */
import { readSelf } from '../../auth/token.ts';
import { listMounts } from '../../secret/mount.ts';
import { listDataKeys } from '../../tenant/rotation.ts';
import { type Answer, data, EMPTY, json } from './answer.ts';
import { badRequest, notFound } from './error.ts';
import { isEmpty } from './field.ts';
import { bySlash, engineInfo, type Info, twice } from './mount-info.ts';
import type { Route, VaultRequest } from './route.ts';

const METHODS: readonly { readonly path: string; readonly type: string; readonly description: string }[] = [
  { path: 'approle', type: 'approle', description: 'machines with a secret id' },
  { path: 'cert', type: 'cert', description: 'machines with a client certificate' },
  { path: 'jwt', type: 'jwt', description: 'workloads with a token that somebody else has signed' },
  { path: 'token', type: 'token', description: 'token based credentials' },
  { path: 'userpass', type: 'userpass', description: 'users with a password' },
];

function methodInfo(method: (typeof METHODS)[number]): Info {
  const info = engineInfo(method);
  return { ...info, accessor: `auth_${info.accessor}` };
}

export const authMounts = () => bySlash(METHODS.map((method) => [method.path, methodInfo(method)] as const));

/** Which methods there are is the same everywhere; who asks is decided as for the mounts. */
async function list({ vault, call }: VaultRequest): Promise<Answer> {
  await listMounts(vault, call);
  return twice(authMounts());
}

const noneAt = (path: string | undefined) => badRequest(`No auth engine at ${path}/`);

async function infoAt({ vault, call, at }: VaultRequest) {
  const method = METHODS.find(({ path }) => path === at.path);
  await listMounts(vault, call, method ? undefined : noneAt(at.path));
  return methodInfo(method!);
}

const read = async (request: VaultRequest): Promise<Answer> => twice(await infoAt(request));

async function readTuning(request: VaultRequest): Promise<Answer> {
  const { config, description } = await infoAt(request);
  return twice({ ...(config as object), description, token_type: 'default-service' });
}

async function enable({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  await listMounts(vault, call, badRequest(whyNot(at.path!, fields.string('type') ?? '')));
  return EMPTY;
}

function whyNot(path: string, type: string): string {
  if (type === '') return 'backend type must be specified as a string';
  if (METHODS.some((one) => one.path === path)) return `path is already in use at ${path}/`;
  const known = METHODS.find((method) => method.type === type);
  if (known) return `the method ${known.type} stands at auth/${known.path} and nowhere else`;
  return `plugin not found in the catalog: expected one of ${METHODS.map((one) => one.type).join(', ')}`;
}

async function tune({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  const set = fields.names().some((name) => name !== 'path' && !isEmpty(fields.value(name)));
  const refused = !METHODS.some(({ path }) => path === at.path)
    ? noneAt(at.path)
    : set
      ? badRequest('a method has no settings of its own: there is nothing to tune')
      : undefined;
  await listMounts(vault, call, refused);
  return EMPTY;
}

/** One that is not there is disabled already. */
async function disable({ vault, call, at }: VaultRequest): Promise<Answer> {
  const { path } = at;
  const stands = METHODS.some((one) => one.path === path);
  const refused = badRequest(
    `the method ${path} cannot be disabled: delete its roles or users, and nobody logs in by it`,
  );
  await listMounts(vault, call, stands ? refused : undefined);
  return EMPTY;
}

// ---- what only other servers have ---------------------------------------------------------------------------------

const nothing = async ({ vault, call }: VaultRequest): Promise<Answer> => {
  await readSelf(vault, call);
  return twice({});
};

const noKeys = async ({ vault, call }: VaultRequest): Promise<Answer> => {
  await readSelf(vault, call);
  throw notFound();
};

const answered =
  (members: Record<string, unknown>) =>
  async ({ vault, call }: VaultRequest): Promise<Answer> => {
    await readSelf(vault, call);
    return data(json(members), { mountType: 'system' });
  };

const noCors = async ({ vault, call }: VaultRequest): Promise<Answer> => {
  await readSelf(vault, call);
  return twice({ enabled: false });
};

const PLUGINS = { auth: [], database: [], detailed: [], secret: [] };
const REPLICATION = { dr: { mode: 'disabled' }, performance: { mode: 'disabled' } };

/** The tenant's data key, which is what a barrier's key is there. */
async function keyStatus({ vault, call }: VaultRequest): Promise<Answer> {
  const { items } = await listDataKeys(vault, call, { limit: 1 }, []);
  const { version, createdAt } = items[0]!;
  return twice({ term: version, install_time: createdAt });
}

export const AUTH_MOUNT_ROUTES: readonly Route[] = [
  { pattern: 'auth', verbs: { GET: list } },
  { pattern: 'auth/{path}/tune', verbs: { GET: readTuning, POST: tune } },
  { pattern: 'auth/{path}', verbs: { GET: read, POST: enable, DELETE: disable } },
  { pattern: 'audit', verbs: { GET: nothing } },
  { pattern: 'namespaces', verbs: { LIST: noKeys } },
  { pattern: 'key-status', verbs: { GET: keyStatus } },
  { pattern: 'plugins/catalog', verbs: { GET: answered(PLUGINS) } },
  { pattern: 'plugins/catalog/{type}', verbs: { LIST: noKeys } },
  { pattern: 'quotas/{kind}', verbs: { LIST: noKeys } },
  { pattern: 'replication/status', verbs: { GET: answered(REPLICATION) } },
  { pattern: 'config/cors', verbs: { GET: noCors } },
];
