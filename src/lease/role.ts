/** Roles: what a backend issues under a name, and for how long. Owns the table roles. A lease's path is `backend/role`. */
import { randomId } from '../crypto/token.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { permit, preview } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { type AllowedRoles, requireAllowed } from './allowed-role.ts';
import { backendNamed, checkedBy, checkTimes } from './configuration.ts';
import type { Times } from './lifetime.ts';
import { memberOf } from './pool.ts';

export type RoleInfo = Times & {
  readonly name: string;
  readonly backend: string;
  /** What leases of it are taken by: `backend/role`. */
  readonly path: string;
  readonly settings: Readonly<Record<string, unknown>>;
  /** What it was written as in the language of another interface; null: it was not. */
  readonly text: string | null;
  /** How many leases of it may be alive at once; null: as configured. */
  readonly leasesMax: number | null;
  readonly closing: boolean;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

type Settings = Readonly<Record<string, unknown>>;

export type NewRole = {
  readonly backend: string;
  /** As they are, or as they are for the kind of the backend. */
  readonly settings: Settings | ((kind: string) => Settings);
  readonly defaultTtlSeconds?: number | undefined;
  readonly maxTtlSeconds?: number | undefined;
  readonly leasesMax?: number | undefined;
  readonly text?: string | undefined;
};

type Row = Omit<RoleInfo, 'settings' | 'path'> & { readonly settings: string };

const COLUMNS = `r.name, b.name AS backend, r.settings, r.text, r.leases_max AS "leasesMax", r.closing,
  r.default_ttl_seconds AS "defaultTtlSeconds", r.max_ttl_seconds AS "maxTtlSeconds", r.created_at AS "createdAt",
  r.updated_at AS "updatedAt"`;

const infoOf = ({ settings, ...row }: Row): RoleInfo => ({
  ...row,
  path: `${row.backend}/${row.name}`,
  settings: JSON.parse(settings) as Record<string, unknown>,
});

export const roleAsk = (action: Action, name: string) =>
  ({ action, resource: `role:${parseName(name, 'role')}` }) as const;

export async function listRoles(vault: Vault, call: Call, page: PageAsk): Promise<Page<RoleInfo>> {
  const wanted = { action: 'role.read', resource: 'role:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => {
    const { items, nextCursor } = await visiblePage(
      page,
      (after, rows) => tx<Row[]>`
        SELECT ${tx.unsafe(COLUMNS)} FROM roles r JOIN backends b USING (tenant_id, backend_id)
        WHERE r.tenant_id = ${tenant} AND r.name > ${after} ORDER BY r.name LIMIT ${rows}`,
      (row) => row.name,
      (row) => allows(roleAsk('role.read', row.name)),
    );
    return { value: { items: items.map(infoOf), nextCursor } };
  });
}

export async function readRole(vault: Vault, call: Call, name: string): Promise<RoleInfo> {
  return permit(vault, call, roleAsk('role.read', name), async (tx, { tenant }) => ({
    value: await roleNamed(tx, tenant, name),
  }));
}

/** What leases of a role are taken by, for whoever has its name: taking one is asked for and recorded next. */
export function leasePathOf(vault: Vault, call: Call, name: string): Promise<string | undefined> {
  return preview(vault, call, async (tx, { tenant }) => {
    const [row] = await tx<{ path: string }[]>`
      SELECT b.name || '/' || r.name AS path FROM roles r JOIN backends b USING (tenant_id, backend_id)
      WHERE r.tenant_id = ${tenant} AND r.name = ${name}`;
    return row?.path;
  });
}

/**
 * Makes or changes a role. It never moves to another backend. What changes applies to leases that are taken from then
 * on, and to how those that exist are renewed and revoked. Throws `invalid_request` for settings that the backend's kind
 * does not take.
 */
export async function putRole(
  vault: Vault,
  call: Call,
  name: string,
  wanted: NewRole,
): Promise<RoleInfo & { readonly created: boolean }> {
  parseName(wanted.backend, 'backend');
  checkTimes(wanted);
  if (wanted.leasesMax !== undefined && !(Number.isSafeInteger(wanted.leasesMax) && wanted.leasesMax >= 1)) {
    throw new VaultError('invalid_request', 'leases_max: expected a whole number from 1 up.');
  }
  return permit(vault, call, roleAsk('role.write', name), async (tx, { tenant }) => {
    const backend = await backendNamed(tx, tenant, wanted.backend);
    const given = typeof wanted.settings === 'function' ? wanted.settings(backend.kind) : wanted.settings;
    const settings = JSON.stringify(checkedBy(memberOf(backend.kind).role, given, 'settings'));
    const { defaultTtlSeconds = null, maxTtlSeconds = null, leasesMax = null, text = null } = wanted;
    const id = randomId();
    const [row] = await tx<{ created: boolean }[]>`
      INSERT INTO roles AS r (tenant_id, role_id, backend_id, name, settings, text, default_ttl_seconds,
                              max_ttl_seconds, leases_max, created_at, updated_at)
      VALUES (${tenant}, ${id}, ${backend.id}, ${name}, ${settings}, ${text}, ${defaultTtlSeconds},
              ${maxTtlSeconds}, ${leasesMax}, bulla.now(), bulla.now())
      ON CONFLICT (tenant_id, name) DO UPDATE
        SET settings = excluded.settings, text = excluded.text, default_ttl_seconds = excluded.default_ttl_seconds,
            max_ttl_seconds = excluded.max_ttl_seconds, leases_max = excluded.leases_max, updated_at = excluded.updated_at
        WHERE r.backend_id = excluded.backend_id
      RETURNING role_id = ${id} AS created`;
    if (!row) throw new VaultError('conflict', `The role ${name} is another backend's: choose another name.`);
    const value = { ...(await roleNamed(tx, tenant, name)), created: row.created };
    return { value, notes: [{ details: { backend: wanted.backend, created: row.created } }] };
  });
}

/** Throws `not_found`. */
async function roleNamed(tx: Tx, tenant: TenantId, name: string): Promise<RoleInfo> {
  const [row] = await tx<Row[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM roles r JOIN backends b USING (tenant_id, backend_id)
    WHERE r.tenant_id = ${tenant} AND r.name = ${name}`;
  if (!row) throw new VaultError('not_found', `There is no role ${name}.`);
  return infoOf(row);
}

/** What a lease is taken by: the role with its backend, kept from being changed or deleted until the commit. */
export type LockedRole = Times & {
  readonly id: string;
  readonly backendId: string;
  readonly settings: unknown;
  readonly leasesMax: number | null;
  readonly backend: Times;
};

/**
 * Throws `not_found`, and `conflict` for what is being deleted or not on the backend's list. One at a time for each
 * role, so that its limit is exact.
 */
export async function lockRole(
  tx: Tx,
  tenant: TenantId,
  { backend, role }: { backend: string; role: string },
): Promise<LockedRole> {
  const [row] = await tx<
    (Times & {
      id: string;
      backendId: string;
      settings: string;
      leasesMax: number | null;
      closing: boolean;
      allowedRoles: AllowedRoles;
      backendDefault: number | null;
      backendMax: number | null;
    })[]
  >`
    SELECT r.role_id AS id, r.backend_id AS "backendId", r.settings, r.text, r.leases_max AS "leasesMax",
           r.closing OR b.closing AS closing, r.default_ttl_seconds AS "defaultTtlSeconds",
           r.max_ttl_seconds AS "maxTtlSeconds", b.allowed_roles AS "allowedRoles",
           b.default_ttl_seconds AS "backendDefault", b.max_ttl_seconds AS "backendMax"
    FROM roles r JOIN backends b USING (tenant_id, backend_id)
    WHERE r.tenant_id = ${tenant} AND r.name = ${role} AND b.name = ${backend} FOR NO KEY UPDATE OF r FOR SHARE OF b`;
  if (!row) throw new VaultError('not_found', `There is no role ${backend}/${role}.`);
  if (row.closing) throw new VaultError('conflict', `The role ${backend}/${role} is being deleted.`);
  requireAllowed(row.allowedRoles, backend, role);
  const { settings, allowedRoles: _, backendDefault, backendMax, ...rest } = row;
  return {
    ...rest,
    settings: JSON.parse(settings),
    backend: { defaultTtlSeconds: backendDefault, maxTtlSeconds: backendMax },
  };
}
