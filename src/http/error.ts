/**
 * From an error to an answer: the one table from code to status, and RFC 9457 problem details.
 *
 * What was thrown on purpose (VaultError) is told to the caller; anything else is `internal` to the caller and goes to
 * the log without whatever could be a value: no text in quotes, no token, no property but those that name the fault.
 */
import { STATUS_CODES } from 'node:http';
import { type ErrorCode, VaultError } from '../errors.ts';

const STATUS = {
  invalid_request: 400,
  invalid_json: 400,
  invalid_path: 400,
  unauthenticated: 401,
  login_failed: 401,
  forbidden: 403,
  approval_required: 403,
  tenant_suspended: 403,
  password_change_required: 403,
  totp_required: 401,
  mfa_required: 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  version_mismatch: 412,
  too_large: 413,
  unsupported_media_type: 415,
  idempotency_mismatch: 422,
  too_many_requests: 429,
  quota_exceeded: 429,
  integrity: 500,
  internal: 500,
  backend_failed: 502,
  busy: 503,
  unavailable: 503,
  sealed: 503,
  // Not 503: clients repeat a 503 by themselves, and this one may have had its effect.
  outcome_unknown: 504,
} as const satisfies Record<ErrorCode, number>;

export function statusOf(code: ErrorCode): number {
  return STATUS[code];
}

const PROBLEM_TYPE = 'application/problem+json';

export type Problem = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

const RETRY_AFTER_SECONDS_DEFAULT = 1;

/** `status` is given only where HTTP has a finer one than the code, such as 431. */
export function problemOf(error: VaultError, requestId: string, status: number = STATUS[error.code]): Problem {
  const headers: Record<string, string> = { 'Content-Type': PROBLEM_TYPE };
  if (status === 401) headers['WWW-Authenticate'] = 'Bearer';
  if (status === 429 || status === 503) {
    headers['Retry-After'] = String(error.retryAfterSeconds ?? RETRY_AFTER_SECONDS_DEFAULT);
  }
  const body = JSON.stringify({
    ...error.details,
    type: 'about:blank',
    title: STATUS_CODES[status],
    status,
    detail: error.message,
    code: error.code,
    request_id: requestId,
  });
  return { status, headers, body };
}

export function noSuchRoute(): VaultError {
  return new VaultError('not_found', 'There is no such route: see /openapi.json.');
}

export function methodNotAllowed(allow: readonly string[]): VaultError {
  return new VaultError('method_not_allowed', `This route answers ${allow.join(', ')}.`, { details: { allow } });
}

/** What the caller hears of an error: itself when it was thrown on purpose, otherwise nothing but that it happened. */
export function asVaultError(error: unknown): VaultError {
  if (error instanceof VaultError) return error;
  return new VaultError(
    'internal',
    'Something failed inside the vault. The request id finds it in the log of the server.',
    {
      cause: error,
    },
  );
}

/** Whether the log must say why: a fault of ours, or of the outside with more to tell than its code. */
export function isFault(error: VaultError): boolean {
  return error.code === 'integrity' || (STATUS[error.code] >= 500 && error.cause !== undefined);
}

export type ErrorRecord = {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly stack: readonly string[];
  readonly cause?: ErrorRecord;
};

const CAUSES_MAX = 4;
const MESSAGE_CHARS_MAX = 300;
const FRAMES_MAX = 20;
const FRAME = /^\s+at .*:\d+:\d+\)?$/;
const CODE = /^[A-Za-z0-9_.-]{1,64}$/;

/** An error as the log may hold it. */
export function recordOf(error: unknown, depth = 0): ErrorRecord {
  if (!(error instanceof Error))
    return { name: typeof error, message: 'something that is no error was thrown', stack: [] };
  const code = (error as { code?: unknown }).code;
  const frames = (error.stack ?? '').split('\n').filter((line) => FRAME.test(line));
  return {
    name: error.name,
    message: withoutValues(error.message),
    ...(typeof code === 'string' && CODE.test(code) ? { code } : {}),
    stack: frames.slice(0, FRAMES_MAX).map((line) => line.trim()),
    ...(error.cause === undefined || depth >= CAUSES_MAX ? {} : { cause: recordOf(error.cause, depth + 1) }),
  };
}

/** Runtimes quote what they could not read ("Unexpected token … is not valid JSON"): all between quotes goes. */
function withoutValues(message: string): string {
  return message
    .replace(/["'`][\s\S]*["'`]/, '…')
    .replace(/bulla_\S+/g, '…')
    .slice(0, MESSAGE_CHARS_MAX);
}
