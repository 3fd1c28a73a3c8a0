/**
 * How long a member of rounds may wait: it is answered within one request deadline of its first round, whatever rounds
 * follow, and not long after one round that hung. So a database that hangs is told to everybody in time.
 */
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';

export type Waiting = {
  /** By the monotonic clock, as all times here. */
  readonly arrivedMs: number;
  /** When its first round began. */
  begunMs: number | undefined;
  readonly reject: (error: unknown) => void;
};

/** A round that would have less than this part of the deadline is not begun. */
const WORTH_TRYING = 0.25;

const deadlineMsOf = (vault: Vault) => vault.config.requestDeadlineSeconds * 1000;

/**
 * Refuses those for whom too little is left after the rounds that they went through, and says what is left to the one
 * who began first: the round ends by then.
 */
export function refuseLate<M extends Waiting>(
  vault: Vault,
  members: readonly M[],
): { inTime: readonly M[]; leftMs: number } {
  const nowMs = vault.clock.monotonicMs();
  const latestMs = nowMs - deadlineMsOf(vault) * (1 - WORTH_TRYING);
  let firstMs = nowMs;
  const inTime = members.filter((member) => {
    member.begunMs ??= nowMs;
    if (member.begunMs < latestMs) member.reject(tooLate());
    else firstMs = Math.min(firstMs, member.begunMs);
    return member.begunMs >= latestMs;
  });
  return { inTime, leftMs: Math.ceil(deadlineMsOf(vault) - (nowMs - firstMs)) };
}

/** Whoever waited behind a round that hung has waited long enough: the next would hang as long again. */
export function refuseBehind(vault: Vault, queue: Waiting[]): void {
  const latestMs = vault.clock.monotonicMs() - deadlineMsOf(vault) * WORTH_TRYING;
  const late = queue.findIndex((member) => member.arrivedMs >= latestMs);
  for (const member of queue.splice(0, late === -1 ? queue.length : late)) member.reject(tooLate());
}

const tooLate = () =>
  new VaultError('unavailable', 'This could not be done and recorded in time; try again.', { retryAfterSeconds: 1 });
