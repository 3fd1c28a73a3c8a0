/** T-109: recheck looks at every regular expression of the program, with as much time for each as it may take. */
import { expect, it } from 'vitest';
import { everyRegex, verdictOn } from '../regexes.ts';

const CHECK_MS = 300_000;

it('T-109 no regular expression is vulnerable', async () => {
  const found = (await everyRegex()).map((text) => [text, verdictOn(text, CHECK_MS)]);
  expect(found.filter(([, verdict]) => verdict !== 'safe')).toEqual([]);
}, 3_600_000);
