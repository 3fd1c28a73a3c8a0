/**
 * A MariaDB server that encrypts its tables with keys that it fetches from us: its own plugin
 * hashicorp_key_management, from Debian's packages, told nothing but an address and a token.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createConnection } from 'mysql2/promise';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { hasMariaDb, NO_MARIADB, startMariaDb } from '../fixtures/mariadb.ts';
import { type TestVault, testVault } from '../harness.ts';
import { v1Of } from '../v1.ts';
import { entriesOf, tenantId } from '../witness.ts';

const PLUGIN = '/usr/lib/mysql/plugin/hashicorp_key_management.so';
const missing = !hasMariaDb
  ? NO_MARIADB
  : existsSync(PLUGIN)
    ? undefined
    : 'its plugin is not installed (Debian: apt-get install mariadb-plugin-hashicorp-key-management)';

let t: TestVault;
let vaultAddress: string;
beforeAll(async () => {
  t = await testVault();
  vaultAddress = await t.address();
});
afterAll(async () => {
  await t.close();
});

const v1 = v1Of(() => t);

it.skipIf(missing)(`encrypts its tables with keys of ours${missing ? ` (skipped: ${missing})` : ''}`, async () => {
  await v1('POST', 'sys/mounts/mariadb', { type: 'kv', options: { version: '2' } });
  const key = randomBytes(32).toString('hex');
  t.secrets.add(key);
  await v1('PUT', 'mariadb/data/1', { data: { data: key } });
  await v1('PUT', 'sys/policies/acl/mariadb', {
    policy:
      'path "mariadb/data/*" { capabilities = ["read"] }\npath "sys/mounts/mariadb/tune" { capabilities = ["read"] }',
  });
  const made = await v1('POST', 'auth/token/create', { policies: ['mariadb'], ttl: '1h', display_name: 'mariadb' });
  const { client_token: token, accessor } = made.json.auth;
  const server = await startMariaDb([
    '--plugin-load-add=hashicorp_key_management.so',
    '--plugin-maturity=unknown',
    `--hashicorp-key-management-vault-url=${vaultAddress}/v1/mariadb`,
    `--hashicorp-key-management-token=${token}`,
    '--innodb-encrypt-tables=ON',
    '--innodb-default-encryption-key-id=1',
  ]);
  try {
    const { host, port, username, password } = server;
    const sql = await createConnection({ host, port, user: username, password });
    await sql.query('CREATE DATABASE d');
    await sql.query('CREATE TABLE d.sealed (x text) ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=1');
    await sql.query('CREATE TABLE d.plain (x text) ENGINE=InnoDB ENCRYPTED=NO');
    for (const table of ['sealed', 'plain'])
      await sql.query(`INSERT INTO d.${table} VALUES ('words that must not be on the disk')`);
    const [rows] = await sql.query('SELECT x FROM d.sealed');
    expect(rows).toEqual([{ x: 'words that must not be on the disk' }]);
    const [[where]] = (await sql.query('SELECT @@datadir AS directory')) as unknown as [[{ directory: string }]];
    const onDisk = async (table: string) => {
      await sql.query(`FLUSH TABLES d.${table} FOR EXPORT`);
      const bytes = readFileSync(`${where.directory}d/${table}.ibd`);
      await sql.query('UNLOCK TABLES');
      return bytes.includes('words that must not be on the disk');
    };
    expect([await onDisk('plain'), await onDisk('sealed')]).toEqual([true, false]);
    await sql.end();
  } finally {
    await server.stop();
  }
  const entries = await entriesOf(t.owner, await tenantId(t.owner, 'default'));
  const own = entries.filter((entry) => entry.actor.accessor === accessor);
  expect(own.map(({ action, resource }) => `${action} ${resource}`)).toEqual(
    expect.arrayContaining(['mount.read mount:mariadb', 'secret.read secret:mariadb/1']),
  );
  await t.check();
});
