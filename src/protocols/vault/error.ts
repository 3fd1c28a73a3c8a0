/**
 * Errors as clients of HashiCorp's API know them: `{"errors":[…]}` with the status and the text that they branch on.
 *
 * The status is THE table's but for the few codes where clients expect another, and never 5xx for a mistake of theirs:
 * their library repeats every 5xx. Most texts are fixed, because clients compare them; `said` lets an endpoint say its
 * own.
 */
import { type ErrorCode, VaultError } from '../../errors.ts';
import type { WireAnswer } from '../protocol.ts';

/** Where the other API answers otherwise than ours. */
const STATUS_HERE: Partial<Record<ErrorCode, number>> = {
  unauthenticated: 403,
  login_failed: 400,
  conflict: 400,
  version_mismatch: 400,
  idempotency_mismatch: 400,
};

/** What a target refused, such as a statement of a role, it refuses again: that is not to be repeated. */
const statusHere = ({ code, details }: VaultError, status: number): number =>
  code === 'backend_failed' && details?.effect === 'refused' ? 400 : (STATUS_HERE[code] ?? status);

const PERMISSION_DENIED = '1 error occurred:\n\t* permission denied\n\n';

const TEXT: Partial<Record<ErrorCode, readonly string[]>> = {
  unauthenticated: ['permission denied'],
  forbidden: [PERMISSION_DENIED],
  not_found: [],
  method_not_allowed: ['1 error occurred:\n\t* unsupported operation\n\n'],
  version_mismatch: ['check-and-set parameter did not match the current version'],
  invalid_json: ['error parsing JSON'],
  too_large: ['http: request body too large'],
  integrity: ['internal error'],
  internal: ['internal error'],
  sealed: ['Vault is sealed'],
};

/** Texts for what the vault's own verbs refuse with a reason. */
const TEXT_OF_REASON: Readonly<Record<string, string>> = {
  cas_required: 'check-and-set parameter required for this call',
  few_uses: 'Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.',
  lease_ended: 'lease not found',
  lease_expired: 'lease expired',
  lease_not_renewable: 'lease is not renewable',
};

type Saying = { readonly warnings?: readonly string[] };
const sayings = new WeakMap<VaultError, Saying>();

/** An error whose message is what the client reads. With warnings, the answer is the whole envelope. */
export function said(code: ErrorCode, message: string, saying: Saying = {}): VaultError {
  const error = new VaultError(code, message);
  sayings.set(error, saying);
  return error;
}

export const badRequest = (message: string): VaultError => said('invalid_request', message);
export const notFound = (): VaultError => new VaultError('not_found', 'There is nothing.');
export const noHandler = (path: string): VaultError =>
  said('not_found', `no handler for route "${path}". route entry not found.`);
export const unsupportedPath = (): VaultError => said('not_found', '1 error occurred:\n\t* unsupported path\n\n');
export const unsupportedOperation = (): VaultError =>
  new VaultError('method_not_allowed', 'This path does not take that.');

/** Runs an act and says a refusal of one kind in the words that clients of this endpoint know. */
export async function saying<T>(
  act: Promise<T>,
  texts: Partial<Record<ErrorCode, string | ((error: VaultError) => VaultError)>>,
): Promise<T> {
  try {
    return await act;
  } catch (error) {
    if (!(error instanceof VaultError) || sayings.has(error)) throw error;
    const text = texts[error.code];
    if (text === undefined) throw error;
    throw typeof text === 'string' ? badRequest(text) : text(error);
  }
}

export function errorAnswer(error: VaultError, status: number): WireAnswer {
  const own = sayings.get(error);
  const reason = error.details?.reason;
  const known = typeof reason === 'string' ? TEXT_OF_REASON[reason] : undefined;
  const limit = status === 429 ? [`${error.message.replace(/\.$/, '')}: rate limit quota exceeded`] : undefined;
  const errors = own ? [error.message] : known ? [known] : (TEXT[error.code] ?? limit ?? [error.message]);
  const headers: Record<string, string> = { 'Content-Type': 'application/json' };
  if (status === 429 || status === 503) headers['Retry-After'] = String(error.retryAfterSeconds ?? 1);
  const body = own?.warnings
    ? `{"request_id":"","lease_id":"","renewable":false,"lease_duration":0,"data":null,"wrap_info":null,` +
      `"warnings":${JSON.stringify(own.warnings)},"auth":null}`
    : JSON.stringify({ errors });
  return { status: statusHere(error, status), headers, body };
}
