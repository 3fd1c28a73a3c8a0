/**
 * Who could do something to a resource, by the policies as they are now: every account of the tenant, by its own policies,
 * those of its groups, and those that came with logins which go on; and every role of logins, by what it would give to
 * whoever fits it, known here yet or not.
 */
import type { TenantId, Tx } from '../db/database.ts';
import { notOurs, type Page, type PageAsk, pageOf, parsePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import type { AccountKind, Call } from './access.ts';
import { ACTION_NAMES, type Action } from './action.ts';
import { policiesOf } from './compiled.ts';
import { type Reach, reachOf } from './decide.ts';
import { permit } from './permit.ts';
import type { TemplateValues } from './template.ts';

export type Able = {
  readonly kind: HolderKind;
  readonly name: string;
  readonly disabled: boolean;
  readonly when: Exclude<Reach['when'], 'never'>;
  /** Others must approve first. */
  readonly approval: boolean;
  /** Of the policies held or given, those that allow it. */
  readonly policies: readonly string[];
};

/** In the order of a listing. */
const HOLDER_KINDS = ['account', 'certificate_role', 'login_role'] as const;
export type HolderKind = (typeof HOLDER_KINDS)[number];

/** `sets` are what may be held at once: a rule of a role gives its policies whether another holds or not. */
type Holder = { id: string; accountKind: AccountKind; name: string; disabled: boolean; sets: string[][] };

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
    for (let [kind, from] = placeOf(after); able.length <= limit; ) {
      const holders = await READERS[kind](tx, tenant, from, limit + 1);
      able.push(...(await ablesOf(vault, tx, tenant, kind, holders, known, resource)));
      const next = HOLDER_KINDS[HOLDER_KINDS.indexOf(kind) + 1];
      if (holders.length > limit) from = holders.at(-1)!.name;
      else if (next === undefined) break;
      else [kind, from] = [next, ''];
    }
    const details = { question: 'who_can', action: known, about: resource };
    return { value: pageOf(able, limit, ({ kind, name }) => `${kind}/${name}`), notes: [{ details }] };
  });
}

function placeOf(after: string): [HolderKind, string] {
  if (after === '') return [HOLDER_KINDS[0], ''];
  const slash = after.indexOf('/');
  const kind = HOLDER_KINDS.find((one) => one === after.slice(0, slash));
  if (kind === undefined) throw notOurs();
  return [kind, after.slice(slash + 1)];
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

const READERS: Readonly<
  Record<HolderKind, (tx: Tx, tenant: TenantId, after: string, limit: number) => Promise<Holder[]>>
> = {
  account: (tx, tenant, after, limit) => tx<Holder[]>`
    SELECT u.user_id AS id, u.kind AS "accountKind", u.name, u.disabled, jsonb_build_array(u.policies || ARRAY(
      SELECT unnest(g.policies) FROM group_members m JOIN groups g USING (tenant_id, group_id)
      WHERE m.tenant_id = u.tenant_id AND m.user_id = u.user_id) || ARRAY(
      SELECT unnest(k.policies) FROM tokens k
      WHERE k.tenant_id = u.tenant_id AND k.user_id = u.user_id AND k.expires_at > (SELECT bulla.now()))) AS sets
    FROM users u WHERE u.tenant_id = ${tenant} AND u.name > ${after} ORDER BY u.name LIMIT ${limit}`,
  certificate_role: (tx, tenant, after, limit) => tx<Holder[]>`
    SELECT role_id AS id, 'external' AS "accountKind", name, false AS disabled, jsonb_build_array(policies) AS sets
    FROM certificate_roles WHERE tenant_id = ${tenant} AND name > ${after} ORDER BY name LIMIT ${limit}`,
  login_role: (tx, tenant, after, limit) => tx<Holder[]>`
    SELECT role_id AS id, 'external' AS "accountKind", name, false AS disabled,
           (SELECT jsonb_agg(rule -> 'policies') FROM jsonb_array_elements(rules::jsonb) rule) AS sets
    FROM login_roles WHERE tenant_id = ${tenant} AND name > ${after} ORDER BY name LIMIT ${limit}`,
};

/** Whoever a role lets in for the first time gets a name that is made up: it is nobody's, and no template's. */
const NAME_OF_NOBODY = '~';

async function ablesOf(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  kind: HolderKind,
  holders: readonly Holder[],
  action: Action,
  resource: string,
): Promise<Able[]> {
  const names = [...new Set(holders.flatMap(({ sets }) => sets.flat()))];
  const rows = await tx<{ name: string; id: string }[]>`
    SELECT name, policy_id || '.' || revision AS id FROM policies WHERE tenant_id = ${tenant} AND name = ANY (${names})`;
  const ids = new Map(rows.map(({ name, id }) => [name, id]));
  const able: Able[] = [];
  for (const { id, accountKind, name, disabled, sets } of holders) {
    const known = kind === 'account' ? name : NAME_OF_NOBODY;
    const values: TemplateValues = { 'user.name': known, 'user.id': id, 'user.kind': accountKind };
    const reach = async (held: readonly string[]) => {
      const policies = held.map((one) => ids.get(one)!);
      return reachOf(await policiesOf(vault, tx, tenant, policies, values), action, resource);
    };
    const ways: Reach[] = [];
    const policies = new Set<string>();
    for (const set of sets) {
      const held = [...new Set(set)].filter((one) => ids.has(one)).sort();
      const way = await reach(held);
      if (way.when === 'never') continue;
      ways.push(way);
      for (const one of held) if ((await reach([one])).when !== 'never') policies.add(one);
    }
    const [easiest] = ways.sort((a, b) => hardness(a) - hardness(b));
    if (easiest === undefined || easiest.when === 'never') continue;
    const { when, approval } = easiest;
    able.push({ kind, name, disabled, when, approval, policies: [...policies].sort() });
  }
  return able;
}

const hardness = ({ when, approval }: Reach) => (when === 'always' ? 0 : 2) + (approval ? 1 : 0);
