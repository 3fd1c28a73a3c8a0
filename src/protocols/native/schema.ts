/**
 * The schemas that several routes share, and how a request that breaks one is told so.
 *
 * The message names the field and what is expected there, never what came: what came may be a secret in the wrong place.
 */
import { z } from '@hono/zod-openapi';
import { LIMITS, parseDurationSeconds } from '../../config.ts';
import { VaultError } from '../../errors.ts';
import { parsePath, parsePrefix, type SecretPath, type SecretPrefix } from '../../secret/path.ts';

/** The value as the schema gives it. Throws `invalid_request`. */
export function checked<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const field = fieldOf(issue);
  const message = `${field === '' ? 'the request' : field}: ${expectationOf(issue, schema)}`;
  throw new VaultError('invalid_request', message, field === '' ? {} : { details: { field } });
}

/** Up to the first name that the caller chose: what stands in the place of a key may be a secret (T-088). */
function fieldOf({ path }: z.core.$ZodIssue): string {
  let field = '';
  for (const key of path) {
    if (typeof key === 'number') field += `[${key}]`;
    else field += `${field === '' ? '' : '.'}${String(key)}`;
    if (key === 'metadata') break;
  }
  return field;
}

function expectationOf(issue: z.core.$ZodIssue, schema: z.ZodType): string {
  if (issue.code !== 'unrecognized_keys') return `${issue.message.replace(/^Invalid input: /, '').replace(/\.$/, '')}.`;
  const known = issue.path.length === 0 && schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  const takes = known.length === 0 ? '' : `; it takes ${known.join(', ')}`;
  return `there is a field that this route does not take${takes}.`;
}

/** What a parser of ours says becomes an issue of the field. */
export function parsedBy<T>(parse: (text: string) => T): (text: string, context: z.RefinementCtx) => T {
  return (text, context) => {
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof VaultError)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
      return z.NEVER;
    }
  };
}

// ---- one field ----------------------------------------------------------------------------------------------------

const PATH_PATTERN = '^[A-Za-z0-9._~@+=-]{1,128}(/[A-Za-z0-9._~@+=-]{1,128}){0,15}$';

export const secretPath = z
  .string()
  .transform<SecretPath>(parsedBy(parsePath))
  .openapi({ type: 'string', maxLength: 512, pattern: PATH_PATTERN, example: 'prod/web/db' });

export const secretPrefix = z.string().transform<SecretPrefix>(parsedBy(parsePrefix)).openapi({
  type: 'string',
  maxLength: 512,
  example: 'prod/web',
  description: 'A path without a trailing slash; empty is the root.',
});

export const name = z.string().openapi({ pattern: '^[a-z0-9][a-z0-9._-]{0,62}$', example: 'app' });

const PASSWORD_LENGTH_MAX = 4096;

export const password = z
  .string()
  .max(PASSWORD_LENGTH_MAX)
  .openapi({ format: 'password', example: 'correct horse battery staple' });

export const totp = z.string().min(1).max(64).openapi({
  description: 'Six digits of the second factor, or a recovery code.',
  example: '123456',
});

export const time = z.string().openapi({ format: 'date-time', example: '2026-01-02T03:04:05.678901Z' });

const DURATION_SECONDS_MAX = 100 * 366 * 24 * 3600;

/** `"15m"` or integer seconds. */
export const duration = z
  .union([z.string(), z.number()], {
    error: 'expected a duration such as "90s", "15m", "1h", "30d" or integer seconds',
  })
  .transform((value, context) => {
    const seconds = parseDurationSeconds(value);
    if (seconds !== undefined && seconds > 0 && seconds <= DURATION_SECONDS_MAX) return seconds;
    const message =
      'expected a duration such as "90s", "15m", "1h", "30d" or integer seconds, more than 0 and at most 100 years';
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  })
  .openapi({
    anyOf: [
      { type: 'string', pattern: '^[0-9]{1,10}[smhd]?$' },
      { type: 'integer', minimum: 1 },
    ],
    example: '15m',
  });

const RFC_3339 = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,6}))?(Z|[+-]\d{2}:\d{2})$/;

/** RFC 3339 on the way in, in the one form that we compare and store: UTC with six fraction digits. */
export const instant = z
  .string()
  .transform((text, context) => {
    const match = RFC_3339.exec(text);
    const at = match ? new Date(`${match[1]}${match[3]}`) : undefined;
    // JavaScript takes February 30th for March 2nd; a date that does not come back is none.
    const local = match ? new Date(`${match[1]}Z`) : undefined;
    const exists = local !== undefined && !Number.isNaN(local.getTime()) && local.toISOString().startsWith(match![1]!);
    if (!at || Number.isNaN(at.getTime()) || !exists) {
      context.addIssue({ code: 'custom', message: 'expected a time such as 2026-01-02T03:04:05Z' });
      return z.NEVER;
    }
    return `${at.toISOString().slice(0, 19)}.${(match![2] ?? '').padEnd(6, '0')}Z`;
  })
  .openapi({ type: 'string', format: 'date-time', example: '2027-01-02T03:04:05Z' });

/** A whole number in a query: digits, no sign, no leading zero. */
export function wholeNumber(min: number, max: number) {
  const message = `expected a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^(?:0|[1-9][0-9]{0,15})$/, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message)
    .openapi({ type: 'integer', minimum: min, maximum: max });
}

/** Whose log, where it is not the caller's own. */
export const deletedLog = z
  .string()
  .regex(/^[a-z2-7]{16}$/, 'expected the 16 characters that were the id of the deleted tenant')
  .optional()
  .openapi({
    description: 'For operators: the id of a tenant that was deleted, whose log to read instead of one’s own.',
  });

export const version = wholeNumber(1, LIMITS.versionMax).openapi({ example: 3 });

export const versionNumber = z.int().min(1).max(LIMITS.versionMax);

const VERSIONS_MAX = LIMITS.secretVersionsKeptMax;

/** `1,2,3` in a query. */
export const versionList = z
  .string()
  .max(VERSIONS_MAX * 11)
  .transform((text, context) => {
    const versions = text.split(',').map((part) => version.safeParse(part));
    const numbers = versions.flatMap(({ data }) => (data === undefined ? [] : [data]));
    if (numbers.length === versions.length && numbers.length <= VERSIONS_MAX) return [...new Set(numbers)];
    context.addIssue({ code: 'custom', message: `expected up to ${VERSIONS_MAX} version numbers such as 1,2,3` });
    return z.NEVER;
  })
  .openapi({ type: 'string', pattern: '^[1-9][0-9]{0,9}(,[1-9][0-9]{0,9})*$', example: '1,2' });

export const versionsBody = z
  .strictObject({ versions: z.array(versionNumber).min(1).max(VERSIONS_MAX) })
  .transform(({ versions }) => ({ versions: [...new Set(versions)] }))
  .openapi('Versions', { type: 'object', example: { versions: [1, 2] } });

const pageFields = {
  limit: wholeNumber(1, LIMITS.pageMax)
    .optional()
    .openapi({ description: `How many items at most; ${LIMITS.pageDefault} when absent.`, example: 100 }),
  cursor: z
    .string()
    .max(1024)
    .optional()
    .openapi({ description: 'next_cursor of the page before.', example: 'YWxpY2U' }),
};

export const pageQuery = z.strictObject(pageFields);
export { pageFields };

/** The answer of a list. */
export function listOf<T extends z.ZodType>(item: T) {
  return z.object({
    items: z.array(item),
    next_cursor: z
      .string()
      .nullable()
      .openapi({ description: 'Ask again with it for the next page; null at the end.' }),
  });
}
