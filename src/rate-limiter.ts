/**
 * What counts how often something happened of late: in the memory of the process that serves alone, and where several
 * serve one port (BULLA_WORKERS), in the memory of the first process for all of them, so that nobody has more or less
 * for the worker that a connection fell to.
 */
import { RateLimiterCluster, RateLimiterClusterMaster, RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import type { Config } from './config.ts';
import { VaultError } from './errors.ts';

export type RateLimiter = {
  /** Rejects with a RateLimiterRes when there is nothing left, and with `unavailable` when nobody says so in time. */
  readonly consume: (key: string) => Promise<RateLimiterRes>;
};

/** How long the first process may take to say: it does nothing that is long. */
const ANSWER_MS_MAX = 2_000;

/** `name` tells the limiters of a process apart; `points` of one key in so many seconds. */
export function createRateLimiter(
  { workers }: Config,
  name: string,
  limit: { points: number; duration: number },
): RateLimiter {
  if (workers === 1) return new RateLimiterMemory(limit);
  const shared = new RateLimiterCluster({ ...limit, keyPrefix: name, timeoutMs: ANSWER_MS_MAX });
  return {
    consume: (key) =>
      shared.consume(key).catch((outcome: unknown) => {
        if (outcome instanceof RateLimiterRes) throw outcome;
        throw new VaultError('unavailable', 'The vault could not count this request; try again.', { cause: outcome });
      }),
  };
}

/** Counts for the workers, in the process that starts them, before it starts one. */
export function countForWorkers(): void {
  new RateLimiterClusterMaster();
}
