/**
 * How long a lease lasts: what was asked for, or what role, backend or configuration say, never beyond any maximum of
 * theirs. A wish that is too long is shortened; one that is no whole number of seconds from 1 up is refused, so that no
 * spelling of a wish means "without end".
 */
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';

export type Times = { readonly defaultTtlSeconds: number | null; readonly maxTtlSeconds: number | null };
export type Lifetime = { readonly ttlSeconds: number; readonly maxTtlSeconds: number };

/** `levels`: the narrower one first. */
export function lifetimeOf({ config }: Vault, wanted: number | undefined, levels: readonly Times[]): Lifetime {
  const maxTtlSeconds = Math.min(config.leaseMaxTtlSeconds, ...levels.map((level) => level.maxTtlSeconds ?? Infinity));
  const usual = levels.map((level) => level.defaultTtlSeconds).find((ttl) => ttl !== null) ?? config.leaseTtlSeconds;
  return { ttlSeconds: Math.min(checkTtl(wanted) ?? usual, maxTtlSeconds), maxTtlSeconds };
}

/** Throws `invalid_request` for what is no whole number of seconds from 1 up. */
export function checkTtl(wanted: number | undefined): number | undefined {
  if (wanted === undefined || (Number.isSafeInteger(wanted) && wanted >= 1)) return wanted;
  throw new VaultError('invalid_request', 'ttl: expected a whole number of seconds, from 1 up.');
}
