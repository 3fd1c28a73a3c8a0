/**
 * Rounds: what arrives while a round is under way goes together in the next one, so that many share its statements and
 * its fsync. At most two overlap: one decides while the other commits.
 */
import type { Vault } from '../vault.ts';
import type { Waiting } from './deadline.ts';

export type Rounds<M extends Waiting> = {
  /** Those who are in no round yet, in the order of their arrival. */
  readonly waiting: M[];
  readonly add: (member: M) => void;
};

const ROUNDS_AT_ONCE = 2;
/** Longer than this nobody waits for a round under way that is larger. */
const PATIENCE_MS = 10;

/** From the front of a queue: what weighs no more than `most` together, and one at least. */
export function takeUpTo<M>(queue: M[], most: number, weightOf: (member: M) => number): M[] {
  let weight = 0;
  const end = queue.findIndex((member, i) => {
    weight += weightOf(member);
    return i > 0 && weight > most;
  });
  return queue.splice(0, end === -1 ? queue.length : end);
}

/** `run` settles all of its members, who weigh no more than `most` together or are one, and never throws. */
export function createRounds<M extends Waiting>(
  { clock }: Vault,
  most: number,
  run: (members: readonly M[]) => Promise<void>,
  weightOf: (member: M) => number = () => 1,
): Rounds<M> {
  const waiting: M[] = [];
  /** Those who look after the queue; rounds under way, and the members in them. */
  let pumps = 0;
  let rounds = 0;
  let members = 0;
  /** Runs while few wait for the round under way. */
  let patience: NodeJS.Timeout | undefined;

  /**
   * Whether what waits is to begin now. Beside a round under way, few wait for its end rather than pay for one of their
   * own: its statements and its fsync cost the same for one member as for a hundred.
   */
  const isWorthARound = () =>
    rounds === 0 || waiting.length >= members || clock.monotonicMs() - waiting[0]!.arrivedMs >= PATIENCE_MS;

  const pump = async () => {
    pumps += 1;
    // Let everything that has already arrived join.
    await new Promise(setImmediate);
    while (waiting.length > 0 && isWorthARound()) {
      const taken = takeUpTo(waiting, most, weightOf);
      rounds += 1;
      members += taken.length;
      await run(taken);
      members -= taken.length;
      rounds -= 1;
    }
    pumps -= 1;
    // Few are left, who wait for the other round: not for ever.
    if (waiting.length > 0) beginOrWait();
  };

  const beginOrWait = () => {
    if (isWorthARound()) void pump();
    // The round under way may hang.
    else if (patience === undefined) patience = setTimeout(endPatience, PATIENCE_MS).unref();
  };

  const endPatience = () => {
    patience = undefined;
    if (waiting.length > 0 && pumps < ROUNDS_AT_ONCE) beginOrWait();
  };

  return {
    waiting,
    add: (member) => {
      waiting.push(member);
      if (pumps < ROUNDS_AT_ONCE) beginOrWait();
    },
  };
}
