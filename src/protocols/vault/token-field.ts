/**
 * The settings of tokens that a user or a role of a login method has: `token_ttl` and its kin, with the older names of some.
 *
 * What is asked for and not kept is refused by its name, never left out in silence. Zero, an empty list and false are what
 * is so when nothing is said, and are taken as that.
 */
import type { TokenSettings, TokenSettingsWish } from '../../auth/token-setting.ts';
import { badRequest } from './error.ts';
import { type Fields, isEmpty } from './field.ts';

/** What is not given is undefined. */
export type TokenFields = TokenSettingsWish & { readonly policies?: readonly string[] | undefined };

/** Throws what the client reads. */
export function tokenFieldsIn(fields: Fields): TokenFields {
  const type = fields.string('token_type') ?? 'default';
  if (!['default', 'service', 'default-service', ''].includes(type)) {
    throw badRequest(
      `token_type: ${type === 'batch' || type === 'default-batch' ? 'batch tokens are' : 'it is'} not supported`,
    );
  }
  refuseNotKept(fields, ['token_strictly_bind_ip']);
  const either = <T>(read: (name: string) => T | undefined, name: string): T | undefined =>
    read(`token_${name}`) ?? read(name);
  return {
    policies: policiesIn(fields),
    tokenTtlSeconds: zeroAsNull(either(fields.duration, 'ttl')),
    tokenMaxTtlSeconds: zeroAsNull(either(fields.duration, 'max_ttl')),
    tokenExplicitMaxTtlSeconds: zeroAsNull(fields.duration('token_explicit_max_ttl')),
    tokenPeriodSeconds: zeroAsNull(either(fields.duration, 'period')),
    tokenUses: zeroAsNull(either(fields.integer, 'num_uses')),
    tokenCidrs: networks(either(fields.strings, 'bound_cidrs')),
    tokenWithoutDefault: fields.boolean('token_no_default_policy'),
  };
}

/** `default` is every token's already, but where a token is to be without it. */
export const policiesIn = (fields: Fields): string[] | undefined =>
  (fields.strings('token_policies') ?? fields.strings('policies'))?.filter((name) => name !== 'default');

export const zeroAsNull = (number: number | undefined): number | null | undefined => (number === 0 ? null : number);

/** A bare address is a network of one. */
export function networks(list: readonly string[] | undefined): string[] | null | undefined {
  if (list === undefined) return undefined;
  const whole = list.map((text) => (text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`));
  return whole.length === 0 ? null : whole;
}

export function refuseNotKept(fields: Fields, names: readonly string[]): void {
  const set = names.filter((name) => !isEmpty(fields.value(name)));
  if (set[0] !== undefined) throw badRequest(`${set[0]} is not supported by this auth method`);
}

/** As every user and role shows them. */
export function shapeTokenFields(settings: TokenSettings, policies: readonly string[]) {
  return {
    token_bound_cidrs: settings.tokenCidrs ?? [],
    token_explicit_max_ttl: settings.tokenExplicitMaxTtlSeconds ?? 0,
    token_max_ttl: settings.tokenMaxTtlSeconds ?? 0,
    token_no_default_policy: settings.tokenWithoutDefault,
    token_num_uses: settings.tokenUses ?? 0,
    token_period: settings.tokenPeriodSeconds ?? 0,
    token_policies: policies,
    token_strictly_bind_ip: false,
    token_ttl: settings.tokenTtlSeconds ?? 0,
    token_type: 'default',
  };
}
