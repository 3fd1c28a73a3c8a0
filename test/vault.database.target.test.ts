/** database/ under /v1 on other targets than PostgreSQL, real ones: MariaDB and Redis; and how statements are read. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createClient } from '@redis/client';
import { createConnection } from 'mysql2/promise';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { settingsOf } from '../src/protocols/vault/statement.ts';
import { hasMariaDb, NO_MARIADB, startMariaDb } from './fixtures/mariadb.ts';
import { hasRedis, NO_REDIS, startRedis } from './fixtures/redis.ts';
import { type TestVault, testVault } from './harness.ts';
import { errors, v1Of } from './v1.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const v1 = v1Of(() => t);

const configured = async (name: string, body: unknown) => {
  const answer = await v1('PUT', `database/config/${name}`, body);
  expect(answer.status, answer.text).toBe(204);
};

it('statements are read whatever they are in: one text, a list, JSON, with semicolons in quotes', () => {
  const first = `create user "{{username}}" with encrypted password '{{password}}' connection limit 3 in role "a ""b""", Reader`;
  const creation = [
    JSON.stringify([`${first};`, `COMMENT ON ROLE "{{name}}" IS 'a;b'`]),
    'GRANT x TO {{name}}; -- no; more',
  ];
  expect(
    settingsOf('postgres', { creation, revocation: ['DROP OWNED BY "{{name}}"; SELECT 1; DROP USER "{{name}}"'] }),
  ).toEqual({
    ...{ connection_limit: 3, member_of: ['a "b"', 'reader'] },
    statements: [`COMMENT ON ROLE {{username}} IS 'a;b'`, 'GRANT x TO {{username}}', '-- no; more'],
    revocation_statements: ['SELECT 1'],
  });
});

it.skipIf(!hasMariaDb)(
  `MySQL and MariaDB${hasMariaDb ? '' : ` (skipped: ${NO_MARIADB})`}`,
  async () => {
    const server = await startMariaDb();
    t.secrets.add(server.password);
    try {
      const { host, port, username, password } = server;
      const root = await createConnection({ host, port, user: username, password });
      await root.query('CREATE DATABASE shop');
      await root.query('CREATE TABLE shop.paid AS SELECT 7 AS n');
      const connection_url = `{{username}}:{{password}}@tcp(${host}:${port})/`;
      await configured('maria', {
        plugin_name: 'mysql-database-plugin',
        connection_url,
        username,
        password,
        allowed_roles: 'shop',
      });
      expect((await v1('GET', 'database/config/maria')).json.data.connection_details).toEqual({
        username,
        connection_url,
      });
      expect(errors(await v1('PUT', 'database/rotate-root/maria'))).toEqual([
        ...[400, ['The password of a backend of the kind mysql is not changed by the vault.']],
      ]);
      const creation = `CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'; GRANT SELECT ON shop.* TO '{{name}}'@'%';`;
      const wrong = {
        db_name: 'maria',
        creation_statements: `${creation} GRANT SELECT ON x.* TO '{{name}}'@'localhost'`,
      };
      expect((await v1('PUT', 'database/roles/shop', wrong)).status).toBe(400);
      const role = {
        db_name: 'maria',
        creation_statements: creation,
        revocation_statements: `DROP USER '{{name}}'@'%'`,
      };
      expect((await v1('PUT', 'database/roles/shop', role)).status).toBe(204);
      const taken = await v1('GET', 'database/creds/shop');
      expect(taken.status, taken.text).toBe(200);
      t.secrets.add(taken.json.data.password);
      const as = () =>
        createConnection({ host, port, user: taken.json.data.username, password: taken.json.data.password });
      const session = await as();
      expect((await session.query('SELECT n FROM shop.paid'))[0]).toEqual([{ n: 7 }]);
      session.on('error', () => undefined);
      expect((await v1('PUT', 'sys/leases/revoke', { lease_id: taken.json.lease_id })).status).toBe(204);
      await expect(as()).rejects.toThrow(/Access denied/);
      session.destroy();
      root.destroy();
    } finally {
      await server.stop();
    }
  },
  60_000,
);

it.skipIf(!hasRedis)(
  `Redis${hasRedis ? '' : ` (skipped: ${NO_REDIS})`}`,
  async () => {
    const server = await startRedis();
    t.secrets.add(server.password);
    try {
      const { host, port, password } = server;
      const body = { plugin_name: 'redis-database-plugin', host, port, username: 'default', password, tls: false };
      await configured('cache', { ...body, allowed_roles: 'cache' });
      expect((await v1('GET', 'database/config/cache')).json.data.connection_details).toEqual({
        username: 'default',
        host,
        port,
        tls: false,
      });
      expect(
        (await v1('PUT', 'database/roles/cache', { db_name: 'cache', creation_statements: '["~app:*", "+@read"]' }))
          .status,
      ).toBe(204);
      const { data } = (await v1('GET', 'database/creds/cache')).json;
      t.secrets.add(data.password);
      const client = createClient({
        username: data.username,
        password: data.password,
        socket: { host, port, reconnectStrategy: false },
      });
      client.on('error', () => undefined);
      await client.connect();
      expect(await client.get('app:x')).toBeNull();
      await expect(client.get('other')).rejects.toThrow(/NOPERM|permission/);
      client.destroy();
    } finally {
      await server.stop();
    }
  },
  60_000,
);

it.skipIf(!hasRedis)(
  `the password of the vault’s own user at Redis, where it lasts${hasRedis ? '' : ` (skipped: ${NO_REDIS})`}`,
  async () => {
    const server = await startRedis();
    t.secrets.add(server.password);
    try {
      const { host, port, password } = server;
      const config = { host, port, password, tls: 'off' };
      const put = (more: object) =>
        t.request('PUT', '/api/v1/backends/own', {
          token: t.admin,
          body: { kind: 'redis', config: { ...config, ...more } },
        });
      expect((await put({})).status).toBe(201);
      // A restart would bring the old one back.
      expect(errors(await v1('PUT', 'database/rotate-root/own'))).toEqual([
        ...[400, ['The password of a backend of the kind redis is not changed by the vault.']],
      ]);
      expect((await put({ acl_file: true })).status).toBe(200);
      expect((await v1('PUT', 'database/rotate-root/own')).status).toBe(204);
      expect((await v1('PUT', 'database/reset/own')).status).toBe(204);
      expect(readFileSync(server.aclFile, 'utf8')).not.toContain(
        createHash('sha256').update(server.password).digest('hex'),
      );
      expect((await put({ acl_file: true })).status).toBe(400);
    } finally {
      await server.stop();
    }
  },
  60_000,
);
