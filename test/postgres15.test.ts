/**
 * The vault on a PostgreSQL of the user's own: Debian's version 15, with everything logged that PostgreSQL can log.
 * Linux with the package postgresql-15; without it this file says so and is skipped.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import postgres from 'postgres';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { closeDatabase, openDatabase, SYSTEM, transaction } from '../src/db/database.ts';
import { migrate } from '../src/db/migrate.ts';
import { type Made, make, makeServer } from './fixtures/certificate.ts';
import { spellings } from './harness.ts';
import { ask, call, logIn, settle, startLoad, untilAnswered } from './lifecycle.ts';
import { firstCredentials, MAIN, run, type Server, startServer, temporaryDirectory } from './process.ts';
import { CHEAP_ARGON2 } from './setup.ts';
import { keepPair } from './tls-server.ts';
import { until } from './until.ts';

const BIN = '/usr/lib/postgresql/15/bin';
const isHere = existsSync(join(BIN, 'postgres'));
if (!isHere) process.stderr.write(`${BIN} is not here (Debian's package postgresql-15): its tests are skipped\n`);

/** initdb and postgres refuse root; as anybody else the tests are that user themselves. */
const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
const ADMIN = 'the first admin chose this one';
const OPERATOR = 'the operator chose this one';
const ANSWER_MS_MAX = 5_000;
const MARGIN_MS = 1_500;
const CONNECTIONS = 24;

const place = temporaryDirectory('pg15');
const dir = (name: string) => join(place.path, name);
const pg = dir('pg');
const logFile = join(pg, 'server.log');
const secrets: string[] = [ADMIN, OPERATOR];
const servers: Server[] = [];
let port = 0;
let authority: Made;
let postmaster: ChildProcess | undefined;

async function startPostgres(): Promise<void> {
  // What an operator could turn on that shows statements and their parameters (T-235).
  const loud = {
    log_statement: 'all',
    log_duration: 'on',
    log_min_duration_statement: '0',
    log_parameter_max_length: '-1',
    log_parameter_max_length_on_error: '-1',
    log_min_messages: 'info',
    log_error_verbosity: 'verbose',
    shared_preload_libraries: 'auto_explain,pg_stat_statements',
    'auto_explain.log_min_duration': '0',
    'auto_explain.log_verbose': 'on',
    'auto_explain.log_nested_statements': 'on',
  };
  const settings = {
    port: String(port),
    listen_addresses: '127.0.0.1',
    unix_socket_directories: pg,
    ssl: 'on',
    ssl_cert_file: join(pg, 'pg.crt'),
    ssl_key_file: join(pg, 'pg.key'),
    max_connections: String(CONNECTIONS),
    ...loud,
  };
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  postmaster = spawn('sh', ['-c', 'exec "$0" "$@" >>server.log 2>&1', join(BIN, 'postgres'), '-D', pg, ...args], {
    ...user,
    cwd: pg,
    stdio: 'ignore',
  });
  await until(
    'PostgreSQL takes connections',
    async () => spawnSync(join(BIN, 'pg_isready'), ['-q', '-h', pg, '-p', String(port)]).status === 0,
  );
}

async function stopPostgres(signal: NodeJS.Signals): Promise<void> {
  const ended = new Promise((done) => postmaster?.once('exit', done));
  postmaster?.kill(signal);
  await ended;
}

/** SQL as the cluster's superuser, through its socket. */
async function psql(database: string, sql: string): Promise<string> {
  const args = ['-h', pg, '-p', String(port), '-U', 'boss', '-d', database, '-v', 'ON_ERROR_STOP=1', '-XAtc', sql];
  const ran = await run(join(BIN, 'psql'), args);
  if (ran.code !== 0) throw new Error(ran.stderr);
  return ran.stdout.toString().trim();
}

const url = (role: string, database: string) => `postgres://${role}:${role}-of-the-test@127.0.0.1:${port}/${database}`;

beforeAll(async () => {
  if (!isHere) return;
  const other = createServer().listen(0, '127.0.0.1');
  await until('a port is free', async () => other.listening);
  port = (other.address() as AddressInfo).port;
  await new Promise((closed) => other.close(closed));
  mkdirSync(pg, { mode: 0o700 });
  if (user.uid !== undefined) chownSync(pg, user.uid, user.gid);
  const initdb = [
    '-D',
    pg,
    '-U',
    'boss',
    '--auth-local=trust',
    '--auth-host=scram-sha-256',
    '--no-sync',
    '-E',
    'UTF8',
    '--locale=C',
  ];
  const made = spawnSync(join(BIN, 'initdb'), initdb, { ...user, cwd: pg, encoding: 'utf8' });
  if (made.status !== 0) throw new Error(made.stderr);
  authority = await make({ name: 'Authority', ca: true });
  const pair = await makeServer(authority, { sans: ['localhost'] });
  for (const file of Object.values(keepPair(pg, 'pg', pair)))
    if (user.uid !== undefined) chownSync(file, user.uid, user.gid);
  await startPostgres();
  await psql('postgres', "ALTER ROLE boss PASSWORD 'boss-of-the-test'");
});

afterEach(async () => {
  for (const server of servers.splice(0)) {
    if (server.child.exitCode === null && server.child.signalCode === null) await server.end('SIGTERM');
  }
});

afterAll(async () => {
  if (postmaster?.exitCode === null && postmaster.signalCode === null) await stopPostgres('SIGQUIT');
  place.remove();
});

async function start(name: string, env: Record<string, string>): Promise<Server> {
  const server = await startServer(dir(name), env);
  servers.push(server);
  return server;
}

async function refusal(name: string, env: Record<string, string>): Promise<string> {
  const options = { env: { BULLA_DATA_DIR: dir(name), BULLA_LISTEN: '127.0.0.1:0', ...CHEAP_ARGON2, ...env } };
  const ran = await run(process.execPath, [MAIN, 'server'], options);
  expect(ran.stdout.toString()).toBe('');
  expect(ran.stderr).toMatch(/^bulla: [^\n]+\.\n$/);
  expect(ran.stderr).not.toContain('-of-the-test');
  expect(ran.code).toBe(1);
  return ran.stderr.trim();
}

/** What every installation must be able to do. Gives the admin's token. */
async function mainFlows(server: Server): Promise<string> {
  const { address, dataDir } = server;
  const first = firstCredentials(dataDir);
  const operator = await logIn(address, first.system, OPERATOR);
  const admin = await logIn(address, first.default, ADMIN);
  const text = `text ${randomBytes(24).toString('hex')}`;
  const value = `value ${randomBytes(24).toString('base64url')}`;
  const bytes = randomBytes(96);
  await call(address, 'PUT', '/secrets/prod/text', { token: admin, body: { text } });
  await call(address, 'PUT', '/secrets/prod/data', { token: admin, body: { data: { password: value } } });
  await call(address, 'PUT', '/secrets/prod/bytes', { token: admin, body: { bytes: bytes.toString('base64') } });
  const eve = await call(address, 'POST', '/users', { token: admin, body: { username: 'eve', policies: ['auditor'] } });
  const reader = await logIn(
    address,
    { tenant: 'default', username: 'eve', password: eve.one_time_password },
    'eve audits what others do',
  );
  expect(await ask(address, 'GET', '/api/v1/secrets/prod/text', { token: reader })).toMatchObject({
    kind: 'answer',
    status: 403,
  });
  await call(address, 'POST', '/keys/rotate', { token: admin, body: {} });
  await call(address, 'POST', '/root-keys/rotate', { token: operator, body: {} });
  await call(address, 'POST', '/tenants', { token: operator, body: { name: 'other' } });
  expect((await call(address, 'GET', '/secrets/prod/text', { token: admin })).text).toBe(text);
  const passwords = [first.system.password, first.default.password, eve.one_time_password, 'eve audits what others do'];
  const tokens = [operator, admin, reader].map((token) => token.split('.')[1] ?? token);
  const key = readFileSync(join(dataDir, 'seal.key'), 'utf8').split(':')[1]?.trim() ?? '';
  secrets.push(text, value, bytes.toString('latin1'), bytes.toString('base64'), ...passwords, ...tokens, key);
  return admin;
}

describe.skipIf(!isHere)('on Debian’s PostgreSQL 15', () => {
  it('one URL of a role that may only create roles: it migrates and serves as bulla_app', async () => {
    await psql('postgres', "CREATE ROLE vault LOGIN CREATEROLE NOSUPERUSER PASSWORD 'vault-of-the-test'");
    await psql('postgres', 'CREATE DATABASE one OWNER vault');
    await mainFlows(await start('one', { BULLA_DATABASE_URL: url('vault', 'one') }));
    const roles = await psql(
      'one',
      "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'one' AND application_name = 'bulla'",
    );
    expect(roles).toBe('vault');
    expect(
      await psql('one', "SELECT rolsuper OR rolbypassrls OR rolcanlogin FROM pg_roles WHERE rolname = 'bulla_app'"),
    ).toBe('f');
  });

  it('two URLs: one role migrates, another one serves and owns nothing', async () => {
    await psql(
      'postgres',
      "CREATE ROLE keeper LOGIN PASSWORD 'keeper-of-the-test'; CREATE ROLE clerk LOGIN PASSWORD 'clerk-of-the-test' IN ROLE bulla_app",
    );
    await psql('postgres', 'CREATE DATABASE two OWNER keeper');
    const env = { BULLA_DATABASE_URL: url('clerk', 'two'), BULLA_DATABASE_OWNER_URL: url('keeper', 'two') };
    await mainFlows(await start('two', env));
    expect(await psql('two', "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'bulla'")).toBe('keeper');
    // Its tables are the owner's to read, whatever the tenants.
    expect(await refusal('two', { ...env, BULLA_DATABASE_URL: url('keeper', 'two') })).toMatch(
      /row security does not bind keeper.*bulla_app/,
    );
  });

  it('one URL of a superuser, and of an owner who is not allowed to serve: the one serves, the other is told what to do', async () => {
    await psql('postgres', 'CREATE DATABASE three');
    // What the vault sets itself is not the address's to say: changes would be taken for ones by hand, and commits be lost.
    const address = `${url('boss', 'three')}?application_name=elsewhere&synchronous_commit=off`;
    await mainFlows(await start('three', { BULLA_DATABASE_URL: address }));
    const named =
      "SELECT string_agg(DISTINCT application_name, ' ') FROM pg_stat_activity WHERE datname = 'three' AND usename = 'boss' AND application_name <> 'psql'";
    expect(await psql('three', named)).toBe('bulla');
    await psql('postgres', 'CREATE DATABASE four OWNER keeper');
    expect(await refusal('four', { BULLA_DATABASE_URL: url('keeper', 'four') })).toMatch(
      /may not act as bulla_app.*GRANT bulla_app TO /,
    );
  });

  it('T-234 T-235 no dump, table, data file, log or statistic of it holds what was stored', async () => {
    await psql('postgres', 'CREATE EXTENSION pg_stat_statements; CHECKPOINT');
    const wanted = [...new Set(secrets)].flatMap(spellings);
    expect(wanted.length).toBeGreaterThan(100);
    const places = new Map<string, Buffer>();
    for (const database of ['one', 'two', 'three']) {
      const connection = ['-h', pg, '-p', String(port), '-U', 'boss'];
      places.set(
        `pg_dump ${database}`,
        (await run(join(BIN, 'pg_dump'), [...connection, '--inserts', database])).stdout,
      );
      const tables = (await psql(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'bulla'")).split('\n');
      expect(tables.length).toBeGreaterThan(10);
      for (const table of tables)
        places.set(`COPY ${table}`, Buffer.from(await psql(database, `COPY bulla.${table} TO STDOUT`)));
    }
    places.set('pg_stat_statements', Buffer.from(await psql('postgres', 'SELECT * FROM pg_stat_statements')));
    places.set('pg_stat_activity', Buffer.from(await psql('postgres', 'SELECT * FROM pg_stat_activity')));
    const names = readdirSync(pg, { recursive: true, encoding: 'utf8' }).filter((name) =>
      statSync(join(pg, name)).isFile(),
    );
    for (const name of names) places.set(name, readFileSync(join(pg, name)));
    expect(names.some((name) => name.startsWith('pg_wal/'))).toBe(true);
    // The log does show statements and their parameters, and the plans.
    expect(readFileSync(logFile, 'utf8')).toMatch(/INSERT INTO secret_versions[\s\S]*Query Text/);
    expect(readFileSync(logFile, 'utf8')).toMatch(/DETAIL: {2}parameters: \$1 = /);
    for (const [name, bytes] of places) {
      expect(
        wanted.filter((spelling) => bytes.includes(spelling)).map((spelling) => spelling.toString('latin1')),
        name,
      ).toEqual([]);
    }
  });

  it('T-178 PostgreSQL stopped while it serves: 503 within 5 s, and it recovers without a restart', async () => {
    const server = await start('one', { BULLA_DATABASE_URL: url('vault', 'one') });
    const token = await logIn(server.address, { tenant: 'default', username: 'admin', password: ADMIN }, ADMIN);
    const load = startLoad(server.address, token, 'stopped');
    await until('the load runs', async () => load.ledger.kept.size > 20);
    await stopPostgres('SIGQUIT');
    await until('it says so', async () => load.ledger.refused.size > 0);
    expect(await ask(server.address, 'GET', '/healthz')).toMatchObject({ status: 200 });
    const before = load.ledger.kept.size;
    await startPostgres();
    await until('writes are taken again', async () => load.ledger.kept.size > before);
    const ledger = await load.stop();
    const others = ledger.outcomes.filter(
      ({ method, outcome }) =>
        outcome.kind !== 'answer' ||
        !([200, 201, 503].includes(outcome.status) || (method === 'PUT' && outcome.status === 504)),
    );
    expect(others).toEqual([]);
    expect(Math.max(...ledger.outcomes.map(({ outcome }) => outcome.ms))).toBeLessThan(ANSWER_MS_MAX + MARGIN_MS);
    expect(await settle(server.address, token, ledger)).toEqual({ lost: [], undead: [] });
  });

  it('T-183 connections used up by others: an answer or 503 within 5 s, and it heals', async () => {
    const server = await start('one', { BULLA_DATABASE_URL: url('vault', 'one') });
    const token = await logIn(server.address, { tenant: 'default', username: 'admin', password: ADMIN }, ADMIN);
    await call(server.address, 'PUT', '/secrets/a', { token, body: { text: 'here' } });
    const burst = (name: string) =>
      Promise.all(
        Array.from({ length: 20 }, (_, i) => {
          const body = { text: 'b' };
          return i % 2 === 0
            ? ask(server.address, 'GET', '/api/v1/secrets/a', { token })
            : ask(server.address, 'PUT', `/api/v1/secrets/${name}/${i}`, { token, body });
        }),
      );

    const hogs = postgres(url('keeper', 'two'), { max: CONNECTIONS, onnotice: () => undefined });
    let filling = true;
    // Whoever is refused asks again until none is left: another connection may have ended since.
    const hold = async () => {
      while (filling) await hogs`SELECT pg_sleep(60)`.catch(() => pause(20));
    };
    const held = Array.from({ length: CONNECTIONS }, hold);
    await until(
      'others have the rest',
      async () => (await run(join(BIN, 'psql'), [url('keeper', 'two'), '-c', 'SELECT 1'])).code !== 0,
    );
    filling = false;
    for (const outcome of await burst('few')) {
      expect(outcome).toMatchObject({ kind: 'answer', status: expect.toBeOneOf([200, 201, 503]) });
      expect(outcome.ms).toBeLessThan(ANSWER_MS_MAX + MARGIN_MS);
    }
    await psql(
      'postgres',
      "ALTER ROLE vault CONNECTION LIMIT 0; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'vault'",
    );
    for (const outcome of await burst('none')) {
      expect(outcome).toMatchObject({ kind: 'answer', status: 503 });
      expect(outcome.ms).toBeLessThan(ANSWER_MS_MAX + MARGIN_MS);
    }

    expect(await refusal('one', { BULLA_DATABASE_URL: url('vault', 'one') })).toMatch(
      /takes no connection now \(53300\): .*max_connections/,
    );
    await psql(
      'postgres',
      "ALTER ROLE vault CONNECTION LIMIT -1; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keeper'",
    );
    await hogs.end({ timeout: 0 });
    await Promise.all(held);
    await untilAnswered(server.address, '/readyz', 200);
    expect((await call(server.address, 'GET', '/secrets/a', { token })).text).toBe('here');
  });

  it('a server that may lose what it acknowledged is refused', async () => {
    for (const setting of ['fsync', 'full_page_writes']) {
      await psql('postgres', `ALTER SYSTEM SET ${setting} = off`);
      await psql('postgres', 'SELECT pg_reload_conf()');
      await until('it is off', async () => (await psql('postgres', `SHOW ${setting}`)) === 'off');
      expect(await refusal('one', { BULLA_DATABASE_URL: url('vault', 'one') })).toMatch(
        /fsync or full_page_writes off .* turn both on\.$/,
      );
      await psql('postgres', `ALTER SYSTEM RESET ${setting}`);
      await psql('postgres', 'SELECT pg_reload_conf()');
      await until('it is on', async () => (await psql('postgres', `SHOW ${setting}`)) === 'on');
    }
  });

  it('a database of another vault, a wrong password and a database that is not there are told apart', async () => {
    expect(await refusal('two', { BULLA_DATABASE_URL: url('vault', 'one') })).toMatch(
      /but this vault was sealed by [0-9a-f]{16}: give it that key/,
    );
    const wrong = url('vault', 'one').replace('vault-of', 'other-of');
    expect(await refusal('one', { BULLA_DATABASE_URL: wrong })).toMatch(
      /refused the connection \(28P01\): check user, password and database name/,
    );
    expect(await refusal('one', { BULLA_DATABASE_URL: url('vault', 'absent') })).toMatch(
      /refused the connection \(3D000\)/,
    );
  });

  it('T-142 where TLS is asked for, the certificate and the host are verified, or there is no link at all', async () => {
    await psql('postgres', 'CREATE DATABASE link');
    const [ours, others] = [join(place.path, 'ca.crt'), join(place.path, 'other.crt')];
    writeFileSync(ours, authority.pem);
    writeFileSync(others, (await make({ name: 'Authority', ca: true })).pem);
    const at = (host: string, query: string) => `postgres://boss:boss-of-the-test@${host}:${port}/link?${query}`;
    const encrypted = async (target: string) => {
      const options = { target, setRole: false, connections: 1, deadlineMs: 5_000, clockOffsetSeconds: 0 };
      const db = openDatabase(options);
      try {
        return await transaction(db, [SYSTEM], (tx) => tx`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`);
      } finally {
        await closeDatabase(db);
      }
    };
    const trusted = `sslrootcert=${encodeURIComponent(ours)}`;
    await migrate(at('localhost', `sslmode=verify-full&${trusted}`));
    for (const mode of ['verify-full', 'require', 'verify-ca']) {
      expect(await encrypted(at('localhost', `sslmode=${mode}&${trusted}`))).toEqual([{ ssl: true }]);
    }
    const refused = {
      'another authority': at('localhost', `sslmode=require&sslrootcert=${encodeURIComponent(others)}`),
      'an authority nobody knows': at('localhost', 'sslmode=require'),
      'another host': at('127.0.0.1', `sslmode=verify-full&${trusted}`),
    };
    for (const [name, target] of Object.entries(refused)) {
      const cannot = { code: 'unavailable', message: expect.stringContaining('cannot be trusted') };
      await expect(migrate(target), name).rejects.toMatchObject(cannot);
      await expect(encrypted(target), name).rejects.toThrow();
    }
    for (const mode of ['prefer', 'allow', 'nonsense']) {
      const target = at('localhost', `sslmode=${mode}&${trusted}`);
      await expect(migrate(target), mode).rejects.toMatchObject({ code: 'invalid_request' });
    }
    expect(await refusal('link', { BULLA_DATABASE_URL: refused['another host'] })).toMatch(/cannot be trusted/);
  });
});
