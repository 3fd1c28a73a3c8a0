/** A log that has grown answers and proves; how long that takes with ten million entries is test/long/audit.test.ts. */
import { expect, it } from 'vitest';
import { testVault } from './harness.ts';
import { measureLargeLog } from './large-log.ts';

it('a log of fifty thousand entries is filtered by time, index, actor and request, and proves', async () => {
  const t = await testVault();
  const figures = await measureLargeLog(t, 50_000);
  expect(Object.keys(figures)).toContain('unread');
  await t.close();
});
