/**
 * The rotation of a secret: claimed by one node, its next value made outside of any transaction (job/rotator.ts), and
 * stored with its entry in one commit.
 *
 *     claim ──▶ the value is made, or asked for ──▶ a new version, the one before readable for its grace time
 *
 * A process that dies in between leaves the secret as it was: the claim runs out, and the next try asks under the same
 * name, so that whoever has made a value gives the same one again. A version that somebody writes meanwhile is never
 * replaced by a generated value: that is dropped, and the schedule counts from theirs. What an account or an endpoint has
 * already changed outside becomes the version after theirs, which stays readable as any version before.
 */

import { VAULT_ACTOR } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import { randomId } from '../crypto/token.ts';
import { SYSTEM, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Record as LogRecord, permit, withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { mergePatch } from './document.ts';
import { checkVersion, insertVersion, type NewVersion } from './insert.ts';
import type { SecretPath } from './path.ts';
import { openRotator, type RotatorInfo, type RotatorKind, rotatingNow, rotatorAt } from './rotator.ts';
import { lockSecret, secretAsk } from './row.ts';
import { currentData } from './secret.ts';

/** A secret in the hands of this node, until its claim runs out. */
export type ClaimedSecret = {
  readonly tenant: TenantId;
  readonly secretId: string;
  readonly path: SecretPath;
  readonly claim: string;
  /** The same for every try of one rotation. */
  readonly attempt: string;
  readonly kind: RotatorKind;
  /** The version that is to be followed. */
  readonly base: number;
  /** When the password was set that the secret has from its account. */
  readonly followedAt: Timestamp | null;
  /** The schedule, or somebody, asks for a new value; otherwise the account has another one already. */
  readonly isDue: boolean;
  readonly attempts: number;
};

const CLAIM_SECONDS = 120;
const RETRY_SECONDS_MIN = 5;
const RETRY_SECONDS_MAX = 900;

const origin = (id: string) => ({ requestId: `rotator-${id}`, source: '', protocol: 'vault' });
const waitSeconds = (attempts: number) => Math.min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2 ** Math.min(attempts, 10));

export type DueSecret = { readonly tenant: TenantId; readonly secretId: string };

/**
 * Secrets that are to be rotated by their schedule, for another try, or because their account was. Tenants take turns: one
 * that has many due keeps no other waiting. Accounts and tenants are asked for one by one: a join may be planned as a walk
 * through all rotators for each tenant.
 */
export async function readDueSecrets(vault: Vault, limit: number): Promise<DueSecret[]> {
  return transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<DueSecret[]>`
      WITH clock AS MATERIALIZED (SELECT bulla.now() AS now), due AS MATERIALIZED (
        SELECT r.tenant_id, r.secret_id, r.due_at FROM rotators r WHERE r.due_at <= (SELECT now FROM clock)
        UNION ALL
        SELECT r.tenant_id, r.secret_id, a.rotated_at FROM rotators r,
        LATERAL (SELECT rotated_at, in_doubt FROM static_accounts
                 WHERE tenant_id = r.tenant_id AND name = r.account LIMIT 1) a
        WHERE r.account IS NOT NULL AND a.rotated_at IS NOT NULL AND NOT a.in_doubt
          AND (r.followed_at IS NULL OR a.rotated_at > r.followed_at) AND r.attempts = 0
          AND (r.claim IS NULL OR r.claim_until <= (SELECT now FROM clock))
          AND (r.due_at IS NULL OR r.due_at > (SELECT now FROM clock))
      )
      SELECT tenant_id AS tenant, secret_id AS "secretId" FROM due
      WHERE (SELECT state FROM tenants t WHERE t.tenant_id = due.tenant_id) = 'active'
      ORDER BY row_number() OVER (PARTITION BY tenant_id ORDER BY due_at), due_at LIMIT ${limit}`,
  );
}

/** Undefined: somebody else has it, or it is gone. */
export async function claimSecret(vault: Vault, { tenant, secretId }: DueSecret): Promise<ClaimedSecret | undefined> {
  return transaction(vault.db, [tenant], (tx) => claimIn(tx, tenant, secretId, false));
}

/** For somebody who asks for it now. Throws `conflict` while it is being rotated. */
export async function claimAsked(vault: Vault, call: Call, path: SecretPath): Promise<ClaimedSecret> {
  return permit(vault, call, secretAsk('secret.rotate', path), async (tx, { tenant }) => {
    await rotatorAt(vault, tx, tenant, path);
    const { secretId } = await lockSecret(tx, tenant, path);
    const claimed = await claimIn(tx, tenant, secretId, true);
    if (!claimed) throw rotatingNow(path);
    return { value: claimed, notes: [{ details: { begun: true } }] };
  });
}

async function claimIn(tx: Tx, tenant: TenantId, secretId: string, asked: boolean): Promise<ClaimedSecret | undefined> {
  const claim = randomId();
  const [row] = await tx<Omit<ClaimedSecret, 'tenant' | 'secretId' | 'claim'>[]>`
    WITH clock AS MATERIALIZED (SELECT bulla.now() AS now), mine AS MATERIALIZED (
      SELECT secret_id, due_at <= now AS due FROM rotators, clock
      WHERE tenant_id = ${tenant} AND secret_id = ${secretId} AND (claim IS NULL OR claim_until <= now)
      FOR NO KEY UPDATE OF rotators SKIP LOCKED
    )
    UPDATE rotators r SET claim = ${claim}, claim_until = now + make_interval(secs => ${CLAIM_SECONDS}),
           due_at = now + make_interval(secs => ${CLAIM_SECONDS}), attempt = coalesce(r.attempt, ${randomId()})
    FROM clock, mine, secrets s
    WHERE r.tenant_id = ${tenant} AND r.secret_id = mine.secret_id AND s.tenant_id = ${tenant} AND s.secret_id = mine.secret_id
    RETURNING s.path, s.current_version AS base, r.attempt, r.followed_at AS "followedAt", r.attempts,
              coalesce(mine.due, false) OR ${asked} AS "isDue", r.kind`;
  return row && { ...row, tenant, secretId, claim };
}

/** A value as it was made: a text, or a JSON object. */
export type MadeValue = {
  readonly value: string | Readonly<Record<string, unknown>>;
  /** Outside it is so already: nothing that somebody writes here changes that. */
  readonly isOutside: boolean;
  /** Of an account: when the password was set. */
  readonly followedAt?: Timestamp | undefined;
};

/** `path` is where the secret is now: it may have been moved since it was claimed. */
const record = ({ tenant, kind }: ClaimedSecret, path: SecretPath) =>
  ({
    ...{ tenant, actor: VAULT_ACTOR, action: 'secret.rotate', resource: `secret:${path}` },
    details: { kind },
  }) satisfies Omit<LogRecord, 'outcome'>;

/** `overtaken`: somebody has written a version meanwhile, which stays. `lost`: the claim is another's, or the rotator gone. */
export type Storing = number | 'overtaken' | 'lost';

export async function storeValue(vault: Vault, claimed: ClaimedSecret, made: MadeValue): Promise<Storing> {
  const { tenant, secretId, base } = claimed;
  return withoutToken<Storing>(vault, origin(secretId), [tenant], async (tx) => {
    const held = await lockClaim(tx, claimed);
    if (!held) return { value: 'lost', records: [] };
    const { path } = held;
    const { field, notify } = await openRotator(vault, tx, tenant, secretId, held);
    const secret = await lockSecret(tx, tenant, path);
    if (secret.currentVersion !== base && !made.isOutside) {
      await putOff(tx, claimed, `Version ${secret.currentVersion} was written meanwhile, and counts in its place.`);
      const overtaken = { ...record(claimed, path), outcome: 'error', code: 'version_mismatch' } as const;
      return { value: 'overtaken', records: [overtaken] };
    }
    const version = await versionOf(vault, tx, { tenant, field, path }, secret, made.value);
    checkVersion(version);
    const writer = { tenant, userId: VAULT_ACTOR.kind, allows: () => false };
    const written = await insertVersion(vault, tx, tenant, {
      ...{ writer, path, secret },
      asked: { ...version, expect: secret.currentVersion, keptAtLeast: 2 },
    });
    await tx`
      WITH clock AS MATERIALIZED (SELECT bulla.now() AS now), rotated AS (
        UPDATE rotators SET claim = NULL, claim_until = NULL, attempt = NULL, attempts = 0, last_error = NULL, rotated_at = now,
               followed_at = ${made.followedAt ?? null}, made_version = ${written.version},
               due_at = now + make_interval(secs => period_seconds),
               notice_version = ${notify ? written.version : null}, notice_due_at = now, notice_attempts = 0,
               notice_error = NULL
        FROM clock WHERE tenant_id = ${tenant} AND secret_id = ${secretId} RETURNING grace_seconds
      )
      UPDATE secret_versions v SET expires_at = now + make_interval(secs => grace_seconds) FROM clock, rotated
      WHERE v.tenant_id = ${tenant} AND v.secret_id = ${secretId} AND v.version < ${written.version}
        AND v.version >= ${held.madeVersion ?? secret.currentVersion}
        AND (v.expires_at IS NULL OR v.expires_at > now + make_interval(secs => grace_seconds))`;
    return { value: written.version, records: [{ ...record(claimed, path), outcome: 'ok', version: written.version }] };
  });
}

type Held = {
  readonly path: SecretPath;
  readonly madeVersion: number | null;
  readonly keyVersion: number;
  readonly envelope: Uint8Array;
};

/** The secret before the rotator, as everybody locks them who locks both. */
async function lockClaim(tx: Tx, { tenant, secretId, claim }: ClaimedSecret): Promise<Held | undefined> {
  await tx`SELECT 1 FROM secrets WHERE tenant_id = ${tenant} AND secret_id = ${secretId} FOR UPDATE`;
  const [row] = await tx<Held[]>`
    SELECT s.path, r.made_version AS "madeVersion", r.key_version AS "keyVersion", r.envelope FROM rotators r JOIN secrets s USING (tenant_id, secret_id)
    WHERE r.tenant_id = ${tenant} AND r.secret_id = ${secretId} AND r.claim = ${claim} FOR NO KEY UPDATE OF r`;
  return row;
}

async function putOff(tx: Tx, { tenant, secretId }: ClaimedSecret, why: string): Promise<void> {
  await tx`
    UPDATE rotators SET claim = NULL, claim_until = NULL, attempt = NULL, attempts = 0, last_error = ${why},
           due_at = bulla.now() + make_interval(secs => period_seconds)
    WHERE tenant_id = ${tenant} AND secret_id = ${secretId}`;
}

async function versionOf(
  vault: Vault,
  tx: Tx,
  { tenant, field, path }: { readonly tenant: TenantId; readonly field: string | undefined; readonly path: SecretPath },
  secret: Parameters<typeof currentData>[4],
  value: MadeValue['value'],
): Promise<NewVersion> {
  if (field === undefined) {
    if (typeof value === 'string') return { kind: 'text', body: Buffer.from(value) };
    return { kind: 'data', body: Buffer.from(JSON.stringify(value)) };
  }
  if (typeof value !== 'string')
    throw new VaultError('backend_failed', 'A field takes a text, and an object was made.');
  const before = secret.currentVersion === 0 ? '{}' : await currentData(vault, tx, tenant, path, secret);
  return { kind: 'data', body: Buffer.from(mergePatch(before, JSON.stringify({ [field]: value }))) };
}

/** It is tried again, later each time and for ever. The log hears of the first failure and of the third. */
export async function noteFailure(vault: Vault, claimed: ClaimedSecret, error: VaultError): Promise<void> {
  const { tenant, secretId, claim } = claimed;
  const attempts = claimed.attempts + 1;
  await withoutToken(vault, origin(secretId), [tenant], async (tx) => {
    const [row] = await tx<{ path: SecretPath }[]>`
      UPDATE rotators r SET claim = NULL, claim_until = NULL, attempts = ${attempts}, last_error = ${error.message},
             due_at = bulla.now() + make_interval(secs => ${waitSeconds(attempts)} * (0.5 + random() / 2))
      FROM secrets s WHERE r.tenant_id = ${tenant} AND r.secret_id = ${secretId} AND r.claim = ${claim}
        AND s.tenant_id = r.tenant_id AND s.secret_id = r.secret_id RETURNING s.path`;
    if (!row || !(attempts === 1 || attempts === LIMITS.stuckAttempts)) return { value: undefined, records: [] };
    return { value: undefined, records: [{ ...record(claimed, row.path), outcome: 'error', code: error.code }] };
  });
  vault.log.warn({ secret: secretId, attempts, reason: error.message }, 'a secret was not rotated; it is tried again');
}

/** Wherever the secret is now. */
export async function rotatorOf(vault: Vault, { tenant, secretId }: DueSecret): Promise<RotatorInfo> {
  return transaction(vault.db, [tenant], (tx) => rotatorAt(vault, tx, tenant, { secretId }));
}

// ---- notices ------------------------------------------------------------------------------------------------------

/** That a secret has a new version, to be told to its webhook until that has taken it. */
export type Notice = DueSecret & {
  readonly path: string;
  readonly version: number;
  readonly before: number | null;
  readonly beforeReadableUntil: Timestamp | null;
  readonly attempts: number;
};

const NOTICE_CLAIM_SECONDS = 60;

export async function readDueNotices(vault: Vault, limit: number): Promise<DueSecret[]> {
  return transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<DueSecret[]>`
      SELECT r.tenant_id AS tenant, r.secret_id AS "secretId" FROM rotators r
      WHERE r.notice_version IS NOT NULL AND r.notice_due_at <= (SELECT bulla.now())
        AND (SELECT state FROM tenants t WHERE t.tenant_id = r.tenant_id) = 'active'
      ORDER BY row_number() OVER (PARTITION BY r.tenant_id ORDER BY r.notice_due_at), r.notice_due_at LIMIT ${limit}`,
  );
}

export async function claimNotice(vault: Vault, { tenant, secretId }: DueSecret): Promise<Notice | undefined> {
  return transaction(vault.db, [tenant], async (tx) => {
    const [row] = await tx<Omit<Notice, 'tenant' | 'secretId'>[]>`
      WITH mine AS MATERIALIZED (
        SELECT secret_id FROM rotators WHERE tenant_id = ${tenant} AND secret_id = ${secretId} AND notice_version IS NOT NULL
          AND notice_due_at <= bulla.now() FOR NO KEY UPDATE SKIP LOCKED
      )
      UPDATE rotators r SET notice_due_at = bulla.now() + make_interval(secs => ${NOTICE_CLAIM_SECONDS})
      FROM mine, secrets s
      WHERE r.tenant_id = ${tenant} AND r.secret_id = mine.secret_id AND s.tenant_id = ${tenant} AND s.secret_id = mine.secret_id
      RETURNING s.path, r.notice_version AS version, r.notice_attempts AS attempts,
                (SELECT max(version) FROM secret_versions v WHERE v.tenant_id = r.tenant_id AND v.secret_id = r.secret_id
                   AND v.version < r.notice_version) AS before,
                (SELECT v.expires_at FROM secret_versions v WHERE v.tenant_id = r.tenant_id AND v.secret_id = r.secret_id
                   AND v.version < r.notice_version ORDER BY v.version DESC LIMIT 1) AS "beforeReadableUntil"`;
    return row && { ...row, tenant, secretId };
  });
}

/** `error`: it has not been taken, and is told again later. A newer version has taken the place of one that was not told. */
export async function concludeNotice(
  vault: Vault,
  { tenant, secretId, version, attempts }: Notice,
  error: string | undefined,
): Promise<void> {
  const wait = waitSeconds(attempts + 1);
  await transaction(vault.db, [tenant], (tx) =>
    error === undefined
      ? tx`
        UPDATE rotators SET notice_version = NULL, notice_attempts = 0, notice_error = NULL
        WHERE tenant_id = ${tenant} AND secret_id = ${secretId} AND notice_version = ${version}`
      : tx`
        UPDATE rotators SET notice_attempts = notice_attempts + 1, notice_error = ${error},
               notice_due_at = bulla.now() + make_interval(secs => ${wait} * (0.5 + random() / 2))
        WHERE tenant_id = ${tenant} AND secret_id = ${secretId} AND notice_version = ${version}`,
  );
}
