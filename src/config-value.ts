/** The kinds of value that settings have: durations, counts, flags, addresses to listen on. */
import { z } from 'zod';
import { parseDurationSeconds } from './config-duration.ts';
import { VaultError } from './errors.ts';
import { parseCidr } from './policy/cidr.ts';

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

export const count = (fallback: number, min: number, max: number, otherwise?: string) =>
  z
    .string()
    .regex(/^\d{1,12}$/, otherwise ?? 'expected a whole number')
    .default(String(fallback))
    .transform(Number)
    .pipe(z.number().min(min, otherwise).max(max, otherwise));

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
