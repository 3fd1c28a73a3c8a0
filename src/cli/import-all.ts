/** What every `bulla import …` does with all that it brings: several at once, beside a bar that says how far it is. */
import { BullaError } from '../client/index.ts';
import type { Cli } from './cli.ts';
import { createProgress } from './progress.ts';

/** As many as the vault stores together gladly, and a source answers beside its own work. */
const AT_ONCE = 8;

export type All<T> = {
  /** What the bar counts, in the plural. */
  readonly what: string;
  readonly total: number;
  readonly items: AsyncIterable<T> | Iterable<T>;
};

/**
 * Gives the results in the order of the items. The first failure ends it, when what is under way has ended; it says how
 * far the import came.
 */
export async function importAll<T, R>(
  { io }: Pick<Cli, 'io'>,
  { what, total, items }: All<T>,
  one: (item: T) => Promise<R>,
): Promise<R[]> {
  const progress = createProgress(io, what, total);
  const results: R[] = [];
  const waiting = iteratorOf(items);
  let begun = 0;
  let done = 0;
  let failed = false;
  const worker = async () => {
    while (!failed) {
      const next = await waiting.next();
      if (next.done) return;
      const place = begun++;
      results[place] = await one(next.value);
      done += 1;
      progress.show(done, done);
    }
  };
  const failing = async () => {
    try {
      await worker();
    } catch (error) {
      failed = true;
      throw interrupted(error, `${done} of ${total} ${what} are done`);
    }
  };
  try {
    const workers = await Promise.allSettled(Array.from({ length: AT_ONCE }, failing));
    for (const end of workers) if (end.status === 'rejected') throw end.reason;
  } finally {
    progress.end();
  }
  return results;
}

async function* iteratorOf<T>(items: All<T>['items']): AsyncGenerator<T, undefined, undefined> {
  yield* items;
}

function interrupted(error: unknown, far: string): unknown {
  if (!(error instanceof BullaError)) return error;
  const message = `${error.message} ${far}: run the same command again to go on.`;
  return new BullaError(error.code, message, { status: error.status, requestId: error.requestId, cause: error });
}
