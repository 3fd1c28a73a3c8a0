/**
 * Strict JSON for request bodies: one text has one meaning, or it is refused.
 *
 * Parsers differ on duplicate keys, on lone surrogates and on what follows a byte order mark, and a body that two of
 * them read differently passes a check in one and acts in the other. So the whole text is scanned first, without
 * recursion and in one pass, for the grammar of RFC 8259 and for our bounds; only then does JSON.parse see it. The
 * bounds stop 1 MB of `[` at its 33rd character (T-104). Errors give a position and never a piece of the text.
 *
 * `__proto__` is refused as a key anywhere, because no honest document has it and any later merge of objects could
 * trip over it. `constructor` and `prototype` are honest keys of a secret and are let through: JSON.parse makes them
 * plain own properties, `raw` looks them up in a Map, the documents of secrets are only ever handled as text
 * (secret/document.ts), and every other body goes through a schema that knows its fields (T-105).
 *
 * `raw` gives the exact text of a top-level member, so that `data` is stored as it was received.
 */
import { isUtf8 } from 'node:buffer';
import { VaultError } from '../../errors.ts';

export type JsonLimits = {
  /** How many objects and arrays may be open at once. */
  readonly depthMax: number;
  /** How many keys the whole text may have. */
  readonly keysMax: number;
  /** How many characters one number may have. */
  readonly numberLengthMax: number;
};

export const JSON_LIMITS: JsonLimits = { depthMax: 32, keysMax: 20_000, numberLengthMax: 1_000 };

export type StrictJson = {
  /** As JSON.parse gives it: read own properties only. */
  readonly value: unknown;
  /** The received text of a top-level member's value, without the white space around it. */
  raw(key: string): string | undefined;
};

/** Throws `invalid_json` with the rule that is broken and where. The caller has bounded the length already. */
export function parseStrictJson(bytes: Uint8Array, limits: JsonLimits = JSON_LIMITS): StrictJson {
  if (bytes.length === 0) throw new VaultError('invalid_json', 'the body is empty; send one JSON value');
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    throw new VaultError('invalid_json', 'the body starts with a byte order mark; send UTF-8 without one');
  }
  if (!isUtf8(bytes)) throw new VaultError('invalid_json', 'the body is not valid UTF-8');
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  const members = scan(text, limits);
  return { value: parse(text), raw: (key) => members.get(key) };
}

/** JSON.parse is the last judge. Its own error quotes the text, so it is not even kept as a cause. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new VaultError('invalid_json', 'the body is not valid JSON');
  }
}

/** An object or array that is open. An object's keys are collected from its first key on. */
type Open = { readonly isObject: boolean; keys: Set<string> | undefined };

/** What the grammar allows next. */
type Expect = 'value' | 'value-or-close' | 'key' | 'key-or-close' | 'comma-or-close' | 'end';

type Scan = {
  readonly text: string;
  readonly limits: JsonLimits;
  at: number;
  readonly open: Open[];
  keysSeen: number;
  /** The texts of the top-level members, and of the one being read its key and start. */
  readonly members: Map<string, string>;
  memberKey: string;
  memberStart: number;
};

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

function scan(text: string, limits: JsonLimits): ReadonlyMap<string, string> {
  const state: Scan = {
    text,
    limits,
    at: 0,
    open: [],
    keysSeen: 0,
    members: new Map(),
    memberKey: '',
    memberStart: 0,
  };
  let expect: Expect = 'value';
  skipSpace(state);
  while (expect !== 'end') {
    expect = step(state, expect);
    skipSpace(state);
  }
  if (state.at < text.length) throw refused('has something after its value', state.at);
  return state.members;
}

function step(state: Scan, expect: Expect): Expect {
  const character = state.text[state.at];
  if (character === undefined) throw refused('ends too early', state.at);
  const open = state.open.at(-1);
  const mayClose = expect === 'comma-or-close' || expect === 'key-or-close' || expect === 'value-or-close';
  if (mayClose && character === (open!.isObject ? '}' : ']')) {
    state.open.pop();
    state.at++;
    return afterValue(state);
  }
  if (expect === 'comma-or-close') {
    if (character !== ',') throw refused('lacks a comma or a closing bracket', state.at);
    state.at++;
    return open?.isObject ? 'key' : 'value';
  }
  if (expect === 'key' || expect === 'key-or-close') return readKey(state, open!);
  return readValue(state, character);
}

function readValue(state: Scan, character: string): Expect {
  if (state.open.length === 1) state.memberStart = state.at;
  if (character === '{' || character === '[') {
    if (state.open.length === state.limits.depthMax) {
      throw refused(`is nested deeper than ${state.limits.depthMax} levels`, state.at);
    }
    state.open.push({ isObject: character === '{', keys: undefined });
    state.at++;
    return character === '{' ? 'key-or-close' : 'value-or-close';
  }
  if (character === '"') readString(state);
  else if (character === '-' || isDigit(state.text.charCodeAt(state.at))) readNumber(state);
  else readWord(state);
  return afterValue(state);
}

/** `state.at` is after a value: of the whole text, of a member or of an element. */
function afterValue(state: Scan): Expect {
  if (state.open.length === 0) return 'end';
  if (state.open.length === 1 && state.open[0]!.isObject) {
    state.members.set(state.memberKey, state.text.slice(state.memberStart, state.at));
  }
  return 'comma-or-close';
}

/** A key, its colon, and the rules about keys. */
function readKey(state: Scan, object: Open): Expect {
  const start = state.at;
  if (state.text.charCodeAt(start) !== QUOTE) throw refused('lacks a key in double quotes', start);
  readString(state);
  const written = state.text.slice(start, state.at);
  // Keys are compared as they are meant: "a" and "\u0061" are one key.
  const key = written.includes('\\') ? (JSON.parse(written) as string) : written.slice(1, -1);
  if (key === '__proto__') throw refused('has the key __proto__, which is never accepted,', start);
  object.keys ??= new Set();
  if (object.keys.has(key)) throw refused('has a key twice in one object, the second', start);
  object.keys.add(key);
  if (++state.keysSeen > state.limits.keysMax) throw refused(`has more than ${state.limits.keysMax} keys`, start);
  if (state.open.length === 1) state.memberKey = key;
  skipSpace(state);
  if (state.text[state.at] !== ':') throw refused('lacks a colon after a key', state.at);
  state.at++;
  return 'value';
}

function readString(state: Scan): void {
  const { text } = state;
  let at = state.at + 1;
  for (;;) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) break;
    if (code === BACKSLASH) at = endOfEscape(text, at);
    else if (code >= 0x20) at++;
    else if (at < text.length) throw refused('has a control character in a string that must be escaped', at);
    else throw refused('ends inside a string', at);
  }
  state.at = at + 1;
}

/** `from` is at the backslash. An escaped surrogate must come as a pair (RFC 8259 §8.2 leaves the rest undefined). */
function endOfEscape(text: string, from: number): number {
  const character = text[from + 1];
  if (character !== 'u') {
    if (character === undefined || !'"\\/bfnrt'.includes(character)) throw refused('has an unknown escape', from);
    return from + 2;
  }
  const unit = hexUnit(text, from + 2);
  if (unit < 0xd800 || unit > 0xdfff) return from + 6;
  if (unit < 0xdc00 && text[from + 6] === '\\' && text[from + 7] === 'u') {
    const low = hexUnit(text, from + 8);
    if (low >= 0xdc00 && low <= 0xdfff) return from + 12;
  }
  throw refused('has half of a surrogate pair', from);
}

/** Four hex digits, exactly: parseInt and Number accept more than JSON does. */
function hexUnit(text: string, from: number): number {
  let unit = 0;
  for (let at = from; at < from + 4; at++) {
    const digit = '0123456789abcdef'.indexOf((text[at] ?? '?').toLowerCase());
    if (digit === -1) throw refused('has a \\u escape without four hex digits', at);
    unit = unit * 16 + digit;
  }
  return unit;
}

/** number = [ "-" ] int [ frac ] [ exp ] (RFC 8259 §6) */
function readNumber(state: Scan): void {
  const { text, at: start } = state;
  if (text[state.at] === '-') state.at++;
  if (text[state.at] === '0') state.at++;
  else readDigits(state);
  if (text[state.at] === '.') {
    state.at++;
    readDigits(state);
  }
  if (text[state.at] === 'e' || text[state.at] === 'E') {
    state.at++;
    if (text[state.at] === '+' || text[state.at] === '-') state.at++;
    readDigits(state);
  }
  if (state.at - start > state.limits.numberLengthMax) {
    throw refused(`has a number of more than ${state.limits.numberLengthMax} characters`, start);
  }
}

function readDigits(state: Scan): void {
  const start = state.at;
  while (isDigit(state.text.charCodeAt(state.at))) state.at++;
  if (state.at === start) throw refused('has a number without its digits', start);
}

function readWord(state: Scan): void {
  for (const word of ['true', 'false', 'null']) {
    if (!state.text.startsWith(word, state.at)) continue;
    state.at += word.length;
    return;
  }
  throw refused('has something that is not a JSON value', state.at);
}

/** Space, tab, line feed and carriage return, and no other white space (RFC 8259 §2). */
function skipSpace(state: Scan): void {
  for (;;) {
    const code = state.text.charCodeAt(state.at);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
    state.at++;
  }
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

function refused(what: string, at: number): VaultError {
  return new VaultError('invalid_json', `the body is not strict JSON: it ${what} at character ${at}`);
}
