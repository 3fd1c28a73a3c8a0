/** The real server on the database of a test vault, which dies by SIGKILL at a named point once it is armed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Endpoint } from '../src/db/database.ts';
import type { Killpoint } from '../src/db/killpoint.ts';
import type { TestVault } from './harness.ts';
import { CHEAP_ARGON2, PATIENT } from './setup.ts';
import { until } from './until.ts';

const FIXTURE = fileURLToPath(new URL('./fixtures/killable-server.mjs', import.meta.url));
const NO_POINT = 'none';

export type KillServer = {
  readonly address: string;
  readonly child: ChildProcess;
  readonly arm: () => Promise<void>;
  /** Resolves with the signal or code that ended it. */
  readonly ended: Promise<string>;
  readonly stop: () => Promise<void>;
};

export type ServerAt = { readonly owner: Endpoint; readonly app: Endpoint; readonly dataDir: string };

/** Starts the real server on the database of a test vault. Rejects with what it said when it does not come to serve. */
export async function startKillable(
  at: ServerAt,
  point: Killpoint | typeof NO_POINT = NO_POINT,
  times = 1,
  armed: 'now' | 'later' = 'later',
): Promise<KillServer> {
  const place = JSON.stringify({ ...at, env: { ...CHEAP_ARGON2, ...PATIENT, ...SEAL_ENV } });
  const child = spawn(process.execPath, [FIXTURE, place, point, String(times), armed], {
    env: { PATH: process.env.PATH },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin!.on('error', () => undefined);
  let output = '';
  const ended = once(child, 'exit').then(([code, signal]) => String(signal ?? code));
  child.stderr!.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stdout!.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const seen = (what: RegExp) =>
    Promise.race([
      until(String(what), async () => what.exec(output) ?? undefined, 30_000),
      ended.then((how) => Promise.reject(new Error(`the server ended with ${how}: ${output}`))),
    ]);
  const [, address] = await seen(/running at (http:\S+)/).catch((error: unknown) => {
    child.kill('SIGKILL');
    throw error;
  });
  return {
    address: address!,
    child,
    arm: async () => {
      child.stdin!.write('arm\n');
      await Promise.race([seen(/armed/).catch(() => undefined), ended]);
    },
    ended,
    stop: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** How the server of a test vault reaches its database. */
export function serverAt({ app, dataDir }: Pick<TestVault, 'app' | 'dataDir'>, owner: Endpoint): ServerAt {
  return { owner: { ...owner, database: app.database }, app, dataDir };
}

/** The env seal is at hand beside the file seal, to migrate to; a passphrase costs what a password does. */
export const SEAL_ENV = {
  BULLA_SEAL_KEY: `bulla-seal-key-v1:${Buffer.alloc(32, 'k').toString('base64')}`,
  BULLA_SEAL_PASSPHRASE_MEMORY_KIB: '19456',
  BULLA_SEAL_PASSPHRASE_PASSES: '2',
};

/** A request to its API; a connection that breaks rejects. */
export async function api(address: string, method: string, path: string, token: string, body?: unknown) {
  const answer = await fetch(`${address}/api/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  return {
    status: answer.status,
    requestId: answer.headers.get('x-request-id') ?? '',
    json: text === '' ? {} : JSON.parse(text),
  };
}
