/**
 * An audit entry and its one written form.
 *
 * The line is canonical JSON (RFC 8785): one object, members sorted, no blanks, integers and strings only, UTF-8. Its
 * leaf hash is SHA-256(0x00 ‖ line). The format is final; docs/audit.md is its specification:
 *
 *     {"action":…,"actor":{…},"code":…,"details":{…},"lease":…,"outcome":…,"protocol":…,"request":…,
 *      "resource":…,"salt":…,"seq":…,"source":…,"time":…,"v":1,"version":…}
 *
 * code, details, lease, resource and version are absent when there is nothing to say. The salt is 16 random bytes in
 * base64url, so that the hash of a removed line cannot be guessed. Details name things and count them; no value of a
 * secret of any JSON type ever enters an entry.
 */
import { LIMITS } from '../config.ts';
import { assert } from '../errors.ts';

export type Outcome = 'ok' | 'denied' | 'error';

/** Who acted. `vault` is the server itself; `anonymous` is somebody who has not shown who they are. */
export type Actor = {
  readonly kind: 'user' | 'service' | 'external' | 'vault' | 'anonymous';
  readonly id?: string;
  readonly name?: string;
  readonly method?: string;
  /** Of the token that was used: names it, never opens anything. */
  readonly accessor?: string;
};

/** The server itself: what nobody asked for. */
export const VAULT_ACTOR = { kind: 'vault' } as const satisfies Actor;

/** What the request was, as far as every one of its entries says it. */
export type Origin = {
  readonly requestId: string;
  /** The client's address as the listener saw it, or empty for the vault itself. */
  readonly source: string;
  readonly protocol: string;
  /** Set once an entry of the request is durable. See recorded.ts. */
  recorded?: boolean;
};

export type Details = Readonly<Record<string, string | number | boolean>>;

export type Entry = {
  readonly origin: Origin;
  readonly actor: Actor;
  readonly action: string;
  readonly resource?: string | undefined;
  readonly version?: number | undefined;
  readonly outcome: Outcome;
  readonly code?: string | undefined;
  readonly lease?: string | undefined;
  readonly details?: Details | undefined;
};

const ENTRY_FORMAT = 1;

/**
 * What must not stand in a line that people read in a terminal or a table: control characters, line and paragraph
 * separators, bidirectional marks and overrides, zero-width and lone surrogates.
 */
const UNSAFE = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu;
const PLAIN = /^[\x20-\x7e]*$/;

/** Text from outside, made safe to show and bounded. Identifiers that we checked ourselves do not need it. */
export function cleanText(text: string): string {
  if (text.length <= LIMITS.auditTextCharsMax && PLAIN.test(text)) return text;
  return Array.from(text.slice(0, LIMITS.auditTextCharsMax * 2))
    .slice(0, LIMITS.auditTextCharsMax)
    .join('')
    .replace(UNSAFE, '\ufffd');
}

/** What stands in JSON as it is. */
const PLAIN_IN_JSON = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

/** The names of actions and protocols, which are few and come from our code only. */
const quotedNames = new Map<string, string>();

function quoteName(name: string): string {
  let quoted = quotedNames.get(name);
  if (quoted === undefined) {
    quoted = quote(name);
    quotedNames.set(name, quoted);
  }
  return quoted;
}

const quote = (text: string) => (PLAIN_IN_JSON.test(text) ? `"${text}"` : JSON.stringify(text));
const quoteClean = (text: string) => quote(cleanText(text));

/**
 * Details with lists of names, as many as it takes: an entry whose text is cut would say the first of what was given and
 * hide the rest. All else is in the first; each other says which part it is.
 */
export function detailsNaming(
  details: Details,
  lists: Readonly<Record<string, readonly string[] | undefined>>,
): [Details, ...Details[]] {
  const texts = Object.entries(lists).flatMap(([key, names]) => (names ? [[key, textsOf(names)] as const] : []));
  const parts = Math.max(1, ...texts.map(([, pieces]) => pieces.length));
  const part = (at: number): Details => ({
    ...(at === 0 ? details : { part: at + 1 }),
    ...Object.fromEntries(texts.flatMap(([key, pieces]) => (pieces[at] === undefined ? [] : [[key, pieces[at]]]))),
  });
  return [part(0), ...Array.from({ length: parts - 1 }, (_, i) => part(i + 1))];
}

/** The names apart by blanks, in texts that each fit. A name that fits into none is cut into pieces. */
function textsOf(names: readonly string[]): string[] {
  const most = LIMITS.auditTextCharsMax;
  const pieces = names.flatMap((name) =>
    Array.from({ length: Math.ceil(name.length / most) }, (_, i) => name.slice(i * most, (i + 1) * most)),
  );
  const texts = [''];
  for (const piece of pieces) {
    const last = texts.at(-1)!;
    if (last === '') texts[texts.length - 1] = piece;
    else if (last.length + 1 + piece.length <= most) texts[texts.length - 1] = `${last} ${piece}`;
    else texts.push(piece);
  }
  return texts;
}

/** The actor's member, which every entry of a request repeats: written once. */
const actorTexts = new WeakMap<Actor, string>();

function actorText(actor: Actor): string {
  let text = actorTexts.get(actor);
  if (text === undefined) {
    const accessor = actor.accessor === undefined ? '' : `"accessor":${quote(actor.accessor)},`;
    const id = actor.id === undefined ? '' : `"id":${quote(actor.id)},`;
    const method = actor.method === undefined ? '' : `,"method":${quoteClean(actor.method)}`;
    const name = actor.name === undefined ? '' : `,"name":${quoteClean(actor.name)}`;
    text = `{${accessor}${id}"kind":${quote(actor.kind)}${method}${name}}`;
    actorTexts.set(actor, text);
  }
  return text;
}

function detailsText(details: Details): string {
  const keys = Object.keys(details).sort();
  assert(keys.length <= LIMITS.auditDetailsMax, 'an audit entry has few details');
  const members = keys.map((key) => {
    const value = details[key];
    if (typeof value === 'string') return `${quote(key)}:${quoteClean(value)}`;
    assert(typeof value === 'boolean' || Number.isSafeInteger(value), 'details are strings, booleans and integers');
    return `${quote(key)}:${value}`;
  });
  return `{${members.join(',')}}`;
}

/** The canonical line, without a line feed. `resource` holds names that were checked by their own rules. */
export function entryLine(entry: Entry, seq: number, time: string, salt: string): string {
  const { origin } = entry;
  let line = `{"action":${quoteName(entry.action)},"actor":${actorText(entry.actor)}`;
  if (entry.code !== undefined) line += `,"code":${quote(entry.code)}`;
  if (entry.details !== undefined) line += `,"details":${detailsText(entry.details)}`;
  if (entry.lease !== undefined) line += `,"lease":${quote(entry.lease)}`;
  line += `,"outcome":"${entry.outcome}","protocol":${quoteName(origin.protocol)},"request":${quote(origin.requestId)}`;
  if (entry.resource !== undefined) line += `,"resource":${quote(entry.resource)}`;
  line += `,"salt":"${salt}","seq":${seq},"source":${quoteClean(origin.source)},"time":"${time}","v":${ENTRY_FORMAT}`;
  if (entry.version !== undefined) line += `,"version":${entry.version}`;
  return `${line}}`;
}
