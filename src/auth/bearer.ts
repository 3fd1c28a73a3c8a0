/** The Authorization header, read in exactly one way. What does not fit is no token, and is never repeated in a message. */
import { timingSafeEqual } from 'node:crypto';
import { type ParsedToken, parseToken } from '../crypto/token.ts';

export { parseToken as parseTokenText } from '../crypto/token.ts';

const SCHEME = 'Bearer ';

/**
 * What a connection showed last, so that a client which shows the same token again and again has it parsed once. Nothing
 * is believed by it: the token is looked up for every request. Compared in constant time, because a proxy may send many
 * clients over one connection.
 */
const shown = new WeakMap<object, { readonly text: Buffer; readonly token: ParsedToken | undefined }>();

/** The token that came over `connection` as `text`, not yet believed; undefined when it is none. */
export function parseTokenOf(connection: object, text: string): ParsedToken | undefined {
  const bytes = Buffer.from(text, 'latin1');
  const before = shown.get(connection);
  if (before?.text.length === bytes.length && timingSafeEqual(before.text, bytes)) return before.token;
  const token = parseToken(text);
  shown.set(connection, { text: bytes, token });
  return token;
}

/** The same of an Authorization header, `Bearer <token>`. */
export function parseBearerOf(connection: object, header: string | undefined): ParsedToken | undefined {
  if (header === undefined || !header.startsWith(SCHEME)) return undefined;
  return parseTokenOf(connection, header.slice(SCHEME.length));
}
