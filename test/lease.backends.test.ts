/**
 * What is particular to the backends MySQL, Redis and webhook, on real targets: settings that could mean something else are
 * refused, and what is refused, restarted or answered half leaves nothing behind. What all have in common is in
 * lease.contract.test.ts.
 */
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createClient } from '@redis/client';
import { createConnection } from 'mysql2/promise';
import { describe, expect, it } from 'vitest';
import { randomId } from '../src/crypto/token.ts';
import { asTenantId, type Timestamp } from '../src/db/database.ts';
import type { Credential } from '../src/lease/backend.ts';
import { effectOf } from '../src/lease/backend.ts';
import { BACKENDS } from '../src/lease/backends/index.ts';
import { parseCidr } from '../src/policy/cidr.ts';
import { hasMariaDb, startMariaDb } from './fixtures/mariadb.ts';
import { hasRedis, startRedis } from './fixtures/redis.ts';
import { codeOf } from './witness.ts';

const LOOPBACK = [parseCidr('127.0.0.0/8')!];
const about = { tenant: asTenantId('aaaaaaaaaaaaaaaa'), backendId: 'bbbbbbbbbbbbbbbb', outbound: LOOPBACK };

const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000).toISOString() as Timestamp;
const limits = (ms = 10_000) => ({ signal: AbortSignal.timeout(ms), deadlineMs: ms });

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

const refused = (kind: string, part: 'config' | 'role', value: unknown) =>
  BACKENDS[kind]![part].safeParse(value).success;

describe('settings of roles', () => {
  it.each([
    ['a placeholder in quotes', { statements: ["GRANT SELECT ON a.* TO '{{username}}'"] }],
    ['a quote without an end', { statements: ["GRANT SELECT ON a.* TO {{username}} REQUIRE SUBJECT '/CN=x"] }],
    ['a second statement', { statements: ['GRANT SELECT ON a.* TO {{username}}; DROP USER root'] }],
    ['a comment', { statements: ['GRANT SELECT ON a.* TO {{username}} -- x'] }],
    ['a backslash', { statements: ["GRANT SELECT ON a.* TO {{username}} COMMENT '\\'' "] }],
    ['an unknown placeholder', { statements: ['GRANT SELECT ON a.* TO {{password}}'] }],
    ['a privilege that is none', { grants: [{ database: 'a', privileges: ['SELECT ON b.* TO x; DROP'] }] }],
    ['a host that is more', { host: "%' IDENTIFIED BY 'x" }],
    ['a name that is too long', { grants: [{ database: 'x'.repeat(65), privileges: ['SELECT'] }] }],
    ['a field that is unknown', { grant: [] }],
  ])('T-079 mysql refuses %s', (_, settings) => {
    expect(refused('mysql', 'role', settings)).toBe(false);
  });

  it.each([
    ['on'],
    ['>password'],
    ['nopass'],
    ['reset'],
    ['~a b'],
    ['+@read\r\nFLUSHALL'],
    ['#00'],
    ['(~* +@all)'],
    [''],
  ])('redis refuses the rule %j', (rule) => {
    expect(refused('redis', 'role', { rules: [rule] })).toBe(false);
  });

  it.each([
    ['a user in the URL', { url: 'https://user:pass@example.org/', secret: SECRET }],
    ['another scheme', { url: 'file:///etc/passwd', secret: SECRET }],
    ['a short secret', { url: 'https://example.org/', secret: 'whsec_c2hvcnQ=' }],
  ])('webhook refuses %s', (_, config) => {
    expect(refused('webhook', 'config', config)).toBe(false);
  });
});

describe.skipIf(!hasMariaDb)('mysql', () => {
  it('T-079 a grant is on the database and table that it names, however they are written, and on no other', async () => {
    const server = await startMariaDb();
    const { host, port, username, password } = server;
    const root = await createConnection({ host, port, user: username, password });
    const member = BACKENDS.mysql!;
    const backend = member.connect(member.config.parse({ host, port, username, password, tls: 'off' }), about);
    try {
      const odd = 'it\'s "a" `table` \\ ünï%_';
      const name = (text: string) => `\`${text.replaceAll('`', '``')}\``;
      for (const database of ['app_a', 'appxa', odd]) {
        await root.query(`CREATE DATABASE ${name(database)}`);
        for (const table of ['t', odd]) await root.query(`CREATE TABLE ${name(database)}.${name(table)} (n int)`);
      }
      const role = member.role.parse({
        grants: [
          { database: 'app_a', privileges: ['SELECT'] },
          { database: odd, table: odd, privileges: ['SELECT', 'INSERT'] },
        ],
        statements: ['GRANT SELECT ON `app_a`.`t` TO {{username}}'],
        connection_limit: 2,
      });
      const asked = { role, roleName: 'r', holder: 'h', leaseId: randomId(), parameters: {} };
      const prepared = member.prepare({ ...asked, issuedAt: inMinutes(0), expiresAt: inMinutes(5) });
      const act = { handle: prepared.handle, role, ...limits() };
      const credential = await backend.issue({ ...act, prepared, expiresAt: inMinutes(5) });
      const user = await createConnection({
        ...{ host, port, user: credential.username as string, password: credential.password as string },
      });
      await user.query('SELECT * FROM app_a.t');
      await user.query(`INSERT INTO ${name(odd)}.${name(odd)} VALUES (1)`);
      await expect(user.query('SELECT * FROM appxa.t')).rejects.toMatchObject({ errno: 1142 });
      await expect(user.query(`SELECT * FROM ${name(odd)}.t`)).rejects.toMatchObject({ errno: 1142 });
      await expect(user.query('INSERT INTO app_a.t VALUES (1)')).rejects.toMatchObject({ errno: 1142 });
      user.destroy();
      await backend.revoke(act);
    } finally {
      await backend.close();
      root.destroy();
      await server.stop();
    }
  });

  it('what is refused half-way leaves no account', async () => {
    const server = await startMariaDb();
    const { host, port, username, password } = server;
    const root = await createConnection({ host, port, user: username, password });
    const member = BACKENDS.mysql!;
    const backend = member.connect(member.config.parse({ host, port, username, password, tls: 'off' }), about);
    try {
      const role = member.role.parse({ statements: ['GRANT NONSENSE ON nowhere TO {{username}}'] });
      const asked = { role, roleName: 'r', holder: 'h', leaseId: randomId(), parameters: {} };
      const prepared = member.prepare({ ...asked, issuedAt: inMinutes(0), expiresAt: inMinutes(5) });
      const act = { handle: prepared.handle, role, ...limits() };
      const effect = await backend.issue({ ...act, prepared, expiresAt: inMinutes(5) }).catch(effectOf);
      expect(effect).toBe('refused');
      const [rows] = await root.query("SELECT User FROM mysql.user WHERE User LIKE 'bulla%'");
      expect(rows).toEqual([]);
    } finally {
      await backend.close();
      root.destroy();
      await server.stop();
    }
  });
});

describe.skipIf(!hasRedis)('redis', () => {
  it('with an ACL file a restart keeps who was issued, and nobody who was revoked', async () => {
    const server = await startRedis();
    const { host, port, password } = server;
    const member = BACKENDS.redis!;
    const backend = member.connect(member.config.parse({ host, port, password, tls: 'off', acl_file: true }), about);
    const role = member.role.parse({ rules: ['~app:*', '+get', '+ping'] });
    const asked = { role, roleName: 'r', holder: 'h', parameters: {}, issuedAt: inMinutes(0), expiresAt: inMinutes(5) };
    const login = async ({ username, password: given }: Credential) => {
      const client = createClient({
        ...{ username: username as string, password: given as string },
        socket: { host, port, reconnectStrategy: false },
      });
      client.on('error', () => undefined);
      await client.connect();
      const value = await client.get('app:x').finally(() => client.destroy());
      return value === null;
    };
    try {
      const [kept, gone] = [randomId(), randomId()].map((leaseId) => member.prepare({ ...asked, leaseId }));
      const credential = await backend.issue({
        handle: kept!.handle,
        role,
        prepared: kept!,
        expiresAt: inMinutes(5),
        ...limits(),
      });
      const other = await backend.issue({
        handle: gone!.handle,
        role,
        prepared: gone!,
        expiresAt: inMinutes(5),
        ...limits(),
      });
      await backend.revoke({ handle: gone!.handle, role, ...limits() });
      await server.restart();
      expect(await login(credential)).toBe(true);
      await expect(login(other)).rejects.toThrow();
      // The first act after the restart finds its connection gone and says so; the next opens another.
      const first = backend.revoke({ handle: kept!.handle, role, ...limits() });
      expect(['ok', 'backend_failed']).toContain(await codeOf(first));
      await backend.revoke({ handle: kept!.handle, role, ...limits() });
      await expect(login(credential)).rejects.toThrow();
    } finally {
      await backend.close();
      await server.stop();
    }
  });
});

describe('webhook', () => {
  const member = BACKENDS.webhook!;
  const role = member.role.parse({});
  const at = (url: string, outbound = LOOPBACK) =>
    member.connect(member.config.parse({ url, secret: SECRET }), { ...about, outbound });
  const serve = async (answer: (response: import('node:http').ServerResponse, request: IncomingMessage) => void) => {
    const server = createServer((request, response) => answer(response, request));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const close = () => {
      server.closeAllConnections();
      server.close();
    };
    return { url, close };
  };
  const ask = () => {
    const asked = { role, roleName: 'r', holder: 'h', leaseId: randomId(), parameters: {} };
    const prepared = member.prepare({ ...asked, issuedAt: inMinutes(0), expiresAt: inMinutes(5) });
    return { handle: prepared.handle, role, prepared, expiresAt: inMinutes(5) };
  };

  it.each([
    'http://127.0.0.1:9/',
    'http://[::1]:9/',
    'http://[::ffff:127.0.0.1]:9/',
    'http://localhost:9/',
    'http://2130706433:9/',
    'https://169.254.169.254/latest/meta-data',
    'https://10.0.0.1/',
    'https://[fd00::1]/',
    'https://0.0.0.0/',
    'https://[::10.0.0.1]/',
    'https://[::ffff:0:10.0.0.1]/',
    'https://[64:ff9b::a00:1]/',
    'https://168.63.129.16/machine',
    'http://0x7f.1:9/',
  ])('T-122 an address that is not public is refused: %s', async (url) => {
    await expect(at(url, []).check(limits())).rejects.toMatchObject({ code: 'invalid_request' });
  });

  it('T-122 plain HTTP is for loopback, whatever networks are allowed', async () => {
    const outbound = [parseCidr('10.0.0.0/8')!];
    await expect(at('http://10.0.0.1/', outbound).check(limits())).rejects.toMatchObject({ code: 'invalid_request' });
  });

  it.each([
    [
      'half an answer',
      (response: import('node:http').ServerResponse) => response.write('{"credential": {"a"') && response.destroy(),
    ],
    ['no JSON', (response: import('node:http').ServerResponse) => response.end('<html>')],
    [
      'another shape',
      (response: import('node:http').ServerResponse) => response.end('{"credential": {"a": {"b": 1}}}'),
    ],
    ['a server error', (response: import('node:http').ServerResponse) => response.writeHead(500).end()],
    [
      'a redirect',
      (response: import('node:http').ServerResponse) => response.writeHead(307, { location: '/elsewhere' }).end(),
    ],
    [
      'an endless answer',
      (response: import('node:http').ServerResponse) => response.end(`{"credential": {"a": "${'x'.repeat(100_000)}"}}`),
    ],
  ])('%s leaves the outcome unknown', async (_, answer) => {
    let requests = 0;
    const server = await serve((response) => {
      requests += 1;
      answer(response);
    });
    expect(
      await at(server.url)
        .issue({ ...ask(), ...limits() })
        .catch(effectOf),
    ).toBe('unknown');
    expect(requests).toBe(1);
    server.close();
  });

  it('a refusal is one, and a credential that is not there is revoked', async () => {
    const server = await serve((response) => response.writeHead(404).end());
    expect(
      await at(server.url)
        .issue({ ...ask(), ...limits() })
        .catch(effectOf),
    ).toBe('refused');
    await at(server.url).revoke({ ...ask(), ...limits() });
    server.close();
  });

  it('T-123 a repeated request has the same id and nothing of a caller in it', async () => {
    const seen: IncomingMessage['headers'][] = [];
    const server = await serve((response, { headers }) => {
      seen.push(headers);
      response.end('{"credential": {}}');
    });
    const asked = ask();
    for (let i = 0; i < 2; i += 1) await at(server.url).issue({ ...asked, ...limits() });
    expect(seen[0]!['webhook-id']).toBe(seen[1]!['webhook-id']);
    const known = [
      'content-type',
      'content-length',
      'host',
      'connection',
      'webhook-id',
      'webhook-timestamp',
      'webhook-signature',
    ];
    expect(Object.keys(seen[0]!).filter((name) => !known.includes(name))).toEqual([]);
    server.close();
  });
});
