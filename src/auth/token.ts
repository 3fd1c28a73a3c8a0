/** Tokens after login: what one's own says, renewing, ending, and looking at others' by their accessor. Owns the table. */
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';

export type TokenInfo = {
  readonly accessor: string;
  readonly username: string;
  readonly userId: string;
  readonly method: string;
  readonly source: string;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp;
  readonly maxExpiresAt: Timestamp;
};

export type Self = TokenInfo & {
  readonly tenant: string;
  readonly policies: readonly string[];
  readonly passwordChangeRequired: boolean;
};

const selfAsk = (action: 'auth.self' | 'auth.renew' | 'auth.logout') => ({ action, resource: 'token:self' }) as const;

/** What the caller's own token is. */
export async function readSelf(vault: Vault, call: Call): Promise<Self> {
  return permit(vault, call, selfAsk('auth.self'), async (tx, { tokenId, tenant }) => {
    const token = await tokenOf(tx, tenant, tokenId);
    const [row] = await tx<{ tenant: string; policies: string[]; passwordChangeRequired: boolean }[]>`
      SELECT t.name AS tenant, u.policies, u.must_change_password AS "passwordChangeRequired"
      FROM users u JOIN tenants t USING (tenant_id) WHERE u.user_id = ${token.userId}`;
    return { value: { ...token, ...row! } };
  });
}

/** Counts from now and never passes max_expires_at. Throws `invalid_request` for a ttl beyond the maximum. */
export async function renewToken(
  vault: Vault,
  call: Call,
  ttlSeconds: number = Math.min(vault.config.tokenTtlSeconds, vault.config.tokenMaxTtlSeconds),
): Promise<Pick<TokenInfo, 'accessor' | 'expiresAt' | 'maxExpiresAt'>> {
  const most = vault.config.tokenMaxTtlSeconds;
  return permit(vault, call, selfAsk('auth.renew'), async (tx, { tenant, tokenId }) => {
    if (!Number.isInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > most) {
      throw new VaultError('invalid_request', `ttl: expected from 1 second to ${most} seconds.`);
    }
    const [row] = await tx<{ expiresAt: Timestamp; maxExpiresAt: Timestamp }[]>`
      UPDATE tokens SET expires_at = least(bulla.now() + make_interval(secs => ${ttlSeconds}), max_expires_at)
      WHERE tenant_id = ${tenant} AND token_id = ${tokenId} RETURNING expires_at AS "expiresAt", max_expires_at AS "maxExpiresAt"`;
    if (!row) throw new VaultError('unauthenticated', 'The token has ended: log in again.');
    return { value: { accessor: tokenId, ...row }, notes: [{ details: { expires_at: row.expiresAt } }] };
  });
}

/** Ends the caller's own token on every node, before the answer. */
export async function logout(vault: Vault, call: Call): Promise<void> {
  await permit(vault, call, selfAsk('auth.logout'), async (tx, { tenant, tokenId }) => {
    await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${tokenId}`;
    return { value: undefined, revokes: true };
  });
}

export async function readToken(vault: Vault, call: Call, accessor: string): Promise<TokenInfo> {
  const ask = { action: 'token.read', resource: `token:${parseAccessor(accessor)}` } as const;
  return permit(vault, call, ask, async (tx, { tenant }) => ({ value: await tokenOf(tx, tenant, accessor) }));
}

/** Ends a token by its accessor. */
export async function revokeToken(vault: Vault, call: Call, accessor: string): Promise<void> {
  const ask = { action: 'token.revoke', resource: `token:${parseAccessor(accessor)}` } as const;
  await permit(vault, call, ask, async (tx, { tenant }) => {
    const { username } = await tokenOf(tx, tenant, accessor);
    await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${accessor}`;
    return { value: undefined, notes: [{ details: { username } }], revokes: true };
  });
}

/** Ends every token of a tenant that is being deleted. */
export async function removeTokens(tx: Tx, tenant: TenantId): Promise<number> {
  const rows = await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} RETURNING token_id`;
  return rows.length;
}

function parseAccessor(text: string): string {
  if (/^[a-z2-7]{16}$/.test(text)) return text;
  throw new VaultError('invalid_request', 'accessor: expected the 16 characters that a login answered as "accessor".');
}

async function tokenOf(tx: Tx, tenant: TenantId, accessor: string): Promise<TokenInfo> {
  const [row] = await tx<TokenInfo[]>`
    SELECT k.token_id AS accessor, u.name AS username, u.user_id AS "userId", k.method, k.source,
           k.created_at AS "createdAt", k.expires_at AS "expiresAt", k.max_expires_at AS "maxExpiresAt"
    FROM tokens k JOIN users u USING (tenant_id, user_id)
    WHERE k.tenant_id = ${tenant} AND k.token_id = ${accessor} AND k.expires_at > bulla.now()`;
  if (!row) throw new VaultError('not_found', 'There is no such token.');
  return row;
}
