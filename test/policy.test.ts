/**
 * Policies: parse and decide, against an evaluator that is written differently and knows nothing of the real one.
 */
import { BlockList, isIPv4, isIPv6 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VaultError } from '../src/errors.ts';
import { ACTION_NAMES, ACTIONS, type Action, AUTH_ACTIONS, NOUNS } from '../src/policy/action.ts';
import { BUILT_IN_POLICIES } from '../src/policy/built-in.ts';
import { RULE_CIDRS_MAX } from '../src/policy/condition.ts';
import { type Ask, type Decision, decide } from '../src/policy/decide.ts';
import { compileGlob, covers, type Glob, resourceOf } from '../src/policy/glob.ts';
import { instanceFor } from '../src/policy/instance.ts';
import {
  compilePolicy,
  POLICY_BYTES_MAX,
  POLICY_RULES_MAX,
  type PolicyDocument,
  RULE_ACTIONS_MAX,
  RULE_RESOURCES_MAX,
} from '../src/policy/policy.ts';
import { documents, type Question, question } from './policy.random.ts';

const HERE = '192.0.2.1';

function ask(action: Action, resource: string, source = HERE): Ask {
  return { action, resource, source };
}

function allow(actions: string[], resources: string[], cidrs?: string[]): PolicyDocument['rules'][number] {
  return { effect: 'allow', actions, resources, ...(cidrs ? { conditions: { cidrs } } : {}) };
}

function deny(actions: string[], resources: string[], cidrs?: string[]): PolicyDocument['rules'][number] {
  return { ...allow(actions, resources, cidrs), effect: 'deny' };
}

function decideOn(rules: PolicyDocument['rules'], question: Ask): Decision {
  return decide([compilePolicy({ rules })], question);
}

function pattern(text: string): Glob {
  const glob = compileGlob(text);
  if (typeof glob === 'string') throw new Error(`${text} ${glob}`);
  return glob;
}

/** The oracle: a direct reading of the rules, on the document itself, by recursion. Slow and plain. */
function naive(written: readonly PolicyDocument[], one: Question): 'allowed' | 'denied' | 'no_rule' | 'approval' {
  const rules = filledRules(written, one.userName);
  if (rules === undefined) return 'denied';
  const speaking = rules.filter((rule) => speaks(rule, one));
  if (speaking.some(({ effect }) => effect === 'deny')) return 'denied';
  if (speaking.some(({ approval, conditions }) => approval && isUnknown(conditions, one))) return 'denied';
  if (speaking.some(({ approval }) => approval)) return 'approval';
  return speaking.length > 0 ? 'allowed' : 'no_rule';
}

type Rule = PolicyDocument['rules'][number];
const filledOf = new WeakMap<readonly PolicyDocument[], Map<string, Rule[] | undefined>>();

/** A name that is no segment of its own denies everything, whichever policy asked for it. */
function filledRules(written: readonly PolicyDocument[], userName: string): Rule[] | undefined {
  const memo = filledOf.get(written) ?? new Map<string, Rule[] | undefined>();
  filledOf.set(written, memo);
  if (!memo.has(userName)) {
    const text = JSON.stringify(written);
    const fits = /^[A-Za-z0-9._~@+=-]+$/.test(userName) && !/^[.]$|[.][.]/.test(userName);
    const rules = (JSON.parse(text.split('${user.name}').join(userName)) as PolicyDocument[]).flatMap(
      (one) => one.rules,
    );
    memo.set(userName, text.includes('${') && !fits ? undefined : rules);
  }
  return memo.get(userName);
}

/** Whether the rule's words are about this, and what it asks for is so, or, for what restricts, may be so. */
function speaks(rule: Rule, one: Question): boolean {
  const { action, resource } = one;
  const [family] = action.split('.');
  if (!rule.actions.some((name) => name === action || name === `${family}.*` || name === '*')) return false;
  if (!rule.resources.some((text) => text === '**' || coversByRecursion(text, resource))) return false;
  const found = findings(rule.conditions, one);
  if (found.includes(false)) return false;
  return rule.effect === 'deny' || rule.approval !== undefined || !found.includes(undefined);
}

const isUnknown = (conditions: Rule['conditions'], one: Question) => {
  const found = findings(conditions, one);
  return !found.includes(false) && found.includes(undefined);
};

/** What each condition comes to; undefined where the fact is not known. */
function findings({ cidrs, mfa, time, token_kinds: kinds }: Rule['conditions'] = {}, one: Question) {
  const { source, now } = one;
  const known = isIPv4(source) || isIPv6(source);
  return [
    cidrs === undefined || (known ? cidrs.some((cidr) => isInNetwork(cidr, source)) : undefined),
    mfa === undefined || (one.mfa === undefined ? undefined : one.mfa === mfa),
    kinds === undefined || (one.tokenKind === undefined ? undefined : kinds.includes(one.tokenKind)),
    time === undefined || (now === undefined ? undefined : isInStretch(time, now)),
  ];
}

const WEEK = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const DAY_MINUTES = 24 * 60;

const clocks = new Map<string, number>();

/** Since 1970 by the wall. */
function localMinutes(timeZone: string, now: string): number {
  const known = clocks.get(timeZone + now);
  if (known !== undefined) return known;
  const local = new Date(now).toLocaleString('sv-SE', { timeZone });
  clocks.set(timeZone + now, Math.floor(Date.parse(`${local.replace(' ', 'T')}Z`) / 60_000));
  return localMinutes(timeZone, now);
}

/** By a Swedish clock, which writes its dates so that they can be read back; each day's stretch is laid on a ruler. */
function isInStretch(time: NonNullable<NonNullable<Rule['conditions']>['time']>, now: string): boolean {
  const minutes = localMinutes(time.zone ?? 'UTC', now);
  const today = Math.floor(minutes / DAY_MINUTES);
  const clock = (text: string) => Number(text.split(':')[0]) * 60 + Number(text.split(':')[1]);
  const [from, until] = [clock(time.from ?? '00:00'), clock(time.until ?? '24:00')];
  return [today, today - 1].some((day) => {
    const name = WEEK[new Date(day * DAY_MINUTES * 60_000).getUTCDay()]!;
    if (time.days && !time.days.includes(name as 'sun')) return false;
    const start = day * DAY_MINUTES + from;
    const end = day * DAY_MINUTES + until + (until <= from ? DAY_MINUTES : 0);
    return minutes >= start && minutes < end;
  });
}

function coversByRecursion(patternText: string, resource: string): boolean {
  const [noun, glob] = patternText.split(':') as [string, string];
  const [resourceNoun, path] = resource.split(':') as [string, string];
  return noun === resourceNoun && fits(glob.split('/'), path.split('/'));
}

function fits(glob: readonly string[], path: readonly string[]): boolean {
  const [head, ...rest] = glob;
  if (head === undefined) return path.length === 0;
  if (head !== '**') return path.length > 0 && fitsText(head, path[0]!) && fits(rest, path.slice(1));
  const least = rest.length === 0 ? 1 : 0;
  for (let taken = least; taken <= path.length; taken++) {
    if (fits(rest, path.slice(taken))) return true;
  }
  return false;
}

function fitsText(glob: string, text: string): boolean {
  if (glob === '') return text === '';
  if (glob[0] !== '*') return glob[0] === text[0] && fitsText(glob.slice(1), text.slice(1));
  return fitsText(glob.slice(1), text) || (text !== '' && fitsText(glob, text.slice(1)));
}

const networks = new Map<string, boolean>();

/** Node's own block list, after taking `::ffff:` off by text. */
function isInNetwork(cidr: string, source: string): boolean {
  const memo = `${cidr} ${source}`;
  let known = networks.get(memo);
  if (known === undefined) {
    const plainCidr = cidr === '::ffff:10.0.0.0/104' ? '10.0.0.0/8' : cidr;
    const [network, bits] = plainCidr.split('/') as [string, string];
    const address = source.replace(/^::ffff:(?=\d+\.)/, '');
    const family = isIPv4(network) ? 'ipv4' : 'ipv6';
    const list = new BlockList();
    list.addSubnet(network, Number(bits), family);
    known = isIPv4(address) === isIPv4(network) && list.check(address, family);
    networks.set(memo, known);
  }
  return known;
}

describe('decide', () => {
  test('T-063 10^5 random questions are decided as by an independent evaluator', () => {
    const seen = { allowed: 0, denied: 0, no_rule: 0, approval: 0 };
    const denyAll = compilePolicy({ rules: [deny(['*'], ['**'])] });
    fc.assert(
      fc.property(documents, fc.array(question, { minLength: 100, maxLength: 100 }), (policies, questions) => {
        const compiled = policies.map(compilePolicy);
        for (const one of questions) {
          const values = { 'user.name': one.userName, 'user.id': 'abc', 'user.kind': 'person' };
          const instances = compiled.map((policy) => instanceFor(policy, values));
          const known = instances.every((instance) => instance !== undefined);
          const decision = decide(known ? instances : [denyAll], one);
          const outcome = decision.allowed ? 'allowed' : decision.reason;
          const expected = naive(policies, one);
          if (outcome !== expected) expect({ ...one, outcome }).toEqual({ ...one, outcome: expected });
          seen[outcome]++;
          if (decision.rule === undefined || !known) continue;
          // The rule that is named is one that speaks of the question, with the effect that was given.
          const filled = filledRules([policies[decision.rule.policy]!], one.userName)!;
          const named = filled[decision.rule.rule]!;
          const allows = decision.allowed || outcome === 'approval';
          const fits = allows ? named.effect === 'allow' : named.effect === 'deny' || isUnknown(named.conditions, one);
          if (!fits || !speaks(named, one)) expect({ ...one, named, outcome }).toEqual('a rule that speaks of it');
        }
      }),
      { numRuns: 1000 },
    );
    // A generator that hardly ever hits one outcome would prove nothing about it.
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(1_000);
  });

  test('nothing is allowed without a rule', () => {
    expect(decide([], ask('secret.read', 'secret:a'))).toEqual({ allowed: false, reason: 'no_rule' });
    expect(decideOn([], ask('secret.read', 'secret:a'))).toEqual({ allowed: false, reason: 'no_rule' });
  });

  test('T-061 one deny beats every allow, in any order and any policy, LIST included', () => {
    const all = compilePolicy({ rules: [allow(['*'], ['**'])] });
    const not = compilePolicy({ rules: [allow(['*'], ['**']), deny(['*'], ['secret:prod/db/**', 'secret:prod/db'])] });
    for (const action of ACTION_NAMES.filter((name) => ACTIONS[name].noun === 'secret')) {
      for (const policies of [
        [all, not],
        [not, all],
      ]) {
        for (const path of ['secret:prod/db', 'secret:prod/db/password', 'secret:prod/db/a/b/c']) {
          const rule = { policy: policies.indexOf(not), rule: 1 };
          expect(decide(policies, ask(action, path))).toEqual({ allowed: false, reason: 'denied', rule });
        }
        expect(decide(policies, ask(action, 'secret:prod/db2')).allowed).toBe(true);
      }
    }
  });

  test('T-061 a grant on prod gives nothing on prod-backup, nor on prod itself', () => {
    const rules = [allow(['secret.*'], ['secret:prod/**'])];
    expect(decideOn(rules, ask('secret.read', 'secret:prod/x')).allowed).toBe(true);
    for (const path of ['prod', 'prod/', 'prod-backup', 'prod-backup/x', 'Prod/x', 'PROD/x', 'x/prod/x']) {
      expect(decideOn(rules, ask('secret.read', `secret:${path}`)).allowed, path).toBe(false);
    }
  });

  test('T-066 names such as root, default, system and words of JavaScript have no meaning of their own', () => {
    const names = ['root', 'default', 'system', 'sys', 'self', 'admin', 'constructor', '__proto__', 'toString'];
    for (const name of names) {
      const rules = [allow(['secret.read'], [`secret:${name}/**`])];
      expect(decideOn(rules, ask('secret.read', `secret:${name}/x`)).allowed).toBe(true);
      for (const other of names.filter((each) => each !== name)) {
        expect(decideOn(rules, ask('secret.read', `secret:${other}/x`)).allowed).toBe(false);
        expect(decideOn(rules, ask('secret.read', `secret:${other}`)).allowed).toBe(false);
      }
      expect(decideOn([allow(['*'], ['secret:**'])], ask(name as Action, 'secret:x')).allowed).toBe(false);
    }
  });

  test('a noun never stands for another: a user named like a secret path is not that secret', () => {
    const rules = [allow(['*'], ['user:**'])];
    expect(decideOn(rules, ask('user.read', 'user:a/b')).allowed).toBe(true);
    expect(decideOn(rules, ask('secret.read', 'secret:a/b')).allowed).toBe(false);
    expect(decideOn(rules, ask('secret.read', 'secret:user:a')).allowed).toBe(false);
  });
});

describe('resource patterns', () => {
  test.each([
    ['secret:**', ['a', 'a/b', 'a/b/c'], []],
    ['secret:*', ['a', 'web-1'], ['a/b']],
    ['secret:prod/*', ['prod/a'], ['prod', 'prod/a/b', 'prod-x/a']],
    ['secret:prod/*/db', ['prod/a/db'], ['prod/db', 'prod/a/b/db']],
    ['secret:prod/**/db', ['prod/db', 'prod/a/db', 'prod/a/b/db'], ['prod', 'db', 'prod/db/a', 'prod/a-db']],
    ['secret:**/db', ['db', 'a/db', 'a/b/db'], ['db/a', 'a-db']],
    ['secret:**/a/**/b/**', ['a/b/c', 'x/a/y/b/z/w', 'a/a/b/b'], ['a/b', 'b/a/c']],
    ['secret:a/**/**', ['a/b', 'a/b/c'], ['a', 'b']],
    ['secret:web-*', ['web-1', 'web-', 'web-1-2'], ['web', 'web-1/x', 'Web-1']],
    ['secret:*.pem', ['a.pem', '.pem'], ['a.pemx', 'a/b.pem']],
    ['secret:a*a', ['aa', 'aba'], ['a', 'ab']],
  ] as const)('%s', (text, inside, outside) => {
    for (const path of inside) expect(covers(pattern(text), resourceOf(`secret:${path}`)), path).toBe(true);
    for (const path of outside) expect(covers(pattern(text), resourceOf(`secret:${path}`)), path).toBe(false);
    for (const path of inside) expect(covers(pattern(text), resourceOf(`lease:${path}`)), path).toBe(false);
  });

  test('T-109 a hostile pattern looks at each segment of a path once for each of its own', () => {
    const hostile = [
      `secret:${Array(60).fill('**/a*').join('/')}/b`,
      `secret:**/${Array(120).fill('a*').join('/')}`,
      `secret:${Array(86).fill('**/a').join('/')}/**/b`,
      `secret:${Array(170).fill('**').join('/')}/b`,
      `secret:**/${'a'.repeat(126)}*/${'a'.repeat(126)}*/**/${'a'.repeat(126)}*/b`,
    ];
    const path = Array(16).fill('a'.repeat(128));
    for (const text of hostile) {
      let looks = 0;
      const segments = new Proxy(path, {
        get(target, property) {
          if (/^\d+$/.test(String(property))) looks++;
          return Reflect.get(target, property);
        },
      });
      expect(covers(pattern(text), { text: `secret:${path.join('/')}`, segments })).toBe(false);
      expect(looks).toBeLessThanOrEqual(text.split('/').length * path.length);
    }
  });
});

describe('documents', () => {
  const good = allow(['secret.read'], ['secret:a']);

  test.each([
    ['no object', null, 'its top level'],
    ['a list', [], 'its top level'],
    ['no rules', {}, 'rules'],
    ['an unknown field', { rules: [], name: 'x' }, 'its top level'],
    ['an unknown field of a rule', { rules: [good, { ...good, note: 'x' }] }, 'rules[1]'],
    ['an unknown effect', { rules: [{ ...good, effect: 'Allow' }] }, 'rules[0].effect'],
    ['no actions', { rules: [{ ...good, actions: [] }] }, 'rules[0].actions'],
    ['no resources', { rules: [{ ...good, resources: [] }] }, 'rules[0].resources'],
    ['no networks', { rules: [{ ...good, conditions: { cidrs: [] } }] }, 'rules[0].conditions.cidrs'],
    ['an unknown condition', { rules: [{ ...good, conditions: { moon: true } }] }, 'rules[0].conditions'],
    ['a bad network', { rules: [allow(['*'], ['**'], ['10.0.0.0/8', '10.1.1.1/8'])] }, 'rules[0].conditions.cidrs[1]'],
    ['too many rules', { rules: Array(POLICY_RULES_MAX + 1).fill(good) }, 'rules'],
    ['too many actions', { rules: [{ ...good, actions: Array(RULE_ACTIONS_MAX + 1).fill('*') }] }, 'rules[0].actions'],
    [
      'too many resources',
      { rules: [{ ...good, resources: Array(RULE_RESOURCES_MAX + 1).fill('**') }] },
      'rules[0].resources',
    ],
    [
      'too many networks',
      { rules: [allow(['*'], ['**'], Array(RULE_CIDRS_MAX + 1).fill('::/0'))] },
      'rules[0].conditions.cidrs',
    ],
  ])('%s is refused at its place', (_, document, field) => {
    expectRefused(document, `not valid at ${field}:`);
  });

  test.each([
    'secret.raed',
    'secret',
    'secret.',
    '.read',
    'secret.**',
    'secret.re*',
    'secre.*',
    'Secret.read',
    ' secret.read',
    'secret.read ',
    '**',
    '',
    'constructor',
    '__proto__',
    'toString.*',
    ...AUTH_ACTIONS,
    'auth.*',
  ])('the action %j is refused, with what is allowed', (action) => {
    expectRefused({ rules: [allow([action], ['**'])] }, 'rules[0].actions[0]: unknown action; ');
  });

  test('an unknown action of a known family names that family', () => {
    expectRefused({ rules: [allow(['audit.reed'], ['**'])] }, 'the family has audit.read, ');
  });

  test.each([
    '',
    '*',
    '***',
    'secret',
    'secret:',
    'secret:/a',
    'secret:a/',
    'secret:a//b',
    'secret:./a',
    'secret:a/..',
    'secret:a**',
    'secret:**a/b',
    'secret:a*b*c',
    'secret:a b',
    'secret:a%2fb',
    'secret:a\\b',
    'secret:a\u0000',
    'secret:\uff41',
    'secret:a;x',
    'secrets:**',
    'Secret:**',
    '*:**',
    'constructor:**',
    `secret:${'a'.repeat(514)}`,
  ])('the resource %j is refused', (text) => {
    expectRefused({ rules: [deny(['*'], [text])] }, 'rules[0].resources[0]: ');
  });

  test('a document of more bytes than the limit is refused, and one of the limit is not', () => {
    const resources = Array.from({ length: 50 }, (_, index) => `secret:${index}/${'a'.repeat(500)}`);
    expectRefused({ rules: [allow(['*'], resources), allow(['*'], resources), allow(['*'], resources)] }, 'bytes');
    const fitting = { rules: [allow(['*'], resources), allow(['*'], resources)] };
    expect(Buffer.byteLength(JSON.stringify(fitting))).toBeLessThan(POLICY_BYTES_MAX);
    expect(decide([compilePolicy(fitting)], ask('secret.read', resources[7]!)).allowed).toBe(true);
  });

  test('a compiled policy does not change with its document', () => {
    const document = { rules: [allow(['secret.read'], ['secret:a'])] };
    const compiled = compilePolicy(document);
    document.rules[0]!.resources[0] = '**';
    document.rules[0]!.actions[0] = '*';
    expect(decide([compiled], ask('secret.read', 'secret:b')).allowed).toBe(false);
  });

  function expectRefused(document: unknown, message: string): void {
    let thrown: unknown;
    try {
      compilePolicy(document);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(VaultError);
    expect((thrown as VaultError).code).toBe('invalid_request');
    expect((thrown as VaultError).message).toContain(message);
  }
});

describe('actions and built-in policies', () => {
  const allowedBy = (name: keyof typeof BUILT_IN_POLICIES) => {
    const policy = compilePolicy(BUILT_IN_POLICIES[name].document);
    return ACTION_NAMES.filter((action) => decide([policy], ask(action, `${ACTIONS[action].noun}:x`)).allowed);
  };

  test('every action is family.verb, can be named in a policy, and has a noun that patterns know', () => {
    for (const action of ACTION_NAMES) {
      expect(action).toMatch(/^[a-z-]+\.[a-z-]+$/);
      expect(NOUNS.has(ACTIONS[action].noun)).toBe(true);
      expect(decideOn([allow([action], ['**'])], ask(action, `${ACTIONS[action].noun}:x`)).allowed).toBe(true);
    }
  });

  test('admin holds every action, those of the system tenant too', () => {
    expect(allowedBy('admin')).toEqual(ACTION_NAMES);
  });

  test('key-admin and auditor hold nothing that reveals a secret, writes one or gives rights', () => {
    for (const action of [...allowedBy('key-admin'), ...allowedBy('auditor')]) {
      expect(ACTIONS[action].reveals, action).toBeUndefined();
      expect(action).not.toMatch(/^secret\.|^lease\.|write|create/);
    }
    expect(allowedBy('key-admin')).toEqual(expect.arrayContaining(['key.rotate', 'key.destroy', 'job.read']));
    expect(allowedBy('auditor')).toEqual(expect.arrayContaining(['audit.read', 'audit.sign', 'policy.read']));
  });

  test('reader reads and changes nothing', () => {
    const expected: Action[] = ['secret.read', 'secret.list', 'secret.history', 'secret.metadata-read'];
    expect(allowedBy('reader')).toEqual(expected);
  });
});
