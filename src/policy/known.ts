/**
 * What is known of a tenant while nobody but our own rounds moves its log.
 *
 * Whatever a read rests on (token, account, policies, tenant, secret, version) changes only in a transaction that moves the
 * head of the tenant's log: each change has its entry, and what is changed by hand moves acl_revision (sql/0032). So
 * rows that were read since our rounds alone move the head stand as they were read, for as long as they still do. That
 * they do is never believed but compared, in the statement that records what was decided from them: when it finds
 * another head nothing was recorded, nothing leaves, and all of this is forgotten and read again. So nothing here is
 * ever stale for anybody who is answered.
 *
 * A wrong guess costs a round trip, so it is made more seldom the longer others, such as another node, go on to move the
 * head. What time changes is looked at each time: the clock is the database's, carried on by our monotonic one, and
 * compared in that statement too. Ciphertexts and hashes are kept, never what they hide.
 */
import type { Head } from '../audit/append.ts';
import { LIMITS } from '../config.ts';
import type { Database, TenantId, Timestamp } from '../db/database.ts';
import { laterBy } from '../db/timestamp.ts';
import type { Vault } from '../vault.ts';
import type { AccessRow } from './access.ts';
import type { VersionRow } from './opened.ts';

/** Where the log stood when a row was read, in the same snapshot. */
export type Seen = Pick<Head, 'size' | 'aclRevision'>;

export type Known = {
  readonly tenant: TenantId;
  /** As our last round left it. */
  readonly head: Head;
  readonly now: () => Timestamp;
  /** Its holder may have expired since. */
  readonly token: (name: string) => AccessRow | undefined;
  /** It may have expired since. */
  readonly version: (name: string) => VersionRow | undefined;
  readonly keepToken: (name: string, row: AccessRow, seen: Seen) => void;
  readonly keepVersion: (name: string, row: VersionRow, seen: Seen) => void;
};

export type KnownTenants = {
  readonly get: (tenant: TenantId) => Known | undefined;
  /** The head as a transaction that had it locked has left it. `made`: `Database.made` before it began. */
  readonly set: (head: Head, made: number) => void;
  /** What was sent under a guess, at `sentMs` of the monotonic clock, was written. */
  readonly wasRight: (known: Known, next: Head, sentMs: number) => void;
  readonly wasWrong: (tenant: TenantId) => void;
  readonly forget: (tenant: TenantId) => void;
};

const TENANTS_MAX = 1000;
const UNGUESSED_MAX = 64;
/** What a row takes beside its ciphertext, about. */
const ROW_BYTES = 1024;

type Entry = Known & {
  head: Head;
  /** When that head's `now` was. */
  nowMs: number;
  bytes: number;
  readonly since: Seen;
  readonly madeBefore: number;
};

export function createKnownTenants({
  clock,
  db,
}: {
  readonly clock: Vault['clock'];
  readonly db: Database;
}): KnownTenants {
  const tenants = new Map<TenantId, Entry>();
  /** How many heads are let pass before the next guess, now and after the next wrong one. */
  const distrust = new Map<TenantId, { left: number; next: number }>();
  let bytes = 0;

  const forget = (tenant: TenantId) => {
    bytes -= tenants.get(tenant)?.bytes ?? 0;
    tenants.delete(tenant);
  };

  const forgetAll = () => {
    tenants.clear();
    bytes = 0;
  };

  const begin = (head: Head, madeBefore: number): Entry => {
    const tokens = new Map<string, AccessRow>();
    const versions = new Map<string, VersionRow>();
    const keep = <R>(rows: Map<string, R>, name: string, row: R, size: number, { size: at, aclRevision }: Seen) => {
      // What was read before our rounds alone moved the head, or under another revision, may have been changed since.
      if (tenants.get(head.tenant) !== entry || at < entry.since.size || aclRevision !== entry.since.aclRevision)
        return;
      if (bytes + size > LIMITS.knownRowsBytesMax) forgetAll();
      else {
        if (!rows.has(name)) {
          entry.bytes += size;
          bytes += size;
        }
        rows.set(name, row);
      }
    };
    const entry: Entry = {
      ...{ tenant: head.tenant, head, nowMs: clock.monotonicMs(), bytes: 0, since: head, madeBefore },
      now: () => laterBy(entry.head.now, clock.monotonicMs() - entry.nowMs),
      token: (name) => tokens.get(name),
      version: (name) => versions.get(name),
      keepToken: (name, row, seen) => keep(tokens, name, row, ROW_BYTES, seen),
      keepVersion: (name, row, seen) => {
        const own = copyOf(row);
        keep(versions, name, own, ROW_BYTES + bytesOf(own), seen);
      },
    };
    return entry;
  };

  return {
    get: (tenant) => {
      const entry = tenants.get(tenant);
      // A connection made since may be to another server, which holds another log.
      if (entry === undefined || entry.madeBefore === db.made) return entry;
      forget(tenant);
      return undefined;
    },
    set: (head, made) => {
      forget(head.tenant);
      const distrusted = distrust.get(head.tenant);
      if (distrusted && distrusted.left > 0) {
        distrusted.left -= 1;
        return;
      }
      if (tenants.size >= TENANTS_MAX) forgetAll();
      tenants.set(head.tenant, begin(head, made));
    },
    wasRight: (known, next, sentMs) => {
      distrust.delete(known.tenant);
      const entry = tenants.get(known.tenant);
      if (entry === known) Object.assign(entry, { head: next, nowMs: sentMs });
    },
    wasWrong: (tenant) => {
      forget(tenant);
      if (distrust.size >= TENANTS_MAX) distrust.clear();
      const left = distrust.get(tenant)?.next ?? 0;
      distrust.set(tenant, { left, next: Math.min(UNGUESSED_MAX, 2 * left + 1) });
    },
    forget,
  };
}

/** Of its own memory: a view would keep all that was read with it. */
function copyOf(row: VersionRow): VersionRow {
  const { envelope, metadataEnvelope } = row;
  return {
    ...row,
    envelope: envelope && new Uint8Array(envelope),
    metadataEnvelope: metadataEnvelope && new Uint8Array(metadataEnvelope),
  };
}

const bytesOf = ({ envelope, metadataEnvelope }: VersionRow) =>
  (envelope?.length ?? 0) + (metadataEnvelope?.length ?? 0);
