/**
 * Issuing a token, of whatever kind: the one place that writes the table tokens' rows.
 *
 * Only the hash of its secret is stored. A token that hangs under another is of the same account, and takes over all
 * that bounds it: bounds, grants, networks, certificate and second factor are copied into its own row, where they never
 * change, so that the gate decides from one row. It ends with its parent: by the foreign key when that is ended, and
 * because its end is never later.
 */
import { LIMITS } from '../config.ts';
import { mintToken } from '../crypto/token.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { assert, VaultError } from '../errors.ts';
import type { TokenKind } from '../policy/access.ts';
import { isAmong } from '../policy/cidr.ts';
import type { PolicyDocument } from '../policy/policy.ts';
import type { Vault } from '../vault.ts';
import type { ShownCertificate, ShownSecret } from './method.ts';

/** What a token may not be beyond its account and its parent. Nothing here ever widens. */
export type TokenLimits = {
  /** The shorter of this and what the configuration says, unless it is periodic. */
  readonly ttlSeconds?: number | undefined;
  readonly maxTtlSeconds?: number | undefined;
  /** The same for periodic tokens too: whatever renews it, it ends by then. */
  readonly explicitMaxTtlSeconds?: number | undefined;
  /** Each renewal lasts this long; without a parent that ends, they go on for ever. */
  readonly periodSeconds?: number | undefined;
  readonly renewable?: boolean | undefined;
  /** Names of policies, one of which must allow what the account's allow too. */
  readonly bound?: readonly string[] | undefined;
  /** A document that must allow it too. Compiled by whoever gives it. */
  readonly grant?: PolicyDocument | undefined;
  /** How many acts it does. */
  readonly uses?: number | undefined;
  /** Canonical networks that it may be used from. */
  readonly cidrs?: readonly string[] | undefined;
  /** It may not even what every token may: look at itself, renew and end itself, keep and wrap things. */
  readonly withoutDefault?: boolean | undefined;
};

export type NewToken = TokenLimits & {
  readonly source: string;
  readonly kind?: TokenKind | undefined;
  /** Shown with the accessor. */
  readonly name?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
} & (
    | {
        /** The accessor of the token that this one hangs under; it is of the same account. */
        readonly parent: string;
        /** It takes over all that bounds that token, and outlives it. */
        readonly orphan?: boolean | undefined;
        /** The token role that it is made by, and the end of the path that it shows. */
        readonly role?: { readonly name: string; readonly suffix: string | null } | undefined;
      }
    | {
        readonly userId: string;
        /** How its holder was proven: `password`, `service`, `jwt` … */
        readonly method: string;
        readonly mfa?: boolean | undefined;
        /** Policies that come with this login, beside those of the account. */
        readonly policies?: readonly string[] | undefined;
        /** What it was given for: it ends no later than that does. */
        readonly certificate?: ShownCertificate | undefined;
        readonly clientSecret?: ShownSecret | undefined;
        readonly loginRole?: string | undefined;
      }
  );

export type IssuedToken = {
  /** Shown to its holder once. */
  readonly token: string;
  readonly accessor: string;
  readonly expiresAt: Timestamp;
  readonly maxExpiresAt: Timestamp | null;
  /** From its making to its end. */
  readonly ttlSeconds: number;
};

/** What a new token takes over: from its login, or from its parent. */
type Basis = {
  readonly userId: string;
  readonly method: string;
  readonly mfa: boolean;
  readonly depth: number;
  readonly policies: readonly string[];
  readonly bounds: readonly string[];
  readonly grants: readonly string[];
  readonly cidrs: readonly string[] | null;
  readonly certificate: Uint8Array | null;
  readonly usesLeft: number | null;
  readonly withoutDefault: boolean;
  readonly clientSecretId: string | null;
  readonly loginRoleId: string | null;
  readonly expiresAt: Timestamp | null;
  readonly maxExpiresAt: Timestamp | null;
};

/**
 * The caller has decided and records. Throws `unauthenticated` when the parent has ended, `conflict` for a parent that
 * may have no child, `invalid_request` for networks beyond the parent's.
 */
export async function issueToken(vault: Vault, tx: Tx, tenant: TenantId, wanted: NewToken): Promise<IssuedToken> {
  const parent = 'parent' in wanted && !wanted.orphan ? wanted.parent : null;
  const basis = 'parent' in wanted ? await basisUnder(tx, tenant, wanted.parent, wanted.orphan) : basisOf(wanted);
  await removeEnded(tx, tenant, basis.userId);
  const { token, tokenId, secretHash } = mintToken(tenant);
  // What was made from a token proves nobody, whether it outlives that token or not.
  const { kind = 'parent' in wanted ? 'child' : 'login', bound, grant, periodSeconds = null } = wanted;
  const { ttl, maxTtl, explicit } = lifetimes(vault, wanted);
  const role = 'parent' in wanted ? wanted.role : undefined;
  const bounds = bound ? boundsWith(basis.bounds, bound.join(' ')) : basis.bounds;
  const grants = grant ? [...basis.grants, JSON.stringify(grant)] : basis.grants;
  const [row] = await tx<Pick<IssuedToken, 'expiresAt' | 'maxExpiresAt' | 'ttlSeconds'>[]>`
    WITH clock AS MATERIALIZED (SELECT bulla.now() AS now), ends AS MATERIALIZED (
      SELECT now, least(now + make_interval(secs => ${maxTtl}), ${basis.maxExpiresAt}::timestamptz) AS max_expires_at
      FROM clock
    )
    INSERT INTO tokens (tenant_id, token_id, secret_hash, user_id, method, source, created_at, expires_at, max_expires_at,
                        kind, parent_id, depth, mfa, policies, bounds, grants, uses_left, cidrs, period_seconds, renewable,
                        certificate, client_secret_id, login_role_id, name, metadata, explicit_max_ttl_seconds,
                        without_default, role, role_suffix, ttl_seconds)
    SELECT ${tenant}, ${tokenId}, ${secretHash}, ${basis.userId}, ${basis.method}, ${wanted.source}, now,
           expires_at, max_expires_at,
           ${kind}, ${parent}, ${basis.depth}, ${basis.mfa}, ${[...basis.policies]}, ${listOrNull(bounds)},
           ${listOrNull(grants)}, ${wanted.uses ?? null}, ${listOrNull(narrowed(basis.cidrs, wanted.cidrs))},
           ${periodSeconds}, ${wanted.renewable ?? true}, ${basis.certificate}, ${basis.clientSecretId},
           ${basis.loginRoleId}, ${wanted.name ?? null}, ${wanted.metadata ? JSON.stringify(wanted.metadata) : null},
           ${explicit}, ${basis.withoutDefault || (wanted.withoutDefault ?? false)}, ${role?.name ?? null}, ${role?.suffix ?? null},
           round(extract(epoch FROM expires_at - now))::int
    FROM ends, LATERAL (
      SELECT least(now + make_interval(secs => ${ttl}), max_expires_at, ${basis.expiresAt}::timestamptz) AS expires_at) life
    RETURNING tokens.expires_at AS "expiresAt", tokens.max_expires_at AS "maxExpiresAt",
              tokens.ttl_seconds AS "ttlSeconds"`;
  return { token, accessor: tokenId, ...row! };
}

/**
 * A session that goes on under a new token, which has shown a second factor; all else of it stays as it is. The old one
 * ends, with all that hangs under it; with `alone`, so do all the other tokens of its account.
 */
export async function reissueToken(
  tx: Tx,
  tenant: TenantId,
  tokenId: string,
  { alone }: { readonly alone: boolean },
): Promise<IssuedToken> {
  const { token, tokenId: accessor, secretHash } = mintToken(tenant);
  const [row] = await tx<(Omit<IssuedToken, 'token' | 'accessor'> & { userId: string })[]>`
    INSERT INTO tokens (tenant_id, token_id, secret_hash, user_id, method, source, created_at, expires_at, max_expires_at,
                        kind, parent_id, depth, mfa, policies, bounds, grants, uses_left, cidrs, period_seconds, renewable,
                        certificate, client_secret_id, login_role_id, name, metadata, explicit_max_ttl_seconds,
                        without_default, role, role_suffix, ttl_seconds, renewed_at)
    SELECT tenant_id, ${accessor}, ${secretHash}, user_id, method, source, bulla.now(), expires_at, max_expires_at,
           kind, parent_id, depth, true, policies, bounds, grants, uses_left, cidrs, period_seconds, renewable,
           certificate, client_secret_id, login_role_id, name, metadata, explicit_max_ttl_seconds,
           without_default, role, role_suffix, round(extract(epoch FROM expires_at - bulla.now()))::int, NULL
    FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${tokenId} AND expires_at > bulla.now()
    RETURNING expires_at AS "expiresAt", max_expires_at AS "maxExpiresAt", user_id AS "userId",
              round(extract(epoch FROM expires_at - created_at))::int AS "ttlSeconds"`;
  if (!row) throw new VaultError('unauthenticated', 'The token has ended: log in again.');
  const { userId, ...ends } = row;
  await tx`
    DELETE FROM tokens WHERE tenant_id = ${tenant} AND token_id <> ${accessor}
      AND ${alone ? tx`user_id = ${userId}` : tx`token_id = ${tokenId}`}`;
  return { token, accessor, ...ends };
}

function basisOf(login: Extract<NewToken, { userId: string }>): Basis {
  const { userId, method, mfa = false, policies = [], certificate, clientSecret, loginRole = null } = login;
  const end = (clientSecret ?? certificate)?.expiresAt ?? null;
  return {
    ...{ userId, method, mfa, policies, certificate: certificate?.thumbprint ?? null, withoutDefault: false },
    ...{ depth: 0, bounds: [], grants: [], cidrs: null, usesLeft: null },
    ...{ clientSecretId: clientSecret?.id ?? null, loginRoleId: loginRole, expiresAt: end, maxExpiresAt: end },
  };
}

async function basisUnder(tx: Tx, tenant: TenantId, parent: string, orphan = false): Promise<Basis> {
  const basis = await lockToken(tx, tenant, parent);
  if (!basis) throw new VaultError('unauthenticated', 'The token has ended: log in again.');
  if (basis.usesLeft !== null) {
    throw new VaultError('conflict', 'A token with few uses makes no other: use the one that it was made from.');
  }
  if (basis.depth >= LIMITS.tokenDepthMax) {
    throw new VaultError('conflict', `At most ${LIMITS.tokenDepthMax} tokens hang under one another.`);
  }
  // An orphan outlives its parent, and never the client secret or the certificate that both were given for.
  if (orphan) {
    const proofEnds = basis.clientSecretId !== null || basis.certificate !== null;
    return { ...basis, depth: 0, expiresAt: null, maxExpiresAt: proofEnds ? basis.maxExpiresAt : null };
  }
  return { ...basis, depth: basis.depth + 1 };
}

/** A token that is alive, kept from ending or becoming shorter until the transaction has committed. */
export async function lockToken(tx: Tx, tenant: TenantId, tokenId: string): Promise<Basis | undefined> {
  const [row] = await tx<Basis[]>`
    SELECT user_id AS "userId", method, mfa, depth, policies, coalesce(bounds, '{}') AS bounds,
           coalesce(grants, '{}') AS grants, cidrs, certificate, uses_left AS "usesLeft",
           without_default AS "withoutDefault", client_secret_id AS "clientSecretId", login_role_id AS "loginRoleId",
           expires_at AS "expiresAt", max_expires_at AS "maxExpiresAt"
    FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${tokenId} AND expires_at > bulla.now() FOR SHARE`;
  return row;
}

/** Its own is the last. Those of a chain of orphans are limited too: the gate looks at all of them with every request. */
function boundsWith(above: readonly string[], own: string): readonly string[] {
  const bounds = [...above.filter((bound) => bound !== own), own];
  if (bounds.length <= BOUNDS_MAX) return bounds;
  throw new VaultError(
    'conflict',
    `A token is bound at most ${BOUNDS_MAX} times: make it from one that is bound less.`,
  );
}

/** A login's and those of the tokens under it. */
const BOUNDS_MAX = 1 + LIMITS.tokenDepthMax;

type Lifetimes = { readonly ttl: number; readonly maxTtl: number | null; readonly explicit: number | null };

/** A periodic token has no end of its own beyond its period; any other has both, and neither is beyond the configured. */
function lifetimes({ config }: Vault, wanted: TokenLimits): Lifetimes {
  const { periodSeconds, ttlSeconds = config.tokenTtlSeconds, maxTtlSeconds, explicitMaxTtlSeconds } = wanted;
  if (periodSeconds !== undefined) {
    const maxTtl = leastOf(maxTtlSeconds, explicitMaxTtlSeconds) ?? null;
    return { ttl: periodSeconds, maxTtl, explicit: explicitMaxTtlSeconds ?? null };
  }
  const most = config.tokenMaxTtlSeconds;
  const maxTtl = leastOf(maxTtlSeconds, explicitMaxTtlSeconds, most)!;
  const explicit = explicitMaxTtlSeconds === undefined ? null : Math.min(explicitMaxTtlSeconds, most);
  return { ttl: Math.min(ttlSeconds, maxTtl), maxTtl, explicit };
}

/** Of those that are given. */
export function leastOf(...numbers: readonly (number | undefined)[]): number | undefined {
  const given = numbers.filter((number) => number !== undefined);
  return given.length === 0 ? undefined : Math.min(...given);
}

/** A child's networks lie within its parent's, so that the child's own say all. */
function narrowed(parents: readonly string[] | null, own: readonly string[] | undefined): readonly string[] | null {
  assert(own?.length !== 0, 'a token that may be used from nowhere is not issued');
  if (own === undefined || parents === null) return own ?? parents;
  for (const text of own) {
    if (!isAmong(text, parents)) {
      throw new VaultError('invalid_request', `cidrs: ${text} reaches beyond the networks of the token that you show.`);
    }
  }
  return own;
}

const listOrNull = (list: readonly string[] | null) => (list === null || list.length === 0 ? null : [...list]);

const ENDED_AT_ONCE = 100;

/**
 * What has ended of an account goes with its next token, so that its rows stay as many as its tokens of a day. Those of
 * leases go with their lease: until then, whoever shows one that is used up is known.
 */
async function removeEnded(tx: Tx, tenant: TenantId, userId: string): Promise<void> {
  await tx`
    WITH ended AS MATERIALIZED (
      SELECT token_id FROM tokens
      WHERE tenant_id = ${tenant} AND user_id = ${userId} AND expires_at <= (SELECT bulla.now()) AND kind <> 'lease'
      ORDER BY expires_at LIMIT ${ENDED_AT_ONCE} FOR UPDATE SKIP LOCKED)
    DELETE FROM tokens t USING ended e WHERE t.tenant_id = ${tenant} AND t.token_id = e.token_id`;
}

/** Lets tokens do nothing any more. They stay, so that whoever shows one is known. */
export async function endTokens(tx: Tx, tenant: TenantId, tokenIds: readonly string[]): Promise<void> {
  await tx`UPDATE tokens SET uses_left = 0 WHERE tenant_id = ${tenant} AND token_id = ANY (${[...tokenIds]})`;
}

/** Removes tokens, and what hangs under them. */
export async function deleteTokens(tx: Tx, tenant: TenantId, tokenIds: readonly string[]): Promise<void> {
  if (tokenIds.length === 0) return;
  await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND token_id = ANY (${[...tokenIds]})`;
}
