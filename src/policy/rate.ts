/**
 * How fast the accounts of a tenant may ask, where its operators have said so.
 *
 * Counted once a request, after its token has proven whose it is, so that nobody uses up what is another's; by each node
 * for itself: with n nodes a tenant has up to n times as much. Nothing is paid where nothing is set. A request
 * that is turned away is counted in the summaries of the log and has no entry of its own: a flood must not become one
 * of entries.
 */
import { RateLimiterRes } from 'rate-limiter-flexible';
import { VaultError } from '../errors.ts';
import { createRateLimiter, type RateLimiter } from '../rate-limiter.ts';
import type { Vault } from '../vault.ts';
import type { Call } from './access.ts';

export type Rates = {
  readonly tenantId: string;
  readonly userId: string;
  /** Requests a second; null: any number. */
  readonly tenantRate: number | null;
  readonly accountRate: number | null;
};

const limiters = new WeakMap<Vault, Map<number, RateLimiter>>();
const counted = new WeakSet<Call>();

export function hasRate({ tenantRate, accountRate }: Rates): boolean {
  return tenantRate !== null || accountRate !== null;
}

/** Undefined when the request may go on. A request that is decided again is not counted again. */
export async function overRate(vault: Vault, rates: Rates, call: Call): Promise<VaultError | undefined> {
  if (counted.has(call)) return undefined;
  counted.add(call);
  const { tenantId, userId, tenantRate, accountRate } = rates;
  const account = accountRate === null ? undefined : await consume(vault, accountRate, `${tenantId}/${userId}`);
  return account ?? (tenantRate === null ? undefined : await consume(vault, tenantRate, tenantId));
}

async function consume(vault: Vault, perSecond: number, key: string): Promise<VaultError | undefined> {
  try {
    await limiterOf(vault, perSecond).consume(key);
    return undefined;
  } catch (outcome) {
    if (!(outcome instanceof RateLimiterRes)) throw outcome;
    return new VaultError('too_many_requests', `At most ${perSecond} requests a second are allowed; try again.`, {
      retryAfterSeconds: Math.max(1, Math.ceil(outcome.msBeforeNext / 1000)),
    });
  }
}

/** One for each rate that is set somewhere: its keys are whose it is. */
function limiterOf(vault: Vault, perSecond: number): RateLimiter {
  const known = limiters.get(vault) ?? new Map<number, RateLimiter>();
  limiters.set(vault, known);
  const limiter =
    known.get(perSecond) ?? createRateLimiter(vault.config, `rate-${perSecond}`, { points: perSecond, duration: 1 });
  known.set(perSecond, limiter);
  return limiter;
}
