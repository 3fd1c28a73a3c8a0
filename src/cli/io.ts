/**
 * Standard input, output and error of the command line: questions, answers that do not show, and whole inputs.
 *
 * Secrets come in here and nowhere else: from a terminal without echo, from standard input or from a file, never from
 * the arguments, which every user of the machine can read (T-229). Questions go to standard error, so that standard
 * output holds nothing but results.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { BullaError } from '../client/index.ts';
import { VaultError } from '../errors.ts';

export type Io = {
  readonly stdin: Readable & { readonly isTTY?: boolean; setRawMode?(on: boolean): unknown };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
};

/** Waits when the reader is slower, so that memory does not grow with the output. */
export async function print(stream: Writable, text: string | Uint8Array): Promise<void> {
  if (!stream.write(text)) await once(stream, 'drain');
}

/** Asks one question after the other. Without a terminal each answer is the next line of standard input. */
export type Asker = {
  /** Somebody is there, who can be asked again. */
  readonly interactive: boolean;
  /** Does not show what is typed. */
  secret(question: string): Promise<string>;
  line(question: string): Promise<string>;
  /** A new secret: typed twice on a terminal. */
  newSecret(question: string): Promise<string>;
  /** To be called at the end, or standard input keeps the process running. */
  close(): void;
};

export function createAsker(io: Io): Asker {
  return io.stdin.isTTY ? terminalAsker(io) : pipeAsker(io);
}

function pipeAsker(io: Io): Asker {
  const lines = createInterface({ input: io.stdin, terminal: false });
  const iterator = lines[Symbol.asyncIterator]();
  const next = async (question: string): Promise<string> => {
    const { value, done } = await iterator.next();
    if (!done) return value;
    throw new VaultError(
      'invalid_request',
      `Standard input ended before the answer to "${question}"; give each on a line.`,
    );
  };
  return { interactive: false, secret: next, line: next, newSecret: next, close: () => lines.close() };
}

function terminalAsker(io: Io): Asker {
  const secret = (question: string) => ask(io, question, false);
  return {
    interactive: true,
    secret,
    line: (question) => ask(io, question, true),
    newSecret: async (question) => {
      const first = await secret(question);
      if (first === (await secret(`${question} (again)`))) return first;
      throw new VaultError('invalid_request', 'The two are not the same; nothing was changed.');
    },
    close: () => io.stdin.pause(),
  };
}

/** What terminals send for keys that have no character, such as arrows. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: that is what they are
const KEY_SEQUENCE = /\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Z])?/g;

async function ask(io: Io, question: string, show: boolean): Promise<string> {
  const { stdin, stderr } = io;
  stderr.write(`${question}: `);
  stdin.setRawMode?.(true);
  stdin.setEncoding('utf8');
  let answer: string[] = [];
  try {
    for (;;) {
      const typed = await nextTyped(stdin);
      const keys = Array.from(typed.replace(KEY_SEQUENCE, ''));
      for (let i = 0; i < keys.length; i++) {
        const key = keys[i]!;
        if (key === '\r' || key === '\n' || key === '\u0004') {
          stdin.pause();
          if (i + 1 < keys.length) stdin.unshift(keys.slice(i + 1).join(''));
          return answer.join('');
        }
        if (key === '\u0003') throw new BullaError('aborted', 'Interrupted.');
        answer = edit(answer, key);
        if (show) stderr.write(`\r\u001b[K${question}: ${answer.join('')}`);
      }
    }
  } finally {
    stdin.pause();
    stdin.setRawMode?.(false);
    stderr.write('\n');
  }
}

/** Pauses at once, so that nothing is typed past us. */
function nextTyped(stdin: Io['stdin']): Promise<string> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      stdin.pause().off('data', onData).off('end', onEnd);
    };
    const onData = (typed: string) => {
      settle();
      resolve(typed);
    };
    const onEnd = () => {
      settle();
      reject(new BullaError('aborted', 'The terminal is gone.'));
    };
    stdin.on('data', onData).on('end', onEnd).resume();
  });
}

/** Backspace removes a character, Ctrl-U all of them; other control characters do nothing. */
function edit(answer: string[], key: string): string[] {
  if (key === '\u007f' || key === '\b') return answer.slice(0, -1);
  if (key === '\u0015') return [];
  return key < ' ' ? answer : [...answer, key];
}

/** A secret is at most 1 MiB; what is far larger is a mistake, and is not read to its end. */
const INPUT_BYTES_MAX = 8 * 1024 * 1024;

/** A whole file, or standard input for `-` or nothing. */
export async function readInput(io: Io, file: string | undefined): Promise<Buffer> {
  if (file !== undefined && file !== '-') return checkedLength(readFile(file));
  if (io.stdin.isTTY) io.stderr.write('Reading from the terminal; end with Ctrl-D on an empty line.\n');
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of io.stdin as AsyncIterable<Buffer>) {
    pieces.push(piece);
    length += piece.length;
    if (length > INPUT_BYTES_MAX) break;
  }
  return checkedLength(Buffer.concat(pieces));
}

/** The sentence names the file, which the caller named too. */
export function readFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new VaultError('invalid_request', `${file} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
  }
}

/** As text; bytes that are not UTF-8 would be replaced, so they are refused. */
export function asText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new VaultError('invalid_request', 'The input is not UTF-8 text; store it with --bytes.');
  }
}

function checkedLength(bytes: Buffer): Buffer {
  if (bytes.length <= INPUT_BYTES_MAX) return bytes;
  throw new VaultError('too_large', `The input has more than ${INPUT_BYTES_MAX} bytes; a secret has at most 1 MiB.`);
}
