/**
 * What the domain tests look at and hold: the log as entries, the code that an act ended with, rows as one hash, and
 * locks of the tables' owner with which a test stops an act where it wants it.
 */
import { createHash } from 'node:crypto';
import type postgres from 'postgres';
import { asTenantId, type TenantId } from '../src/db/database.ts';
import { VaultError } from '../src/errors.ts';
import { until } from './until.ts';

export type LogEntry = {
  readonly seq: number;
  readonly time: string;
  readonly action: string;
  readonly actor: { readonly kind: string; readonly id?: string; readonly name?: string; readonly accessor?: string };
  readonly code?: string;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly outcome: 'ok' | 'denied' | 'error';
  readonly request: string;
  readonly resource?: string;
  readonly salt: string;
  readonly version?: number;
};

/** The code of the VaultError that an act ended with, or `ok`. Anything else that is thrown fails the test. */
export async function codeOf(act: Promise<unknown>): Promise<string> {
  try {
    await act;
    return 'ok';
  } catch (error) {
    if (error instanceof VaultError) return error.code;
    throw error;
  }
}

/** The error that an act ended with. */
export async function errorOf(act: Promise<unknown>): Promise<VaultError> {
  try {
    await act;
  } catch (error) {
    if (error instanceof VaultError) return error;
    throw error;
  }
  throw new Error('the act was expected to fail');
}

export async function tenantId(owner: postgres.Sql, name: string): Promise<TenantId> {
  const [row] = await owner`SELECT tenant_id FROM tenants WHERE name = ${name}`;
  return asTenantId(row!.tenant_id);
}

/** From an index on, or whole. */
export async function entriesOf(owner: postgres.Sql, tenant: string, from = 0): Promise<LogEntry[]> {
  const rows = await owner`
    SELECT lines FROM audit_segments WHERE tenant_id = ${tenant} AND first_seq >= ${from} ORDER BY first_seq`;
  const lines = rows.flatMap(({ lines }) => (lines as Buffer).toString('utf8').split('\n').slice(0, -1));
  return lines.map((line) => JSON.parse(line) as LogEntry);
}

export async function sizeOf(owner: postgres.Sql, tenant: string): Promise<number> {
  const [head] = await owner`SELECT size FROM audit_heads WHERE tenant_id = ${tenant}`;
  return Number(head!.size);
}

/** The entries that an act adds to a tenant's log. */
export async function added<T>(
  owner: postgres.Sql,
  tenant: string,
  act: () => Promise<T>,
): Promise<{ value: T; entries: LogEntry[] }> {
  const before = await sizeOf(owner, tenant);
  const value = await act();
  return { value, entries: await entriesOf(owner, tenant, before) };
}

/** A transaction of the owner's that has run `statement` and holds its locks until it is let go. */
export async function hold(owner: postgres.Sql, statement: string): Promise<() => Promise<void>> {
  const connection = await owner.reserve();
  await connection.unsafe('BEGIN');
  await connection.unsafe(statement);
  return async () => {
    await connection.unsafe('ROLLBACK');
    connection.release();
  };
}

export const holdHead = (owner: postgres.Sql, tenant: string) =>
  hold(owner, `SELECT 1 FROM audit_heads WHERE tenant_id = '${tenant}' FOR UPDATE`);

/** Until so many of the vault's statements wait for a lock in this database. */
export async function waiting(owner: postgres.Sql, count: number): Promise<void> {
  const look = async () => {
    const [row] = await owner`
      SELECT count(DISTINCT pid)::int AS waiting FROM pg_locks JOIN pg_stat_activity a USING (pid)
      WHERE NOT granted AND a.datname = current_database()`;
    return row!.waiting >= count;
  };
  await until(`${count} statements wait for a lock`, look, 10_000);
}

/** Every row of a tenant in every table but those named, as one hash. */
export async function rowsHash(owner: postgres.Sql, tenant: string, except: readonly string[] = []): Promise<string> {
  const hash = createHash('sha256');
  for (const table of await tablesOf(owner)) {
    if (except.includes(table)) continue;
    const rows = await owner`
      SELECT t::text AS row FROM ${owner(table)} t WHERE tenant_id = ${tenant} ORDER BY t::text COLLATE "C"`;
    hash.update(`${table}\n${rows.map(({ row }) => row).join('\n')}\n`);
  }
  return hash.digest('hex');
}

/** Every table of the schema that belongs to tenants. */
export async function tablesOf(owner: postgres.Sql): Promise<string[]> {
  const rows = await owner`
    SELECT tablename FROM pg_tables WHERE schemaname = 'bulla' AND tablename <> 'schema_versions' ORDER BY 1`;
  return rows.map(({ tablename }) => tablename as string);
}

/**
 * Secrets by the thousand, `<under>/<number>`, with nothing in them: what lists and counts them needs no more. They are
 * counted at once: a trigger that counts each would go over all that it has counted in the same transaction.
 */
export async function fillSecrets(owner: postgres.Sql, tenant: string, under: string, count: number): Promise<void> {
  await owner.begin(async (tx) => {
    await tx`SET CONSTRAINTS ALL IMMEDIATE`;
    await tx`ALTER TABLE secrets DISABLE TRIGGER count_usage`;
    await tx`
      INSERT INTO secrets (tenant_id, secret_id, path, current_version, created_at, updated_at)
      SELECT ${tenant}, ${`${under}/`} || lpad(i::text, 7, '0'), ${`${under}/`} || lpad(i::text, 7, '0'), 1, now(), now()
      FROM generate_series(1, ${count}::int) i`;
    await tx`
      INSERT INTO tenant_usage (tenant_id, kind, used) VALUES (${tenant}, 'secrets', ${count})
      ON CONFLICT (tenant_id, kind) DO UPDATE SET used = tenant_usage.used + ${count}`;
    await tx`ALTER TABLE secrets ENABLE TRIGGER count_usage`;
  });
}

export const data = (json: string) => ({ kind: 'data', body: Buffer.from(json) }) as const;
export const text = (body: string) => ({ kind: 'text', body: Buffer.from(body) }) as const;
export const textOf = (opened: { readonly body: Uint8Array }) => Buffer.from(opened.body).toString('utf8');
