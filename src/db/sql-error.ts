/**
 * Errors of the database: which they are, and what the vault says of them. What it says holds no statement, no parameter
 * and no row.
 */
import { VaultError } from '../errors.ts';
import { QUOTA_USED_UP, quotaExceeded } from './quota.ts';

/** The SQLSTATE of an error of the database, or undefined. No class begins with E; the system's EPIPE does. */
export function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' && /^(?!E)[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  return violates(error, '23505', constraint);
}

export function isForeignKeyViolation(error: unknown, constraint?: string): boolean {
  return violates(error, '23503', constraint);
}

function violates(error: unknown, state: string, constraint: string | undefined): boolean {
  if (sqlState(error) !== state) return false;
  return constraint === undefined || (error as { constraint_name?: string }).constraint_name === constraint;
}

/** `why` holds nothing that was asked for or found. */
export function unavailable(why: string, cause?: unknown): VaultError {
  return new VaultError('unavailable', `The vault cannot serve this now: ${why}. Nothing was changed; try again.`, {
    retryAfterSeconds: 1,
    ...(cause === undefined ? {} : { cause: sanitise(cause) }),
  });
}

/** SQLSTATE classes that mean the database, not the statement: connection, resources, operator, system, timeouts. */
const OUTAGE = /^(08|53|57|58|55P03|XX)/;
const NOT_TEXT = '22021';

/** All text that comes in is UTF-8, so what of it cannot be stored as text is U+0000. */
const notText = (cause: unknown) =>
  new VaultError('invalid_request', 'A field holds a NUL character: text has none.', { cause: sanitise(cause) });

/** Whether a statement met bytes that are no text, in what is stored or in what was given. */
export function isNotText(error: unknown): boolean {
  return error instanceof VaultError && sqlState(error.cause) === NOT_TEXT;
}

/** What the caller of a statement hears of its failure: the database's outages and refusals by name, all else without what was in it. */
export function translate(error: unknown): unknown {
  const state = sqlState(error);
  if (state === undefined) {
    const lost = /^(E[A-Z]+|CONNECT\w+|CONNECTION_\w+)$/.test(String((error as { code?: unknown } | undefined)?.code));
    return lost ? unavailable('the database cannot be reached', error) : error;
  }
  if (state === QUOTA_USED_UP) return quotaExceeded(error);
  if (OUTAGE.test(state)) return unavailable(`the database answered ${state}`, error);
  if (state === NOT_TEXT) return notText(error);
  return sanitise(error);
}

/** An error that says which statement failed and how, and holds nothing of what was in it. */
export function sanitise(error: unknown): Error {
  const state = sqlState(error);
  const source = error as Record<string, unknown> | undefined;
  if (state === undefined && !(source && 'code' in source)) {
    return error instanceof Error ? error : new Error('unknown error');
  }
  const clean = new Error(`database error ${String(source?.code)}`);
  for (const field of ['code', 'constraint_name', 'table_name', 'routine', 'severity'] as const) {
    if (typeof source?.[field] === 'string') Object.assign(clean, { [field]: source[field] });
  }
  return clean;
}
