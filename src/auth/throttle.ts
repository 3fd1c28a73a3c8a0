/**
 * What slows guesses down: counters in the database, so that no other spelling, node, restart or number of guesses at
 * once gets more of them. Owns the table login_counters.
 *
 *     account   failures in a row, from everywhere but the networks that the account has logged in from within 30 days
 *     own       the same for each such network alone, so that no stranger can keep the owner out
 *     source    failures of one network, whoever it tried to be; own networks are not held up by it
 *
 * Every so many failures an account is locked, each time for twice as long, up to a day; at 99 in a row (NIST SP
 * 800-63B-4 §3.2.2 allows 100) until somebody unlocks it. An attempt while it is locked is worth nothing: right and
 * wrong are answered alike and not counted. Passwords and codes of second factors are counted apart. Whoever comes in
 * by another way, or is in already, is not asked here.
 * The caller holds the user's row, so attempts made at once are counted one by one. Names that are nobody's share a
 * fixed number of rows, so that they cost the same and the table cannot be made to grow.
 */
import { createHash } from 'node:crypto';
import type { TenantId, Tx } from '../db/database.ts';
import { networkOf } from '../policy/cidr.ts';
import type { Vault } from '../vault.ts';

/** A second factor's codes have one budget, wherever they are asked for. */
export type CounterKind = 'password' | 'code';

export type Attempt = {
  readonly tenant: TenantId;
  /** A user's id, or `unknownSubject`. */
  readonly subject: string;
  readonly kind: CounterKind;
  /** The client's address. */
  readonly source: string;
};

export type Counter = {
  /** The account has logged in from this network lately. */
  readonly own: boolean;
  readonly locked: boolean;
};

const FAILURES_MAX = 99;
const LOCK_SECONDS_MAX = 24 * 3600;
const OWN_DAYS = 30;
const OWN_NETWORKS_MAX = 100;
/** A network that has not failed for so long begins anew. */
const SOURCE_MEMORY_SECONDS = 3600;
const UNTIL_UNLOCKED = '9999-12-31T23:59:59Z';
const UNKNOWN_SUBJECTS = 256;

/** The row that a name which is nobody's counts in. */
export function unknownSubject(name: string): string {
  return `unknown-${createHash('sha256').update(name).digest().readUInt32BE() % UNKNOWN_SUBJECTS}`;
}

/**
 * Which counters an attempt is held to, and whether one of them holds it up: each found by its key, however many there
 * are.
 */
export async function readCounter(tx: Tx, { tenant, subject, kind, source }: Attempt): Promise<Counter> {
  const network = networkOf(source);
  const [row] = await tx<Counter[]>`
    WITH known AS MATERIALIZED (
      SELECT EXISTS (
        SELECT 1 FROM login_counters
        WHERE tenant_id = ${tenant} AND subject = ${subject} AND kind = 'password' AND source = ${network}
          AND last_login_at > bulla.now() - make_interval(days => ${OWN_DAYS})) AS own)
    SELECT own, EXISTS (
        SELECT 1 FROM login_counters c
        WHERE c.tenant_id = ${tenant} AND c.subject = ${subject} AND c.kind = ${kind}
          AND c.source = CASE WHEN own THEN ${network} ELSE '' END AND c.locked_until > bulla.now())
      OR NOT own AND EXISTS (
        SELECT 1 FROM login_counters c
        WHERE c.tenant_id = ${tenant} AND c.subject = '' AND c.kind = 'source' AND c.source = ${network}
          AND c.locked_until > bulla.now()) AS locked
    FROM known`;
  return row!;
}

/**
 * One more failure, of the account and of the network. `counter` is what readCounter said in this transaction. While it is
 * locked the same is written and nothing changes, so that the time it takes does not tell.
 */
export async function countFailure(vault: Vault, tx: Tx, attempt: Attempt, counter: Counter): Promise<void> {
  const { own, locked } = counter;
  const { tenant, subject, kind, source } = attempt;
  const { loginFailuresMax, loginSourceFailuresMax, loginLockSeconds } = vault.config;
  const network = networkOf(source);
  const forgetAccount = OWN_DAYS * 24 * 3600;
  await tx`
    INSERT INTO login_counters AS c (tenant_id, subject, kind, source, failures, locked_until, updated_at)
    SELECT ${tenant}, row.subject, row.kind, row.source, ${locked ? 0 : 1}::int,
           CASE WHEN row.every = 1 AND NOT ${locked} THEN bulla.now() + make_interval(secs => ${loginLockSeconds}) END, bulla.now()
    FROM (VALUES (${subject}, ${kind}, ${own ? network : ''}, ${loginFailuresMax}::int),
                 ('', 'source', ${network}, ${loginSourceFailuresMax}::int)) AS row (subject, kind, source, every)
    ON CONFLICT (tenant_id, subject, kind, source) DO UPDATE SET
      (failures, locked_until, updated_at) = (
        SELECT next.failures,
               CASE WHEN ${locked} THEN c.locked_until
                    WHEN next.failures >= ${FAILURES_MAX} AND c.kind <> 'source' THEN ${UNTIL_UNLOCKED}::timestamptz
                    WHEN next.failures % next.every = 0 THEN bulla.now() + make_interval(secs => least(
                      ${loginLockSeconds} * power(2, least(next.failures / next.every - 1, 30)), ${LOCK_SECONDS_MAX}))
               END, CASE WHEN ${locked} THEN c.updated_at ELSE bulla.now() END
        FROM (SELECT CASE WHEN ${locked} THEN c.failures
                          WHEN c.updated_at > bulla.now() - make_interval(secs => CASE WHEN c.kind = 'source'
                                 THEN ${SOURCE_MEMORY_SECONDS}::int ELSE ${forgetAccount}::int END)
                            OR c.locked_until > bulla.now()
                          THEN c.failures + 1 ELSE 1 END AS failures,
                     CASE WHEN c.kind = 'source' THEN ${loginSourceFailuresMax}::int
                          ELSE ${loginFailuresMax}::int END AS every) AS next)`;
  await forgetSources(tx, tenant);
}

const FORGOTTEN_AT_ONCE = 8;

/**
 * More rows go than one failure can add, so there are never more than the networks that failed within the hour. They are
 * found by their time and deleted by their keys (an array, not a join), however many networks a tenant is tried from: what
 * this takes would tell that there is such a tenant. The index by time is for the one alone (sql/0033_login_networks.sql).
 */
async function forgetSources(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`
    DELETE FROM login_counters
    WHERE tenant_id = ${tenant} AND subject = '' AND kind = 'source' AND source = ANY (ARRAY(
      SELECT source FROM login_counters
      WHERE tenant_id = ${tenant} AND kind = 'source' AND last_login_at IS NULL
        AND updated_at < (SELECT bulla.now() - make_interval(secs => ${SOURCE_MEMORY_SECONDS}))
        AND coalesce(locked_until < bulla.now(), true)
      ORDER BY updated_at LIMIT ${FORGOTTEN_AT_ONCE} FOR UPDATE SKIP LOCKED))`;
}

/** A login: the network is the account's own from now on, and what it was counted in begins anew. */
export async function countLogin(tx: Tx, { tenant, subject, source }: Attempt, { own }: Counter): Promise<void> {
  const network = networkOf(source);
  await tx`
    INSERT INTO login_counters (tenant_id, subject, kind, source, last_login_at, updated_at)
    VALUES (${tenant}, ${subject}, 'password', ${network}, bulla.now(), bulla.now())
    ON CONFLICT (tenant_id, subject, kind, source) DO UPDATE
    SET failures = 0, locked_until = NULL, last_login_at = bulla.now(), updated_at = bulla.now()`;
  if (!own) await forgive(tx, tenant, subject, 'password', '');
  // Networks that are not the account's own any more, and those beyond what one account has.
  await tx`
    DELETE FROM login_counters
    WHERE tenant_id = ${tenant} AND subject = ${subject} AND source <> '' AND coalesce(locked_until < bulla.now(), true)
      AND (coalesce(last_login_at, updated_at) < bulla.now() - make_interval(days => ${OWN_DAYS})
        OR source IN (SELECT o.source FROM login_counters o
                      WHERE o.tenant_id = ${tenant} AND o.subject = ${subject} AND o.kind = 'password' AND o.source <> ''
                      ORDER BY o.last_login_at DESC OFFSET ${OWN_NETWORKS_MAX}))`;
}

/** A code that was right. */
export async function countCode(tx: Tx, { tenant, subject, source }: Attempt, { own }: Counter): Promise<void> {
  await forgive(tx, tenant, subject, 'code', own ? networkOf(source) : '');
}

async function forgive(tx: Tx, tenant: TenantId, subject: string, kind: CounterKind, source: string): Promise<void> {
  await tx`
    UPDATE login_counters SET failures = 0, locked_until = NULL, updated_at = bulla.now()
    WHERE tenant_id = ${tenant} AND subject = ${subject} AND kind = ${kind} AND source = ${source}`;
}

/** Forgets all failed attempts at an account. Its own networks stay its own. */
export async function clearCounters(
  tx: Tx,
  tenant: TenantId,
  userId: string,
  kinds: readonly CounterKind[] = ['password', 'code'],
): Promise<void> {
  await tx`
    UPDATE login_counters SET failures = 0, locked_until = NULL, updated_at = bulla.now()
    WHERE tenant_id = ${tenant} AND subject = ${userId} AND kind = ANY (${[...kinds]})`;
}

/** The same for an unlock by somebody who may: the networks that were held up here may try again too. */
export async function unlockAccount(tx: Tx, tenant: TenantId, userId: string): Promise<void> {
  await clearCounters(tx, tenant, userId);
  await tx`DELETE FROM login_counters WHERE tenant_id = ${tenant} AND subject = '' AND kind = 'source'`;
}

/** With the account, or with the whole tenant. */
export async function removeCounters(tx: Tx, tenant: TenantId, userId?: string): Promise<void> {
  await tx`
    DELETE FROM login_counters
    WHERE tenant_id = ${tenant} ${userId === undefined ? tx`` : tx`AND subject = ${userId}`}`;
}
