/**
 * Service accounts: machines that log in with client secrets. Owns the table services; their names, policies and state
 * are rows of users, so that one name is one account whatever its kind.
 */
import { type Details, detailsNaming } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { checkGiven, checkTakeover } from '../policy/give.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { checkCidrs, checkTokenSettings, checkUses } from './token-limit.ts';
import {
  changed,
  changesOf,
  NO_TOKEN_SETTINGS,
  type TokenSettings,
  tokenSettingColumns,
  tokenSettingRow,
} from './token-setting.ts';
import { checkPolicies, insertUser, requirePolicies, setDisabled } from './user.ts';

export type ServiceInfo = {
  readonly id: string;
  readonly name: string;
  /** What it logs in with beside a client secret: `<tenant id>.<account id>`. */
  readonly clientId: string;
  readonly description: string;
  readonly policies: readonly string[];
  readonly disabled: boolean;
  readonly createdAt: Timestamp;
  readonly lastLoginAt: Timestamp | null;
} & Settings;

/** Null: as the configuration says, or not bounded. */
type Settings = TokenSettings & {
  /** What a client may name it by in place of its client id. */
  readonly roleId: string | null;
  /** Of client secrets for which nothing else is said. */
  readonly secretTtlSeconds: number | null;
  readonly secretUses: number | null;
  /** Where its client secrets work, whatever they say themselves. */
  readonly secretCidrs: readonly string[] | null;
};

const NO_SETTINGS: Settings = {
  ...NO_TOKEN_SETTINGS,
  ...{ roleId: null, secretTtlSeconds: null, secretUses: null, secretCidrs: null },
};

type SettingsWish = { readonly [K in keyof Settings]?: Settings[K] | undefined };

export type NewService = SettingsWish & {
  readonly name: string;
  readonly description?: string | undefined;
  readonly policies?: readonly string[] | undefined;
};

export type ServiceChange = SettingsWish & {
  readonly description?: string | undefined;
  readonly policies?: readonly string[] | undefined;
  readonly disabled?: boolean | undefined;
};

export const askOf = (action: Action, name: string) =>
  ({ action, resource: `service:${parseName(name, 'name')}` }) as const;

const COLUMNS = `u.user_id AS id, u.name, u.tenant_id || '.' || u.user_id AS "clientId", s.description, u.policies,
  u.disabled, s.role_id AS "roleId", ${tokenSettingColumns('s')}, s.secret_ttl_seconds AS "secretTtlSeconds",
  s.secret_uses AS "secretUses", s.secret_cidrs AS "secretCidrs", u.created_at AS "createdAt", u.last_login_at AS "lastLoginAt"`;

export async function listServices(vault: Vault, call: Call, page: PageAsk): Promise<Page<ServiceInfo>> {
  const wanted = { action: 'service.list', resource: 'service:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      (after, rows) => tx<ServiceInfo[]>`
        SELECT ${tx.unsafe(COLUMNS)} FROM users u,
        LATERAL (SELECT * FROM services WHERE tenant_id = u.tenant_id AND user_id = u.user_id LIMIT 1) s
        WHERE u.tenant_id = ${tenant} AND u.kind = 'service' AND u.name > ${after} ORDER BY u.name LIMIT ${rows}`,
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
  const settings = settingsFrom(NO_SETTINGS, service);
  checkSettings(vault, settings);
  return permit(vault, call, wanted, async (tx, granted) => {
    const { tenant } = granted;
    await requirePolicies(tx, tenant, policies);
    await checkGiven(tx, granted, { before: [], after: policies });
    const { id } = await insertUser(tx, tenant, { name: parseName(service.name, 'name'), policies, kind: 'service' });
    await tx`INSERT INTO services (tenant_id, user_id) VALUES (${tenant}, ${id})`;
    await storeSettings(tx, tenant, id, service.description ?? '', settings);
    const value = await serviceNamed(tx, tenant, service.name);
    const { said, lists } = changesOf(NO_SETTINGS, settings);
    return { value, notes: detailsNaming(said, { policies, ...lists }).map((details) => ({ details })) };
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
    const settings = settingsFrom(before, change);
    checkSettings(vault, settings);
    if (policies) {
      await requirePolicies(tx, tenant, policies);
      await checkGiven(tx, granted, { before: before.policies, after: policies });
      await tx`UPDATE users SET policies = ${[...policies]} WHERE tenant_id = ${tenant} AND user_id = ${before.id}`;
    }
    await storeSettings(tx, tenant, before.id, change.description ?? before.description, settings);
    if (before.disabled && change.disabled === false) await checkTakeover(tx, granted, [before.id]);
    if (change.disabled !== undefined) await setDisabled(tx, tenant, before.id, change.disabled);
    const state: Details = change.disabled === undefined ? {} : { disabled: change.disabled };
    const { said, lists } = changesOf(before, settings);
    const notes = detailsNaming({ ...state, ...said }, { policies, ...lists }).map((details) => ({ details }));
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

/** What is not named stays. */
const settingsFrom = (before: Settings, wish: SettingsWish): Settings => changed(changed(NO_SETTINGS, before), wish);

/** Never what a client id looks like. */
const ROLE_ID = /^(?!(?:system|[a-z2-7]{16})\.[a-z2-7]{16}$)[A-Za-z0-9._-]{8,128}$/;

function checkSettings(vault: Vault, settings: Settings): void {
  checkTokenSettings(vault, settings);
  const { roleId, secretTtlSeconds, secretUses } = settings;
  const most = LIMITS.clientSecretTtlSecondsMax;
  if (secretTtlSeconds !== null && (secretTtlSeconds < 1 || secretTtlSeconds > most)) {
    throw new VaultError('invalid_request', `secret_ttl: expected from 1 second to ${most} seconds.`);
  }
  if (secretUses !== null) checkUses(secretUses, 'secret_uses');
  checkCidrs(settings.secretCidrs ?? undefined);
  if (roleId !== null && !ROLE_ID.test(roleId)) {
    throw new VaultError('invalid_request', 'role_id: expected 8 to 128 of A–Z, a–z, 0–9, dot, underscore and hyphen.');
  }
}

const listOrNull = (list: readonly string[] | null) => (list === null ? null : [...list]);

async function storeSettings(
  tx: Tx,
  tenant: TenantId,
  id: string,
  description: string,
  settings: Settings,
): Promise<void> {
  try {
    await tx`
      UPDATE services SET ${tx(tokenSettingRow(settings))}, description = ${description}, role_id = ${settings.roleId}, secret_ttl_seconds = ${settings.secretTtlSeconds},
             secret_uses = ${settings.secretUses}, secret_cidrs = ${listOrNull(settings.secretCidrs)}
      WHERE tenant_id = ${tenant} AND user_id = ${id}`;
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new VaultError('conflict', 'role_id: another service of this tenant has it already.');
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
