/** A log that has grown: what people ask of it a stretch at a time costs no more than it did. Ten million: test/long. */
import { expect, it } from 'vitest';
import { testVault } from './harness.ts';
import { measureLargeLog } from './large-log.ts';

it('a log of a hundred thousand entries answers and proves', async () => {
  const t = await testVault();
  const figures = await measureLargeLog(t, 100_000);
  console.log(figures);
  expect(figures.read).toBeLessThan(1000);
  await t.close();
});
