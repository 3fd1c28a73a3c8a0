/**
 * Appends entries to the logs of tenants, in the transaction of the act that they record.
 *
 * A log's head is the last lock that a transaction takes: after `append` there is only COMMIT. Heads are locked in the
 * order of their tenant ids. Under the lock the head says whether access was taken away since the act was decided
 * (`acl_revision`); if so nothing is written and the act must be decided again.
 *
 * When the transaction commits, lines, leaf hashes and head are durable together; nothing of an act may leave the
 * process before.
 */
import { randomFillSync } from 'node:crypto';
import { appendLeaves, HASH_BYTES, writeLeafHashOfText } from '../crypto/merkle.ts';
import { sendLast, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { assert } from '../errors.ts';
import { type Entry, entryLine } from './entry.ts';

/** What one transaction appends to one tenant's log. */
export type Appendix = {
  readonly tenant: TenantId;
  readonly entries: readonly Entry[];
  /** The acl_revision under which the act was decided. Absent: no grant depends on it. */
  readonly decidedAt?: number;
  /** Whether the act takes access away. */
  readonly revokes?: boolean;
};

/** Thrown when access was taken away between decision and append: decide again from the start. */
export class AccessMoved extends Error {
  override readonly name = 'AccessMoved';
}

/** How far a log has come, and the time of the statement that read it. */
export type Head = {
  readonly tenant: TenantId;
  readonly size: number;
  readonly frontier: Uint8Array;
  readonly aclRevision: number;
  /** How many transactions have changed what a read rests on (sql/0032_changes.sql), or taken other access away. */
  readonly changes: number;
  readonly lastTime: Timestamp;
  readonly now: Timestamp;
  /** Whether an operator has sealed the vault. */
  readonly sealed: boolean;
};

/** Gives the heads as they are after it, once the transaction commits. */
export async function append(tx: Tx, appendices: readonly Appendix[]): Promise<Promise<Head>[]> {
  const heads = await lockHeads(
    tx,
    appendices.map((appendix) => appendix.tenant),
    'wait',
  );
  for (const { tenant, decidedAt } of appendices) {
    const head = heads.get(tenant);
    assert(head, 'every tenant has a log head');
    if (decidedAt !== undefined && head.aclRevision !== decidedAt) throw new AccessMoved();
  }
  killpoint('audit.locked');
  const after = appendices.map((appendix) => write(tx, heads.get(appendix.tenant)!, appendix));
  killpoint('audit.written');
  return after;
}

/** Locks the heads in order. `skip` leaves out those that another transaction holds. */
export async function lockHeads(
  tx: Tx,
  tenants: readonly TenantId[],
  busy: 'wait' | 'skip',
): Promise<Map<TenantId, Head>> {
  const rows = await tx<Head[]>`
    SELECT tenant_id AS tenant, size, frontier, acl_revision AS "aclRevision", changes, last_time AS "lastTime",
           bulla.now() AS now, bulla.is_sealed() AS sealed
    FROM audit_heads WHERE tenant_id = ANY (${[...tenants]}) ORDER BY tenant_id
    FOR UPDATE ${busy === 'skip' ? tx`SKIP LOCKED` : tx``}`;
  return new Map(rows.map((head) => [head.tenant, head]));
}

/** Writes under a head that is locked, as the last statement before COMMIT. Gives the head as it is after it, once that is done. */
export function write(tx: Tx, head: Head, appendix: Appendix): Promise<Head> {
  const { statement, next } = appendStatement(tx, head, appendix, 'locked');
  sendLast(tx, statement);
  const after = statement.then(([written]) => ({ ...next, ...written }));
  after.catch(() => undefined);
  return after;
}

/**
 * Writes in a statement of its own under a head that is known and not locked, whose `now` is where the clock is thought to
 * be. `next` is the head as that leaves it, `written` the same once it is done. Undefined when it wrote nothing: somebody
 * else holds the head, has appended to it, took access away, or changed what a read rests on; it is of another log that has
 * come as far, such as of a server that was restored; the vault is sealed; the clock is elsewhere. Never waits for others.
 */
export function writeIfUnmoved(
  tx: Tx,
  head: Head,
  appendix: Appendix,
): { readonly next: Head; readonly written: Promise<Head | undefined> } {
  const { statement, next } = appendStatement(tx, head, appendix, 'guessed');
  return { next, written: statement.then(([written]) => written && { ...next, ...written }) };
}

function appendStatement(
  tx: Tx,
  head: Head,
  { tenant, entries, revokes = false }: Appendix,
  known: 'locked' | 'guessed',
) {
  const time = head.now > head.lastTime ? head.now : head.lastTime;
  const lines = entries.map((entry, i) => entryLine(entry, head.size + i, time, newSalt()));
  const hashes = Buffer.alloc(lines.length * HASH_BYTES);
  for (let i = 0; i < lines.length; i += 1) writeLeafHashOfText(lines[i]!, hashes, i * HASH_BYTES);
  const next = appendLeaves(head.size, head.frontier, hashes);
  const aclRevision = head.aclRevision + (revokes ? 1 : 0);
  // One round trip for the three, each value once and no fragments: postgres.js takes as long for one as for an entry. The
  // lines go as text because a bytea parameter would be sent in hex, twice as long. Access that is taken away counts as a
  // change too: rows that nodes know hold the revision that they were read at.
  const statement = tx<Pick<Head, 'changes' | 'now'>[]>`
    WITH head AS (
      SELECT tenant_id, size, ${entries.length}::int AS count, ${time}::timestamptz AS time FROM audit_heads
      WHERE tenant_id = ${tenant} AND size = ${head.size} AND acl_revision = ${head.aclRevision}
        AND (${known === 'locked'} OR frontier = ${head.frontier} AND changes = ${head.changes} AND NOT bulla.is_sealed()
             AND bulla.now() - ${head.now}::timestamptz BETWEEN interval '-1 second' AND interval '1 second')
      FOR UPDATE SKIP LOCKED
    ), segment AS (
      INSERT INTO audit_segments (tenant_id, first_seq, count, first_time, last_time, lines)
      SELECT tenant_id, size, count, time, time, convert_to(${`${lines.join('\n')}\n`}, 'UTF8') FROM head
    ), leaves AS (
      INSERT INTO audit_leaves (tenant_id, first_seq, count, hashes)
      SELECT tenant_id, size, count, ${hashes} FROM head
    )
    UPDATE audit_heads SET size = head.size + head.count, frontier = ${next.frontier}, last_time = head.time,
           acl_revision = ${aclRevision}, changes = changes + (${revokes} OR bulla.has_changed())::int
    FROM head WHERE audit_heads.tenant_id = head.tenant_id RETURNING audit_heads.changes, bulla.now() AS now`;
  const after: Head = { ...head, ...next, aclRevision, lastTime: time };
  return { statement, next: after };
}

/** How far a log has come, without locking it. */
export async function readHead(tx: Tx, tenant: TenantId): Promise<Pick<Head, 'size' | 'frontier'>> {
  const [head] = await tx<Pick<Head, 'size' | 'frontier'>[]>`
    SELECT size, frontier FROM audit_heads WHERE tenant_id = ${tenant}`;
  assert(head, 'every tenant has a log head');
  return head;
}

/** The log of a new tenant: empty, its first entry is still to come. */
export async function createLog(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`
    INSERT INTO audit_heads (tenant_id, size, frontier, last_time, acl_revision)
    VALUES (${tenant}, 0, ''::bytea, bulla.now(), 0)`;
}

const SALT_BYTES = 16;
/** Random bytes that no line has yet: asking for many at once costs as much as for a few. */
const fresh = Buffer.alloc(512 * SALT_BYTES);
let used = fresh.length;

function newSalt(): string {
  if (used === fresh.length) {
    randomFillSync(fresh);
    used = 0;
  }
  used += SALT_BYTES;
  return fresh.toString('base64url', used - SALT_BYTES, used);
}
