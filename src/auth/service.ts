/**
 * Service accounts: machines that log in with client secrets. Owns the table services; their names, policies and state
 * are rows of users, so that one name is one account whatever its kind.
 */
import { type Details, detailsNaming } from '../audit/entry.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { checkGiven, checkTakeover } from '../policy/give.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { checkPolicies, insertUser, requirePolicies, setDisabled } from './user.ts';

export type ServiceInfo = {
  readonly id: string;
  readonly name: string;
  /** What it logs in with beside a client secret: `<tenant id>.<account id>`. */
  readonly clientId: string;
  readonly description: string;
  readonly policies: readonly string[];
  readonly disabled: boolean;
  readonly tokenTtlSeconds: number | null;
  readonly tokenPeriodSeconds: number | null;
  readonly createdAt: Timestamp;
  readonly lastLoginAt: Timestamp | null;
};

type TokenSettings = {
  /** Null: as the configuration says. */
  readonly tokenTtlSeconds?: number | null | undefined;
  /** Its tokens are periodic: renewed for this long, as long as their client secret works. */
  readonly tokenPeriodSeconds?: number | null | undefined;
};

export type NewService = TokenSettings & {
  readonly name: string;
  readonly description?: string | undefined;
  readonly policies?: readonly string[] | undefined;
};

export type ServiceChange = TokenSettings & {
  readonly description?: string | undefined;
  readonly policies?: readonly string[] | undefined;
  readonly disabled?: boolean | undefined;
};

export const askOf = (action: Action, name: string) =>
  ({ action, resource: `service:${parseName(name, 'name')}` }) as const;

const COLUMNS = `u.user_id AS id, u.name, u.tenant_id || '.' || u.user_id AS "clientId", s.description, u.policies,
  u.disabled, s.token_ttl_seconds AS "tokenTtlSeconds", s.token_period_seconds AS "tokenPeriodSeconds",
  u.created_at AS "createdAt", u.last_login_at AS "lastLoginAt"`;

export async function listServices(vault: Vault, call: Call, page: PageAsk): Promise<Page<ServiceInfo>> {
  const wanted = { action: 'service.list', resource: 'service:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      (after, rows) => tx<ServiceInfo[]>`
        SELECT ${tx.unsafe(COLUMNS)} FROM users u JOIN services s USING (tenant_id, user_id)
        WHERE u.tenant_id = ${tenant} AND u.name > ${after} ORDER BY u.name LIMIT ${rows}`,
      (service) => service.name,
      (service) => allows({ action: 'service.list', resource: `service:${service.name}` }),
    ),
  }));
}

export async function readService(vault: Vault, call: Call, name: string): Promise<ServiceInfo> {
  return permit(vault, call, askOf('service.read', name), async (tx, { tenant }) => ({
    value: await serviceNamed(tx, tenant, name),
  }));
}

/** Throws `conflict` when a user or service has the name, `invalid_request` for a policy that does not exist. */
export async function createService(vault: Vault, call: Call, service: NewService): Promise<ServiceInfo> {
  const wanted = askOf('service.write', service.name);
  const policies = checkPolicies(service.policies ?? []);
  const { tokenTtlSeconds = null, tokenPeriodSeconds = null, description = '' } = service;
  checkLifetimes(vault, tokenTtlSeconds, tokenPeriodSeconds);
  return permit(vault, call, wanted, async (tx, granted) => {
    const { tenant } = granted;
    await requirePolicies(tx, tenant, policies);
    await checkGiven(tx, granted, { before: [], after: policies });
    const { id } = await insertUser(tx, tenant, { name: parseName(service.name, 'name'), policies, kind: 'service' });
    await tx`
      INSERT INTO services (tenant_id, user_id, description, token_ttl_seconds, token_period_seconds)
      VALUES (${tenant}, ${id}, ${description}, ${tokenTtlSeconds}, ${tokenPeriodSeconds})`;
    const value = await serviceNamed(tx, tenant, service.name);
    return { value, notes: detailsNaming({}, { policies }).map((details) => ({ details })) };
  });
}

/** What is taken away is gone before the answer, on every node; disabling ends every token of the service. */
export async function updateService(
  vault: Vault,
  call: Call,
  name: string,
  change: ServiceChange,
): Promise<ServiceInfo> {
  const wanted = askOf('service.write', name);
  const policies = change.policies && checkPolicies(change.policies);
  return permit(vault, call, wanted, async (tx, granted) => {
    const { tenant } = granted;
    const before = await serviceNamed(tx, tenant, name);
    const ttl = change.tokenTtlSeconds === undefined ? before.tokenTtlSeconds : change.tokenTtlSeconds;
    const period = change.tokenPeriodSeconds === undefined ? before.tokenPeriodSeconds : change.tokenPeriodSeconds;
    checkLifetimes(vault, ttl, period);
    if (policies) {
      await requirePolicies(tx, tenant, policies);
      await checkGiven(tx, granted, { before: before.policies, after: policies });
      await tx`UPDATE users SET policies = ${[...policies]} WHERE tenant_id = ${tenant} AND user_id = ${before.id}`;
    }
    await tx`
      UPDATE services SET description = ${change.description ?? before.description}, token_ttl_seconds = ${ttl},
             token_period_seconds = ${period}
      WHERE tenant_id = ${tenant} AND user_id = ${before.id}`;
    if (before.disabled && change.disabled === false) await checkTakeover(tx, granted, before.id);
    if (change.disabled !== undefined) await setDisabled(tx, tenant, before.id, change.disabled);
    const said: Details = change.disabled === undefined ? {} : { disabled: change.disabled };
    const notes = detailsNaming(said, { policies }).map((details) => ({ details }));
    return { value: await serviceNamed(tx, tenant, name), notes, revokes: true };
  });
}

/** Its client secrets and tokens end with it. */
export async function deleteService(vault: Vault, call: Call, name: string): Promise<void> {
  await permit(vault, call, askOf('service.delete', name), async (tx, { tenant, userId }) => {
    const { id } = await serviceNamed(tx, tenant, name);
    if (id === userId) throw new VaultError('conflict', 'A service cannot delete itself.');
    await tx`DELETE FROM users WHERE tenant_id = ${tenant} AND user_id = ${id}`;
    return { value: undefined, revokes: true };
  });
}

function checkLifetimes({ config }: Vault, ttl: number | null, period: number | null): void {
  if (ttl !== null && period !== null) {
    throw new VaultError('invalid_request', 'Give either token_ttl or token_period, not both; null takes one away.');
  }
  const most = config.tokenMaxTtlSeconds;
  for (const [field, seconds] of [['token_ttl', ttl] as const, ['token_period', period] as const]) {
    if (seconds !== null && (seconds < 1 || seconds > most)) {
      throw new VaultError('invalid_request', `${field}: expected from 1 second to ${most} seconds.`);
    }
  }
}

/** Throws `not_found`, for a user of that name too. */
export async function serviceNamed(tx: Tx, tenant: TenantId, name: string): Promise<ServiceInfo> {
  const [row] = await tx<ServiceInfo[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM users u JOIN services s USING (tenant_id, user_id)
    WHERE u.tenant_id = ${tenant} AND u.name = ${name}`;
  if (!row) throw new VaultError('not_found', `There is no service ${name}.`);
  return row;
}
