/** Random policies and questions that meet about as often as they miss: for the oracles of deciding, giving and comparing. */
import fc from 'fast-check';
import type { Action } from '../src/policy/action.ts';
import type { PolicyDocument } from '../src/policy/policy.ts';

export type Question = {
  readonly action: Action;
  readonly resource: string;
  readonly source: string;
  readonly now: string | undefined;
  readonly mfa: boolean | undefined;
  readonly tokenKind: string | undefined;
  readonly userName: string;
};

/** Few words, so that patterns and resources meet about as often as they miss. */
const segment = fc.constantFrom('a', 'b', 'ab', 'aab', 'web-1', 'A');
const globSegment = fc.oneof(
  { weight: 4, arbitrary: segment },
  { weight: 3, arbitrary: fc.constantFrom('*', '**', '**') },
  { weight: 2, arbitrary: fc.constantFrom('a*', '*b', 'a*b', 'web-*', '*1', 'ab*', 'a*ab') },
);
export const resource = fc
  .tuple(fc.constantFrom('secret', 'secret', 'secret', 'user'), fc.array(segment, { minLength: 1, maxLength: 5 }))
  .map(([noun, segments]) => `${noun}:${segments.join('/')}`);
/** Patterns without templates. */
export const plainPattern = fc.oneof(
  { weight: 9, arbitrary: fc.array(globSegment, { minLength: 1, maxLength: 5 }).map((s) => `secret:${s.join('/')}`) },
  { weight: 1, arbitrary: fc.constantFrom('**', 'user:**', 'user:*', 'secret:**') },
);
const resourcePattern = fc.oneof(
  { weight: 19, arbitrary: plainPattern },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      'secret:${user.name}/**',
      'secret:*/${user.name}',
      'secret:a${user.name}/**',
      'secret:web-${user.name}',
    ),
  },
);

const cidr = fc.constantFrom(
  '10.0.0.0/8',
  '10.0.0.0/16',
  '10.0.0.1/32',
  '0.0.0.0/0',
  '::/0',
  '::1/128',
  '2001:db8::/33',
  '::ffff:10.0.0.0/104',
);
const knownSource = fc.constantFrom(
  '10.0.0.1',
  '10.1.2.3',
  '192.0.2.1',
  '::1',
  '::ffff:10.0.0.1',
  '2001:db8::1',
  '2001:db8:8000::1',
);
const clock = fc.constantFrom('00:00', '01:30', '08:00', '12:00', '18:00', '22:15', '23:59');
const days = fc.subarray(['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const, { minLength: 1 });
const time = fc
  .record({
    zone: fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kathmandu'),
    days: fc.option(days, { nil: undefined }),
    from: clock,
    until: fc.oneof(clock, fc.constant('24:00')),
  })
  .filter(({ from, until }) => from !== until);
/** Across midnights, and around the nights on which clocks change. */
const knownNow = fc.constantFrom(
  '2026-03-29T00:59:59.999999Z',
  '2026-03-29T01:00:00.000000Z',
  '2026-10-25T00:30:00.000000Z',
  '2026-10-25T01:30:00.000000Z',
  '2026-11-01T05:30:00.000000Z',
  '2026-11-01T06:30:00.000000Z',
  '2026-05-04T21:59:00.000000Z',
  '2026-05-04T22:15:00.000000Z',
  '2026-05-05T07:00:00.000000Z',
  '2026-12-31T23:30:00.000000Z',
);

const maybe = <T>(arbitrary: fc.Arbitrary<T>, freq: number) => fc.option(arbitrary, { freq, nil: undefined });
const conditions = fc
  .record({
    cidrs: maybe(fc.array(cidr, { minLength: 1, maxLength: 2 }), 2),
    mfa: fc.option(fc.boolean(), { freq: 1, nil: undefined }),
    time: maybe(time, 1),
    token_kinds: maybe(fc.subarray(['login', 'child', 'lease'], { minLength: 1 }), 1),
  })
  .map((all) => Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)));

const actionPattern = fc.constantFrom('secret.read', 'secret.list', 'secret.*', 'user.read', '*');
const plainRule = fc.record({
  effect: fc.constantFrom('allow' as const, 'allow' as const, 'allow' as const, 'deny' as const),
  actions: fc.array(actionPattern, { minLength: 1, maxLength: 3 }),
  resources: fc.array(resourcePattern, { minLength: 1, maxLength: 3 }),
});
const approvalRule = fc.record({
  effect: fc.constant('allow' as const),
  actions: fc.constantFrom(['secret.read'], ['secret.read', 'secret.destroy']),
  resources: fc.array(resourcePattern, { minLength: 1, maxLength: 2 }),
  approval: fc.record({
    by: fc.constantFrom('custodians', 'owners'),
    count: fc.constantFrom(1, 2),
    within: fc.constantFrom('1h', '4h'),
  }),
});
export const rule = fc
  .tuple(
    fc.oneof({ weight: 5, arbitrary: plainRule }, { weight: 1, arbitrary: approvalRule }),
    fc.option(conditions, { freq: 2, nil: undefined }),
  )
  .map(([written, asked]) => (asked === undefined ? written : { ...written, conditions: asked })) as fc.Arbitrary<
  PolicyDocument['rules'][number]
>;

export const documents: fc.Arbitrary<PolicyDocument[]> = fc.array(
  fc.record({ rules: fc.array(rule, { maxLength: 4 }) }),
  { minLength: 1, maxLength: 3 },
);

const asked = {
  action: fc.constantFrom<Action>('secret.read', 'secret.list', 'secret.write', 'user.read'),
  resource,
};
/** Facts that are all known. */
export const knownQuestion: fc.Arbitrary<Question> = fc.record({
  ...asked,
  source: knownSource,
  now: knownNow,
  mfa: fc.boolean(),
  tokenKind: fc.constantFrom('login', 'child', 'lease'),
  userName: fc.constantFrom('a', 'b', 'ab', '1', 'x'),
});
export const question: fc.Arbitrary<Question> = fc.record({
  ...asked,
  source: fc.oneof({ weight: 4, arbitrary: knownSource }, { weight: 1, arbitrary: fc.constantFrom('', 'unix') }),
  now: fc.oneof({ weight: 9, arbitrary: knownNow }, { weight: 1, arbitrary: fc.constantFrom(undefined) }),
  mfa: fc.constantFrom(true, false, true, false, undefined),
  tokenKind: fc.constantFrom('login', 'child', 'lease', 'login', undefined),
  userName: fc.constantFrom('a', 'b', 'ab', '1', 'x', '..', '', 'a/b', '*', 'a.b', 'a..b'),
});
