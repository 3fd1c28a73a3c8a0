/** Row security and the rights of the serving role, as the database itself enforces them. */
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  closeDatabase,
  type Database,
  openDatabase,
  RetryTransaction,
  SYSTEM,
  type TenantId,
  type Tx,
  transaction,
} from '../src/db/database.ts';
import { readSecret } from '../src/policy/read.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { type TestVault, testVault } from './harness.ts';
import { codeOf, tablesOf, tenantId, text } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let db: Database;

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
  db = openDatabase({ target: t.app, setRole: false, connections: 1, deadlineMs: 2_000, clockOffsetSeconds: 0 });
});
afterAll(async () => {
  await closeDatabase(db);
  await t.close();
});

const pidOf = async (tx: Tx) => (await tx<{ pid: number }[]>`SELECT pg_backend_pid() AS pid`)[0]!.pid;

describe('row security', () => {
  /** As the serving role, outside of everything of ours. */
  const asApp = async <T>(fn: (sql: postgres.Sql) => Promise<T>) => {
    const sql = postgres({ ...t.app, max: 1, onnotice: () => undefined, connection: { search_path: 'bulla' } });
    try {
      return await fn(sql);
    } finally {
      await sql.end();
    }
  };
  const seen = async (sql: postgres.Sql) => {
    const counts: Record<string, number> = {};
    for (const table of await tablesOf(t.owner)) {
      const [row] = await sql`SELECT count(*)::int AS n FROM ${sql(table)}`;
      if (row!.n > 0) counts[table] = row!.n;
    }
    return counts;
  };

  it('T-069 without a tenant set every table is empty; after a transaction and after an error too', async () => {
    await asApp(async (sql) => {
      expect(await seen(sql)).toEqual({});
      await sql.unsafe(`BEGIN; SET LOCAL bulla.tenants = ',${tenant},'`);
      expect(Object.keys(await seen(sql))).toContain('users');
      await sql.unsafe('COMMIT');
      expect(await seen(sql)).toEqual({});
      await sql.unsafe(`BEGIN; SET LOCAL bulla.tenants = ',${tenant},'`);
      await sql.unsafe('SELECT 1 / 0').catch(() => undefined);
      await sql.unsafe('ROLLBACK');
      expect(await seen(sql)).toEqual({});
    });
  });

  it('T-069 a lane that was used for a tenant shows nothing of it to the next', async () => {
    const pid = await transaction(db, [tenant], pidOf);
    await codeOf(
      transaction(db, [tenant], async (tx) =>
        tx`SELECT pg_sleep(0)`.then(() => Promise.reject(new RetryTransaction())),
      ),
    );
    await transaction(db, [], async (tx) => {
      expect(await pidOf(tx)).toBe(pid);
      expect(await tx`SELECT 1 FROM users`).toHaveLength(0);
      expect(await tx`SELECT 1 FROM tenants`).toHaveLength(0);
    });
  });

  it('T-069 lanes that served reads of a tenant show nothing of it to a transaction of nobody, or of another', async () => {
    const call = () => t.call(t.admin);
    await putSecret(t.vault, call(), parsePath('lane/secret'), text('x'));
    for (let i = 0; i < 5; i += 1) {
      await Promise.all(Array.from({ length: 20 }, () => readSecret(t.vault, call(), parsePath('lane/secret'), 0)));
    }
    const looks = Array.from({ length: 16 }, (_, i) =>
      transaction(t.vault.db, i % 2 ? [] : [SYSTEM], async (tx) => {
        await tx`SELECT pg_sleep(0.01)`;
        return (await tx`SELECT 1 FROM secrets UNION ALL SELECT 1 FROM users WHERE tenant_id = ${tenant}`).length;
      }),
    );
    expect(new Set(await Promise.all(looks))).toEqual(new Set([0]));
  });

  it('a row of another tenant can be neither written nor moved', async () => {
    const foreign = transaction(
      db,
      [SYSTEM],
      (tx) => tx`
      INSERT INTO policies (tenant_id, name, policy_id, revision, document, created_at, updated_at)
      VALUES (${tenant}, 'planted', 'x', 1, '{}', now(), now())`,
    );
    await expect(foreign).rejects.toMatchObject({ code: '42501' });
    const moved = transaction(db, [SYSTEM], (tx) => tx`UPDATE policies SET tenant_id = ${tenant}`);
    await expect(moved).rejects.toMatchObject({ code: '42501' });
    const theirs = await transaction(
      db,
      [SYSTEM],
      (tx) => tx`UPDATE tenants SET state = 'suspended' WHERE tenant_id = ${tenant}`,
    );
    expect(theirs.count).toBe(0);
  });

  it('T-069 the serving role owns nothing, is no superuser, bypasses nothing and cannot become the owner', async () => {
    const [role] = await t.owner`
      SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = 'bulla_app'`;
    expect(Object.values(role!)).toEqual([false, false, false, false, false]);
    const owned = await t.owner`
      SELECT relname FROM pg_class JOIN pg_roles r ON r.oid = relowner WHERE r.rolname = 'bulla_app'`;
    expect(owned).toHaveLength(0);
    await asApp(async (sql) => {
      await expect(sql.unsafe('SET ROLE bulla_owner')).rejects.toMatchObject({ code: '42501' });
      await expect(sql.unsafe('ALTER TABLE bulla.users DISABLE ROW LEVEL SECURITY')).rejects.toMatchObject({
        code: '42501',
      });
      await expect(sql.unsafe('CREATE TABLE bulla.mine (a int)')).rejects.toMatchObject({ code: '42501' });
    });
  });

  it('T-097 the log refuses UPDATE, DELETE and TRUNCATE to the serving role', async () => {
    await asApp(async (sql) => {
      await sql.unsafe(`SET bulla.tenants = ',${tenant},'`);
      for (const table of ['audit_segments', 'audit_leaves']) {
        for (const statement of [`UPDATE ${table} SET count = 1`, `DELETE FROM ${table}`, `TRUNCATE ${table}`]) {
          await expect(sql.unsafe(statement)).rejects.toMatchObject({ code: '42501' });
        }
      }
      await expect(sql.unsafe('DELETE FROM audit_heads')).rejects.toMatchObject({ code: '42501' });
    });
  });

  it('every table has row security and a policy, and tenant_id leads its key', async () => {
    const tables = await t.owner`
      SELECT c.relname AS name, c.relrowsecurity AS secured,
             (SELECT count(*)::int FROM pg_policy WHERE polrelid = c.oid AND polqual IS NOT NULL) AS policies,
             (SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
              WHERE i.indrelid = c.oid AND i.indisprimary) AS leads
      FROM pg_class c WHERE c.relnamespace = 'bulla'::regnamespace AND c.relkind IN ('r', 'p') AND relname <> 'schema_versions'`;
    expect(tables.length).toBeGreaterThan(10);
    for (const { name, secured, policies, leads } of tables) {
      expect({ name, secured, leads }).toEqual({ name, secured: true, leads: 'tenant_id' });
      expect(policies, name).toBeGreaterThan(0);
    }
  });

  it('every table with an envelope names the key that opens it: NOT NULL, indexed, a foreign key', async () => {
    const tables = await t.owner`
      SELECT DISTINCT table_name AS name FROM information_schema.columns
      WHERE table_schema = 'bulla' AND column_name LIKE '%envelope%'`;
    expect(tables.map(({ name }) => name)).toEqual(expect.arrayContaining(['secret_versions', 'secret_metadata']));
    for (const { name } of tables) {
      const columns = await t.owner`
        SELECT column_name AS column, is_nullable AS nullable FROM information_schema.columns
        WHERE table_schema = 'bulla' AND table_name = ${name} AND column_name IN ('tenant_id', 'key_version') ORDER BY 1`;
      expect(
        columns.map(({ column, nullable }) => `${column} ${nullable}`),
        name,
      ).toEqual(['key_version NO', 'tenant_id NO']);
      const keys = await t.owner`
        SELECT 1 FROM pg_constraint WHERE contype = 'f' AND conrelid = ${`bulla.${name}`}::regclass
          AND confrelid = 'bulla.data_key_material'::regclass AND pg_get_constraintdef(oid) LIKE 'FOREIGN KEY (tenant_id, key_version)%'`;
      expect(keys, name).toHaveLength(1);
      const indexes = await t.owner`
        SELECT 1 FROM pg_indexes WHERE schemaname = 'bulla' AND tablename = ${name} AND indexdef ~ '[(](tenant_id, key_version|key_version, tenant_id)'`;
      expect(indexes.length, name).toBeGreaterThan(0);
    }
  });
});
