/**
 * Making and changing static accounts.
 *
 * An account is given with the password it has, which a login then proves, or without one, and is then given a new one.
 * Either way it is there only when a password is known with which its target lets it in, or when that cannot be found out
 * now. Whoever has set another password by hand says so in the same way.
 */
import { randomId } from '../crypto/token.ts';
import { type TenantId, type Tx, transaction } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck, tryOutside } from '../policy/permit.ts';
import { underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import {
  type AccountInfo,
  type AccountRow,
  accountAsk,
  accountInfo,
  accountsOf,
  busyError,
  findAccount,
} from './account.ts';
import { openPasswords, type Passwords, sealPasswords } from './account-password.ts';
import { beginRotation, type Rotation, runRotation } from './account-rotation.ts';
import { requireAllowed } from './allowed-role.ts';
import type { Accounts } from './backend.ts';
import { backendNamed, checkedBy, checkTimes } from './configuration.ts';
import { type Connected, connected, onTarget } from './pool.ts';
import { notifySweepers } from './wake.ts';

export type NewAccount = {
  readonly backend: string;
  readonly username: string;
  /** What it has now. Absent of a new account: it is given another one. */
  readonly password?: string | undefined;
  readonly periodSeconds?: number | undefined;
  /** At the end of a check-out; true when absent. */
  readonly endSessions?: boolean | undefined;
  readonly defaultTtlSeconds?: number | undefined;
  readonly maxTtlSeconds?: number | undefined;
};

const PERIOD_SECONDS = { min: 60, max: 10 * 366 * 24 * 3600 };
const PASSWORD_CHARS_MAX = 1024;

/**
 * Makes or changes a static account. A password that comes with it is proven by a login first, and is then the current
 * one: so a new account is taken over, and one that is stuck is told what it was given by hand. A new account without one
 * is rotated at once; where the target refuses that, there is no account.
 */
export async function putAccount(
  vault: Vault,
  call: Call,
  name: string,
  wanted: NewAccount,
): Promise<AccountInfo & { readonly created: boolean }> {
  const ask = accountAsk('account.write', name);
  parseName(wanted.backend, 'backend');
  checkNew(wanted);
  const { tenant } = await precheck(vault, call, ask);
  const at = await transaction(vault.db, [tenant], async (tx) =>
    connected(vault, tx, tenant, (await backendNamed(tx, tenant, wanted.backend)).id),
  );
  const accounts = accountsOf(at);
  const username = checkedBy(at.member.account!, wanted.username, 'username') as string;
  if (accounts.isOwn(username)) {
    throw new VaultError(
      'invalid_request',
      'username: the backend itself logs in with this account; take another one.',
    );
  }
  const { password } = wanted;
  if (password !== undefined) {
    await tryOutside(vault, call, ask, () => prove(vault, at, accounts, username, password));
  }
  const put = await permit(vault, call, ask, async (tx, granted) => {
    const stored = await store(vault, tx, at, name, { ...wanted, username });
    const { created, rotation } = stored;
    const details = { backend: wanted.backend, username, created, password_given: wanted.password !== undefined };
    const info = await accountInfo(tx, tenant, name);
    return { value: { created, rotation, info, actor: granted.actor }, notes: [{ details }] };
  });
  if (!put.rotation) return { ...put.info, created: put.created };
  await runRotation(vault, put.rotation, { reason: 'new', by: { actor: put.actor, call }, awaited: 'making' });
  const info = await transaction(vault.db, [tenant], (tx) => accountInfo(tx, tenant, name));
  return { ...info, created: true };
}

function checkNew({ periodSeconds, password, ...times }: NewAccount): void {
  checkTimes(times);
  const { min, max } = PERIOD_SECONDS;
  if (
    periodSeconds !== undefined &&
    !(Number.isSafeInteger(periodSeconds) && periodSeconds >= min && periodSeconds <= max)
  ) {
    throw new VaultError('invalid_request', 'rotation_period: expected from 1 minute to 10 years.');
  }
  if (password !== undefined && (password.length === 0 || password.length > PASSWORD_CHARS_MAX)) {
    throw new VaultError('invalid_request', `password: expected 1 to ${PASSWORD_CHARS_MAX} characters.`);
  }
}

async function prove(vault: Vault, at: Connected, accounts: Accounts, username: string, password: string) {
  const works = await onTarget(vault, at, vault.config.leaseActDeadlineMs, (limits) =>
    accounts.provePassword({ ...limits, username, password }),
  );
  if (works) return;
  throw new VaultError('invalid_request', 'password: the target does not let this account in with it.');
}

type Stored = { readonly created: boolean; readonly rotation: Rotation | undefined };

async function store(vault: Vault, tx: Tx, at: Connected, name: string, wanted: NewAccount): Promise<Stored> {
  const known = await findAccount(tx, at.tenant, name, 'for change');
  if (known) {
    await change(vault, tx, at, name, known, wanted);
    return { created: false, rotation: undefined };
  }
  const { tenant, id: backendId } = at;
  const { username, password, periodSeconds = null, endSessions = true } = wanted;
  const { defaultTtlSeconds = null, maxTtlSeconds = null } = wanted;
  await tx`SELECT 1 FROM backends WHERE tenant_id = ${tenant} AND backend_id = ${backendId} FOR SHARE`;
  const backend = await backendNamed(tx, tenant, wanted.backend);
  if (backend.closing) throw new VaultError('conflict', `The backend ${wanted.backend} is being deleted.`);
  requireAllowed(backend.allowedRoles, wanted.backend, name);
  if (backend.id !== backendId || backend.revision !== at.revision) throw changedMeanwhile(wanted.backend);
  const id = randomId();
  const passwords: Passwords = password === undefined ? {} : { current: password };
  const { keyVersion, envelope } = await sealPasswords(vault, tx, tenant, id, passwords);
  try {
    await underActiveKey(tx`
      INSERT INTO static_accounts (tenant_id, account_id, backend_id, name, username, key_version, envelope, in_doubt, wanted,
                                   period_seconds, end_sessions, default_ttl_seconds, max_ttl_seconds, rotated_at,
                                   next_rotation_at, due_at, created_at, updated_at)
      SELECT ${tenant}, ${id}, ${backendId}, ${name}, ${username}, ${keyVersion}, ${envelope}, ${password === undefined},
             ${password === undefined}, ${periodSeconds}, ${endSessions}, ${defaultTtlSeconds}, ${maxTtlSeconds}, NULL, next, next, now, now
      FROM (SELECT now, now + make_interval(secs => ${periodSeconds}::bigint) AS next
            FROM (SELECT bulla.now() AS now OFFSET 0) AS clock) AS times`);
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new VaultError('conflict', `The backend ${wanted.backend} has a static account for ${username} already.`);
  }
  await notifySweepers(tx);
  if (password !== undefined) return { created: true, rotation: undefined };
  return { created: true, rotation: await beginRotation(vault, tx, at, id) };
}

/** What was proven was proven at the place that the backend had then. */
const changedMeanwhile = (backend: string) =>
  new VaultError('conflict', `The backend ${backend} was changed meanwhile: nothing was stored. Try again.`);

/** Leaves the password as it is unless one is given. Never moves it to another backend or account. */
async function change(
  vault: Vault,
  tx: Tx,
  { tenant, id: backendId, revision }: Connected,
  name: string,
  known: AccountRow,
  wanted: NewAccount,
): Promise<void> {
  if (known.backendId !== backendId || known.username !== wanted.username) {
    throw new VaultError(
      'conflict',
      `The account ${name} is ${known.username} of the backend ${known.backend}: make another one.`,
    );
  }
  if (known.closing) throw new VaultError('conflict', `The account ${name} is being deleted.`);
  if (known.backendRevision !== revision) throw changedMeanwhile(known.backend);
  const { password, periodSeconds = null, endSessions = true, defaultTtlSeconds = null, maxTtlSeconds = null } = wanted;
  if (password !== undefined) await setByHand(vault, tx, tenant, name, known, password);
  const isHeld = known.heldUntil !== null;
  // What is due anyway stays due.
  await tx`
    WITH clock AS MATERIALIZED (SELECT bulla.now() AS now)
    UPDATE static_accounts SET period_seconds = ${periodSeconds}, end_sessions = ${endSessions},
           default_ttl_seconds = ${defaultTtlSeconds}, max_ttl_seconds = ${maxTtlSeconds}, updated_at = now,
           next_rotation_at = coalesce(rotated_at, created_at) + make_interval(secs => ${periodSeconds}::bigint),
           due_at = CASE WHEN ${isHeld} THEN NULL WHEN in_doubt OR wanted THEN due_at
                         ELSE coalesce(rotated_at, created_at) + make_interval(secs => ${periodSeconds}::bigint) END
    FROM clock WHERE tenant_id = ${tenant} AND account_id = ${known.id}`;
  await notifySweepers(tx);
}

/** Another one than before is a rotation that somebody else has done: whatever follows the account follows that too. */
async function setByHand(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  name: string,
  known: AccountRow,
  password: string,
): Promise<void> {
  if (known.busy) throw busyError(name);
  const { current, next } = await openPasswords(vault, tx, tenant, known.id, known);
  const isNew = password !== current;
  // Of two that it might have had, the later one is what may still arrive.
  const before = next ?? current;
  const passwords = { current: password, ...(before === undefined || before === password ? {} : { before }) };
  const { keyVersion, envelope } = await sealPasswords(vault, tx, tenant, known.id, passwords);
  await underActiveKey(tx`
    UPDATE static_accounts SET key_version = ${keyVersion}, envelope = ${envelope}, in_doubt = false, unproven = false,
           wanted = wanted AND NOT ${isNew}, attempts = 0, last_error = NULL,
           rotated_at = CASE WHEN ${isNew} THEN bulla.now() ELSE rotated_at END
    WHERE tenant_id = ${tenant} AND account_id = ${known.id}`);
}
