/**
 * Mounts as clients see them: which engine stands under which path, and with which options.
 *
 * Engines of kind kv are rows, views of the tree of secrets; the others stand where they always do. The question that
 * every command line asks before it reads a secret, sys/internal/ui/mounts/<path>, is answered here: 403 for what is not
 * there as for what may not be seen.
 */
import { VaultError } from '../../errors.ts';
import {
  askForMount,
  changeMount,
  createMount,
  listMounts,
  type Mount,
  readMount,
  removeMount,
  WHOLE_TREE,
} from '../../secret/mount.ts';
import { parsePath } from '../../secret/path.ts';
import { ignoreAbsent } from './absent.ts';
import { type Answer, data, EMPTY, json } from './answer.ts';
import { authMounts } from './auth-mount.ts';
import { badRequest, said, saying } from './error.ts';
import { isEmpty } from './field.ts';
import { bySlash, engineInfo, type Info, infoOf, twice } from './mount-info.ts';
import type { Route, VaultRequest } from './route.ts';
import { ownText } from './token.ts';

/** What stands at a fixed place beside sys/, in every tenant. */
const ENGINES: readonly { readonly path: string; readonly type: string; readonly description: string }[] = [
  { path: 'cubbyhole', type: 'cubbyhole', description: 'per-token private secret storage' },
  { path: 'database', type: 'database', description: 'credentials that the vault makes and ends' },
  { path: 'identity', type: 'identity', description: 'identity store' },
  { path: 'sys', type: 'system', description: 'system endpoints used for control, policy and debugging' },
  { path: 'transit', type: 'transit', description: 'keys that never leave' },
];

const TAKEN = new Set([...ENGINES.map(({ path }) => path), 'auth']);

const kvInfo = ({ id, description, version }: Mount) => infoOf('kv', id, description, { version: String(version) });

async function allMounts(request: VaultRequest): Promise<Record<string, Info>> {
  const mounts = await listMounts(request.vault, request.call);
  const rows = mounts.map((mount) => [mount.path, kvInfo(mount)] as const);
  return bySlash([...rows, ...ENGINES.map((engine) => [engine.path, engineInfo(engine)] as const)]);
}

const listAll = async (request: VaultRequest): Promise<Answer> => twice(await allMounts(request));

/** Without a token there is nothing to see; with one, what it may list; with what is none, as everywhere. */
async function visible(request: VaultRequest): Promise<Answer> {
  if (!request.call.token && ownText(request) !== '') throw said('unauthenticated', 'permission denied');
  if (!request.call.token) return data(json({ secret: {}, auth: {} }), { mountType: 'system' });
  let secret: Record<string, Info>;
  try {
    secret = await allMounts(request);
  } catch (error) {
    if (!(error instanceof VaultError) || error.code !== 'forbidden') throw error;
    secret = {};
  }
  return data(json({ secret, auth: authMounts() }), { mountType: 'system' });
}

/** The question before every command: for whoever holds a token, of whatever mount the path lies under. */
async function preflight({ vault, call, at }: VaultRequest): Promise<Answer> {
  const path = at.path!;
  const [first = ''] = path.split('/');
  const engine = ENGINES.find((one) => one.path === first);
  const absent = said(
    'forbidden',
    `preflight capability check returned 403, please ensure client's policies grant access to path "${path}/"`,
  );
  const isTree = first === WHOLE_TREE.path;
  // Asked of what stands everywhere, too: who has no token is told nothing, and the log says who asked.
  const mount = await askForMount(vault, call, path, engine || isTree ? undefined : absent);
  if (engine) return data(json({ ...engineInfo(engine), path: `${engine.path}/` }), { mountType: 'system' });
  const found = isTree ? WHOLE_TREE : mount!;
  return data(json({ ...kvInfo(found), path: `${found.path}/` }), { mountType: 'system' });
}

/** `kv`, `kv-v1`, `kv-v2`, or `generic` of old; the version is an option. */
function versionOf(request: VaultRequest): 1 | 2 {
  const { fields } = request;
  const type = fields.string('type') ?? '';
  if (type === '') throw badRequest('backend type must be specified as a string');
  if (!/^(kv|kv-v1|kv-v2|generic)$/.test(type)) {
    throw badRequest(`plugin not found in the catalog: only engines of type kv can be mounted`);
  }
  const version = fields.map('options')?.version ?? (type === 'kv-v2' ? '2' : '1');
  if (version !== '1' && version !== '2') throw badRequest('the option version of a kv engine is 1 or 2');
  return version === '2' ? 2 : 1;
}

const NOT_KEPT = ['local', 'seal_wrap', 'external_entropy_access', 'plugin_version'];

async function mountEngine(request: VaultRequest): Promise<Answer> {
  const { vault, call, fields, at } = request;
  const path = parsePath(at.path!);
  const [first = ''] = path.split('/');
  if (TAKEN.has(first)) throw badRequest(`path is already in use at ${first}/`);
  const version = versionOf(request);
  const prefix = fields.map('options')?.prefix;
  const description = fields.string('description');
  for (const name of NOT_KEPT) if (!isEmpty(fields.value(name))) throw badRequest(`${name} is not supported`);
  const config = fields.value('config') ?? {};
  const set = Object.entries(config).filter(([, value]) => !isEmpty(value));
  const asked = { path, version, description, ...(prefix === undefined ? {} : { prefix: parsePath(prefix) }) };
  await createMount(vault, call, asked);
  if (set.length === 0) return EMPTY;
  const warnings = [`a mount here has no settings of its own: ignored ${set.map(([name]) => name).join(' ')}`];
  return { kind: 'envelope', warnings, mountType: 'system' };
}

const noMount = (path: string) => () => badRequest(`No secret engine mount at ${path}/`);

/** An engine of a fixed place, or a mount that the caller may read. */
async function infoAt({ vault, call, at }: VaultRequest): Promise<Info> {
  const path = at.path!;
  const engine = ENGINES.find((one) => one.path === path);
  if (engine) return engineInfo(engine);
  return kvInfo(await saying(readMount(vault, call, parsePath(path)), { not_found: noMount(path) }));
}

async function readOne(request: VaultRequest): Promise<Answer> {
  return twice(await infoAt(request));
}

/** Every client that fetches keys from a mount asks this first: which version is it? */
async function readTuning(request: VaultRequest): Promise<Answer> {
  const { description, options, config } = (await infoAt(request)) as {
    description: string;
    options: Info;
    config: Info;
  };
  return twice({ ...config, description, options });
}

const TUNABLE = new Set(['description', 'options', 'path']);

async function tune({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  const path = at.path!;
  const other = fields.names().find((name) => !TUNABLE.has(name) && !isEmpty(fields.value(name)));
  if (other !== undefined) throw badRequest('only the description of a mount can be tuned');
  const version = fields.map('options')?.version;
  const found = await saying(readMount(vault, call, parsePath(path)), { not_found: noMount(path) });
  if (version !== undefined && version !== String(found.version)) {
    throw badRequest('the version of a kv engine cannot be changed: mount another one');
  }
  await changeMount(vault, call, parsePath(path), { description: fields.string('description') });
  return EMPTY;
}

async function unmount({ vault, call, at }: VaultRequest): Promise<Answer> {
  const path = at.path!;
  if (TAKEN.has(path)) throw badRequest(`cannot unmount "${path}/"`);
  return ignoreAbsent(removeMount(vault, call, parsePath(path)));
}

/** What a policy says of a mount is said of the secrets behind it, which stay where they are. */
async function remount(): Promise<Answer> {
  throw badRequest('a mount is not moved: make another one over the same secrets, with the option prefix');
}

export const MOUNT_ROUTES: readonly Route[] = [
  { pattern: 'internal/ui/mounts', verbs: { GET: visible }, open: true },
  { pattern: 'internal/ui/mounts/{path}', verbs: { GET: preflight } },
  { pattern: 'mounts', verbs: { GET: listAll } },
  { pattern: 'mounts/{path}/tune', verbs: { GET: readTuning, POST: tune } },
  { pattern: 'mounts/{path}', verbs: { GET: readOne, POST: mountEngine, DELETE: unmount } },
  { pattern: 'remount', verbs: { POST: remount } },
];
