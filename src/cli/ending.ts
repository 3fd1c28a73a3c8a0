/**
 * How a process that may hold a secret ends: in order, for a reason that people are told, or by an error that nobody
 * foresaw.
 */
import type { Logger } from 'pino';
import { VaultError } from '../errors.ts';

/** What is to be undone at the end, the last first. */
export type Down = (() => Promise<void>)[];

const STEP_MS = 60_000;

/** Each step ends within `stepMs`, or is left behind. */
export async function takeDown(down: Down, log: Logger, stepMs: number = STEP_MS): Promise<void> {
  for (const step of down.reverse()) {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`a step did not end within ${stepMs} ms`)), stepMs);
    });
    await Promise.race([step(), late]).catch((error) => log.error({ err: error }, 'while stopping'));
    clearTimeout(timer);
  }
}

const LEFT_MS = 1_000;

/** For a process that has taken everything down: what a library still holds keeps it alive for a moment and no longer. */
export function exitSoon(): void {
  setTimeout(() => process.exit(), LEFT_MS).unref();
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
