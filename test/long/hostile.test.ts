/** T-121 whole: every hostile text, and values of every other kind, in every place of every operation. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { endTails } from '../../src/audit/tail.ts';
import { type TestVault, testVault } from '../harness.ts';
import { attack, HOSTILE } from '../hostile.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(async () => {
  endTails(t.vault);
  await t.close();
});

it('T-121 every hostile text in every place of every operation: never a fault, never without an end, nothing changed beside', async () => {
  const began = performance.now();
  const sent = await attack(t, HOSTILE, true);
  process.stderr.write(`${sent} hostile requests in ${Math.round((performance.now() - began) / 1000)} s\n`);
  expect(sent).toBeGreaterThan(20_000);
  await t.check();
}, 1_800_000);
