/**
 * One's own sessions: every login that goes on and every token made with one, wherever they are. Seen and ended by the
 * token of a login, without any policy; a token that was made for a program sees none but itself.
 */
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { requireLogin } from './second-factor.ts';
import { endToken, parseAccessor, type TokenInfo, tokensOfUser } from './token.ts';

export type Session = TokenInfo & {
  /** The one that asks. */
  readonly current: boolean;
};

/** By accessor. */
export async function listSessions(vault: Vault, call: Call, page: PageAsk): Promise<Page<Session>> {
  const ask = { action: 'auth.session-list', resource: 'user:self' } as const;
  return permit(vault, call, ask, async (tx, permission) => {
    requireLogin(permission);
    const { tenant, userId, tokenId } = permission;
    const read = async (after: string, rows: number) =>
      (await tokensOfUser(tx, tenant, userId, after, rows)).map((token) => ({
        ...token,
        current: token.accessor === tokenId,
      }));
    return {
      value: await visiblePage(
        page,
        read,
        (session) => session.accessor,
        () => true,
      ),
    };
  });
}

/** Ends one of one's own sessions, with all that hangs under it. Another's is answered as one that is not there. */
export async function endSession(vault: Vault, call: Call, accessor: string): Promise<void> {
  const ask = { action: 'auth.session-end', resource: `token:${parseAccessor(accessor)}` } as const;
  await permit(vault, call, ask, async (tx, permission) => {
    requireLogin(permission);
    const { tenant, userId } = permission;
    const [own] = await tx`
      SELECT 1 FROM tokens
      WHERE tenant_id = ${tenant} AND token_id = ${accessor} AND user_id = ${userId} AND expires_at > bulla.now()`;
    if (!own) throw new VaultError('not_found', 'You have no such session.');
    const ended = await endToken(tx, tenant, accessor);
    return { value: undefined, notes: [{ details: { tokens_ended: ended } }], revokes: true };
  });
}

/** Ends all of one's own but the one that asks; tells how many. */
export async function endOtherSessions(vault: Vault, call: Call): Promise<number> {
  const ask = { action: 'auth.session-end', resource: 'user:self' } as const;
  return permit(vault, call, ask, async (tx, permission) => {
    requireLogin(permission);
    const { tenant, userId, tokenId } = permission;
    const ended = await tx`
      DELETE FROM tokens
      WHERE tenant_id = ${tenant} AND user_id = ${userId} AND token_id <> ${tokenId} AND parent_id IS NULL
        AND expires_at > bulla.now()`;
    return { value: ended.count, notes: [{ details: { sessions_ended: ended.count } }], revokes: true };
  });
}
