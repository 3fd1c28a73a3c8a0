/**
 * Vaults under seals that people open: the real server, given descriptors, and an operator at the real command line, over
 * restarts. What a test leaves running is ended after it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect } from 'vitest';
import { person, type Server, startServer, temporaryDirectory } from './process.ts';
import { PASSWORD } from './setup.ts';

export const PASSPHRASE = 'seven bright lanterns over the harbour';

const CHEAP = { BULLA_SEAL_PASSPHRASE_MEMORY_KIB: '19456', BULLA_SEAL_PASSPHRASE_PASSES: '2' };

const undo: (() => unknown)[] = [];
/** Once a file. */
export function endAfterEach(): void {
  afterEach(async () => {
    for (const step of undo.splice(0).reverse()) await step();
  });
}

/** A data directory of a test's own, with room beside it. */
export function directory(): string {
  const { path, remove } = temporaryDirectory('seal');
  undo.push(remove);
  return join(path, 'data');
}

/** `descriptor` is the server's descriptor 3. */
export async function start(dataDir: string, env: Record<string, string> = {}, descriptor?: number): Promise<Server> {
  const server = await startServer(dataDir, { ...CHEAP, ...env }, [], descriptor);
  undo.push(() => server.end('SIGTERM'));
  return server;
}

export type Operator = (args: string, input?: string) => Promise<{ code: number; out: string; err: string }>;

/** Runs commands on the vault's host; the token is kept there. */
export function operatorOf({ address, dataDir }: Server, env: Record<string, string> = {}): Operator {
  const atHost = person(address, join(dataDir, '..', 'home'), { BULLA_DATA_DIR: dataDir, ...CHEAP, ...env });
  return async (args, input = '') => {
    const { code, stdout, stderr } = await atHost(args.split(' '), input);
    return { code, out: stdout.toString(), err: stderr };
  };
}

export async function loginFirst(operator: Operator, dataDir: string): Promise<void> {
  const { password } = JSON.parse(readFileSync(join(dataDir, 'first-credentials.json'), 'utf8')).system;
  expect((await operator('login system operator', `${password}\n${PASSWORD}\n`)).code).toBe(0);
}

/** The kept token belongs to an address, and a restart has another port. */
export async function loginAgain(operator: Operator): Promise<void> {
  expect((await operator('login system operator', `${PASSWORD}\n`)).code).toBe(0);
}
