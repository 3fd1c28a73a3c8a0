/** The kinds of value that settings have: durations, counts, flags, addresses to listen on. */
import { z } from 'zod';
import { VaultError } from './errors.ts';
import { parseCidr } from './policy/cidr.ts';

export const SECOND = 1;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const DURATION_UNITS: Readonly<Record<string, number>> = { s: SECOND, m: MINUTE, h: HOUR, d: DAY };

/** `"15m"`, `"1h"`, `"30d"`, `"90s"` or integer seconds; undefined when it is neither. Never negative, never fractional. */
export function parseDurationSeconds(value: string | number): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  const match = /^(\d{1,10})([smhd]?)$/.exec(value);
  if (!match) return undefined;
  const seconds = Number(match[1]) * (DURATION_UNITS[match[2] || 's'] ?? 0);
  return Number.isSafeInteger(seconds) ? seconds : undefined;
}

export const duration = (fallback: string) =>
  z
    .string()
    .default(fallback)
    .transform((text, ctx) => {
      const seconds = parseDurationSeconds(text);
      if (seconds !== undefined) return seconds;
      ctx.addIssue({ code: 'custom', message: 'expected a duration such as 90s, 15m, 1h, 30d or integer seconds' });
      return z.NEVER;
    });

export const count = (fallback: number, min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,12}$/, 'expected a whole number')
    .default(String(fallback))
    .transform(Number)
    .pipe(z.number().min(min).max(max));

export const flag = z
  .enum(['true', 'false'])
  .default('false')
  .transform((text) => text === 'true');

export const listen = z
  .string()
  .regex(/^(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+):\d{1,5}$/, 'expected host:port, such as 127.0.0.1:8200');

export function parseListen(variable: string, text: string): { host: string; port: number } {
  const colon = text.lastIndexOf(':');
  const port = Number(text.slice(colon + 1));
  if (port > 65_535) {
    throw new VaultError('invalid_request', `${variable}: port ${port} does not exist; use one from 0 to 65535.`);
  }
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port };
}

/** Networks, separated by commas; none when absent. */
export const networks = z
  .string()
  .default('')
  .transform((text, ctx) => {
    const parts = text.split(',').filter((part) => part.trim() !== '');
    const parsed = parts.flatMap((part) => parseCidr(part.trim()) ?? []);
    if (parsed.length === parts.length) return parsed;
    ctx.addIssue({
      code: 'custom',
      message: 'expected networks such as 10.0.0.0/8,fd00::/8, with no bit beyond the prefix',
    });
    return z.NEVER;
  });
