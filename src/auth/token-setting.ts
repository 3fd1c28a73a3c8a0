/**
 * What the tokens of a login are bounded by, as a user, a service or a role of a login method says it: the same for all of
 * them, in columns token_* of their tables. Pure; token-limit.ts says what is taken.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Details } from '../audit/entry.ts';

/** Null: as the configuration says, or not bounded. */
export type TokenSettings = {
  readonly tokenTtlSeconds: number | null;
  readonly tokenMaxTtlSeconds: number | null;
  /** No renewal passes it, of periodic tokens neither. */
  readonly tokenExplicitMaxTtlSeconds: number | null;
  /** Its tokens are periodic: renewed for this long, as long as what they were given for works. */
  readonly tokenPeriodSeconds: number | null;
  /** How many acts a token of it does. */
  readonly tokenUses: number | null;
  /** Where its tokens may be had and used from. */
  readonly tokenCidrs: readonly string[] | null;
  /** They may not even what every token may. */
  readonly tokenWithoutDefault: boolean;
};

export type TokenSettingsWish = { readonly [K in keyof TokenSettings]?: TokenSettings[K] | undefined };

export const NO_TOKEN_SETTINGS: TokenSettings = {
  ...{ tokenTtlSeconds: null, tokenMaxTtlSeconds: null, tokenExplicitMaxTtlSeconds: null, tokenPeriodSeconds: null },
  ...{ tokenUses: null, tokenCidrs: null, tokenWithoutDefault: false },
};

const COLUMN_OF = {
  tokenTtlSeconds: 'token_ttl_seconds',
  tokenMaxTtlSeconds: 'token_max_ttl_seconds',
  tokenExplicitMaxTtlSeconds: 'token_explicit_max_ttl_seconds',
  tokenPeriodSeconds: 'token_period_seconds',
  tokenUses: 'token_uses',
  tokenCidrs: 'token_cidrs',
  tokenWithoutDefault: 'token_without_default',
} as const satisfies Readonly<Record<keyof TokenSettings, string>>;

const NAMES = Object.keys(COLUMN_OF) as (keyof TokenSettings)[];

/** To be read from the table of this name in a statement. */
export const tokenSettingColumns = (table: string): string =>
  NAMES.map((name) => `${table}.${COLUMN_OF[name]} AS "${name}"`).join(', ');

/** A row's columns and their values. */
export const tokenSettingRow = (settings: TokenSettings) =>
  Object.fromEntries(
    NAMES.map((name) => {
      const value = settings[name];
      return [COLUMN_OF[name], typeof value === 'object' && value !== null ? [...value] : value] as const;
    }),
  );

/** What is not named stays. */
export function changed<T extends object>(before: T, wish: { readonly [K in keyof T]?: T[K] | undefined }): T {
  const names = Object.keys(before) as (keyof T)[];
  return Object.fromEntries(names.map((name) => [name, wish[name] === undefined ? before[name] : wish[name]])) as T;
}

export const tokenSettingsOf = (row: TokenSettings): TokenSettings => changed(NO_TOKEN_SETTINGS, row);

/** Of a token that is issued. */
export const limitsOf = (settings: TokenSettings) => ({
  ttlSeconds: settings.tokenTtlSeconds ?? undefined,
  maxTtlSeconds: settings.tokenMaxTtlSeconds ?? undefined,
  explicitMaxTtlSeconds: settings.tokenExplicitMaxTtlSeconds ?? undefined,
  periodSeconds: settings.tokenPeriodSeconds ?? undefined,
  uses: settings.tokenUses ?? undefined,
  cidrs: settings.tokenCidrs ?? undefined,
  withoutDefault: settings.tokenWithoutDefault,
});

/** What is another than before, for the log: a bound that is taken away is as much as a policy that is given. */
export function changesOf(
  before: object,
  after: object,
): { readonly said: Details; readonly lists: Record<string, readonly string[]> } {
  const said: Record<string, string | number | boolean> = {};
  const lists: Record<string, readonly string[]> = {};
  for (const [name, value] of Object.entries(after)) {
    if (isDeepStrictEqual(value, before[name as keyof object])) continue;
    const key = name.replace(/Seconds$/, '').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (Array.isArray(value)) lists[key] = value;
    else said[key] = (value as string | number | boolean | null) ?? 'none';
  }
  return { said, lists };
}
