/**
 * The JSON object of a secret as the text that was received.
 *
 * A document is stored and answered as its own text, so integers beyond 2^53, key order and number spellings survive.
 * What has to look inside (a merge patch, a flat listing) cuts that text into members and never turns a value into a
 * JavaScript one and back. Every text given here has passed the strict parser (protocols/native/json.ts): valid JSON,
 * no key twice, nesting bounded. On anything else the cuts would be wrong, so these functions check nothing and must
 * never be given a text straight from outside.
 */
import { assert } from '../errors.ts';

/** One member of an object: slices of its text without the white space around them. */
export type Member = {
  /** The key as JavaScript sees it: two spellings of one key are equal here. */
  readonly key: string;
  /** The key as it was written, with its quotes. */
  readonly keyText: string;
  readonly valueText: string;
};

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/** The members of an object in their order. */
export function membersOf(objectText: string): Member[] {
  const members: Member[] = [];
  let at = objectText.indexOf('{') + 1;
  for (;;) {
    const keyStart = skipSpace(objectText, at);
    if (objectText.charCodeAt(keyStart) === CLOSE_BRACE) return members;
    const keyEnd = endOfString(objectText, keyStart);
    const valueStart = skipSpace(objectText, objectText.indexOf(':', keyEnd) + 1);
    const valueEnd = endOfValue(objectText, valueStart);
    const keyText = objectText.slice(keyStart, keyEnd);
    members.push({ key: decodeString(keyText), keyText, valueText: objectText.slice(valueStart, valueEnd) });
    at = skipSpace(objectText, valueEnd);
    if (objectText.charCodeAt(at) === CLOSE_BRACE) return members;
    at++;
  }
}

/** Whether a JSON text is an object. */
export function isObject(text: string): boolean {
  return text.charCodeAt(skipSpace(text, 0)) === OPEN_BRACE;
}

/** The value of a JSON string text. */
export function decodeString(stringText: string): string {
  return stringText.includes('\\') ? (JSON.parse(stringText) as string) : stringText.slice(1, -1);
}

/**
 * JSON merge patch (RFC 7396 §2) on texts. A member that the patch does not name keeps its text and its place; a new
 * one goes to the end; a changed one keeps its place and the spelling of its key. `null` removes, so a null cannot be
 * set this way. Recursion ends with the patch's nesting, which the strict parser bounds.
 */
export function mergePatch(targetText: string, patchText: string): string {
  if (!isObject(patchText)) return patchText.trim();
  const members = new Map<string, string>();
  const keyTexts = new Map<string, string>();
  for (const { key, keyText, valueText } of isObject(targetText) ? membersOf(targetText) : []) {
    members.set(key, valueText);
    keyTexts.set(key, keyText);
  }
  for (const { key, keyText, valueText } of membersOf(patchText)) {
    if (valueText === 'null') {
      members.delete(key);
      continue;
    }
    if (!members.has(key)) keyTexts.set(key, keyText);
    members.set(key, mergePatch(members.get(key) ?? 'null', valueText));
  }
  return `{${[...members].map(([key, valueText]) => `${keyTexts.get(key)}:${valueText}`).join(',')}}`;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text.charCodeAt(at) <= 0x20) at++;
  return at;
}

/** `from` is at the opening quote; the answer is after the closing one. */
function endOfString(text: string, from: number): number {
  let at = from + 1;
  while (text.charCodeAt(at) !== QUOTE) {
    assert(at < text.length, 'a document is valid JSON');
    at += text.charCodeAt(at) === BACKSLASH ? 2 : 1;
  }
  return at + 1;
}

/** The end of the value that starts at `from`, by counting brackets outside strings. */
function endOfValue(text: string, from: number): number {
  let depth = 0;
  let at = from;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = endOfString(text, at);
      if (depth === 0) return at;
      continue;
    }
    if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      depth++;
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      if (depth === 0) return at;
      if (--depth === 0) return at + 1;
    } else if (depth === 0 && (code === COMMA || code <= 0x20)) {
      return at;
    }
    at++;
  }
  return at;
}
