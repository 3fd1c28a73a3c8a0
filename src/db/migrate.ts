/**
 * Brings a database to the schema of this release: the numbered files of sql/, each once, in order, in a transaction.
 *
 * Released files are append-only: a file that differs from what was applied is refused, and so is a database that a
 * newer release has migrated. Several nodes may start at once; an advisory lock lets one migrate.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import postgres from 'postgres';
import { VaultError } from '../errors.ts';
import type { Endpoint } from './database.ts';
import { parseLink } from './link.ts';

const SQL_DIR = new URL('../../sql/', import.meta.url);
const MIGRATION_LOCK = 0x62756c6c; // "bull"
const POSTGRES_MIN = 140_000;

export type Migrated = { readonly applied: readonly string[]; readonly serverVersion: string };

/** Connects as the owner, migrates, disconnects. Throws `unavailable`, `conflict` or `invalid_request` with one sentence. */
export async function migrate(target: string | Endpoint): Promise<Migrated> {
  const options: postgres.Options<Record<string, never>> = {
    max: 1,
    fetch_types: false,
    connect_timeout: 5,
    onnotice: () => undefined,
  };
  const sql = typeof target === 'string' ? connectTo(target, options) : postgres({ ...options, ...target });
  try {
    const serverVersion = await checkServer(sql);
    await sql`SELECT pg_advisory_lock(${MIGRATION_LOCK})`;
    await prepareSchema(sql);
    const applied = await applyPending(sql);
    return { applied, serverVersion };
  } catch (error) {
    if (error instanceof VaultError) throw error;
    throw explain(error);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

function connectTo(target: string, options: postgres.Options<Record<string, never>>): postgres.Sql {
  const { url, tls } = parseLink(target);
  return postgres(url, { ...options, ...tls });
}

/** Refuses what cannot keep the vault's promises: an old server, or one that does not sync its log to the disk. */
async function checkServer(sql: postgres.Sql): Promise<string> {
  const [row] = await sql`
    SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS text,
           current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes`;
  if ((row?.number as number) < POSTGRES_MIN) {
    throw new VaultError('invalid_request', `PostgreSQL ${row?.text} is too old: Bulla needs version 14 or newer.`);
  }
  if (row?.fsync !== 'on' || row?.full_page_writes !== 'on') {
    throw new VaultError(
      'invalid_request',
      'This PostgreSQL runs with fsync or full_page_writes off and would lose acknowledged secrets in a crash: turn both on.',
    );
  }
  return String(row?.text);
}

async function prepareSchema(sql: postgres.Sql): Promise<void> {
  const [role] = await sql`SELECT rolsuper OR rolbypassrls AS unsafe FROM pg_roles WHERE rolname = 'bulla_app'`;
  if (!role) await sql.unsafe('CREATE ROLE bulla_app NOLOGIN; GRANT bulla_app TO CURRENT_USER');
  else if (role.unsafe) {
    throw new VaultError(
      'invalid_request',
      'The role bulla_app is a superuser or may bypass row security, so tenants would not be kept apart: ALTER ROLE bulla_app NOSUPERUSER NOBYPASSRLS.',
    );
  }
  await sql.unsafe(`
    CREATE SCHEMA IF NOT EXISTS bulla;
    GRANT USAGE ON SCHEMA bulla TO bulla_app;
    CREATE TABLE IF NOT EXISTS bulla.schema_versions (
      version integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp());
    GRANT SELECT ON bulla.schema_versions TO bulla_app`);
}

async function applyPending(sql: postgres.Sql): Promise<string[]> {
  const files = (await readdir(SQL_DIR)).filter((name) => /^\d{4}_.*\.sql$/.test(name)).sort();
  const done = new Map(
    (await sql`SELECT version, sha256 FROM bulla.schema_versions`).map((row) => [
      row.version as number,
      row.sha256 as string,
    ]),
  );
  const newest = Number(files.at(-1)?.slice(0, 4));
  if ([...done.keys()].some((version) => version > newest)) {
    throw new VaultError('conflict', 'A newer Bulla has migrated this database: start that release or a newer one.');
  }
  const applied: string[] = [];
  for (const name of files) {
    const text = await readFile(new URL(name, SQL_DIR), 'utf8');
    const sha256 = createHash('sha256').update(text).digest('hex');
    const version = Number(name.slice(0, 4));
    const before = done.get(version);
    if (before === sha256) continue;
    if (before !== undefined) {
      throw new VaultError(
        'conflict',
        `sql/${name} is not the file that this database was made with: restore the released file.`,
      );
    }
    await sql.begin(async (tx) => {
      // A table with a trigger that still waits for the commit cannot be altered.
      await tx.unsafe('SET CONSTRAINTS ALL IMMEDIATE');
      await tx.unsafe(text);
      await tx`INSERT INTO bulla.schema_versions (version, name, sha256) VALUES (${version}, ${name}, ${sha256})`;
    });
    applied.push(name);
  }
  return applied;
}

function explain(error: unknown): VaultError {
  const code = String((error as { code?: unknown }).code ?? '');
  if (/^(28|3D)/.test(code)) {
    return new VaultError(
      'unavailable',
      `PostgreSQL refused the connection (${code}): check user, password and database name in BULLA_DATABASE_URL.`,
    );
  }
  if (code === '42501') {
    return new VaultError(
      'unavailable',
      'The database role may not create the schema or the role bulla_app: run "CREATE ROLE bulla_app NOLOGIN; GRANT bulla_app TO <this role>; GRANT CREATE ON DATABASE <database> TO <this role>;" as an administrator, then start again.',
    );
  }
  if (/^(53|57P)/.test(code)) {
    return new VaultError(
      'unavailable',
      `PostgreSQL takes no connection now (${code}): wait until it has started, or raise its max_connections.`,
    );
  }
  if (/CERT|TLS|SSL|SIGNATURE/.test(code)) {
    return new VaultError(
      'unavailable',
      `PostgreSQL cannot be trusted (${code}): give its certificate's authority as sslrootcert=<file>, and the host that it was made for, in BULLA_DATABASE_URL.`,
    );
  }
  if (/^E[A-Z]+$|^CONNECT/.test(code)) {
    return new VaultError(
      'unavailable',
      `PostgreSQL cannot be reached (${code}): check host and port in BULLA_DATABASE_URL, and that the server runs.`,
    );
  }
  return new VaultError('unavailable', `The database could not be migrated (${code || 'unknown error'}).`, {
    cause: error,
  });
}
