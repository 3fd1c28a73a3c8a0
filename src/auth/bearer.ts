/** The Authorization header, read in exactly one way. What does not fit is no token, and is never repeated in a message. */
import { timingSafeEqual } from 'node:crypto';
import { type ParsedToken, parseToken } from '../crypto/token.ts';

export { parseToken as parseTokenText } from '../crypto/token.ts';

const SCHEME = 'Bearer ';

/** The token of `Bearer <token>`, not yet believed; undefined when there is none or the text is not one. */
export function parseBearer(header: string | undefined): ParsedToken | undefined {
  if (header === undefined || !header.startsWith(SCHEME)) return undefined;
  return parseToken(header.slice(SCHEME.length));
}

/**
 * What a connection showed last, so that a client which shows the same token again and again has it parsed once. Nothing
 * is believed by it: the token is looked up for every request. Compared in constant time, because a proxy may send many
 * clients over one connection.
 */
const shown = new WeakMap<object, { readonly header: Buffer; readonly token: ParsedToken | undefined }>();

/** The same as `parseBearer`, for requests that come over `connection`. */
export function parseBearerOf(connection: object, header: string | undefined): ParsedToken | undefined {
  if (header === undefined) return undefined;
  const bytes = Buffer.from(header, 'latin1');
  const before = shown.get(connection);
  if (before?.header.length === bytes.length && timingSafeEqual(before.header, bytes)) return before.token;
  const token = parseBearer(header);
  shown.set(connection, { header: bytes, token });
  return token;
}
