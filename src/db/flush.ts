/**
 * Group commit: transactions beside each other commit without waiting for the disk, so that what they have locked is
 * free at once, and then wait for one flush together. PostgreSQL writes its log in order: when a later transaction is on
 * the disk (and at a synchronous standby), all before it are.
 */
import { type DatabaseOptions, drop, type Lane, openLane } from './lane.ts';

/** A connection that has flushed, and when the server at its other end began. */
export type Standing = { readonly lane: Lane; readonly server: string };

export type Flusher = {
  /**
   * The connection that flushes; undefined while there is none, and then one is made. To be asked before a commit that is to
   * share: a server that came back without the commit, or another in its place, would say of its own log that it is flushed.
   */
  readonly standing: () => Standing | undefined;
  /**
   * Resolves when all that was committed before the call, at the server of `by`, is durable. Throws when that is not known
   * within `leftMs`, or never will be because `by` was lost.
   */
  readonly flushed: (by: Standing, leftMs: number) => Promise<void>;
  readonly close: () => Promise<void>;
};

/** Writes next to nothing on a lane and waits for the disk. */
export async function flushOn(lane: Lane): Promise<string> {
  const [row] = await lane.sql<{ server: string }[]>`
    SELECT pg_postmaster_start_time()::text AS server, pg_logical_emit_message(true, 'bulla', '')`;
  if (lane.dead) throw new Error('the connection was lost around a flush');
  return row!.server;
}

export function createFlusher(options: DatabaseOptions): Flusher {
  let lane: Lane | undefined;
  let standing: Standing | undefined;
  let closed = false;
  let running: Promise<unknown> = Promise.resolve();
  let next: Promise<Lane> | undefined;
  /** On a connection of its own, which others cannot use up. */
  const flush = async () => {
    if (closed) throw new Error('the vault is stopping');
    if (lane?.dead !== false) lane = openLane(options);
    const mine = lane;
    const timer = setTimeout(() => drop(mine), options.deadlineMs);
    try {
      const server = await flushOn(mine);
      if (standing?.lane !== mine) standing = { lane: mine, server };
      return mine;
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
    standing: () => {
      if (standing?.lane.dead === false) return standing;
      next ??= running.then(begin);
      next.catch(() => undefined);
      return undefined;
    },
    flushed: async (by, leftMs) => {
      // What runs may have begun too early; who comes meanwhile shares the one after it.
      next ??= running.then(begin);
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error('the flush took too long')), Math.max(1, leftMs));
      });
      const lane = await Promise.race([next, late]).finally(() => clearTimeout(timer));
      if (lane !== by.lane) throw new Error('the connection that flushes was lost');
    },
    close: async () => {
      closed = true;
      await lane?.sql.end({ timeout: 1 });
    },
  };
}
