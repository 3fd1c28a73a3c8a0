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
/** Fewer are not halved: a second round would cost more than waiting for the first to commit. */
const HALVED_MIN = 32;
/** After so many turns of the event loop without anybody new, nobody is expected. */
const QUIET_TURNS = 3;
/** Where a turn takes long, because others keep the loop busy, nobody is expected for longer. */
const GATHERING_MS_MAX = 2;
/** How many there are is known from so many rounds, and as many before. */
const REMEMBERED_ROUNDS = 32;
/** Longer than this nobody waits for a round under way that is larger. */
const PATIENCE_MS = 10;

/** From the front of a queue: at most `count`, who weigh no more than `most` together, and one at least. */
export function takeUpTo<M>(
  queue: M[],
  most: number,
  weightOf: (member: M) => number,
  count: number = queue.length,
): M[] {
  let weight = 0;
  const end = queue.findIndex((member, i) => {
    weight += weightOf(member);
    return i > 0 && (i >= count || weight > most);
  });
  return queue.splice(0, end === -1 ? queue.length : end);
}

export type RoundOptions<M> = {
  readonly weightOf?: (member: M) => number;
  /** Of many, a round takes half: two that do not wait for each other overlap best when they are as large. */
  readonly inHalves?: true;
};

/** `run` settles all of its members, who weigh no more than `most` together or are one, and never throws. */
export function createRounds<M extends Waiting>(
  { clock }: Vault,
  most: number,
  run: (members: readonly M[]) => Promise<void>,
  { weightOf = () => 1, inHalves }: RoundOptions<M> = {},
): Rounds<M> {
  const waiting: M[] = [];
  /** Those who look after the queue; rounds under way, and the members in them. */
  let pumps = 0;
  let rounds = 0;
  let members = 0;
  /** How many there were at most at once, in rounds and waiting: lately, and in the rounds counted since. */
  let crowd = 0;
  let peak = 0;
  let counted = 0;
  /** Runs while few wait for the round under way. */
  let patience: NodeJS.Timeout | undefined;

  /**
   * Whether what waits is to begin now. Beside a round under way, few wait for its end rather than pay for one of their
   * own: its statements and its fsync cost the same for one member as for a hundred.
   */
  const isWorthARound = () =>
    rounds === 0 || waiting.length >= members || clock.monotonicMs() - waiting[0]!.arrivedMs >= PATIENCE_MS;

  const share = () => (inHalves && crowd >= HALVED_MIN ? Math.ceil(crowd / 2) : Infinity);

  /** Called before each round: who has gone is not expected for ever. */
  const forget = () => {
    counted += 1;
    if (counted < REMEMBERED_ROUNDS) return;
    crowd = peak;
    peak = waiting.length + members;
    counted = 0;
  };

  const isComplete = () => waiting.length >= Math.min(share(), crowd - members);

  /** Lets everything join that has already arrived, and who else is expected, as long as somebody still comes. */
  const gather = async () => {
    forget();
    if (waiting.length >= share()) return;
    const untilMs = clock.monotonicMs() + GATHERING_MS_MAX;
    let quiet = 0;
    do {
      const before = waiting.length;
      // The first ends with what the last poll of the sockets brought, the next with what another one brings.
      await new Promise(setImmediate);
      quiet = waiting.length > before ? 0 : quiet + 1;
    } while (quiet < QUIET_TURNS && !isComplete() && clock.monotonicMs() < untilMs);
  };

  const pump = async () => {
    pumps += 1;
    while (waiting.length > 0 && isWorthARound()) {
      await gather();
      // The other round may have taken them meanwhile.
      if (waiting.length === 0 || !isWorthARound()) continue;
      const taken = takeUpTo(waiting, most, weightOf, share());
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
      peak = Math.max(peak, waiting.length + members);
      crowd = Math.max(crowd, peak);
      if (pumps < ROUNDS_AT_ONCE) beginOrWait();
    },
  };
}
