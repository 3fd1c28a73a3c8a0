/**
 * T-199: one bit of the database flips. What the row belongs to fails in words, everything else serves: the neighbour in
 * the same tenant where only a row is hit, the other tenant where a tenant's key is, reads where a login's key is.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { login } from '../src/auth/login.ts';
import { parseToken } from '../src/crypto/token.ts';
import { rotateKey } from '../src/job/reencrypt.ts';
import { readSecret } from '../src/policy/read.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { closeVault, type Vault } from '../src/vault.ts';
import { callOf, PASSWORD, type TestVault, testVault } from './harness.ts';

let t: TestVault;
let other: string;
let reader: string;
beforeAll(async () => {
  t = await testVault();
  other = await t.tenant('other');
  const put = (token: string, path: string) =>
    putSecret(t.vault, callOf(token), parsePath(path), { kind: 'text', body: Buffer.from('v'), metadata: { k: 'v' } });
  for (const token of [t.admin, other]) for (const path of ['victim', 'neighbour']) await put(token, path);
  // So that a wrong version names a key that exists.
  await rotateKey(t.vault, callOf(t.admin), { reencrypt: false });
  reader = await t.user('carl', [], [{ effect: 'allow', actions: ['secret.read'], resources: ['secret:**'] }]);
});
afterAll(() => t.close());

const outcome = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error: { code?: string }) => error.code ?? 'defect',
  );
const read = (vault: Vault, token: string, path: string) => outcome(readSecret(vault, callOf(token), path, 0));
const logsIn = (vault: Vault, tenant: string, username: string) =>
  outcome(login(vault, callOf(), { tenant, username, password: PASSWORD }));

/** What each of them meets on a node that has nothing in memory. */
async function look(): Promise<Record<string, string>> {
  const vault = await t.node();
  const seen = {
    victim: await read(vault, t.admin, 'victim'),
    neighbour: await read(vault, t.admin, 'neighbour'),
    reader: await read(vault, reader, 'neighbour'),
    other: await read(vault, other, 'victim'),
    login: await logsIn(vault, 'default', 'carl'),
    otherLogin: await logsIn(vault, 'other', 'admin'),
  };
  await closeVault(vault);
  return seen;
}

const WELL = { victim: 'ok', neighbour: 'ok', reader: 'ok', other: 'ok', login: 'ok', otherLogin: 'ok' };
const VICTIM = `secret_id = (SELECT secret_id FROM secrets JOIN tenants USING (tenant_id) WHERE path = 'victim' AND name = 'default')`;
const OURS = `tenant_id = (SELECT tenant_id FROM tenants WHERE name = 'default')`;

/** Flips bits of one column of the rows, looks, and puts the rows back. */
function flipped(table: string, column: string, flip: string, where: string): Promise<Record<string, string>> {
  return whileFlipped(table, column, flip, where, look);
}

async function whileFlipped<Seen>(
  table: string,
  column: string,
  flip: string,
  where: string,
  see: () => Promise<Seen>,
): Promise<Seen> {
  const hit = await t.owner.unsafe(`SELECT ctid FROM ${table} WHERE ${where}`);
  expect(hit.length).toBeGreaterThan(0);
  await t.owner.unsafe(`CREATE TABLE kept AS SELECT *, ${column} AS was FROM ${table} WHERE ${where}`);
  try {
    await t.owner.unsafe(`UPDATE ${table} SET ${column} = ${flip} WHERE ${where}`);
    return await see();
  } finally {
    await t.owner.unsafe(`UPDATE ${table} SET ${column} = (SELECT was FROM kept LIMIT 1) WHERE ${where}`);
    await t.owner.unsafe('DROP TABLE kept');
  }
}

const bit = (column: string, byte: string) => `set_byte(${column}, ${byte}, get_byte(${column}, ${byte}) # 1)`;

describe('T-199 one flipped bit', () => {
  test('nothing is wrong before', async () => {
    expect(await look()).toEqual(WELL);
  });

  const fields = {
    format: 0,
    algorithm: 1,
    'key version': 5,
    commitment: 6,
    nonce: 38,
    ciphertext: 62,
    tag: 'length',
  } as const;
  for (const [field, at] of Object.entries(fields)) {
    test(`in the ${field} of a secret's envelope: that secret only`, async () => {
      const byte = at === 'length' ? 'octet_length(envelope) - 1' : String(at);
      expect(await flipped('secret_versions', 'envelope', bit('envelope', byte), VICTIM)).toEqual({
        ...WELL,
        victim: 'integrity',
      });
    });
  }

  test('in the version of the key that a secret names: that secret only', async () => {
    expect(await flipped('secret_versions', 'key_version', '2', VICTIM)).toEqual({ ...WELL, victim: 'integrity' });
  });

  test('in the number of a version: it is not found, or does not open', async () => {
    expect(await flipped('secrets', 'current_version', 'current_version # 2', VICTIM)).toEqual({
      ...WELL,
      victim: 'not_found',
    });
    expect(await flipped('secret_versions', 'version', '2', VICTIM)).toEqual({ ...WELL, victim: 'not_found' });
  });

  test('in the envelope of metadata: that secret only', async () => {
    expect(await flipped('secret_metadata', 'envelope', bit('envelope', '70'), VICTIM)).toEqual({
      ...WELL,
      victim: 'integrity',
    });
  });

  test("in a tenant's wrapped data key, or its fingerprint: what it encrypted, and no other tenant", async () => {
    const hit = { ...WELL, victim: 'integrity', neighbour: 'integrity', reader: 'integrity' };
    expect(await flipped('data_key_material', 'wrapped', bit('wrapped', '80'), `${OURS} AND version = 1`)).toEqual(hit);
    const otherDigits = `translate(fingerprint, '0123456789abcdef', '1032547698badcfe')`;
    expect(await flipped('data_keys', 'fingerprint', otherDigits, `${OURS} AND version = 1`)).toEqual(hit);
    expect(await flipped('data_key_material', 'wrapped', bit('wrapped', '80'), `${OURS} AND version = 2`)).toEqual(
      WELL,
    );
  });

  test('in the hash of a token: that token only', async () => {
    const where = `${OURS} AND token_id = '${parseToken(reader)!.tokenId}'`;
    expect(await flipped('tokens', 'secret_hash', bit('secret_hash', '3'), where)).toEqual({
      ...WELL,
      reader: 'unauthenticated',
    });
  });

  test('in the document of a policy: who holds it may do nothing', async () => {
    const where = `${OURS} AND name = 'carl' AND NOT built_in`;
    const rows = await t.owner.unsafe(`SELECT 1 FROM policies WHERE ${where}`);
    expect(rows).toHaveLength(1);
    expect(await flipped('policies', 'document', `replace(document, 'secret.read', 'secret.reae')`, where)).toEqual({
      ...WELL,
      reader: 'forbidden',
    });
  });

  test('in the hash of a password: that login only, and no token', async () => {
    const where = `${OURS} AND name = 'carl'`;
    const letter = 'substr(password_hash, length(password_hash) - 4, 1)';
    const otherLetter = `overlay(password_hash PLACING CASE ${letter} WHEN 'A' THEN 'B' ELSE 'A' END FROM length(password_hash) - 4 FOR 1)`;
    expect(await flipped('users', 'password_hash', otherLetter, where)).toMatchObject({
      ...WELL,
      login: expect.stringMatching(/^(login_failed|integrity)$/),
    });
  });

  test('in the wrapped pepper: no login, and every token still works', async () => {
    expect(await flipped('system_key_material', 'wrapped', bit('wrapped', '80'), `purpose = 'pepper'`)).toEqual({
      ...{ ...WELL, login: 'integrity', otherLogin: 'integrity' },
    });
  });

  test('in the wrapped root key: a node does not start, and says which key', async () => {
    await whileFlipped('root_key_material', 'wrapped', bit('wrapped', '80'), 'true', async () => {
      await expect(t.node()).rejects.toMatchObject({ code: expect.stringMatching(/^(integrity|sealed)$/) });
    });
    expect(await look()).toEqual(WELL);
  });
});
