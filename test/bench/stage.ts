/** What every bench stands on: the real server, the references beside it, and the load, each a process on a core of its own where there is one. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import type { Load, Plan } from './load.ts';

const MAIN = fileURLToPath(new URL('../../../dist/bundle/main.js', import.meta.url));
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const LAST_CORE = String(availableParallelism() - 1);
const ALL_CORES = `0-${LAST_CORE}`;
const canPin = spawnSync('taskset', ['-c', '0', 'true']).status === 0 && availableParallelism() > 1;
/** As `npm start` and `./bulla` start it. */
export const NODE_ARGS: readonly string[] = [
  '--max-semi-space-size=16',
  '--initial-old-space-size=64',
  '--heap-growing-percent=150',
  '--no-allocation-site-pretenuring',
  '--v8-pool-size=1',
];

/** The load has the last core; the server, its PostgreSQL (which inherits its cores) and the references have all of them. */
function pinned(core: string, program: string, args: readonly string[], env: NodeJS.ProcessEnv): ChildProcess {
  const [command, all] = canPin ? ['taskset', ['-c', core, program, ...args]] : [program, [...args]];
  return spawn(command, all, { env, stdio: ['pipe', 'pipe', 'inherit'] });
}

/** A program beside the server, on the same cores. */
export function startBeside(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  return pinned(ALL_CORES, program, args, { PATH: process.env.PATH, ...env });
}

function firstLine(child: ChildProcess, pattern: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = '';
    child.stdout!.on('data', (chunk) => {
      output += chunk;
      const found = pattern.exec(output)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once('exit', (code) => reject(new Error(`ended with ${code} before it served: ${output}`)));
  });
}

export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await new Promise((done) => child.once('exit', done));
}

/** What was used so far: microseconds of processor time of the server (its workers too) and of PostgreSQL, and bytes of WAL. */
export type Used = { readonly node: number; readonly database: number; readonly walBytes: number };

export type Stage = {
  readonly port: number;
  readonly pid: number;
  readonly dataDir: string;
  /** Milliseconds from spawning to the first answer. */
  readonly startMs: number;
  readonly admin: string;
  /** Under /api/v1; throws unless it was answered with success. What the answer is, is for the caller to say. */
  readonly ask: <T>(method: string, path: string, body?: unknown, token?: string) => Promise<T>;
  /** A connection of the owner of the database. */
  readonly owner: postgres.Sql;
  readonly used: () => Promise<Used>;
  /** Ends the server and starts it again on the same data; gives the milliseconds from spawning to the first audited read. */
  readonly restart: (path: string) => Promise<number>;
  readonly end: () => Promise<void>;
};

/** What a login answers, as far as it is used here. */
export type Login = { readonly token: string };

export const PASSWORD = 'a password for the bench only';

export async function startStage(
  env: Record<string, string> = {},
  nodeArgs: readonly string[] = NODE_ARGS,
): Promise<Stage> {
  const directory = mkdtempSync(join(tmpdir(), 'bulla-bench-'));
  chmodSync(directory, 0o711);
  const dataDir = join(directory, 'data');
  const started = performance.now();
  let server = await startServer(dataDir, env, nodeArgs);
  const startMs = performance.now() - started;
  const ask = <T>(method: string, path: string, body?: unknown, token?: string) =>
    request<T>(server.address, method, path, body, token);
  const { default: first } = JSON.parse(readFileSync(join(dataDir, 'first-credentials.json'), 'utf8'));
  const once = await ask<Login>('POST', '/auth/login', first);
  const change = { current_password: first.password, new_password: PASSWORD };
  await ask('POST', '/auth/password', change, once.token);
  const { token } = await ask<Login>('POST', '/auth/login', { ...first, password: PASSWORD });
  let owner = connectOwner(dataDir);
  return {
    ...{ dataDir, startMs, admin: token, ask },
    get port() {
      return Number(new URL(server.address).port);
    },
    get pid() {
      return server.child.pid!;
    },
    get owner() {
      return owner;
    },
    used: () => used(server.child.pid!, dataDir, owner),
    restart: async (path) => {
      await owner.end();
      await ended(server.child);
      const again = performance.now();
      server = await startServer(dataDir, env, nodeArgs);
      await ask('GET', path, undefined, token);
      const ms = performance.now() - again;
      owner = connectOwner(dataDir);
      return ms;
    },
    end: async () => {
      await owner.end();
      await ended(server.child);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function startServer(dataDir: string, env: Record<string, string>, nodeArgs: readonly string[]) {
  const settings = { BULLA_DATA_DIR: dataDir, BULLA_LISTEN: '127.0.0.1:0', BULLA_LOG_LEVEL: 'warn' };
  const child = startBeside(process.execPath, [...nodeArgs, MAIN, 'server'], { ...settings, ...env });
  return { child, address: await firstLine(child, /running at (http:\/\/\S+)/) };
}

export function databaseAt(dataDir: string, role: 'bulla_owner' | 'bulla_app') {
  const credentials = JSON.parse(readFileSync(join(dataDir, 'pg-credentials.json'), 'utf8'));
  const at = { host: join(dataDir, 'socket'), port: 5432, database: 'bulla' };
  return { ...at, username: role, password: credentials[role] as string };
}

function connectOwner(dataDir: string): postgres.Sql {
  return postgres({ ...databaseAt(dataDir, 'bulla_owner'), max: 1, connection: { search_path: 'bulla' } });
}

// ---- what it costs ------------------------------------------------------------------------------------------------

async function used(pid: number, dataDir: string, owner: postgres.Sql): Promise<Used> {
  const postmaster = Number(readFileSync(join(dataDir, 'pg', 'postmaster.pid'), 'utf8').split('\n')[0]);
  const [row] = await owner`SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8 AS wal`;
  const backends = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && parentOf(name) === postmaster);
  const database = [postmaster, ...backends].reduce<number>((sum, id) => sum + microsOf(id), 0);
  const node = serversOf(pid).reduce<number>((sum, id) => sum + microsOf(id), 0);
  return { node, database, walBytes: row!.wal as number };
}

/** The server, and its workers where it has some. */
function serversOf(pid: number): (string | number)[] {
  const children = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && parentOf(name) === pid);
  return [pid, ...children.filter((id) => readFileSync(`/proc/${id}/cmdline`, 'utf8').includes('/worker.js'))];
}

/** Of the server and its workers. */
export const residentOf = (pid: number) => serversOf(pid).reduce<number>((sum, id) => sum + residentMiB(Number(id)), 0);

function parentOf(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return 0;
  }
}

/** Processor time of all threads, by the scheduler's own count of nanoseconds. */
function microsOf(pid: string | number): number {
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    return threads.reduce(
      (sum, thread) => sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1000,
      0,
    );
  } catch {
    return 0;
  }
}

export const residentMiB = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

/** The highest of a process's memory while something runs. */
export async function peakMiB<T>(pid: number, run: () => Promise<T>): Promise<{ value: T; peakMiB: number }> {
  let peak = residentMiB(pid);
  const timer = setInterval(() => {
    peak = Math.max(peak, residentMiB(pid));
  }, 200);
  try {
    return { value: await run(), peakMiB: Math.max(peak, residentMiB(pid)) };
  } finally {
    clearInterval(timer);
  }
}

// ---- requests -----------------------------------------------------------------------------------------------------

async function request<T>(address: string, method: string, path: string, body?: unknown, token?: string): Promise<T> {
  const headers = { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) };
  const sent = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
  const answer = await fetch(`${address}/api/v1${path}`, sent);
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

export type Reference = { readonly port: number; readonly pid: number; readonly end: () => Promise<void> };

/** A server of this folder that prints its port. */
export async function startReference(
  file: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Reference> {
  const child = startBeside(process.execPath, [...NODE_ARGS, here(file), ...args], env);
  const port = Number(await firstLine(child, /^(\d+)\n/));
  return { port, pid: child.pid!, end: () => ended(child) };
}

export async function load(plan: Plan): Promise<Load> {
  const child = pinned(LAST_CORE, process.execPath, [here('./load.js')], { PATH: process.env.PATH });
  let output = '';
  child.stdout!.on('data', (chunk) => {
    output += chunk;
  });
  child.stdin!.end(JSON.stringify(plan));
  await new Promise((done) => child.once('close', done));
  return JSON.parse(output) as Load;
}

export function get(port: number, path: string, token: string): string {
  return `GET /api/v1${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}\r\n\r\n`;
}

export function post(port: number, path: string, token: string | undefined, body: unknown, method = 'POST'): string {
  const text = JSON.stringify(body);
  const length = Buffer.byteLength(text);
  const shown = token === undefined ? '' : `Authorization: Bearer ${token}\r\n`;
  return `${method} /api/v1${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${shown}Content-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${text}`;
}
