/**
 * What a change of a policy would do, without doing it: who of its holders gains and who loses which rules.
 *
 * A rule that somebody holds by another policy as well is neither gained nor lost with this one; a denial that meets
 * nothing that they may do is none. It is decided on rules, as giving is (grant.ts), and as the change itself would be:
 * whoever may not make the change is refused here too.
 */
import type { Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import type { Vault } from '../vault.ts';
import type { AccountKind, Call } from './access.ts';
import { checkChange } from './give.ts';
import { changeOf, isHeldAlready, touches } from './grant.ts';
import { instanceFor } from './instance.ts';
import { type Permit, permit } from './permit.ts';
import { type CompiledPolicy, compilePolicy, type PolicyDocument, policySchema, type RuleDocument } from './policy.ts';

export type Preview = {
  readonly name: string;
  /** Of the policy that is stored; 0 when there is none. */
  readonly revision: number;
  /** How many accounts hold it, by themselves, by a group or by a login that goes on. */
  readonly holders: number;
  /** Of the first HOLDERS_MAX by name, those for whom something changes and whom the caller may list. */
  readonly changes: readonly HolderChange[];
  readonly truncated: boolean;
};

export type HolderChange = {
  readonly username: string;
  readonly kind: AccountKind;
  readonly gains: readonly RuleDocument[];
  readonly loses: readonly RuleDocument[];
};

const HOLDERS_MAX = 500;

type Holder = {
  readonly id: string;
  readonly name: string;
  readonly kind: AccountKind;
  readonly others: readonly string[];
};

/** Throws what putting the policy would throw. */
export async function previewPolicy(vault: Vault, call: Call, name: string, document: unknown): Promise<Preview> {
  const ask = { action: 'policy.write', resource: `policy:${parseName(name, 'name')}` } as const;
  compilePolicy(document);
  const after = policySchema.parse(document);
  return permit(vault, call, ask, async (tx, granted) => {
    const { tenant } = granted;
    const [stored] = await tx<{ revision: number; document: string }[]>`
      SELECT revision, document FROM policies WHERE tenant_id = ${tenant} AND name = ${name}`;
    const before: PolicyDocument = stored ? JSON.parse(stored.document) : { rules: [] };
    checkChange(granted, changeOf([before], [after]));
    const holders = await holdersOf(tx, granted, name);
    const documents = await documentsOf(tx, granted, holders);
    const seen = holders
      .slice(0, HOLDERS_MAX)
      .filter((one) => granted.allows({ action: 'user.list', resource: `user:${one.name}` }));
    const changes = seen.flatMap((holder) => changeFor(holder, before, after, documents));
    const count = holders.length > HOLDERS_MAX ? await countHolders(tx, granted, name) : holders.length;
    const value = { name, revision: stored?.revision ?? 0, holders: count, changes, truncated: count > HOLDERS_MAX };
    return { value, notes: [{ details: { dry_run: true } }] };
  });
}

function changeFor(
  holder: Holder,
  before: PolicyDocument,
  after: PolicyDocument,
  documents: ReadonlyMap<string, CompiledPolicy>,
): HolderChange[] {
  const { name: username, kind } = holder;
  const values = { 'user.name': username, 'user.id': holder.id, 'user.kind': kind };
  const instance = (policy: CompiledPolicy) => instanceFor(policy, values) ?? [];
  const others = holder.others.flatMap((id) => documents.get(id) ?? []);
  const [was, is] = [before, after].map((one) => [...others, compilePolicy(one)].flatMap(instance)) as [
    CompiledPolicy[],
    CompiledPolicy[],
  ];
  const gains = effectOf(before, after, was, is);
  const loses = effectOf(after, before, is, was);
  return gains.length + loses.length === 0 ? [] : [{ username, kind, gains, loses }];
}

/** From one document to the other: rules that come and were not held already, restrictions that go and kept something. */
function effectOf(
  from: PolicyDocument,
  to: PolicyDocument,
  was: readonly CompiledPolicy[],
  is: readonly CompiledPolicy[],
): RuleDocument[] {
  const { given, lifted } = changeOf([from], [to]);
  return [...given.filter((rule) => !isHeldAlready(was, rule)), ...lifted.filter((rule) => touches(is, rule))];
}

async function holdersOf(tx: Tx, { tenant }: Permit, name: string): Promise<Holder[]> {
  return tx<Holder[]>`
    SELECT u.user_id AS id, u.name, u.kind,
           ARRAY(SELECT p.policy_id FROM policies p
                 WHERE p.tenant_id = u.tenant_id AND p.name = ANY (e.policies) AND p.name <> ${name}) AS others
    FROM users u, LATERAL (SELECT u.policies || ARRAY(
      SELECT unnest(g.policies) FROM group_members m JOIN groups g USING (tenant_id, group_id)
      WHERE m.tenant_id = u.tenant_id AND m.user_id = u.user_id) || ARRAY(
      SELECT unnest(k.policies) FROM tokens k
      WHERE k.tenant_id = u.tenant_id AND k.user_id = u.user_id AND k.expires_at > (SELECT bulla.now())) AS policies) e
    WHERE u.tenant_id = ${tenant} AND ${name} = ANY (e.policies) ORDER BY u.name LIMIT ${HOLDERS_MAX + 1}`;
}

async function countHolders(tx: Tx, { tenant }: Permit, name: string): Promise<number> {
  const [row] = await tx<{ count: number }[]>`
    SELECT count(*) AS count FROM users u WHERE u.tenant_id = ${tenant} AND (${name} = ANY (u.policies) OR EXISTS (
      SELECT 1 FROM group_members m JOIN groups g USING (tenant_id, group_id)
      WHERE m.tenant_id = u.tenant_id AND m.user_id = u.user_id AND ${name} = ANY (g.policies)) OR EXISTS (
      SELECT 1 FROM tokens k WHERE k.tenant_id = u.tenant_id AND k.user_id = u.user_id
        AND k.expires_at > (SELECT bulla.now()) AND ${name} = ANY (k.policies)))`;
  return row!.count;
}

async function documentsOf(
  tx: Tx,
  { tenant }: Permit,
  holders: readonly Holder[],
): Promise<Map<string, CompiledPolicy>> {
  const ids = [...new Set(holders.flatMap(({ others }) => others))];
  const rows = await tx<{ id: string; document: string }[]>`
    SELECT policy_id AS id, document FROM policies WHERE tenant_id = ${tenant} AND policy_id = ANY (${ids})`;
  return new Map(rows.map(({ id, document }) => [id, compilePolicy(JSON.parse(document))]));
}
