/** Tokens after login: what one's own says, renewing, ending, and looking at others' by their accessor. Owns the table. */
import { type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { isName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { AccountKind, Ask, Call, TokenKind } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { lockToken } from './issue.ts';

export type TokenInfo = {
  readonly accessor: string;
  readonly kind: TokenKind;
  readonly username: string;
  readonly userId: string;
  readonly accountKind: AccountKind;
  readonly method: string;
  readonly mfa: boolean;
  /** The accessor of the token that it hangs under. */
  readonly parent: string | null;
  /** The names of the policies that it is bound to beside those of its account; null: it is not. */
  readonly bound: readonly string[] | null;
  readonly usesLeft: number | null;
  readonly cidrs: readonly string[] | null;
  /** SHA-256 of the client certificate that it is bound to, in hex. */
  readonly certificate: string | null;
  readonly periodSeconds: number | null;
  readonly renewable: boolean;
  readonly name: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly source: string;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp;
  /** Null: it is periodic, and can be renewed for ever. */
  readonly maxExpiresAt: Timestamp | null;
  /** From now to its end. */
  readonly ttlSeconds: number;
  /** From its making to the end that no renewal passes, where one was asked for. */
  readonly explicitMaxTtlSeconds: number | null;
  /** It may not even what every token may. */
  readonly withoutDefault: boolean;
  /** The token role that it was made by. */
  readonly role: string | null;
  readonly roleSuffix: string | null;
  /** From its making to its end of then. */
  readonly creationTtlSeconds: number;
  readonly renewedAt: Timestamp | null;
};

/** With the policies that count for it: its account's, those of its groups, and what its login brought. */
export type TokenWithPolicies = TokenInfo & { readonly policies: readonly string[] };

export type Self = TokenWithPolicies & {
  readonly tenant: string;
  readonly passwordChangeRequired: boolean;
};

const selfAsk = (action: 'auth.self' | 'auth.renew' | 'auth.logout') => ({ action, resource: 'token:self' }) as const;

/** What the caller's own token is. */
export async function readSelf(vault: Vault, call: Call): Promise<Self> {
  return permit(vault, call, selfAsk('auth.self'), async (tx, { tokenId, tenant }) => {
    const token = await withPolicies(tx, tenant, tokenId);
    const [row] = await tx<{ tenant: string; passwordChangeRequired: boolean }[]>`
      SELECT t.name AS tenant, u.must_change_password AS "passwordChangeRequired" FROM tokens k JOIN users u USING (tenant_id, user_id) JOIN tenants t USING (tenant_id)
      WHERE k.tenant_id = ${tenant} AND k.token_id = ${tokenId}`;
    return { value: { ...token, ...row! } };
  });
}

/**
 * Counts from now and never passes max_expires_at, nor the end of the token that it hangs under; a periodic token lasts
 * its period again. What hangs under it never outlives it: a renewal that shortens it shortens that too. Throws
 * `invalid_request` for a ttl beyond the maximum, `conflict` for a token that cannot be renewed.
 */
export async function renewToken(vault: Vault, call: Call, ttlSeconds = renewalOf(vault)): Promise<Renewed> {
  return permit(vault, call, selfAsk('auth.renew'), async (tx, { tenant, tokenId }) => {
    checkRenewal(vault, ttlSeconds);
    const value = await renew(tx, tenant, tokenId, ttlSeconds);
    if (!value) throw new VaultError('unauthenticated', 'The token has ended: log in again.');
    return { value, notes: [{ details: { expires_at: value.expiresAt } }] };
  });
}

/** The same for a token by its accessor. */
export async function renewTokenOf(
  vault: Vault,
  call: Call,
  accessor: string,
  ttlSeconds = renewalOf(vault),
): Promise<TokenWithPolicies> {
  const ask = { action: 'token.renew', resource: `token:${parseAccessor(accessor)}` } as const;
  return permit(vault, call, ask, async (tx, { tenant }) => {
    checkRenewal(vault, ttlSeconds);
    await tokenOf(tx, tenant, accessor);
    const renewed = await renew(tx, tenant, accessor, ttlSeconds);
    const value = { ...(await withPolicies(tx, tenant, accessor)), ...renewed };
    return { value, notes: [{ details: { expires_at: value.expiresAt } }] };
  });
}

export type Renewed = Pick<TokenInfo, 'accessor' | 'expiresAt' | 'maxExpiresAt' | 'ttlSeconds'>;

const renewalOf = ({ config }: Vault) => Math.min(config.tokenTtlSeconds, config.tokenMaxTtlSeconds);

function checkRenewal({ config: { tokenMaxTtlSeconds: most } }: Vault, ttlSeconds: number): void {
  if (Number.isInteger(ttlSeconds) && ttlSeconds >= 1 && ttlSeconds <= most) return;
  throw new VaultError('invalid_request', `ttl: expected from 1 second to ${most} seconds.`);
}

async function renew(tx: Tx, tenant: TenantId, tokenId: string, ttlSeconds: number): Promise<Renewed | undefined> {
  const [own] = await tx<{ parent: string | null; renewable: boolean; roleIsGone: boolean }[]>`
    SELECT parent_id AS parent, renewable, role IS NOT NULL AND NOT EXISTS (
             SELECT 1 FROM token_roles r WHERE r.tenant_id = tokens.tenant_id AND r.name = tokens.role) AS "roleIsGone"
    FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${tokenId}`;
  if (!own) return undefined;
  if (own.roleIsGone) {
    throw new VaultError('conflict', 'The role that this token was made by is gone: take another one before it ends.', {
      details: { reason: 'token_role_gone' },
    });
  }
  if (!own.renewable)
    throw new VaultError('conflict', 'This token cannot be renewed: take another one before it ends.');
  const parentEnd = own.parent === null ? null : (await lockToken(tx, tenant, own.parent))?.expiresAt;
  const [row] = await tx<Omit<Renewed, 'accessor'>[]>`
    UPDATE tokens SET renewed_at = bulla.now(), expires_at = least(bulla.now() + make_interval(secs => coalesce(period_seconds, ${ttlSeconds})),
                                         max_expires_at, ${parentEnd ?? null}::timestamptz)
    WHERE tenant_id = ${tenant} AND token_id = ${tokenId}
    RETURNING expires_at AS "expiresAt", max_expires_at AS "maxExpiresAt",
              round(extract(epoch FROM expires_at - bulla.now()))::int AS "ttlSeconds"`;
  if (!row) return undefined;
  await shortenBelow(tx, tenant, tokenId, row.expiresAt);
  return { accessor: tokenId, ...row };
}

/** By their keys (an array, not a join): a join may be planned as a walk through all that end later. */
async function shortenBelow(tx: Tx, tenant: TenantId, tokenId: string, end: Timestamp): Promise<void> {
  await tx`
    WITH RECURSIVE below AS (
      SELECT token_id, expires_at FROM tokens WHERE tenant_id = ${tenant} AND parent_id = ${tokenId}
      UNION ALL
      SELECT t.token_id, t.expires_at FROM tokens t JOIN below b ON t.parent_id = b.token_id WHERE t.tenant_id = ${tenant}
    )
    UPDATE tokens SET expires_at = least(expires_at, ${end}::timestamptz)
    WHERE tenant_id = ${tenant} AND token_id = ANY (ARRAY(SELECT token_id FROM below WHERE expires_at > ${end}::timestamptz))`;
}

/** Ends the caller's own token and all that hangs under it on every node, before the answer. */
export async function logout(vault: Vault, call: Call): Promise<void> {
  await permit(vault, call, selfAsk('auth.logout'), async (tx, { tenant, tokenId }) => {
    await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${tokenId}`;
    return { value: undefined, revokes: true };
  });
}

/** By accessor; of one account when it is named. */
export async function listTokens(
  vault: Vault,
  call: Call,
  { username, ...page }: PageAsk & { username?: string | undefined },
): Promise<Page<TokenInfo>> {
  const wanted = { action: 'token.list', resource: 'token:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      async (after, rows) => {
        const found = await tx<TokenRow[]>`
          SELECT ${tx.unsafe(COLUMNS)} FROM tokens k JOIN users u USING (tenant_id, user_id)
          WHERE k.tenant_id = ${tenant} AND k.token_id > ${after} AND k.expires_at > bulla.now()
            ${username === undefined ? tx`` : tx`AND u.name = ${username}`}
          ORDER BY k.token_id LIMIT ${rows}`;
        return found.map(infoOf);
      },
      (token) => token.accessor,
      (token) => allows({ action: 'token.list', resource: `token:${token.accessor}` }),
    ),
    notes: [username === undefined ? {} : { details: { username: isName(username) ? username : '' } }],
  }));
}

/** The logins of one account that go on, and the tokens that were made with them, by accessor. */
export async function tokensOfUser(
  tx: Tx,
  tenant: TenantId,
  userId: string,
  after: string,
  rows: number,
): Promise<TokenInfo[]> {
  const found = await tx<TokenRow[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM tokens k JOIN users u USING (tenant_id, user_id)
    WHERE k.tenant_id = ${tenant} AND k.user_id = ${userId} AND k.token_id > ${after} AND k.expires_at > bulla.now()
      AND k.kind IN ('login', 'child')
    ORDER BY k.token_id LIMIT ${rows}`;
  return found.map(infoOf);
}

/** What a token is. One's own, and what hangs under it, needs no policy. */
export async function readToken(vault: Vault, call: Call, accessor: string): Promise<TokenWithPolicies> {
  const ask = await askAbout(vault, call, accessor, 'auth.self', 'token.read');
  return permit(vault, call, ask, async (tx, { tenant }) => ({ value: await withPolicies(tx, tenant, accessor) }));
}

/** Ends a token by its accessor, and all that hangs under it. One's own, and what hangs under it, needs no policy. */
export async function revokeToken(vault: Vault, call: Call, accessor: string): Promise<void> {
  const ask = await askAbout(vault, call, accessor, 'auth.logout', 'token.revoke');
  await permit(vault, call, ask, async (tx, { tenant }) => {
    const { username } = await tokenOf(tx, tenant, accessor);
    const ended = await endToken(tx, tenant, accessor);
    return { value: undefined, notes: [{ details: { username, tokens_ended: ended } }], revokes: true };
  });
}

/**
 * Whoever holds a token may look at it and end it, and so with what it made, but for one without `default`. What is below what never changes, so it may
 * be looked up before the permit, which then finds out who is asking at all.
 */
async function askAbout(
  vault: Vault,
  { token }: Call,
  accessor: string,
  own: 'auth.self' | 'auth.logout',
  others: 'token.read' | 'token.revoke',
): Promise<Ask> {
  const resource = `token:${parseAccessor(accessor)}`;
  if (!token) return { action: others, resource };
  const tenant = token.tenantId as TenantId;
  const above = await transaction(
    vault.db,
    [tenant],
    (tx) => tx`
      WITH RECURSIVE above AS (
        SELECT token_id, parent_id FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${accessor}
        UNION ALL
        SELECT t.token_id, t.parent_id FROM tokens t JOIN above a ON t.token_id = a.parent_id WHERE t.tenant_id = ${tenant}
      )
      SELECT 1 FROM above a JOIN tokens t USING (token_id)
      WHERE token_id = ${token.tokenId} AND t.tenant_id = ${tenant} AND NOT t.without_default`,
  );
  return { action: above.length > 0 ? own : others, resource };
}

/** Ends a token and all that hangs under it; tells how many that were. */
export async function endToken(tx: Tx, tenant: TenantId, tokenId: string): Promise<number> {
  const [below] = await tx<{ count: number }[]>`
    WITH RECURSIVE below AS (
      SELECT token_id FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${tokenId}
      UNION ALL
      SELECT t.token_id FROM tokens t JOIN below b ON t.parent_id = b.token_id WHERE t.tenant_id = ${tenant}
    )
    SELECT count(*) AS count FROM below`;
  await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${tokenId}`;
  return below!.count;
}

/** Ends a token and leaves those under it, which from then on hang under none. Throws `not_found`. */
export async function revokeOrphaning(vault: Vault, call: Call, accessor: string): Promise<void> {
  const resource = `token:${parseAccessor(accessor)}`;
  const asks = [{ action: 'token.revoke', resource } as const, { action: 'token.orphan', resource } as const];
  await permit(vault, call, asks, async (tx, { tenant }) => {
    const { username } = await tokenOf(tx, tenant, accessor);
    // What bounds a token stands in its own row: it stays as narrow as it was.
    const left = await tx`
      UPDATE tokens SET parent_id = NULL, depth = 0
      WHERE tenant_id = ${tenant} AND parent_id = ${accessor} RETURNING token_id`;
    await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${accessor}`;
    return { value: undefined, notes: [{ details: { username, orphans: left.length } }], revokes: true };
  });
}

/** Ends every token of a tenant that is being deleted. */
export async function removeTokens(tx: Tx, tenant: TenantId): Promise<number> {
  const rows = await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} RETURNING token_id`;
  return rows.length;
}

export function parseAccessor(text: string): string {
  if (/^[a-z2-7]{16}$/.test(text)) return text;
  throw new VaultError('invalid_request', 'accessor: expected the 16 characters that a login answered as "accessor".');
}

const COLUMNS = `k.token_id AS accessor, k.kind, u.name AS username, u.user_id AS "userId", u.kind AS "accountKind",
  k.method, k.mfa, k.parent_id AS parent, k.bounds, k.uses_left AS "usesLeft", k.cidrs, encode(k.certificate, 'hex') AS certificate,
  k.period_seconds AS "periodSeconds", k.renewable, k.name, k.metadata, k.source, k.created_at AS "createdAt",
  k.expires_at AS "expiresAt", k.max_expires_at AS "maxExpiresAt",
  greatest(0, floor(extract(epoch FROM k.expires_at - bulla.now())))::int AS "ttlSeconds",
  k.explicit_max_ttl_seconds AS "explicitMaxTtlSeconds", k.without_default AS "withoutDefault", k.role,
  k.role_suffix AS "roleSuffix", k.renewed_at AS "renewedAt",
  coalesce(k.ttl_seconds, round(extract(epoch FROM k.expires_at - k.created_at)))::int AS "creationTtlSeconds"`;

type TokenRow = Omit<TokenInfo, 'bound' | 'metadata'> & { bounds: string[] | null; metadata: string | null };

const infoOf = ({ bounds, metadata, ...row }: TokenRow): TokenInfo => ({
  ...row,
  bound:
    bounds
      ?.at(-1)
      ?.split(' ')
      .filter((name) => name !== '') ?? null,
  metadata: metadata === null ? {} : (JSON.parse(metadata) as Record<string, string>),
});

async function tokenOf(tx: Tx, tenant: TenantId, accessor: string): Promise<TokenInfo> {
  const [row] = await tx<TokenRow[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM tokens k JOIN users u USING (tenant_id, user_id)
    WHERE k.tenant_id = ${tenant} AND k.token_id = ${accessor} AND k.expires_at > bulla.now()`;
  if (!row) throw new VaultError('not_found', 'There is no such token.');
  return infoOf(row);
}

/** One that has not ended. Throws `not_found`. */
export async function withPolicies(tx: Tx, tenant: TenantId, accessor: string): Promise<TokenWithPolicies> {
  const token = await tokenOf(tx, tenant, accessor);
  const [row] = await tx<{ policies: string[] }[]>`
    SELECT ARRAY(SELECT unnest(u.policies || k.policies) UNION
                 SELECT unnest(g.policies) FROM group_members m JOIN groups g USING (tenant_id, group_id)
                 WHERE m.tenant_id = u.tenant_id AND m.user_id = u.user_id ORDER BY 1) AS policies
    FROM tokens k JOIN users u USING (tenant_id, user_id) WHERE k.tenant_id = ${tenant} AND k.token_id = ${accessor}`;
  return { ...token, policies: row!.policies };
}
