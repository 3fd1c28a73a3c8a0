/**
 * Watching a prefix: conditional polling that calls back with what changed.
 *
 * A poll that finds nothing new costs one 304. A change is delivered until the callback has taken it without throwing,
 * and callbacks never overlap. No outage ends a watch: it reports the error, backs off and goes on; only close() ends it.
 */
import type { CallOptions, Connection } from './connection.ts';
import { fetchIfChanged, type Secret } from './secret.ts';

export type Change = {
  /** New, or another version than before. The first change has all of them. */
  readonly changed: readonly Secret[];
  /** Paths that are gone, or no longer permitted. */
  readonly removed: readonly string[];
  /** Everything under the prefix, by path, after the change. */
  readonly secrets: ReadonlyMap<string, Secret>;
};

export type OnChange = (change: Change) => void | Promise<void>;

export type WatchOptions = {
  /** Between two polls, 30 s by default. Each wait is up to a tenth shorter, so that many clients spread. */
  readonly intervalMs?: number;
  /** Every failed poll and every error of the callback. */
  readonly onError?: (error: unknown) => void;
  /** For each poll. */
  readonly timeoutMs?: number;
};

export type Watch = {
  /** Resolves when the first change has been taken. Never rejects: an outage at the start is waited out. */
  readonly ready: Promise<void>;
  close(): void;
};

const INTERVAL_MS_DEFAULT = 30_000;
const INTERVAL_MS_MIN = 100;
/** How far the wait grows while polls fail, in intervals. */
const BACKOFF_INTERVALS_MAX = 8;

export function startWatch(connection: Connection, prefix: string, onChange: OnChange, options: WatchOptions): Watch {
  const intervalMs = Math.max(INTERVAL_MS_MIN, options.intervalMs ?? INTERVAL_MS_DEFAULT);
  const ended = new AbortController();
  const state: State = { etag: undefined, secrets: new Map(), delivered: false };
  const call: CallOptions = { signal: ended.signal, timeoutMs: options.timeoutMs };
  let timer: NodeJS.Timeout | undefined;
  let failures = 0;
  let isReady: () => void = () => {};
  const ready = new Promise<void>((resolve) => {
    isReady = resolve;
  });

  const round = async (): Promise<void> => {
    try {
      await poll(connection, prefix, onChange, state, call);
      failures = 0;
      isReady();
    } catch (error) {
      failures += 1;
      if (!ended.signal.aborted) options.onError?.(error);
    }
    if (ended.signal.aborted) return;
    timer = setTimeout(round, nextWaitMs(intervalMs, failures));
  };
  void round();
  return {
    ready,
    close: () => {
      ended.abort();
      clearTimeout(timer);
    },
  };
}

type State = { etag: string | undefined; secrets: Map<string, Secret>; delivered: boolean };

async function poll(
  connection: Connection,
  prefix: string,
  onChange: OnChange,
  state: State,
  options: CallOptions,
): Promise<void> {
  const fetched = await fetchIfChanged(connection, { prefixes: [prefix] }, state.etag, options);
  if (fetched === undefined) return;
  const secrets = new Map(fetched.secrets.map((secret) => [secret.path, secret]));
  const changed = fetched.secrets.filter((secret) => !isSame(secret, state.secrets.get(secret.path)));
  const removed = [...state.secrets.keys()].filter((path) => !secrets.has(path));
  if (changed.length > 0 || removed.length > 0 || !state.delivered) await onChange({ changed, removed, secrets });
  state.etag = fetched.etag;
  state.secrets = secrets;
  state.delivered = true;
}

/** A path can be given up and used again, so a version number alone does not name a version. */
function isSame(secret: Secret, before: Secret | undefined): boolean {
  return before !== undefined && before.version === secret.version && before.created_at === secret.created_at;
}

function nextWaitMs(intervalMs: number, failures: number): number {
  const factor = failures === 0 ? 1 : Math.min(BACKOFF_INTERVALS_MAX, 2 ** (failures - 1));
  return intervalMs * factor * (1 - Math.random() / 10);
}
