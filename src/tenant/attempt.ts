/**
 * How often strangers may fail at unsealing before they are told to wait.
 *
 * Only failures count: what fits is taken however much noise there is around it. A failure beyond the limits is not
 * written down by itself, so that nobody fills the log; the next one that is written says how many were not.
 */
const PER_SOURCE = { burst: 10, everyMs: 6_000 } as const;
const ALL = { burst: 60, everyMs: 1_000 } as const;
const SOURCES_MAX = 10_000;

type Bucket = { left: number; atMs: number };

export type Attempts = {
  /** Whether a source may fail once more; it does not count yet. */
  readonly mayFail: (source: string) => boolean;
  /** Counts a failure. Undefined when it is beyond the limits, otherwise how many before it were not written down. */
  readonly failed: (source: string) => number | undefined;
};

export function newAttempts(nowMs: () => number): Attempts {
  const sources = new Map<string, Bucket>();
  const all: Bucket = { left: ALL.burst, atMs: nowMs() };
  let unwritten = 0;

  const bucketOf = (source: string): Bucket => {
    const bucket = sources.get(source) ?? { left: PER_SOURCE.burst, atMs: nowMs() };
    sources.delete(source);
    sources.set(source, bucket);
    if (sources.size > SOURCES_MAX) sources.delete(sources.keys().next().value!);
    return bucket;
  };
  const refill = (bucket: Bucket, { burst, everyMs }: { burst: number; everyMs: number }): Bucket => {
    const earned = (nowMs() - bucket.atMs) / everyMs;
    bucket.left = Math.min(burst, bucket.left + earned);
    bucket.atMs = nowMs();
    return bucket;
  };
  return {
    mayFail: (source) => refill(bucketOf(source), PER_SOURCE).left >= 1,
    failed: (source) => {
      const own = refill(bucketOf(source), PER_SOURCE);
      refill(all, ALL);
      if (own.left < 1 || all.left < 1) {
        unwritten += 1;
        return undefined;
      }
      own.left -= 1;
      all.left -= 1;
      const before = unwritten;
      unwritten = 0;
      return before;
    },
  };
}
