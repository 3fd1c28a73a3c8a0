/** What a start refuses: a primitive that computes wrongly, a key that is not what its row says, older keys put back. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TOTP_ANSWER } from '../src/auth/totp.ts';
import { assertKnownAnswers, KNOWN_ANSWERS } from '../src/crypto/self-test.ts';
import { rotateKey, rotateRoot } from '../src/job/reencrypt.ts';
import { readSecret } from '../src/policy/read.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { destroyDataKey } from '../src/tenant/rotation.ts';
import { checkRootMark, followRootMark, proveKeys } from '../src/tenant/self-test.ts';
import { callOf, type TestVault, testVault } from './harness.ts';

test('T-002 every known answer holds here', () => {
  const answers = [...KNOWN_ANSWERS, TOTP_ANSWER];
  expect(answers.map(({ name, holds }) => [name, holds()])).toEqual(answers.map(({ name }) => [name, true]));
  assertKnownAnswers();
});

test('a primitive that gives another answer, or throws, is named and nothing is served', () => {
  const broken = [
    { name: 'one that is wrong', holds: () => false },
    { name: 'one that throws', holds: () => JSON.parse('{') },
    { name: 'one that is right', holds: () => true },
  ];
  expect(() => assertKnownAnswers(broken)).toThrow(/one that is wrong, one that throws does not give the known answer/);
});

let t: TestVault;
beforeEach(async () => {
  t = await testVault();
});
afterEach(() => t.close());
const mark = () => join(t.dataDir, 'root-mark.json');

test('seal, root key and data key prove themselves, and after a rotation again', async () => {
  await proveKeys(t.vault);
  await rotateRoot(t.vault, callOf(t.operator));
  await proveKeys(await t.node());
});

test('a data key whose row names another fingerprint is refused by both', async () => {
  await putSecret(t.vault, callOf(t.admin), parsePath('a'), { kind: 'text', body: Buffer.from('v') });
  await t.owner`UPDATE data_keys SET fingerprint = 'ffffffffffffffff'`;
  const node = await t.node();
  await expect(proveKeys(node)).rejects.toMatchObject({
    code: 'integrity',
    message: expect.stringContaining('ffffffffffffffff'),
  });
  await expect(readSecret(node, callOf(t.admin), 'a', 0)).rejects.toMatchObject({ code: 'integrity' });
});

test('T-015 the bytes of a destroyed data key, put back, are not used', async () => {
  const [row] =
    await t.owner`SELECT m.* FROM data_key_material m JOIN tenants USING (tenant_id) WHERE name = 'default'`;
  await rotateKey(t.vault, callOf(t.admin), { reencrypt: false });
  await destroyDataKey(t.vault, callOf(t.admin), 1);
  await putSecret(t.vault, callOf(t.admin), parsePath('a'), { kind: 'text', body: Buffer.from('v') });
  await t.owner`INSERT INTO data_key_material ${t.owner(row!)}`;
  await t.owner`UPDATE secret_versions SET key_version = 1`;
  const node = await t.node();
  await expect(readSecret(node, callOf(t.admin), 'a', 0)).rejects.toMatchObject({
    ...{ code: 'integrity', message: expect.stringContaining('was destroyed') },
  });
});

test('T-015 T-094 older key tables put back are refused by the mark until an operator acknowledges it, which is recorded', async () => {
  await checkRootMark(t.vault, mark(), false);
  const old = {
    material: await t.owner`SELECT * FROM root_key_material`,
    wrapped: await t.owner`SELECT * FROM data_key_material`,
    system: await t.owner`SELECT * FROM system_key_material`,
  };
  await rotateRoot(t.vault, callOf(t.operator));
  await followRootMark(t.vault, mark());
  expect(JSON.parse(readFileSync(mark(), 'utf8'))).toMatchObject({ version: 2, deployment: t.vault.deploymentId });

  await t.owner.begin(async (sql) => {
    await sql`UPDATE root_keys SET state = 'destroyed' WHERE version = 2`;
    await sql`UPDATE root_keys SET state = 'active', destroyed_at = NULL WHERE version = 1`;
    await sql`INSERT INTO root_key_material ${sql(old.material)}`;
    for (const { tenant_id, version, wrapped } of old.wrapped) {
      await sql`UPDATE data_key_material SET wrapped = ${wrapped}, root_version = 1 WHERE (tenant_id, version) = (${tenant_id}, ${version})`;
    }
    for (const { purpose, version, wrapped } of old.system) {
      await sql`UPDATE system_key_material SET wrapped = ${wrapped}, root_version = 1 WHERE (purpose, version) = (${purpose}, ${version})`;
    }
    await sql`DELETE FROM root_key_material WHERE version = 2`;
    await sql`DELETE FROM root_keys WHERE version = 2`;
  });
  const node = await t.node();
  await expect(checkRootMark(node, mark(), false)).rejects.toMatchObject({
    ...{ code: 'integrity', message: expect.stringContaining('older keys were put back') },
  });
  await checkRootMark(node, mark(), true);
  await checkRootMark(node, mark(), false);
  const lines = await t.owner`SELECT lines FROM audit_segments WHERE tenant_id = 'system'`;
  expect(lines.map((row) => row.lines.toString()).join('')).toContain('root-key.acknowledge-rollback');
});

test('the mark of another deployment, and one that was edited, are refused; without one detection starts now', async () => {
  await checkRootMark(t.vault, mark(), false);
  expect(existsSync(mark())).toBe(true);
  const kept = readFileSync(mark(), 'utf8');
  writeFileSync(mark(), kept.replace(t.vault.deploymentId, 'aaaaaaaaaaaaaaaa'));
  await expect(checkRootMark(t.vault, mark(), false)).rejects.toThrow(/another deployment/);
  writeFileSync(mark(), kept.slice(0, 20));
  await expect(checkRootMark(t.vault, mark(), false)).rejects.toThrow(/no root mark/);
});
