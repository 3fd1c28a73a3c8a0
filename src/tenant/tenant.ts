/**
 * Tenants: the directory, and their states. Owns the table tenants.
 *
 *     active ⇄ suspended ─▶ deleting ─▶ deleted (a row without a name; the id is never used again)
 *
 * Making and deleting a tenant touches what other folders own; that order is job/tenant.ts's.
 */
import { LIMITS } from '../config.ts';
import { SYSTEM, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { type Name, parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';

export type TenantState = 'active' | 'suspended' | 'deleting' | 'deleted';
export type TenantInfo = {
  readonly id: TenantId;
  readonly name: string;
  readonly state: TenantState;
  /** Every person in it must have a second factor. */
  readonly mfaRequired: boolean;
  readonly createdAt: Timestamp;
  readonly quotas: Quotas;
  /** How many there are. */
  readonly usage: { readonly secrets: number; readonly users: number };
};

/** Null: any number of requests. */
export type Quotas = {
  readonly secrets: number;
  readonly users: number;
  readonly requestsPerSecond: number | null;
  readonly accountRequestsPerSecond: number | null;
};

const TENANT_COLUMNS = `tenant_id AS id, name, state, mfa_required AS "mfaRequired", created_at AS "createdAt",
  json_build_object('secrets', quota_secrets, 'users', quota_users, 'requestsPerSecond', requests_per_second,
                    'accountRequestsPerSecond', account_requests_per_second) AS quotas,
  json_build_object(
    'secrets', coalesce((SELECT used FROM tenant_usage g WHERE g.tenant_id = tenants.tenant_id AND g.kind = 'secrets'), 0),
    'users', coalesce((SELECT used FROM tenant_usage g WHERE g.tenant_id = tenants.tenant_id AND g.kind = 'users'), 0)) AS usage`;

const resourceOf = (name: string) => `tenant:${name}`;

export async function listTenants(vault: Vault, call: Call, ask: PageAsk): Promise<Page<TenantInfo>> {
  const wanted = { action: 'tenant.list', resource: 'tenant:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { allows }) => ({
    value: await visiblePage(
      ask,
      (after, rows) => tx<TenantInfo[]>`
        SELECT ${tx.unsafe(TENANT_COLUMNS)} FROM tenants
        WHERE name > ${after} AND state <> 'deleted' ORDER BY name LIMIT ${rows}`,
      (tenant) => tenant.name,
      (tenant) => allows({ action: 'tenant.list', resource: `tenant:${tenant.name}` }),
    ),
  }));
}

export async function readTenant(vault: Vault, call: Call, name: string): Promise<TenantInfo> {
  return permit(vault, call, { action: 'tenant.read', resource: resourceOf(parseName(name, 'name')) }, async (tx) => {
    return { value: await tenantNamed(tx, name) };
  });
}

export type TenantChange = {
  readonly state?: 'active' | 'suspended' | undefined;
  readonly mfaRequired?: boolean | undefined;
  /** What is undefined stays. */
  readonly quotas?: { readonly [name in keyof Quotas]?: Quotas[name] | undefined } | undefined;
};

const kept = <T>(tx: Tx, value: number | null | undefined, column: T) =>
  value === undefined ? column : tx`${value}::integer`;

function quotaDetails(quotas: NonNullable<TenantChange['quotas']>) {
  const named = {
    quota_secrets: quotas.secrets,
    quota_users: quotas.users,
    requests_per_second: quotas.requestsPerSecond,
    account_requests_per_second: quotas.accountRequestsPerSecond,
  };
  return Object.fromEntries(
    Object.entries(named).flatMap(([key, value]) => (value === undefined ? [] : [[key, value ?? 'any']])),
  );
}

/** Whatever is counted of a tenant that is being deleted. */
export async function removeUsage(tx: Tx, id: TenantId): Promise<void> {
  await tx`DELETE FROM tenant_usage WHERE tenant_id = ${id}`;
}

/**
 * Suspends or resumes a tenant, says whether its people must have second factors, and how much it may have. Both logs
 * say so, and no grant of the tenant decided before is used after.
 */
export async function updateTenant(vault: Vault, call: Call, name: string, change: TenantChange): Promise<TenantInfo> {
  const ask = { action: 'tenant.update', resource: resourceOf(parseName(name, 'name')) } as const;
  const id = await findTenant(vault, name);
  return permit(
    vault,
    call,
    ask,
    async (tx) => {
      const tenant = await tenantNamed(tx, name);
      if (tenant.id === SYSTEM && change.state !== undefined) {
        throw new VaultError('conflict', 'The system tenant cannot be suspended.');
      }
      const { state = null, mfaRequired = null, quotas = {} } = change;
      // In the statement, because a deletion may commit in between; and a name that went to another tenant meanwhile is
      // not the one whose log is open here.
      const [updated] = await tx<TenantInfo[]>`
        UPDATE tenants SET state = coalesce(${state}, state), mfa_required = coalesce(${mfaRequired}, mfa_required),
               quota_secrets = coalesce(${quotas.secrets ?? null}, quota_secrets),
               quota_users = coalesce(${quotas.users ?? null}, quota_users),
               requests_per_second = ${kept(tx, quotas.requestsPerSecond, tx`requests_per_second`)},
               account_requests_per_second = ${kept(tx, quotas.accountRequestsPerSecond, tx`account_requests_per_second`)}
        WHERE tenant_id = ${tenant.id} AND state IN ('active', 'suspended')
        RETURNING ${tx.unsafe(TENANT_COLUMNS)}`;
      if (!updated || tenant.id !== id) throw new VaultError('conflict', 'The tenant is being deleted.');
      const details = {
        ...(state === null ? {} : { state }),
        ...(mfaRequired === null ? {} : { mfa_required: mfaRequired }),
        ...quotaDetails(quotas),
      };
      const revokes = state === 'suspended' || mfaRequired === true;
      const own = tenant.id === SYSTEM;
      return {
        value: updated,
        notes: [{ details }],
        revokes: own && revokes,
        ...(own ? {} : { elsewhere: [{ tenant: tenant.id, note: { details }, revokes }] }),
      };
    },
    { tenants: id ? [id] : [] },
  );
}

/** The tenant of a name in the directory, for a transaction of the system tenant. Throws `not_found`. */
export async function tenantNamed(tx: Tx, name: string): Promise<TenantInfo> {
  const [row] = await tx<TenantInfo[]>`
    SELECT ${tx.unsafe(TENANT_COLUMNS)} FROM tenants WHERE name = ${name}`;
  if (!row) throw new VaultError('not_found', `There is no tenant ${name}.`);
  return row;
}

/** The id of a name, to open a transaction for. Tells nothing to anyone: the verbs decide first. */
export async function findTenant(vault: Vault, name: string): Promise<TenantId | undefined> {
  const [row] = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<{ id: TenantId }[]>`SELECT tenant_id AS id FROM tenants WHERE name = ${name}`,
  );
  return row?.id;
}

/** Whether a name is that of the tenant whose token is shown; nothing is told of any other. */
export async function isOwnTenant(vault: Vault, tenantId: string, name: string): Promise<boolean> {
  return (await findTenant(vault, name)) === tenantId;
}

/** Every tenant that has keys: what a root rotation must see. The log of a deleted one stays. */
export async function allTenants(vault: Vault, deleted?: 'deleted too'): Promise<TenantId[]> {
  const rows = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<{ id: TenantId }[]>`
      SELECT tenant_id AS id FROM tenants ${deleted ? tx`` : tx`WHERE state <> 'deleted'`} ORDER BY tenant_id`,
  );
  return rows.map((row) => row.id);
}

/** Throws `conflict` when the name is taken. */
export async function insertTenant(tx: Tx, id: TenantId, name: Name): Promise<TenantInfo> {
  try {
    const [row] = await tx<TenantInfo[]>`
      INSERT INTO tenants (tenant_id, name, state, created_at, quota_secrets, quota_users)
      VALUES (${id}, ${name}, 'active', bulla.now(), ${LIMITS.quotaSecretsDefault}, ${LIMITS.quotaUsersDefault})
      RETURNING ${tx.unsafe(TENANT_COLUMNS)}`;
    return row!;
  } catch (error) {
    if (isUniqueViolation(error)) throw new VaultError('conflict', `The name ${name} is taken: choose another.`);
    throw error;
  }
}

export async function markDeleting(tx: Tx, id: TenantId): Promise<void> {
  await tx`UPDATE tenants SET state = 'deleting' WHERE tenant_id = ${id}`;
}

export async function markDeleted(tx: Tx, id: TenantId): Promise<void> {
  await tx`UPDATE tenants SET state = 'deleted', name = NULL, deleted_at = bulla.now() WHERE tenant_id = ${id}`;
}
