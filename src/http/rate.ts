/**
 * How much one source may ask without any token of ours behind it, and, where it is set, how fast it may ask at all.
 *
 * By each node for itself. A source is an address, of IPv6 its /64: whoever has one has all of them. A request pays
 * one look into a map; what it adds is counted when its answer has gone. Loopback is never limited, nor is a source
 * that may be a proxy which nobody has listed: behind it everybody would share one allowance.
 */
import { RateLimiterRes } from 'rate-limiter-flexible';
import type { Config } from '../config.ts';
import { VaultError } from '../errors.ts';
import { networkOf, parseAddress } from '../policy/cidr.ts';
import { createRateLimiter, type RateLimiter } from '../rate-limiter.ts';
import { isListed, isLoopback } from './source.ts';

export type SourceLimits = {
  /** Throws `too_many_requests`. */
  readonly check: (source: string) => void;
  /** An answer has gone. `stranger`: no token of ours stood behind the request, and it was refused. */
  readonly count: (source: string, stranger: boolean) => void;
};

const REFUSALS_SECONDS = 60;
const BLOCKED_MAX = 100_000;

export function createSourceLimits(config: Config, nowMs: () => number): SourceLimits {
  const { sourceRefusalsPerMinute, sourceRequestsPerSecond } = config;
  const limiter = (name: string, points: number, duration: number) =>
    points === 0 ? undefined : createRateLimiter(config, name, { points, duration });
  // 0: any number.
  const refusals = limiter('source-refusals', sourceRefusalsPerMinute, REFUSALS_SECONDS);
  const requests = limiter('source-requests', sourceRequestsPerSecond, 1);
  const blocked = new Map<string, number>();
  const spend = async (points: RateLimiter | undefined, key: string) => {
    const spent = await points?.consume(key).catch((outcome: unknown) => {
      if (outcome instanceof RateLimiterRes) return outcome;
      // Nobody waits for this count: one that could not be made is none.
      if (outcome instanceof VaultError) return undefined;
      throw outcome;
    });
    if (spent === undefined || spent.remainingPoints > 0) return;
    if (blocked.size >= BLOCKED_MAX) blocked.clear();
    blocked.set(key, nowMs() + spent.msBeforeNext);
  };
  return {
    check: (source) => {
      if (blocked.size === 0) return;
      const key = networkOf(source);
      const leftMs = (blocked.get(key) ?? 0) - nowMs();
      if (leftMs > 0) throw tooMany(leftMs);
      blocked.delete(key);
    },
    count: (source, stranger) => {
      if ((!stranger && !requests) || !isClient(source, config)) return;
      const key = networkOf(source);
      void spend(requests, key);
      if (stranger) void spend(refusals, key);
    },
  };
}

function tooMany(leftMs: number): VaultError {
  return new VaultError('too_many_requests', 'Too many requests from this address; try again later.', {
    retryAfterSeconds: Math.max(1, Math.ceil(leftMs / 1000)),
  });
}

function isClient(source: string, { plainHttpBehindProxy, trustedProxies }: Config): boolean {
  if (isLoopback(source) || (plainHttpBehindProxy && trustedProxies.length === 0)) return false;
  return !isListed(parseAddress(source), trustedProxies);
}
