/** The rules by which the claims of somebody else's token give policies: patterns, and where they look. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { matches, policiesFor } from '../src/auth/claim.ts';

it.each([
  ['acme/web', 'acme/web', true],
  ['acme/web', 'acme/web2', false],
  ['acme/*', 'acme/web', true],
  ['acme/*', 'acme/web/x', false],
  ['acme/*', 'ACME/web', false],
  ['repo:acme/web:*', 'repo:acme/web:pull_request', true],
  ['repo:acme/web:*', 'repo:acme/web:ref:refs/heads/main', false],
  ['repo:acme/web:**', 'repo:acme/web:ref:refs/heads/main', true],
  ['repo:acme/web:**', 'repo:acme/web2:ref:refs/heads/main', false],
  ['*.example', 'a.example', true],
  ['a.c', 'abc', false],
  ['a**z', 'az', true],
])('%s fits %s: %s', (pattern, text, fits) => {
  expect(matches(pattern, text)).toBe(fits);
});

it('a pattern matches as a regular expression would, and in no more time for the worst pattern', () => {
  const letter = fc.constantFrom('a', 'b', '/', ':', '*');
  const texts = fc.array(letter, { maxLength: 8 }).map((letters) => letters.join(''));
  fc.assert(
    fc.property(texts, texts, (pattern, text) => {
      const source = pattern.replace(/\*\*|\*/g, (stars) => (stars === '**' ? '[^]*' : '[^/:]*'));
      expect(matches(pattern, text)).toBe(new RegExp(`^${source}$`).test(text));
    }),
    { numRuns: 500 },
  );
  expect(matches(`${'**a'.repeat(80)}b`, 'a'.repeat(1024))).toBe(false);
});

it('rules look into lists and objects, and never at what is inherited', () => {
  const rules = (given: Record<string, string[]>) => [{ claims: given, policies: ['p'] }];
  const proven = { groups: ['a', 'b'], 'kubernetes.io': { namespace: 'prod' }, n: 7, yes: true, deep: [['a']] };
  expect(policiesFor(rules({ groups: ['b'] }), proven)).toEqual(['p']);
  expect(policiesFor(rules({ '/kubernetes.io/namespace': ['prod'] }), proven)).toEqual(['p']);
  expect(policiesFor(rules({ n: ['7'], yes: ['true'] }), proven)).toEqual(['p']);
  for (const absent of ['c', 'toString', '__proto__', '/constructor/name', 'deep', 'kubernetes.io', '/groups/0']) {
    expect(policiesFor(rules({ [absent]: ['**x**', 'a', '*a*', 'Object'] }), proven), absent).toBeUndefined();
  }
  expect(policiesFor(rules({ groups: ['a'], n: ['8'] }), proven)).toBeUndefined();
});
