/** Keys that rotate by themselves at a configured age, whatever is done to the clock. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { listJobs } from '../src/job/job.ts';
import { startJobs } from '../src/job/kinds.ts';
import { ENVELOPE_TABLES } from '../src/job/reencrypt.ts';
import { rotateDue } from '../src/job/schedule.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { advanceMark, keyAges, summariseAges } from '../src/tenant/age.ts';
import { listRootKeys } from '../src/tenant/root-key.ts';
import { listDataKeys } from '../src/tenant/rotation.ts';
import type { Vault } from '../src/vault.ts';
import { callOf, type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';

const DAY = 24 * 3600;
const AGES = { BULLA_DATA_KEY_MAX_AGE: '90d', BULLA_ROOT_KEY_MAX_AGE: '365d' };

let t: TestVault;
beforeEach(async () => {
  t = await testVault({ env: AGES });
});
afterEach(() => t.close());

/** A node whose PostgreSQL clock is shifted; tokens of another time are no matter here, so the vault's own acts are asked. */
const at = (days: number, env: Record<string, string> = AGES) => t.node({ env, clockOffsetSeconds: days * DAY });
const versions = async () =>
  (
    await t.owner`SELECT version, data_keys.state FROM data_keys JOIN tenants USING (tenant_id) WHERE name = 'default' ORDER BY version`
  ).map(({ version, state }) => `${version} ${state}`);
const roots = async () => (await t.owner`SELECT version FROM root_keys WHERE state = 'active'`)[0]!.version as number;
const defaultTenant = async () => (await t.owner`SELECT tenant_id FROM tenants WHERE name = 'default'`)[0]!.tenant_id;

test('T-016 a data key past its age rotates with re-encryption and is destroyed; a root key past its own too', async () => {
  await putSecret(t.vault, callOf(t.admin), parsePath('a'), { kind: 'text', body: Buffer.from('v') });
  await rotateDue(t.vault);
  expect([await versions(), await roots()]).toEqual([['1 active'], 1]);

  const later = await at(91);
  await rotateDue(later);
  await rotateDue(later);
  expect([await versions(), await roots()]).toEqual([['1 decrypt_only', '2 active'], 1]);
  const runner = startJobs(later);
  await until('the old key is destroyed', async () => (await versions())[0] === '1 destroyed');
  await runner.stop();

  const nextYear = await at(366);
  await rotateDue(nextYear);
  expect(await roots()).toBe(2);
  const job = (await listJobs(t.vault, callOf(t.operator), {})).items.find(({ kind }) => kind === 'root-key-rotate');
  expect(job).toMatchObject({ startedBy: 'vault', state: 'done' });
  await t.check();
});

test('an age of 0 turns it off, and lists say that nothing is due', async () => {
  const off = await at(1000, { BULLA_DATA_KEY_MAX_AGE: '0', BULLA_ROOT_KEY_MAX_AGE: '0' });
  await rotateDue(off);
  expect([await versions(), await roots()]).toEqual([['1 active'], 1]);
  const ages = await keyAges(off, await defaultTenant());
  expect([ages.root.dueAt, ages.data.dueAt]).toEqual([null, null]);
  expect(await summariseAges(off)).toMatchObject({ overdue: 0 });
});

test('lists, and the summary for metrics, show age and due date', async () => {
  const [data] = (await listDataKeys(t.vault, callOf(t.admin), {}, ENVELOPE_TABLES)).items;
  expect(Math.round((Date.parse(data!.dueAt!) - Date.parse(data!.createdAt)) / 1000)).toBe(90 * DAY);
  const [root] = (await listRootKeys(t.vault, callOf(t.operator), {})).items;
  expect(Math.round((Date.parse(root!.dueAt!) - Date.parse(root!.createdAt)) / 1000)).toBe(365 * DAY);
  const later = await at(100);
  expect((await keyAges(later, await defaultTenant())).data.ageSeconds).toBeGreaterThanOrEqual(100 * DAY);
  // The keys of system and default.
  expect(await summariseAges(later)).toMatchObject({ overdue: 2 });
  const metrics = (await t.request('GET', '/metrics')).text;
  for (const name of ['bulla_root_key_age_seconds', 'bulla_data_key_age_seconds_max', 'bulla_data_keys_overdue 0']) {
    expect(metrics).toContain(name);
  }
});

test('T-016 T-190 a clock moved back does not lengthen a cryptoperiod', async () => {
  // Seen by a node at day 60; then the clock goes back by 100 days, and 31 days go by on that clock.
  await advanceMark(await at(60), undefined);
  const back = await at(-40);
  const elapsing = (node: Vault, days: number) => ({
    ...node,
    clock: { monotonicMs: () => node.clock.monotonicMs() + days * DAY * 1000 },
  });
  const seen = await advanceMark(back, undefined);
  await rotateDue(back);
  expect(await versions()).toEqual(['1 active']);
  await advanceMark(elapsing(back, 31), seen);
  await rotateDue(back);
  expect(await versions()).toEqual(['1 decrypt_only', '2 active']);
  // What was made while the clock was behind is as new as it is, and does not rotate again at once.
  await rotateDue(back);
  expect(await versions()).toHaveLength(2);
  expect((await keyAges(back, await defaultTenant())).data.ageSeconds).toBeLessThan(60);
});

test('nodes that carry the mark forward side by side do not add up', async () => {
  const nodes = [await at(0), await at(0), await at(0)];
  const start = await advanceMark(nodes[0]!, undefined);
  const seen = await Promise.all(nodes.map((node) => advanceMark(node, undefined)));
  const day = (node: Vault) => ({ ...node, clock: { monotonicMs: () => node.clock.monotonicMs() + DAY * 1000 } });
  await Promise.all(nodes.map((node, i) => advanceMark(day(node), seen[i])));
  const [mark] = await t.owner`SELECT high_water::text AS at FROM clock_marks`;
  expect((Date.parse(mark!.at) - Date.parse(start.highWater)) / 1000 / DAY).toBeCloseTo(1, 2);
});

test('T-192 two nodes that see the same due key rotate it once', async () => {
  const nodes = [await at(91), await at(91)];
  await Promise.all(nodes.map(rotateDue));
  expect(await versions()).toEqual(['1 decrypt_only', '2 active']);
});
