/**
 * The rule of giving, where it is kept: whoever changes what an account, a group or a policy may do calls this in the
 * transaction that makes the change, before it.
 *
 * What may be given is grant.ts's. Beside it, a policy whose holders approve what others do is itself something to
 * hold: whoever could hand it to a friend would need no second person. Refusals are `forbidden` and are recorded as
 * denials.
 */
import type { Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { type Change, changeOf, holdsEverything, notHeld } from './grant.ts';
import type { Permit } from './permit.ts';
import type { PolicyDocument } from './policy.ts';

/** Names of policies that somebody holds now, and shall hold. The policies stay as they are until the commit. */
export async function checkGiven(
  tx: Tx,
  permit: Permit,
  { before, after }: { readonly before: readonly string[]; readonly after: readonly string[] },
): Promise<void> {
  const added = after.filter((name) => !before.includes(name));
  const removed = before.filter((name) => !after.includes(name));
  if (added.length === 0 && removed.length === 0) return;
  const rows = await tx<{ name: string; document: string }[]>`
    SELECT name, document FROM policies
    WHERE tenant_id = ${permit.tenant} AND name = ANY (${[...before, ...after]}) ORDER BY name FOR SHARE`;
  const documentOf = new Map(rows.map(({ name, document }) => [name, JSON.parse(document) as PolicyDocument]));
  const documents = (names: readonly string[]) => names.flatMap((name) => documentOf.get(name) ?? []);
  checkChange(permit, changeOf(documents(before), documents(after)));
  await checkApprovers(tx, permit, added);
}

/**
 * The same for each of these lists by itself, where somebody may come by one of them alone: a deny of another list is none
 * of theirs.
 */
export async function checkEachGiven(tx: Tx, permit: Permit, lists: readonly (readonly string[])[]): Promise<void> {
  const each = new Map(lists.map((names) => [[...names].sort().join(' '), names]));
  for (const names of each.values()) await checkGiven(tx, permit, { before: [], after: names });
}

/** The same for the rules of a policy. */
export function checkChange({ held }: Permit, change: Change): void {
  const missing = notHeld(held, change);
  if (!missing) return;
  const { action, resource } = missing;
  throw new VaultError(
    'forbidden',
    `Nobody gives what they do not hold: you are not allowed ${action} on all of ${resource} yourself.`,
    { details: { action, resource, reason: 'not_held' } },
  );
}

/**
 * Whether the caller holds all that each of these accounts may do: to set its password, to make a secret that logs in as
 * it, or to say who proves to be it, is to become it. One's own account is one's own, but for a token that may do less
 * than its account.
 */
export async function checkTakeover(tx: Tx, permit: Permit, userIds: readonly string[]): Promise<void> {
  const others = permit.held.length === 1 ? userIds.filter((id) => id !== permit.userId) : userIds;
  const rows = await tx<{ names: string[] }[]>`
    SELECT DISTINCT ARRAY(
      SELECT unnest(u.policies)
      UNION SELECT unnest(g.policies) FROM group_members m JOIN groups g USING (tenant_id, group_id)
            WHERE m.tenant_id = u.tenant_id AND m.user_id = u.user_id) AS names
    FROM users u WHERE u.tenant_id = ${permit.tenant} AND u.user_id = ANY (${others})`;
  await checkEachGiven(
    tx,
    permit,
    rows.map(({ names }) => names),
  );
}

async function checkApprovers(tx: Tx, permit: Permit, added: readonly string[]): Promise<void> {
  if (added.length === 0 || permit.held.every(holdsEverything)) return;
  const approvers = await tx<{ name: string }[]>`
    SELECT a.name FROM unnest(${[...added]}::text[]) AS a (name)
    WHERE EXISTS (SELECT 1 FROM policies p WHERE p.tenant_id = ${permit.tenant} AND a.name = ANY (p.approvers))
    ORDER BY a.name`;
  if (approvers.length === 0) return;
  const held = await permit.namesHeld(tx);
  const missing = approvers.find(({ name }) => !held.has(name));
  if (!missing) return;
  throw new VaultError(
    'forbidden',
    `Nobody gives what they do not hold: holders of ${missing.name} approve what others do, and you are not one of them.`,
    { details: { policy: missing.name, reason: 'not_held' } },
  );
}
