/**
 * How a process that may hold a secret ends: in order, for a reason that people are told, or by an error that nobody
 * foresaw.
 */
import type { Logger } from 'pino';
import { VaultError } from '../errors.ts';

/** What is to be undone at the end, the last first. */
export type Down = (() => Promise<void>)[];

export async function takeDown(down: Down, log: Logger): Promise<void> {
  for (const step of down.reverse()) await step().catch((error) => log.error({ err: error }, 'while stopping'));
}

/** Why a start failed. What is not meant for people goes to the log. */
export function sentenceOf(error: unknown, log: Logger): string {
  if (error instanceof VaultError) return error.message;
  log.fatal({ err: error }, 'start failed');
  return 'could not start because of an error of its own; it is in the log.';
}

/**
 * First of all. An error that nobody foresaw is one sentence and never a stack, because a stack or a message may quote what
 * the code was working on (T-222).
 */
export function trapFaults(): void {
  // Node opens its debugger on SIGUSR1, on a port that any user of the machine can reach (T-127).
  process.on('SIGUSR1', () => {});
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      const kind = error instanceof Error ? error.name : typeof error;
      process.stderr.write(`bulla: ended by an error that nobody foresaw (${kind}).\n`);
      process.exit(1);
    });
  }
}
