/**
 * Users of a tenant: people who log in with a password, and identities that somebody else proves. Owns the table users,
 * in which services (service.ts) are too.
 */
import { detailsNaming } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import { randomId } from '../crypto/token.ts';
import { SYSTEM, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { type Name, parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { AccountKind, Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { checkGiven, checkTakeover } from '../policy/give.ts';
import { permit, precheck } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import {
  hashOneTimePassword,
  hashPassword,
  type NewPassword,
  NO_PASSWORD,
  oneTimePassword,
  readPassword,
  storePassword,
} from './password.ts';
import type { PasswordSubject } from './password-rule.ts';
import { removeCounters, unlockAccount } from './throttle.ts';
import { checkTokenSettings } from './token-limit.ts';
import {
  changed,
  changesOf,
  NO_TOKEN_SETTINGS,
  type TokenSettings,
  type TokenSettingsWish,
  tokenSettingColumns,
  tokenSettingRow,
  tokenSettingsOf,
} from './token-setting.ts';

export type UserInfo = TokenSettings & {
  readonly id: string;
  readonly username: string;
  readonly kind: AccountKind;
  readonly policies: readonly string[];
  /** Whose policies it has beside its own. */
  readonly groups: readonly string[];
  readonly disabled: boolean;
  readonly lockedUntil: Timestamp | null;
  readonly passwordChangeRequired: boolean;
  /** This user must have a second factor, whatever the tenant says. */
  readonly mfaRequired: boolean;
  /** There is one. */
  readonly totp: boolean;
  readonly createdAt: Timestamp;
  readonly lastLoginAt: Timestamp | null;
};

/** A password that is shown this once. */
export type WithOneTimePassword = UserInfo & { readonly oneTimePassword?: string };

export type NewUser = {
  readonly username: string;
  /** Absent: a one-time password is made. */
  readonly password?: string | undefined;
  readonly policies?: readonly string[] | undefined;
  readonly mfaRequired?: boolean | undefined;
  readonly tokens?: TokenSettingsWish | undefined;
};

export type UserChange = {
  readonly policies?: readonly string[] | undefined;
  readonly disabled?: boolean | undefined;
  readonly password?: string | undefined;
  readonly resetPassword?: boolean | undefined;
  readonly mfaRequired?: boolean | undefined;
  readonly tokens?: TokenSettingsWish | undefined;
};

const ask = (action: Action, name: string) => ({ action, resource: `user:${parseName(name, 'username')}` }) as const;

const COLUMNS = `user_id AS id, name AS username, kind, policies, disabled,
  ARRAY(SELECT g.name FROM group_members m JOIN groups g USING (tenant_id, group_id)
        WHERE m.tenant_id = users.tenant_id AND m.user_id = users.user_id ORDER BY g.name) AS groups,
  (SELECT max(c.locked_until) FROM login_counters c WHERE c.tenant_id = users.tenant_id AND c.subject = users.user_id
     AND c.locked_until > bulla.now()) AS "lockedUntil",
  must_change_password AS "passwordChangeRequired", mfa_required AS "mfaRequired",
  EXISTS (SELECT 1 FROM totp_factors f WHERE f.tenant_id = users.tenant_id AND f.user_id = users.user_id
          AND f.state = 'active') AS totp, created_at AS "createdAt", last_login_at AS "lastLoginAt",
  ${tokenSettingColumns('users')}`;

export async function listUsers(vault: Vault, call: Call, page: PageAsk): Promise<Page<UserInfo>> {
  const wanted = { action: 'user.list', resource: 'user:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      (after, rows) => tx<UserInfo[]>`
        SELECT ${tx.unsafe(COLUMNS)} FROM users WHERE tenant_id = ${tenant} AND kind <> 'service' AND name > ${after} ORDER BY name LIMIT ${rows}`,
      (user) => user.username,
      (user) => allows({ action: 'user.list', resource: `user:${user.username}` }),
    ),
  }));
}

export async function readUser(vault: Vault, call: Call, name: string): Promise<UserInfo> {
  return permit(vault, call, ask('user.read', name), async (tx, { tenant }) => ({
    value: await userNamed(tx, tenant, name),
  }));
}

/** Throws `conflict` when the name is taken. */
export async function createUser(vault: Vault, call: Call, user: NewUser): Promise<WithOneTimePassword> {
  const wanted = ask('user.write', user.username);
  const policies = checkPolicies(user.policies ?? []);
  const settings = changed(NO_TOKEN_SETTINGS, user.tokens ?? {});
  checkTokenSettings(vault, settings);
  const { tenant: where } = await precheck(vault, call, wanted);
  const once = user.password === undefined ? oneTimePassword() : undefined;
  const subject = await transaction(vault.db, [where], (tx) => futureSubject(tx, where, user.username));
  const password = await newPassword(vault, user.password, once, subject);
  const created = await permit(vault, call, wanted, async (tx, granted) => {
    const { tenant } = granted;
    await requirePolicies(tx, tenant, policies);
    await checkGiven(tx, granted, { before: [], after: policies });
    const value = await insertUser(tx, tenant, {
      name: parseName(user.username, 'username'),
      password,
      policies,
    });
    if (user.mfaRequired) await setMfaRequired(tx, tenant, value.id, true);
    const { said, lists } = await storeTokenSettings(tx, tenant, value, settings);
    const all = detailsNaming({ ...(user.mfaRequired ? { mfa_required: true } : {}), ...said }, { policies, ...lists });
    return {
      value: { ...value, ...settings, mfaRequired: user.mfaRequired ?? false },
      notes: all.map((details) => ({ details })),
    };
  });
  return once === undefined ? created : { ...created, oneTimePassword: once };
}

/** What a change of password, policies or state takes away is gone before the answer, on every node. */
export async function updateUser(
  vault: Vault,
  call: Call,
  name: string,
  change: UserChange,
): Promise<WithOneTimePassword> {
  const wanted = ask('user.write', name);
  const policies = change.policies && checkPolicies(change.policies);
  if (change.password !== undefined && change.resetPassword) {
    throw new VaultError('invalid_request', 'Give either password or reset_password, not both.');
  }
  const { tenant: where } = await precheck(vault, call, wanted);
  const once = change.resetPassword ? oneTimePassword() : undefined;
  const password =
    (change.password ?? once) === undefined
      ? undefined
      : await newPassword(
          vault,
          change.password,
          once,
          await transaction(vault.db, [where], (tx) => subjectNamed(tx, where, name)),
        );
  const updated = await permit(vault, call, wanted, async (tx, granted) => {
    const { tenant, userId } = granted;
    const user = await userNamed(tx, tenant, name);
    // A stolen token would otherwise be worth as much as the password.
    if (password && user.id === userId) {
      throw new VaultError('conflict', 'Your own password is changed with the old one: POST /auth/password.');
    }
    // With a password that one knows, or back to life, an account gives all that it may do.
    if (password || (user.disabled && change.disabled === false)) await checkTakeover(tx, granted, [user.id]);
    if (policies) {
      await requirePolicies(tx, tenant, policies);
      await checkGiven(tx, granted, { before: user.policies, after: policies });
      await tx`UPDATE users SET policies = ${[...policies]} WHERE tenant_id = ${tenant} AND user_id = ${user.id}`;
    }
    if (change.tokens && user.kind !== 'person') {
      throw new VaultError('invalid_request', 'tokens: what bounds the tokens of this account, its login role says.');
    }
    if (change.disabled !== undefined) await setDisabled(tx, tenant, user.id, change.disabled);
    if (change.mfaRequired !== undefined) await setMfaRequired(tx, tenant, user.id, change.mfaRequired);
    if (password) await storePassword(tx, tenant, user.id, password);
    const settings = changed(tokenSettingsOf(user), change.tokens ?? {});
    checkTokenSettings(vault, settings);
    const bounds = await storeTokenSettings(tx, tenant, user, settings);
    const said = {
      ...(change.disabled === undefined ? {} : { disabled: change.disabled }),
      ...(change.mfaRequired === undefined ? {} : { mfa_required: change.mfaRequired }),
      ...(password ? { password_set: true } : {}),
      ...bounds.said,
    };
    const notes = detailsNaming(said, { policies, ...bounds.lists }).map((details) => ({ details }));
    return { value: await userNamed(tx, tenant, name), notes, revokes: true };
  });
  return once === undefined ? updated : { ...updated, oneTimePassword: once };
}

function newPassword(
  vault: Vault,
  chosen: string | undefined,
  once: string | undefined,
  subject: PasswordSubject,
): Promise<NewPassword> {
  if (chosen !== undefined) return hashPassword(vault, chosen, subject);
  return hashOneTimePassword(vault, once!, vault.config.oneTimePasswordTtlSeconds);
}

async function futureSubject(tx: Tx, tenant: TenantId, username: string): Promise<PasswordSubject> {
  const [row] = await tx<{ name: string }[]>`SELECT name FROM tenants WHERE tenant_id = ${tenant}`;
  return { username, tenant: row!.name, secondFactor: false };
}

/** A user that is not there is found out again, and told, by the permitted act. */
async function subjectNamed(tx: Tx, tenant: TenantId, name: string): Promise<PasswordSubject> {
  const [row] = await tx<{ id: string }[]>`
    SELECT user_id AS id FROM users WHERE tenant_id = ${tenant} AND name = ${name}`;
  return row ? readPassword(tx, tenant, row.id) : futureSubject(tx, tenant, name);
}

export async function setDisabled(tx: Tx, tenant: TenantId, userId: string, disabled: boolean): Promise<void> {
  await tx`UPDATE users SET disabled = ${disabled} WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  if (disabled) await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
}

async function storeTokenSettings(tx: Tx, tenant: TenantId, user: UserInfo, settings: TokenSettings) {
  const changes = changesOf(tokenSettingsOf(user), settings);
  await tx`UPDATE users SET ${tx(tokenSettingRow(settings))} WHERE tenant_id = ${tenant} AND user_id = ${user.id}`;
  return changes;
}

async function setMfaRequired(tx: Tx, tenant: TenantId, userId: string, required: boolean): Promise<void> {
  await tx`UPDATE users SET mfa_required = ${required} WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
}

/** Its tokens end with it. */
export async function deleteUser(vault: Vault, call: Call, name: string): Promise<void> {
  await permit(vault, call, ask('user.delete', name), async (tx, { tenant, userId }) => {
    const user = await userNamed(tx, tenant, name);
    if (user.id === userId) throw new VaultError('conflict', 'You cannot delete the user that you are logged in as.');
    await tx`DELETE FROM users WHERE tenant_id = ${tenant} AND user_id = ${user.id}`;
    await removeCounters(tx, tenant, user.id);
    return { value: undefined, revokes: true };
  });
}

export async function unlockUser(vault: Vault, call: Call, name: string): Promise<UserInfo> {
  return permit(vault, call, ask('user.unlock', name), async (tx, { tenant }) => {
    const user = await userNamed(tx, tenant, name);
    await unlockAccount(tx, tenant, user.id);
    return { value: { ...user, lockedUntil: null } };
  });
}

/**
 * An administrator, by itself or by a group, with how many others could log in now. Throws `not_found` where there is
 * none of that name. Who is locked from everywhere but networks of their own counts as locked: nobody knows whether
 * they are there.
 */
export async function lockAdministrator(
  tx: Tx,
  tenant: TenantId,
  name: string,
): Promise<{ readonly id: string; readonly others: number }> {
  const admins = await tx<{ id: string; name: string; enters: boolean }[]>`
    SELECT user_id AS id, name, password_hash <> ${NO_PASSWORD} AND NOT disabled AND NOT EXISTS (
             SELECT 1 FROM login_counters c WHERE c.tenant_id = users.tenant_id AND c.subject = users.user_id
               AND c.locked_until > bulla.now()) AS enters
    FROM users WHERE tenant_id = ${tenant} AND kind = 'person' AND ('admin' = ANY (policies) OR EXISTS (
      SELECT 1 FROM group_members m JOIN groups g USING (tenant_id, group_id)
      WHERE m.tenant_id = users.tenant_id AND m.user_id = users.user_id AND 'admin' = ANY (g.policies)))
    ORDER BY user_id FOR UPDATE`;
  const wanted = admins.find((admin) => admin.name === name);
  if (!wanted) throw new VaultError('not_found', `There is no administrator ${name}.`);
  return { id: wanted.id, others: admins.filter((admin) => admin.enters && admin.id !== wanted.id).length };
}

/** Makes a user's row. Throws `conflict` when the name is taken. */
export async function insertUser(
  tx: Tx,
  tenant: TenantId,
  account: {
    name: Name;
    /** Absent: it has no password, and never will unless it is a person's. */
    password?: NewPassword;
    policies: readonly string[];
    kind?: AccountKind;
  },
): Promise<UserInfo> {
  const { name, password, policies, kind = 'person' } = account;
  try {
    const [row] = await tx<UserInfo[]>`
      INSERT INTO users (tenant_id, user_id, name, kind, password_hash, pepper_version, policies, short_password,
                         must_change_password, password_expires_at, created_at)
      VALUES (${tenant}, ${randomId()}, ${name}, ${kind}, ${password?.phc ?? NO_PASSWORD},
              ${password?.pepperVersion ?? null}, ${[...policies]}, ${password?.short ?? false},
              ${password?.oneTime !== undefined},
              bulla.now() + make_interval(secs => ${password?.oneTime?.seconds ?? null}::double precision),
              bulla.now()) RETURNING ${tx.unsafe(COLUMNS)}`;
    return row!;
  } catch (error) {
    if (isUniqueViolation(error)) throw new VaultError('conflict', `There is a user or a service ${name} already.`);
    throw error;
  }
}

/** Removes every user of a tenant that is being deleted. */
export async function removeUsers(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM users WHERE tenant_id = ${tenant}`;
  await removeCounters(tx, tenant);
}

// ---- peppers ------------------------------------------------------------------------------------------------------

/** Users of every tenant that the transaction shows, by the pepper of their password. */
export async function countUnderPepper(tx: Tx): Promise<{ version: number; users: number }[]> {
  return tx<{ version: number; users: number }[]>`
    SELECT pepper_version AS version, count(*) AS users FROM users WHERE password_hash <> ${NO_PASSWORD}
    GROUP BY pepper_version`;
}

export type UnderPepper = {
  readonly tenantId: TenantId;
  readonly tenant: string;
  readonly userId: string;
  readonly username: string;
  readonly lastLoginAt: Timestamp | null;
};

/**
 * In the order of tenant id and user id, behind `<tenant id>/<user id>`: those who have not logged in for so long, who
 * never did counted from when they were made.
 */
export async function usersUnderPepper(
  tx: Tx,
  version: number,
  { after, limit, absentSeconds }: { after: string; limit: number; absentSeconds: number },
): Promise<UnderPepper[]> {
  const [tenant = '', user = ''] = after.split('/');
  return tx<UnderPepper[]>`
    SELECT u.tenant_id AS "tenantId", t.name AS tenant, u.user_id AS "userId", u.name AS username,
           u.last_login_at AS "lastLoginAt"
    FROM users u JOIN tenants t USING (tenant_id)
    WHERE u.pepper_version = ${version} AND u.password_hash <> ${NO_PASSWORD}
      AND (u.tenant_id, u.user_id) > (${tenant}, ${user})
      AND coalesce(u.last_login_at, u.created_at) <= bulla.now() - make_interval(secs => ${absentSeconds})
    ORDER BY u.tenant_id, u.user_id LIMIT ${limit}`;
}

/** Ends the passwords under a pepper, and the tokens of their users, in every tenant shown but that of the operators. */
export async function endPasswordsUnder(tx: Tx, version: number, active: number): Promise<{ tenantId: TenantId }[]> {
  const ended = await tx<{ tenantId: TenantId; userId: string }[]>`
    UPDATE users SET password_hash = ${NO_PASSWORD}, pepper_version = ${active}
    WHERE pepper_version = ${version} AND tenant_id <> ${SYSTEM}
    RETURNING tenant_id AS "tenantId", user_id AS "userId"`;
  await tx`
    DELETE FROM tokens t USING unnest(${ended.map((user) => user.tenantId)}::text[],
                                      ${ended.map((user) => user.userId)}::text[]) AS u (tenant_id, user_id)
    WHERE t.tenant_id = u.tenant_id AND t.user_id = u.user_id`;
  return ended;
}

async function userNamed(tx: Tx, tenant: TenantId, name: string): Promise<UserInfo> {
  const [row] = await tx<UserInfo[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM users WHERE tenant_id = ${tenant} AND name = ${name} AND kind <> 'service'`;
  if (!row) throw new VaultError('not_found', `There is no user ${name}.`);
  return row;
}

/** Names of policies, each once. Throws `invalid_request`. */
export function checkPolicies(policies: readonly string[]): Name[] {
  if (policies.length > LIMITS.policiesPerUserMax) {
    throw new VaultError('invalid_request', `policies: expected at most ${LIMITS.policiesPerUserMax} names.`);
  }
  return [...new Set(policies.map((policy) => parseName(policy, 'policies')))];
}

/** A name that no policy has would become a right the day somebody makes one: refused. */
export async function requirePolicies(tx: Tx, tenant: TenantId, names: readonly string[]): Promise<void> {
  const rows = await tx<{ name: string }[]>`
    SELECT name FROM policies WHERE tenant_id = ${tenant} AND name = ANY (${[...names]}) FOR SHARE`;
  const missing = names.filter((name) => !rows.some((row) => row.name === name));
  if (missing.length > 0) {
    throw new VaultError(
      'invalid_request',
      `policies: there is no policy ${missing.join(', ')}. Make it first with PUT /policies/{name}.`,
    );
  }
}
