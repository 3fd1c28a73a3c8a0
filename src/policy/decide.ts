/**
 * May this be done? A pure function of compiled policies and one question.
 *
 * Nothing is allowed unless a rule allows it; one deny, in any policy, wins over every allow; and an approval that one
 * rule asks for is needed, whatever others allow without. A condition on a fact that is not known holds for a deny and
 * never for an allow; for a rule with an approval it denies. It runs for each read on the hot path, so it looks only at
 * the rules that name the action, splits the resource at most once, and parses the source address only when a rule asks
 * for it. It knows no tenant: the gate asks only with the policies of one.
 */
import type { Action } from './action.ts';
import type { Requirement } from './approval-rule.ts';
import { type Circumstances, type Facts, holds } from './condition.ts';
import { covers, type Resource, resourceOf } from './glob.ts';
import type { ActionRules, CompiledPolicy, CompiledRule } from './policy.ts';

export type Ask = Circumstances & {
  readonly action: Action;
  /** `noun:name`, canonical, such as `secret:prod/app/db`. */
  readonly resource: string;
};

/** Which rule decided: the index of the policy in the list that was given, and of the rule in its document. */
export type RuleRef = { readonly policy: number; readonly rule: number };

export type Decision =
  | { readonly allowed: true; readonly rule: RuleRef }
  | { readonly allowed: false; readonly reason: 'no_rule'; readonly rule?: undefined }
  | { readonly allowed: false; readonly reason: 'denied'; readonly rule: RuleRef }
  /** Allowed once every requirement is met; `rule` is the first that has one. */
  | {
      readonly allowed: false;
      readonly reason: 'approval';
      readonly rule: RuleRef;
      readonly requirements: readonly Requirement[];
    };

const NO_RULE: Decision = Object.freeze({ allowed: false, reason: 'no_rule' });

export function decide(policies: readonly CompiledPolicy[], ask: Ask): Decision {
  const { source, now, mfa, tokenKind } = ask;
  const question: Question = { source, now, mfa, tokenKind, resource: resourceOf(ask.resource) };
  const denied = firstMatch(policies, ask.action, 'deny', question);
  if (denied !== undefined) return { allowed: false, reason: 'denied', rule: denied };
  const approval = approvalNeeded(policies, ask.action, question);
  if (approval !== undefined) return approval;
  const allowed = firstMatch(policies, ask.action, 'allow', question);
  return allowed === undefined ? NO_RULE : { allowed: true, rule: allowed };
}

type Question = Facts & { readonly resource: Resource };

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
      if (!coversAny(rule, question.resource)) continue;
      const holding = holds(rule.conditions, question);
      if (holding === 'yes' || (holding === 'unknown' && effect === 'deny')) return { policy, rule: rule.index };
    }
  }
  return undefined;
}

function approvalNeeded(policies: readonly CompiledPolicy[], action: Action, question: Question): Decision | undefined {
  let first: RuleRef | undefined;
  const requirements: Requirement[] = [];
  for (let policy = 0; policy < policies.length; policy++) {
    const rules = policies[policy]!.byAction.get(action)?.approve;
    if (rules === undefined || rules.length === 0) continue;
    for (const rule of rules) {
      if (!coversAny(rule, question.resource)) continue;
      const holding = holds(rule.conditions, question);
      const at = { policy, rule: rule.index };
      if (holding === 'unknown') return { allowed: false, reason: 'denied', rule: at };
      if (holding === 'no') continue;
      first ??= at;
      requirements.push(rule.approval!);
    }
  }
  return first && { allowed: false, reason: 'approval', rule: first, requirements };
}

export function coversAny(rule: CompiledRule, resource: Resource): boolean {
  for (const glob of rule.resources) {
    if (covers(glob, resource)) return true;
  }
  return false;
}

/** Whether somebody with these policies may do something: never, always, or under conditions that rules name. */
export type Reach = {
  readonly when: 'never' | 'always' | 'under_conditions';
  /** Some rule asks others to approve first. */
  readonly approval: boolean;
};

const NEVER: Reach = Object.freeze({ when: 'never', approval: false });

export function reachOf(policies: readonly CompiledPolicy[], action: Action, resource: string): Reach {
  const wanted = resourceOf(resource);
  const rules = (effect: keyof ActionRules) =>
    policies.flatMap((policy) =>
      (policy.byAction.get(action)?.[effect] ?? []).filter((rule) => coversAny(rule, wanted)),
    );
  const denies = rules('deny');
  const approves = rules('approve');
  const allows = [...approves, ...rules('allow')];
  if (allows.length === 0 || denies.some(({ conditions }) => conditions === undefined)) return NEVER;
  const always = denies.length === 0 && allows.some(({ conditions }) => conditions === undefined);
  return { when: always ? 'always' : 'under_conditions', approval: approves.length > 0 };
}
