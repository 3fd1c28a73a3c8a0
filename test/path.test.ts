/**
 * Canonical paths and request targets: one spelling, or a refusal.
 */
import { posix } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VaultError } from '../src/errors.ts';
import { assertCanonicalTarget } from '../src/http/target.ts';
import { parsePath, parsePrefix } from '../src/secret/path.ts';

const ALPHABET = 'ABCXYZabcxyz0189._~@+=-';

const segment = fc
  .string({ unit: fc.constantFrom(...ALPHABET), minLength: 1, maxLength: 12 })
  .filter((text) => text !== '.' && text !== '..');
const canonical = fc.array(segment, { minLength: 1, maxLength: 6 }).map((segments) => segments.join('/'));

/** What attackers and clients put into a path: each is another spelling for some parser somewhere. */
const TRICKS = [
  '%2e',
  '%2E%2e',
  '%2f',
  '%2F',
  '%252f',
  '%5c',
  '%00',
  '%c0%af',
  '%e0%80%af',
  '%u002f',
  '%',
  '/',
  '//',
  '/./',
  '/../',
  '/.',
  '/..',
  './',
  '../',
  '\\',
  '\\..\\',
  ';',
  ';x=1',
  '..;/',
  '\uff0f',
  '\uff0e\uff0e',
  '\u2215',
  '\u2024',
  '\u0000',
  '\u200b',
  '\ufeff',
  '\u0131',
  '\u212a',
  'e\u0301',
  '\u00e9',
  '\ud800',
  ' ',
  '\t',
  '\r\n',
  '\n',
  '#',
  '#x',
  '*',
  ':',
  '!',
  '"',
  '|',
  '<',
  '{',
  '[',
  '^',
  '`',
  ',',
  '&',
  '$',
  "'",
  '(',
  'A',
  'a',
  '-',
];

const mutated = fc
  .tuple(canonical, fc.array(fc.tuple(fc.nat(), fc.constantFrom(...TRICKS), fc.nat(2)), { minLength: 1, maxLength: 3 }))
  .map(([path, changes]) =>
    changes.reduce((text, [place, trick, removed]) => {
      const at = place % (text.length + 1);
      return text.slice(0, at) + trick + text.slice(at + removed);
    }, path),
  );

function codeOf(act: () => unknown): string {
  try {
    act();
    return 'accepted';
  } catch (error) {
    if (error instanceof VaultError) return error.code;
    throw error;
  }
}

/** True when no parser that we know of would see another path in the text than its own bytes. */
function hasOneSpelling(path: string): boolean {
  return (
    new URL(`http://vault.test/${path}`).pathname === `/${path}` &&
    decodeURIComponent(path) === path &&
    path.normalize('NFKC') === path &&
    posix.normalize(path) === path &&
    posix.resolve('/', path) === `/${path}` &&
    path.split(/[/\\;,]/).length === path.split('/').length &&
    Buffer.byteLength(path) === path.length
  );
}

describe('secret paths', () => {
  test('a canonical path is itself', () => {
    fc.assert(fc.property(canonical, (path) => parsePath(path) === path));
  });

  test('T-060 another spelling of a path is refused, or is the same bytes to every parser', () => {
    const seen = { accepted: 0, invalid_path: 0 };
    fc.assert(
      fc.property(mutated, (text) => {
        const code = codeOf(() => parsePath(text)) as keyof typeof seen;
        seen[code]++;
        if (code === 'accepted') expect(hasOneSpelling(text)).toBe(true);
      }),
      { numRuns: 5000 },
    );
    expect(Object.keys(seen)).toHaveLength(2);
    expect(Math.min(seen.accepted, seen.invalid_path)).toBeGreaterThan(100);
  });

  test('exactly the 69 allowed characters may stand in a segment', () => {
    const allowed = Array.from({ length: 0x300 }, (_, code) => String.fromCharCode(code)).filter(
      (character) => codeOf(() => parsePath(`a${character}b`)) === 'accepted',
    );
    const expected = '+-./0123456789=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~';
    expect(allowed.join('')).toBe(expected);
    expect(expected.length - 1).toBe(69);
  });

  test.each([
    ['', 'is empty'],
    ['/', 'starts with a slash'],
    ['/a', 'starts with a slash'],
    ['a/', 'ends with a slash'],
    ['a//b', 'has an empty segment at position 2'],
    ['.', 'has a "." or ".." segment'],
    ['a/..', 'has a "." or ".." segment'],
    ['a/./b', 'has a "." or ".." segment'],
    ['a%2fb', 'has a character at position 1'],
    ['a b', 'has a character at position 1'],
    ['a'.repeat(129), 'has a segment of 129 characters; at most 128'],
    [Array(17).fill('a').join('/'), 'has 17 segments; at most 16'],
    [Array(5).fill('a'.repeat(110)).join('/'), 'has 554 characters; at most 512'],
  ])('%j says which rule it breaks', (text, rule) => {
    expect(() => parsePath(text)).toThrow(rule);
    expect(codeOf(() => parsePath(text))).toBe('invalid_path');
  });

  test('a path at every limit is accepted', () => {
    for (const path of [
      'a'.repeat(128),
      `${Array(16).fill('a'.repeat(31)).join('/')}b`,
      '...',
      'a/.b/b./..c',
      '-/~/@/+/=',
    ]) {
      expect(parsePath(path)).toBe(path);
    }
  });

  test('a refusal never repeats what was sent', () => {
    for (const text of ['hunter2 ', 'a//hunter2', `${'hunter2'.repeat(80)}`, 'hunter2/../x']) {
      expect(() => parsePath(text)).toThrow(
        expect.not.objectContaining({ message: expect.stringContaining('hunter2') }),
      );
    }
  });

  test('a prefix is the root or a path', () => {
    expect(parsePrefix('')).toBe('');
    expect(parsePrefix('prod/web')).toBe('prod/web');
    for (const text of ['/', 'prod/', '/prod', 'prod//web', '.']) {
      expect(
        codeOf(() => parsePrefix(text)),
        text,
      ).toBe('invalid_path');
    }
  });
});

describe('request targets', () => {
  test('a canonical target passes, with or without a query', () => {
    const query = fc.option(
      fc.webQueryParameters().map((text) => `?${text}`),
      { nil: '' },
    );
    fc.assert(
      fc.property(canonical, query, (path, search) => {
        expect(codeOf(() => assertCanonicalTarget(`/${path}${search}`))).toBe('accepted');
      }),
    );
    for (const target of ['/', '/?', '/?a=%2e%2e/../b', '/api/v1/secrets/a?version=2', '/x?y?z/../']) {
      expect(
        codeOf(() => assertCanonicalTarget(target)),
        target,
      ).toBe('accepted');
    }
  });

  test('T-060 another spelling of a target is refused, or is the same bytes to every parser', () => {
    const seen = { accepted: 0, invalid_path: 0 };
    const prefix = fc.constantFrom('/api/v1/secrets/', '/', '/api/v1/metadata/');
    fc.assert(
      fc.property(prefix, mutated, fc.constantFrom('', '?x=1'), (start, text, search) => {
        const path = `${start}${text}`;
        const code = codeOf(() => assertCanonicalTarget(path + search)) as keyof typeof seen;
        seen[code]++;
        if (code === 'accepted') expect(hasOneSpelling(path.slice(1))).toBe(true);
      }),
      { numRuns: 5000 },
    );
    expect(Math.min(seen.accepted, seen.invalid_path)).toBeGreaterThan(100);
  });

  test.each([
    '',
    '*',
    'a',
    'http://vault.test/a',
    'vault.test:443',
    '//',
    '//a',
    '/a/',
    '/a//b',
    '/a/?x=1',
    '/.',
    '/..',
    '/./a',
    '/a/..',
    '/a/..?x',
    '/a/%2e%2e/b',
    '/a%2Fb',
    '/a\\b',
    '/a;x',
    '/a;x=1/b',
    '/a#b',
    '/a?b#c',
    '/a?b c',
    '/a?\u00e9',
    '/a?\u0000',
    '/\u00e9',
    '/a\u0000',
    '/a:b',
    `/${'a'.repeat(129)}`,
    `/a/${'a'.repeat(129)}/b`,
  ])('%j is refused', (target) => {
    expect(codeOf(() => assertCanonicalTarget(target))).toBe('invalid_path');
  });

  test('secret paths and targets allow the same segments', () => {
    fc.assert(
      fc.property(mutated, (text) => {
        fc.pre(!/[?#]/.test(text) && text.length <= 512 && text.split('/').length <= 16);
        expect(codeOf(() => assertCanonicalTarget(`/${text}`))).toBe(
          text === '' ? 'accepted' : codeOf(() => parsePath(text)),
        );
      }),
      { numRuns: 3000 },
    );
  });
});
