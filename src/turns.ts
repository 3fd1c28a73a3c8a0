/** Turns: a bound on how much of one kind of work runs at once; first come, first served. */

export type Turns = <T>(work: () => Promise<T>) => Promise<T>;

/** Runs what it is given when fewer than `most` run. */
export function createTurns(most: number): Turns {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (work) => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}
