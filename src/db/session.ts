/** What every connection of ours is set to, and how values cross it. Both are part of what stored rows mean. */
import { parse as parseArray } from 'postgres-array';

/**
 * What every session of ours is set to. `synchronous_commit` makes an acknowledged commit a durable one. Every statement
 * of ours looks rows up by keys, so plans are made once and never read whole tables because statistics are missing.
 */
export const SESSION = {
  plan_cache_mode: 'force_generic_plan',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  jit: 'off',
  search_path: 'bulla',
  synchronous_commit: 'on',
  TimeZone: 'UTC',
  DateStyle: 'ISO',
  bytea_output: 'hex',
  'bulla.tenants': '',
} as const;

/**
 * What an address of PostgreSQL has no say in, because it decides what is durable, what is late and whose session it is:
 * postgres.js puts what an address says over what it is told.
 */
export const NOT_OF_AN_ADDRESS: readonly string[] = [
  ...Object.keys(SESSION),
  ...['application_name', 'role', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout'],
  'bulla.clock_offset_seconds',
];

/** PostgreSQL's `2026-01-02 03:04:05.6+00` as `2026-01-02T03:04:05.600000Z`. */
function toTimestamp(text: string): string {
  const [date = '', time = ''] = text.split(' ');
  const [seconds = '', fraction = ''] = time.replace(/\+00$/, '').split('.');
  return `${date}T${seconds}.${fraction.padEnd(6, '0')}Z`;
}

type Scalar = string | number | boolean | Uint8Array;

/** An array literal after PostgreSQL's manual, §8.15.2: each element quoted, so that no value is taken for syntax. */
function toArrayLiteral(values: readonly (Scalar | null)[]): string {
  const elements = values.map((value) => {
    if (value === null) return 'NULL';
    const text = value instanceof Uint8Array ? `\\x${Buffer.from(value).toString('hex')}` : String(value);
    return `"${text.replace(/["\\]/g, '\\$&')}"`;
  });
  return `{${elements.join(',')}}`;
}

/** PostgreSQL's own types keep their numbers for ever (pg_type.dat). */
function arrayOf<T extends Scalar>(oid: number, parse: (text: string) => T) {
  return { to: oid, from: [oid], parse: (text: string) => parseArray(text, parse), serialize: toArrayLiteral };
}

const bytes = (hex: string): Uint8Array => Buffer.from(hex.slice(2), 'hex');

/**
 * How values cross: timestamps as text, bigint as number (all of ours stay below 2^53). Arrays are listed, so that a
 * connection need not ask for them first: when it breaks while postgres.js asks, that ends the process (porsager/postgres
 * issue 1192).
 */
export const TYPES = {
  bigint: { to: 20, from: [20], parse: (text: string) => Number(text), serialize: (value: number) => String(value) },
  date: { to: 1184, from: [1082, 1114, 1184], parse: toTimestamp, serialize: (value: string) => value },
  booleans: arrayOf(1000, (text) => text === 't'),
  byteas: arrayOf(1001, bytes),
  smallints: arrayOf(1005, Number),
  integers: arrayOf(1007, Number),
  texts: arrayOf(1009, String),
  bigints: arrayOf(1016, Number),
  timestamps: arrayOf(1185, toTimestamp),
  uuids: arrayOf(2951, String),
};
