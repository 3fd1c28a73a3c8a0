/**
 * The vault's log: JSON lines on standard error, each written before its caller goes on.
 *
 * A log that cannot be written (a full disk, a reader that has gone) never stops the vault, whose record is the audit
 * log: lines wait up to a bound, beyond it they are dropped and counted, and the count is the next line that gets out.
 */
import { type Logger, pino } from 'pino';
import type { Config } from '../config.ts';

const STDERR = 2;
const WAITING_BYTES_MAX = 1024 * 1024;

export function openLog(config: Config): Logger {
  const destination = pino.destination({ dest: STDERR, sync: true, maxLength: WAITING_BYTES_MAX });
  const log = pino({ level: config.logLevel, base: undefined }, destination);
  let dropped = 0;
  destination.on('error', () => undefined);
  destination.on('drop', () => {
    dropped += 1;
  });
  destination.on('write', () => {
    if (dropped === 0) return;
    const lines = dropped;
    dropped = 0;
    log.warn({ lines }, 'the log could not be written, and lines of it are lost');
  });
  return log;
}
