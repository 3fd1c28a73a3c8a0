/**
 * Secrets as environment variables: flat names, and the text of an `.env` file.
 *
 * There is no standard for `.env`. A value is written only in a form that every reader we name gives back unchanged:
 * `node --env-file`, POSIX shells that source the file, and Docker Compose. A value for which no such form exists is
 * refused by the name of its variable: an `.env` that one reader takes for something else is a wrong password, and one
 * that a shell expands is a command that somebody else wrote. (`docker run --env-file` knows no quotes at all and reads
 * only what stands without them.)
 *
 *     value = *safe                          A-Z a-z 0-9 _ . / : @ % + , = -
 *           / "'" *( not "'" ) "'"           literal in all of them, line feeds too
 *           / DQUOTE *( not DQUOTE $ ` \ ) DQUOTE
 *
 * Everything works on the received text of a document, so integers beyond 2^53 come out as they went in.
 */
import { assert, VaultError } from '../errors.ts';
import { decodeString, membersOf } from './document.ts';

/** A secret to be made flat. Its names are relative to `prefix`, the prefix by which it was asked for; `''` is none. */
export type FlatSource = { readonly path: string; readonly prefix: string } & (
  | { readonly kind: 'data'; readonly data: string }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
);

/**
 * `{"DB_PASSWORD": "…"}`: the relative path and, for a document, each of its keys, in upper case with `_` for whatever
 * is not a letter or digit. A string is itself, null is the empty string, every other value of a document is its JSON
 * text as received, bytes are base64. Two values for one name are `invalid_request`, because either would be a guess.
 */
export function flatten(secrets: readonly FlatSource[]): Record<string, string> {
  const flat: Record<string, string> = {};
  const owners = new Map<string, string>();
  for (const secret of secrets) {
    for (const [name, value] of variablesOf(secret)) {
      const owner = owners.get(name);
      if (owner !== undefined) throw collision(name, owner, secret.path);
      owners.set(name, secret.path);
      flat[name] = value;
    }
  }
  return flat;
}

/** One `NAME=value` line for each entry, in order. Throws `invalid_request` for what no reader would give back. */
export function toDotenv(flat: Readonly<Record<string, string>>): string {
  let text = '';
  for (const [name, value] of Object.entries(flat)) {
    if (!NAME.test(name)) throw unwritable(name, 'its name is not one of letters, digits and _ with no digit first');
    text += `${name}=${quote(name, value)}\n`;
  }
  return text;
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const SAFE = /^[A-Za-z0-9_./:@%+,=-]+$/;

function quote(name: string, value: string): string {
  if (value.includes('\0')) throw unwritable(name, 'it has a NUL character, which no environment can hold');
  // Node drops every carriage return of the file, quoted or not.
  if (value.includes('\r')) throw unwritable(name, 'it has a carriage return, which readers drop');
  if (/\p{Surrogate}/u.test(value)) throw unwritable(name, 'it has half of a surrogate pair, which UTF-8 cannot hold');
  if (SAFE.test(value)) return value;
  if (!value.includes("'")) return `'${value}'`;
  if (!/["$`\\]/.test(value)) return `"${value}"`;
  throw unwritable(name, 'it has a single quote beside one of " $ ` \\, which readers take apart in different ways');
}

function* variablesOf(secret: FlatSource): Generator<[name: string, value: string]> {
  const relative = relativePath(secret.path, secret.prefix);
  if (secret.kind === 'data') {
    for (const { key, valueText } of membersOf(secret.data)) {
      yield [variableName(relative === '' ? key : `${relative}_${key}`), plainValue(valueText)];
    }
    return;
  }
  // A text has no key to be named by, so one that lies at the prefix itself goes by its own last segment.
  const name = variableName(relative === '' ? secret.path.slice(secret.path.lastIndexOf('/') + 1) : relative);
  yield [name, secret.kind === 'text' ? secret.text : base64(secret.bytes)];
}

function relativePath(path: string, prefix: string): string {
  if (prefix === '') return path;
  if (path === prefix) return '';
  assert(path.startsWith(`${prefix}/`), 'a secret lies under the prefix that it was fetched by');
  return path.slice(prefix.length + 1);
}

/** The result is always a name that shells accept, so it is never `__proto__` or another word of JavaScript's. */
function variableName(text: string): string {
  const name = text.replace(/[^A-Za-z0-9]/gu, '_').toUpperCase();
  return name === '' || /^[0-9]/.test(name) ? `_${name}` : name;
}

function plainValue(valueText: string): string {
  if (valueText === 'null') return '';
  return valueText.startsWith('"') ? decodeString(valueText) : valueText;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

function collision(name: string, first: string, second: string): VaultError {
  const who = first === second ? `two keys of ${first} become` : `keys of ${first} and of ${second} both become`;
  return new VaultError('invalid_request', `${who} ${name}; rename one, or fetch with format json`, {
    details: { name, paths: [first, second] },
  });
}

function unwritable(name: string, why: string): VaultError {
  return new VaultError(
    'invalid_request',
    `${name} cannot be written to an .env file: ${why}; use format flat or json`,
    {
      details: { name },
    },
  );
}
