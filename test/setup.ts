/**
 * Once a run: a real PostgreSQL (the embedded one) with an initialised vault in a database that every test file
 * clones. Its two accounts have PASSWORD and are logged in, so that a clone needs no hashing to begin with.
 * Everything lies in one temporary directory that goes when the run ends.
 */
import { appendFileSync, chmodSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import postgres from 'postgres';
import type { TestProject } from 'vitest/node';
import { login } from '../dist/auth/login.js';
import { changePassword } from '../dist/auth/password.js';
import { loadConfig } from '../dist/config.js';
import { parseToken } from '../dist/crypto/token.js';
import type { Endpoint } from '../dist/db/database.js';
import { type Embedded, startEmbedded } from '../dist/db/embedded.js';
import { migrate } from '../dist/db/migrate.js';
import { type FirstAccount, initialise } from '../dist/job/initialise.js';
import { closeVault, openVault } from '../dist/vault.js';
import { leaveMemory } from './memory.ts';
import { refuseUnmoved } from './unmoved.ts';

export const PASSWORD = 'correct horse battery staple';
/** Of what OWASP's floor leaves, the quickest: the tests hash often. */
export const CHEAP_ARGON2 = { BULLA_ARGON2_MEMORY_KIB: '12288', BULLA_ARGON2_PASSES: '3', BULLA_ARGON2_LANES: '1' };

/** How long a request may wait, where no test is about that: on a busy machine the product's 4 s are short. */
export const PATIENT = { BULLA_REQUEST_DEADLINE: '30s' };

export const TEMPLATE = 'vault_template';

export type TestServer = {
  owner: Endpoint;
  app: Endpoint;
  sealFile: string;
  directory: string;
  /** Of the first two accounts, good for an hour; testVault() begins it anew. */
  tokens: { operator: string; admin: string };
};

declare module 'vitest' {
  export interface ProvidedContext {
    server: TestServer;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const directory = mkdtempSync(join(tmpdir(), 'bulla-test-'));
  // Started by root, the server runs as a user that has to pass here.
  chmodSync(directory, 0o711);
  const embedded = await startWithRoom(join(directory, 'data'));
  await migrate(embedded.owner);
  const config = loadConfig(CHEAP_ARGON2);
  const vault = await openVault({
    config,
    target: embedded.app,
    setRole: false,
    dataDir: embedded.dataDir,
    log: pino({ level: 'silent' }),
  });
  const origin = { requestId: 'setup', source: '127.0.0.1', protocol: 'native' };
  const first = await initialise(vault, () => undefined);
  const enter = async (account: FirstAccount) => {
    const { token } = await login(vault, { ...origin, token: undefined }, account);
    const call = { ...origin, token: parseToken(token) };
    await changePassword(vault, call, { currentPassword: account.password, newPassword: PASSWORD });
    return (await login(vault, { ...origin, token: undefined }, { ...account, password: PASSWORD })).token;
  };
  const tokens = { operator: await enter(first!.system), admin: await enter(first!.default) };
  await closeVault(vault);
  const sealFile = join(directory, 'seal.key');
  cpSync(join(embedded.dataDir, 'seal.key'), sealFile);
  project.provide('server', { owner: embedded.owner, app: embedded.app, sealFile, directory, tokens });
  await makeTemplate(embedded.owner);
  return async () => {
    await embedded.stop();
    rmSync(directory, { recursive: true, force: true });
    leaveMemory();
  };
}

/** Several test files at once, each with several nodes, take more connections than a vault does; and memory is dear. */
async function startWithRoom(dataDir: string): Promise<Embedded> {
  await (await startEmbedded({ dataDir })).stop();
  appendFileSync(join(dataDir, 'pg', 'postgresql.conf'), '\nmax_connections = 400\nmax_wal_size = 128MB\n');
  return startEmbedded({ dataDir });
}

/** A database can be cloned only while nobody is connected to it: nobody ever is to this one. */
async function makeTemplate(owner: Endpoint): Promise<void> {
  const sql = postgres({ ...owner, max: 1 });
  await refuseUnmoved(sql);
  await sql.unsafe(`CREATE DATABASE ${TEMPLATE} TEMPLATE ${owner.database}`);
  await sql.end();
}
