/**
 * Exit codes, and errors as people and programs read them. Scripts branch on the codes, so they never change:
 *
 *     0  done                      5  not found
 *     1  failed                    6  conflict, or another version than the one named
 *     2  wrong use or input        7  not available now: no connection, busy, sealed, too late
 *     3  not logged in             8  the outcome is unknown: look before repeating
 *     4  not allowed               128 + n  ended by signal n, as in a shell
 *
 * `bulla run` ends with the code of its program, with 126 when that cannot be run and with 127 when it is not found.
 */
import { BullaError } from '../client/index.ts';
import { VaultError } from '../errors.ts';

export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  unauthenticated: 3,
  forbidden: 4,
  notFound: 5,
  conflict: 6,
  unavailable: 7,
  unknown: 8,
  notExecutable: 126,
  commandNotFound: 127,
  interrupted: 130,
} as const;

const CODES: Readonly<Record<string, number>> = {
  invalid_request: EXIT.usage,
  invalid_json: EXIT.usage,
  invalid_path: EXIT.usage,
  too_large: EXIT.usage,
  unsupported_media_type: EXIT.usage,
  unauthenticated: EXIT.unauthenticated,
  login_failed: EXIT.unauthenticated,
  password_change_required: EXIT.unauthenticated,
  totp_required: EXIT.unauthenticated,
  mfa_required: EXIT.forbidden,
  forbidden: EXIT.forbidden,
  approval_required: EXIT.forbidden,
  tenant_suspended: EXIT.forbidden,
  not_found: EXIT.notFound,
  conflict: EXIT.conflict,
  version_mismatch: EXIT.conflict,
  idempotency_mismatch: EXIT.conflict,
  too_many_requests: EXIT.unavailable,
  backend_failed: EXIT.unavailable,
  quota_exceeded: EXIT.conflict,
  busy: EXIT.unavailable,
  unavailable: EXIT.unavailable,
  sealed: EXIT.unavailable,
  unreachable: EXIT.unavailable,
  timed_out: EXIT.unavailable,
  outcome_unknown: EXIT.unknown,
  aborted: EXIT.interrupted,
};

export function exitCodeOf(error: unknown): number {
  return error instanceof BullaError || error instanceof VaultError ? (CODES[error.code] ?? EXIT.failed) : EXIT.failed;
}

/** One line for people, or one JSON object for programs. Says nothing of an error that nobody foresaw but its kind. */
export function describeError(error: unknown, json: boolean): string {
  const { code, message, requestId, status } = factsOf(error);
  if (json) return JSON.stringify({ error: { code, message, status, request_id: requestId ?? null } });
  const hint = HINTS[code];
  return `bulla: ${message}${requestId === undefined ? '' : ` (request ${requestId})`}${hint === undefined ? '' : `\n${hint}`}`;
}

const HINTS: Readonly<Record<string, string>> = {
  unauthenticated: 'Log in with: bulla login',
  password_change_required: 'Log in and choose a password with: bulla login',
  mfa_required: 'Enrol one with: bulla totp enrol, or show yours with: bulla session elevate',
  approval_required: 'Ask with: bulla approval request',
  sealed: 'An operator has to unseal the vault first.',
};

type Facts = { code: string; message: string; requestId?: string | undefined; status?: number };

function factsOf(error: unknown): Facts {
  if (error instanceof BullaError) return error;
  if (error instanceof VaultError) return { code: error.code, message: error.message };
  // Of a foreign error only its code: its text may quote what it failed on.
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  const syscall =
    error instanceof Error && 'syscall' in error && typeof error.syscall === 'string' ? error.syscall : '';
  const path = error instanceof Error && 'path' in error && typeof error.path === 'string' ? ` ${error.path}` : '';
  if (code !== undefined && syscall !== '') return { code: 'failed', message: `${syscall}${path} failed: ${code}.` };
  return {
    code: 'internal',
    message: `An error that nobody foresaw (${error instanceof Error ? error.name : typeof error}).`,
  };
}
