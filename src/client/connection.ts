/**
 * Calls to the API: the token, the time-outs, and when a call is sent again.
 *
 * The rule of repeating: an act is never done twice by us. An answer that says that nothing was done (429, and 503 but
 * for `outcome_unknown`) and a connection that never stood allow any call again. Where the connection ended before its
 * answer, the act may have been done: then only a call whose repetition adds nothing is sent again, and if no answer
 * comes in the end, or one that our own first try may have caused (a thing that is gone, another version), the error is
 * `outcome_unknown`. The token is in a closure here and leaves only as a header.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { abortedError, BullaError, errorOf } from './error.ts';
import { createTransport, type OpenAnswer, type Transport } from './transport.ts';
import type { Trust } from './trust.ts';

/** What every method of the SDK takes last. */
export type CallOptions = {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
};

export type Call = CallOptions & {
  readonly method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  /** What doing it twice does: nothing at all, the same as once, or more than once. */
  readonly effect: 'none' | 'same' | 'more';
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly headers?: Readonly<Record<string, string | undefined>>;
  /** Sent as JSON, or when it is a string as the JSON that it is. */
  readonly json?: unknown;
  /** Without the token: for the routes that take none. */
  readonly anonymous?: true;
};

export type Answer = { readonly status: number; readonly headers: OpenAnswer['headers']; readonly body: Buffer };

export type Connection = {
  /** The answer when it is 2xx or 304. Rejects with a BullaError for every other outcome. */
  send(call: Call): Promise<Answer>;
  /** The same for a body that is read piece by piece. */
  stream(call: Call): Promise<AsyncGenerator<Buffer, void, undefined>>;
  setToken(token: string | undefined): void;
  close(): void;
};

export type ConnectionOptions = {
  readonly base: URL;
  readonly trust: Trust;
  readonly token: string | undefined;
  readonly timeoutMs: number;
  readonly retries: number;
};

export function createConnection(options: ConnectionOptions): Connection {
  const session: Session = { ...options, transport: createTransport(options.base, options.trust) };
  return {
    send: (call) =>
      perform(session, call, async ({ status, headers, whole }) => ({ status, headers, body: await whole() })),
    stream: (call) => perform(session, call, async ({ pieces }) => pieces()),
    setToken: (token) => {
      session.token = token;
    },
    close: session.transport.close,
  };
}

type Session = {
  readonly transport: Transport;
  readonly timeoutMs: number;
  readonly retries: number;
  token: string | undefined;
};

/** One try. `done` says what is known of the act when there is no good answer. */
type Try<T> =
  | { readonly value: T }
  | { readonly error: BullaError; readonly done: 'no' | 'maybe'; readonly again: boolean };

async function perform<T>(session: Session, call: Call, read: (answer: OpenAnswer) => Promise<T>): Promise<T> {
  let doubt = false;
  for (let tries = 0; ; tries++) {
    const outcome = await attempt(session, call, read);
    if ('value' in outcome) return outcome.value;
    const { error, done, again } = outcome;
    doubt ||= done === 'maybe' && call.effect !== 'none';
    const allowed = again && !(doubt && call.effect === 'more') && tries < session.retries;
    const waitMs = allowed ? waitMsBefore(tries, error.retryAfterSeconds) : undefined;
    if (waitMs === undefined) throw doubt ? inDoubt(error) : error;
    await pause(waitMs, call.signal);
  }
}

async function attempt<T>(session: Session, call: Call, read: (answer: OpenAnswer) => Promise<T>): Promise<Try<T>> {
  const { transport, token } = session;
  const body = call.json === undefined ? undefined : Buffer.from(jsonText(call.json));
  const opened = await transport.open({
    method: call.method,
    target: call.path + queryText(call.query),
    headers: headersOf(call, call.anonymous ? undefined : token, body),
    body,
    timeoutMs: call.timeoutMs ?? session.timeoutMs,
    signal: call.signal,
  });
  if ('error' in opened) return noAnswer(opened.error, opened.sent);
  try {
    if ((opened.status >= 200 && opened.status < 300) || opened.status === 304) return { value: await read(opened) };
    const answer = { status: opened.status, headers: opened.headers, body: await opened.whole() };
    return refusal(errorOf(answer, transport.origin, token));
  } catch (error) {
    if (error instanceof BullaError) return noAnswer(error, true);
    throw error;
  }
}

function noAnswer(error: BullaError, sent: boolean): Try<never> {
  return { error, done: sent ? 'maybe' : 'no', again: error.code === 'unreachable' };
}

/** An answer that is an error. Only the vault itself, by a problem document, can say that nothing was done. */
function refusal(error: BullaError): Try<never> {
  const gateway = error.status === 502 || error.status === 503 || error.status === 504;
  const again = error.status === 429 || gateway;
  const maybe = error.code === 'outcome_unknown' || (gateway && error.requestId === undefined);
  return { error, done: maybe ? 'maybe' : 'no', again };
}

/** What a call may be told because an earlier try of it was done after all; and having no answer. */
const CAUSED_BY_US = ['version_mismatch', 'not_found', 'conflict', 'unauthenticated', 'login_failed'];
const NO_ANSWER = ['unreachable', 'timed_out', 'bad_answer', 'unavailable'];

function inDoubt(error: BullaError): BullaError {
  if (!CAUSED_BY_US.includes(error.code) && !NO_ANSWER.includes(error.code)) return error;
  return new BullaError(
    'outcome_unknown',
    `The change may or may not have been made, look before you repeat it: ${error.message}`,
    { status: error.status, requestId: error.requestId, details: error.details, cause: error },
  );
}

const BACKOFF_MS_FIRST = 100;
const BACKOFF_MS_MAX = 10_000;
/** Whoever is asked to wait for longer decides for themselves. */
const RETRY_AFTER_SECONDS_MAX = 30;

/** Exponential, with full jitter so that clients which failed together do not return together. */
function waitMsBefore(tries: number, retryAfterSeconds: number | undefined): number | undefined {
  if (retryAfterSeconds !== undefined && retryAfterSeconds > RETRY_AFTER_SECONDS_MAX) return undefined;
  const ceiling = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_FIRST * 2 ** tries);
  return (retryAfterSeconds ?? 0) * 1000 + Math.random() * ceiling;
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch {
    throw abortedError();
  }
}

function jsonText(json: unknown): string {
  return typeof json === 'string' ? json : JSON.stringify(json);
}

function headersOf(call: Call, token: string | undefined, body: Buffer | undefined): Record<string, string> {
  const headers: Record<string, string> = { accept: 'application/json, */*', 'user-agent': 'bulla-client' };
  if (token !== undefined) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) {
    headers['content-type'] = 'application/json';
    headers['content-length'] = String(body.length);
  }
  for (const [name, value] of Object.entries(call.headers ?? {})) if (value !== undefined) headers[name] = value;
  return headers;
}

function queryText(query: Call['query']): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) parameters.append(name, String(value));
  }
  return parameters.size === 0 ? '' : `?${parameters}`;
}
