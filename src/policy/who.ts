/**
 * Who could do something to a resource: every user of the tenant, by the policies as they are now: its own, those of its
 * groups, and those that came with logins which go on.
 */
import type { TenantId, Tx } from '../db/database.ts';
import { type Page, type PageAsk, pageOf, parsePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { type AccountKind, type Call, policiesOf } from './access.ts';
import { ACTION_NAMES, type Action } from './action.ts';
import { type Reach, reachOf } from './decide.ts';
import { permit } from './permit.ts';
import type { CompiledPolicy } from './policy.ts';

export type Able = {
  readonly username: string;
  readonly disabled: boolean;
  readonly when: Exclude<Reach['when'], 'never'>;
  /** Others must approve first. */
  readonly approval: boolean;
  /** Of the policies held, those that allow it. */
  readonly policies: readonly string[];
};

type UserRow = { id: string; kind: AccountKind; name: string; disabled: boolean; held: string[]; policyIds: string[] };

/** Throws `invalid_request` for an action that does not exist. */
export async function whoCan(
  vault: Vault,
  call: Call,
  { action, resource, ...page }: PageAsk & { action: string; resource: string },
): Promise<Page<Able>> {
  const { limit, after } = parsePage(page);
  const known = ACTION_NAMES.find((name) => name === action);
  if (!known) throw new VaultError('invalid_request', 'action: expected one such as secret.read.');
  const ask = { action: 'audit.read', resource: 'audit:log' } as const;
  return permit(vault, call, ask, async (tx, { tenant }) => {
    const able: Able[] = [];
    for (let from = after; able.length <= limit; ) {
      const users = await readUsers(tx, tenant, from, limit + 1);
      for (const user of users) able.push(...(await ableOf(vault, tx, tenant, user, known, resource)));
      if (users.length <= limit) break;
      from = users.at(-1)!.name;
    }
    const details = { question: 'who_can', action: known, about: resource };
    return { value: pageOf(able, limit, (user) => user.username), notes: [{ details }] };
  });
}

/** How many accounts and groups hold a policy, and how many roles of logins give it. */
export async function holdersOf(tx: Tx, tenant: TenantId, policy: string): Promise<number> {
  const [row] = await tx<{ count: number }[]>`
    SELECT (SELECT count(*) FROM users u WHERE u.tenant_id = ${tenant} AND ${policy} = ANY (u.policies))
         + (SELECT count(*) FROM groups g WHERE g.tenant_id = ${tenant} AND ${policy} = ANY (g.policies))
         + (SELECT count(*) FROM login_roles r WHERE r.tenant_id = ${tenant} AND EXISTS (
              SELECT 1 FROM jsonb_array_elements(r.rules::jsonb) rule
              WHERE rule -> 'policies' @> jsonb_build_array(${policy}::text)))
         + (SELECT count(*) FROM certificate_roles r WHERE r.tenant_id = ${tenant} AND ${policy} = ANY (r.policies)) AS count`;
  return row!.count;
}

function readUsers(tx: Tx, tenant: TenantId, after: string, limit: number): Promise<UserRow[]> {
  return tx<UserRow[]>`
    SELECT u.user_id AS id, u.kind, u.name, u.disabled,
           ARRAY(SELECT p.name FROM policies p WHERE p.tenant_id = u.tenant_id AND p.name = ANY (e.policies)
                 ORDER BY p.name) AS held,
           ARRAY(SELECT p.policy_id || '.' || p.revision FROM policies p
                 WHERE p.tenant_id = u.tenant_id AND p.name = ANY (e.policies) ORDER BY p.name) AS "policyIds"
    FROM users u, LATERAL (SELECT u.policies || ARRAY(
      SELECT unnest(g.policies) FROM group_members m JOIN groups g USING (tenant_id, group_id)
      WHERE m.tenant_id = u.tenant_id AND m.user_id = u.user_id) || ARRAY(
      SELECT unnest(k.policies) FROM tokens k
      WHERE k.tenant_id = u.tenant_id AND k.user_id = u.user_id AND k.expires_at > (SELECT bulla.now())) AS policies) e
    WHERE u.tenant_id = ${tenant} AND u.name > ${after} ORDER BY u.name LIMIT ${limit}`;
}

async function ableOf(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  user: UserRow,
  action: Action,
  resource: string,
): Promise<Able[]> {
  const values = { 'user.name': user.name, 'user.id': user.id, 'user.kind': user.kind };
  const policies = await policiesOf(vault, tx, tenant, user.policyIds, values);
  const { when, approval } = reachOf(policies, action, resource);
  if (when === 'never') return [];
  const allows = (policy: CompiledPolicy | undefined) => policy && reachOf([policy], action, resource).when !== 'never';
  const allowing = user.held.filter((_, i) => allows(policies[i]));
  return [{ username: user.name, disabled: user.disabled, when, approval, policies: allowing }];
}
