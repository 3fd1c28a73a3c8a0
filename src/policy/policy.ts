/**
 * A policy: parse a document, refuse whatever could be read in two ways, and compile it for `decide`.
 *
 *     {"rules": [{"effect": "allow", "actions": ["secret.read", "secret.list"],
 *                 "resources": ["secret:prod/app/**"], "conditions": {"cidrs": ["10.0.0.0/8"]}}]}
 *
 * An action is exact, `family.*` or `*`; a resource is a pattern of glob.ts; conditions (condition.ts) must all hold;
 * an approval (approval-rule.ts) may stand in a rule that allows. Unknown actions, nouns and fields are refused, never
 * ignored: a deny with a spelling mistake must not be stored as one that denies nothing. A compiled policy is immutable
 * and holds no reference to the document. Nothing here does I/O.
 */
import { z } from 'zod';
import { assert, VaultError } from '../errors.ts';
import { ACTION_NAMES, ACTIONS, type Action, familyOf } from './action.ts';
import { approvalSchema, compileApproval, type Requirement } from './approval-rule.ts';
import { type Conditions, compileConditions, conditionsSchema } from './condition.ts';
import { compileGlob, type Glob, RESOURCE_PATTERN_LENGTH_MAX } from './glob.ts';

export const POLICY_RULES_MAX = 100;
export const RULE_ACTIONS_MAX = 50;
export const RULE_RESOURCES_MAX = 50;
export const POLICY_BYTES_MAX = 64 * 1024;

/** Longer than any action or CIDR there is: a bound, not a rule that anybody meets. */
const SHORT_TEXT_LENGTH_MAX = 64;

const FAMILIES = [...new Set(ACTION_NAMES.map(familyOf))];

const actionPattern = z
  .string()
  .max(SHORT_TEXT_LENGTH_MAX)
  .superRefine((text, context) => {
    if (actionsOf(text).length === 0) context.addIssue({ code: 'custom', message: whatActionsAreAllowed(text) });
  })
  .describe('An action such as secret.read, a family such as secret.*, or * for every action.');

const resourcePattern = z
  .string()
  .max(RESOURCE_PATTERN_LENGTH_MAX)
  .superRefine((text, context) => {
    const glob = compileGlob(text);
    if (typeof glob === 'string') context.addIssue({ code: 'custom', message: `the resource pattern ${glob}` });
  })
  .describe('A noun, a colon and a glob, such as secret:prod/app/**; or ** for every resource.');

const ruleSchema = z
  .strictObject({
    effect: z.enum(['allow', 'deny']),
    actions: z.array(actionPattern).min(1).max(RULE_ACTIONS_MAX),
    resources: z.array(resourcePattern).min(1).max(RULE_RESOURCES_MAX),
    conditions: conditionsSchema.optional(),
    approval: approvalSchema.optional(),
  })
  .superRefine(({ effect, actions, approval }, context) => {
    if (approval === undefined) return;
    if (effect === 'deny') {
      context.addIssue({ code: 'custom', path: ['approval'], message: 'stands only in a rule that allows' });
    }
    for (const [at, pattern] of actions.entries()) {
      if (actionsOf(pattern).every((action) => ACTIONS[action].approvable)) continue;
      const message = `cannot wait for an approval; these can: ${APPROVABLE.join(', ')}`;
      context.addIssue({ code: 'custom', path: ['actions', at], message });
    }
  });

const APPROVABLE = ACTION_NAMES.filter((name) => ACTIONS[name].approvable);

export const policySchema = z.strictObject({ rules: z.array(ruleSchema).max(POLICY_RULES_MAX) });

export type PolicyDocument = z.infer<typeof policySchema>;
export type RuleDocument = PolicyDocument['rules'][number];

export type CompiledRule = {
  /** Its place in the document, from 0: how a decision names it. */
  readonly index: number;
  readonly effect: 'allow' | 'deny';
  readonly actions: ReadonlySet<Action>;
  readonly resources: readonly Glob[];
  /** Undefined is always. */
  readonly conditions: Conditions | undefined;
  /** What it takes beside the rule. Undefined: nothing. */
  readonly approval: Requirement | undefined;
};

/** The rules that speak of one action, in the order of the document. `approve` are those that allow once approved. */
export type ActionRules = {
  readonly deny: readonly CompiledRule[];
  readonly approve: readonly CompiledRule[];
  readonly allow: readonly CompiledRule[];
};

export type CompiledPolicy = {
  readonly rules: readonly CompiledRule[];
  readonly byAction: ReadonlyMap<string, ActionRules>;
  /** Some resource has a template: it is to be filled for each account before anything is decided by it. */
  readonly templated: boolean;
};

/** Throws `invalid_request`, naming the field by its path and what is allowed there. Never repeats the document. */
export function compilePolicy(document: unknown): CompiledPolicy {
  checkSize(document);
  const parsed = policySchema.safeParse(document);
  if (!parsed.success) throw refused(parsed.error.issues[0]!);
  return policyOf(parsed.data.rules.map(compileRule));
}

/** A policy of rules that are compiled already. */
export function policyOf(rules: readonly CompiledRule[]): CompiledPolicy {
  const byAction = new Map<string, { deny: CompiledRule[]; approve: CompiledRule[]; allow: CompiledRule[] }>();
  for (const rule of rules) {
    for (const action of rule.actions) {
      const speaking = byAction.get(action) ?? { deny: [], approve: [], allow: [] };
      speaking[rule.approval === undefined ? rule.effect : 'approve'].push(rule);
      byAction.set(action, speaking);
    }
  }
  const templated = rules.some(({ resources }) => resources.some(({ kind }) => kind === 'template'));
  return { rules, byAction, templated };
}

/** One rule of a document that has passed the schema. */
export function compileRule(rule: RuleDocument, index: number): CompiledRule {
  const resources = rule.resources.map((text) => {
    const glob = compileGlob(text);
    assert(typeof glob !== 'string', 'the schema lets only good resource patterns through');
    return glob;
  });
  return {
    index,
    effect: rule.effect,
    actions: new Set(rule.actions.flatMap(actionsOf)),
    resources,
    conditions: compileConditions(rule.conditions),
    approval: compileApproval(rule.approval),
  };
}

/** The actions that a pattern stands for; none when it is not a pattern. */
export function actionsOf(pattern: string): readonly Action[] {
  if (pattern === '*') return ACTION_NAMES;
  if (pattern.endsWith('.*')) return ACTION_NAMES.filter((name) => familyOf(name) === pattern.slice(0, -2));
  return ACTION_NAMES.filter((name) => name === pattern);
}

function whatActionsAreAllowed(pattern: string): string {
  const family = pattern.slice(0, Math.max(0, pattern.indexOf('.')));
  const names = ACTION_NAMES.filter((name) => familyOf(name) === family);
  if (names.length > 0) return `unknown action; the family has ${names.join(', ')} and ${family}.*`;
  return `unknown action; use *, one of the families ${FAMILIES.map((name) => `${name}.*`).join(' ')}, or one action`;
}

function checkSize(document: unknown): void {
  const bytes = Buffer.byteLength(JSON.stringify(document) ?? '');
  if (bytes <= POLICY_BYTES_MAX) return;
  throw new VaultError('invalid_request', `the policy has ${bytes} bytes; at most ${POLICY_BYTES_MAX} are allowed`);
}

function refused(issue: z.core.$ZodIssue): VaultError {
  const field = issue.path.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : `${text}${text === '' ? '' : '.'}${String(key)}`),
    '',
  );
  const message = issue.code === 'unrecognized_keys' ? 'has a field that is not known' : issue.message;
  return new VaultError('invalid_request', `the policy is not valid at ${field || 'its top level'}: ${message}`, {
    details: { field },
  });
}
