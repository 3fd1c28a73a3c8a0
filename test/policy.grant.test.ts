/** Comparing patterns, and giving: whatever the rule of giving lets through, the giver may do as well. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BUILT_IN_POLICIES } from '../src/policy/built-in.ts';
import { isWithin, meet, patternOf } from '../src/policy/containment.ts';
import { type Decision, decide } from '../src/policy/decide.ts';
import { compileGlob, covers, type Glob, resourceOf } from '../src/policy/glob.ts';
import { changeOf, notHeld } from '../src/policy/grant.ts';
import { instanceFor } from '../src/policy/instance.ts';
import { type CompiledPolicy, compilePolicy, type PolicyDocument } from '../src/policy/policy.ts';
import { documents, knownQuestion, plainPattern, type Question, resource, rule } from './policy.random.ts';

const glob = (text: string) => compileGlob(text) as Glob;
const pattern = (text: string) => patternOf(glob(text));
const covering = (text: string, path: string) => covers(glob(text), resourceOf(path));

describe('patterns', () => {
  test.each([
    ['secret:a/b', 'secret:a/*', true],
    ['secret:a/*', 'secret:a/b', false],
    ['secret:a/*', 'secret:a/**', true],
    ['secret:a/**', 'secret:a/*', false],
    ['secret:a', 'secret:a/**', false],
    ['secret:a/**', 'secret:**', true],
    ['secret:**', '**', true],
    ['**', 'secret:**', true],
    ['secret:a/**/**', 'secret:a/**/*', true],
    ['secret:a/**/*', 'secret:a/**', true],
    ['secret:**/a', 'secret:**', true],
    ['secret:**/a/**', 'secret:**/a', false],
    ['secret:a/**/b', 'secret:**/b', true],
    ['secret:ab*', 'secret:a*', true],
    ['secret:a*', 'secret:ab*', false],
    ['secret:a*b', 'secret:*b', true],
    ['secret:aa', 'secret:a*a', true],
    ['secret:a', 'secret:a*a', false],
    ['secret:prod/**', 'secret:prod-backup/**', false],
    ['secret:people/${user.name}/**', 'secret:people/*/**', true],
    ['secret:people/*/**', 'secret:people/${user.name}/**', true],
    ['secret:people/${user.name}', 'secret:people/a', false],
    ['user:a', 'secret:b', true],
  ])('all of %s lies within %s: %s', (inner, outer, expected) => {
    expect(isWithin(pattern(inner), pattern(outer), 'secret')).toBe(expected);
  });

  test('what lies within another covers nothing else, and what never meets shares nothing', () => {
    let [within, apart] = [0, 0];
    fc.assert(
      fc.property(plainPattern, plainPattern, fc.array(resource, { minLength: 20, maxLength: 20 }), (a, b, paths) => {
        const secrets = paths.filter((path) => path.startsWith('secret:'));
        const isInside = isWithin(pattern(a), pattern(b), 'secret');
        const doMeet = meet(pattern(a), pattern(b), 'secret');
        for (const path of secrets) {
          const [one, other] = [covering(a, path), covering(b, path)];
          if (isInside) expect(one && !other, `${a} in ${b}: ${path}`).toBe(false);
          if (!doMeet) expect(one && other, `${a} apart from ${b}: ${path}`).toBe(false);
        }
        expect(meet(pattern(b), pattern(a), 'secret')).toBe(doMeet);
        expect(isWithin(pattern(a), pattern(a), 'secret')).toBe(true);
        within += isInside ? 1 : 0;
        apart += doMeet ? 0 : 1;
      }),
      { numRuns: 3000 },
    );
    expect(within).toBeGreaterThan(100);
    expect(apart).toBeGreaterThan(100);
  });

  test('a pattern that is not within another covers something that the other does not', () => {
    // Every path of up to five segments of these: enough to part any two patterns of the generator.
    const words = ['a', 'b', 'ab', 'aab', 'web-1', 'z', 'azb', 'web-z', 'abz', 'azab', 'zb', 'z1', 'az', 'aabz'];
    const pathOf = fc
      .array(fc.constantFrom(...words), { minLength: 1, maxLength: 7 })
      .map((s) => `secret:${s.join('/')}`);
    let parted = 0;
    let asked = 0;
    fc.assert(
      fc.property(plainPattern, plainPattern, fc.array(pathOf, { minLength: 150, maxLength: 150 }), (a, b, paths) => {
        const inside = paths.filter((path) => covering(a, path));
        if (inside.length < 20 || isWithin(pattern(a), pattern(b), 'secret')) return;
        asked++;
        if (inside.some((path) => !covering(b, path))) parted++;
      }),
      { numRuns: 1500 },
    );
    expect(asked).toBeGreaterThan(30);
    expect(parted / asked).toBeGreaterThan(0.97);
  });
});

const compiled = new WeakMap<PolicyDocument, Map<string, CompiledPolicy>>();

/** Once for each document and name: each is asked about many times. */
function compileOne(document: PolicyDocument, userName: string): CompiledPolicy {
  const known = compiled.get(document) ?? new Map<string, CompiledPolicy>();
  compiled.set(document, known);
  const values = { 'user.name': userName, 'user.id': 'abc', 'user.kind': 'person' };
  const policy = known.get(userName) ?? instanceFor(compilePolicy(document), values)!;
  known.set(userName, policy);
  return policy;
}
const compile = (written: readonly PolicyDocument[], userName: string) =>
  written.map((document) => compileOne(document, userName));

describe('giving', () => {
  /** Whether a decision is at least as good as another: allowed, or after approvals that the other waits for too. */
  function isAsGood(own: Decision, other: Decision): boolean {
    if (own.allowed) return true;
    if (other.allowed || own.reason !== 'approval' || other.reason !== 'approval') return false;
    return own.requirements.every((mine) =>
      other.requirements.some(
        (theirs) => theirs.by === mine.by && theirs.count >= mine.count && theirs.withinSeconds <= mine.withinSeconds,
      ),
    );
  }
  const mayDo = (decision: Decision) => decision.allowed || decision.reason === 'approval';

  test('T-082 whatever somebody could not do before and can do after a change, the giver can do', () => {
    let [let_through, refused, checked] = [0, 0, 0];
    const questions = fc.array(knownQuestion, { minLength: 40, maxLength: 40 });
    const giver = fc.oneof(
      documents,
      documents.map((own) => [{ rules: [{ effect: 'allow' as const, actions: ['*'], resources: ['**'] }] }, ...own]),
    );
    const change = fc.tuple(fc.array(rule, { maxLength: 3 }), fc.array(rule, { maxLength: 2 }), fc.nat(3));
    fc.assert(
      fc.property(giver, documents, change, questions, (own, others, [before, added, kept], asked) => {
        // What is added is often the giver's own, so that much is let through.
        const mine = own.flatMap(({ rules }) => rules);
        const after = [{ rules: [...before.slice(0, kept), ...added.slice(1), ...mine.slice(-kept)].slice(0, 6) }];
        const old = [{ rules: before }];
        if (notHeld([compile(own, 'giver')], changeOf(old, after))) {
          refused++;
          return;
        }
        let_through++;
        // No verb ever asks about an action with a resource of another kind.
        for (const one of asked.filter(({ action, resource }) => action.split('.')[0] === resource.split(':')[0])) {
          const holding = (documents: readonly PolicyDocument[], ask: Question) =>
            decide(compile([...documents, ...others], ask.userName), ask);
          const [was, is] = [holding(old, one), holding(after, one)];
          if (!mayDo(is) || isAsGood(was, is)) continue;
          checked++;
          const giver = decide(compile(own, 'giver'), one);
          if (!isAsGood(giver, is)) expect({ own, others, old, after, one, giver, was, is }).toBe('given by nobody');
        }
      }),
      { numRuns: 1200 },
    );
    expect(let_through).toBeGreaterThan(150);
    expect(refused).toBeGreaterThan(150);
    expect(checked).toBeGreaterThan(100);
  });

  const allow = (actions: string[], resources: string[], rest: object = {}) =>
    ({ effect: 'allow', actions, resources, ...rest }) as PolicyDocument['rules'][number];
  const deny = (actions: string[], resources: string[]) => ({ ...allow(actions, resources), effect: 'deny' as const });
  const held = (...rules: PolicyDocument['rules']) => [[compilePolicy({ rules })]];
  const given = (...rules: PolicyDocument['rules']) => changeOf([], [{ rules }]);
  const admin = [[compilePolicy(BUILT_IN_POLICIES.admin.document)]];

  test('the admin gives everything, templates and what no policy had before too', () => {
    const all = given(allow(['*'], ['**']), allow(['secret.read'], ['secret:people/${user.name}/**']));
    expect(notHeld(admin, all)).toBeUndefined();
  });

  test('a template is as wide as it can become', () => {
    const template = given(allow(['secret.read'], ['secret:people/${user.name}/**']));
    expect(notHeld(held(allow(['secret.read'], ['secret:people/*/**'])), template)).toBeUndefined();
    expect(notHeld(held(allow(['secret.read'], ['secret:people/me/**'])), template)).toEqual({
      action: 'secret.read',
      resource: 'secret:people/${user.name}/**',
    });
  });

  test('conditions and approvals of the giver bind whoever gets it', () => {
    const office = { conditions: { cidrs: ['10.0.0.0/8'] } };
    const desk = { conditions: { cidrs: ['10.1.0.0/16'], mfa: true } };
    const rule = ['secret.read', 'secret:a/**'] as const;
    const of = (rest: object) => allow([rule[0]], [rule[1]], rest);
    expect(notHeld(held(of(office)), given(of(desk)))).toBeUndefined();
    expect(notHeld(held(of(desk)), given(of(office)))).toBeDefined();
    expect(notHeld(held(of(office)), given(of({})))).toBeDefined();
    const one = { approval: { by: 'custodians', within: '4h' } };
    const two = { approval: { by: 'custodians', count: 2, within: '1h' } };
    expect(notHeld(held(of(one)), given(of(two)))).toBeUndefined();
    expect(notHeld(held(of(two)), given(of(one)))).toBeDefined();
    expect(notHeld(held(of(one)), given(of({})))).toBeDefined();
    expect(notHeld(held(of({}), of(one)), given(of({})))).toBeDefined();
  });

  test('what the giver is denied is given only with the same denial', () => {
    const mine = held(allow(['secret.*'], ['secret:**']), deny(['secret.read'], ['secret:prod/**']));
    expect(notHeld(mine, given(allow(['secret.read'], ['secret:test/**'])))).toBeUndefined();
    expect(notHeld(mine, given(allow(['secret.read'], ['secret:**'])))).toBeDefined();
    expect(
      notHeld(mine, given(allow(['secret.read'], ['secret:**']), deny(['secret.read'], ['secret:prod/**']))),
    ).toBeUndefined();
  });

  test('lifting a denial or an approval gives what it kept from people', () => {
    const lifted = (one: PolicyDocument['rules'][number]) => changeOf([{ rules: [one] }], [{ rules: [] }]);
    const secret = deny(['secret.read'], ['secret:prod/**']);
    expect(notHeld(held(allow(['policy.*'], ['policy:**'])), lifted(secret))).toMatchObject({ action: 'secret.read' });
    expect(notHeld(held(allow(['secret.read'], ['secret:**'])), lifted(secret))).toBeUndefined();
    const approval = allow(['secret.read'], ['secret:prod/**'], { approval: { by: 'custodians', within: '1h' } });
    expect(notHeld([[compilePolicy({ rules: [approval] })]], lifted(approval))).toBeDefined();
  });

  test('a token that is bounded gives no more than it may do', () => {
    const bound = [...admin, [compilePolicy(BUILT_IN_POLICIES.reader.document)]];
    expect(notHeld(bound, given(allow(['secret.write'], ['secret:a'])))).toEqual({
      action: 'secret.write',
      resource: 'secret:a',
    });
    expect(notHeld(bound, given(allow(['secret.read'], ['secret:a'])))).toBeUndefined();
  });

  test('two hostile documents are refused before they keep a node busy', () => {
    const wide = (word: string) =>
      Array.from({ length: 100 }, (_, i) =>
        allow(
          ['*'],
          Array.from({ length: 35 }, (_, j) => `secret:${word}${i}/${j}`),
        ),
      );
    expect(() => notHeld(held(...wide('a').slice(1), allow(['*'], ['secret:**'])), given(...wide('b')))).toThrow(
      /smaller steps/,
    );
  });
});
