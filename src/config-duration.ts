/** Durations as people write them, in settings, in requests and at the command line. */

const SECOND = 1;
const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const DURATION_UNITS: Readonly<Record<string, number>> = { s: SECOND, m: MINUTE, h: HOUR, d: DAY };

/** In the largest unit that leaves nothing over: 900 is `15m`, 90 is `90s`. */
export function formatDuration(seconds: number): string {
  const [unit, size] = Object.entries(DURATION_UNITS).findLast(([, each]) => seconds !== 0 && seconds % each === 0) ?? [
    's',
    1,
  ];
  return `${seconds / size}${unit}`;
}

/** `"15m"`, `"1h"`, `"30d"`, `"90s"` or integer seconds; undefined when it is neither. Never negative, never fractional. */
export function parseDurationSeconds(value: string | number): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  const match = /^(\d{1,10})([smhd]?)$/.exec(value);
  if (!match) return undefined;
  const seconds = Number(match[1]) * (DURATION_UNITS[match[2] || 's'] ?? 0);
  return Number.isSafeInteger(seconds) ? seconds : undefined;
}
