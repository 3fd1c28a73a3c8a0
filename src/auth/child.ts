/**
 * Making a token from another, by itself or by a token role: whatever is asked for, it is no stronger than the one that it
 * is made with.
 */
import { type Details, detailsNaming } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import type { Tx } from '../db/database.ts';
import { isName, parseName } from '../db/name.ts';
import { VaultError } from '../errors.ts';
import type { Ask, Call } from '../policy/access.ts';
import { checkGiven } from '../policy/give.ts';
import { type Permit, permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { type IssuedToken, issueToken } from './issue.ts';
import { type TokenWithPolicies, withPolicies } from './token.ts';
import { checkCidrs, checkExplicitMaxTtl, checkMetadata } from './token-limit.ts';
import { lockTokenRole, type TokenRole, wishBy } from './token-role.ts';
import { checkPolicies, requirePolicies } from './user.ts';

/** What whoever makes a child token asks for. Whatever it is, the child is no stronger than the token it is made with. */
export type ChildWish = {
  readonly ttlSeconds?: number | undefined;
  readonly periodSeconds?: number | undefined;
  /** No renewal passes it, of a periodic token neither. */
  readonly explicitMaxTtlSeconds?: number | undefined;
  readonly renewable?: boolean | undefined;
  readonly policies?: readonly string[] | undefined;
  readonly uses?: number | undefined;
  readonly cidrs?: readonly string[] | undefined;
  readonly name?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** It outlives the token that it is made with: that takes a leave of its own, `token.orphan`. */
  readonly orphan?: boolean | undefined;
  /** It may not even what every token may. */
  readonly withoutDefault?: boolean | undefined;
  /** Policies that give more than the caller has are refused, where else the child has of them what the caller has. */
  readonly policiesHeld?: boolean | undefined;
};

export type NewChild = IssuedToken & TokenWithPolicies;

/**
 * Makes a token that hangs under the caller's own; by a token role, if one is named, whose leave is one of its own:
 * `token.create` on `token:role/<name>`. Throws `not_found` for a role, `invalid_request` for a policy that does
 * not exist, for what the role does not allow, networks beyond the caller's, or both a ttl and a period; `conflict` for a
 * token that makes no other; `forbidden` for policies that are to be held and are not, and for an orphan without the leave.
 */
export async function createToken(vault: Vault, call: Call, wish: ChildWish, roleName?: string): Promise<NewChild> {
  checkWish(vault, wish);
  const resource = roleName === undefined ? 'token:child' : `token:role/${parseName(roleName, 'role')}`;
  const ask = { action: 'token.create', resource } as const;
  const orphaning = { action: 'token.orphan', resource } as const;
  return permit(vault, call, wish.orphan ? [ask, orphaning] : ask, async (tx, granted) => {
    const role = roleName === undefined ? undefined : await lockTokenRole(tx, granted.tenant, roleName);
    const given = role ? wishBy(role, wish, await granted.namesHeld(tx)) : wish;
    if (given.orphan && !granted.allows(orphaning)) throw notAllowed(orphaning);
    const { value, said } = await make(vault, tx, call, granted, given, role);
    const details = detailsNaming(said, { policies: given.policies, cidrs: given.cidrs });
    return { value, notes: details.map((one) => ({ details: one })) };
  });
}

async function make(
  vault: Vault,
  tx: Tx,
  call: Call,
  granted: Permit,
  { policiesHeld, policies, ...limits }: ChildWish,
  role: TokenRole | undefined,
): Promise<{ value: NewChild; said: Details }> {
  const { tenant, tokenId } = granted;
  const bound = policies && checkPolicies(policies);
  if (bound) await requirePolicies(tx, tenant, bound);
  if (bound && policiesHeld) await checkGiven(tx, granted, { before: [], after: await notNamed(tx, granted, bound) });
  const by = role && { name: role.name, suffix: role.suffix };
  const issued = await issueToken(vault, tx, tenant, {
    ...{ ...limits, bound, parent: tokenId, source: call.source, role: by },
  });
  const value = { ...(await withPolicies(tx, tenant, issued.accessor)), ...issued };
  const { uses, name, orphan, withoutDefault } = limits;
  const said = {
    accessor: issued.accessor,
    expires_at: issued.expiresAt,
    ...(role === undefined ? {} : { role: role.name }),
    ...(uses === undefined ? {} : { uses }),
    ...(name === undefined ? {} : { name }),
    ...(orphan ? { orphan } : {}),
    ...(withoutDefault ? { without_default: true } : {}),
  };
  return { value, said };
}

function notAllowed({ action, resource }: Ask): VaultError {
  return new VaultError(
    'forbidden',
    `No policy allows ${action} on ${resource}: a role makes no orphans for who may make none.`,
    { details: { action, resource } },
  );
}

/** Those that the caller does not hold by their name: what these give is to be compared. */
async function notNamed(tx: Tx, granted: Permit, policies: readonly string[]): Promise<string[]> {
  const held = await granted.namesHeld(tx);
  return policies.filter((name) => !held.has(name));
}

function checkWish(
  { config }: Vault,
  { ttlSeconds, periodSeconds, explicitMaxTtlSeconds, uses, cidrs, name, metadata = {}, policies }: ChildWish,
): void {
  const refuse = (text: string) => {
    throw new VaultError('invalid_request', text);
  };
  const most = config.tokenMaxTtlSeconds;
  if (ttlSeconds !== undefined && periodSeconds !== undefined) refuse('Give either ttl or period, not both.');
  for (const [field, seconds] of [['ttl', ttlSeconds] as const, ['period', periodSeconds] as const]) {
    if (seconds !== undefined && (seconds < 1 || seconds > most))
      refuse(`${field}: expected from 1 second to ${most} seconds.`);
  }
  if (uses !== undefined && !(Number.isInteger(uses) && uses >= 1 && uses <= LIMITS.tokenUsesMax)) {
    refuse(`uses: expected a whole number from 1 to ${LIMITS.tokenUsesMax}.`);
  }
  if (explicitMaxTtlSeconds !== undefined) checkExplicitMaxTtl(explicitMaxTtlSeconds);
  if (policies) checkPolicies(policies);
  checkCidrs(cidrs);
  if (name !== undefined && !isName(name)) {
    refuse('name: expected 1 to 63 of a–z, 0–9, dot, underscore and hyphen, starting with a letter or digit.');
  }
  checkMetadata(metadata);
}
