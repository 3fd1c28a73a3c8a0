/**
 * The one error that is thrown on purpose.
 *
 * The code is the contract: it is stable, it is what clients branch on, and http/ holds the only table that turns it
 * into a status. The message is for people: what was expected, what came, what to do next. Neither ever holds a secret.
 * Anything else that is thrown is a defect or a fault of the outside, becomes `internal` to the caller, and goes whole
 * to the log.
 */

/** Every code that a caller can meet. Closed: adding one means adding its status in http/. */
export type ErrorCode =
  | 'invalid_request' // a field, parameter or header is not what the route takes
  | 'invalid_json' // the body is not strict JSON
  | 'invalid_path' // the path is not canonical
  | 'unauthenticated' // no token, or one that is not (or no longer) valid
  | 'login_failed' // unknown user, wrong password, locked and disabled alike
  | 'forbidden' // no policy allows it, or one denies it
  | 'approval_required' // a policy allows it once others have approved
  | 'tenant_suspended'
  | 'password_change_required'
  | 'totp_required' // the password is right, and a code of the second factor is needed too
  | 'mfa_required' // nothing may be done before a second factor is enrolled, or shown
  | 'not_found' // absent, or another tenant's
  | 'method_not_allowed'
  | 'conflict' // exists already, or is in a state that does not allow it
  | 'version_mismatch' // If-Match or cas named another version than the current one
  | 'too_large'
  | 'unsupported_media_type'
  | 'idempotency_mismatch' // the key was used with another body
  | 'too_many_requests'
  | 'quota_exceeded' // the tenant has as many as its operators let it have
  | 'integrity' // stored bytes do not open: moved, edited or damaged
  | 'internal'
  | 'busy' // a bounded queue is full
  | 'backend_failed' // the target of a lease refused, did not answer in time or broke off
  | 'unavailable' // the database or the audit log cannot be written
  | 'outcome_unknown' // the connection died in COMMIT
  | 'sealed';

export type ErrorOptions = {
  /** Machine-readable facts for the caller, such as the offending field. Never a value. */
  readonly details?: Readonly<Record<string, string | number | boolean | readonly string[]>>;
  /** Seconds after which the same request may succeed. */
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
};

export class VaultError extends Error {
  readonly code: ErrorCode;
  readonly details: ErrorOptions['details'];
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'VaultError';
    this.code = code;
    this.details = options.details;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** A broken invariant of ours: not the caller's fault, and never caught by name. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}
