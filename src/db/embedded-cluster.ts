/**
 * The embedded cluster on disk: made once, whole or not at all.
 *
 * It is made under another name, with its roles and its database, synced, and then renamed to `pg`; a kill at any
 * moment before leaves a directory that the next start removes, and from the rename on it is complete. The names are
 * never used twice, because an `initdb` that outlives its vault cleans up by name.
 *
 * Three roles. The superuser has no password and no line in pg_hba.conf, so nobody can log in as it. `bulla_owner` owns
 * the database and migrates, `bulla_app` serves. Their passwords are 32 random bytes in a file of the vault's user;
 * PostgreSQL is only ever told the SCRAM verifiers.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, renameSync, rmdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { scramVerifier } from '../crypto/scram.ts';
import { VaultError } from '../errors.ts';
import type { Binaries } from './embedded-binaries.ts';
import {
  diskFull,
  FREE_BYTES_MIN,
  type Place,
  readIfThere,
  type ServerUser,
  syncDirectory,
  writeDurably,
} from './embedded-directory.ts';
import { run } from './embedded-process.ts';

export type Credentials = { readonly bulla_owner: string; readonly bulla_app: string };

export const DATABASE = 'bulla';

const UNFINISHED = 'pg.tmp-';

/**
 * For a machine of two cores, most of whose memory belongs to others. They are written to postgresql.conf once, where
 * an operator may change them; what the promises stand on is on the server's command line and cannot be changed there.
 */
const TUNING: Readonly<Record<string, string>> = {
  shared_buffers: '64MB',
  max_connections: '60',
  max_wal_size: '1GB',
  checkpoint_timeout: '10min',
  jit: 'off',
  io_method: 'sync',
  max_wal_senders: '0',
  max_logical_replication_workers: '0',
  max_parallel_workers_per_gather: '0',
};

/** Makes the cluster unless it is there, and answers with its passwords. Durable on return. */
export async function ensureCluster(
  place: Place,
  binaries: Binaries,
  user: ServerUser | undefined,
): Promise<{ credentials: Credentials; created: boolean }> {
  await removeUnfinished(place, user);
  const major = readIfThere(join(place.pgDir, 'PG_VERSION'))?.trim();
  if (major === undefined) {
    refuseForeign(place);
    return { credentials: await createCluster(place, binaries, user), created: true };
  }
  if (major !== binaries.major) {
    throw new VaultError(
      'unavailable',
      `${place.pgDir} was written by PostgreSQL ${major}, and this Bulla brings PostgreSQL ${binaries.major}: start the Bulla that wrote it, or bring the directory to version ${binaries.major} with pg_upgrade.`,
    );
  }
  return { credentials: readCredentials(place), created: false };
}

function refuseForeign(place: Place): void {
  if (!existsSync(place.pgDir)) return;
  if (readdirSync(place.pgDir).length > 0) {
    throw new VaultError(
      'unavailable',
      `${place.pgDir} is not empty and not a PostgreSQL cluster: restore it from a backup, or move it away to begin anew.`,
    );
  }
  rmdirSync(place.pgDir);
}

async function createCluster(place: Place, binaries: Binaries, user: ServerUser | undefined): Promise<Credentials> {
  const free = statfsSync(place.dataDir);
  if (free.bavail * free.bsize < FREE_BYTES_MIN) throw diskFull(place.dataDir);
  const credentials = { bulla_owner: newPassword(), bulla_app: newPassword() };
  const temporary = join(place.dataDir, `${UNFINISHED}${randomBytes(6).toString('hex')}`);
  mkdirSync(temporary, { mode: 0o700 });
  if (user) chownSync(temporary, user.uid, user.gid);
  const locale = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'];
  const tuning = Object.entries(TUNING).map(([name, value]) => `--set=${name}=${value}`);
  const security = ['--username=bulla_super', '--auth=reject', '--data-checksums'];
  // Synced once, below, after everything is written.
  const options = ['--no-sync', '--no-instructions', ...security, ...locale, ...tuning];
  await run(binaries.initdb, ['-D', temporary, ...options], user);
  await run(binaries.postgres, ['--single', '-D', temporary, ...SINGLE, 'postgres'], user, await roles(credentials));
  await run(binaries.initdb, ['-D', temporary, '--sync-only'], user);
  writeDurably(place.credentialsFile, `${JSON.stringify(credentials, null, 2)}\n`, 0o600);
  renameSync(temporary, place.pgDir);
  syncDirectory(place.dataDir);
  return credentials;
}

const newPassword = () => randomBytes(32).toString('base64url');

/** Single-user mode: no socket, no connection, and the first error ends it. */
const SINGLE = [
  ...['-c', 'exit_on_error=on', '-c', 'fsync=off', '-c', 'shared_buffers=8MB', '-c', 'log_checkpoints=off'],
  ...['-c', 'log_min_error_statement=panic', '-c', 'log_error_verbosity=terse'],
];

/** One statement per line, as single-user mode reads them. */
async function roles(credentials: Credentials): Promise<string> {
  const owner = await scramVerifier(credentials.bulla_owner);
  const app = await scramVerifier(credentials.bulla_app);
  return [
    // CREATEDB lets the owner clone the database beside the live one, for a restore or a test.
    `CREATE ROLE bulla_owner LOGIN NOSUPERUSER CREATEDB NOBYPASSRLS PASSWORD '${owner}'`,
    `CREATE ROLE bulla_app LOGIN NOSUPERUSER NOCREATEDB NOBYPASSRLS PASSWORD '${app}'`,
    `CREATE DATABASE ${DATABASE} OWNER bulla_owner STRATEGY file_copy`,
    `REVOKE ALL ON DATABASE ${DATABASE}, postgres, template1 FROM PUBLIC`,
    `GRANT CONNECT ON DATABASE ${DATABASE} TO bulla_app`,
    '',
  ].join('\n');
}

const credentialsShape = z.strictObject({ bulla_owner: z.string().min(32), bulla_app: z.string().min(32) });

export function readCredentials(place: Place): Credentials {
  const text = readIfThere(place.credentialsFile);
  const parsed = credentialsShape.safeParse(text === undefined ? undefined : parseJson(text));
  if (parsed.success) {
    chmodSync(place.credentialsFile, 0o600);
    return parsed.data;
  }
  const state = text === undefined ? 'is missing' : 'is damaged';
  throw new VaultError(
    'unavailable',
    `${place.credentialsFile} ${state}, and without it ${place.pgDir} cannot be opened: restore it from the backup that holds both.`,
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Removes what killed vaults had begun, as the user who owns it: root does not walk through another user's tree. */
async function removeUnfinished(place: Place, user: ServerUser | undefined): Promise<void> {
  for (const name of readdirSync(place.dataDir).filter((entry) => entry.startsWith(UNFINISHED))) {
    const path = join(place.dataDir, name);
    const contents = readdirSync(path).map((entry) => join(path, entry));
    try {
      if (contents.length > 0) await run('/bin/rm', ['-rf', '--', ...contents], user);
      rmdirSync(path);
    } catch (error) {
      // An initdb that outlived its vault still writes there: it is gone by the next start.
      const passing = error instanceof VaultError || (error as NodeJS.ErrnoException).code === 'ENOTEMPTY';
      if (!passing) throw error;
    }
  }
}
