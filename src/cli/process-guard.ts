/**
 * What the serving process does about itself before it holds a secret: nothing that it writes is for others to read,
 * no core file of it holds memory (T-224), and nobody debugs it (T-127).
 *
 * It changes this process only; the children that it starts inherit the mask and the filter.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { url } from 'node:inspector';
import type { Logger } from 'pino';
import { VaultError } from '../errors.ts';

/** Which kinds of memory a core file of this process gets: none (core(5)). */
const CORE_FILTER = '/proc/self/coredump_filter';

/** Throws `invalid_request` when a debugger can reach this process already. */
export function guardProcess(log: Logger): void {
  process.umask(0o077);
  if (url() !== undefined) {
    throw new VaultError(
      'invalid_request',
      'A debugger can reach this process and read every secret: start it without --inspect, in NODE_OPTIONS too.',
    );
  }
  emptyCoreFiles(log);
  // Whoever read what it prints may be gone; that is no reason to stop serving.
  for (const stream of [process.stdout, process.stderr])
    stream.removeAllListeners('error').on('error', () => undefined);
  // Reports hold the environment and the arguments, and are asked for by a signal or written by a crash.
  if (process.report) {
    process.report.reportOnSignal = false;
    process.report.reportOnFatalError = false;
    process.report.reportOnUncaughtException = false;
  }
}

function emptyCoreFiles(log: Logger): void {
  if (!existsSync(CORE_FILTER)) return;
  try {
    writeFileSync(CORE_FILTER, '0');
  } catch (error) {
    log.warn({ err: error }, 'a core file of this process would hold secrets: start it with ulimit -c 0');
  }
}
