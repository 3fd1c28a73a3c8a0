/** Retention: lines go, hashes stay, and everything that was signed still holds. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openLogKeys, signLog } from '../src/audit/checkpoint.ts';
import { removeOldLines } from '../src/audit/retention.ts';
import { verifyLog } from '../src/audit/verify-log.ts';
import { verifyConsistency, verifyInclusion } from '../src/crypto/merkle.ts';
import { asTenantId, type TenantId, transaction } from '../src/db/database.ts';
import { type TestVault, testVault } from './harness.ts';
import { referenceVerify } from './verifier.reference.ts';

let t: TestVault;
let tenant: TenantId;
let old: string;

const bytes = (text: string) => Buffer.from(text, 'base64');
const get = async (path: string) => t.request('GET', `/api/v1/audit/${path}`, { token: t.admin });
const sign = async () => (await t.request('POST', '/api/v1/audit/checkpoint', { token: t.admin })).text;
const sizeOf = (note: string) => Number(note.split('\n')[1]);

beforeAll(async () => {
  t = await testVault();
  tenant = asTenantId((await t.owner`SELECT tenant_id FROM tenants WHERE name = 'default'`)[0]!.tenant_id);
  for (let i = 0; i < 5; i++) await get('key');
  old = await sign();
  for (let i = 0; i < 5; i++) await get('key');
});
afterAll(() => t.close());

it('nothing is removed of a log that is kept for ever, nor before its days are over', async () => {
  expect(await removeOldLines(t.vault, tenant)).toBe(0);
  const { json } = await t.request('PUT', '/api/v1/audit/retention', { token: t.admin, body: { days: 30 } });
  expect(json).toEqual({ days: 30, removed_to: 0 });
  expect(await removeOldLines(t.vault, tenant)).toBe(0);
});

it('an auditor may not shorten the log, and the serving role can only through the function, for its own tenant', async () => {
  const auditor = await t.user('eve', ['auditor']);
  const refused = await t.request('PUT', '/api/v1/audit/retention', { token: auditor, body: { days: 1 } });
  expect(refused.status).toBe(403);
  await expect(transaction(t.vault.db, [tenant], (tx) => tx`DELETE FROM audit_segments`)).rejects.toThrow();
  const other = asTenantId('system');
  await expect(
    transaction(t.vault.db, [other], (tx) => tx`SELECT * FROM bulla.remove_audit_lines(${tenant}, 10)`),
  ).rejects.toThrow();
});

it('old lines that are signed are removed, the removal is an entry, and every proof still holds', async () => {
  const later = await t.node({ clockOffsetSeconds: 31 * 86_400 });
  const signed = sizeOf(await sign());
  const removed = await removeOldLines(later, tenant, 4);
  expect(removed).toBe(signed);
  const token = await t.login('default', 'admin');
  const retention = await t.request('GET', '/api/v1/audit/retention', { token });
  expect(retention.json).toEqual({ days: 30, removed_to: signed });
  const keys = await openLogKeys(later);
  const { note, size } = (await signLog(later, tenant, keys))!;
  const { text } = await get(`entries?to_index=${size}`);
  const left = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(left[0].seq).toBe(signed);
  expect(left.some((entry) => entry.action === 'audit.remove-lines' && entry.details.to_index <= signed)).toBe(true);

  const key = (await get('key')).text.trim();
  const proven = (await get(`entries?proof=true&extending=${sizeOf(old)}`)).text;
  const report = await verifyLog(() => [Buffer.from(proven)], { keys: [key], older: old });
  expect(report).toMatchObject({ ok: true, extends: sizeOf(old), size });
  expect(referenceVerify(proven, { key, older: old })).toBe(true);
  for (const index of [0, signed - 1, signed, size - 1]) {
    const { json } = await get(`proof/inclusion?index=${index}&size=${size}`);
    expect(verifyInclusion(index, size, bytes(json.leaf_hash), json.proof.map(bytes), bytes(json.root))).toBe(true);
    expect(json.checkpoint).toBe(note);
  }
  const { json } = await get(`proof/consistency?from=${sizeOf(old)}&to=${size}`);
  expect(json.from_root).toBe(old.split('\n')[2]);
  expect(verifyConsistency(sizeOf(old), bytes(json.from_root), size, bytes(json.to_root), json.proof.map(bytes))).toBe(
    true,
  );
});

it('lines that no checkpoint covers stay, however old', async () => {
  await get('key');
  const muchLater = await t.node({ clockOffsetSeconds: 200 * 86_400 });
  await removeOldLines(muchLater, tenant);
  const [row] = await t.owner`SELECT max(size) AS signed FROM audit_checkpoints WHERE tenant_id = ${tenant}`;
  const [first] = await t.owner`SELECT min(first_seq) AS seq FROM audit_segments WHERE tenant_id = ${tenant}`;
  expect(Number(first!.seq)).toBe(Number(row!.signed));
});
