/**
 * Why, or why not: which rule decides what an account asks for, and the smallest rule that would allow it.
 *
 * The answer comes from the decision itself, run on the policies of now. About oneself everybody may ask; the rule is
 * shown to whoever may read its policy, its name to everybody who gets an answer. Nothing is said of whether the
 * resource is there.
 */
import { SYSTEM, type Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { type AccountKind, type Asker, type Call, isForeignToSystem } from './access.ts';
import { ACTION_NAMES, ACTIONS, type Action } from './action.ts';
import type { Requirement } from './approval-rule.ts';
import { isFrom } from './cidr.ts';
import { type Circumstances, failing } from './condition.ts';
import { coversAny, decide, type RuleRef } from './decide.ts';
import { compileGlob, resourceOf } from './glob.ts';
import { instanceFor } from './instance.ts';
import { type Permit, permit } from './permit.ts';
import { type CompiledPolicy, compilePolicy, type PolicyDocument, type RuleDocument } from './policy.ts';

export type Explanation = {
  readonly username: string;
  readonly allowed: boolean;
  readonly reason:
    | 'allowed'
    | 'no_rule'
    | 'denied'
    /** Rules would allow it, but for their conditions: see `almost`. */
    | 'conditions'
    | 'approval'
    /** The account does not fit into the template of a policy, which therefore denies everything. */
    | 'template'
    /** The account may, the token that was shown may not. */
    | 'token'
    | 'disabled'
    /** Only operators do it, or there is nothing of the kind in the tenant of the operators. */
    | 'other_tenant';
  /** The rule that decided, if one did. */
  readonly rule: DecidingRule | null;
  readonly almost: readonly (DecidingRule & { readonly conditions: readonly string[] })[];
  readonly requirements: readonly Requirement[];
  /** The least that would allow it; null when it is allowed, or when no rule could. */
  readonly smallestRule: RuleDocument | null;
};

export type DecidingRule = {
  readonly policy: string;
  readonly revision: number;
  /** Its place in the policy, from 0. */
  readonly index: number;
  readonly rule: RuleDocument | null;
};

export type ExplainAsk = {
  readonly action: string;
  readonly resource: string;
  /** Oneself when absent. */
  readonly username?: string | undefined;
  /** What is not said is that of the request about oneself, and unknown about others; the time is now. */
  readonly circumstances?: Partial<Circumstances> | undefined;
};

type Account = { readonly id: string; readonly name: string; readonly kind: AccountKind; readonly disabled: boolean };
type Held = { readonly name: string; readonly revision: number; readonly document: PolicyDocument };

/** Throws `invalid_request`, `not_found` for an account that is not there. */
export async function explain(vault: Vault, call: Call, wanted: ExplainAsk): Promise<Explanation> {
  const action = parseAction(wanted.action);
  const resource = parseResource(action, wanted.resource);
  const { username } = wanted;
  const ask =
    username === undefined
      ? ({ action: 'policy.explain-self', resource: 'token:self' } as const)
      : ({ action: 'policy.explain', resource: `user:${parseName(username, 'username')}` } as const);
  return permit(vault, call, ask, async (tx, granted) => {
    const account = await accountOf(tx, granted, username);
    const held = username === undefined ? await ownPolicies(tx, granted) : await policiesOf(tx, granted, account.id);
    const asker = username === undefined ? granted.asker : { source: '', now: granted.asker.now };
    const question = { action, resource, ...asker, ...given(wanted.circumstances) };
    const value = explanationOf(granted, account, held, question, username === undefined);
    return { value, notes: [{ details: { action, about: resource, allowed: value.allowed } }] };
  });
}

/** Undefined members would hide what is known. */
const given = (circumstances: Partial<Circumstances> = {}) =>
  Object.fromEntries(Object.entries(circumstances).filter(([, value]) => value !== undefined));

type Question = Circumstances & { readonly action: Action; readonly resource: string };

function explanationOf(
  granted: Permit,
  account: Account,
  held: readonly Held[],
  question: Question,
  isSelf: boolean,
): Explanation {
  const none = { rule: null, almost: [], requirements: [], smallestRule: null };
  const refused = (reason: Explanation['reason'], more: Partial<Explanation> = {}): Explanation => ({
    ...{ username: account.name, allowed: false, reason },
    ...none,
    ...more,
  });
  if (account.disabled) return refused('disabled');
  if (isForeign(granted, question.action)) return refused('other_tenant');
  const values = { 'user.name': account.name, 'user.id': account.id, 'user.kind': account.kind };
  const policies = held.map(({ document }) => instanceFor(compilePolicy(document), values));
  const broken = policies.indexOf(undefined);
  if (broken !== -1) return refused('template', { rule: named(granted, held, { policy: broken, rule: 0 }) });
  const whole = policies as CompiledPolicy[];
  const decision = decide(whole, question);
  const rule = decision.rule === undefined ? null : named(granted, held, decision.rule);
  if (decision.allowed || decision.reason === 'approval') {
    if (isSelf && isBeyondToken(granted, question)) return refused('token', { rule });
    const limits = isSelf ? granted.requirements(question, circumstancesOf(question)) : [];
    if (limits === 'refused') return refused('token', { rule });
    const requirements = decision.allowed ? limits : decision.requirements;
    if (requirements.length > 0) return refused('approval', { rule, requirements });
    return { username: account.name, allowed: true, reason: 'allowed', ...none, rule };
  }
  if (decision.reason === 'denied') return refused('denied', { rule });
  const almost = almostAllowing(granted, held, whole, question);
  const { action, resource } = question;
  const smallestRule = { effect: 'allow' as const, actions: [action], resources: [resource] };
  return refused(almost.length > 0 ? 'conditions' : 'no_rule', { almost, smallestRule });
}

/** What tokens that are used a few times do not do, whatever they may: it would go on without them. */
const OUTLIVES_A_USE: ReadonlySet<Action> = new Set(['lease.create', 'account.check-out', 'token.create']);

/** The account may, and the token that was shown cannot be used so. */
function isBeyondToken({ bounds: { cidrs, usesLeft } }: Permit, { action, source, tokenKind }: Question): boolean {
  if (tokenKind === 'wrapping') return true;
  return (cidrs !== null && !isFrom(cidrs, source)) || (usesLeft !== null && OUTLIVES_A_USE.has(action));
}

const circumstancesOf = ({ action: _, resource: __, ...circumstances }: Question) => circumstances as Partial<Asker>;

function isForeign({ tenant }: Permit, action: Action): boolean {
  return tenant === SYSTEM ? isForeignToSystem(action) : ACTIONS[action].system === true;
}

/** Rules that would allow it under other circumstances. */
function almostAllowing(
  granted: Permit,
  held: readonly Held[],
  policies: readonly CompiledPolicy[],
  question: Question,
) {
  const resource = resourceOf(question.resource);
  return policies.flatMap((policy, at) => {
    const rules = policy.byAction.get(question.action);
    return [...(rules?.allow ?? []), ...(rules?.approve ?? [])]
      .filter((rule) => coversAny(rule, resource))
      .map((rule) => ({
        ...named(granted, held, { policy: at, rule: rule.index }),
        conditions: failing(rule.conditions, { ...question }),
      }));
  });
}

function named({ allows }: Permit, held: readonly Held[], { policy, rule }: RuleRef): DecidingRule {
  const { name, revision, document } = held[policy]!;
  const isReadable = allows({ action: 'policy.read', resource: `policy:${name}` });
  return { policy: name, revision, index: rule, rule: isReadable ? document.rules[rule]! : null };
}

function parseAction(text: string): Action {
  const action = ACTION_NAMES.find((name) => name === text);
  if (action) return action;
  throw new VaultError('invalid_request', 'action: expected one such as secret.read.');
}

/** One thing in its one spelling, of the kind that the action is asked about. */
function parseResource(action: Action, text: string): string {
  const glob = compileGlob(text);
  const { noun } = ACTIONS[action];
  if (typeof glob !== 'string' && glob.kind === 'exact' && text.startsWith(`${noun}:`)) return text;
  throw new VaultError('invalid_request', `resource: expected one ${noun}:<name> for ${action}, without wildcards.`);
}

async function accountOf(tx: Tx, { tenant, userId }: Permit, username: string | undefined): Promise<Account> {
  const [row] = await tx<Account[]>`
    SELECT user_id AS id, name, kind, disabled FROM users
    WHERE tenant_id = ${tenant} AND ${username === undefined ? tx`user_id = ${userId}` : tx`name = ${username}`}`;
  if (row) return row;
  throw new VaultError('not_found', `There is no user ${username}.`);
}

type HeldRow = { readonly name: string; readonly revision: number; readonly document: string };
const parsed = (rows: readonly HeldRow[]): Held[] =>
  rows.map(({ document, ...row }) => ({ ...row, document: JSON.parse(document) as PolicyDocument }));

/** Those of the request itself, what came with the login too. */
async function ownPolicies(tx: Tx, { tenant, policyIds }: Permit): Promise<Held[]> {
  return parsed(
    await tx<HeldRow[]>`
    SELECT name, revision, document
    FROM unnest(${[...policyIds]}::text[]) AS own (id),
    LATERAL (SELECT name, revision, document FROM policies
             WHERE tenant_id = ${tenant} AND policy_id = split_part(id, '.', 1) LIMIT 1) p
    WHERE revision = split_part(id, '.', 2)::int ORDER BY name`,
  );
}

async function policiesOf(tx: Tx, { tenant }: Permit, userId: string): Promise<Held[]> {
  return parsed(
    await tx<HeldRow[]>`
    SELECT p.name, p.revision, p.document FROM policies p
    WHERE p.tenant_id = ${tenant} AND p.name = ANY (ARRAY(
      SELECT unnest(u.policies || ARRAY(
        SELECT unnest(g.policies) FROM group_members m,
        LATERAL (SELECT policies FROM groups WHERE tenant_id = m.tenant_id AND group_id = m.group_id LIMIT 1) g
        WHERE m.tenant_id = u.tenant_id AND m.user_id = u.user_id))
      FROM users u WHERE u.tenant_id = ${tenant} AND u.user_id = ${userId}))
    ORDER BY p.name`,
  );
}
