/**
 * The order in which a node's rounds of reads come to the heads of logs: one after the other, so that none finds a head busy
 * with another of ours. One that appends to the log that the round before is still appending to need not wait to hear of
 * that: it goes right behind it on the same lane, under the head that the other leaves if all is well.
 */
import type { Head } from '../audit/append.ts';
import type { UnderWay } from '../db/database.ts';
import type { Known } from './known.ts';

/** What a round has sent. */
export type Appending = {
  readonly known: Known;
  readonly on: UnderWay;
  /** The head as it leaves it behind, if it is written. */
  readonly next: Head;
  /** Its deadline: one with an earlier one does not go behind it, because the end of that would be its own. */
  readonly endMs: number;
};

export type Turn = {
  /** What the round before appends, as soon as it has sent that; undefined when it ends without. */
  readonly before: Promise<Appending | undefined>;
  /** All rounds before have ended. */
  readonly come: Promise<void>;
  readonly sent: (appending: Appending) => void;
  /** It may be ended before it comes, by a round that has lost its connection. */
  readonly end: () => void;
};

/** Gives what takes the next turn. */
export function createSuccession(): () => Turn {
  let before: Turn['before'] = Promise.resolve(undefined);
  let come: Turn['come'] = Promise.resolve();
  return () => {
    const sent = deferred<Appending | undefined>();
    const ended = deferred<void>();
    const end = () => {
      sent.resolve(undefined);
      ended.resolve();
    };
    const turn: Turn = { before, come, sent: sent.resolve, end };
    before = sent.promise;
    come = turn.come.then(() => ended.promise);
    return turn;
  };
}

function deferred<T>() {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
