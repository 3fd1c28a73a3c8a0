/**
 * The sweeper of a node: ends leases that are due, whoever took them and on whatever node.
 *
 * It looks when somebody notifies it, when the next lease is due, and every LOOK_MS at the latest; never more often than
 * the work there is. Every look reads, by index, the first due lease of each backend. A backend has its own few workers,
 * so that one that is slow or dead keeps only its own leases waiting; those of all backends together, and what they ask of
 * the vault's database, are bounded too. Several nodes share the work by SKIP LOCKED, and need no leader.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { SYSTEM, type TenantId, transaction } from '../db/database.ts';
import { listen } from '../db/listen.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { quarantineAccount, rotateDue } from './account-rotation.ts';
import { type Claim, claimDue } from './claim.ts';
import { type Look, lookAtClock, type SeenClock } from './clock.ts';
import { endClaimed, endDueAccess, removeEnded, reviveDue } from './end.ts';
import { closeBackends, freeAt, isFailing, pausedBackends } from './pool.ts';
import { rotateRootDue } from './root-rotation.ts';
import { CHANNEL, onWake } from './wake.ts';

export type Sweeper = {
  /** Takes nothing more, waits for what is under way, and ends the connections to backends. */
  readonly stop: () => Promise<void>;
};

const LOOK_MS = 10_000;
/** Between two looks, so that a burst of notifications is one. */
const LOOK_MS_MIN = 50;
const BACKENDS_AT_ONCE = 1_000;
const ACTS_MAX = 256;
const ACCOUNTS_AT_ONCE = 500;
const ROOTS_AT_ONCE = 50;
const TENANTS_AT_ONCE = 100;
/** Entries in one commit: what a reader of the same tenant waits for at most. */
const ACCESS_AT_ONCE = 100;
/** How long the others have until the next commit, in times of the last one. */
const RESTED = 1.25;
const REMOVED_AT_ONCE = 1_000;
/** Access leases in whose tenants one look may find work. */
const ACCESS_LOOKED_AT = 1_000;

export function startSweeper(vault: Vault): Sweeper {
  const running = new Set<Promise<unknown>>();
  /** Backends whose leases are being claimed: what they will have at work does not count yet. */
  const claiming = new Set<string>();
  /** Accounts at whose passwords this node is at work, by backend. */
  const rotating = new Map<string, Set<string>>();
  let endingAccess = false;
  let stopping = false;
  let seen: SeenClock | undefined;
  let timer: NodeJS.Timeout | undefined;
  let timerAtMs = Number.POSITIVE_INFINITY;
  let lookedAtMs = Number.NEGATIVE_INFINITY;
  let looking: Promise<void> = Promise.resolve();

  const begin = (work: Promise<unknown>) => {
    const guarded: Promise<unknown> = work.catch((error) => note(vault, error)).finally(() => running.delete(guarded));
    running.add(guarded);
  };
  const sweepBackends = (due: Due['due'], { now, latched }: Look) => {
    for (const { tenant, backendId } of due) {
      const limit = Math.min(freeAt(vault, tenant, backendId), ACTS_MAX - running.size);
      if (limit <= 0 || stopping || claiming.has(backendId)) continue;
      claiming.add(backendId);
      const claim = { tenant, backendId, limit, upTo: now, latched };
      begin(sweepBackend(vault, claim, () => claiming.delete(backendId)).then((more) => more && soon(0)));
    }
  };
  const rotateAccounts = (accounts: Due['accounts']) => {
    for (const account of accounts) {
      const mine = rotating.get(account.backendId) ?? new Set();
      const free = Math.min(freeAt(vault, account.tenant, account.backendId), ACTS_MAX - running.size);
      if (stopping || mine.has(account.id) || mine.size >= free) continue;
      rotating.set(account.backendId, mine.add(account.id));
      const done = () => {
        mine.delete(account.id);
        if (mine.size === 0) rotating.delete(account.backendId);
        soon(0);
      };
      begin(rotateOne(vault, account).finally(done));
    }
  };
  const endAccess = (tenants: Due['access'], clock: Look) => {
    if (tenants.length === 0 || endingAccess) return;
    endingAccess = true;
    const done = () => {
      endingAccess = false;
      soon(0);
    };
    begin(sweepAccess(vault, tenants, clock, () => stopping).finally(done));
  };
  const look = async () => {
    if (stopping || vault.seal.sealed) return;
    lookedAtMs = vault.clock.monotonicMs();
    const clock = await lookAtClock(vault, seen);
    seen = clock.seen;
    const { due, accounts, roots, nextInMs, access, removable } = await readDue(vault);
    sweepBackends(due, clock);
    if (!clock.latched) rotateAccounts(accounts);
    if (!clock.latched) for (const { tenant, backendId } of roots) begin(rotateRootDue(vault, tenant, backendId));
    endAccess(access, clock);
    for (const tenant of removable) await removeEnded(vault, tenant, REMOVED_AT_ONCE);
    soon(clock.latched ? LOOK_MS : nextInMs);
  };
  const turn = () => {
    timer = undefined;
    timerAtMs = Number.POSITIVE_INFINITY;
    looking = looking
      .then(look)
      .catch((error) => note(vault, error))
      .finally(() => soon(LOOK_MS));
  };
  /** Looks in so many milliseconds at the latest, and not before LOOK_MS_MIN have passed since the last look. */
  const soon = (inMs: number) => {
    if (stopping) return;
    const nowMs = vault.clock.monotonicMs();
    const atMs = Math.max(nowMs + Math.min(inMs, LOOK_MS), lookedAtMs + LOOK_MS_MIN);
    if (timer !== undefined && timerAtMs <= atMs) return;
    clearTimeout(timer);
    timerAtMs = atMs;
    timer = setTimeout(turn, Math.max(0, Math.ceil(atMs - nowMs))).unref();
  };
  const listening = listen(vault.db.options, CHANNEL, () => soon(0));
  onWake(vault, soon);
  soon(0);
  return {
    stop: async () => {
      stopping = true;
      clearTimeout(timer);
      onWake(vault, undefined);
      await listening.close();
      await looking;
      await Promise.all(running);
      await closeBackends(vault);
    },
  };
}

function note(vault: Vault, error: unknown): void {
  const fields = error instanceof VaultError ? { code: error.code, reason: error.message } : { err: error };
  vault.log.warn(fields, 'sweeping leases; the next look tries again');
}

/** One turn at a backend: what was claimed is ended at the same time. Whether there may be more. */
async function sweepBackend(vault: Vault, claim: Claim, claimedAll: () => void): Promise<boolean> {
  const { tenant, backendId } = claim;
  const wasFailing = isFailing(vault, tenant, backendId);
  const taken = await claimDue(vault, claim).finally(claimedAll);
  if (!taken) return false;
  const { at, claimed } = taken;
  await Promise.all(claimed.map((one) => endClaimed(vault, at, one)));
  if (wasFailing && !isFailing(vault, tenant, backendId)) await reviveDue(vault, at);
  return claimed.length > 0;
}

async function rotateOne(vault: Vault, { tenant, id }: DueAccount): Promise<void> {
  try {
    await rotateDue(vault, tenant, id);
  } catch (error) {
    // What a target says is in the row already; this is an envelope or a configuration that does not open.
    if (!(error instanceof VaultError) || error.code !== 'integrity') throw error;
    await quarantineAccount(vault, tenant, id, error.message);
    throw error;
  }
}

/** One tenant after the other, and for each as many commits as it takes, with time for others between them. */
async function sweepAccess(
  vault: Vault,
  tenants: readonly TenantId[],
  clock: Look,
  isStopping: () => boolean,
): Promise<void> {
  for (const tenant of tenants) {
    for (let count = ACCESS_AT_ONCE; count === ACCESS_AT_ONCE && !isStopping(); ) {
      const begunMs = vault.clock.monotonicMs();
      count = await endDueAccess(vault, tenant, ACCESS_AT_ONCE, clock.now, clock.latched);
      if (count === ACCESS_AT_ONCE) await pause(RESTED * (vault.clock.monotonicMs() - begunMs));
    }
  }
}

type DueAccount = { readonly tenant: TenantId; readonly backendId: string; readonly id: string };

type Due = {
  /** Backends whose own password was being changed when somebody was cut off. */
  readonly roots: readonly { tenant: TenantId; backendId: string }[];
  /** Static accounts whose password is to be changed. */
  readonly accounts: readonly DueAccount[];
  /** Backends where something is due, the longest due first. */
  readonly due: readonly { tenant: TenantId; backendId: string }[];
  readonly nextInMs: number;
  /** Tenants with access leases that are due, and with ended leases that are to be forgotten. */
  readonly access: readonly TenantId[];
  readonly removable: readonly TenantId[];
};

async function readDue(vault: Vault): Promise<Due> {
  const paused = pausedBackends(vault);
  return transaction(vault.db, [SYSTEM], async (tx) => {
    const first = await tx<{ tenant: TenantId; backendId: string; inMs: number }[]>`
      SELECT b.tenant_id AS tenant, b.backend_id AS "backendId",
             (extract(epoch FROM l.due_at - bulla.now()) * 1000)::double precision AS "inMs"
      FROM backends b, LATERAL (
        SELECT due_at FROM leases WHERE tenant_id = b.tenant_id AND backend_id = b.backend_id AND kind = 'credential'
          AND state <> 'ended' ORDER BY due_at LIMIT 1) l
      WHERE b.backend_id <> ALL (${paused.ids}) ORDER BY l.due_at LIMIT ${BACKENDS_AT_ONCE}`;
    const accounts = await tx<(DueAccount & { inMs: number })[]>`
      SELECT tenant_id AS tenant, backend_id AS "backendId", account_id AS id,
             (extract(epoch FROM due_at - bulla.now()) * 1000)::double precision AS "inMs"
      FROM static_accounts WHERE due_at IS NOT NULL AND NOT closing AND backend_id <> ALL (${paused.ids})
      ORDER BY due_at LIMIT ${ACCOUNTS_AT_ONCE}`;
    const roots = await tx<{ tenant: TenantId; backendId: string; inMs: number }[]>`
      SELECT tenant_id AS tenant, backend_id AS "backendId",
             (extract(epoch FROM root_due_at - bulla.now()) * 1000)::double precision AS "inMs"
      FROM backends WHERE root_due_at IS NOT NULL ORDER BY root_due_at LIMIT ${ROOTS_AT_ONCE}`;
    const [access] = await tx<{ tenants: TenantId[]; inMs: number | null }[]>`
      SELECT ARRAY(SELECT DISTINCT tenant_id FROM (
               SELECT tenant_id FROM leases WHERE kind = 'access' AND state <> 'ended' AND due_at <= (SELECT bulla.now())
               ORDER BY due_at LIMIT ${ACCESS_LOOKED_AT}) AS due LIMIT ${TENANTS_AT_ONCE}) AS tenants,
             (SELECT extract(epoch FROM min(due_at) - bulla.now()) * 1000 FROM (
               SELECT due_at FROM leases WHERE kind = 'access' AND state <> 'ended' AND due_at > (SELECT bulla.now())
               ORDER BY due_at LIMIT 1) AS next)::double precision AS "inMs"`;
    const removable = await tx<{ tenant: TenantId }[]>`
      SELECT DISTINCT tenant_id AS tenant FROM (
        SELECT tenant_id FROM leases WHERE state = 'ended' AND due_at <= (SELECT bulla.now()) ORDER BY due_at LIMIT ${REMOVED_AT_ONCE}) AS ended`;
    const later = [...first, ...accounts, ...roots].filter(({ inMs }) => inMs > 0).map(({ inMs }) => inMs);
    return {
      due: first.filter(({ inMs }) => inMs <= 0),
      accounts: accounts.filter(({ inMs }) => inMs <= 0),
      roots: roots.filter(({ inMs }) => inMs <= 0),
      nextInMs: Math.max(0, Math.min(paused.againMs, access!.inMs ?? LOOK_MS, LOOK_MS, ...later)),
      access: access!.tenants,
      removable: removable.map(({ tenant }) => tenant),
    };
  });
}
