/**
 * SQL out of names and values that people chose, and out of their statements.
 *
 * An identifier or a literal is quoted once, here, for the place where it stands. A template is somebody's statement with
 * `{{name}}` in it; what is filled in brings its own quotes, so a placeholder inside of quotes, of a comment or of a
 * dollar-quoted text is refused when the role is stored.
 */
import { z } from 'zod';

/** NAMEDATALEN - 1: PostgreSQL cuts what is longer, and two names would be one. */
const NAME_BYTES_MAX = 63;

/** What UTF-8 and PostgreSQL can hold: no NUL, no half of a surrogate pair. */
const isText = (text: string) => !/\0|\p{Surrogate}/u.test(text);

export const nameSchema = z
  .string()
  .min(1)
  .refine((name) => Buffer.byteLength(name) <= NAME_BYTES_MAX, `expected at most ${NAME_BYTES_MAX} bytes of UTF-8`)
  .refine((name) => isText(name), 'expected text that PostgreSQL can hold');

declare const sqlBrand: unique symbol;
/** Text that is quoted for where it stands in a statement. */
export type Quoted = { readonly text: string; readonly [sqlBrand]: true };

const quoted = (text: string) => ({ text }) as Quoted;

export function quoteIdentifier(name: string): string {
  nameSchema.parse(name);
  return `"${name.replaceAll('"', '""')}"`;
}

export function identifier(name: string): Quoted {
  return quoted(quoteIdentifier(name));
}

/** Whatever standard_conforming_strings says: a backslash makes it an escape string, in which both are doubled. */
export function literal(value: string): Quoted {
  if (!isText(value)) throw new Error('not text that PostgreSQL can hold');
  const doubled = value.replaceAll("'", "''");
  return quoted(doubled.includes('\\') ? ` E'${doubled.replaceAll('\\', '\\\\')}'` : `'${doubled}'`);
}

const PLACEHOLDER = /\{\{\s*(?:([a-z_]+)\s*)?\}\}/g;
const KNOWN: ReadonlySet<string> = new Set(['username', 'expiration']);
const TEMPLATE_CHARS_MAX = 4096;

/** A statement of a role: its placeholders are known and stand where a name or a value can stand. */
export const templateSchema = z
  .string()
  .min(1)
  .max(TEMPLATE_CHARS_MAX)
  .superRefine((template, context) => {
    const why = refusal(template);
    if (why !== undefined) context.addIssue({ code: 'custom', message: why });
  });

function refusal(template: string): string | undefined {
  if (!isText(template)) return 'expected text that PostgreSQL can hold';
  const bare = outsideOfQuotes(template);
  if (bare === undefined) return 'a quote, a comment or a dollar-quoted text has no end';
  const inside = [...template.matchAll(PLACEHOLDER)].length - [...bare.matchAll(PLACEHOLDER)].length;
  if (inside > 0)
    return 'a placeholder stands inside of quotes or of a comment: it brings its own quotes, leave yours out';
  const unknown = [...bare.matchAll(PLACEHOLDER)].find(([, name]) => !KNOWN.has(name!));
  if (unknown) return `there is no placeholder {{${unknown[1]}}}: expected {{username}} or {{expiration}}`;
  if (/\{\{|\}\}/.test(bare.replace(PLACEHOLDER, ''))) return 'braces that are no placeholder such as {{username}}';
  return undefined;
}

/** One token of SQL that hides what is in it, tried at each place. */
const HIDING =
  /(?:'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/|(\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$)[\s\S]*?\1)/y;

/**
 * The template with what stands in quotes and comments left out. Escape strings and nested comments are refused along
 * with what has no end, because where they end depends on settings of the session.
 */
function outsideOfQuotes(template: string): string | undefined {
  let bare = '';
  for (let at = 0; at < template.length; ) {
    HIDING.lastIndex = at;
    const hidden = HIDING.exec(template)?.[0];
    if (hidden !== undefined) {
      if (hidden.includes('\\') || (hidden.startsWith('/*') && hidden.slice(2).includes('/*'))) return undefined;
      at += hidden.length;
      bare += ' ';
      continue;
    }
    const two = template.slice(at, at + 2);
    if (two === '--' || two === '/*' || two[0] === "'" || two[0] === '"') return undefined;
    bare += template[at];
    at += 1;
  }
  return /\$[A-Za-z_]*\$/.test(bare) ? undefined : bare;
}

export function fill(template: string, values: Readonly<Record<string, Quoted>>): string {
  return template.replace(PLACEHOLDER, (_, name: string) => {
    const value = Object.hasOwn(values, name) ? values[name] : undefined;
    if (value === undefined) throw new Error(`no value for the placeholder ${name}`);
    return value.text;
  });
}
