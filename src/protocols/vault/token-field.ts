/**
 * The settings of tokens that a role of a login method has: `token_ttl` and its kin, with the older names of some.
 *
 * A method keeps some of them; whatever else is asked for is refused by its name, never left out in silence. Zero, an empty
 * list and false are what is so when nothing is said, and are taken as that.
 */
import { badRequest } from './error.ts';
import { type Fields, isEmpty } from './field.ts';

/** Undefined: not given. Null: given as what is so when nothing is said. */
export type TokenFields = {
  readonly policies?: readonly string[] | undefined;
  readonly ttlSeconds?: number | null | undefined;
  readonly maxTtlSeconds?: number | null | undefined;
  readonly periodSeconds?: number | null | undefined;
  readonly uses?: number | null | undefined;
  readonly cidrs?: readonly string[] | null | undefined;
};

export type Kept = Exclude<keyof TokenFields, 'policies'>;

const NAMES: Readonly<Record<Kept, readonly string[]>> = {
  ttlSeconds: ['token_ttl', 'ttl'],
  maxTtlSeconds: ['token_max_ttl', 'max_ttl'],
  periodSeconds: ['token_period', 'period'],
  uses: ['token_num_uses', 'num_uses'],
  cidrs: ['token_bound_cidrs', 'bound_cidrs'],
};

const NEVER_KEPT = ['token_explicit_max_ttl', 'token_no_default_policy', 'token_strictly_bind_ip'];

export function tokenFieldsIn(fields: Fields, kept: readonly Kept[]): TokenFields {
  const type = fields.string('token_type') ?? 'default';
  if (!['default', 'service', 'default-service', ''].includes(type)) {
    throw badRequest(
      `token_type: ${type === 'batch' || type === 'default-batch' ? 'batch tokens are' : 'it is'} not supported`,
    );
  }
  const others = (Object.keys(NAMES) as Kept[]).filter((name) => !kept.includes(name));
  refuseNotKept(fields, [...NEVER_KEPT, ...others.flatMap((name) => NAMES[name])]);
  const given = <T>(one: Kept, read: (name: string) => T | undefined): T | undefined => {
    if (!kept.includes(one)) return undefined;
    return NAMES[one].map(read).find((value) => value !== undefined);
  };
  const duration = (one: Kept) => zeroAsNull(given(one, fields.duration));
  return {
    policies: policiesIn(fields),
    ttlSeconds: duration('ttlSeconds'),
    maxTtlSeconds: duration('maxTtlSeconds'),
    periodSeconds: duration('periodSeconds'),
    uses: zeroAsNull(given('uses', fields.integer)),
    cidrs: networks(given('cidrs', fields.strings)),
  };
}

/** `default` is every token's already. */
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

/** As every role shows them. */
export function shapeTokenFields(settings: Omit<TokenFields, 'policies'> & { policies: readonly string[] }) {
  return {
    token_bound_cidrs: settings.cidrs ?? [],
    token_explicit_max_ttl: 0,
    token_max_ttl: settings.maxTtlSeconds ?? 0,
    token_no_default_policy: false,
    token_num_uses: settings.uses ?? 0,
    token_period: settings.periodSeconds ?? 0,
    token_policies: settings.policies,
    token_strictly_bind_ip: false,
    token_ttl: settings.ttlSeconds ?? 0,
    token_type: 'default',
  };
}
