/**
 * Group commit: transactions beside each other commit without waiting for the disk, so that what they have locked is
 * free at once, and then wait for one flush together. PostgreSQL writes its log in order: when a later transaction is on
 * the disk (and at a synchronous standby), all before it are.
 */
import { type DatabaseOptions, drop, type Lane, openLane } from './lane.ts';

export type Flusher = {
  /** Resolves when all that was committed before the call is durable. Throws when that is not known within `leftMs`. */
  readonly flushed: (leftMs: number) => Promise<void>;
  readonly close: () => Promise<void>;
};

export function createFlusher(options: DatabaseOptions): Flusher {
  let lane: Lane | undefined;
  let running: Promise<void> = Promise.resolve();
  let next: Promise<void> | undefined;
  /** Writes next to nothing and waits for the disk. On a connection of its own, which others cannot use up. */
  const flush = async () => {
    if (lane?.dead !== false) lane = openLane(options);
    const mine = lane;
    const timer = setTimeout(() => drop(mine), options.deadlineMs);
    try {
      await mine.sql`SELECT pg_logical_emit_message(true, 'bulla', '')`;
    } catch (error) {
      drop(mine);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  };
  const begin = () => {
    next = undefined;
    const begun = flush();
    running = begun.catch(() => undefined);
    return begun;
  };
  return {
    flushed: async (leftMs) => {
      // What runs may have begun too early; who comes meanwhile shares the one after it.
      next ??= running.then(begin);
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error('the flush took too long')), Math.max(1, leftMs));
      });
      await Promise.race([next, late]).finally(() => clearTimeout(timer));
    },
    close: async () => {
      await lane?.sql.end({ timeout: 1 });
    },
  };
}
