/**
 * Vaults of one test file, each a real process on a directory of its own name; what tests leave running is ended, with
 * its PostgreSQL, and the directories go when the file is done.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { logIn, postgresOf, untilAnswered } from './lifecycle.ts';
import { MAIN, run, type Server, startServer, temporaryDirectory } from './process.ts';
import { CHEAP_ARGON2 } from './setup.ts';
import { until } from './until.ts';

export const OPERATOR = 'the operator chose this one';
export const ADMIN = 'the first admin chose this one';
/** How long the vault may take to say that it cannot serve, and what a busy machine may add to that. */
export const ANSWER_MS_MAX = 5_000 + 1_500;

export type Vaults = {
  readonly dir: (name: string) => string;
  /** Starts a vault and waits for its first answer. `through` as in startServer. */
  readonly start: (
    name: string,
    env?: Record<string, string>,
    through?: readonly string[],
    descriptor?: number,
  ) => Promise<Server>;
  /** Starts one that must refuse: exit code 1, and on both streams one sentence and nothing else. */
  readonly refusal: (name: string, env?: Record<string, string>, through?: readonly string[]) => Promise<string>;
  /** For afterEach: what a failed test left running must not fail the next ones. */
  readonly endAll: () => Promise<void>;
};

const hasEnded = ({ child }: Server) => child.exitCode !== null || child.signalCode !== null;

export const ended = (server: Server) => until('the vault has ended', async () => hasEnded(server));

/** The first admin, who has chosen ADMIN or does so now. */
export const admin = (server: Server) =>
  logIn(server.address, { tenant: 'default', username: 'admin', password: ADMIN }, ADMIN);

export function vaults(name: string): Vaults {
  const place = temporaryDirectory(name);
  const dir = (vault: string) => join(place.path, vault);
  const servers: Server[] = [];
  /** From the start to the first answer, for people to read. */
  const figures: string[] = [];
  const postgres = () => readdirSync(place.path).flatMap((vault) => postgresOf(dir(vault)));
  const isOpen = (vault: string) => servers.some((server) => server.dataDir === dir(vault) && !hasEnded(server));
  afterAll(async () => {
    for (const server of servers) if (!hasEnded(server)) server.child.kill('SIGKILL');
    for (const pid of postgres()) process.kill(pid, 'SIGKILL');
    await until('PostgreSQL is gone', async () => postgres().length === 0);
    place.remove();
    process.stderr.write(`${name}, start to first answer in ms: ${figures.join(', ')}\n`);
  });
  return {
    dir,
    start: async (vault, env = {}, through = [], descriptor = undefined) => {
      const began = performance.now();
      const server = await startServer(dir(vault), env, through, descriptor);
      servers.push(server);
      await untilAnswered(server.address, '/readyz', 200);
      figures.push(`${vault} ${Math.round(performance.now() - began)}`);
      return server;
    },
    refusal: async (vault, env = {}, through = []) => {
      const [program = '', ...args] = [...through, process.execPath, MAIN, 'server'];
      const ran = await run(program, args, {
        env: { BULLA_DATA_DIR: dir(vault), BULLA_LISTEN: '127.0.0.1:0', ...CHEAP_ARGON2, ...env },
        cwd: place.path,
      });
      expect(ran.stdout.toString()).toBe('');
      expect(ran.stderr).toMatch(/^bulla: [^\n]+[.)]\n$/);
      expect(ran.stderr).not.toMatch(/\n\s+at |\{"level"|node:internal/);
      expect(ran.code).toBe(1);
      expect(postgresOf(dir(vault)).length === 0 || isOpen(vault)).toBe(true);
      return ran.stderr.trim();
    },
    endAll: async () => {
      for (const server of servers.splice(0)) if (!hasEnded(server)) await server.end('SIGTERM');
    },
  };
}
