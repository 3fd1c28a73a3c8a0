/**
 * What is known of a tenant while nothing changes in it.
 *
 * Whatever a read rests on (token, account, policies, tenant, secret, version) changes only in a transaction that counts up
 * `changes` in the head of the tenant's log (sql/0032_changes.sql). So a row that was read under one count stands as it was
 * read for as long as the head says the same count. That it does is never believed but compared, by the statement or under
 * the lock that records what was decided: when it finds another count, nothing was recorded and nothing leaves, and it is
 * all read again. So nothing here is ever stale for anybody who is answered. Neither is absence known, nor what is told
 * without an entry.
 *
 * What time changes is looked at each time: the clock is the database's, carried on by our monotonic one, and compared
 * where the count is. Ciphertexts and hashes are kept, never what they hide.
 *
 * The head itself, as our last commits left it, is a guess: what is written under one is written only if it still holds. A
 * wrong one costs a round trip, so it is made more seldom the longer others, such as another node, go on to move the head.
 */
import type { Head } from '../audit/append.ts';
import { LIMITS } from '../config.ts';
import type { TenantId, Timestamp } from '../db/database.ts';
import { laterBy } from '../db/timestamp.ts';
import type { Vault } from '../vault.ts';
import type { AccessRow } from './access.ts';
import type { VersionRow } from './opened.ts';

export type Known = {
  readonly tenant: TenantId;
  /** The count that all of it was read under. */
  readonly changes: number;
  /** Undefined while it is not to be guessed. */
  readonly head: Head | undefined;
  readonly now: () => Timestamp;
  /** Its holder may have expired since. */
  readonly token: (name: string) => AccessRow | undefined;
  /** It may have expired since. */
  readonly version: (name: string) => VersionRow | undefined;
  /** `changes`: the count in the snapshot that the row was read in. */
  readonly keepToken: (name: string, row: AccessRow, changes: number) => void;
  readonly keepVersion: (name: string, row: VersionRow, changes: number) => void;
};

export type KnownTenants = {
  readonly get: (tenant: TenantId) => Known | undefined;
  /** The head as a transaction that had it locked has left it. `made`: `Database.made` before it began. */
  readonly set: (head: Head, made: number) => void;
  /** What was sent under a guess, at `sentMs` of the monotonic clock, was written. */
  readonly wasRight: (known: Known, guess: Head, next: Head, sentMs: number) => void;
  readonly wasWrong: (known: Known, guess: Head) => void;
  readonly forget: (tenant: TenantId) => void;
};

const TENANTS_MAX = 1000;
const UNGUESSED_MAX = 64;
/** What a row takes beside its ciphertext, about. */
const ROW_BYTES = 1024;

type Entry = Known & {
  head: Head | undefined;
  /** The database's clock, and ours at that time. */
  clock: { readonly now: Timestamp; readonly ms: number };
  bytes: number;
  readonly madeBefore: number;
};

const perVault = new WeakMap<Pick<Vault, 'clock' | 'db'>, KnownTenants>();

/** Those of a node. */
export function knownTenants(vault: Pick<Vault, 'clock' | 'db'>): KnownTenants {
  const there = perVault.get(vault) ?? createKnownTenants(vault);
  perVault.set(vault, there);
  return there;
}

export function createKnownTenants({ clock, db }: Pick<Vault, 'clock' | 'db'>): KnownTenants {
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

  const begin = ({ tenant, changes, now }: Head, madeBefore: number): Entry => {
    const tokens = new Map<string, AccessRow>();
    const versions = new Map<string, VersionRow>();
    const keep = <R>(rows: Map<string, R>, name: string, row: R, size: number, count: number) => {
      if (tenants.get(tenant) !== entry) return;
      // Something has changed since this was begun.
      if (count > changes) forget(tenant);
      if (count !== changes) return;
      if (bytes + size > LIMITS.knownRowsBytesMax) {
        forgetAll();
        return;
      }
      if (!rows.has(name)) {
        entry.bytes += size;
        bytes += size;
      }
      rows.set(name, row);
    };
    const entry: Entry = {
      ...{ tenant, changes, head: undefined, clock: { now, ms: clock.monotonicMs() }, bytes: 0, madeBefore },
      now: () => laterBy(entry.clock.now, clock.monotonicMs() - entry.clock.ms),
      token: (name) => tokens.get(name),
      version: (name) => versions.get(name),
      keepToken: (name, row, count) => keep(tokens, name, ownToken(row), ROW_BYTES + textBytesOf(row), count),
      keepVersion: (name, row, count) =>
        keep(versions, ownText(name), ownVersion(row), ROW_BYTES + bytesOf(row), count),
    };
    return entry;
  };

  /** Whether the head may be guessed this time. */
  const isTrusted = (tenant: TenantId) => {
    const distrusted = distrust.get(tenant);
    if (!distrusted || distrusted.left === 0) return true;
    distrusted.left -= 1;
    return false;
  };

  const get = (tenant: TenantId) => {
    const entry = tenants.get(tenant);
    // A connection made since may be to another server, which holds another log.
    if (entry === undefined || entry.madeBefore === db.made) return entry;
    forget(tenant);
    return undefined;
  };

  return {
    get,
    set: (head, made) => {
      if (made !== db.made) return;
      const before = get(head.tenant);
      if (before && before.changes > head.changes) return;
      const isSame = before?.changes === head.changes;
      if (isSame && before.head && before.head.size > head.size) return;
      if (!isSame) forget(head.tenant);
      if (tenants.size >= TENANTS_MAX) forgetAll();
      const entry = isSame ? before : begin(head, made);
      tenants.set(head.tenant, entry);
      entry.head = isTrusted(head.tenant) ? head : undefined;
      entry.clock = { now: head.now, ms: clock.monotonicMs() };
    },
    wasRight: (known, guess, next, sentMs) => {
      distrust.delete(known.tenant);
      const entry = tenants.get(known.tenant);
      if (entry !== known || entry.head?.size !== guess.size) return;
      Object.assign(entry, { head: next, clock: { now: next.now, ms: sentMs } });
    },
    wasWrong: ({ tenant }, guess) => {
      const entry = tenants.get(tenant);
      // What another act has left behind meanwhile is no worse for it.
      if (entry !== undefined && entry.head?.size !== guess.size) return;
      if (entry) entry.head = undefined;
      if (distrust.size >= TENANTS_MAX) distrust.clear();
      const left = distrust.get(tenant)?.next ?? 0;
      distrust.set(tenant, { left, next: Math.min(UNGUESSED_MAX, 2 * left + 1) });
    },
    forget,
  };
}

/** Of its own memory: a view would keep all that was read with it. */
const own = <B extends Uint8Array | null>(bytes: B) => (bytes && new Uint8Array(bytes)) as B;

/** A path is a part of the request's target, which a part of it would keep. */
const ownText = (text: string) => Buffer.from(text, 'latin1').toString('latin1');

function ownToken(row: AccessRow): AccessRow {
  return { ...row, secretHash: own(row.secretHash), certificate: own(row.certificate) };
}

function ownVersion(row: VersionRow): VersionRow {
  return { ...row, envelope: own(row.envelope), metadataEnvelope: own(row.metadataEnvelope) };
}

/** What a text takes beside its characters, about. */
const TEXT_BYTES = 32;

/** Of a token's lists: its grants are whole policies. */
function textBytesOf({ cidrs, bounds, grants, policyIds, boundIds }: AccessRow): number {
  let bytes = 0;
  for (const text of [cidrs, bounds, grants, policyIds, boundIds].flatMap((texts) => texts ?? [])) {
    bytes += TEXT_BYTES + 2 * text.length;
  }
  return bytes;
}

const bytesOf = ({ envelope, metadataEnvelope }: VersionRow) =>
  (envelope?.length ?? 0) + (metadataEnvelope?.length ?? 0);
