/**
 * What the first process of a server and its workers say to each other, over the channel that Node makes between a process
 * and its child: nobody else can reach it, and nothing of it is an argument or stands in an environment.
 *
 *     worker ──ready, failed, wake, signed, halt──▶ first
 *     first ──look, halt, stop──▶ worker
 *     either ──ask──▶ the other ──answer──▶ either
 */
import type { SignedCheckpoint } from '../audit/checkpoint.ts';
import type { Config } from '../config.ts';
import type { Endpoint } from '../db/database.ts';
import { type ErrorCode, VaultError } from '../errors.ts';

/** How to come to the database as the role that serves. The first process keeps it running where it is the embedded one. */
export type Reach = { readonly target: string | Endpoint; readonly setRole: boolean };

/** All that a worker needs to be one, and asks for first: what is sent before it listens is lost. */
export type Begin = Reach & {
  /** From 1; who takes the place of one that died has its number. */
  readonly number: number;
  /** With its share of what is set for all. */
  readonly config: Config;
  readonly dataDir: string;
  /** Why the server serves no secret any more, where it has halted. */
  readonly halted: string | undefined;
};

/** `opened`: once the first process has its keys and has compared the marks. `renewal`: what is wrong with it. */
export type Question = 'begin' | 'opened' | 'renewal' | 'metrics';

type Ask = { readonly kind: 'ask'; readonly id: number; readonly what: Question };
type Answer = {
  readonly kind: 'answer';
  readonly id: number;
  readonly value?: unknown;
  readonly error?: { readonly code: ErrorCode; readonly message: string };
};

export type ToWorker =
  /** At the certificate. */
  { readonly kind: 'look' } | { readonly kind: 'halt'; readonly reason: string } | { readonly kind: 'stop' };

export type ToFirst =
  | { readonly kind: 'ready'; readonly address: string }
  | { readonly kind: 'failed'; readonly sentence: string }
  | { readonly kind: 'wake'; readonly whom: 'jobs' }
  | { readonly kind: 'wake'; readonly whom: 'sweeper'; readonly inMs: number }
  | { readonly kind: 'signed'; readonly checkpoints: readonly SignedCheckpoint[] }
  | { readonly kind: 'halt'; readonly reason: string };

export type Channel<Out, In> = {
  /** Resolves when it is sent, or when nobody is there any more. */
  readonly tell: (message: Out) => Promise<void>;
  /** Rejects with what the other side threw, or with `unavailable` when it says nothing for so long. */
  readonly ask: (what: Question, withinMs?: number) => Promise<unknown>;
  /** To be called with everything that comes; gives what is for the caller. */
  readonly hear: (message: unknown) => In | undefined;
};

type Send = (message: unknown, done: (error: Error | null) => void) => unknown;

export function openChannel<Out, In>(
  send: Send,
  answers: Readonly<Partial<Record<Question, () => Promise<unknown>>>>,
): Channel<Out, In> {
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let count = 0;
  const tell = (message: Out | Ask | Answer) => new Promise<void>((resolve) => void send(message, () => resolve()));
  const reply = async ({ id, what }: Ask) => {
    try {
      await tell({ kind: 'answer', id, value: await answers[what]?.() });
    } catch (error) {
      const { code, message } = error instanceof VaultError ? error : silence();
      await tell({ kind: 'answer', id, error: { code, message } });
    }
  };
  return {
    tell,
    ask: async (what, withinMs) => {
      count += 1;
      const id = count;
      const answered = new Promise<unknown>((resolve, reject) => waiting.set(id, { resolve, reject }));
      const late = () => waiting.get(id)?.reject(silence());
      const timer = withinMs === undefined ? undefined : setTimeout(late, withinMs);
      void tell({ kind: 'ask', id, what });
      try {
        return await answered;
      } finally {
        clearTimeout(timer);
        waiting.delete(id);
      }
    },
    hear: (message) => {
      // The package that counts rates uses the same channel.
      if (typeof message !== 'object' || message === null || !('kind' in message)) return undefined;
      if (message.kind === 'ask') {
        void reply(message as Ask);
        return undefined;
      }
      if (message.kind !== 'answer') return message as In;
      const { id, value, error } = message as Answer;
      if (error) waiting.get(id)?.reject(new VaultError(error.code, error.message));
      else waiting.get(id)?.resolve(value);
      return undefined;
    },
  };
}

function silence(): VaultError {
  return new VaultError('unavailable', 'Another process of this server did not answer: see its log.');
}
