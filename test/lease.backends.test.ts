/**
 * The contract of lease backends on their real targets: MariaDB, Redis, sshd, an HTTP endpoint. (PostgreSQL's members meet
 * the same suite.) A credential works once it is issued and not after it is revoked, whoever is logged in with it is
 * out, revoking twice or what never was is fine, and settings that could mean something else are refused.
 */
import { createHmac } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createClient } from '@redis/client';
import { createConnection } from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomId } from '../src/crypto/token.ts';
import { asTenantId, type Timestamp } from '../src/db/database.ts';
import type { BackendMember, Credential } from '../src/lease/backend.ts';
import { effectOf } from '../src/lease/backend.ts';
import { BACKENDS } from '../src/lease/backends/index.ts';
import { parseCidr } from '../src/policy/cidr.ts';
import { freePort, hasMariaDb, NO_MARIADB, startMariaDb } from './fixtures/mariadb.ts';
import { hasRedis, NO_REDIS, startRedis } from './fixtures/redis.ts';

const LOOPBACK = [parseCidr('127.0.0.0/8')!];
const about = { tenant: asTenantId('aaaaaaaaaaaaaaaa'), backendId: 'bbbbbbbbbbbbbbbb', outbound: LOOPBACK };

type Session = { alive: () => Promise<boolean>; close: () => Promise<void> };

/** A target, and what is known of it beside the contract. */
type Target = {
  readonly config: Record<string, unknown>;
  readonly wrong: Record<string, unknown>;
  readonly settings: Record<string, unknown>;
  readonly open: (credential: Credential) => Promise<Session>;
  /** Makes an account by hand, and one that its administrator may not touch; absent where there are no accounts. */
  readonly account?: (username: string, password: string) => Promise<void>;
  readonly own?: string;
  /** Locks it by hand, where that is not the same as ending it. */
  readonly lock?: (username: string) => Promise<void>;
  /** Stops answering, without closing a connection. */
  readonly pid: () => number | undefined;
  readonly stop: () => Promise<void>;
};

const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000).toISOString() as Timestamp;
const limits = (ms = 10_000) => ({ signal: AbortSignal.timeout(ms), deadlineMs: ms });

async function mariadb(): Promise<Target> {
  const server = await startMariaDb();
  const { host, port, username, password } = server;
  const root = await createConnection({ host, port, user: username, password });
  await root.query('CREATE DATABASE app_a');
  await root.query('CREATE DATABASE appxa');
  await root.query('CREATE TABLE app_a.`it\'s "a" ``table` (n int)');
  return {
    config: { host, port, username, password, tls: 'off' },
    wrong: { host, port, username, password: 'another', tls: 'off' },
    settings: { grants: [{ database: 'app_a', privileges: ['SELECT', 'INSERT'] }] },
    open: async (credential) => {
      const { username: user, password: given } = credential as { username: string; password: string };
      const connection = await createConnection({ host, port, user, password: given });
      connection.on('error', () => undefined);
      return {
        alive: () =>
          connection.query('SELECT 1').then(
            () => true,
            () => false,
          ),
        close: async () => connection.destroy(),
      };
    },
    account: async (name, given) => {
      await root.query('CREATE USER ?@? IDENTIFIED BY ?', [name, '%', given]);
    },
    lock: async (name) => {
      await root.query('ALTER USER ?@? ACCOUNT LOCK', [name, '%']);
    },
    own: username,
    pid: () => server.pid,
    stop: async () => {
      root.destroy();
      await server.stop();
    },
  };
}

async function redis(): Promise<Target> {
  const server = await startRedis();
  const { host, port, password } = server;
  return {
    config: { host, port, password, tls: 'off', acl_file: true },
    wrong: { host, port, password: 'another', tls: 'off' },
    settings: { rules: ['~app:*', '+@read', '+ping'] },
    open: async (credential) => {
      const { username, password: given } = credential as { username: string; password: string };
      const client = createClient({ username, password: given, socket: { host, port, reconnectStrategy: false } });
      client.on('error', () => undefined);
      await client.connect();
      return {
        alive: async () =>
          client.isReady &&
          client.ping().then(
            () => true,
            () => false,
          ),
        close: async () => {
          if (client.isOpen) client.destroy();
        },
      };
    },
    account: async (name, given) => {
      const client = createClient({ password, socket: { host, port, reconnectStrategy: false } });
      await client.connect();
      await client.sendCommand(['ACL', 'SETUSER', name, 'reset', 'on', `>${given}`, '~app:*', '+@read', '+ping']);
      client.destroy();
    },
    own: 'default',
    pid: server.pid,
    stop: server.stop,
  };
}

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

/** An endpoint as a user would write one: it checks the signature, and does each thing once. */
async function endpoint(): Promise<Target> {
  const alive = new Map<string, string>();
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const piece of request) body += piece;
    if (!isSigned(request, body)) {
      response.writeHead(401).end();
      return;
    }
    const asked = JSON.parse(body) as { type: string; handle: string };
    if (asked.type === 'check' || asked.type === 'revoke') {
      const known = asked.type === 'check' || alive.delete(asked.handle);
      response.writeHead(known ? 204 : 404).end();
      return;
    }
    if (asked.type === 'issue') alive.set(asked.handle, alive.get(asked.handle) ?? randomId());
    const key = alive.get(asked.handle);
    response.writeHead(key === undefined ? 404 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ credential: { handle: asked.handle, key } }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/leases`;
  return {
    config: { url, secret: SECRET },
    wrong: { url, secret: `whsec_${Buffer.alloc(32, 8).toString('base64')}` },
    settings: { settings: { plan: 'small' } },
    open: async ({ handle, key }) => {
      const works = async () => alive.get(handle as string) === key;
      if (!(await works())) throw new Error('not let in');
      return { alive: works, close: async () => undefined };
    },
    pid: () => undefined,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function isSigned({ headers }: IncomingMessage, body: string): boolean {
  const key = Buffer.from(SECRET.slice('whsec_'.length), 'base64');
  const text = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
  return headers['webhook-signature'] === `v1,${createHmac('sha256', key).update(text).digest('base64')}`;
}

const TARGETS = [
  { kind: 'mysql', make: mariadb, has: hasMariaDb, why: NO_MARIADB },
  { kind: 'redis', make: redis, has: hasRedis, why: NO_REDIS },
  { kind: 'webhook', make: endpoint, has: true, why: '' },
] as const;

describe.each(TARGETS)('the contract of $kind', ({ kind, make, has, why }) => {
  const member = BACKENDS[kind] as BackendMember<Record<string, unknown>, unknown>;
  let target: Target;
  let backend: ReturnType<typeof member.connect>;
  beforeAll(async () => {
    if (!has) return;
    target = await make();
    backend = member.connect(member.config.parse(target.config), about);
  });
  afterAll(async () => {
    await backend?.close();
    await target?.stop();
  });

  const ask = (roleName = 'reporting', holder = 'app', settings = target.settings) => {
    const role = member.role.parse(settings);
    const leaseId = randomId();
    const times = { issuedAt: inMinutes(0), expiresAt: inMinutes(5) };
    const prepared = member.prepare({ role, roleName, holder, leaseId, parameters: {}, ...times });
    return { role, prepared, handle: prepared.handle, expiresAt: times.expiresAt };
  };
  const issue = async (asked = ask()) => {
    const credential = await backend.issue({ ...asked, ...limits() });
    return { ...asked, credential };
  };

  it('a configuration that works is told from one that does not', async (context) => {
    if (!has) context.skip(why);
    await backend.check(limits());
    const wrong = member.connect(member.config.parse(target.wrong), about);
    await expect(wrong.check(limits())).rejects.toMatchObject({ code: 'invalid_request' });
    await wrong.close();
  });

  it('a credential works when it is issued, is renewed, and ends with its sessions when it is revoked', async (context) => {
    if (!has) context.skip(why);
    const { credential, handle, role } = await issue();
    const session = await target.open(credential);
    expect(await session.alive()).toBe(true);
    await backend.renew({ handle, role, expiresAt: inMinutes(10), ...limits() });
    expect(await session.alive()).toBe(true);
    if (target.lock) {
      await target.lock(String(credential.username));
      await backend.renew({ handle, role, expiresAt: inMinutes(10), ...limits() });
      await expect(target.open(credential), 'what somebody has locked stays locked').rejects.toThrow();
    }
    await backend.revoke({ handle, role, ...limits() });
    expect(await session.alive()).toBe(false);
    await session.close();
    await expect(target.open(credential)).rejects.toThrow();
    await expect(backend.renew({ handle, role, expiresAt: inMinutes(10), ...limits() })).rejects.toMatchObject({
      code: 'backend_failed',
    });
  });

  it('T-193 revoking twice, two at once, and what never was, is fine', async (context) => {
    if (!has) context.skip(why);
    const { handle, role, credential } = await issue();
    await Promise.all([backend.revoke({ handle, role, ...limits() }), backend.revoke({ handle, role, ...limits() })]);
    await backend.revoke({ handle, role, ...limits() });
    await backend.revoke({ ...ask(), ...limits() });
    await expect(target.open(credential)).rejects.toThrow();
  });

  it('T-079 names of holders and roles may be anything', async (context) => {
    if (!has) context.skip(why);
    for (const name of [`o'brien"; DROP USER root; --`, '`\\', 'ünï✓', 'x'.repeat(128), '%_', 'a\nb']) {
      const made = await issue(ask(name, name));
      const session = await target.open(made.credential);
      expect(await session.alive(), name).toBe(true);
      await session.close();
      await backend.revoke({ handle: made.handle, role: made.role, ...limits() });
      await expect(target.open(made.credential), name).rejects.toThrow();
    }
  });

  it('an account that is there gets another password: proven by a login, the old one and its sessions gone', async (context) => {
    if (!has) context.skip(why);
    if (!target.account) {
      expect([member.account, backend.accounts]).toEqual([undefined, undefined]);
      return;
    }
    const accounts = backend.accounts!;
    const given = `o'brien ${randomId().slice(0, 6)}`.replaceAll(kind === 'redis' ? ' ' : '\0', '-');
    const [first, second] = [randomId(), `it's "a" \\ ${randomId()}`];
    await target.account(given, first);
    const username = member.account!.parse(given);
    const act = { username, ...limits() };
    const proves = (password: string) => accounts.provePassword({ ...act, password });
    expect([await proves(first), await proves(second)]).toEqual([true, false]);
    const session = await target.open(accounts.credentialOf(username, first));
    for (let i = 0; i < 2; i += 1) await accounts.setPassword({ ...act, password: second });
    expect([await proves(first), await proves(second)]).toEqual([false, true]);
    expect(await session.alive()).toBe(true);
    await accounts.endSessions(act);
    expect(await session.alive()).toBe(false);
    await session.close();
    await accounts.endSessions(act);
    const opened = await target.open(accounts.credentialOf(username, second));
    expect(await opened.alive()).toBe(true);
    await opened.close();
    const nobody = { ...act, username: member.account!.parse('nobody'), password: second };
    expect(await accounts.setPassword(nobody).catch(effectOf)).toBe('refused');
    expect(await accounts.provePassword(nobody)).toBe(false);
    expect([accounts.isOwn(member.account!.parse(target.own)), accounts.isOwn(username)]).toEqual([true, false]);
  });

  it('a target that vanished was not reached, and one that hangs may still act', async (context) => {
    if (!has) context.skip(why);
    const nowhere = { ...target.config, port: await freePort(), url: `http://127.0.0.1:${await freePort()}/` };
    const known = Object.fromEntries(Object.entries(nowhere).filter(([field]) => field in target.config));
    const gone = member.connect(member.config.parse(known), about);
    const effects = await Promise.all(
      [gone.issue({ ...ask(), ...limits() }), gone.revoke({ ...ask(), ...limits() })].map((act) => act.catch(effectOf)),
    );
    expect(effects).toEqual(['unreached', 'unreached']);
    await gone.close();
    const pid = target.pid();
    if (pid === undefined) return;
    await backend.check(limits());
    process.kill(pid, 'SIGSTOP');
    try {
      const effect = await backend.issue({ ...ask(), ...limits(500) }).catch(effectOf);
      expect(effect).toBe('unknown');
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await backend.check(limits());
  });
});

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
      await backend.revoke({ handle: kept!.handle, role, ...limits() }).catch(() => undefined);
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
