/** A log of ten million entries: appending to it costs what it did, and what is asked of a stretch of it is quick. */
import { expect, test } from 'vitest';
import { testVault } from '../harness.ts';
import { measureLargeLog } from '../large-log.ts';

test('ten million entries stay fast to append to, to filter by time and to prove', async () => {
  const t = await testVault({ env: { BULLA_LISTEN: '127.0.0.1:0' } });
  try {
    const figures = await measureLargeLog(t, 10_000_000);
    process.stderr.write(
      `${JSON.stringify(figures, (_, value) => (typeof value === 'number' ? Math.round(value) : value), 1)}\n`,
    );
    expect(figures.read).toBeLessThan(2 * figures.read_before + 20);
  } finally {
    await t.close();
  }
}, 1_800_000);
