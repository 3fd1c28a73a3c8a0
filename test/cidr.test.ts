/**
 * Networks in policies: one address however it is spelled, and closed when there is none.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { contains, parseAddress, parseCidr } from '../src/policy/cidr.ts';
import { decide } from '../src/policy/decide.ts';
import { compilePolicy, type PolicyDocument } from '../src/policy/policy.ts';

type Rule = PolicyDocument['rules'][number];

function allow(cidrs?: string[]): Rule {
  return { effect: 'allow', actions: ['*'], resources: ['**'], ...(cidrs ? { conditions: { cidrs } } : {}) };
}

function isAllowed(rules: Rule[], source: string): boolean {
  return decide([compilePolicy({ rules })], { action: 'secret.read', resource: 'secret:a', source }).allowed;
}

describe('networks', () => {
  const value = (bits: number) => fc.bigInt({ min: 0n, max: (1n << BigInt(bits)) - 1n });
  const dotted = (address: bigint) => [24n, 16n, 8n, 0n].map((shift) => (address >> shift) & 255n).join('.');
  const groups = (address: bigint) => [112n, 96n, 80n, 64n, 48n, 32n, 16n, 0n].map((s) => (address >> s) & 0xffffn);
  const hex = (address: bigint) => groups(address).map((group) => group.toString(16));
  const v6Spellings = (address: bigint) => [
    hex(address).join(':'),
    hex(address).join(':').toUpperCase(),
    groups(address)
      .map((group) => group.toString(16).padStart(4, '0'))
      .join(':'),
    // WHATWG URL writes the shortest form, with its own code.
    new URL(`http://[${hex(address).join(':')}]/`).hostname.slice(1, -1),
    `${hex(address).slice(0, 6).join(':')}:${dotted(address & 0xffffffffn)}`,
    `${hex(address).join(':')}%eth0`,
  ];
  const v4Spellings = (address: bigint) => [dotted(address), ...v6Spellings((0xffffn << 32n) | address)];

  test.each([
    ['IPv4', 32, v4Spellings],
    ['IPv6', 128, v6Spellings],
  ] as const)(
    'T-108 every spelling of an %s address is the same address, and arithmetic decides',
    (_, width, spell) => {
      const input = fc.tuple(value(width), value(width), fc.nat(width), fc.boolean());
      fc.assert(
        fc.property(input, ([network, other, bits, near]) => {
          const mask = ((1n << BigInt(bits)) - 1n) << BigInt(width - bits);
          // Half of the addresses share the prefix, or hardly any would for a long one.
          const address = near ? (network & mask) | (other & ~mask) : other;
          if (width === 128) fc.pre(address >> 32n !== 0xffffn && (network & mask) >> 32n !== 0xffffn);
          const written = parseCidr(`${spell(network & mask)[0]}/${bits}`)!;
          for (const text of spell(address)) {
            expect(contains(written, parseAddress(text)!), text).toBe((address & mask) === (network & mask));
          }
        }),
        { numRuns: 300 },
      );
    },
  );

  test('T-108 IPv4 rules hold for IPv4-mapped clients, and no IPv6 network reaches an IPv4 client', () => {
    const ten = [allow(['10.0.0.0/8'])];
    for (const client of ['10.9.8.7', '::ffff:10.9.8.7', '::FFFF:0A09:0807', '0:0:0:0:0:ffff:a09:807']) {
      expect(isAllowed(ten, client), client).toBe(true);
    }
    for (const client of ['11.9.8.7', '::10.9.8.7', '::a09:807', '::fffe:10.9.8.7', '64:ff9b::10.9.8.7']) {
      expect(isAllowed(ten, client), client).toBe(false);
    }
    const six = [allow(['::/0'])];
    expect(isAllowed(six, '2001:db8::1')).toBe(true);
    expect(isAllowed(six, '::ffff:10.0.0.1')).toBe(false);
    expect(parseCidr('::ffff:10.0.0.0/104')).toEqual(parseCidr('10.0.0.0/8'));
  });

  test('T-108 a source that is no address fails closed: allows do not hold, denies do', () => {
    const rules = [allow(), { ...allow(['203.0.113.0/24']), effect: 'deny' as const }];
    const only = [allow(['0.0.0.0/0', '::/0'])];
    for (const client of [
      '',
      'unix',
      '10.0.0.1, 10.0.0.2',
      '010.0.0.1',
      '0x0a.0.0.1',
      '167772161',
      '1'.repeat(16384),
    ]) {
      expect(isAllowed(rules, client), client).toBe(false);
      expect(isAllowed(only, client), client).toBe(false);
    }
    expect(isAllowed(rules, '198.51.100.1')).toBe(true);
  });

  test.each([
    '10.0.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '10.0.0.0/+8',
    '10.0.0.0/8.0',
    '10.0.0.0/8 ',
    '10.0.0.1/8',
    '10.0.0/8',
    '::1/129',
    '::1/127',
    '::ffff:10.0.0.0/8',
    'fe80::%eth0/64',
    '*/8',
    '',
  ])('the network %j is refused', (text) => {
    expect(parseCidr(text)).toBeUndefined();
  });
});
