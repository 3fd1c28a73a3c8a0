/**
 * The contract of lease backends, every member on its real target: PostgreSQL, MariaDB, Redis, an HTTP endpoint, and SSH's
 * certificates, which have none. A credential works once it is issued and not after it is revoked, whoever is logged in
 * with it is out, revoking twice or what never was is fine; an account that was there before gets another password.
 */
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createClient } from '@redis/client';
import { createConnection } from 'mysql2/promise';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomId } from '../src/crypto/token.ts';
import { asTenantId, type Timestamp } from '../src/db/database.ts';
import type { BackendMember, Credential } from '../src/lease/backend.ts';
import { effectOf } from '../src/lease/backend.ts';
import { BACKENDS } from '../src/lease/backends/index.ts';
import { publicLine } from '../src/lease/backends/ssh-certificate.ts';
import { parseCidr } from '../src/policy/cidr.ts';
import { hasMariaDb, NO_MARIADB, startMariaDb } from './fixtures/mariadb.ts';
import { hasRedis, NO_REDIS, startRedis } from './fixtures/redis.ts';
import { leaseTarget, quote } from './lease-target.ts';
import { freePort } from './port.ts';

const LOOPBACK = [parseCidr('127.0.0.0/8')!];
const about = { tenant: asTenantId('aaaaaaaaaaaaaaaa'), backendId: 'bbbbbbbbbbbbbbbb', outbound: LOOPBACK };

type Session = { alive: () => Promise<boolean>; close: () => Promise<void> };

/** A target, and what is known of it beside the contract. */
type Target = {
  readonly config: Record<string, unknown>;
  /** Absent where nothing outside could tell. */
  readonly wrong?: Record<string, unknown>;
  readonly settings: Record<string, unknown>;
  readonly parameters?: Record<string, unknown>;
  readonly open: (credential: Credential) => Promise<Session>;
  /** Makes an account by hand, and one that its administrator may not touch; absent where there are no accounts. */
  readonly account?: (username: string, password: string) => Promise<void>;
  readonly own?: string;
  /** Locks it by hand, where that is not the same as ending it. */
  readonly lock?: (username: string) => Promise<void>;
  /** Stops answering, without closing a connection, and goes on; absent where that is tried elsewhere. */
  readonly hang?: (hangs: boolean) => void;
  readonly stop: () => Promise<void>;
};

const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000).toISOString() as Timestamp;
const limits = (ms = 10_000) => ({ signal: AbortSignal.timeout(ms), deadlineMs: ms });

async function postgresql(): Promise<Target> {
  const server = await leaseTarget();
  const { proxy, config } = server;
  return {
    config,
    wrong: { ...config, password: 'another' },
    settings: { grants: [{ on: 'schema', schema: 'public', privileges: ['USAGE'] }] },
    open: async ({ username, password }) => {
      const login = { username: String(username), password: String(password) };
      const sql = postgres({ ...server.direct, ...login, tls: undefined, max: 1, onnotice: () => undefined } as object);
      const alive = () => sql`SELECT 1`.then(...KNOWN);
      await sql`SELECT 1`;
      // A library that connects again would hide that the session was ended.
      const [{ pid }] = (await sql`SELECT pg_backend_pid() AS pid`) as unknown as [{ pid: number }];
      const isSame = async () => (await sql`SELECT pg_backend_pid() = ${pid} AS same`)[0]!.same as boolean;
      return {
        alive: async () => (await alive()) && isSame().catch(() => false),
        close: () => sql.end({ timeout: 1 }),
      };
    },
    account: async (name, given) => {
      const admin = postgres({ ...server.direct, tls: undefined, max: 1, onnotice: () => undefined } as object);
      await admin.unsafe(`CREATE ROLE ${quote(name)} LOGIN PASSWORD '${given}'`);
      await admin.end();
    },
    own: config.username,
    hang: (hangs) => {
      proxy.blackHole = hangs;
    },
    stop: server.close,
  };
}

const KNOWN = [() => true, () => false] as const;

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
    hang: (hangs) => process.kill(server.pid, hangs ? 'SIGSTOP' : 'SIGCONT'),
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
    hang: (hangs) => process.kill(server.pid()!, hangs ? 'SIGSTOP' : 'SIGCONT'),
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

/** Servers that trust the authority are asked nothing, so nothing ends before its time; a real one is in lease.ssh.test.ts. */
async function ssh(): Promise<Target> {
  const { privateKey } = generateKeyPairSync('ed25519');
  return {
    config: {},
    settings: { principals: ['deploy'] },
    parameters: { public_key: publicLine(privateKey) },
    open: async ({ signed_key: key }) => {
      const alive = async () => /^ssh-ed25519-cert-v01@openssh\.com /.test(String(key));
      if (!(await alive())) throw new Error('no certificate');
      return { alive, close: async () => undefined };
    },
    stop: async () => undefined,
  };
}

const TARGETS = [
  { kind: 'postgres', make: postgresql, has: true, why: '' },
  { kind: 'mysql', make: mariadb, has: hasMariaDb, why: NO_MARIADB },
  { kind: 'redis', make: redis, has: hasRedis, why: NO_REDIS },
  { kind: 'webhook', make: endpoint, has: true, why: '' },
  { kind: 'ssh', make: ssh, has: true, why: '' },
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
    const prepared = member.prepare({ role, roleName, holder, leaseId, parameters: target.parameters ?? {}, ...times });
    return { role, prepared, handle: prepared.handle, expiresAt: times.expiresAt };
  };
  const issue = async (asked = ask()) => {
    const credential = await backend.issue({ ...asked, ...limits() });
    return { ...asked, credential };
  };

  it('a configuration that works is told from one that does not', async (context) => {
    if (!has) context.skip(why);
    await backend.check(limits());
    if (!target.wrong) return;
    const wrong = member.connect(member.config.parse(target.wrong), about);
    await expect(wrong.check(limits())).rejects.toMatchObject({ code: 'invalid_request' });
    await wrong.close();
  });

  it('a credential works when it is issued, is renewed, and ends with its sessions when it is revoked', async (context) => {
    if (!has) context.skip(why);
    const { credential, handle, role } = await issue();
    const session = await target.open(credential);
    expect(await session.alive()).toBe(true);
    if (member.endsOnlyByExpiry) {
      const renewal = backend.renew({ handle, role, expiresAt: inMinutes(10), ...limits() });
      expect(await renewal.catch(effectOf)).toBe('refused');
      return;
    }
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
    if (!member.endsOnlyByExpiry) await expect(target.open(credential)).rejects.toThrow();
  });

  it('T-079 names of holders and roles may be anything', async (context) => {
    if (!has) context.skip(why);
    for (const name of [`o'brien"; DROP USER root; --`, '`\\', 'ünï✓', 'x'.repeat(128), '%_', 'a\nb']) {
      const made = await issue(ask(name, name));
      const session = await target.open(made.credential);
      expect(await session.alive(), name).toBe(true);
      await session.close();
      await backend.revoke({ handle: made.handle, role: made.role, ...limits() });
      if (!member.endsOnlyByExpiry) await expect(target.open(made.credential), name).rejects.toThrow();
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
    const unknown = await accounts.setPassword(nobody).catch((error) => error);
    expect(effectOf(unknown)).toBe('refused');
    if (kind === 'redis') expect(unknown.message).toBe('The server has no user nobody.');
    expect(await accounts.provePassword(nobody)).toBe(false);
    expect([accounts.isOwn(member.account!.parse(target.own)), accounts.isOwn(username)]).toEqual([true, false]);
  });

  it('a target that vanished was not reached, and one that hangs may still act', async (context) => {
    if (!has) context.skip(why);
    if (!target.wrong) return;
    const nowhere = { ...target.config, port: await freePort(), url: `http://127.0.0.1:${await freePort()}/` };
    const known = Object.fromEntries(Object.entries(nowhere).filter(([field]) => field in target.config));
    const gone = member.connect(member.config.parse(known), about);
    const effects = await Promise.all(
      [gone.issue({ ...ask(), ...limits() }), gone.revoke({ ...ask(), ...limits() })].map((act) => act.catch(effectOf)),
    );
    expect(effects).toEqual(['unreached', 'unreached']);
    await gone.close();
    if (!target.hang) return;
    await backend.check(limits());
    target.hang(true);
    try {
      const effect = await backend.issue({ ...ask(), ...limits(500) }).catch(effectOf);
      expect(effect).toBe('unknown');
    } finally {
      target.hang(false);
    }
    await backend.check(limits());
  });
});
