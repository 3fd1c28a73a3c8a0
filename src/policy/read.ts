/**
 * The hot path: reads of one secret and fetches of several, through the same gate in batches.
 *
 * All reads that arrive while the previous batch commits form the next one. Two statements in one round trip read who is
 * asking and what is asked for, for the whole batch; decisions and decryption happen in memory; one append per tenant and one
 * commit make every entry durable; only then do the answers go out. So an answer never waits for an fsync of its own,
 * and never leaves before its entry is durable. What is read again while nothing has changed is known already (known.ts).
 *
 * A tenant whose log head is busy is left to a round of its own, so that no tenant delays another. What was decided and
 * decrypted for it is not done again there, unless access was taken away meanwhile: several nodes may read for one
 * tenant. A member that fails (its envelope does not open) has its own `error` entry. When the round fails as a whole,
 * its members are read again one tenant at a time, and then one by one, so that one bad member costs nobody else the
 * answer.
 */
import { type Head, lockHeads, write, writeIfUnmoved } from '../audit/append.ts';
import type { Entry } from '../audit/entry.ts';
import { markRecorded } from '../audit/recorded.ts';
import { LIMITS } from '../config.ts';
import type { ParsedToken } from '../crypto/token.ts';
import { isUnderWay, statements, type TenantId, type Tx, transaction, underWay } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { type Access, type AccessRow, type Call, proves, resolve, unauthenticated } from './access.ts';
import { refuseBehind, refuseLate, type Waiting } from './deadline.ts';
import { type Draft, draft, draftSlowly, keepDrafts, type Redraftable, SINGLY, takeDrafts } from './draft.ts';
import { type Known, type KnownTenants, knownTenants } from './known.ts';
import { checkApproved, type OpenedVersion, openVersion } from './opened.ts';
import { permit } from './permit.ts';
import { hasRate, overRate } from './rate.ts';
import { createRounds, type Rounds, takeUpTo } from './rounds.ts';
import { type KnownOf, type Reading, readVersions, rowsOf, type Under } from './rows.ts';
import { createSuccession, type Turn } from './succession.ts';

/** Who reads one secret, or several at once. */
type Member = Waiting &
  Redraftable & {
    readonly call: Call;
    readonly token: ParsedToken;
    /** One at least. */
    readonly readings: readonly Reading[];
    /** The way of who cannot go with others. */
    readonly singly: () => Promise<readonly OpenedVersion[]>;
    readonly resolve: (opened: readonly OpenedVersion[]) => void;
  };

type Lane = {
  /** Apart, so that who reads one secret does not queue behind those who fetch a hundred. */
  readonly reads: Rounds<Member>;
  readonly fetches: Rounds<Member>;
  /** The order in which its rounds come to the heads. */
  readonly takeTurn: () => Turn;
  readonly known: KnownTenants;
  /** What shared rounds left out, by tenant, and the tenants among them that no round is running for, in turn. */
  readonly apart: Map<string, Member[]>;
  readonly apartTurns: string[];
  apartPumps: number;
};
const lanes = new WeakMap<Vault, Lane>();

/** A tenant whose log stays busy may fill this much and no more. */
const APART_MEMBERS_MAX = 1000;
/** A single read is decided again this often when access rights change under it. */
const DECISIONS_MAX = 5;

/**
 * Reads a secret as the caller, durably audited; version 0 is the current one. Throws `unauthenticated`, `forbidden`,
 * `tenant_suspended`, `password_change_required`, `not_found`, `integrity`, `unavailable`, `busy`.
 */
export function readSecret(vault: Vault, call: Call, path: string, version: number): Promise<OpenedVersion> {
  const { token } = call;
  if (!token) return Promise.reject(unauthenticated());
  const lane = laneOf(vault);
  if (lane.reads.waiting.length >= LIMITS.readQueueMax) return Promise.reject(tooMany());
  return new Promise<OpenedVersion>((resolve, reject) => {
    const readings = [{ token, path, version }];
    const singly = () => readSingly(vault, call, readings[0]!);
    const rest = {
      call,
      token,
      readings,
      singly,
      resolve: ([opened]: readonly OpenedVersion[]) => resolve(opened!),
      reject,
    };
    lane.reads.add({ arrivedMs: vault.clock.monotonicMs(), begunMs: undefined, drafted: undefined, ...rest });
  });
}

/**
 * Reads the current versions of several secrets, with an entry each. Where one of them cannot be given as things are,
 * `singly` says what the caller gets or hears.
 */
export function readSecrets(
  vault: Vault,
  call: Call,
  paths: readonly string[],
  singly: () => Promise<readonly OpenedVersion[]>,
): Promise<readonly OpenedVersion[]> {
  const { token } = call;
  if (!token) return Promise.reject(unauthenticated());
  const lane = laneOf(vault);
  if (lane.fetches.waiting.length >= LIMITS.fetchQueueMax) return Promise.reject(tooMany());
  return new Promise<readonly OpenedVersion[]>((resolve, reject) => {
    const rest = { call, token, readings: paths.map((path) => ({ token, path, version: 0 })), singly, resolve, reject };
    lane.fetches.add({ arrivedMs: vault.clock.monotonicMs(), begunMs: undefined, drafted: undefined, ...rest });
  });
}

function laneOf(vault: Vault): Lane {
  const there = lanes.get(vault);
  if (there) return there;
  const run = async (members: readonly Member[]) => setApart(vault, lane, await settle(vault, lane, members, 'shared'));
  const lane: Lane = {
    reads: createRounds(vault, LIMITS.readBatchMembersMax, run, { weightOf, inHalves: true }),
    fetches: createRounds(vault, LIMITS.fetchBatchSecretsMax, run, { weightOf, inHalves: true }),
    ...{ takeTurn: createSuccession(), known: knownTenants(vault) },
    ...{ apart: new Map(), apartTurns: [], apartPumps: 0 },
  };
  lanes.set(vault, lane);
  return lane;
}

const weightOf = ({ readings }: Member) => readings.length;

const tooMany = () => new VaultError('busy', 'Too many reads are waiting; try again.', { retryAfterSeconds: 1 });

/**
 * What a shared round left out goes on in rounds of its own tenant, which wait for the log's head. Few of them run at
 * once, one for a tenant, so that whoever waits for busy tenants never takes the connections of the others.
 */
function setApart(vault: Vault, lane: Lane, members: readonly Member[]): void {
  const weights = new Map<string, number>();
  for (const member of members) {
    const tenant = member.token.tenantId;
    const group = lane.apart.get(tenant);
    const before = weights.get(tenant) ?? (group ?? []).reduce((weight, one) => weight + weightOf(one), 0);
    weights.set(tenant, before + weightOf(member));
    // It is no part of the next round: until its own, what was decrypted for it would only fill the memory.
    if (before >= LIMITS.readBatchMembersMax) member.drafted = undefined;
    if (!group) {
      lane.apart.set(tenant, [member]);
      lane.apartTurns.push(tenant);
    } else if (group.length < APART_MEMBERS_MAX) group.push(member);
    else member.reject(tooMany());
  }
  const most = Math.max(1, Math.floor(vault.config.databaseConnections / 2));
  while (lane.apartPumps < most && lane.apartTurns.length > 0) void pumpApart(vault, lane);
}

async function pumpApart(vault: Vault, lane: Lane): Promise<void> {
  lane.apartPumps += 1;
  for (let tenant = lane.apartTurns.shift(); tenant !== undefined; tenant = lane.apartTurns.shift()) {
    const group = lane.apart.get(tenant)!;
    const members = takeUpTo(group, LIMITS.readBatchMembersMax, weightOf);
    for (const member of await settle(vault, lane, members, 'alone')) await settleOne(vault, lane, member);
    if (group.length > 0) lane.apartTurns.push(tenant);
    else lane.apart.delete(tenant);
  }
  lane.apartPumps -= 1;
}

async function settleOne(vault: Vault, lane: Lane, member: Member): Promise<void> {
  for (let decision = 1; decision <= DECISIONS_MAX; decision += 1) {
    if ((await settle(vault, lane, [member], 'alone')).length === 0) return;
  }
  member.reject(
    new VaultError('unavailable', 'Access rights change faster than this could be decided; try again.', {
      retryAfterSeconds: 1,
    }),
  );
}

/** `shared`: many tenants, none waited for. `alone`: one tenant, waited for. */
type Mode = 'shared' | 'alone';

/**
 * Runs a round, answers who it settled, and gives back who must go again, in smaller rounds: all of them when the round
 * failed as a whole. An outage is told to everybody at once: repeating would only prolong it.
 */
async function settle(vault: Vault, lane: Lane, members: readonly Member[], mode: Mode): Promise<readonly Member[]> {
  const { inTime, leftMs } = refuseLate(vault, members);
  if (inTime.length === 0) return [];
  try {
    const settled = await round(vault, lane, inTime, mode, leftMs);
    return inTime.filter((member, i) => {
      const answer = settled[i];
      if (answer === SINGLY) {
        member.singly().then(member.resolve, member.reject);
        return false;
      }
      if (answer === undefined) return true;
      const isRefused = answer instanceof Error;
      if (!isRefused || !unproven.has(answer)) markRecorded(member.call);
      if (isRefused) member.reject(answer);
      else member.resolve(answer);
      return false;
    });
  } catch (error) {
    if (!(error instanceof VaultError) && inTime.length > 1) return inTime;
    for (const member of inTime) member.reject(forReader(error));
    if (error instanceof VaultError) {
      for (const { waiting } of [lane.reads, lane.fetches]) refuseBehind(vault, waiting);
    }
    return [];
  }
}

/** A read changes nothing: when nobody knows whether its entry was committed, asking again is safe. */
function forReader(error: unknown): unknown {
  if (!(error instanceof VaultError) || error.code !== 'outcome_unknown') return error;
  return new VaultError('unavailable', 'The database was lost while the access was recorded; try again.', {
    retryAfterSeconds: 1,
    cause: error.cause,
  });
}

/** The single path of one read: what it uses up is taken once, and given back when the read is undone. */
async function readSingly(vault: Vault, call: Call, reading: Reading): Promise<OpenedVersion[]> {
  const { path, version } = reading;
  const subject = version === 0 ? 'current' : String(version);
  const ask = { action: 'secret.read', resource: `secret:${path}`, subject } as const;
  return permit(vault, call, ask, async (tx, { tenant, approved }) => {
    const { rows } = await readVersions(tx, [reading]);
    const opened = await openVersion(vault, tx, tenant, path, rows[0]);
    checkApproved(approved, opened);
    return { value: [opened], notes: [{ version: opened.version }] };
  });
}

/** Refusals without an entry: of tokens that were never issued, and of requests that come too fast. */
const unproven = new WeakSet<object>();

/** What each member hears; undefined where it must go again. Everything said here is durable. */
type Settled = readonly OpenedVersion[] | VaultError | typeof SINGLY | undefined;

async function round(
  vault: Vault,
  lane: Lane,
  members: readonly Member[],
  mode: Mode,
  deadlineMs: number,
): Promise<Settled[]> {
  const tenants = [...new Set(members.map((member) => member.token.tenantId as TenantId))];
  const known = tenants.length === 1 && mode === 'shared' ? lane.known.get(tenants[0]!) : undefined;
  if (known?.head) return roundOfOne(vault, lane, members, known, deadlineMs);
  const { made } = vault.db;
  let turn: Turn | undefined;
  try {
    const act = async (tx: Tx) => {
      const settled: Settled[] = new Array(members.length).fill(undefined);
      const kept = mode === 'alone' ? takeDrafts(vault, members) : undefined;
      const drafts =
        kept ?? (await draftAll(vault, tx, members, settled, mode === 'shared' ? lane.known.get : NOTHING_KNOWN));
      // Our own rounds take the heads in turn, so that SKIP LOCKED skips only what others hold.
      turn?.end();
      turn = mode === 'shared' ? lane.takeTurn() : undefined;
      await turn?.come;
      const heads = await record(tx, members, drafts, settled, mode === 'shared' ? 'skip' : 'wait');
      if (mode === 'shared') keepDrafts(vault, members, drafts, settled);
      return { settled, heads };
    };
    const { settled, heads } = await transaction(vault.db, tenants, act, { deadlineMs });
    for (const head of await Promise.all(heads)) lane.known.set(head, made);
    return settled;
  } finally {
    turn?.end();
  }
}

/**
 * The common round, of one tenant whose head we wrote last: no lock is waited for and no transaction opened. What is not
 * known is read in one round trip; another one, with one statement that commits by itself, appends if the head is still
 * what we know it to be, or what the round before leaves behind that is still appending: then it goes on the same lane,
 * so that the database finds it as soon as that one has committed.
 */
async function roundOfOne(
  vault: Vault,
  lane: Lane,
  members: readonly Member[],
  known: Known,
  deadlineMs: number,
): Promise<Settled[]> {
  const { tenant } = known;
  const endMs = vault.clock.monotonicMs() + deadlineMs;
  let turn: Turn | undefined;
  let isOver = false;
  /** Whoever goes on when the round has ended would take a turn that nobody ends, or append what was told to nobody. */
  const assertRunning = () => {
    if (isOver) throw new Error('the round is over');
  };
  try {
    const act = async (tx: Tx) => {
      const settled: Settled[] = new Array(members.length).fill(undefined);
      const drafts = await draftAll(vault, tx, members, settled, () => known);
      assertRunning();
      turn = lane.takeTurn();
      const before = await turn.before;
      const ahead = before?.known === known && before.endMs <= endMs && isUnderWay(before.on) ? before : undefined;
      if (!ahead) await turn.come;
      assertRunning();
      const guess = ahead ? ahead.next : known.head;
      const head = guess && { ...guess, now: known.now() };
      const { entries, settles } = head ? entriesUnder(head, drafts) : NO_ENTRIES;
      const sentMs = vault.clock.monotonicMs();
      const send = (on: Tx) => {
        const own = underWay(on);
        const { next, written } = writeIfUnmoved(on, head!, { tenant, entries });
        turn!.sent({ known, on: own, next, endMs });
        return written;
      };
      const append = () =>
        ahead ? statements(vault.db, [tenant], send, { deadlineMs: endMs - sentMs, behind: ahead.on }) : send(tx);
      const next = entries.length > 0 ? await append() : undefined;
      if (!guess || !next) {
        if (guess && entries.length > 0) lane.known.wasWrong(known, guess);
        keepDrafts(vault, members, drafts, settled);
        return settled;
      }
      lane.known.wasRight(known, guess, next, sentMs);
      for (const i of settles) settled[i] = drafts[i]!.answer;
      return settled;
    };
    return await statements(vault.db, [tenant], act, { deadlineMs });
  } catch (error) {
    lane.known.forget(tenant);
    throw error;
  } finally {
    isOver = true;
    turn?.end();
  }
}

/** Decides and decrypts for every member. Nothing of it counts before `record` has settled it. */
async function draftAll(
  vault: Vault,
  tx: Tx,
  members: readonly Member[],
  settled: Settled[],
  knownOf: KnownOf,
): Promise<(Draft | undefined)[]> {
  const readings = members.flatMap((member) => member.readings);
  const { rowOfAsker, rowOfReading, under } = await rowsOf(vault, tx, readings, knownOf);
  const accesses = new Map<AccessRow, Access>();
  const drafts: (Draft | undefined)[] = new Array(members.length).fill(undefined);
  let end = 0;
  for (let i = 0; i < members.length; i += 1) {
    const member = members[i]!;
    const row = rowOfAsker[end];
    const rows = rowOfReading.slice(end, end + member.readings.length);
    end += rows.length;
    if (!row || !proves(row, member.token)) {
      const refused = unauthenticated();
      unproven.add(refused);
      settled[i] = refused;
      continue;
    }
    const late = hasRate(row) ? await overRate(vault, row, member.call) : undefined;
    if (late) {
      unproven.add(late);
      settled[i] = late;
      continue;
    }
    if (row.usesLeft !== null) {
      settled[i] = SINGLY;
      continue;
    }
    const { token, call } = member;
    // One token's requests share what was resolved for it as long as they come from one place.
    const before = accesses.get(row);
    const access = before?.asker.source === call.source ? before : await resolve(vault, tx, token, row, call.source);
    accesses.set(row, access);
    // What is too large for many goes again alone; what is too large even then is damaged.
    if (readings.length > 1 && rows.some((one) => one?.envelope === null)) {
      if (member.readings.length > 1) settled[i] = SINGLY;
      continue;
    }
    const made = draft(vault, member, access, rows) ?? (await draftSlowly(vault, tx, member, access, rows));
    if (made === SINGLY) settled[i] = SINGLY;
    else {
      made.under = under.get(access.tenant);
      drafts[i] = made;
    }
  }
  return drafts;
}

/**
 * Appends what was drafted under the heads that could be locked and have not moved; the rest stays unsettled. Gives the
 * heads as they are when this commits.
 */
async function record(
  tx: Tx,
  members: readonly Member[],
  drafts: readonly (Draft | undefined)[],
  settled: Settled[],
  busy: 'skip' | 'wait',
): Promise<Promise<Head>[]> {
  const tenants = new Set(members.flatMap((_, i) => drafts[i]?.access.tenant ?? []));
  if (tenants.size === 0) return [];
  const after: Promise<Head>[] = [];
  for (const head of (await lockHeads(tx, [...tenants], busy)).values()) {
    const { entries, settles } = entriesUnder(head, drafts);
    for (const i of settles) settled[i] = drafts[i]!.answer;
    if (entries.length > 0) after.push(write(tx, head, { tenant: head.tenant, entries }));
  }
  return after;
}

/**
 * What may be recorded under a head: what was decided for its tenant at the revision that it still has; and, where it was
 * decided from what was known, under the count that it still has, at about its time, in a vault that is not sealed.
 */
function entriesUnder(head: Head, drafts: readonly (Draft | undefined)[]) {
  const entries: Entry[] = [];
  /** The places of the drafts that they are of. */
  const settles: number[] = [];
  // One for all that was drafted together.
  let under: Under | undefined;
  let isStanding = true;
  for (let i = 0; i < drafts.length; i += 1) {
    const drafted = drafts[i];
    if (drafted?.access.tenant !== head.tenant || drafted.access.aclRevision !== head.aclRevision) continue;
    if (drafted.under !== under) {
      under = drafted.under;
      isStanding = under === undefined || stands(under, head);
    }
    if (!isStanding) continue;
    for (const entry of drafted.entries) entries.push(entry);
    settles.push(i);
  }
  return { entries, settles };
}

const NO_ENTRIES: ReturnType<typeof entriesUnder> = { entries: [], settles: [] };
const NOTHING_KNOWN: KnownOf = () => undefined;

/** How far the clock may be from where it was thought to be. */
const APART_MS_MAX = 1000;

const stands = ({ changes, now }: Under, head: Head): boolean =>
  changes === head.changes && !head.sealed && Math.abs(Date.parse(now) - Date.parse(head.now)) <= APART_MS_MAX;
