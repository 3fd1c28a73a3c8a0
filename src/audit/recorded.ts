/**
 * Which requests have an entry, and how many have none.
 *
 * Every request that shows a token of ours or tries to log in has an entry with its id. What is left (strangers, broken
 * requests, guesses beyond some a minute from one source) is counted here, in bounded memory, and written as summaries
 * (summary.ts), so that a flood of garbage cannot fill the log and nothing is missing from its sums.
 */
import type { Vault } from '../vault.ts';
import type { Origin } from './entry.ts';

/** To be called once the entry is durable. */
export function markRecorded(origin: Origin): void {
  origin.recorded = true;
}

export function isRecorded(origin: Origin): boolean {
  return origin.recorded === true;
}

/** `code` is that of the answer, or `ok`. */
export type Count = { readonly source: string; readonly code: string; readonly count: number };

type Counts = { readonly unrecorded: Map<string, Count>; guesses: Map<string, number>; guessesSinceMs: number };

const perVault = new WeakMap<Vault, Counts>();

function countsOf(vault: Vault): Counts {
  const known = perVault.get(vault);
  if (known) return known;
  const made = { unrecorded: new Map(), guesses: new Map(), guessesSinceMs: vault.clock.monotonicMs() };
  perVault.set(vault, made);
  return made;
}

/** Beyond these, sources are counted together under the empty one. */
const SOURCES_MAX = 1000;

export function countUnrecorded(vault: Vault, source: string, code: string, count = 1): void {
  const { unrecorded } = countsOf(vault);
  const own = `${source} ${code}`;
  const key = unrecorded.has(own) || unrecorded.size < SOURCES_MAX ? own : ` ${code}`;
  const before = unrecorded.get(key);
  unrecorded.set(key, { source: key === own ? source : '', code, count: (before?.count ?? 0) + count });
}

/** What has been counted since the last time; the caller writes it, or gives it back with `countUnrecorded`. */
export function takeCounts(vault: Vault): Count[] {
  const { unrecorded } = countsOf(vault);
  const taken = [...unrecorded.values()];
  unrecorded.clear();
  return taken;
}

/** Whether there is anything but answered probes, which can wait. */
export function hasNews(vault: Vault): boolean {
  return [...countsOf(vault).unrecorded.values()].some(({ code }) => code !== 'ok');
}

const GUESSES_RECORDED_MAX = 10;
const GUESSES_WINDOW_MS = 60_000;

/** Whether one more failed login from a source has an entry of its own, rather than being counted. */
export function mayRecordGuess(vault: Vault, source: string): boolean {
  const counts = countsOf(vault);
  const nowMs = vault.clock.monotonicMs();
  if (nowMs - counts.guessesSinceMs >= GUESSES_WINDOW_MS) {
    counts.guesses.clear();
    counts.guessesSinceMs = nowMs;
  }
  const key = counts.guesses.has(source) || counts.guesses.size < SOURCES_MAX ? source : '';
  const guesses = (counts.guesses.get(key) ?? 0) + 1;
  counts.guesses.set(key, guesses);
  return guesses <= GUESSES_RECORDED_MAX;
}
