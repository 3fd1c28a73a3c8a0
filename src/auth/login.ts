/**
 * Login with a password: from a name and a password to a token.
 *
 * Unknown tenant, unknown user, wrong password, locked and disabled are told apart in the audit log only: the caller
 * gets the same answer after the same work. The password is checked before the transaction; whether it counts is
 * decided under the user's row lock, so that guesses made in parallel get no more tries than guesses in a row. Another
 * spelling of a name is never let in, and counts as a guess at the name that it was meant for.
 */
import type { Actor } from '../audit/entry.ts';
import { mayRecordGuess } from '../audit/recorded.ts';
import { SYSTEM, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { foldName, isName } from '../db/name.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { isFrom } from '../policy/cidr.ts';
import { type Record, withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { issueToken } from './issue.ts';
import { checkPassword, type PasswordHash } from './password.ts';
import { totpRequired } from './second-factor.ts';
import { type Attempt, countFailure, countLogin, readCounter, unknownSubject } from './throttle.ts';
import { limitsOf, type TokenSettings, tokenSettingColumns } from './token-setting.ts';
import { hasSeed, proveFactor } from './totp.ts';

export type Credentials = {
  readonly tenant: string;
  readonly username: string;
  readonly password: string;
  /** A code of the second factor, or a recovery code. Looked at only when the password is right. */
  readonly totp?: string | undefined;
};

export type Login = {
  readonly token: string;
  readonly accessor: string;
  readonly tenant: string;
  readonly username: string;
  readonly policies: readonly string[];
  readonly expiresAt: Timestamp;
  readonly maxExpiresAt: Timestamp | null;
  readonly ttlSeconds: number;
  readonly passwordChangeRequired: boolean;
  /** A second factor was shown. */
  readonly mfa: boolean;
  /** Nothing else may be done before one is enrolled. */
  readonly mfaRequired: boolean;
  /** How many acts the token does; null: however many. */
  readonly uses: number | null;
  /** It may not even what every token may. */
  readonly withoutDefault: boolean;
};

const SETTING_COLUMNS = tokenSettingColumns('u');

type UserRow = PasswordHash &
  TokenSettings & {
    readonly userId: string;
    readonly name: string;
    readonly policies: string[];
    readonly mustChange: boolean;
    readonly disabled: boolean;
    /** A one-time password whose time is over. */
    readonly expired: boolean;
    readonly tenantState: string;
    readonly mfaRequired: boolean;
  };

/** Throws `login_failed`, `tenant_suspended` (right password only), `invalid_request`, `busy`, `unavailable`. */
export function login(vault: Vault, call: Call, credentials: Credentials): Promise<Login> {
  // Whoever finds no room for a hash costs the database nothing.
  return vault.hasher.admit(() => admitted(vault, call, credentials));
}

async function admitted(vault: Vault, call: Call, credentials: Credentials): Promise<Login> {
  const meant = { tenant: foldName(credentials.tenant), username: foldName(credentials.username) };
  const spelled = meant.tenant === credentials.tenant && meant.username === credentials.username;
  const id = await tenantOf(vault, meant.tenant);
  let mayRecord: boolean | undefined;
  for (let check = 1; ; check += 1) {
    // Where there is no tenant, the same is asked of a name that is nobody's, and whatever is found is not meant.
    const where = id ?? SYSTEM;
    const name = id ? meant.username : unknownSubject(meant.username);
    const found = await transaction(vault.db, [where], (tx) => readUser(tx, where, name));
    const user = id && found;
    const { fits, fresh } = await checkPassword(vault, user, credentials.password);
    const outcome = await withoutToken(vault, call, [id ?? SYSTEM], async (tx): Promise<Conclusion> => {
      const { totp } = credentials;
      const conclusion =
        id && user
          ? await conclude(vault, tx, call, { id, user, fits: fits && spelled, fresh, totp, ...meant }, check)
          : await concludeUnknown(vault, tx, call, id, meant);
      if (!(conclusion.value instanceof VaultError)) return conclusion;
      // Beyond some a minute from one source, failures are only counted. The act may run twice: one guess is one.
      mayRecord ??= mayRecordGuess(vault, call.source);
      return mayRecord ? conclusion : { ...conclusion, records: [] };
    });
    if (outcome instanceof VaultError) throw outcome;
    if (outcome) return outcome;
  }
}

/** The same statements as for a user that is there. */
async function concludeUnknown(
  vault: Vault,
  tx: Tx,
  call: Call,
  id: TenantId | undefined,
  { tenant, username }: { tenant: string; username: string },
): Promise<Conclusion> {
  const where = id ?? SYSTEM;
  const subject = unknownSubject(id ? username : `${tenant}/${username}`);
  await readUser(tx, where, subject, 'lock');
  const attempt: Attempt = { tenant: where, subject, kind: 'password', source: call.source };
  const counter = await readCounter(tx, attempt);
  await countFailure(vault, tx, attempt, counter);
  return {
    value: loginFailed(),
    records: [failure(where, undefined, id ? 'unknown_user' : 'unknown_tenant')],
  };
}

/** A password that was checked against a hash that is not the stored one any more is checked again. */
const CHECKS_MAX = 3;

async function tenantOf(vault: Vault, name: string): Promise<TenantId | undefined> {
  if (!isName(name)) return undefined;
  const [row] = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<{ id: TenantId }[]>`
      SELECT tenant_id AS id FROM tenants WHERE name = ${name} AND state IN ('active', 'suspended')`,
  );
  return row?.id;
}

/** `lock` holds the user, and the tenant's state: a suspension waits for the login, or the login for the suspension. */
async function readUser(tx: Tx, tenant: TenantId, name: string, lock?: 'lock'): Promise<UserRow | undefined> {
  if (!isName(name)) return undefined;
  const [row] = await tx<UserRow[]>`
    SELECT u.user_id AS "userId", u.name, u.password_hash AS phc, u.pepper_version AS "pepperVersion", u.policies,
           u.must_change_password AS "mustChange", u.disabled, t.state AS "tenantState",
           coalesce(u.password_expires_at <= bulla.now(), false) AS expired,
           u.mfa_required OR t.mfa_required AS "mfaRequired", ${tx.unsafe(SETTING_COLUMNS)}
    FROM users u JOIN tenants t USING (tenant_id) WHERE u.tenant_id = ${tenant} AND u.name = ${name} AND u.kind = 'person'
    ${lock ? tx`FOR UPDATE OF u FOR SHARE OF t` : tx``}`;
  return row;
}

/** What was found before the transaction. `fits` is of the password and of the spelling. */
type Checked = {
  readonly id: TenantId;
  readonly tenant: string;
  readonly user: UserRow;
  readonly fits: boolean;
  readonly fresh: PasswordHash | undefined;
  readonly totp: string | undefined;
};

/** Undefined: to be checked again, against the hash that is stored now. */
type Conclusion = { value: Login | VaultError | undefined; records: readonly Record[] };

/**
 * Decides under the row lock with what the row says now, whatever it said when the password was checked. Two logins that
 * find old parameters both hash afresh; the second then meets the hash of the first.
 */
async function conclude(vault: Vault, tx: Tx, call: Call, checked: Checked, check: number): Promise<Conclusion> {
  const { id, tenant, fits, fresh, totp } = checked;
  const user = await readUser(tx, id, checked.user.name, 'lock');
  const stale = user?.phc !== checked.user.phc;
  if (user && stale && check < CHECKS_MAX) return { value: undefined, records: [] };
  if (!user || stale) return { value: loginFailed(), records: [failure(id, checked.user, 'changed_meanwhile')] };
  const attempt: Attempt = { tenant: id, subject: user.userId, kind: 'password', source: call.source };
  const counter = await readCounter(tx, attempt);
  const reason = reasonAgainst(user, { locked: counter.locked, fits, source: call.source });
  if (reason) {
    await countFailure(vault, tx, attempt, counter);
    return { value: loginFailed(), records: [failure(id, user, reason)] };
  }
  if (user.tenantState !== 'active') {
    const value = new VaultError(
      'tenant_suspended',
      'This tenant is suspended: ask the operators of the vault to resume it.',
    );
    return { value, records: [{ ...failure(id, user, 'tenant_suspended'), code: 'tenant_suspended' }] };
  }
  const factor = await showFactor(vault, tx, call, id, user, totp);
  if (typeof factor === 'object') return factor;
  const mfa = factor !== undefined;
  await countLogin(tx, attempt, counter);
  await recordSuccess(tx, id, user.userId, fresh);
  const issued = await issueToken(vault, tx, id, {
    ...{ ...limitsOf(user), userId: user.userId, method: 'password', mfa, source: call.source },
  });
  const actor: Actor = {
    kind: 'user',
    id: user.userId,
    name: user.name,
    method: 'password',
    accessor: issued.accessor,
  };
  const { policies, mustChange: passwordChangeRequired, tokenUses: uses, tokenWithoutDefault: withoutDefault } = user;
  const mfaRequired = user.mfaRequired && !mfa;
  return {
    value: {
      ...{ ...issued, tenant, username: user.name, policies, passwordChangeRequired, mfa, mfaRequired },
      ...{ uses, withoutDefault },
    },
    records: [
      {
        ...({ tenant: id, actor, action: 'auth.login', resource: `user:${user.name}`, outcome: 'ok' } as const),
        ...(mfa ? { details: { second_factor: factor } } : {}),
      },
    ],
  };
}

/**
 * What the second factor was shown by; undefined: the user has none. Nobody learns that there is one before the password
 * was right. Then a missing code is told from a wrong one, so that people can be asked for it.
 */
async function showFactor(
  vault: Vault,
  tx: Tx,
  call: Call,
  tenant: TenantId,
  user: UserRow,
  code: string | undefined,
): Promise<'totp' | 'recovery_code' | Conclusion | undefined> {
  if (!(await hasSeed(tx, tenant, user.userId, 'active'))) return undefined;
  if (code === undefined) {
    const record = { ...failure(tenant, user, 'no_code'), code: 'totp_required' };
    return { value: totpRequired(), records: [record] };
  }
  const proof = await proveFactor(vault, tx, { tenant, userId: user.userId, source: call.source }, code);
  if ('proven' in proof) return proof.proven;
  const reason = proof.refused === 'locked' ? 'code_locked' : proof.refused;
  return { value: loginFailed(), records: [failure(tenant, user, reason)] };
}

function reasonAgainst(
  user: UserRow,
  { locked, fits, source }: { readonly locked: boolean; readonly fits: boolean; readonly source: string },
): string | undefined {
  if (user.disabled) return 'disabled';
  if (locked) return 'locked';
  if (!fits) return 'wrong_password';
  if (user.tokenCidrs !== null && !isFrom(user.tokenCidrs, source)) return 'other_network';
  return user.expired ? 'expired_password' : undefined;
}

/** The name is recorded only where it is a user's: what was typed might be a password. */
function failure(tenant: TenantId, user: UserRow | undefined, reason: string): Record {
  const actor: Actor = user ? { kind: 'anonymous', id: user.userId, name: user.name } : { kind: 'anonymous' };
  const resource = user ? { resource: `user:${user.name}` } : {};
  return {
    tenant,
    actor,
    action: 'auth.login',
    ...resource,
    outcome: 'denied',
    code: 'login_failed',
    details: { reason },
  };
}

function loginFailed(): VaultError {
  return new VaultError('login_failed', 'Tenant, user name or password is not right, or the user cannot log in now.');
}

async function recordSuccess(tx: Tx, tenant: TenantId, userId: string, fresh: PasswordHash | undefined): Promise<void> {
  await tx`
    UPDATE users SET last_login_at = bulla.now()
    WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  if (fresh) {
    await tx`
      UPDATE users SET password_hash = ${fresh.phc}, pepper_version = ${fresh.pepperVersion}
      WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  }
}
