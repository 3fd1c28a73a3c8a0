/**
 * The conditions of a rule, and the circumstances of a request that they are held against.
 *
 *     "conditions": {"cidrs": ["10.0.0.0/8"], "mfa": true, "token_kinds": ["login"],
 *                    "time": {"zone": "Europe/Berlin", "days": ["mon", "fri"], "from": "08:00", "until": "18:00"}}
 *
 * All that are named must hold. A window counts the wall clock of its zone: `from` is inside, `until` is not, and one
 * whose `until` is not later than its `from` goes on past midnight and belongs to the day on which it began. The time is
 * the database's, read in the statement that decides. A fact that is not known makes a condition neither true nor
 * false: decide.ts lets it satisfy a deny and never an allow. Nothing here does I/O.
 */
import { z } from 'zod';
import { assert } from '../errors.ts';
import { type Address, type Cidr, contains, isWithin, parseAddress, parseCidr } from './cidr.ts';

export const RULE_CIDRS_MAX = 50;

/** What is true of one request. What is undefined is not known. */
export type Circumstances = {
  /** The address that the request came from. */
  readonly source: string;
  /** RFC 3339, by the database's clock. */
  readonly now?: string | undefined;
  /** Whether the login behind the token showed a second factor. */
  readonly mfa?: boolean | undefined;
  readonly tokenKind?: string | undefined;
};

const SHORT_TEXT_LENGTH_MAX = 64;
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
const CLOCK = /^(?:[01]\d|2[0-3]):[0-5]\d$/;
/** Kinds are names that auth/ gives to tokens; one that it never gives makes a rule that never holds. */
const TOKEN_KIND = /^[a-z][a-z-]{0,31}$/;

const cidrText = z
  .string()
  .max(SHORT_TEXT_LENGTH_MAX)
  .superRefine((text, context) => {
    if (parseCidr(text) !== undefined) return;
    const message = 'must be a network such as 10.0.0.0/8, 192.0.2.7/32 or ::1/128, with no bit set beyond its prefix';
    context.addIssue({ code: 'custom', message });
  })
  .describe('A network; an IPv4-mapped IPv6 address counts as IPv4.');

const zoneText = z
  .string()
  .max(SHORT_TEXT_LENGTH_MAX)
  .refine(isZone, 'must be UTC or the name of a time zone such as Europe/Berlin')
  .describe('UTC, or a name of the IANA time zone database.');

const windowSchema = z
  .strictObject({
    zone: zoneText.optional(),
    days: z.array(z.enum(DAYS)).min(1).max(DAYS.length).optional(),
    from: z.string().regex(CLOCK, 'must be a time of day from 00:00 to 23:59').optional(),
    until: z
      .string()
      .refine((text) => CLOCK.test(text) || text === '24:00', 'must be a time of day from 00:00 to 24:00')
      .optional(),
  })
  .refine(
    ({ days, from, until }) => days !== undefined || from !== undefined || until !== undefined,
    'must name days, from or until',
  )
  .refine(({ from = '00:00', until = '24:00' }) => from !== until, 'must not begin when it ends')
  .describe(
    'A stretch of the week by the wall clock of a zone (UTC); past midnight when until is not later than from.',
  );

export const conditionsSchema = z.strictObject({
  cidrs: z.array(cidrText).min(1).max(RULE_CIDRS_MAX).optional(),
  mfa: z.boolean().optional().describe('Whether the login had a second factor.'),
  time: windowSchema.optional(),
  token_kinds: z
    .array(z.string().regex(TOKEN_KIND, 'must be a kind of token such as login or child'))
    .min(1)
    .max(16)
    .optional()
    .describe('Kinds of token, as GET /auth/self shows them.'),
});

export type ConditionsDocument = z.infer<typeof conditionsSchema>;

export type Window = {
  readonly zone: string;
  /** Of the week, Sunday is 0. */
  readonly days: ReadonlySet<number>;
  readonly fromMinute: number;
  readonly untilMinute: number;
};

/** What is undefined is not asked for. */
export type Conditions = {
  readonly cidrs: readonly Cidr[] | undefined;
  readonly mfa: boolean | undefined;
  readonly time: Window | undefined;
  readonly tokenKinds: ReadonlySet<string> | undefined;
};

/** `document` has passed the schema. Undefined when nothing is asked for. */
export function compileConditions(document: ConditionsDocument | undefined): Conditions | undefined {
  if (document === undefined) return undefined;
  const cidrs = document.cidrs?.map((text) => {
    const cidr = parseCidr(text);
    assert(cidr !== undefined, 'the schema lets only good networks through');
    return cidr;
  });
  const tokenKinds = document.token_kinds && new Set(document.token_kinds);
  const conditions = { cidrs, mfa: document.mfa, time: document.time && compileWindow(document.time), tokenKinds };
  return Object.values(conditions).every((one) => one === undefined) ? undefined : conditions;
}

function compileWindow({
  zone = 'UTC',
  days,
  from = '00:00',
  until = '24:00',
}: NonNullable<ConditionsDocument['time']>) {
  const numbers = days?.map((day) => DAYS.indexOf(day)) ?? DAYS.keys();
  return { zone, days: new Set(numbers), fromMinute: minuteOf(from), untilMinute: minuteOf(until) };
}

const minuteOf = (clock: string) => Number(clock.slice(0, 2)) * 60 + Number(clock.slice(3));

/** The circumstances of one question, with what is derived from them kept for its other rules. */
export type Facts = Circumstances & {
  /** The parsed source; null when it is no address, undefined until a rule asks. */
  address?: Address | null;
};

export type Holding = 'yes' | 'no' | 'unknown';

export function holds(conditions: Conditions | undefined, facts: Facts): Holding {
  if (conditions === undefined) return 'yes';
  let holding: Holding = 'yes';
  for (const check of CHECKS) {
    const one = check(conditions, facts);
    if (one === 'no') return 'no';
    if (one === 'unknown') holding = 'unknown';
  }
  return holding;
}

/** The conditions that do not hold, by their names in the document. */
export function failing(conditions: Conditions | undefined, facts: Facts): (keyof ConditionsDocument)[] {
  if (conditions === undefined) return [];
  return CHECKS.flatMap((check, i) => (check(conditions, facts) === 'yes' ? [] : [CHECK_NAMES[i]!]));
}

const CHECKS = [fromNetwork, withFactor, atTime, withKind] as const;
const CHECK_NAMES: readonly (keyof ConditionsDocument)[] = ['cidrs', 'mfa', 'time', 'token_kinds'];

const yesNo = (holding: boolean): Holding => (holding ? 'yes' : 'no');

function fromNetwork({ cidrs }: Conditions, facts: Facts): Holding {
  if (cidrs === undefined) return 'yes';
  if (facts.address === undefined) facts.address = parseAddress(facts.source) ?? null;
  const { address } = facts;
  return address === null ? 'unknown' : yesNo(cidrs.some((cidr) => contains(cidr, address)));
}

function withFactor({ mfa: wanted }: Conditions, { mfa }: Facts): Holding {
  if (wanted === undefined) return 'yes';
  return mfa === undefined ? 'unknown' : yesNo(mfa === wanted);
}

function withKind({ tokenKinds }: Conditions, { tokenKind }: Facts): Holding {
  if (tokenKinds === undefined) return 'yes';
  return tokenKind === undefined ? 'unknown' : yesNo(tokenKinds.has(tokenKind));
}

function atTime({ time }: Conditions, { now }: Facts): Holding {
  if (time === undefined) return 'yes';
  const local = now === undefined ? undefined : localTime(time.zone, now);
  if (local === undefined) return 'unknown';
  const { day, minute } = local;
  const { days, fromMinute, untilMinute } = time;
  if (fromMinute < untilMinute) return yesNo(days.has(day) && minute >= fromMinute && minute < untilMinute);
  const dayBefore = (day + 6) % 7;
  return yesNo((days.has(day) && minute >= fromMinute) || (days.has(dayBefore) && minute < untilMinute));
}

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (format === undefined) {
    const parts = { weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } as const;
    format = new Intl.DateTimeFormat('en-US', { timeZone: zone, ...parts });
    formats.set(zone, format);
  }
  return format;
}

function localTime(zone: string, now: string): { day: number; minute: number } | undefined {
  const instant = Date.parse(now);
  if (Number.isNaN(instant)) return undefined;
  if (zone === 'UTC') {
    const date = new Date(instant);
    return { day: date.getUTCDay(), minute: date.getUTCHours() * 60 + date.getUTCMinutes() };
  }
  const parts = new Map(
    formatOf(zone)
      .formatToParts(instant)
      .map(({ type, value }) => [type, value]),
  );
  const day = DAYS.findIndex((name) => parts.get('weekday')?.toLowerCase().startsWith(name));
  return { day, minute: Number(parts.get('hour')) * 60 + Number(parts.get('minute')) };
}

/** Names only: an offset such as +01:00 does not know of summer time, and abbreviations mean several zones. */
function isZone(text: string): boolean {
  if (text === 'UTC') return true;
  if (!/^[A-Z][A-Za-z_]+(?:\/[A-Z][A-Za-z_+-]+){1,2}$/.test(text)) return false;
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: text }).resolvedOptions().timeZone !== undefined;
  } catch {
    return false;
  }
}

/** Whether a request that meets `inner` always meets `outer`: what inner asks for is at least as much. */
export function impliesConditions(inner: Conditions | undefined, outer: Conditions | undefined): boolean {
  if (outer === undefined) return true;
  if (inner === undefined) return false;
  const networks =
    outer.cidrs === undefined ||
    (inner.cidrs?.every((cidr) => outer.cidrs!.some((around) => isWithin(cidr, around))) ?? false);
  const factor = outer.mfa === undefined || inner.mfa === outer.mfa;
  const time = outer.time === undefined || (inner.time !== undefined && isSameWindow(inner.time, outer.time));
  const kinds =
    outer.tokenKinds === undefined ||
    (inner.tokenKinds !== undefined && [...inner.tokenKinds].every((kind) => outer.tokenKinds!.has(kind)));
  return networks && factor && time && kinds;
}

/** Only one and the same window: two that overlap by the clock may part at a change to summer time. */
function isSameWindow(a: Window, b: Window): boolean {
  return (
    a.zone === b.zone &&
    a.fromMinute === b.fromMinute &&
    a.untilMinute === b.untilMinute &&
    [...a.days].every((day) => b.days.has(day))
  );
}
