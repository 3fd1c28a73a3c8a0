/**
 * Re-encryption: moves the ciphertexts of one table of one tenant from older data key versions to the active one.
 *
 * A batch is one transaction: its rows are locked, opened, sealed and written, so no writer's change is overwritten and
 * a crash leaves each row under the old version or the new. Rows that another transaction holds are passed over and
 * taken in the next pass. Batches overlap: one is in the database while another is being encrypted. Memory is bounded by
 * the batch, not by the table, and so is the wait of who wants a row of it: a batch is so many rows, and so many bytes.
 *
 * A batch waits for no flush of the log: what a crash of the database takes back is under its old version again, and
 * whatever counts on the rest (progress, the destruction of the old version) is a later commit that is flushed with all
 * before it. Readers are never held up: the event loop is given back every millisecond, and while requests are served
 * batches are small and rest longer than they run.
 *
 * Owners of tables describe them (EnvelopeTable); job/reencrypt.ts knows them all. A row that does not open is left as
 * it is and reported by name.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Context } from '../crypto/context.ts';
import { ENVELOPE_OVERHEAD, open, sealInto } from '../crypto/envelope.ts';
import type { Key } from '../crypto/keys.ts';
import { type Fragment, RetryTransaction, type TenantId, type Tx, transaction } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { isForeignKeyViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import { createTurns, type Turns } from '../turns.ts';
import type { Vault } from '../vault.ts';
import { activeDataKey, cachedDataKey, dataKey } from './keyring.ts';

/** The values of a row's primary key behind tenant_id. */
export type RowKey = readonly (string | number)[];

/** A table with the columns tenant_id, key_version and envelope; the key is (tenant_id, …key). */
export type EnvelopeTable = {
  readonly table: string;
  readonly key: readonly { readonly column: string; readonly type: 'text' | 'int' }[];
  readonly context: (tenant: TenantId, key: RowKey) => Context;
  /** What people call the row. */
  readonly nameOf: (tx: Tx, tenant: TenantId, key: RowKey) => Promise<string>;
};

export type Pass = {
  readonly tenant: TenantId;
  /** Versions below it are moved to the active one. */
  readonly below: number;
  /** Where to begin: after this key. */
  readonly after: RowKey | undefined;
  /** What to do with rows that another transaction holds. */
  readonly busy: 'skip' | 'wait';
};

/** One batch, reported in the order of the table once everything up to it is committed. */
export type Batch = {
  readonly moved: number;
  readonly after: RowKey;
  readonly unopened: readonly RowKey[];
};

const ROWS_PER_BATCH = 512;
/** While requests are served: a batch is then over within a few milliseconds. */
const ROWS_PER_CROWDED_BATCH = 12;
/** But for the last row of it. */
const BYTES_PER_BATCH = 4 * 1024 * 1024;
/** Larger envelopes are moved one by one, which bounds what a batch holds in memory. */
const SHARED_ENVELOPE_BYTES_MAX = 16 * 1024;
/** One is read, one is encrypted, one is written: two that are in the same phase leave a core waiting. */
const BATCHES_AT_ONCE = 3;
/** So long it encrypts between two turns of the event loop, but for the last row. */
const TURN_MS = 1;
const BATCH_DEADLINE_MS = 60_000;
/** While requests are served, one batch at a time runs, and rests five times as long as it ran: the slower it all is, the longer. */
const RESTS_PER_RUN = 5;
const REST_MS_MAX = 100;
/** From so much work of others on this node on, requests are being served: what a node does by itself is less. */
const CROWD_PER_SECOND = 40;
const LOOK_EVERY_MS = 200;

/** What a job sees of other work on this node: how many transactions began since `sinceMs`, and how many were its own. */
export type Pace = { crowded: boolean; sinceMs: number; taken: number; own: number };

/** A job begins as if there were a crowd. */
export function newPace({ clock, db }: Vault): Pace {
  return { crowded: true, sinceMs: clock.monotonicMs(), taken: db.taken, own: 0 };
}

function lookAround({ clock, db }: Vault, pace: Pace): void {
  if (db.waiting.length > 0) pace.crowded = true;
  const nowMs = clock.monotonicMs();
  const seconds = (nowMs - pace.sinceMs) / 1000;
  if (seconds * 1000 < LOOK_EVERY_MS) return;
  const others = db.taken - pace.taken - pace.own;
  Object.assign(pace, { crowded: others / seconds > CROWD_PER_SECOND, sinceMs: nowMs, taken: db.taken, own: 0 });
}

/** Goes once through the table. `report` may throw to stop; batches already under way are then waited for. */
export async function reencryptPass(
  vault: Vault,
  table: EnvelopeTable,
  pass: Pass,
  pace: Pace,
  report: (batch: Batch) => Promise<void>,
): Promise<void> {
  let after = pass.after;
  let ended = false;
  let failed: { readonly error: unknown } | undefined;
  let reported: Promise<void> = Promise.resolve();
  const running = new Set<Promise<void>>();
  const run: Run = { vault, table, pass, pace, inTurn: createTurns(1), fits: ROWS_PER_BATCH };
  /** Begins a batch, and waits until it is known what it takes. */
  const start = (most: number) =>
    new Promise<void>((begun) => {
      const onTaken = (last: RowKey | undefined, left: boolean) => {
        if (!left) ended = true;
        after = last ?? after;
        begun();
      };
      const earlier = reported;
      const moved = moveBatch(run, { from: after, most }, onceOnly(onTaken));
      reported = moved.then(async (batch) => {
        await earlier;
        if (batch) await report(batch);
      });
      const over = reported
        .catch((error) => {
          ended = true;
          failed ??= { error };
        })
        .finally(() => {
          running.delete(over);
          begun();
        });
      running.add(over);
    });
  while (!ended) {
    lookAround(vault, pace);
    const startedAtMs = vault.clock.monotonicMs();
    await start(Math.min(pace.crowded ? ROWS_PER_CROWDED_BATCH : ROWS_PER_BATCH, run.fits));
    if (pace.crowded) {
      await Promise.all(running);
      const tookMs = vault.clock.monotonicMs() - startedAtMs;
      if (!ended) await sleep(Math.min(tookMs * RESTS_PER_RUN, REST_MS_MAX));
    } else if (running.size >= BATCHES_AT_ONCE) {
      await Promise.race(running);
    }
  }
  await Promise.all(running);
  if (failed) throw failed.error;
}

/** A transaction that is run again must not turn the pass back. */
function onceOnly<T extends readonly unknown[]>(hear: (...values: T) => void): (...values: T) => void {
  let heard = false;
  return (...values) => {
    if (!heard) hear(...values);
    heard = true;
  };
}

/** How many rows of the table are under a version of `from` up to and without `below`. */
export async function countBelow(tx: Tx, { table }: EnvelopeTable, tenant: TenantId, below: number): Promise<number> {
  const [row] = await tx<{ count: number }[]>`
    SELECT count(*) FROM ${tx(table)} WHERE tenant_id = ${tenant} AND key_version < ${below}`;
  return row!.count;
}

/** How many rows of the tables the data key `k` of a statement opens. */
export const dependsOn = (tx: Tx, tables: readonly EnvelopeTable[]): Fragment =>
  tables.reduce(
    (sum, { table }) => tx`${sum} + (
      SELECT count(*) FROM ${tx(table)} e WHERE e.tenant_id = k.tenant_id AND e.key_version = k.version)`,
    tx`0`,
  );

type Run = {
  readonly vault: Vault;
  readonly table: EnvelopeTable;
  readonly pass: Pass;
  readonly pace: Pace;
  /** For what one batch at a time does. */
  readonly inTurn: Turns;
  /** How many rows are thought to be within the bytes of a batch. */
  fits: number;
};
/** What a batch takes: the rows after `from`, so many at most. */
type Part = { readonly from: RowKey | undefined; readonly most: number };
type Row = {
  readonly key: RowKey;
  readonly keyVersion: number;
  /** Of the envelope. */
  readonly bytes: number;
  readonly envelope: Uint8Array | null;
};
/** Envelopes one behind the other in `bytes`, `starts` from 0. */
type Moved = {
  readonly keys: RowKey[];
  readonly starts: number[];
  readonly lengths: number[];
  readonly bytes: Buffer;
};

/** `onTaken` is told the last row it takes, and whether there may be more behind it. */
async function moveBatch(
  run: Run,
  part: Part,
  onTaken: (last: RowKey | undefined, more: boolean) => void,
): Promise<Batch | undefined> {
  const { vault, table } = run;
  const { tenant } = run.pass;
  const work = async (tx: Tx) => {
    const found = await readRows(tx, table, run.pass, part);
    const rows = fitting(run, found);
    const last = rows.at(-1);
    // What does not fit is the next batch's, which waits until this one lets go of it.
    if (rows.length === found.length) onTaken(last?.key, found.length === part.most);
    if (last === undefined) return undefined;
    killpoint('reencrypt.read');
    const to = (await activeDataKey(vault, tx, tenant)).version;
    const unopened: RowKey[] = [];
    const move = async (some: readonly Row[]) => {
      const moved = await run.inTurn(() => sealAgain(run, tx, some, to, unopened));
      if (moved.keys.length > 0) await writeRows(tx, table, tenant, moved, to);
      return moved.keys.length;
    };
    let moved = await move(rows.filter(({ envelope }) => envelope !== null));
    for (const { key } of rows.filter(({ envelope }) => envelope === null)) {
      moved += await move(await readWhole(tx, table, tenant, key));
    }
    killpoint('reencrypt.updated');
    return { moved, after: last.key, unopened };
  };
  try {
    run.pace.own += 1;
    const batch = await transaction(vault.db, [tenant], work, {
      deadlineMs: BATCH_DEADLINE_MS,
      flushed: 'with-the-next-commit',
    });
    onTaken(batch?.after, true);
    killpoint('reencrypt.committed');
    return batch;
  } catch (error) {
    // A writer never waits for a batch, so a batch gives way.
    if (!isForeignKeyViolation(error)) throw error;
    throw new VaultError('unavailable', 'The data key was destroyed while a batch was being moved to it.');
  }
}

const columnsOf = ({ key }: EnvelopeTable) => key.map(({ column }) => column).join(', ');

/** The rows of a part, locked and in their order. Large envelopes are null: see readWhole. */
async function readRows(tx: Tx, table: EnvelopeTable, { tenant, below, busy }: Pass, { from, most }: Part) {
  const columns = columnsOf(table);
  const behind = table.key.map(({ type }, i) => `$${i + 3}::${type}`).join(', ');
  return asRows(
    table,
    await tx.unsafe(
      `SELECT ${columns}, key_version, octet_length(envelope) AS bytes,
              CASE WHEN octet_length(envelope) <= ${SHARED_ENVELOPE_BYTES_MAX} THEN envelope END AS envelope
       FROM ${table.table} WHERE tenant_id = $1 AND key_version < $2 ${from ? `AND (${columns}) > (${behind})` : ''}
       ORDER BY ${columns} LIMIT ${most} FOR UPDATE ${busy === 'skip' ? 'SKIP LOCKED' : ''}`,
      [tenant, below, ...(from ?? [])],
      // As many are asked for again and again, where rows are small.
      { prepare: most === ROWS_PER_BATCH || most === ROWS_PER_CROWDED_BATCH },
    ),
  );
}

/**
 * As many of the rows as are within the bytes of a batch, and one at least. The next batch takes fewer where not all are, so
 * that it need not wait for those beyond, nor hold them up.
 */
function fitting(run: Run, rows: readonly Row[]): readonly Row[] {
  let bytes = 0;
  let count = 0;
  for (const row of rows) {
    if (bytes >= BYTES_PER_BATCH) break;
    bytes += row.bytes;
    count += 1;
  }
  if (count < rows.length) run.fits = Math.ceil(count * 0.75);
  else if (bytes < BYTES_PER_BATCH / 2) run.fits = Math.min(2 * run.fits, ROWS_PER_BATCH);
  return count === rows.length ? rows : rows.slice(0, count);
}

/** One row of the batch, which is locked. */
async function readWhole(tx: Tx, table: EnvelopeTable, tenant: TenantId, key: RowKey): Promise<Row[]> {
  const is = table.key.map(({ column, type }, i) => `AND ${column} = $${i + 2}::${type}`).join(' ');
  return asRows(
    table,
    await tx.unsafe(
      `SELECT ${columnsOf(table)}, key_version, octet_length(envelope) AS bytes, envelope
       FROM ${table.table} WHERE tenant_id = $1 ${is}`,
      [tenant, ...key],
      { prepare: true },
    ),
  );
}

function asRows({ key }: EnvelopeTable, rows: Iterable<Record<string, unknown>>): Row[] {
  return Array.from(rows, (row) => ({
    key: key.map(({ column }) => row[column] as string | number),
    keyVersion: row.key_version as number,
    bytes: row.bytes as number,
    envelope: row.envelope as Uint8Array | null,
  }));
}

/** The rows under the version `to`, but for those that do not open, which are added to `unopened`. */
async function sealAgain(
  { vault, table, pass: { tenant }, pace }: Run,
  tx: Tx,
  rows: readonly Row[],
  to: number,
  unopened: RowKey[],
): Promise<Moved> {
  const versions = [...new Set(rows.map((row) => row.keyVersion)), to];
  const room = rows.reduce((sum, row) => sum + row.bytes, 0);
  const moved: Moved = { keys: [], starts: [], lengths: [], bytes: Buffer.alloc(room) };
  let end = 0;
  let keys = new Map<number, Key>();
  let turnMs = Number.NEGATIVE_INFINITY;
  for (const { key, keyVersion, envelope } of rows) {
    if (vault.clock.monotonicMs() - turnMs >= TURN_MS) {
      if (keys.size > 0) await new Promise(setImmediate);
      lookAround(vault, pace);
      // A key may leave the cache while we wait, so it is asked for again at every turn.
      for (const version of versions) await dataKey(vault, tx, tenant, version);
      keys = new Map(versions.map((version) => [version, cachedKey(vault, tenant, version)]));
      turnMs = vault.clock.monotonicMs();
    }
    const bound = table.context(tenant, key);
    const plaintext = tryOpen(keys.get(keyVersion)!, bound, envelope!);
    if (plaintext === undefined) {
      unopened.push(key);
      continue;
    }
    const length = ENVELOPE_OVERHEAD + plaintext.length;
    sealInto(keys.get(to)!, bound, plaintext, moved.bytes.subarray(end, end + length));
    plaintext.fill(0);
    moved.keys.push(key);
    moved.starts.push(end);
    moved.lengths.push(length);
    end += length;
  }
  return { ...moved, bytes: moved.bytes.subarray(0, end) };
}

function cachedKey(vault: Vault, tenant: TenantId, version: number): Key {
  const key = cachedDataKey(vault, tenant, version);
  if (!key) throw new RetryTransaction();
  return key;
}

function tryOpen(key: Key, context: Context, envelope: Uint8Array): Uint8Array | undefined {
  try {
    return open(key, context, envelope);
  } catch (error) {
    if (error instanceof VaultError && error.code === 'integrity') return undefined;
    throw error;
  }
}

/** The envelopes go as one value in base64: a bytea parameter would be sent in hex, half as long again. */
async function writeRows(
  tx: Tx,
  { table, key }: EnvelopeTable,
  tenant: TenantId,
  { keys, starts, lengths, bytes }: Moved,
  to: number,
): Promise<void> {
  const arrays = key.map(({ type }, i) => `$${i + 6}::${type}[]`).join(', ');
  const names = key.map((_, i) => `k${i}`).join(', ');
  const same = key.map(({ column }, i) => `AND t.${column} = u.k${i}`).join(' ');
  await tx.unsafe(
    `UPDATE ${table} t SET key_version = $2, envelope = substr((SELECT decode($3, 'base64')), u.start + 1, u.length)
     FROM unnest($4::int[], $5::int[], ${arrays}) AS u (start, length, ${names}) WHERE t.tenant_id = $1 ${same}`,
    [
      tenant,
      to,
      bytes.toString('base64'),
      starts,
      lengths,
      ...key.map((_, i) => keys.map((row) => row[i]!)),
    ] as never[],
    { prepare: true },
  );
}
