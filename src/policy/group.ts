/**
 * Groups of accounts: a member may do what the policies of its groups allow, beside its own. Owns the tables groups and
 * group_members.
 *
 * Whoever changes the policies of a group, or who is in it, gives: see give.ts. The next request of every member obeys,
 * on every node.
 */
import { detailsNaming } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import { randomId } from '../crypto/token.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, pageOf, parsePage, visiblePage } from '../db/page.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import type { AccountKind, Call } from './access.ts';
import type { Action } from './action.ts';
import { checkGiven } from './give.ts';
import { permit } from './permit.ts';

export type GroupInfo = {
  readonly id: string;
  readonly name: string;
  readonly policies: readonly string[];
  readonly members: number;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export type Member = { readonly username: string; readonly kind: AccountKind; readonly addedAt: Timestamp };

export type GroupChange = {
  /** In place of all it has. */
  readonly policies?: readonly string[] | undefined;
  readonly addMembers?: readonly string[] | undefined;
  readonly removeMembers?: readonly string[] | undefined;
};

const ask = (action: Action, name: string) => ({ action, resource: `group:${parseName(name, 'name')}` }) as const;

const GROUP_COLUMNS = `g.group_id AS id, g.name, g.policies, g.created_at AS "createdAt", g.updated_at AS "updatedAt",
  (SELECT count(*) FROM group_members m WHERE m.tenant_id = g.tenant_id AND m.group_id = g.group_id) AS members`;

export async function listGroups(vault: Vault, call: Call, page: PageAsk): Promise<Page<GroupInfo>> {
  const wanted = { action: 'group.list', resource: 'group:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      (after, rows) => tx<GroupInfo[]>`
        SELECT ${tx.unsafe(GROUP_COLUMNS)} FROM groups g WHERE g.tenant_id = ${tenant} AND g.name > ${after}
        ORDER BY g.name LIMIT ${rows}`,
      (group) => group.name,
      (group) => allows({ action: 'group.list', resource: `group:${group.name}` }),
    ),
  }));
}

export async function readGroup(vault: Vault, call: Call, name: string): Promise<GroupInfo> {
  return permit(vault, call, ask('group.read', name), async (tx, { tenant }) => ({
    value: await groupNamed(tx, tenant, name),
  }));
}

/** In the order of their names. */
export async function listMembers(vault: Vault, call: Call, name: string, page: PageAsk): Promise<Page<Member>> {
  const { limit, after } = parsePage(page);
  return permit(vault, call, ask('group.read', name), async (tx, { tenant }) => {
    const { id } = await groupNamed(tx, tenant, name);
    const rows = await tx<Member[]>`
      SELECT u.name AS username, u.kind, m.added_at AS "addedAt" FROM group_members m JOIN users u USING (tenant_id, user_id)
      WHERE m.tenant_id = ${tenant} AND m.group_id = ${id} AND u.name > ${after} ORDER BY u.name LIMIT ${limit + 1}`;
    return { value: pageOf(rows, limit, (member) => member.username) };
  });
}

/** Throws `conflict` when the name is taken, `forbidden` for policies that the caller does not hold. */
export async function createGroup(
  vault: Vault,
  call: Call,
  { name, policies = [], members = [] }: { name: string; policies?: readonly string[]; members?: readonly string[] },
): Promise<GroupInfo> {
  const held = parseNames(policies, 'policies', LIMITS.policiesPerUserMax);
  const users = parseNames(members, 'members', LIMITS.membersAtOnceMax);
  return permit(vault, call, ask('group.write', name), async (tx, granted) => {
    const { tenant } = granted;
    await requirePolicies(tx, tenant, held);
    await checkGiven(tx, granted, { before: [], after: held });
    const id = randomId();
    try {
      await tx`
        INSERT INTO groups (tenant_id, group_id, name, policies, created_at, updated_at)
        VALUES (${tenant}, ${id}, ${name}, ${held}, bulla.now(), bulla.now())`;
    } catch (error) {
      if (isUniqueViolation(error)) throw new VaultError('conflict', `There is a group ${name} already.`);
      throw error;
    }
    await addMembers(tx, tenant, id, users);
    const notes = detailsNaming({}, { policies: held, added: users }).map((details) => ({ details }));
    return { value: await groupNamed(tx, tenant, name), notes, revokes: users.length > 0 };
  });
}

/** All of it or nothing. Throws `invalid_request` for a member that does not exist. */
export async function updateGroup(vault: Vault, call: Call, name: string, change: GroupChange): Promise<GroupInfo> {
  const policies = change.policies && parseNames(change.policies, 'policies', LIMITS.policiesPerUserMax);
  const added = parseNames(change.addMembers ?? [], 'add_members', LIMITS.membersAtOnceMax);
  const removed = parseNames(change.removeMembers ?? [], 'remove_members', LIMITS.membersAtOnceMax);
  return permit(vault, call, ask('group.write', name), async (tx, granted) => {
    const { tenant } = granted;
    const group = await groupNamed(tx, tenant, name, 'lock');
    const held = policies ?? group.policies;
    if (policies) {
      await requirePolicies(tx, tenant, policies);
      await checkGiven(tx, granted, { before: group.policies, after: policies });
    }
    if (added.length > 0) await checkGiven(tx, granted, { before: [], after: held });
    // Whoever leaves is free of what the group denied.
    if (removed.length > 0) await checkGiven(tx, granted, { before: group.policies, after: [] });
    await tx`
      UPDATE groups SET policies = ${[...held]}, updated_at = bulla.now()
      WHERE tenant_id = ${tenant} AND group_id = ${group.id}`;
    await addMembers(tx, tenant, group.id, added);
    await removeMembers(tx, tenant, group.id, removed);
    const lists = {
      policies,
      added: added.length > 0 ? added : undefined,
      removed: removed.length > 0 ? removed : undefined,
    };
    const notes = detailsNaming({}, lists).map((details) => ({ details }));
    return { value: await groupNamed(tx, tenant, name), notes, revokes: true };
  });
}

export async function deleteGroup(vault: Vault, call: Call, name: string): Promise<void> {
  await permit(vault, call, ask('group.delete', name), async (tx, granted) => {
    const { tenant } = granted;
    const group = await groupNamed(tx, tenant, name, 'lock');
    if (group.members > 0) await checkGiven(tx, granted, { before: group.policies, after: [] });
    await tx`DELETE FROM groups WHERE tenant_id = ${tenant} AND group_id = ${group.id}`;
    return { value: undefined, notes: [{ details: { members: group.members } }], revokes: true };
  });
}

/** Removes every group of a tenant that is being deleted. */
export async function removeGroups(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM groups WHERE tenant_id = ${tenant}`;
}

async function addMembers(tx: Tx, tenant: TenantId, group: string, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const users = await usersNamed(tx, tenant, names);
  await tx`
    INSERT INTO group_members (tenant_id, user_id, group_id, added_at)
    SELECT ${tenant}, id, ${group}, bulla.now() FROM unnest(${users}::text[]) AS u (id) ON CONFLICT DO NOTHING`;
  const [row] = await tx<{ name: string }[]>`
    SELECT u.name FROM users u WHERE u.tenant_id = ${tenant} AND u.user_id = ANY (${users})
      AND (SELECT count(*) FROM group_members m WHERE m.tenant_id = u.tenant_id AND m.user_id = u.user_id)
          > ${LIMITS.groupsPerUserMax}
    ORDER BY u.name LIMIT 1`;
  if (row) throw new VaultError('conflict', `${row.name} would be in more than ${LIMITS.groupsPerUserMax} groups.`);
}

async function removeMembers(tx: Tx, tenant: TenantId, group: string, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const users = await usersNamed(tx, tenant, names);
  await tx`DELETE FROM group_members WHERE tenant_id = ${tenant} AND group_id = ${group} AND user_id = ANY (${users})`;
}

async function usersNamed(tx: Tx, tenant: TenantId, names: readonly string[]): Promise<string[]> {
  const rows = await tx<{ id: string; name: string }[]>`
    SELECT user_id AS id, name FROM users WHERE tenant_id = ${tenant} AND name = ANY (${[...names]}) ORDER BY name FOR SHARE`;
  const missing = names.filter((name) => !rows.some((row) => row.name === name));
  if (missing.length > 0) {
    throw new VaultError('invalid_request', `members: there is no user or service ${missing.slice(0, 5).join(', ')}.`);
  }
  return rows.map(({ id }) => id);
}

async function groupNamed(tx: Tx, tenant: TenantId, name: string, lock?: 'lock'): Promise<GroupInfo> {
  const [row] = await tx<GroupInfo[]>`
    SELECT ${tx.unsafe(GROUP_COLUMNS)} FROM groups g WHERE g.tenant_id = ${tenant} AND g.name = ${name}
    ${lock ? tx`FOR UPDATE OF g` : tx``}`;
  if (!row) throw new VaultError('not_found', `There is no group ${name}.`);
  return row;
}

function parseNames(names: readonly string[], field: string, max: number): string[] {
  if (names.length > max) throw new VaultError('invalid_request', `${field}: expected at most ${max} names.`);
  return [...new Set(names.map((name) => parseName(name, field)))];
}

/** A name that no policy has would become a right the day somebody makes one: refused. */
async function requirePolicies(tx: Tx, tenant: TenantId, names: readonly string[]): Promise<void> {
  const rows = await tx<{ name: string }[]>`
    SELECT name FROM policies WHERE tenant_id = ${tenant} AND name = ANY (${[...names]}) ORDER BY name FOR SHARE`;
  const missing = names.filter((name) => !rows.some((row) => row.name === name));
  if (missing.length === 0) return;
  throw new VaultError('invalid_request', `policies: there is no policy ${missing.join(', ')}: make it first.`);
}
