/**
 * The fields of a request: members of a JSON body, of a form, or parameters of the query, read as this API reads them.
 *
 * Scalars come in several spellings (`3600`, `"3600"`, `"1h"`; `true`, `"true"`, `1`) and lists as JSON or with commas.
 * A field that is not known is left alone. A value that cannot be read is refused by the field's name, and never
 * repeated: it may be a secret in the wrong place.
 */
import { badRequest } from './error.ts';

export type Fields = {
  readonly has: (name: string) => boolean;
  /** The text of a top-level member as it was received. */
  readonly raw: (name: string) => string | undefined;
  readonly string: (name: string) => string | undefined;
  readonly integer: (name: string) => number | undefined;
  readonly boolean: (name: string) => boolean | undefined;
  /** Seconds. */
  readonly duration: (name: string) => number | undefined;
  readonly strings: (name: string) => string[] | undefined;
  readonly integers: (name: string) => number[] | undefined;
  readonly map: (name: string) => Record<string, string> | undefined;
  readonly value: (name: string) => unknown;
  readonly names: () => string[];
  /** All of it, as JSON text. */
  readonly text: string;
  /** Those that nobody has asked for yet. */
  readonly unread: () => string[];
};

/** `values` is what JSON.parse or a query gave; null counts as absent. */
export function fieldsOf(
  values: object,
  raw: (name: string) => string | undefined,
  text: string = JSON.stringify(values),
): Fields {
  const members = values as Readonly<Record<string, unknown>>;
  const asked = new Set<string>();
  const askedForAll = () => {
    for (const name of Object.keys(members)) asked.add(name);
  };
  const value = (name: string) => {
    asked.add(name);
    return Object.hasOwn(members, name) ? (members[name] ?? undefined) : undefined;
  };
  const read = <T>(parse: (value: unknown) => T | undefined) => {
    return (name: string): T | undefined => {
      const given = value(name);
      if (given === undefined) return undefined;
      const parsed = parse(given);
      if (parsed === undefined) throw badRequest(`Field validation failed: error converting input for field "${name}"`);
      return parsed;
    };
  };
  return {
    has: (name) => value(name) !== undefined,
    raw: (name) => {
      asked.add(name);
      return raw(name);
    },
    get text() {
      askedForAll();
      return text;
    },
    value,
    names: () => {
      askedForAll();
      return Object.keys(members);
    },
    unread: () => Object.keys(members).filter((name) => !asked.has(name)),
    string: read((given) => (typeof given === 'string' ? given : scalarText(given))),
    integer: read(integerOf),
    boolean: read(booleanOf),
    duration: read(durationSeconds),
    strings: read(stringsOf),
    integers: read((given) => allOf(stringsOf(given), integerOf)),
    map: read(mapOf),
  };
}

const scalarText = (value: unknown) =>
  typeof value === 'number' || typeof value === 'boolean' ? String(value) : undefined;

function integerOf(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
  return Number.isSafeInteger(number) ? (number as number) : undefined;
}

const TRUE = new Set<unknown>([true, 1, '1', 't', 'T', 'true', 'True', 'TRUE']);
const FALSE = new Set<unknown>([false, 0, '0', 'f', 'F', 'false', 'False', 'FALSE', '']);

export const NO_FIELDS = fieldsOf({}, () => undefined);

/** Go's ParseBool, and the JSON scalars. */
function booleanOf(value: unknown): boolean | undefined {
  if (TRUE.has(value)) return true;
  return FALSE.has(value) ? false : undefined;
}

/** Zero, an empty text or list and false are what is so when nothing is said. */
export function isEmpty(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length === 0;
  return !value || value === '0' || value === '0s' || value === 'false';
}

const UNIT_SECONDS: Readonly<Record<string, number>> = {
  d: 86_400,
  h: 3600,
  m: 60,
  s: 1,
  ms: 0.001,
  us: 1e-6,
  ns: 1e-9,
};
const DURATION = /^(?:\d{1,12}(?:\.\d{1,9})?(?:ns|us|ms|s|m|h|d))+$/;
const DURATION_PART = /(\d{1,12}(?:\.\d{1,9})?)(ns|us|ms|s|m|h|d)/g;

/** Seconds of an integer, a numeric text or a Go duration such as `1h30m`; whole seconds, `-` only before it all. */
export function durationSeconds(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? value : undefined;
  if (typeof value !== 'string' || value.length > 100) return undefined;
  if (value === '') return 0;
  const negative = value.startsWith('-');
  const text = negative ? value.slice(1) : value;
  if (/^\d{1,12}$/.test(text)) return negative ? -Number(text) : Number(text);
  if (!DURATION.test(text)) return undefined;
  let seconds = 0;
  for (const [, amount, unit] of text.matchAll(DURATION_PART)) seconds += Number(amount) * UNIT_SECONDS[unit!]!;
  return Math.trunc(negative ? -seconds : seconds);
}

/** `3h25m19s`, `0s`: how Go writes whole seconds. */
export function goDuration(seconds: number): string {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), seconds % 60];
  if (hours > 0) return `${hours}h${minutes}m${rest}s`;
  return minutes > 0 ? `${minutes}m${rest}s` : `${rest}s`;
}

function stringsOf(value: unknown): string[] | undefined {
  if (typeof value === 'string') {
    const parts = value.split(',').map((part) => part.trim());
    return parts.filter((part) => part !== '');
  }
  if (typeof value === 'number') return [String(value)];
  if (!Array.isArray(value)) return undefined;
  return allOf(value, (item) => (typeof item === 'string' ? item : scalarText(item)));
}

function allOf<A, B>(items: readonly A[] | undefined, parse: (item: A) => B | undefined): B[] | undefined {
  const parsed = items?.map(parse);
  return parsed?.every((item) => item !== undefined) ? (parsed as B[]) : undefined;
}

/** An object of texts, or `["k=v"]`. */
function mapOf(value: unknown): Record<string, string> | undefined {
  const map: Record<string, string> = Object.create(null);
  if (Array.isArray(value)) {
    for (const item of value) {
      const equals = typeof item === 'string' ? item.indexOf('=') : -1;
      if (equals < 1) return undefined;
      map[(item as string).slice(0, equals)] = (item as string).slice(equals + 1);
    }
    return map;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  for (const [key, item] of Object.entries(value)) {
    const text = typeof item === 'string' ? item : scalarText(item);
    if (text === undefined) return undefined;
    map[key] = text;
  }
  return map;
}
