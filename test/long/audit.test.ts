/** A log of ten million entries: appending to it costs what it did, and what is asked of a stretch of it is quick. */
import { expect, test } from 'vitest';
import { testVault } from '../harness.ts';
import { measureLargeLog } from '../large-log.ts';

test('ten million entries stay fast to append to, to filter by time and to prove', async () => {
  const t = await testVault();
  try {
    const figures = await measureLargeLog(t, 10_000_000, (figure) => process.stderr.write(`${figure}\n`));
    expect(figures.read).toBeLessThan(2 * figures.read_before! + 10);
    for (const name of ['inclusion_proof', 'consistency_proof', 'hundred_by_index', 'hundred_after_a_time']) {
      expect(figures[name], name).toBeLessThan(100);
    }
    for (const name of ['entries_of_ten_seconds', 'one_actor_in_a_minute', 'denials_of_a_minute']) {
      expect(figures[name], name).toBeLessThan(1000);
    }
  } finally {
    await t.close();
  }
}, 1_800_000);
