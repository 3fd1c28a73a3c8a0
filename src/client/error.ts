/**
 * The one error that the SDK throws, and how an answer of the server becomes one.
 *
 * `code` is the contract: the server's own code, or one of a few that only a client can know. The message is for
 * people. Neither holds a token or the value of a secret: what was sent never enters an error, and a token that a proxy
 * sent back in its answer is cut out (T-245).
 */
import type { ErrorCode } from '../errors.ts';

/** What went wrong on the way, so that the server has no code for it. */
export type ClientErrorCode =
  | 'unreachable' // no connection, or it ended before the answer; nothing was changed
  | 'untrusted_server' // the certificate is not one that this client trusts
  | 'timed_out' // no answer in time; nothing was changed
  | 'aborted' // the caller's own signal
  | 'bad_answer'; // what answered is not a vault, or cut its answer short

export type BullaErrorFacts = {
  /** The HTTP status; 0 when there was no answer. */
  readonly status?: number;
  /** Names the request in the server's log and in the audit log. */
  readonly requestId?: string | undefined;
  readonly retryAfterSeconds?: number | undefined;
  /** Machine-readable facts of the server, such as the offending field. */
  readonly details?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
};

export class BullaError extends Error {
  override readonly name = 'BullaError';
  /** A server newer than this client may send a code that is not listed. */
  readonly code: ErrorCode | ClientErrorCode | (string & {});
  readonly status: number;
  readonly requestId: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: BullaError['code'], message: string, facts: BullaErrorFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = code;
    this.status = facts.status ?? 0;
    this.requestId = facts.requestId;
    this.retryAfterSeconds = facts.retryAfterSeconds;
    this.details = facts.details ?? {};
  }
}

export type ErrorAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: Uint8Array;
};

/** An answer of 300 or more as an error. `token` is what was sent, so that it can be cut out of what came back. */
export function errorOf(answer: ErrorAnswer, origin: string, token: string | undefined): BullaError {
  const problem = problemOf(answer);
  const retryAfterSeconds = retryAfterOf(answer.headers['retry-after']);
  if (problem === undefined) {
    const message = strangerMessage(answer.status, origin);
    return new BullaError(strangerCode(answer.status), message, { status: answer.status, retryAfterSeconds });
  }
  const { type: _type, title, status: _status, detail, code, request_id, ...details } = problem;
  const text = typeof detail === 'string' ? detail : typeof title === 'string' ? title : 'The server gave no reason.';
  return new BullaError(typeof code === 'string' ? code : strangerCode(answer.status), readable(text, token), {
    status: answer.status,
    requestId: typeof request_id === 'string' ? readable(request_id, token) : undefined,
    retryAfterSeconds,
    details,
  });
}

export function abortedError(): BullaError {
  return new BullaError('aborted', 'The request was ended by its caller.');
}

const MESSAGE_LENGTH_MAX = 1000;

/** One line that is safe to print: servers repeat what others sent them. */
function readable(text: string, token: string | undefined): string {
  const whole = token === undefined ? text : text.replaceAll(token, '[token]');
  return whole.slice(0, MESSAGE_LENGTH_MAX).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]+/gu, ' ');
}

/** Codes of what the routes under /v1 answer, which have none of their own. */
const CODE_UNDER_V1: Readonly<Record<number, string>> = { 400: 'invalid_request', 403: 'forbidden', 404: 'not_found' };

/** The problem document of RFC 9457, or undefined when the answer has none. `{"errors":[…]}` of /v1 reads as one. */
function problemOf({ status, headers, body }: ErrorAnswer): Record<string, unknown> | undefined {
  const type = headers['content-type'];
  if (type === 'application/json' && CODE_UNDER_V1[status] !== undefined) {
    const [detail] = errorsIn(body);
    return detail === undefined ? undefined : { code: CODE_UNDER_V1[status], detail };
  }
  if (typeof type !== 'string' || !/^application\/problem\+json\b/i.test(type)) return undefined;
  try {
    const problem: unknown = JSON.parse(Buffer.from(body).toString('utf8'));
    if (typeof problem === 'object' && problem !== null && !Array.isArray(problem)) return { ...problem };
  } catch {
    // JSON.parse quotes the text in its own error, so that is not kept.
  }
  return undefined;
}

function errorsIn(body: Uint8Array): string[] {
  try {
    const { errors } = JSON.parse(Buffer.from(body).toString('utf8')) as { errors?: unknown };
    return Array.isArray(errors) ? errors.filter((one) => typeof one === 'string') : [];
  } catch {
    return [];
  }
}

/** Seconds, or an HTTP date (RFC 9110 §10.2.3). */
function retryAfterOf(header: string | readonly string[] | undefined): number | undefined {
  if (typeof header !== 'string') return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header);
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - Date.now()) / 1000));
}

/** An answer without a problem document comes from something in between, such as a proxy. */
function strangerCode(status: number): BullaError['code'] {
  if (status === 429) return 'too_many_requests';
  if (status === 502 || status === 503 || status === 504) return 'unavailable';
  return 'bad_answer';
}

function strangerMessage(status: number, origin: string): string {
  if (status >= 300 && status < 400) {
    return `${origin} answered ${status}, a redirect, which is not followed because the token would go with it; use the address that it leads to.`;
  }
  return `${origin} answered ${status} without saying why; is something other than a Bulla server at this address, or in between?`;
}
