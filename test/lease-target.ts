/**
 * Where leases are taken: a PostgreSQL of its own, the embedded binaries on a port of 127.0.0.1 behind a proxy that can
 * hang, with an administrator who may make roles and is nothing more.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import { findPackage, prepareBinaries } from '../src/db/embedded-binaries.ts';
import { SYSTEM_DIR } from '../src/db/embedded-directory.ts';
import { type CuttingProxy, cuttingProxy } from './cutting-proxy.ts';
import type { TestVault } from './harness.ts';
import { freePort } from './port.ts';
import { until } from './until.ts';

/** What a backend of it is configured with. */
export type TargetConfig = {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly username: string;
  readonly password: string;
  readonly tls: 'off';
};

export type Target = {
  readonly proxy: CuttingProxy;
  readonly config: TargetConfig;
  /** The same past the proxy. */
  readonly direct: TargetConfig;
  /** The server's superuser in the target's database. */
  readonly sql: postgres.Sql;
  /** Roles that leases have made here. */
  readonly roles: () => Promise<string[]>;
  /** Ends the server at once, and starts it again on the same data. */
  readonly kill: () => Promise<void>;
  readonly start: () => Promise<void>;
  readonly close: () => Promise<void>;
};

export type LoginData = { readonly username: string; readonly password: string };

const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : undefined;
const DATABASE = 'reports of "the" firm';
const ADMIN = "the admin's own";

export async function leaseTarget(): Promise<Target> {
  const directory = mkdtempSync(join(tmpdir(), 'bulla-target-'));
  chmodSync(directory, 0o711);
  const binaries = prepareBinaries(findPackage(), user, user ? SYSTEM_DIR : directory);
  const data = join(directory, 'pg');
  mkdirSync(data, { mode: 0o700 });
  if (user) chownSync(data, user.uid, user.gid);
  const quick = [
    '--no-sync',
    '--no-instructions',
    '--username=postgres',
    '--auth=scram-sha-256',
    '--locale=C',
    '-E',
    'UTF8',
  ];
  const rootPassword = randomBytes(12).toString('hex');
  const passwordFile = join(directory, 'password');
  writeFileSync(passwordFile, rootPassword, { mode: 0o644 });
  execFileSync(binaries.initdb, ['-D', data, ...quick, `--pwfile=${passwordFile}`], {
    ...user,
    cwd: '/',
    stdio: 'pipe',
  });
  const port = await freePort();
  const options = [
    `port=${port}`,
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    'fsync=off',
    'shared_buffers=8MB',
  ];
  const args = ['-D', data, ...options.flatMap((option) => ['-c', option])];
  let server: ChildProcess | undefined;
  const root = { host: '127.0.0.1', port, username: 'postgres', password: rootPassword };
  const start = async () => {
    server = spawn(binaries.postgres, args, { ...user, cwd: '/', stdio: 'ignore' });
    await until('the target takes connections', () => answers({ ...root, database: 'postgres' }));
  };
  const kill = async () => {
    const ended = new Promise((done) => server?.once('exit', done));
    // SIGQUIT: at once, with its children, as after a fault of the machine.
    server?.kill('SIGQUIT');
    await ended;
  };
  await start();
  const password = randomBytes(12).toString('hex');
  const first = postgres({ ...root, database: 'postgres', max: 1, onnotice: () => undefined });
  await first.unsafe(`CREATE ROLE ${quote(ADMIN)} LOGIN CREATEROLE PASSWORD '${password}'`);
  await first.unsafe(`CREATE DATABASE ${quote(DATABASE)} OWNER ${quote(ADMIN)}`);
  await first.end();
  const sql = postgres({ ...root, database: DATABASE, max: 2, onnotice: () => undefined });
  const proxy = await cuttingProxy({ host: '127.0.0.1', port, database: DATABASE, username: ADMIN, password });
  return {
    ...{ proxy, sql, kill, start },
    config: { host: '127.0.0.1', port: proxy.endpoint.port, database: DATABASE, username: ADMIN, password, tls: 'off' },
    direct: { host: '127.0.0.1', port, database: DATABASE, username: ADMIN, password, tls: 'off' },
    roles: async () => {
      const rows = await sql`SELECT rolname AS name FROM pg_roles WHERE rolname LIKE 'bulla\\_%' ORDER BY 1`;
      return rows.map((row) => row.name as string);
    },
    close: async () => {
      await proxy.close();
      await sql.end({ timeout: 1 });
      await kill();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export async function answers(options: postgres.Options<Record<string, never>>): Promise<boolean> {
  const sql = postgres({ ...options, max: 1, connect_timeout: 2, onnotice: () => undefined });
  try {
    await sql`SELECT 1`;
    return true;
  } catch {
    return false;
  } finally {
    await sql.end({ timeout: 1 });
  }
}

export const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

/** A session of a leased credential. */
export function connectWith(target: Target, { username, password }: LoginData): postgres.Sql {
  const { host, port } = target.proxy.endpoint;
  const database = target.config.database;
  return postgres({ host, port, database, username, password, max: 1, onnotice: () => undefined, fetch_types: false });
}

/** Whether one can log in with it now. */
export async function works(target: Target, credential: LoginData): Promise<boolean> {
  const sql = connectWith(target, credential);
  try {
    await sql`SELECT 1`;
    return true;
  } catch (error) {
    const code = (error as { code?: string }).code ?? '';
    if (!/^28/.test(code)) throw error;
    return false;
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** A backend and a role of one name. */
export async function makeRole(t: TestVault, name: string, config: TargetConfig): Promise<void> {
  const body = { kind: 'postgres', config };
  const backend = await t.request('PUT', `/api/v1/backends/${name}`, { token: t.admin, body });
  if (backend.status !== 201) throw new Error(`the backend was not made: ${backend.text}`);
  const role = await t.request('PUT', `/api/v1/roles/${name}`, { token: t.admin, body: { backend: name } });
  if (role.status !== 201) throw new Error(`the role was not made: ${role.text}`);
}

/** A backend `db` and a role `reporting` on the target, made over HTTP as an administrator would. */
export async function configure(t: TestVault, target: Target, settings: object = {}, token = t.admin): Promise<void> {
  t.secrets.add(target.config.password);
  const backend = await t.request('PUT', '/api/v1/backends/db', {
    token,
    body: { kind: 'postgres', config: target.config },
  });
  if (backend.status !== 201) throw new Error(`the backend was not made: ${backend.text}`);
  const role = await t.request('PUT', '/api/v1/roles/reporting', { token, body: { backend: 'db', settings } });
  if (role.status !== 201) throw new Error(`the role was not made: ${role.text}`);
}

/** A credential of `backend/role`, as whoever holds the admin's token takes it. */
export async function takeLease(t: TestVault, role: string, ttl: number | string = '10m') {
  const answer = await t.request('POST', '/api/v1/leases', { token: t.admin, body: { role, ttl } });
  if (answer.status !== 201) throw new Error(`no lease was given: ${answer.text}`);
  t.secrets.add(answer.json.credential.password);
  return answer.json;
}

/** Waits until the lease is in a state. */
export async function inState(
  t: TestVault,
  id: string,
  state: string,
  token = t.admin,
): Promise<Record<string, unknown>> {
  let lease: Record<string, unknown> = {};
  await until(`the lease ${id} is ${state}`, async () => {
    lease = (await t.request('GET', `/api/v1/leases/${id}`, { token })).json;
    return lease.state === state;
  });
  return lease;
}
