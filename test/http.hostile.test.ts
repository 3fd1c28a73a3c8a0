/** T-121, a few texts; test/long/hostile.test.ts has them all. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { endTails } from '../src/audit/tail.ts';
import { type TestVault, testVault } from './harness.ts';
import { attack, HOSTILE } from './hostile.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(async () => {
  endTails(t.vault);
  await t.close();
});

it('T-121 hostile text in any place of any operation is refused or is only text, and everything is as it was', async () => {
  const sent = await attack(t, HOSTILE.slice(0, 1), false);
  expect(sent).toBeGreaterThan(1000);
  await t.check();
});
