/**
 * database/: credentials that the vault makes at a target and ends. A role here is a role of ours; where it is made, and
 * at which backend, is the native interface's to say, because the settings are not the other server's.
 */
import { listBackends } from '../../lease/configuration.ts';
import { takeLease } from '../../lease/issue.ts';
import { leasePathOf, listRoles, readRole } from '../../lease/role.ts';
import { type Answer, data, json, keys } from './answer.ts';
import { badRequest, notFound, saying } from './error.ts';
import { leaseIdOf, secondsFrom } from './lease.ts';
import type { Route, VaultRequest } from './route.ts';

const MOUNT_TYPE = 'database';

async function creds({ vault, call, at }: VaultRequest): Promise<Answer> {
  const unknown = () => badRequest(`unknown role: ${at.role}`);
  const role = await leasePathOf(vault, call, at.role!);
  if (role === undefined) throw unknown();
  const { credential, ...lease } = await saying(takeLease(vault, call, { role }), { not_found: unknown });
  return data(json(credential), {
    mountType: MOUNT_TYPE,
    leaseId: leaseIdOf(lease),
    renewable: lease.renewable,
    leaseSeconds: secondsFrom(lease.issuedAt, lease.expiresAt),
  });
}

/** Everything that a paged list has. */
async function all<T>(
  page: (cursor: string | undefined) => Promise<{ items: T[]; nextCursor: string | null }>,
): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | undefined;
  do {
    const one = await page(cursor);
    items.push(...one.items);
    cursor = one.nextCursor ?? undefined;
  } while (cursor !== undefined);
  if (items.length === 0) throw notFound();
  return items;
}

async function roles({ vault, call }: VaultRequest): Promise<Answer> {
  const found = await all((cursor) => listRoles(vault, call, { limit: 1000, cursor }));
  return keys(
    found.map(({ name }) => name),
    MOUNT_TYPE,
  );
}

async function role({ vault, call, at }: VaultRequest): Promise<Answer> {
  const found = await readRole(vault, call, at.role!);
  const shape = {
    db_name: found.backend,
    default_ttl: found.defaultTtlSeconds ?? 0,
    max_ttl: found.maxTtlSeconds ?? 0,
    credential_type: 'password',
    creation_statements: [],
    revocation_statements: [],
    rollback_statements: [],
    renew_statements: [],
  };
  return data(json(shape), { mountType: MOUNT_TYPE });
}

async function backends({ vault, call }: VaultRequest): Promise<Answer> {
  const found = await all((cursor) => listBackends(vault, call, { limit: 1000, cursor }));
  return keys(
    found.map(({ name }) => name),
    MOUNT_TYPE,
  );
}

async function elsewhere(): Promise<Answer> {
  throw badRequest('backends and roles are made by the native interface: PUT /api/v1/backends and /api/v1/roles');
}

export const DATABASE_ROUTES: readonly Route[] = [
  { pattern: 'creds/{role}', verbs: { GET: creds } },
  { pattern: 'roles', verbs: { LIST: roles } },
  { pattern: 'roles/{role}', verbs: { GET: role, POST: elsewhere } },
  { pattern: 'config', verbs: { LIST: backends } },
  { pattern: 'config/{name}', verbs: { POST: elsewhere } },
];
