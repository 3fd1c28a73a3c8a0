/** Deleting a tenant: what is gone at once, what a failure at any step leaves, and what stays for ever. */
import { Readable } from 'node:stream';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { openLogKeys, signLog } from '../src/audit/checkpoint.ts';
import { verifyLog } from '../src/audit/verify-log.ts';
import { asTenantId } from '../src/db/database.ts';
import { atKillpoints } from '../src/db/killpoint.ts';
import { listJobs } from '../src/job/job.ts';
import { startJobs } from '../src/job/kinds.ts';
import { rotateKey } from '../src/job/reencrypt.ts';
import { deleteTenant } from '../src/job/tenant.ts';
import { readSecret } from '../src/policy/read.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { callOf, type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());
afterEach(() => atKillpoints(() => undefined));

/** What of a deleted tenant stays: its id, its audit log, and that its keys are destroyed. */
const KEPT = [
  'tenants',
  'data_keys',
  'audit_heads',
  'audit_segments',
  'audit_leaves',
  'audit_tiles',
  'audit_checkpoints',
  'audit_signing',
];

async function tablesWith(tenant: string): Promise<string[]> {
  const tables = await t.owner`
    SELECT table_name AS name FROM information_schema.columns WHERE table_schema = 'bulla' AND column_name = 'tenant_id'`;
  const found: string[] = [];
  for (const { name } of tables) {
    const rows = await t.owner`SELECT 1 FROM ${t.owner(name)} WHERE tenant_id = ${tenant} LIMIT 1`;
    if (rows.length > 0) found.push(name);
  }
  return found.sort();
}

const idOf = async (name: string) =>
  (await t.owner`SELECT tenant_id FROM tenants WHERE name = ${name}`)[0]!.tenant_id as string;

async function filled(name: string): Promise<{ id: string; token: string }> {
  const token = await t.tenant(name);
  for (let i = 0; i < 20; i += 1) {
    await putSecret(t.vault, callOf(token), parsePath(`s${i}`), {
      kind: 'text',
      body: Buffer.from('v'),
      metadata: { k: 'v' },
    });
  }
  await rotateKey(t.vault, callOf(token), { reencrypt: true });
  return { id: await idOf(name), token };
}

test('T-077 everything of it is gone but its log, whose size and root the system log keeps', async () => {
  const { id, token } = await filled('gone');
  await deleteTenant(t.vault, callOf(t.operator), 'gone');
  const left = await tablesWith(id);
  expect(left.filter((table) => !KEPT.includes(table))).toEqual([]);
  expect(left).toEqual(expect.arrayContaining(['tenants', 'audit_heads', 'audit_segments']));
  await expect(readSecret(t.vault, callOf(token), 's1', 0)).rejects.toMatchObject({ code: 'unauthenticated' });
  const [job] = (await listJobs(t.vault, callOf(t.operator), {})).items;
  const [head] = await t.owner`SELECT size::int FROM audit_heads WHERE tenant_id = ${id}`;
  expect(job).toMatchObject({
    kind: 'tenant-delete',
    subject: id,
    state: 'done',
    report: { secrets_removed: 20, log_size: head!.size },
  });
  await t.check();
});

test('T-077 the name may be used again, and nothing old appears under it', async () => {
  const old = await filled('again');
  await deleteTenant(t.vault, callOf(t.operator), 'again');
  const token = await t.tenant('again');
  expect(await idOf('again')).not.toBe(old.id);
  await expect(readSecret(t.vault, callOf(token), 's1', 0)).rejects.toMatchObject({ code: 'not_found' });
});

test('T-077 T-176 a failure at any step, and a retry or another node, end in the same state', async () => {
  const steps = [
    'tenant-delete.marked',
    'tenant-delete.keys-destroyed',
    'tenant-delete.committed',
    'tenant-delete.removing',
    'tenant-delete.removed',
  ] as const;
  const node = await t.node();
  for (const step of steps) {
    const name = `fails-${step.replace('tenant-delete.', '')}`;
    const { id } = await filled(name);
    let failed = false;
    atKillpoints((reached) => {
      if (reached !== step || failed) return;
      failed = true;
      throw new Error('a fault of the test');
    });
    const outcome = await deleteTenant(t.vault, callOf(t.operator), name).then(
      () => 'answered',
      () => 'failed',
    );
    expect(failed).toBe(true);
    if (['tenant-delete.marked', 'tenant-delete.keys-destroyed'].includes(step)) {
      expect(outcome).toBe('failed');
      expect(await t.owner`SELECT 1 FROM tenants WHERE tenant_id = ${id} AND state = 'active'`).toHaveLength(1);
    }
    if (await idStill(name)) await deleteTenant(node, callOf(t.operator), name);
    const left = await tablesWith(id);
    expect([step, left.filter((table) => !KEPT.includes(table))]).toEqual([step, []]);
    expect(await t.owner`SELECT 1 FROM tenants WHERE tenant_id = ${id} AND state = 'deleted'`).toHaveLength(1);
  }
  await t.check();
});

const idStill = async (name: string) => (await t.owner`SELECT 1 FROM tenants WHERE name = ${name}`).length > 0;

test('a removal that nobody waits for is finished by the runner of any node', async () => {
  const { id } = await filled('slow');
  let failed = false;
  atKillpoints((reached) => {
    if (reached !== 'tenant-delete.committed' || failed) return;
    failed = true;
    throw new Error('a fault of the test');
  });
  await expect(deleteTenant(t.vault, callOf(t.operator), 'slow')).rejects.toThrow();
  const node = await t.node();
  const runner = startJobs(node);
  try {
    await until('the tenant is deleted', async () => (await tablesWith(id)).every((table) => KEPT.includes(table)));
  } finally {
    await runner.stop();
  }
});

test('T-077 operators export and prove the log of a deleted tenant; nobody else, and of no tenant that lives', async () => {
  const { id, token } = await filled('outlived');
  const live = await idOf('default');
  const entries = (who: string, log: string) =>
    t.request('GET', `/api/v1/audit/entries?proof=true&log=${log}`, { token: who });
  expect((await entries(t.operator, id)).status, 'while it lives its log is its own').toBe(404);
  await deleteTenant(t.vault, callOf(t.operator), 'outlived');
  const keys = await openLogKeys(t.vault);
  const signed = await signLog(t.vault, asTenantId(id), keys).finally(keys.wipe);

  const answer = await entries(t.operator, id);
  expect(answer.status).toBe(200);
  const report = await verifyLog(() => Readable.from([Buffer.from(answer.text)]), {
    keys: [(await t.request('GET', `/api/v1/audit/key?log=${id}`, { token: t.operator })).text.trim()],
  });
  expect(report).toMatchObject({ ok: true, size: signed!.size });
  const lines = answer.text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.find(({ action }) => action === 'tenant.delete')).toMatchObject({ details: { tenant_id: id } });
  const note = await t.request('GET', `/api/v1/audit/checkpoint?log=${id}`, { token: t.operator });
  expect(note.text).toBe(signed!.note);
  const tree = await t.request('GET', `/api/v1/audit/tree?log=${id}`, { token: t.operator });
  expect(tree.text.split('\n').slice(1, 3)).toEqual([`${t.vault.deploymentId}/${id}`, String(signed!.size)]);

  const own = await t.request('GET', '/api/v1/audit/entries?action=audit.read-deleted', { token: t.operator });
  const said = own.text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(said.filter(({ outcome }) => outcome === 'ok').map(({ details }) => details.log)).toContain(id);
  expect(said.map(({ outcome }) => outcome)).toContain('error');

  expect((await entries(token, id)).status).toBe(401);
  expect((await entries(t.admin, id)).status, 'the administrator of another tenant').toBe(403);
  expect((await entries(t.operator, live)).status).toBe(404);
  expect((await entries(t.operator, 'system')).status).toBe(400);
  expect((await entries(t.operator, 'aaaaaaaaaaaaaaaa')).status).toBe(404);
  await t.check();
});
