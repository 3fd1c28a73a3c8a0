/**
 * Taking a lease of a dynamic credential.
 *
 *     1  permit: role and limits, name and password made, pending row with the credential in an envelope    commit
 *     2  the target makes the credential, within a deadline that began before 1
 *     3  active, and an entry that says how it went                                                          commit
 *     4  the holder is told
 *
 * A process that dies after 1 leaves a row that a sweeper revokes; after 2 the same, and the credential with it; after 3 a
 * lease that expires, whose holder asks again with the same Idempotency-Key and gets the same credential.
 */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { lockToken } from '../auth/issue.ts';
import { LIMITS } from '../config.ts';
import { open, seal } from '../crypto/envelope.ts';
import { randomId } from '../crypto/token.ts';
import { RetryTransaction, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { parseName } from '../db/name.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Act, type Permit, permit, withoutToken } from '../policy/permit.ts';
import { activeDataKey, dataKey, underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { type Credential, effectOf, type Prepared } from './backend.ts';
import { checkedBy } from './configuration.ts';
import { endNow } from './end.ts';
import { LEASE_COLUMNS, type LeaseInfo, leaseOf } from './lease.ts';
import { checkTtl, type Lifetime, lifetimeOf } from './lifetime.ts';
import { type Connected, connected, onTarget } from './pool.ts';
import { lockRole } from './role.ts';
import { wakeSweeper } from './wake.ts';

export type LeaseAsk = {
  /** `backend/role` */
  readonly role: string;
  readonly ttlSeconds?: number | undefined;
  /** What the backend's kind takes beside: a public key to be signed, say. */
  readonly parameters?: Readonly<Record<string, unknown>> | undefined;
  readonly idempotencyKey?: string | undefined;
};

export type CredentialLease = LeaseInfo & { readonly credential: Credential };

export type LeasePath = { readonly backend: string; readonly role: string };

/** Throws `invalid_request`. */
function parseLeasePath(text: string): LeasePath {
  const [backend = '', role = '', ...more] = text.split('/');
  if (more.length > 0 || role === '') {
    throw new VaultError('invalid_request', 'role: expected the path of a role, such as db/reporting.');
  }
  return { backend: parseName(backend, 'role'), role: parseName(role, 'role') };
}

/**
 * Throws `not_found` for a role that does not exist, `too_many_requests` beyond a limit, `conflict` when the lease or its
 * token was revoked while it was being issued, `idempotency_mismatch`, `backend_failed`.
 */
export async function takeLease(vault: Vault, call: Call, ask: LeaseAsk): Promise<CredentialLease> {
  const startedMs = vault.clock.monotonicMs();
  const path = parseLeasePath(ask.role);
  checkTtl(ask.ttlSeconds);
  const again = repeatOf(ask.idempotencyKey, [ask.role, ask.ttlSeconds, ask.parameters]);
  for (;;) {
    const taken = await begin(vault, call, ask, path, again);
    if (taken.state === 'made') return await issue(vault, call, taken, startedMs + vault.config.leaseActDeadlineMs);
    if (taken.state === 'kept') return taken.lease;
    // The same request is being answered to somebody who asked a moment ago.
    if (vault.clock.monotonicMs() - startedMs > vault.config.leaseActDeadlineMs) throw busyWithIt();
    await sleep(REPEATED_LOOK_MS);
  }
}

const REPEATED_LOOK_MS = 100;
const busyWithIt = () =>
  new VaultError('busy', 'The first request with this Idempotency-Key is still being answered; try again.', {
    retryAfterSeconds: 2,
  });

// ---- the pending row ----------------------------------------------------------------------------------------------

export type Repeat = { readonly key: Uint8Array; readonly request: Uint8Array } | undefined;

const sha256 = (text: string) => createHash('sha256').update(text).digest();

/** `request`: what must be the same for the key to mean the same lease. */
export function repeatOf(idempotencyKey: string | undefined, asked: readonly unknown[]): Repeat {
  if (idempotencyKey === undefined) return undefined;
  if (!/^[\x21-\x7e]{1,255}$/.test(idempotencyKey)) {
    throw new VaultError('invalid_request', 'Idempotency-Key: expected 1 to 255 visible ASCII characters.');
  }
  return { key: sha256(idempotencyKey), request: sha256(JSON.stringify(asked.map((one) => one ?? null))) };
}

type Made = {
  readonly state: 'made';
  readonly tenant: TenantId;
  readonly actor: Permit['actor'];
  readonly lease: LeaseInfo;
  readonly at: Connected;
  readonly settings: unknown;
  readonly prepared: Prepared;
};
type Begun = Made | { readonly state: 'kept'; readonly lease: CredentialLease } | { readonly state: 'waiting' };

async function begin(vault: Vault, call: Call, ask: LeaseAsk, path: LeasePath, repeat: Repeat): Promise<Begun> {
  const wanted = { action: 'lease.create', resource: `lease:${ask.role}` } as const;
  const begun = await permit(vault, call, wanted, (tx, granted) => beginIn(vault, tx, granted, ask, path, repeat));
  killpoint('lease.pending');
  return begun;
}

async function beginIn(
  vault: Vault,
  tx: Tx,
  granted: Permit,
  ask: LeaseAsk,
  path: LeasePath,
  repeat: Repeat,
): Promise<Act<Begun>> {
  const { tenant, actor, userId, tokenId } = granted;
  const before = repeat && (await repeated(vault, tx, granted, repeat));
  if (before === 'waiting') return { value: { state: 'waiting' }, notes: [] };
  if (before)
    return { value: { state: 'kept', lease: before }, notes: [{ lease: before.id, details: { repeated: true } }] };
  const role = await lockRole(tx, tenant, path);
  const token = await lockToken(tx, tenant, tokenId);
  if (!token) throw new VaultError('unauthenticated', 'The token has ended: log in again.');
  if (token.usesLeft !== null) throw fewUses();
  await checkLimits(vault, tx, granted, role);
  const at = await connected(vault, tx, tenant, role.backendId);
  const parameters = checkParameters(at, ask.parameters);
  const life = lifetimeOf(vault, ask.ttlSeconds, [role, role.backend]);
  const times = await timesOf(tx, life, token.maxExpiresAt);
  const leaseId = randomId();
  const holder = actor.name ?? userId;
  const prepared = at.member.prepare({
    ...{ role: role.settings, roleName: path.role, holder, leaseId, parameters },
    ...{ issuedAt: times.now, expiresAt: times.expiresAt },
  });
  const row = { leaseId, holder, roleId: role.id, backendId: role.backendId, path: ask.role, life, times, repeat };
  const lease = await insertPending(vault, tx, granted, at, prepared, row);
  const details = { handle: prepared.handle, expires_at: lease.expiresAt };
  const value = { state: 'made', tenant, actor, lease, at, settings: role.settings, prepared } as const;
  return { value, notes: [{ lease: leaseId, details }] };
}

function checkParameters(
  { member, kind }: Connected,
  given: LeaseAsk['parameters'],
): Readonly<Record<string, unknown>> {
  if (member.parameters) return checkedBy(member.parameters, given ?? {}, 'parameters') as Record<string, unknown>;
  if (given === undefined || Object.keys(given).length === 0) return {};
  throw new VaultError('invalid_request', `parameters: a backend of the kind ${kind} takes none.`);
}

/**
 * What an earlier request of the user with this key came to. A token that may do less than a login, or from elsewhere, or
 * not for so long, gets only what was taken with it. Throws `idempotency_mismatch`, and `conflict` when it has ended.
 */
export async function repeated(
  vault: Vault,
  tx: Tx,
  { tenant, userId, tokenId, asker, bounds }: Permit,
  { key, request }: NonNullable<Repeat>,
): Promise<CredentialLease | 'waiting' | undefined> {
  const [row] = await tx<
    {
      id: string;
      state: string;
      reason: string | null;
      same: boolean;
      tokenId: string;
      keyVersion: number | null;
      envelope: Uint8Array | null;
    }[]
  >`
    SELECT l.lease_id AS id, l.state, l.reason, l.request_hash = ${request} AS same, l.token_id AS "tokenId", c.key_version AS "keyVersion", c.envelope
    FROM leases l LEFT JOIN lease_credentials c USING (tenant_id, lease_id)
    WHERE l.tenant_id = ${tenant} AND l.user_id = ${userId} AND l.idempotency_key = ${key}`;
  if (!row) return undefined;
  const isWhole = asker.tokenKind === 'login' && bounds.cidrs === null && !bounds.certificate;
  if (!row.same || (!isWhole && row.tokenId !== tokenId)) {
    throw new VaultError('idempotency_mismatch', 'This Idempotency-Key was used for another lease: take a new key.');
  }
  if (row.state === 'pending' && row.reason === null) return 'waiting';
  if (row.state !== 'active' || row.envelope === null) {
    throw new VaultError('conflict', `The lease ${row.id} of this Idempotency-Key has ended: take a new key.`);
  }
  const context = { label: 'lease-credential', tenant, lease: row.id } as const;
  const opened = open(await dataKey(vault, tx, tenant, row.keyVersion!), context, row.envelope);
  const credential = JSON.parse(Buffer.from(opened).toString('utf8')) as Credential;
  return { ...(await leaseOf(tx, tenant, row.id)), credential };
}

// ---- limits -------------------------------------------------------------------------------------------------------

/** A lease ends with its token, which would be at once. */
export const fewUses = () =>
  new VaultError('conflict', 'A token with few uses takes no lease.', { details: { reason: 'few_uses' } });

/**
 * Throws `too_many_requests` when one lease more would be beyond a limit. The role's row is locked, so its is exact. `<> ''` is
 * of the indexes of those that have not ended, by path and by user (sql/0034_lookups.sql).
 */
export async function checkLimits(
  { config }: Vault,
  tx: Tx,
  { tenant, userId }: Permit,
  role: { id: string; leasesMax: number | null } | undefined,
): Promise<void> {
  const { leasesMax } = config;
  const roleMax = Math.min(role?.leasesMax ?? Infinity, leasesMax.role);
  const [row] = await tx<{ tenant: number; role: number; actor: number }[]>`
    SELECT (SELECT count(*) FROM (SELECT 1 FROM leases WHERE tenant_id = ${tenant} AND state <> 'ended' AND path <> ''
                                  LIMIT ${leasesMax.tenant}) AS l) AS tenant,
           (SELECT count(*) FROM (SELECT 1 FROM leases WHERE tenant_id = ${tenant} AND role_id = ${role?.id ?? ''} AND state <> 'ended'
                                  LIMIT ${roleMax}) AS l) AS role,
           (SELECT count(*) FROM (SELECT 1 FROM leases WHERE tenant_id = ${tenant} AND user_id = ${userId} AND user_id <> ''
                                    AND state <> 'ended'
                                  LIMIT ${leasesMax.actor}) AS l) AS actor`;
  const full =
    row!.actor >= leasesMax.actor
      ? ['You have', leasesMax.actor]
      : row!.role >= roleMax
        ? ['This role has', roleMax]
        : row!.tenant >= leasesMax.tenant
          ? ['This tenant has', leasesMax.tenant]
          : undefined;
  if (full === undefined) return;
  throw new VaultError(
    'too_many_requests',
    `${full[0]} ${full[1]} leases alive, which is the limit: revoke some or wait until they expire.`,
    {
      retryAfterSeconds: 30,
    },
  );
}

export type Times = { readonly now: Timestamp; readonly expiresAt: Timestamp; readonly maxExpiresAt: Timestamp };

/** Never beyond what the token that takes it could be renewed to. */
export async function timesOf(
  tx: Tx,
  { ttlSeconds, maxTtlSeconds }: Lifetime,
  tokenEnd: Timestamp | null,
): Promise<Times> {
  const [row] = await tx<Times[]>`
    WITH clock AS MATERIALIZED (SELECT bulla.now() AS now)
    SELECT now, least(now + make_interval(secs => ${ttlSeconds}), ${tokenEnd}::timestamptz) AS "expiresAt",
           least(now + make_interval(secs => ${maxTtlSeconds}), ${tokenEnd}::timestamptz) AS "maxExpiresAt" FROM clock`;
  return row!;
}

type NewRow = {
  readonly leaseId: string;
  readonly holder: string;
  readonly roleId: string;
  readonly backendId: string;
  readonly path: string;
  readonly life: Lifetime;
  readonly times: Times;
  readonly repeat: Repeat;
};

/** When a sweeper takes an issuing for dead: its deadline has passed, and the commit before it. */
const PENDING_SECONDS = LIMITS.leaseActDeadlineSecondsMax + 10;

async function insertPending(
  vault: Vault,
  tx: Tx,
  { tenant, userId, tokenId }: Permit,
  { member }: Connected,
  { handle, credential }: Prepared,
  { leaseId, holder, roleId, backendId, path, life, times, repeat }: NewRow,
): Promise<LeaseInfo> {
  try {
    const [lease] = await tx<LeaseInfo[]>`
      INSERT INTO leases (tenant_id, lease_id, kind, path, backend_id, role_id, handle, user_id, holder, token_id, state,
                          renewable, ttl_seconds, issued_at, expires_at, max_expires_at, due_at, idempotency_key, request_hash)
      VALUES (${tenant}, ${leaseId}, 'credential', ${path}, ${backendId}, ${roleId}, ${handle}, ${userId}, ${holder},
              ${tokenId}, 'pending', ${member.endsOnlyByExpiry !== true}, ${life.ttlSeconds}, ${times.now},
              ${times.expiresAt}, ${times.maxExpiresAt}, ${times.now}::timestamptz + make_interval(secs => ${PENDING_SECONDS}),
              ${repeat?.key ?? null}, ${repeat?.request ?? null}) RETURNING ${tx.unsafe(LEASE_COLUMNS)}`;
    await keepCredential(vault, tx, tenant, leaseId, credential);
    return lease!;
  } catch (error) {
    // The same request was there first: from the beginning.
    throw isUniqueViolation(error) ? new RetryTransaction() : error;
  }
}

/** Stores what the holder gets, for a retry with the same key. */
export async function keepCredential(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  leaseId: string,
  credential: Credential,
): Promise<void> {
  const key = await activeDataKey(vault, tx, tenant);
  await underActiveKey(tx`
    INSERT INTO lease_credentials (tenant_id, lease_id, key_version, envelope)
    VALUES (${tenant}, ${leaseId}, ${key.version}, ${sealCredential(key, tenant, leaseId, credential)})`);
}

function sealCredential(
  key: Parameters<typeof seal>[0],
  tenant: TenantId,
  lease: string,
  credential: Credential,
): Uint8Array {
  return seal(key, { label: 'lease-credential', tenant, lease }, Buffer.from(JSON.stringify(credential)));
}

// ---- the outside act ----------------------------------------------------------------------------------------------

async function issue(vault: Vault, call: Call, made: Made, untilMs: number): Promise<CredentialLease> {
  const { lease, at, settings, prepared } = made;
  let credential: Credential;
  try {
    const leftMs = untilMs - vault.clock.monotonicMs();
    credential = await onTarget(vault, at, leftMs, (limits) =>
      at.backend.issue({ ...limits, role: settings, handle: lease.handle, prepared, expiresAt: lease.expiresAt }),
    );
  } catch (error) {
    await abandon(vault, call, made, error as VaultError);
    throw error;
  }
  killpoint('lease.issued');
  const active = await activate(vault, call, made, credential);
  killpoint('lease.active');
  if (!active) {
    await endNow(vault, made.tenant, lease.id, 0);
    throw new VaultError('conflict', 'The lease was revoked while it was being issued: take another one.');
  }
  wakeSweeper(vault, active.dueInMs);
  return { ...active.lease, credential };
}

/** Undefined: it was revoked meanwhile, with its token or by itself. What was made is then due to be revoked. */
async function activate(
  vault: Vault,
  call: Call,
  { tenant, actor, lease, prepared }: Made,
  credential: Credential,
): Promise<{ lease: LeaseInfo; dueInMs: number } | undefined> {
  return withoutToken(vault, call, [tenant], async (tx) => {
    const said = { tenant, actor, action: 'lease.issue', resource: `lease:${lease.path}`, lease: lease.id } as const;
    const [active] = await tx<(LeaseInfo & { dueIn: number })[]>`
      UPDATE leases SET state = 'active', due_at = least(expires_at, token_end)
      FROM (SELECT token_id AS took, expires_at AS token_end FROM tokens
            WHERE tenant_id = ${tenant} AND expires_at > bulla.now()) k
      WHERE tenant_id = ${tenant} AND lease_id = ${lease.id} AND state = 'pending' AND reason IS NULL AND took = token_id
      RETURNING ${tx.unsafe(LEASE_COLUMNS)}, extract(epoch FROM due_at - bulla.now())::double precision AS "dueIn"`;
    if (!active) {
      await tx`
        UPDATE leases SET state = 'revoking', reason = coalesce(reason, 'token'), due_at = bulla.now()
        WHERE tenant_id = ${tenant} AND lease_id = ${lease.id} AND state = 'pending'`;
      return { value: undefined, records: [{ ...said, outcome: 'error', code: 'conflict' }] };
    }
    if (JSON.stringify(credential) !== JSON.stringify(prepared.credential)) {
      const key = await activeDataKey(vault, tx, tenant);
      await underActiveKey(tx`
        UPDATE lease_credentials SET key_version = ${key.version}, envelope = ${sealCredential(key, tenant, lease.id, credential)}
        WHERE tenant_id = ${tenant} AND lease_id = ${lease.id}`);
    }
    const { dueIn, ...info } = active;
    return { value: { lease: info, dueInMs: dueIn * 1000 }, records: [{ ...said, outcome: 'ok' }] };
  });
}

/**
 * The target has not made it, or nobody knows: then it is revoked now and once again later. The idempotency key is free
 * again either way.
 */
async function abandon(vault: Vault, call: Call, { tenant, actor, lease }: Made, error: VaultError): Promise<void> {
  const nothing = effectOf(error) !== 'unknown';
  await withoutToken(vault, call, [tenant], async (tx) => {
    if (nothing) {
      await tx`
        UPDATE leases SET state = 'ended', ended_at = bulla.now(), reason = 'failed', last_error = ${error.message},
               idempotency_key = NULL, due_at = bulla.now() + interval '24 hours'
        WHERE tenant_id = ${tenant} AND lease_id = ${lease.id} AND state = 'pending'`;
      await tx`DELETE FROM lease_credentials WHERE tenant_id = ${tenant} AND lease_id = ${lease.id}`;
    } else {
      await tx`
        UPDATE leases SET state = 'revoking', recheck = true, reason = coalesce(reason, 'failed'),
               last_error = ${error.message}, idempotency_key = NULL, due_at = bulla.now()
        WHERE tenant_id = ${tenant} AND lease_id = ${lease.id} AND state = 'pending'`;
    }
    const said = { tenant, actor, action: 'lease.issue', resource: `lease:${lease.path}`, lease: lease.id } as const;
    return { value: undefined, records: [{ ...said, outcome: 'error', code: error.code }] };
  });
  if (!nothing) wakeSweeper(vault, 0);
}
