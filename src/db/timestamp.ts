/** Times as the database gives them: RFC 3339 in UTC with exactly six fraction digits, so that comparing the text compares the time. */
import type { Timestamp } from './database.ts';

/** `micros` are those beyond the milliseconds since 1970, from 0 to 999. */
export function timestampOf(millis: number, micros: number): Timestamp {
  return `${new Date(millis).toISOString().slice(0, -1)}${String(micros).padStart(3, '0')}Z`;
}

/** `ms` after `time`; fractions count to the microsecond. */
export function laterBy(time: Timestamp, ms: number): Timestamp {
  const micros = Number(time.slice(23, 26)) + Math.round(ms * 1000);
  const thousands = Math.floor(micros / 1000);
  return timestampOf(Date.parse(`${time.slice(0, 23)}Z`) + thousands, micros - thousands * 1000);
}
