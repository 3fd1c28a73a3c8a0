/** Waits for what a test needs to be so, and says what it was when it never is. */
import { setTimeout as sleep } from 'node:timers/promises';

export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  ms = 60_000,
): Promise<T> {
  for (const deadline = Date.now() + ms; ; await sleep(10)) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms for: ${what}`);
  }
}
