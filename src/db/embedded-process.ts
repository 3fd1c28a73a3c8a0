/**
 * Child processes of the embedded PostgreSQL: how each of its programs is started.
 *
 * They get an environment of three words, so that nothing of the vault's reaches `/proc/<pid>/environ`, and they run
 * as the server's user where the vault is root's. Nothing secret is ever an argument.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { VaultError } from '../errors.ts';
import type { ServerUser } from './embedded-directory.ts';

const ENVIRONMENT = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
const RUN_MS_MAX = 180_000;
const STDERR_CHARS_MAX = 4_000;

/** Runs a program to its end. Rejects with `unavailable` and the last line it printed, unless it ended with 0. */
export function run(
  file: string,
  args: readonly string[],
  user: ServerUser | undefined,
  input: string = '',
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      ...user,
      cwd: '/',
      env: ENVIRONMENT,
      timeout: RUN_MS_MAX,
      killSignal: 'SIGKILL',
    });
    let stderr = '';
    child.stdout.resume();
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-STDERR_CHARS_MAX);
    });
    // A program that ends early closes its input; its exit says why.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    child.on('error', (error: NodeJS.ErrnoException) => reject(cannotStart(file, user, error)));
    child.on('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(failed(file, lastFailure(stderr) ?? `it ended with ${code ?? signal}`));
    });
  });
}

/** Starts the server in a session of its own: a Ctrl-C in the vault's terminal does not reach it. */
export function spawnServer(
  file: string,
  args: readonly string[],
  user: ServerUser | undefined,
  log: number,
): Promise<ChildProcess> {
  return new Promise((resolve, reject) => {
    const stdio: ['ignore', number, number] = ['ignore', log, log];
    const child = spawn(file, args, { ...user, cwd: '/', env: ENVIRONMENT, detached: true, stdio });
    child.unref();
    child.once('spawn', () => resolve(child));
    child.once('error', (error: NodeJS.ErrnoException) => reject(cannotStart(file, user, error)));
  });
}

function cannotStart(file: string, user: ServerUser | undefined, error: NodeJS.ErrnoException): VaultError {
  const who = user ? ` as uid ${user.uid}` : '';
  return new VaultError(
    'unavailable',
    `${file} cannot be started${who} (${error.code ?? 'unknown'}): check that it may be executed here, or set BULLA_DATABASE_URL.`,
    { cause: error },
  );
}

function failed(file: string, why: string): VaultError {
  const name = file.slice(file.lastIndexOf('/') + 1);
  return new VaultError('unavailable', `The embedded PostgreSQL could not be set up: ${name}: ${why}.`);
}

/** The last line of PostgreSQL's output that says what went wrong, without its time and process. */
export function lastFailure(output: string): string | undefined {
  const lines = output.split('\n').filter((line) => /FATAL|PANIC|error|cannot/i.test(line));
  return lines
    .at(-1)
    ?.replace(/^[\d-]+ [\d:.]+ \w+ \[\d+\] /, '')
    .replace(/\.$/, '')
    .slice(0, 300);
}
