/**
 * The only way to PostgreSQL while serving: lanes, and transactions on them.
 *
 * A COMMIT is only believed when the connection that carried it lived through it (lane.ts), and nothing is returned
 * before it is durable (flush.ts).
 *
 * Errors of the database leave here stripped of everything that could be a row's contents.
 */
import { randomInt } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import type postgres from 'postgres';
import { VaultError } from '../errors.ts';
import { createFlusher, type Flusher, flushOn, type Standing } from './flush.ts';
import { killpoint } from './killpoint.ts';
import { type DatabaseOptions, drop, type Lane, openLane } from './lane.ts';
import { sanitise, sqlState, translate, unavailable } from './sql-error.ts';

export type { DatabaseOptions, Endpoint } from './lane.ts';

declare const tenantIdBrand: unique symbol;
/** `system`, or 16 characters of lower-case base32. Never a name, never reused. */
export type TenantId = string & { readonly [tenantIdBrand]: true };

/** The tenant that holds operators, the directory of tenants and the keys of the deployment. */
export const SYSTEM = 'system' as TenantId;

const TENANT_ID = /^(system|[a-z2-7]{16})$/;

export function asTenantId(text: string): TenantId {
  if (!TENANT_ID.test(text)) throw new Error('not a tenant id');
  return text as TenantId;
}

/** RFC 3339 in UTC with exactly six fraction digits, so that comparing the text compares the time. */
export type Timestamp = string;

declare const txBrand: unique symbol;
/** A running transaction: a tagged template for SQL. What runs SQL takes it as its first parameter. */
export type Tx = postgres.Sql<{ bigint: number }> & { readonly [txBrand]: true };

/** A piece of a statement. */
export type Fragment = postgres.PendingQuery<postgres.Row[]>;

type Waiter = {
  holder: string;
  resolve: (lane: Lane) => void;
  reject: (error: VaultError) => void;
  timer: NodeJS.Timeout;
};

export type Database = {
  readonly options: DatabaseOptions;
  readonly idle: Lane[];
  readonly busy: Set<Lane>;
  readonly waiting: Waiter[];
  /** How many lanes each tenant's transactions hold. */
  readonly held: Map<string, number>;
  /** How often a lane was taken. */
  taken: number;
  /** How many lanes were made: each may lead to another server than those before. */
  made: number;
  readonly flusher: Flusher;
  closed: boolean;
};

/** Nothing is connected until the first transaction. */
export function openDatabase(options: DatabaseOptions): Database {
  const flusher = createFlusher(options);
  return {
    options,
    idle: [],
    busy: new Set(),
    waiting: [],
    held: new Map(),
    taken: 0,
    made: 0,
    flusher,
    closed: false,
  };
}

/** Ends every lane. Transactions still running fail as `unavailable`. */
export async function closeDatabase(db: Database): Promise<void> {
  db.closed = true;
  for (const waiter of db.waiting.splice(0)) {
    clearTimeout(waiter.timer);
    waiter.reject(unavailable('the vault is stopping'));
  }
  const lanes = [...db.idle.splice(0), ...db.busy];
  await Promise.all([...lanes.map((lane) => lane.sql.end({ timeout: 1 })), db.flusher.close()]);
}

const TRANSACTION_TRIES = 3;
const RETRYABLE = new Set(['40001', '40P01']);
const COLLISION_PAUSE_MS = 30;

/** Thrown inside a transaction that was overtaken by another one: it is undone and run again. */
export class RetryTransaction extends Error {
  override readonly name = 'RetryTransaction';
}

export type StatementsOptions = {
  /** Milliseconds until the lane is dropped; the pool's deadline when absent. */
  readonly deadlineMs?: number;
  /** Statements of the same tenants: these go behind them on the same lane, whatever becomes of them. */
  readonly behind?: UnderWay | undefined;
};

/** Statements that are under way, on a lane as it was taken for them: another use of it is others' affair. */
export type UnderWay = { readonly tx: Tx; readonly use: number };

export type TransactionOptions = {
  /** Milliseconds until the lane is dropped; the pool's deadline when absent. */
  readonly deadlineMs?: number;
  /**
   * The commit waits for no flush: it lasts when any later commit does. Only for what is told to nobody and may be done
   * again, such as a batch of a job.
   */
  readonly flushed?: 'before-return' | 'with-the-next-commit';
};

/**
 * Runs `fn` in one transaction that sees only `tenants`, and commits.
 *
 * On return everything is durable, unless `options` put that off. When `fn` throws, nothing happened. `unavailable`:
 * nothing happened, the database cannot be reached or did not answer in time. `outcome_unknown`: the connection died in
 * COMMIT. `fn` is run again, up to twice, after a deadlock, so it must not change anything outside the transaction
 * before it returns.
 */
export async function transaction<T>(
  db: Database,
  tenants: readonly TenantId[],
  fn: (tx: Tx) => Promise<T>,
  options: TransactionOptions = {},
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await once(db, tenants, fn, options);
    } catch (error) {
      const collided = RETRYABLE.has(sqlState(error) ?? '');
      if (!collided && !(error instanceof RetryTransaction)) throw error;
      if (attempt === TRANSACTION_TRIES) throw unavailable('too many others change the same thing', error);
      // The other one first: who begins again at once takes a row from under whoever was just woken to have it.
      if (collided) await pause(attempt * randomInt(COLLISION_PAUSE_MS / 2, COLLISION_PAUSE_MS * 2));
    }
  }
}

async function once<T>(
  db: Database,
  tenants: readonly TenantId[],
  fn: (tx: Tx) => Promise<T>,
  { deadlineMs = db.options.deadlineMs, flushed = 'before-return' }: TransactionOptions,
): Promise<T> {
  const started = performance.now();
  const lane = await checkOut(db, tenants, deadlineMs);
  const timer = setTimeout(() => drop(lane), Math.max(1, deadlineMs - (performance.now() - started)));
  let result: T;
  let state: Committed;
  let flusher: Standing | undefined;
  const flushes = () => !state.durable && flushed === 'before-return';
  try {
    const longer = deadlineMs > db.options.deadlineMs ? deadlineMs : undefined;
    result = await begin(lane, tenants, fn, longer);
    flusher = db.busy.size > 1 ? db.flusher.standing() : undefined;
    state = await commit(lane, flushed === 'with-the-next-commit' || flusher !== undefined);
    // By whom was there before the commit, at the same server: who came after it may be at one that does not have it.
    if (flushes() && flusher?.server !== state.server) {
      await flush(state, flushOn(lane));
      state = { ...state, durable: true };
    }
  } finally {
    clearTimeout(timer);
    // The lane is another's while this one waits for the disk.
    checkIn(db, lane);
  }
  const leftMs = deadlineMs - (performance.now() - started);
  if (flushes()) await flush(state, db.flusher.flushed(flusher!, leftMs));
  killpoint('transaction.committed');
  return result;
}

/** `statementMs`: what a statement of long work may take, where that is more than the session allows. */
async function begin<T>(
  lane: Lane,
  tenants: readonly TenantId[],
  fn: (tx: Tx) => Promise<T>,
  statementMs: number | undefined,
): Promise<T> {
  try {
    // Tenant ids are checked against their alphabet, so the list needs no quoting. Sent together with the first statement of fn.
    const long = statementMs === undefined ? '' : `; SET LOCAL statement_timeout = ${Math.ceil(statementMs)}`;
    const opened = lane.sql.unsafe(`BEGIN; SET LOCAL bulla.tenants = ',${tenants.map(asTenantId).join(',')},'${long}`);
    opened.catch(() => drop(lane));
    const [, result] = await Promise.all([opened, fn(lane.sql as Tx)]);
    return result;
  } catch (error) {
    const lost = lane.dead;
    if (!lost) await rollBack(lane);
    if (error instanceof VaultError) throw error;
    if (lost) throw unavailable('the database connection was lost or did not answer in time', error);
    throw translate(error);
  }
}

/**
 * Runs `fn` with statements that each commit by themselves and see only `tenants`: for the hot path, where BEGIN and
 * COMMIT would cost more than what is between them. What fails, fails as `unavailable`; a statement that was under way
 * may still have happened. It ends by its deadline, `fn` perhaps later: postgres.js may never end a statement that it was
 * given for a connection that is lost.
 */
export async function statements<T>(
  db: Database,
  tenants: readonly TenantId[],
  fn: (tx: Tx) => Promise<T>,
  options: StatementsOptions = {},
): Promise<T> {
  const deadlineMs = options.deadlineMs ?? db.options.deadlineMs;
  const started = performance.now();
  const lane = options.behind ? join(options.behind) : await checkOut(db, tenants, deadlineMs);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const end = () => {
      drop(lane);
      reject(unavailable('the database did not answer in time'));
    };
    timer = setTimeout(end, Math.max(1, deadlineMs - (performance.now() - started)));
  });
  try {
    const wanted = `,${tenants.map(asTenantId).join(',')},`;
    let set: Promise<unknown> | undefined;
    if (lane.tenants !== wanted) {
      set = lane.sql.unsafe(`SET bulla.tenants = '${wanted}'`);
      set.catch(() => drop(lane));
    }
    const [, result] = await Promise.race([Promise.all([set, fn(lane.sql as Tx)]), late]);
    if (lane.dead) throw unavailable('the database connection was lost');
    lane.tenants = wanted;
    return result;
  } catch (error) {
    // A statement that failed may have left others behind it under way.
    lane.failed = true;
    if (error instanceof VaultError) throw error;
    if (lane.dead) throw unavailable('the database connection was lost', error);
    throw translate(error);
  } finally {
    clearTimeout(timer);
    checkIn(db, lane);
  }
}

type Committed = { readonly wrote: boolean; readonly durable: boolean; readonly server: string };

/**
 * Sends COMMIT behind the statements that are still under way. A statement that fails makes the server answer COMMIT
 * with ROLLBACK, and its own error says why; a connection that ends here leaves the outcome unknown.
 *
 * Beside others (`shares`), it does not wait for the disk: what it has locked is free at once for the next one, and all who commit
 * meanwhile share one flush. `durable`: so is all that it wrote, and all that it has seen of others.
 */
async function commit(lane: Lane, shares: boolean): Promise<Committed> {
  const last = lane.last.splice(0);
  let end: postgres.RowList<{ wrote: boolean; behind: boolean; server: string }[]>;
  try {
    const sent = lane.sql.unsafe<typeof end>(shares ? `${STATE}; ${UNFLUSHED}; COMMIT` : `${STATE}; COMMIT`).execute();
    [end] = await Promise.all([sent, ...last]);
    if (lane.dead) throw new Error('the connection was lost around COMMIT');
  } catch (error) {
    const state = sqlState(error);
    const refused = state !== undefined && !lane.dead && !/^(08|57P)/.test(state);
    drop(lane);
    if (refused) throw translate(error);
    throw unknownOutcome(error);
  }
  // A failure that `fn` had overlooked: a defect of ours, and it is known that nothing happened.
  if (end.command !== 'COMMIT') throw new Error('a statement had failed before COMMIT, so nothing was committed');
  const { wrote, behind, server } = end[0]!;
  return { wrote, durable: wrote ? !shares : !behind, server };
}

const UNFLUSHED = 'SET LOCAL synchronous_commit = off';
/**
 * Whether it wrote anything; whether others have committed what is not on the disk, or not at the standby, yet; and which
 * server says so.
 */
const STATE = `SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS wrote, pg_postmaster_start_time()::text AS server,
  pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn() OR current_setting('synchronous_standby_names') <> '' AS behind`;

async function flush({ wrote }: Committed, flushing: Promise<unknown>): Promise<void> {
  try {
    await flushing;
  } catch (error) {
    throw wrote ? unknownOutcome(error) : unavailable('the database does not write to its disk', error);
  }
}

const unknownOutcome = (error: unknown) =>
  new VaultError(
    'outcome_unknown',
    'The database connection was lost while committing: the change is either there whole or not at all. Read it back, or repeat the request with the same Idempotency-Key or If-Match.',
    { cause: sanitise(error) },
  );

/**
 * Sends a transaction's last statement without waiting for it, so that COMMIT travels right behind. Its failure undoes
 * the transaction and is thrown by `transaction`.
 */
export function sendLast<T extends postgres.MaybeRow[]>(tx: Tx, statement: postgres.PendingQuery<T>): void {
  const lane = laneOf.get(tx);
  if (!lane) throw new Error('not a running transaction');
  statement.catch(() => undefined);
  lane.last.push(statement.execute());
}

/** SQLSTATE of a statement in a transaction that another one has failed in. */
const FAILED_BY_ANOTHER = '25P02';

/**
 * Two statements sent one behind the other. When one fails the other may be refused for that alone, and, while they are being
 * prepared, be refused first: what is thrown is the failure itself.
 */
export async function inOneTrip<A, B>(one: PromiseLike<A>, other: PromiseLike<B>): Promise<[A, B]> {
  const [first, second] = await Promise.allSettled([one, other]);
  if (first.status === 'fulfilled' && second.status === 'fulfilled') return [first.value, second.value];
  const failures = [first, second].flatMap((ended) => (ended.status === 'rejected' ? [ended.reason as unknown] : []));
  throw failures.find((failure) => sqlState(failure) !== FAILED_BY_ANOTHER) ?? failures[0];
}

const laneOf = new WeakMap<object, Lane>();

/**
 * Opens the running transaction for other tenants from here on, for work that goes through all of them a few at a time.
 * Only the vault's own rotation may: what a caller's request may see is fixed when its transaction begins.
 */
export async function showTenants(tx: Tx, tenants: readonly TenantId[]): Promise<void> {
  await tx.unsafe(`SET LOCAL bulla.tenants = ',${tenants.map(asTenantId).join(',')},'`);
}

async function rollBack(lane: Lane): Promise<void> {
  const timer = setTimeout(() => drop(lane), 1_000);
  lane.last.length = 0;
  try {
    await lane.sql.unsafe('ROLLBACK');
  } catch {
    drop(lane);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A lane for a transaction of these tenants. One tenant never holds them all, and of those who wait the one whose tenant
 * holds fewest is next: whoever asks for more than there is waits behind himself, not before others.
 */
async function checkOut(db: Database, tenants: readonly TenantId[], deadlineMs: number): Promise<Lane> {
  if (db.closed) throw unavailable('the vault is stopping');
  const holder = tenants.length === 1 ? tenants[0]! : SEVERAL;
  const lane = mayHold(db, holder)
    ? (db.idle.pop() ?? (db.busy.size < db.options.connections ? newLane(db) : undefined))
    : undefined;
  if (lane) return take(db, lane, holder);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      db.waiting.splice(db.waiting.indexOf(waiter), 1);
      reject(unavailable('all database connections are in use'));
    }, deadlineMs / 2);
    const waiter: Waiter = { holder, resolve, reject, timer };
    db.waiting.push(waiter);
  });
}

/** Of running statements, for others to go behind. Throws `unavailable` when their connection is lost. */
export function underWay(tx: Tx): UnderWay {
  const one = { tx, use: laneOf.get(tx)!.use };
  if (!isUnderWay(one)) throw unavailable('the database connection was lost');
  return one;
}

/** Whether others can go behind: they have not ended, nothing has failed, and the connection is there as far as is known. */
export function isUnderWay({ tx, use }: UnderWay): boolean {
  const lane = laneOf.get(tx)!;
  return lane.users > 0 && lane.use === use && !lane.dead && !lane.failed;
}

function join(behind: UnderWay): Lane {
  if (!isUnderWay(behind)) throw unavailable('what this was to go behind has ended');
  const lane = laneOf.get(behind.tx)!;
  lane.users += 1;
  return lane;
}

/** Transactions that open several tenants at once are the vault's own rounds and the operators'. */
const SEVERAL = '';

function mayHold(db: Database, holder: string): boolean {
  return holder === SEVERAL || (db.held.get(holder) ?? 0) < Math.ceil(db.options.connections * 0.75);
}

function take(db: Database, lane: Lane, holder: string): Lane {
  db.taken += 1;
  db.busy.add(lane);
  lane.holder = holder;
  lane.users = 1;
  lane.use += 1;
  db.held.set(holder, (db.held.get(holder) ?? 0) + 1);
  return lane;
}

function nextWaiter(db: Database): Waiter | undefined {
  let next = -1;
  let fewest = Number.POSITIVE_INFINITY;
  for (const [i, { holder }] of db.waiting.entries()) {
    const held = db.held.get(holder) ?? 0;
    if (held >= fewest || !mayHold(db, holder)) continue;
    next = i;
    fewest = held;
  }
  return next === -1 ? undefined : db.waiting.splice(next, 1)[0];
}

function checkIn(db: Database, lane: Lane): void {
  lane.users -= 1;
  if (lane.users > 0) return;
  if (lane.failed) drop(lane);
  db.busy.delete(lane);
  const left = (db.held.get(lane.holder) ?? 1) - 1;
  if (left > 0) db.held.set(lane.holder, left);
  else db.held.delete(lane.holder);
  const next = nextWaiter(db);
  if (next) {
    clearTimeout(next.timer);
    next.resolve(take(db, lane.dead ? newLane(db) : lane, next.holder));
  } else if (!lane.dead && !db.closed) {
    db.idle.push(lane);
  }
}

function newLane(db: Database): Lane {
  db.made += 1;
  const lane = openLane(db.options, (gone) => {
    const index = db.idle.indexOf(gone);
    if (index >= 0) db.idle.splice(index, 1);
  });
  laneOf.set(lane.sql, lane);
  return lane;
}
