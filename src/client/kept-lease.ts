/**
 * A lease that is kept fresh: renewed in the background, with the token that holds it, and followed by the next one
 * before it reaches its maximum, so that a program never meets a credential that has ended.
 *
 *     const kept = await bulla.keepLease({ role: 'db/reporting' }, async ({ credential }) => {
 *       const old = pool;
 *       pool = connect(credential);
 *       await old?.end();
 *     });
 *
 * The callback gets each new credential; when it has returned, the lease before is revoked. Times are measured by the
 * server's own answers, so that clocks may differ. No outage ends it: it reports the error and tries again.
 */
import { performance } from 'node:perf_hooks';
import type { Auth } from './auth.ts';
import { BullaError } from './error.ts';
import type { Leases } from './lease.ts';
import type { CreateLeaseBody, Lease, TakenLease } from './types.ts';

export type OnCredential = (lease: TakenLease) => void | Promise<void>;

export type KeepOptions = {
  /** Every failed renewal, and every error of the callback. */
  readonly onError?: ((error: unknown) => void) | undefined;
  /**
   * The lease nears its maximum. Without `next` it will end then, at `expires_at`; with it, the next credential is on its
   * way to the callback.
   */
  readonly onEnding?: ((lease: Lease) => void) | undefined;
  /** Takes the next lease before one ends, true by default; an account has one holder at a time, so there it cannot. */
  readonly next?: boolean | undefined;
  /** Renews the token too, because its leases end with it; true by default. */
  readonly renewToken?: boolean | undefined;
};

export type KeptLease = {
  /** As it is now. */
  readonly lease: () => Lease;
  /** Stops renewing, and revokes the lease. Rejects when it could not be revoked; it then ends by its time. */
  close(): Promise<void>;
};

/** Of a lease's time, when it is renewed: a third is left for outages. */
const RENEWED_AFTER = 2 / 3;
const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 30_000;
const WAIT_MS_MAX = 2 ** 31 - 1;

/** A lease and when it was heard of, on our own clock. */
type Held = { readonly lease: Lease; readonly heardMs: number };

/** Rejects when the first lease is not to be had, or the callback does not take it. */
export async function keepLease(
  leases: Leases,
  auth: Auth,
  wanted: CreateLeaseBody,
  onCredential: OnCredential,
  options: KeepOptions = {},
): Promise<KeptLease> {
  const { next = wanted.account === undefined, renewToken = true } = options;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  let failures = 0;
  let isTold = false;
  let running: Promise<void> = Promise.resolve();
  const take = async (): Promise<Held> => {
    const lease = await leases.take(wanted);
    try {
      await onCredential(lease);
    } catch (error) {
      await leases.revoke(lease.id).catch(() => undefined);
      throw error;
    }
    return { lease, heardMs: performance.now() };
  };
  let held = await take();
  const follow = async () => {
    const before = held;
    if (!isTold) options.onEnding?.(before.lease);
    isTold = true;
    if (!next) return;
    held = await take();
    isTold = false;
    await leases.revoke(before.lease.id).catch((error) => options.onError?.(error));
  };
  const renew = async () => {
    const { lease } = held;
    // One that cannot be renewed in full any more, or that ended behind our back, is followed.
    if (!lease.renewable) return follow();
    try {
      held = { lease: await leases.renew(lease.id, { ttl: wanted.ttl }), heardMs: performance.now() };
    } catch (error) {
      if (!(error instanceof BullaError) || !ENDED.has(error.code)) throw error;
      await follow();
    }
  };
  let tokenLeftMs = Number.POSITIVE_INFINITY;
  const renewOwnToken = async () => {
    try {
      const { expires_at } = await auth.renew();
      // The server's time of the last answer about the lease, and what has passed here since.
      const serverMs = Date.parse(heardAt(held.lease)) + (performance.now() - held.heardMs);
      tokenLeftMs = Date.parse(expires_at) - serverMs;
    } catch (error) {
      if (!(error instanceof BullaError) || error.code !== 'conflict') throw error;
      // A token that cannot be renewed ends when it ends.
      tokenLeftMs = Number.POSITIVE_INFINITY;
    }
  };
  const round = async () => {
    try {
      await renew();
      if (renewToken) await renewOwnToken();
      failures = 0;
    } catch (error) {
      failures += 1;
      if (!closed) options.onError?.(error);
    }
    plan();
  };
  const plan = () => {
    if (closed || (isTold && !next)) return;
    const leftMs = Math.min(lifeMs(held.lease), tokenLeftMs);
    const dueMs = leftMs * RENEWED_AFTER * (1 - Math.random() / 20) - (performance.now() - held.heardMs);
    const retryMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(failures, 8));
    const waitMs = Math.min(WAIT_MS_MAX, failures > 0 ? retryMs : Math.max(RETRY_MS_MIN, dueMs));
    timer = setTimeout(() => {
      running = round();
    }, waitMs);
    timer.unref();
  };
  try {
    if (renewToken) await renewOwnToken();
  } catch (error) {
    options.onError?.(error);
  }
  plan();
  return {
    lease: () => held.lease,
    close: async () => {
      closed = true;
      clearTimeout(timer);
      // One that is just being followed is followed first, so that no lease is left behind.
      await running;
      await leases.revoke(held.lease.id);
    },
  };
}

const ENDED: ReadonlySet<string> = new Set(['conflict', 'not_found', 'forbidden']);

/** When the server last counted its time. */
const heardAt = (lease: Lease) => lease.renewed_at ?? lease.issued_at;
const lifeMs = (lease: Lease) => Date.parse(lease.expires_at) - Date.parse(heardAt(lease));
