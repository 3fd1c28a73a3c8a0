/** T-120: a million secrets, listed by who may see them all, by who may see one of them, and by folder. */
import { memoryUsage } from 'node:process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { listSecrets } from '../../src/secret/list.ts';
import type { SecretPrefix } from '../../src/secret/path.ts';
import { type TestVault, testVault } from '../harness.ts';
import { fillSecrets, tenantId } from '../witness.ts';

const COUNT = 1_000_000;
/** What Node puts off collecting; all of them at once would be several times as much. */
const GROWTH_BYTES_MAX = 192 * 1024 * 1024;

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
  await fillSecrets(t.owner, await tenantId(t.owner, 'default'), 'many', COUNT);
  await t.owner`ANALYZE secrets`;
});
afterAll(() => t.close());

/** Pages until the end: how many items there were, and how far memory rose meanwhile. */
async function paged(token: string, recursive = true): Promise<{ items: number; pages: number; grown: number }> {
  const before = memoryUsage.rss();
  let [items, pages, grown, cursor]: [number, number, number, string | undefined] = [0, 0, 0, undefined];
  do {
    const ask = { prefix: '' as SecretPrefix, recursive, limit: 1000, cursor };
    const page: Awaited<ReturnType<typeof listSecrets>> = await listSecrets(t.vault, t.call(token), ask);
    expect(page.items.length).toBeLessThanOrEqual(1000);
    items += page.items.length;
    pages += 1;
    grown = Math.max(grown, memoryUsage.rss() - before);
    cursor = page.nextCursor ?? undefined;
  } while (cursor !== undefined);
  return { items, pages, grown };
}

it('T-120 a million secrets come in pages, and the memory that it takes has a bound', async () => {
  const one = await t.user(
    'one',
    [],
    [{ effect: 'allow', actions: ['secret.list'], resources: [`secret:many/${String(COUNT).padStart(7, '0')}`] }],
  );
  const [all, few, folders] = [await paged(t.admin), await paged(one), await paged(t.admin, false)];
  process.stderr.write(`a million secrets: ${JSON.stringify({ all, few, folders })}\n`);
  expect([all.items, few.items, folders.items]).toEqual([COUNT, 1, 1]);
  for (const { grown } of [all, few, folders]) expect(grown).toBeLessThan(GROWTH_BYTES_MAX);
}, 1_800_000);
