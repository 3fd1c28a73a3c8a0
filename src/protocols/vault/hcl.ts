/**
 * The texts of policies: HCL of the first version, as far as policies use it, or the same as JSON.
 *
 *     body   = *( key ( [ "=" ] value / string block ) )        block = "{" body "}"
 *     value  = string / number / bool / "[" value *( "," value ) [ "," ] "]" / block
 *     path "secret/data/app/*" { capabilities = ["read", "list"] }
 *
 * What is parsed here is only a structure; acl.ts says what it means. A text that cannot be read in this way is refused
 * with the line where it ends being one. Nothing of the text is repeated.
 */
import { badRequest } from './error.ts';

export type PathBlock = { readonly path: string; readonly settings: ReadonlyMap<string, unknown> };

/** Every path of a policy in the order of its text. Throws what the client reads as `failed to parse policy: …`. */
export function parsePolicyText(text: string): PathBlock[] {
  const trimmed = text.trim();
  if (trimmed.startsWith('{')) return fromJson(trimmed);
  const parser: Parser = { text, at: 0, depth: 0 };
  return blocksOf(readBody(parser, 'end'));
}

type Entry = { readonly key: string; readonly label: string | undefined; readonly value: unknown };
type Body = readonly Entry[];
type Parser = { readonly text: string; at: number; depth: number };

const DEPTH_MAX = 8;

function failed(parser: Parser | undefined, what: string): Error {
  const line = parser ? ` on line ${parser.text.slice(0, parser.at).split('\n').length}` : '';
  return badRequest(`failed to parse policy: ${what}${line}`);
}

const isBody = (value: unknown): value is { readonly body: Body } =>
  typeof value === 'object' && value !== null && 'body' in value;

function blocksOf(body: Body): PathBlock[] {
  return body.flatMap(({ key, label, value }) => {
    // A name is that of the file it came from, and means nothing.
    if (key === 'name' && typeof value === 'string') return [];
    if (key !== 'path' || label === undefined || !isBody(value)) {
      throw failed(undefined, `only path "…" { … } is known at the top`);
    }
    const settings = new Map<string, unknown>();
    for (const entry of value.body) {
      if (settings.has(entry.key)) throw failed(undefined, 'a setting stands twice in one path');
      settings.set(entry.key, entry.value);
    }
    return [{ path: label, settings }];
  });
}

// ---- JSON ---------------------------------------------------------------------------------------------------------

function fromJson(text: string): PathBlock[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw failed(undefined, 'it begins like JSON and is none');
  }
  const members = parsed as Record<string, unknown>;
  const other = Object.keys(members).find((key) => key !== 'path' && key !== 'name');
  if (other !== undefined) throw failed(undefined, 'only the member "path" is known at the top');
  const path = members.path ?? {};
  const groups = Array.isArray(path) ? path : [path];
  return groups.flatMap((group: unknown) => {
    if (typeof group !== 'object' || group === null) throw failed(undefined, '"path" is no object');
    return Object.entries(group).map(([name, settings]: [string, unknown]) => {
      if (typeof settings !== 'object' || settings === null || Array.isArray(settings)) {
        throw failed(undefined, 'a path is no object');
      }
      return { path: name, settings: new Map(Object.entries(settings)) };
    });
  });
}

// ---- HCL ----------------------------------------------------------------------------------------------------------

function readBody(parser: Parser, until: 'end' | '}'): Body {
  const entries: Entry[] = [];
  for (;;) {
    skipBlank(parser);
    const character = parser.text[parser.at];
    if (character === undefined) {
      if (until === 'end') return entries;
      throw failed(parser, 'a block does not end');
    }
    if (character === '}' && until === '}') {
      parser.at++;
      return entries;
    }
    entries.push(readEntry(parser));
    skipBlank(parser);
    if (parser.text[parser.at] === ',') parser.at++;
  }
}

function readEntry(parser: Parser): Entry {
  const key = readKey(parser);
  skipBlank(parser);
  let label: string | undefined;
  if (parser.text[parser.at] === '"') {
    label = readString(parser);
    skipBlank(parser);
  }
  if (parser.text[parser.at] === '=') {
    parser.at++;
    skipBlank(parser);
  } else if (parser.text[parser.at] !== '{') {
    throw failed(parser, 'a key has neither "=" nor a block');
  }
  return { key, label, value: readValue(parser) };
}

function readKey(parser: Parser): string {
  if (parser.text[parser.at] === '"') return readString(parser);
  const match = /^[A-Za-z_][A-Za-z0-9_.-]{0,63}/.exec(parser.text.slice(parser.at, parser.at + 64));
  if (!match) throw failed(parser, 'something is neither a key nor a block');
  parser.at += match[0].length;
  return match[0];
}

function readValue(parser: Parser): unknown {
  const character = parser.text[parser.at];
  if (character === '"') return readString(parser);
  if (character !== '{' && character !== '[') return readWord(parser);
  if (++parser.depth > DEPTH_MAX) throw failed(parser, 'it is nested too deeply');
  parser.at++;
  const value = character === '{' ? { body: readBody(parser, '}') } : readList(parser);
  parser.depth--;
  return value;
}

function readList(parser: Parser): unknown[] {
  const items: unknown[] = [];
  for (;;) {
    skipBlank(parser);
    if (parser.text[parser.at] === ']') {
      parser.at++;
      return items;
    }
    items.push(readValue(parser));
    skipBlank(parser);
    if (parser.text[parser.at] === ',') parser.at++;
    else if (parser.text[parser.at] !== ']') throw failed(parser, 'a list lacks a comma or its end');
  }
}

function readWord(parser: Parser): unknown {
  const match = /^(?:true|false|-?\d{1,15})(?![A-Za-z0-9_.])/.exec(parser.text.slice(parser.at, parser.at + 24));
  if (!match) throw failed(parser, 'something is no value');
  parser.at += match[0].length;
  return JSON.parse(match[0]);
}

function readString(parser: Parser): string {
  const end = endOfString(parser);
  const literal = parser.text.slice(parser.at, end);
  parser.at = end;
  try {
    return JSON.parse(literal) as string;
  } catch {
    throw failed(parser, 'a text in quotes cannot be read');
  }
}

function endOfString({ text, at }: Parser): number {
  for (let end = at + 1; end < text.length && text[end] !== '\n'; end++) {
    if (text[end] === '\\') end++;
    else if (text[end] === '"') return end + 1;
  }
  throw failed({ text, at, depth: 0 }, 'a text in quotes does not end');
}

/** Blanks, lines, and comments: `#` and `//` to the end of the line, and between slash-star and star-slash. */
function skipBlank(parser: Parser): void {
  const { text } = parser;
  for (;;) {
    const character = text[parser.at];
    const isLine = character === '#' || (character === '/' && text[parser.at + 1] === '/');
    if (character === ' ' || character === '\t' || character === '\r' || character === '\n') parser.at++;
    else if (isLine) parser.at = after(text, '\n', parser.at);
    else if (character === '/' && text[parser.at + 1] === '*') parser.at = after(text, '*/', parser.at + 2);
    else return;
  }
}

function after(text: string, end: string, from: number): number {
  const found = text.indexOf(end, from);
  return found === -1 ? text.length : found + end.length;
}
