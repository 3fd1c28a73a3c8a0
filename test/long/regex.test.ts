/** T-109: recheck looks at every regular expression of the program, with as much time for each as it may take. */
import { expect, it } from 'vitest';
import { everyRegex, listedRegexes, verdictOn } from '../regexes.ts';

const CHECK_MS = 300_000;

it('T-109 no regular expression is vulnerable, and the list says which there are', async () => {
  const all = await everyRegex();
  const verdicts = all.map((text) => [text, verdictOn(text, CHECK_MS)]);
  expect(verdicts.filter(([, verdict]) => verdict !== 'safe')).toEqual([]);
  expect(listedRegexes(), 'test/vectors/regexes.txt').toEqual(all);
}, 3_600_000);
