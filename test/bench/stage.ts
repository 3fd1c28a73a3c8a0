/** What every bench stands on: the real server, the ceiling beside it, and the load, each a process on a core of its own where there is one. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Load, Plan } from './load.ts';

const MAIN = fileURLToPath(new URL('../../../dist/main.js', import.meta.url));
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const LAST_CORE = String(availableParallelism() - 1);
const ALL_CORES = `0-${LAST_CORE}`;
const canPin = spawnSync('taskset', ['-c', '0', 'true']).status === 0 && availableParallelism() > 1;

/** The load has the last core; the server, its PostgreSQL (which inherits its cores) and the ceiling have all of them. */
function pinned(core: string, program: string, args: readonly string[], env: NodeJS.ProcessEnv): ChildProcess {
  const [command, all] = canPin ? ['taskset', ['-c', core, program, ...args]] : [program, [...args]];
  return spawn(command, all, { env, stdio: ['pipe', 'pipe', 'inherit'] });
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

export type Stage = {
  readonly port: number;
  readonly pid: number;
  readonly dataDir: string;
  /** Milliseconds from spawning to the first answer. */
  readonly startMs: number;
  readonly admin: string;
  readonly ask: (method: string, path: string, body?: unknown, token?: string) => Promise<any>;
  readonly end: () => Promise<void>;
};

const PASSWORD = 'a password for the bench only';

/** `nodeArgs`: such as `--cpu-prof`. */
export async function startStage(
  env: Record<string, string> = {},
  nodeArgs: readonly string[] = ['--max-semi-space-size=32'],
): Promise<Stage> {
  const directory = mkdtempSync(join(tmpdir(), 'bulla-bench-'));
  chmodSync(directory, 0o711);
  const dataDir = join(directory, 'data');
  const started = performance.now();
  const settings = {
    PATH: process.env.PATH,
    BULLA_DATA_DIR: dataDir,
    BULLA_LISTEN: '127.0.0.1:0',
    BULLA_LOG_LEVEL: 'warn',
  };
  const child = pinned(ALL_CORES, process.execPath, [...nodeArgs, MAIN, 'server'], {
    ...settings,
    ...env,
  });
  const address = await firstLine(child, /running at (http:\/\/\S+)/);
  const startMs = performance.now() - started;
  const ask = (method: string, path: string, body?: unknown, token?: string) =>
    request(address, method, path, body, token);
  const { default: first } = JSON.parse(readFileSync(join(dataDir, 'first-credentials.json'), 'utf8'));
  const once = await ask('POST', '/auth/login', first);
  const change = { current_password: first.password, new_password: PASSWORD };
  await ask('POST', '/auth/password', change, once.token);
  const { token } = await ask('POST', '/auth/login', { ...first, password: PASSWORD });
  return {
    ...{ port: Number(new URL(address).port), pid: child.pid!, dataDir, startMs, admin: token, ask },
    end: async () => {
      child.kill('SIGTERM');
      await new Promise((done) => child.once('exit', done));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function request(address: string, method: string, path: string, body?: unknown, token?: string): Promise<any> {
  const headers = { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) };
  const sent = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
  const answer = await fetch(`${address}/api/v1${path}`, sent);
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text === '' ? undefined : JSON.parse(text);
}

/** The bare server. `body` is what it answers. */
export async function startCeiling(body: string): Promise<{ port: number; pid: number; end: () => void }> {
  const child = pinned(ALL_CORES, process.execPath, ['--max-semi-space-size=32', here('./ceiling.js'), body], {
    PATH: process.env.PATH,
  });
  const port = Number(await firstLine(child, /^(\d+)\n/));
  return { port, pid: child.pid!, end: () => child.kill('SIGTERM') };
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

export function post(port: number, path: string, token: string, body: unknown, method = 'POST'): string {
  const text = JSON.stringify(body);
  const length = Buffer.byteLength(text);
  return `${method} /api/v1${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${text}`;
}
