/**
 * T-109: no regular expression takes longer than its text is long. Those that recheck has found safe are listed in
 * vectors/regexes.txt, and are looked at again by test/long/regex.test.ts; any other is looked at here.
 */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { constructedLate, everyRegex, verdictOn } from './regexes.ts';

const CHECK_MS = 60_000;

it('T-109 every regular expression is one that recheck has found safe, and is listed', async () => {
  const listed = new Set(
    readFileSync(new URL('vectors/regexes.txt', import.meta.url), 'utf8')
      .trimEnd()
      .split('\n'),
  );
  const all = await everyRegex();
  expect(all.length).toBeGreaterThan(200);
  const young = all.filter((text) => !listed.has(text));
  const verdicts = young.map((text) => [text, verdictOn(text, CHECK_MS)]);
  expect(verdicts.filter(([, verdict]) => verdict !== 'safe')).toEqual([]);
  expect(young, 'add these lines to test/vectors/regexes.txt').toEqual([]);
  expect(
    [...listed].filter((text) => !all.includes(text)),
    'take these lines out of it',
  ).toEqual([]);
}, 600_000);

it('T-109 none is put together from what a request says', () => {
  expect(constructedLate()).toEqual([]);
});

it('T-109 a regular expression that is not safe is found out', () => {
  expect(verdictOn('/^(a|a)*$/', CHECK_MS)).toMatch(/^vulnerable exponential/);
  expect(verdictOn('/^\\/+|\\/+$/g', CHECK_MS)).toMatch(/^vulnerable 2nd degree polynomial/);
});
