/**
 * The vault as its users have it: the real process, started and ended, and the real command line against it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CHEAP_ARGON2 } from './setup.ts';

export const CHECKOUT = fileURLToPath(new URL('../', import.meta.url));
/** What runs: the modules, bundled with packages. */
export const MAIN = join(CHECKOUT, 'dist/bundle/main.js');
/** The modules of ours, compiled. */
export const MODULES = join(CHECKOUT, 'dist');

export type Server = {
  readonly address: string;
  readonly dataDir: string;
  readonly child: ChildProcess;
  /** What it has printed so far, both streams. */
  readonly output: () => string;
  /** Ends it and resolves with the exit code, or the signal's name. */
  readonly end: (signal: NodeJS.Signals) => Promise<number | string>;
};

/** A directory that the server's database user may pass, and how to remove it. */
export function temporaryDirectory(name: string): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), `bulla-${name}-`));
  chmodSync(path, 0o711);
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/**
 * Starts the real process and resolves when it serves; rejects with what it printed when it ends before. `through` is a
 * program that becomes the server, such as `setpriv` with its options; `descriptor` is the server's descriptor 3.
 */
export function startServer(
  dataDir: string,
  env: Record<string, string> = {},
  through: readonly string[] = [],
  descriptor?: number,
): Promise<Server> {
  const [program = '', ...args] = [...through, process.execPath, MAIN, 'server'];
  const child = spawn(program, args, {
    env: { PATH: process.env.PATH, BULLA_DATA_DIR: dataDir, BULLA_LISTEN: '127.0.0.1:0', ...CHEAP_ARGON2, ...env },
    stdio: ['ignore', 'pipe', 'pipe', ...(descriptor === undefined ? [] : [descriptor])],
  });
  let output = '';
  const ended = new Promise<number | string>((done) =>
    child.once('exit', (code, signal) => done(code ?? signal ?? 'gone')),
  );
  return new Promise((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      const address = /running at (https?:\/\/\S+)/.exec(output)?.[1];
      if (address === undefined) return;
      const end = (signal: NodeJS.Signals) => {
        child.kill(signal);
        return ended;
      };
      resolve({ address, dataDir, child, output: () => output, end });
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    void ended.then((code) => reject(new Error(`the server ended with ${code}:\n${output}`)));
  });
}

export type Ran = { readonly code: number; readonly stdout: Buffer; readonly stderr: string };

/** Runs a program to its end. `input` goes to its standard input. */
export function run(
  program: string,
  args: readonly string[],
  { env = {}, input = '', cwd }: { env?: Record<string, string>; input?: string | Uint8Array; cwd?: string } = {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { PATH: process.env.PATH, ...env }, cwd });
    const stdout: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code: code ?? -1, stdout: Buffer.concat(stdout), stderr }));
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

export type Person = (args: readonly string[], input?: string | Uint8Array) => Promise<Ran>;

/** Somebody at the command line, with a home of their own, where the token is kept; `more` is of their environment. */
export function person(address: string, home: string, more: Record<string, string> = {}): Person {
  mkdirSync(home, { recursive: true, mode: 0o700 });
  return (args, input) =>
    run(process.execPath, [MAIN, ...args], {
      env: { HOME: home, BULLA_ADDR: address, ...more },
      ...(input === undefined ? {} : { input }),
    });
}

export type FirstCredentials = Record<'system' | 'default', { tenant: string; username: string; password: string }>;

export function firstCredentials(dataDir: string): FirstCredentials {
  return JSON.parse(readFileSync(join(dataDir, 'first-credentials.json'), 'utf8'));
}
