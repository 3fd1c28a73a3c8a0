/**
 * The command line against a real vault: as real processes where arguments, environment, signals and exit codes matter,
 * and within this process, with streams in place of a terminal, where answers and output do. What is typed is in the files
 * cli.*.test.ts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { runProgram } from '../src/cli/program.ts';
import { Bulla } from '../src/client/index.ts';
import { loadClientConfig } from '../src/config-client.ts';
import { type TestVault, testVault } from './harness.ts';

export const MAIN = fileURLToPath(new URL('../dist/bundle/main.js', import.meta.url));
export const CANARY = 'canary-c4f1-value';

export let vault: TestVault;
export let vaultAddress: string;
export let admin: Bulla;
/** Of one test, and empty when it begins. */
export let directory: string;
const children = new Set<ChildProcess>();

/** Once a file: a vault that listens, and a directory for each test. */
export function ownShell(): void {
  beforeAll(async () => {
    vault = await testVault();
    vaultAddress = await vault.address();
    admin = new Bulla({ address: vaultAddress, token: vault.admin });
  });
  afterAll(async () => {
    admin?.close();
    await vault?.close();
  });
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'bulla-cli-'));
  });
  afterEach(() => {
    for (const child of children) child.kill('SIGKILL');
    children.clear();
    rmSync(directory, { recursive: true, force: true });
  });
}

type Ended = { code: number | null; signal: string | null; stdout: string; stderr: string };
type Options = { input?: string | Buffer; env?: Record<string, string>; token?: string | null };

export function environment({ env = {}, token = vault.admin }: Options): Record<string, string> {
  const base = { PATH: process.env.PATH!, BULLA_ADDR: vaultAddress, XDG_STATE_HOME: join(directory, 'state') };
  return { ...base, ...(token === null ? {} : { BULLA_TOKEN: token }), ...env };
}

/** A real process; its standard input stays open unless there is input. */
export function start(args: readonly string[], options: Options = {}) {
  const child = spawn(process.execPath, [MAIN, ...args], { cwd: directory, env: environment(options), stdio: 'pipe' });
  children.add(child);
  if (options.input !== undefined) child.stdin.end(options.input);
  return child;
}

export async function bulla(args: readonly string[], options: Options = {}): Promise<Ended> {
  const child = start(args, { input: '', ...options });
  const [stdout, stderr, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  return { code, signal, stdout, stderr };
}

type Stream = PassThrough & { isTTY?: boolean; setRawMode?: (on: boolean) => void };

/** Within this process; `answers` are typed into a terminal as its questions come. */
export async function here(
  args: readonly string[],
  options: Options & { answers?: [question: string, keys: string][] } = {},
) {
  const stdin: Stream = new PassThrough();
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const raw: boolean[] = [];
  if (options.answers === undefined) stdin.end(options.input ?? '');
  else Object.assign(stdin, { isTTY: true, setRawMode: (on: boolean) => raw.push(on) });
  const answers = [...(options.answers ?? [])];
  let asked = '';
  stderr.on('data', (piece: Buffer) => {
    asked += piece.toString();
    const next = answers[0];
    if (next === undefined || !asked.endsWith(`${next[0]}: `)) return;
    answers.shift();
    stdin.write(next[1]);
  });
  const shown = buffer(stdout);
  const program = {
    io: { stdin, stdout, stderr },
    config: loadClientConfig(environment(options)),
    serve: async () => 0,
  };
  const code = await runProgram(args, program);
  stdout.end();
  return { code, bytes: await shown, stdout: (await shown).toString(), stderr: asked, raw };
}

export const file = (name: string) => join(directory, name);
export const words = (line: string) => line.split(' ');
