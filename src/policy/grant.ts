/**
 * Nobody gives what they do not hold: may somebody with these policies make this change to somebody's policies?
 *
 * What a change gives is every rule that allows and was not there before, and every restriction (a deny, or a rule with
 * an approval) that was there and is gone. For each action and each resource pattern of these, the giver must hold a
 * rule that allows the action, whose one pattern covers the whole of it, under conditions and approvals that are no
 * stricter; and each restriction of the giver's own that touches it must stand, at least as strict, among what the
 * receiver has after the change. Rules that were there and stay are not looked at. A template counts as the widest
 * pattern that it may become. The built-in admin holds everything, so it may give everything.
 *
 * This is decided on rules, not on what happens to exist: it says no where two rules of the giver would together cover
 * what one does not. Nothing here does I/O.
 */
import { VaultError } from '../errors.ts';
import { ACTION_NAMES, ACTIONS, type Action } from './action.ts';
import { impliesRequirement } from './approval-rule.ts';
import { impliesConditions } from './condition.ts';
import { isWithin, meet, type Pattern, patternOf } from './containment.ts';
import type { Glob } from './glob.ts';
import {
  type CompiledPolicy,
  type CompiledRule,
  compileRule,
  type PolicyDocument,
  policyOf,
  type RuleDocument,
} from './policy.ts';

/** What somebody may do: each list of policies must allow it. */
export type Held = readonly (readonly CompiledPolicy[])[];

export type Change = {
  readonly given: readonly RuleDocument[];
  readonly lifted: readonly RuleDocument[];
  /** The restrictions that the receiver has after the change. */
  readonly alongside: readonly RuleDocument[];
};

const isRestriction = ({ effect, approval }: RuleDocument) => effect === 'deny' || approval !== undefined;
const textOf = (rule: RuleDocument) => JSON.stringify(sorted(rule));

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([key, member]) => [key, sorted(member)]));
}

/** From the documents that somebody holds to those that they shall hold. */
export function changeOf(before: readonly PolicyDocument[], after: readonly PolicyDocument[]): Change {
  const old = before.flatMap(({ rules }) => rules);
  const young = after.flatMap(({ rules }) => rules);
  const [oldTexts, youngTexts] = [new Set(old.map(textOf)), new Set(young.map(textOf))];
  return {
    given: young.filter((rule) => rule.effect === 'allow' && !oldTexts.has(textOf(rule))),
    lifted: old.filter((rule) => isRestriction(rule) && !youngTexts.has(textOf(rule))),
    alongside: young.filter(isRestriction),
  };
}

/** What a change gives that the giver does not hold. */
export type NotHeld = { readonly action: Action; readonly resource: string };

/** The first thing that the giver does not hold, or undefined. Throws `invalid_request` when there is too much to compare. */
export function notHeld(held: Held, change: Change): NotHeld | undefined {
  if (change.given.length === 0 && change.lifted.length === 0) return undefined;
  const effort: Effort = { left: COMPARISONS_MAX };
  const alongside = change.alongside.map(termsOf).filter(({ templated }) => !templated);
  const gained = [
    ...change.given.map(termsOf),
    // What a restriction kept from the receiver is theirs without it.
    ...change.lifted.map((rule) => ({ ...termsOf(rule), approval: undefined })),
  ];
  for (const policies of held) {
    if (holdsEverything(policies)) continue;
    const own = policies.flatMap(({ rules }) => rules).map(termsOfRule);
    for (const terms of gained) {
      const missing = missingOf(terms, own, alongside, effort);
      if (missing) return missing;
    }
  }
  return undefined;
}

/** Whether these policies allow all that a rule allows, whatever else restricts it. */
export function isHeldAlready(policies: readonly CompiledPolicy[], rule: RuleDocument): boolean {
  const rules = policies.flatMap((policy) => policy.rules);
  const allowing = rules.filter(({ effect, approval }) => effect === 'allow' && (!approval || rule.approval));
  return notHeld([[policyOf(allowing)]], { given: [rule], lifted: [], alongside: [] }) === undefined;
}

/** Whether what a rule speaks of has something in common with what these policies allow. */
export function touches(policies: readonly CompiledPolicy[], rule: RuleDocument): boolean {
  const { actions, patterns: spoken } = termsOf(rule);
  return policies
    .flatMap(({ rules }) => rules)
    .filter(({ effect }) => effect === 'allow')
    .map(termsOfRule)
    .some((allowing) =>
      [...actions].some(
        (action) =>
          allowing.actions.has(action) &&
          allowing.patterns.some((one) => spoken.some((other) => meet(one, other, ACTIONS[action].noun))),
      ),
    );
}

/** Everything, without condition and restriction: what the built-in admin holds. */
export function holdsEverything(policies: readonly CompiledPolicy[]): boolean {
  const rules = policies.flatMap((policy) => policy.rules);
  return (
    rules.every(({ effect, approval }) => effect === 'allow' && approval === undefined) &&
    rules.some(
      ({ actions, resources, conditions }) =>
        conditions === undefined &&
        actions.size === ACTION_NAMES.length &&
        resources.some(({ kind }) => kind === 'everything'),
    )
  );
}

// ---- one rule against others --------------------------------------------------------------------------------------

type Terms = Pick<CompiledRule, 'effect' | 'actions' | 'conditions' | 'approval'> & {
  readonly patterns: readonly Pattern[];
  readonly texts: readonly string[];
  readonly templated: boolean;
};

const termsOf = (rule: RuleDocument): Terms => ({ ...termsOfRule(compileRule(rule, 0)), texts: rule.resources });

function termsOfRule({ effect, actions, conditions, approval, resources }: CompiledRule): Terms {
  const templated = resources.some(({ kind }) => kind === 'template');
  return { effect, actions, conditions, approval, patterns: resources.map(patternFor), texts: [], templated };
}

const patterns = new WeakMap<Glob, Pattern>();

function patternFor(glob: Glob): Pattern {
  const known = patterns.get(glob) ?? patternOf(glob);
  patterns.set(glob, known);
  return known;
}

/** A hostile pair of documents must not keep a node busy. */
const COMPARISONS_MAX = 500_000;
type Effort = { left: number };

function compared(effort: Effort, count: number): void {
  effort.left -= count;
  if (effort.left >= 0) return;
  throw new VaultError(
    'invalid_request',
    'The change and your own policies have too many rules to compare: make it in smaller steps, or write fewer patterns.',
  );
}

function missingOf(
  gained: Terms,
  own: readonly Terms[],
  alongside: readonly Terms[],
  effort: Effort,
): NotHeld | undefined {
  for (const action of gained.actions) {
    const { noun } = ACTIONS[action];
    const speaking = own.filter(({ actions }) => actions.has(action));
    const along = alongside.filter(({ actions }) => actions.has(action));
    for (const [at, pattern] of gained.patterns.entries()) {
      if (pattern.noun !== undefined && pattern.noun !== noun) continue;
      compared(effort, 1 + patternCount(speaking) + patternCount(along));
      if (isVoid(gained, pattern, along, noun)) continue;
      const fits = isHeld(gained, pattern, speaking, along, noun) && isBound(gained, pattern, speaking, along, noun);
      if (!fits) return { action, resource: pattern.noun === undefined ? `${noun}:**` : gained.texts[at]! };
    }
  }
  return undefined;
}

const patternCount = (terms: readonly Terms[]) => terms.reduce((sum, one) => sum + one.patterns.length, 0);

/** The receiver is denied all of it anyway. */
function isVoid(gained: Terms, pattern: Pattern, alongside: readonly Terms[], noun: string): boolean {
  return alongside.some(
    (deny) =>
      deny.effect === 'deny' &&
      impliesConditions(gained.conditions, deny.conditions) &&
      deny.patterns.some((around) => isWithin(pattern, around, noun)),
  );
}

/** Some rule of the giver allows all of it. */
function isHeld(
  gained: Terms,
  pattern: Pattern,
  speaking: readonly Terms[],
  alongside: readonly Terms[],
  noun: string,
): boolean {
  return speaking.some(
    (rule) =>
      rule.effect === 'allow' &&
      impliesConditions(gained.conditions, rule.conditions) &&
      rule.patterns.some((around) => isWithin(pattern, around, noun)) &&
      isAsStrict(rule, gained, pattern, alongside, noun),
  );
}

/** Every restriction of the giver's that touches it binds the receiver too. */
function isBound(
  gained: Terms,
  pattern: Pattern,
  speaking: readonly Terms[],
  alongside: readonly Terms[],
  noun: string,
): boolean {
  return speaking.every(
    (rule) =>
      (rule.effect === 'allow' && rule.approval === undefined) ||
      rule.patterns.every(
        (touching) =>
          !meet(touching, pattern, noun) ||
          (rule.effect === 'allow' && isAsStrict(rule, gained, pattern, [], noun)) ||
          alongside.some(
            (other) =>
              impliesConditions(rule.conditions, other.conditions) &&
              other.patterns.some((around) => isWithin(touching, around, noun) || isWithin(pattern, around, noun)) &&
              (other.effect === 'deny' || (rule.effect === 'allow' && satisfies(other, rule))),
          ),
      ),
  );
}

/** Whatever approval the giver's rule waits for, the receiver waits for as well. */
function isAsStrict(rule: Terms, gained: Terms, pattern: Pattern, alongside: readonly Terms[], noun: string): boolean {
  if (rule.approval === undefined || satisfies(gained, rule)) return true;
  return alongside.some(
    (other) =>
      satisfies(other, rule) &&
      impliesConditions(gained.conditions, other.conditions) &&
      other.patterns.some((around) => isWithin(pattern, around, noun)),
  );
}

const satisfies = (strict: Terms, rule: Terms) =>
  strict.approval !== undefined && rule.approval !== undefined && impliesRequirement(strict.approval, rule.approval);
