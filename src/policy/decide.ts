/**
 * May this be done? A pure function of compiled policies and one question.
 *
 * Nothing is allowed unless a rule allows it, and one deny, in any policy, wins over every allow. It runs for each read
 * on the hot path, so it looks only at the rules that name the action, splits the resource at most once, and parses the
 * source address only when a rule asks for it. It knows no tenant: the gate asks only with the policies of one.
 */
import type { Action } from './action.ts';
import { type Address, contains, parseAddress } from './cidr.ts';
import { covers, type Resource, resourceOf } from './glob.ts';
import type { CompiledPolicy, CompiledRule } from './policy.ts';

export type Ask = {
  readonly action: Action;
  /** `noun:name`, canonical, such as `secret:prod/app/db`. */
  readonly resource: string;
  /** The address that the request came from. */
  readonly source: string;
};

/** Which rule decided: the index of the policy in the list that was given, and of the rule in its document. */
export type RuleRef = { readonly policy: number; readonly rule: number };

export type Decision =
  | { readonly allowed: true; readonly rule: RuleRef }
  | { readonly allowed: false; readonly reason: 'no_rule'; readonly rule?: undefined }
  | { readonly allowed: false; readonly reason: 'denied'; readonly rule: RuleRef };

const NO_RULE: Decision = Object.freeze({ allowed: false, reason: 'no_rule' });

export function decide(policies: readonly CompiledPolicy[], ask: Ask): Decision {
  const question: Question = { resource: resourceOf(ask.resource), source: ask.source, address: undefined };
  const denied = firstMatch(policies, ask.action, 'deny', question);
  if (denied !== undefined) return { allowed: false, reason: 'denied', rule: denied };
  const allowed = firstMatch(policies, ask.action, 'allow', question);
  return allowed === undefined ? NO_RULE : { allowed: true, rule: allowed };
}

type Question = {
  readonly resource: Resource;
  readonly source: string;
  /** The parsed source; null when it is no address, undefined until a rule asks. */
  address: Address | null | undefined;
};

function firstMatch(
  policies: readonly CompiledPolicy[],
  action: Action,
  effect: 'deny' | 'allow',
  question: Question,
): RuleRef | undefined {
  for (let policy = 0; policy < policies.length; policy++) {
    const rules = policies[policy]!.byAction.get(action)?.[effect];
    if (rules === undefined) continue;
    for (const rule of rules) {
      if (coversAny(rule, question.resource) && comesFrom(rule, effect, question)) return { policy, rule: rule.index };
    }
  }
  return undefined;
}

function coversAny(rule: CompiledRule, resource: Resource): boolean {
  for (const glob of rule.resources) {
    if (covers(glob, resource)) return true;
  }
  return false;
}

/** A source that is no address fails closed: it satisfies the condition of a deny, and never that of an allow. */
function comesFrom(rule: CompiledRule, effect: 'deny' | 'allow', question: Question): boolean {
  if (rule.cidrs === undefined) return true;
  if (question.address === undefined) question.address = parseAddress(question.source) ?? null;
  const address = question.address;
  if (address === null) return effect === 'deny';
  return rule.cidrs.some((cidr) => contains(cidr, address));
}

/** From where somebody with these policies may do something: nowhere, anywhere, or from networks that conditions name. */
export type Reach = 'nowhere' | 'anywhere' | 'some_networks';

export function reachOf(policies: readonly CompiledPolicy[], action: Action, resource: string): Reach {
  const wanted = resourceOf(resource);
  const rules = (effect: 'deny' | 'allow') =>
    policies.flatMap((policy) =>
      (policy.byAction.get(action)?.[effect] ?? []).filter((rule) => coversAny(rule, wanted)),
    );
  const denies = rules('deny');
  const allows = rules('allow');
  if (allows.length === 0 || denies.some((rule) => rule.cidrs === undefined)) return 'nowhere';
  return denies.length === 0 && allows.some((rule) => rule.cidrs === undefined) ? 'anywhere' : 'some_networks';
}
