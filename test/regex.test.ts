/**
 * T-109: no regular expression takes longer than its text is long. Those in vectors/regexes.txt were found safe by recheck,
 * which takes minutes for all of them, and are looked at again by test/long/regex.test.ts; any other is looked at here.
 */
import { expect, it } from 'vitest';
import { constructedLate, everyRegex, listedRegexes, verdictOn } from './regexes.ts';

const CHECK_MS = 60_000;

it('T-109 every regular expression is one that recheck finds safe', async () => {
  const all = await everyRegex();
  expect(all.length).toBeGreaterThan(200);
  const listed = new Set(listedRegexes());
  const verdicts = all.filter((text) => !listed.has(text)).map((text) => [text, verdictOn(text, CHECK_MS)]);
  expect(verdicts.filter(([, verdict]) => verdict !== 'safe')).toEqual([]);
}, 600_000);

it('T-109 none is put together from what a request says', () => {
  expect(constructedLate()).toEqual([]);
});

it('T-109 a regular expression that is not safe is found out', () => {
  expect(verdictOn('/^(a|a)*$/', CHECK_MS)).toMatch(/^vulnerable exponential/);
  expect(verdictOn('/^\\/+|\\/+$/g', CHECK_MS)).toMatch(/^vulnerable 2nd degree polynomial/);
});
