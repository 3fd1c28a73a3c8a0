/**
 * How old keys are, and which are due for rotation. Owns the table clock_marks.
 *
 * Ages are counted by PostgreSQL's clock, and never backwards: the mark holds the latest time that was seen, and while
 * the clock is behind it every node carries it forward by its own monotonic clock. So a clock moved back does not
 * lengthen a cryptoperiod, and one moved forward shortens it at most.
 */
import { SYSTEM, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import type { Vault } from '../vault.ts';

/** What this node knows of the mark: its value, and when that was by the monotonic clock. */
export type SeenMark = { readonly highWater: Timestamp; readonly atMs: number };

/** Moves the mark to where it is now. Nodes that do this side by side do not add up: each counts from what it saw. */
export async function advanceMark(vault: Vault, seen: SeenMark | undefined): Promise<SeenMark> {
  const atMs = vault.clock.monotonicMs();
  const elapsedSeconds = seen ? (atMs - seen.atMs) / 1000 : 0;
  const [row] = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<{ highWater: Timestamp }[]>`
      INSERT INTO clock_marks (high_water) VALUES (bulla.now()) ON CONFLICT (tenant_id) DO UPDATE
        SET high_water = greatest(clock_marks.high_water, bulla.now(),
              ${seen?.highWater ?? null}::timestamptz + make_interval(secs => ${elapsedSeconds}))
      RETURNING high_water AS "highWater"`,
  );
  return { highWater: row!.highWater, atMs };
}

export type KeyAge = {
  readonly version: number;
  readonly ageSeconds: number;
  /** Null when nothing rotates by itself. */
  readonly dueAt: Timestamp | null;
};

/** SQL for the two columns of a KeyAge, for a query over a table of keys. 0 seconds: it never rotates by itself. */
export function ageColumns(tx: Tx, maxAgeSeconds: number) {
  return tx`
    floor(extract(epoch FROM bulla.steady_now() - k.counted_from))::bigint AS "ageSeconds",
    CASE WHEN k.state = 'active' AND ${maxAgeSeconds}::bigint > 0
         THEN k.counted_from + make_interval(secs => ${maxAgeSeconds}) END AS "dueAt"`;
}

/** The active keys of the deployment and of one tenant. */
export async function keyAges(vault: Vault, tenant: TenantId): Promise<{ root: KeyAge; data: KeyAge }> {
  const { rootKeyMaxAgeSeconds, dataKeyMaxAgeSeconds } = vault.config;
  return transaction(vault.db, [SYSTEM, tenant], async (tx) => {
    const [root] = await tx<KeyAge[]>`
      SELECT k.version, ${ageColumns(tx, rootKeyMaxAgeSeconds)} FROM root_keys k WHERE k.state = 'active'`;
    const [data] = await tx<KeyAge[]>`
      SELECT k.version, ${ageColumns(tx, dataKeyMaxAgeSeconds)} FROM data_keys k
      WHERE k.tenant_id = ${tenant} AND k.state = 'active'`;
    return { root: root!, data: data! };
  });
}

export type KeyAgeSummary = {
  readonly rootAgeSeconds: number;
  readonly dataAgeSecondsMax: number;
  readonly overdue: number;
};

/** Over all tenants, without naming any. */
export async function summariseAges(vault: Vault): Promise<KeyAgeSummary> {
  const [row] = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<KeyAgeSummary[]>`
      SELECT coalesce((SELECT extract(epoch FROM bulla.steady_now() - min(counted_from)) FROM root_keys
                       WHERE state = 'active'), 0)::double precision AS "rootAgeSeconds",
             coalesce((SELECT extract(epoch FROM bulla.steady_now() - min(counted_from)) FROM data_keys
                       WHERE state = 'active'), 0)::double precision AS "dataAgeSecondsMax",
             (SELECT count(*) FROM (${dueDataKeys(tx, vault)}) AS due) AS overdue`,
  );
  return row!;
}

export type DueKey = { readonly tenant: TenantId; readonly version: number };

/** Active data keys that are past their age, oldest first. */
export async function readDueDataKeys(vault: Vault, limit: number): Promise<DueKey[]> {
  return transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<DueKey[]>`SELECT * FROM (${dueDataKeys(tx, vault)}) AS due LIMIT ${limit}`,
  );
}

function dueDataKeys(tx: Tx, { config }: Vault) {
  const age = config.dataKeyMaxAgeSeconds;
  return tx`
    SELECT k.tenant_id AS tenant, k.version FROM data_keys k JOIN tenants t USING (tenant_id)
    WHERE k.state = 'active' AND t.state = 'active' AND ${age}::bigint > 0
      AND k.counted_from < (SELECT bulla.steady_now()) - make_interval(secs => ${age})
    ORDER BY k.counted_from`;
}

/** The version of the root key when it is past its age. */
export async function dueRootKey(vault: Vault): Promise<number | undefined> {
  const age = vault.config.rootKeyMaxAgeSeconds;
  if (age === 0) return undefined;
  const [row] = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<{ version: number }[]>`
      SELECT version FROM root_keys
      WHERE state = 'active' AND counted_from < bulla.steady_now() - make_interval(secs => ${age})`,
  );
  return row?.version;
}
