/**
 * Access to one stored secret, as a lease: a token that reads just that secret, so often, until then. For wrapping a first
 * credential, and for sharing with a person.
 *
 * The token hangs under the one that took the lease, so it reads nothing that its maker may not read, and ends with it.
 * Who shows one that is used up, expired or revoked is told what everybody is told, and the log names it: somebody else
 * has been there first.
 */
import { issueToken } from '../auth/issue.ts';
import { randomId } from '../crypto/token.ts';
import { RetryTransaction, type Timestamp } from '../db/database.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { SecretPath } from '../secret/path.ts';
import type { Vault } from '../vault.ts';
import { checkLimits, keepCredential, repeated, repeatOf } from './issue.ts';
import { LEASE_COLUMNS, type LeaseInfo } from './lease.ts';
import { checkTtl, lifetimeOf } from './lifetime.ts';
import { wakeSweeper } from './wake.ts';

export type AccessAsk = {
  readonly secret: SecretPath;
  readonly ttlSeconds?: number | undefined;
  /** How often it may be read; absent: any number. */
  readonly uses?: number | undefined;
  readonly idempotencyKey?: string | undefined;
};

export type AccessLease = LeaseInfo & { readonly token: string };

const USES_MAX = 1_000_000;

/** The caller must be allowed to read the secret, and to take leases on its path. The secret need not be there yet. */
export async function takeAccess(vault: Vault, call: Call, ask: AccessAsk): Promise<AccessLease> {
  const { secret, ttlSeconds, uses } = ask;
  checkTtl(ttlSeconds);
  const repeat = repeatOf(ask.idempotencyKey, ['secret', secret, ttlSeconds, uses]);
  if (uses !== undefined && !(Number.isSafeInteger(uses) && uses >= 1 && uses <= USES_MAX)) {
    throw new VaultError('invalid_request', `uses: expected a whole number from 1 to ${USES_MAX}.`);
  }
  const asks = [
    { action: 'lease.create', resource: `lease:${secret}` },
    { action: 'secret.read', resource: `secret:${secret}` },
  ] as const;
  const taken = await permit(vault, call, asks, async (tx, granted) => {
    const { tenant, actor, userId, tokenId } = granted;
    const before = repeat && (await repeated(vault, tx, granted, repeat));
    if (before && before !== 'waiting') {
      const { credential, ...lease } = before;
      const value = { ...lease, token: String(credential.token) };
      return { value, notes: [{ lease: lease.id, details: { repeated: true } }] };
    }
    await checkLimits(vault, tx, granted, undefined);
    const leaseId = randomId();
    const life = lifetimeOf(vault, ttlSeconds, []);
    const issued = await issueToken(vault, tx, tenant, {
      ...{ kind: 'lease', parent: tokenId, source: call.source, renewable: false, name: `lease ${leaseId}` },
      ...{ ttlSeconds: life.ttlSeconds, maxTtlSeconds: life.ttlSeconds, uses },
      grant: { rules: [{ effect: 'allow', actions: ['secret.read'], resources: [`secret:${secret}`] }] },
    });
    const [lease] = await onceForKey(tx<LeaseInfo[]>`
      INSERT INTO leases (tenant_id, lease_id, kind, path, handle, user_id, holder, token_id, state, renewable, ttl_seconds,
                          issued_at, expires_at, max_expires_at, due_at, idempotency_key, request_hash)
      VALUES (${tenant}, ${leaseId}, 'access', ${secret}, ${issued.accessor}, ${userId}, ${actor.name ?? userId}, ${tokenId},
              'active', false, ${life.ttlSeconds}, bulla.now(), ${issued.expiresAt}, ${issued.expiresAt}, ${issued.expiresAt},
              ${repeat?.key ?? null}, ${repeat?.request ?? null})
      RETURNING ${tx.unsafe(LEASE_COLUMNS)}`);
    if (repeat) await keepCredential(vault, tx, tenant, leaseId, { token: issued.token });
    const value = { ...lease!, token: issued.token };
    const details = {
      accessor: issued.accessor,
      expires_at: issued.expiresAt,
      ...(uses === undefined ? {} : { uses }),
    };
    return { value, notes: [{ lease: leaseId, details }] };
  });
  wakeSweeper(vault, secondsUntil(taken.expiresAt, taken.issuedAt) * 1000);
  return taken;
}

/** The same request was there first: from the beginning, which finds what it made. */
async function onceForKey<T>(query: PromiseLike<T>): Promise<T> {
  try {
    return await query;
  } catch (error) {
    throw isUniqueViolation(error) ? new RetryTransaction() : error;
  }
}

const secondsUntil = (end: Timestamp, start: Timestamp) => (Date.parse(end) - Date.parse(start)) / 1000;
