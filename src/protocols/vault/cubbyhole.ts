/** cubbyhole/: what a token keeps for itself. */
import { listCubbyhole, readCubbyhole, removeCubbyhole, writeCubbyhole } from '../../auth/cubbyhole.ts';
import { parsePath } from '../../secret/path.ts';
import { type Answer, asJson, data, EMPTY, keys } from './answer.ts';
import { badRequest, notFound } from './error.ts';
import type { Route, VaultRequest } from './route.ts';

const MOUNT_TYPE = 'cubbyhole';

const read = async ({ vault, call, at }: VaultRequest): Promise<Answer> =>
  data(asJson(await readCubbyhole(vault, call, parsePath(at.path!))), { mountType: MOUNT_TYPE });

async function write({ vault, call, at, fields }: VaultRequest): Promise<Answer> {
  if (fields.names().length === 0) throw badRequest('missing data fields');
  await writeCubbyhole(vault, call, parsePath(at.path!), fields.text);
  return EMPTY;
}

async function remove({ vault, call, at }: VaultRequest): Promise<Answer> {
  await removeCubbyhole(vault, call, parsePath(at.path!));
  return EMPTY;
}

async function list({ vault, call, at }: VaultRequest): Promise<Answer> {
  const under = at.path === undefined ? '' : `${at.path}/`;
  const paths = await listCubbyhole(vault, call);
  const names = paths
    .filter((path) => path.startsWith(under))
    .map((path) => path.slice(under.length))
    .map((path) => (path.includes('/') ? path.slice(0, path.indexOf('/') + 1) : path));
  if (names.length === 0) throw notFound();
  return keys([...new Set(names)].sort(), MOUNT_TYPE);
}

export const CUBBYHOLE_ROUTES: readonly Route[] = [
  { pattern: '', verbs: { LIST: list } },
  { pattern: '{path}', verbs: { GET: read, POST: write, DELETE: remove, LIST: list } },
];
