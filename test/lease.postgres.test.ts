/** The PostgreSQL backend against strange names, hostile templates, wrong credentials and a pooler. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { asTenantId } from '../src/db/database.ts';
import { effectOf } from '../src/lease/backend.ts';
import { BACKENDS } from '../src/lease/backends/index.ts';
import { closeBackends } from '../src/lease/pool.ts';
import { type TestVault, testVault } from './harness.ts';
import { answers, connectWith, leaseTarget, quote, type Target, works } from './lease-target.ts';
import { freePort } from './port.ts';
import { until } from './until.ts';

let t: TestVault;
let target: Target;

const SCHEMA = `we"ird'; DROP TABLE x; -- schémä 🔑`;
const TABLE = `t"a'b\\l;e`;
const GROUP = `gr"oup ${'é'.repeat(20)}`;
const LONGEST = 'x'.repeat(63);

beforeAll(async () => {
  t = await testVault();
  target = await leaseTarget();
  t.secrets.add(target.config.password);
  const admin = quote(target.config.username);
  await target.sql.unsafe(`
    CREATE SCHEMA ${quote(SCHEMA)} AUTHORIZATION ${admin};
    CREATE TABLE ${quote(SCHEMA)}.${quote(TABLE)} AS SELECT 7 AS n;
    ALTER TABLE ${quote(SCHEMA)}.${quote(TABLE)} OWNER TO ${admin};
    CREATE SCHEMA ${LONGEST} AUTHORIZATION ${admin};
    CREATE ROLE ${quote(GROUP)}; GRANT ${quote(GROUP)} TO ${admin} WITH ADMIN OPTION;
    GRANT CREATE ON SCHEMA public TO ${quote(GROUP)}`);
  expect((await put('backends', 'db', { kind: 'postgres', config: target.config })).status).toBe(201);
});

afterAll(async () => {
  await closeBackends(t.vault);
  await t.check();
  await t.close();
  await target.close();
});

const put = (what: string, name: string, body: object) =>
  t.request('PUT', `/api/v1/${what}/${name}`, { token: t.admin, body });

async function taken(role: string) {
  const answer = await t.request('POST', '/api/v1/leases', { token: t.admin, body: { role: `db/${role}` } });
  expect(answer.status, answer.text).toBe(201);
  t.secrets.add(answer.json.credential.password);
  return answer.json;
}

describe('T-079 names', () => {
  it('with quotes, backslashes, Unicode and of 63 bytes are quoted, and revoking removes what was made under them', async () => {
    const settings = {
      member_of: [GROUP],
      grants: [
        { on: 'schema', schema: SCHEMA, privileges: ['USAGE', 'CREATE'] },
        { on: 'tables', schema: SCHEMA, names: [TABLE], privileges: ['SELECT'] },
        { on: 'schema', schema: LONGEST, privileges: ['USAGE', 'CREATE'] },
      ],
      statements: [`ALTER ROLE {{username}} SET application_name TO 'it''s "quoted" {}'`],
    };
    const role = await put('roles', 'strange', { backend: 'db', settings });
    expect(role.status, role.text).toBe(201);
    const lease = await taken('strange');
    const sql = connectWith(target, lease.credential);
    expect(await sql.unsafe(`SELECT n FROM ${quote(SCHEMA)}.${quote(TABLE)}`)).toEqual([{ n: 7 }]);
    const kept = await target.sql`
      SELECT s.setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
      WHERE r.rolname = ${lease.credential.username}`;
    expect(kept).toEqual([{ setconfig: [`application_name=it's "quoted" {}`] }]);
    await sql.unsafe(`CREATE TABLE ${quote(SCHEMA)}.mine AS SELECT 1 AS kept; CREATE TABLE ${LONGEST}.mine (a int)`);
    const revoked = await t.request('DELETE', `/api/v1/leases/${lease.id}`, { token: t.admin });
    expect(revoked.json).toMatchObject({ state: 'ended', last_error: null });
    await sql.end({ timeout: 1 });
    expect(await works(target, lease.credential)).toBe(false);
    const owners = await target.sql`
      SELECT DISTINCT tableowner AS owner FROM pg_tables WHERE tablename = 'mine'`;
    expect(owners).toEqual([{ owner: target.config.username }]);
  });

  it.each([
    ['64 bytes', { grants: [{ on: 'schema', schema: 'x'.repeat(64), privileges: ['USAGE'] }] }],
    ['64 bytes of Unicode', { member_of: ['é'.repeat(32)] }],
    ['a NUL', { member_of: ['a\u0000b'] }],
    ['half a surrogate pair', { member_of: ['a\ud800'] }],
    ['nothing', { member_of: [''] }],
    ['a privilege that is none', { grants: [{ on: 'schema', schema: 'a', privileges: ['USAGE; DROP ROLE x'] }] }],
  ])('of %s are refused, because the target would know them by another name', async (_, settings) => {
    expect(await put('roles', 'refused', { backend: 'db', settings })).toMatchObject({ status: 400 });
  });

  it.each([
    ['a placeholder in quotes', `COMMENT ON ROLE x IS '{{username}}'`],
    ['a placeholder in a quoted identifier', `GRANT x TO "{{username}}"`],
    ['a placeholder in a comment', `GRANT x TO y -- {{username}}`],
    ['a placeholder in a dollar-quoted text', 'DO $$ BEGIN EXECUTE {{username}}; END $$'],
    ['a placeholder in a tagged one', 'DO $a$ {{username}} $a$'],
    ['a quote without an end', `GRANT x TO {{username}} '`],
    ['an escape string', `SELECT E'\\'', {{username}}, '`],
    ['a nested comment', `/* /* */ {{username}} */`],
    ['a placeholder that is none', 'GRANT x TO {{user}}'],
    ['the password', `ALTER ROLE {{username}} PASSWORD {{password}}`],
    ['stray braces', 'GRANT x TO {{username}} }}'],
  ])('a template with %s is refused when it is stored', async (_, template) => {
    const stored = await put('roles', 'refused', { backend: 'db', settings: { statements: [template] } });
    expect(stored).toMatchObject({ status: 400 });
    expect(stored.json.detail).toMatch(/^settings\.statements/);
  });

  it('a statement that the target refuses leaves nothing there, and says by its code why', async () => {
    await put('roles', 'wrong', { backend: 'db', settings: { statements: ['GRANT nobody_there TO {{username}}'] } });
    const before = await target.roles();
    const answer = await t.request('POST', '/api/v1/leases', { token: t.admin, body: { role: 'db/wrong' } });
    expect(answer).toMatchObject({ status: 502, json: { code: 'backend_failed', effect: 'refused' } });
    expect(answer.json.detail).toMatch(/42704/);
    expect(await target.roles()).toEqual(before);
    const [lease] = (await t.request('GET', '/api/v1/leases?state=ended&prefix=db/wrong', { token: t.admin })).json
      .items;
    expect(lease).toMatchObject({ reason: 'failed', state: 'ended' });
  });
});

describe('a configuration', () => {
  it.each([
    ['a wrong password', { password: 'not this one' }, 400, /28P01/],
    ['a user who is not there', { username: 'nobody' }, 400, /28P01/],
    ['a database that is not there', { database: 'nothing' }, 502, /3D000/],
    ['a port that nobody listens on', { port: 1 }, 502, /ECONNREFUSED/],
    ['TLS that the target has not', { tls: 'verify' }, 502, /./],
    ['a host that is none', { host: 'a b' }, 400, /config\.host/],
    ['a unix socket', { host: '/var/run/postgresql' }, 400, /config\.host/],
    ['a field that is none', { sslmode: 'disable' }, 400, /config/],
  ])('with %s is told at once, and nothing is stored', async (_, change, status, detail) => {
    const answer = await put('backends', 'bad', { kind: 'postgres', config: { ...target.config, ...change } });
    expect(answer.status, answer.text).toBe(status);
    expect(answer.json.detail).toMatch(detail);
    expect(answer.text).not.toContain(target.config.password);
    expect((await t.request('GET', '/api/v1/backends/bad', { token: t.admin })).status).toBe(404);
  });

  it('of a user who may not make roles is refused', async () => {
    await target.sql.unsafe(`CREATE ROLE weak LOGIN PASSWORD 'weak enough'`);
    const config = { ...target.config, username: 'weak', password: 'weak enough' };
    const answer = await put('backends', 'bad', { kind: 'postgres', config });
    expect(answer.json).toMatchObject({ status: 400, detail: expect.stringMatching(/CREATEROLE/) });
  });

  it('never shows its password, and keeps it when a change leaves it out', async () => {
    const { password, ...shown } = target.config;
    const changed = await put('backends', 'db', { kind: 'postgres', config: shown, max_ttl: '2h' });
    expect(changed).toMatchObject({ status: 200, json: { config: shown, max_ttl: 7200 } });
    for (const path of ['backends/db', 'backends']) {
      expect((await t.request('GET', `/api/v1/${path}`, { token: t.admin })).text).not.toContain(password);
    }
    await put('roles', 'plain', { backend: 'db' });
    expect((await taken('plain')).credential.username).toMatch(/^bulla_admin_plain_[a-z2-7]{16}$/);
    expect((await put('backends', 'db', { kind: 'nothing', config: {} })).status).toBe(400);
  });
});

describe('a target that is none', () => {
  const member = BACKENDS.postgres!;
  const about = { tenant: asTenantId('aaaaaaaaaaaaaaaa'), backendId: 'bbbbbbbbbbbbbbbb', outbound: [] };
  const CONFIG = { host: '127.0.0.1', database: 'd', username: 'u', password: 'p', tls: 'off' };
  const AUTHENTICATION_OK = Buffer.from('52000000080000000000', 'hex').subarray(0, 9);
  const READY = Buffer.from('5a0000000549', 'hex');
  /** A Query message that was not asked about: a row of one column that says nothing of what was wanted. */
  const LIE = Buffer.concat([Buffer.from('430000000d53454c4543542031', 'hex'), Buffer.from([0]), READY]);

  async function issueAt(serve: (socket: Socket) => void): Promise<string> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      serve(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const backend = member.connect(member.config.parse({ ...CONFIG, port }), about);
    const role = member.role.parse({});
    const times = { issuedAt: '2026-01-02T03:04:05.000000Z', expiresAt: '2026-01-02T04:04:05.000000Z' } as never;
    const asked = { role, roleName: 'r', holder: 'h', leaseId: 'cccccccccccccccc', parameters: {} };
    const prepared = member.prepare({ ...asked, ...(times as object) } as never);
    try {
      const act = { handle: prepared.handle, role, signal: AbortSignal.timeout(400), deadlineMs: 400 };
      const issued = backend.issue({ ...act, prepared, expiresAt: (times as { expiresAt: never }).expiresAt });
      return await issued.then(() => 'issued', effectOf);
    } finally {
      await backend.close();
      for (const socket of sockets) socket.destroy();
      await new Promise((closed) => server.close(closed));
    }
  }

  it.each<[string, (socket: Socket) => void]>([
    ['says nothing', () => undefined],
    ['hangs up', (socket) => socket.destroy()],
    ['speaks HTTP', (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['ends in the middle of a message', (socket) => socket.end(AUTHENTICATION_OK.subarray(0, 4))],
    [
      'lets anybody in and hangs up at the first statement',
      (socket) => {
        socket.once('data', () => {
          socket.write(Buffer.concat([AUTHENTICATION_OK, READY]));
          socket.once('data', () => socket.destroy());
        });
      },
    ],
    [
      'lets anybody in and answers half',
      (socket) => {
        socket.once('data', () => {
          socket.write(Buffer.concat([AUTHENTICATION_OK, READY]));
          socket.once('data', () => socket.write(LIE.subarray(0, 7)));
        });
      },
    ],
  ])('T-078 that %s leaves the outcome unknown, and the vault as it was', async (_, serve) => {
    expect(await issueAt(serve)).toBe('unknown');
  });

  it('that was never there was not reached', async () => {
    const backend = member.connect(member.config.parse({ ...CONFIG, port: await freePort() }), about);
    const act = { handle: 'x', role: member.role.parse({}), signal: AbortSignal.timeout(2_000), deadlineMs: 2_000 };
    expect(await backend.revoke(act).then(() => 'revoked', effectOf)).toBe('unreached');
    await backend.close();
  });
});

const PGBOUNCER = '/usr/sbin/pgbouncer';
const isHere = existsSync(PGBOUNCER);
if (!isHere) process.stderr.write(`${PGBOUNCER} is not here (Debian's package pgbouncer): its test is skipped\n`);

describe.skipIf(!isHere)('through pgbouncer', () => {
  let pooler: ChildProcess;
  let port = 0;
  const directory = mkdtempSync(join(tmpdir(), 'bulla-pooler-'));

  beforeAll(async () => {
    chmodSync(directory, 0o711);
    port = await freePort();
    const { direct } = target;
    const secret = (text: string) => text.replaceAll('"', '""');
    writeFileSync(join(directory, 'users'), `"${secret(direct.username)}" "${secret(direct.password)}"\n`);
    writeFileSync(
      join(directory, 'pgbouncer.ini'),
      `[databases]\n* = host=127.0.0.1 port=${direct.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = ${directory}/users\npool_mode = transaction\ndefault_pool_size = 2\n`,
    );
    const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
    pooler = spawn(PGBOUNCER, ['-q', join(directory, 'pgbouncer.ini')], { ...user, stdio: 'ignore' });
    const { database, username, password } = direct;
    await until('pgbouncer answers', () =>
      answers({ host: '127.0.0.1', port, database, username, password, prepare: false }),
    );
  });

  afterAll(async () => {
    const ended = new Promise((done) => pooler.once('exit', done));
    pooler.kill('SIGTERM');
    if (pooler.exitCode === null) await ended;
    rmSync(directory, { recursive: true, force: true });
  });

  it('in transaction mode leases are issued, renewed and revoked, many at once', async () => {
    const config = { ...target.config, port };
    const made = await put('backends', 'pooled', { kind: 'postgres', config });
    expect(made.status, made.text).toBe(201);
    await put('roles', 'pooled', { backend: 'pooled' });
    const body = { role: 'pooled/pooled' };
    const leases = await Promise.all(
      Array.from({ length: 6 }, async () => (await t.request('POST', '/api/v1/leases', { token: t.admin, body })).json),
    );
    for (const { id, credential } of leases) {
      t.secrets.add(credential.password);
      expect(await works(target, credential)).toBe(true);
      expect((await t.request('POST', `/api/v1/leases/${id}/renew`, { token: t.admin })).status).toBe(200);
    }
    const sql = connectWith(target, leases[0].credential);
    await sql`SELECT 1`;
    const ends = await Promise.all(
      leases.map(({ id }) => t.request('DELETE', `/api/v1/leases/${id}`, { token: t.admin })),
    );
    expect(ends.filter(({ status }) => status !== 200).map(({ text }) => text)).toEqual([]);
    expect(ends.map(({ json }) => [json.state, json.last_error])).toEqual(ends.map(() => ['ended', null]));
    await expect(sql`SELECT 1`).rejects.toThrow();
    await sql.end({ timeout: 1 });
    for (const { credential } of leases) expect(await works(target, credential)).toBe(false);
  });
});
