/** KV version 1: a secret has one value. A write leaves nothing of the one before, and a deletion nothing at all. */
import { readSecret } from '../../policy/read.ts';
import { removeSecret } from '../../secret/metadata.ts';
import { putSecret } from '../../secret/secret.ts';
import { ignoreAbsent } from './absent.ts';
import { type Answer, data, EMPTY } from './answer.ts';
import { badRequest } from './error.ts';
import { durationSeconds } from './field.ts';
import { documentOf, listKeys, pathIn } from './kv2.ts';
import type { Route, VaultRequest } from './route.ts';

const MOUNT_TYPE = 'kv';
/** 768 h: how long the answer of a read may be kept, where the secret itself says nothing. */
export const LEASE_SECONDS_DEFAULT = 2_764_800;

async function read(request: VaultRequest): Promise<Answer> {
  const { vault, call, mount, at } = request;
  const document = documentOf(await readSecret(vault, call, pathIn(mount, at.path!), 0));
  const { ttl, lease } = JSON.parse(document) as { ttl?: unknown; lease?: unknown };
  const leaseSeconds = durationSeconds(ttl ?? lease) ?? LEASE_SECONDS_DEFAULT;
  return data(document, {
    leaseSeconds: leaseSeconds > 0 ? leaseSeconds : LEASE_SECONDS_DEFAULT,
    mountType: MOUNT_TYPE,
  });
}

async function write({ vault, call, mount, at, fields }: VaultRequest): Promise<Answer> {
  const path = pathIn(mount, at.path!);
  if (fields.names().length === 0) throw badRequest('missing data fields');
  await putSecret(vault, call, path, { kind: 'data', body: Buffer.from(fields.text), alone: true });
  return EMPTY;
}

async function remove({ vault, call, mount, at }: VaultRequest): Promise<Answer> {
  return ignoreAbsent(removeSecret(vault, call, pathIn(mount, at.path!)));
}

const list = (request: VaultRequest) => listKeys(request, MOUNT_TYPE);

export const KV1_ROUTES: readonly Route[] = [
  { pattern: '', verbs: { LIST: list } },
  { pattern: '{path}', verbs: { GET: read, POST: write, DELETE: remove, LIST: list } },
];
