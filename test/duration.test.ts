/** Durations: read as people write them, and shown as they are given. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { duration } from '../src/cli/print.ts';
import { formatDuration, parseDurationSeconds } from '../src/config-duration.ts';

it('are shown in the largest unit that leaves nothing over', () => {
  const shown = [0, 1, 59, 60, 90, 900, 3600, 5400, 86_400, 90_000, 2_592_000].map(formatDuration);
  expect(shown).toEqual(['0s', '1s', '59s', '1m', '90s', '15m', '1h', '90m', '1d', '25h', '30d']);
  expect([duration(null), duration(undefined), duration(900)]).toEqual([undefined, undefined, '15m']);
});

it('read again are what they were', () => {
  const isSame = (seconds: number) => parseDurationSeconds(formatDuration(seconds)) === seconds;
  fc.assert(fc.property(fc.nat(), isSame));
});
