/**
 * The vault's log: JSON lines on standard error, each written before its caller goes on.
 *
 * A log that cannot be written (a full disk, a reader that has gone) never stops the vault, whose record is the audit
 * log: lines wait up to a bound, beyond it they are dropped and counted, and the next line that gets out says how many.
 */
import { writeSync } from 'node:fs';
import { type Logger, pino } from 'pino';
import type { Config } from '../config.ts';

const STDERR = 2;
const WAITING_LINES_MAX = 1000;

/** `worker` is in every line of one. */
export function openLog(config: Config, worker?: number): Logger {
  const waiting: Buffer[] = [];
  let dropped = 0;
  const write = (line: string) => {
    if (waiting.length < WAITING_LINES_MAX) waiting.push(Buffer.from(line));
    else dropped += 1;
    if (!drain(waiting) || dropped === 0) return;
    const lines = dropped;
    dropped = 0;
    log.warn({ lines }, 'the log could not be written, and lines of it are lost');
  };
  const base = worker === undefined ? undefined : { worker };
  const log = pino({ level: config.logLevel, base }, { write });
  return log;
}

/** Writes what waits, as far as it can be written; whether that was all. */
function drain(waiting: Buffer[]): boolean {
  try {
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      const written = writeSync(STDERR, next);
      if (written === next.length) waiting.shift();
      else waiting[0] = next.subarray(written);
    }
    return true;
  } catch {
    // Whatever the system's reason is, the line stays where it is and the next one tries again.
    return false;
  }
}
