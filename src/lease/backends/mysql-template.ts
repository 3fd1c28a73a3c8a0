/**
 * Statements of people for MySQL, with `{{username}}` in them where the account stands, which brings its own quotes.
 *
 * What would be read in another way than it is meant is refused when the role is stored: a placeholder inside of quotes,
 * a backslash, a comment, a second statement.
 */
import { z } from 'zod';

/** What UTF-8 and MySQL can hold: no NUL, no half of a surrogate pair. */
export const isText = (text: string) => !/\0|\p{Surrogate}/u.test(text);

/** A statement of a role: `{{username}}` stands for the account, and brings its own quotes. */
export const templateSchema = z
  .string()
  .min(1)
  .max(4096)
  .superRefine((text, context) => {
    const message = templateRefusal(text);
    if (message !== undefined) context.addIssue({ code: 'custom', message });
  });

const PLACEHOLDER = /\{\{\s*(?:([a-z_]+)\s*)?\}\}/g;
/** What hides what is in it. A backslash is refused everywhere, so each ends at its next quote that is not doubled. */
const QUOTED = /'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`/g;

function templateRefusal(text: string): string | undefined {
  if (!isText(text) || text.includes('\\')) return 'expected text without a NUL and without backslashes';
  const bare = text.replace(QUOTED, ' ');
  if (/['"`]/.test(bare)) return 'a quote has no end';
  if (/#|--|\/\*|;/.test(bare)) return 'expected one statement without comments';
  const count = (of: string) => [...of.matchAll(PLACEHOLDER)].length;
  if (count(text) !== count(bare)) return 'a placeholder stands inside of quotes: it brings its own, leave yours out';
  if ([...bare.matchAll(PLACEHOLDER)].some(([, found]) => found !== 'username')) {
    return 'expected no other placeholder than {{username}}';
  }
  return /\{\{|\}\}/.test(bare.replace(PLACEHOLDER, '')) ? 'braces that are no {{username}}' : undefined;
}

/** `quoted`: the account, quoted. */
export const fill = (text: string, quoted: string) => text.replace(PLACEHOLDER, () => quoted);
