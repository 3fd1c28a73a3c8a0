/** What every connection of ours is set to, and how values cross it. Both are part of what stored rows mean. */

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

/** PostgreSQL's `2026-01-02 03:04:05.6+00` as `2026-01-02T03:04:05.600000Z`. */
function toTimestamp(text: string): string {
  const [date = '', time = ''] = text.split(' ');
  const [seconds = '', fraction = ''] = time.replace(/\+00$/, '').split('.');
  return `${date}T${seconds}.${fraction.padEnd(6, '0')}Z`;
}

/** How values cross: timestamps as text, bigint as number (all of ours stay below 2^53). */
export const TYPES = {
  bigint: { to: 20, from: [20], parse: (text: string) => Number(text), serialize: (value: number) => String(value) },
  date: { to: 1184, from: [1082, 1114, 1184], parse: toTimestamp, serialize: (value: string) => value },
};
