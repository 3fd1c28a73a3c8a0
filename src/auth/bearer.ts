/** The Authorization header, read in exactly one way. What does not fit is no token, and is never repeated in a message. */
import { type ParsedToken, parseToken } from '../crypto/token.ts';

export { parseToken as parseTokenText } from '../crypto/token.ts';

const SCHEME = 'Bearer ';

/** The token of `Bearer <token>`, not yet believed; undefined when there is none or the text is not one. */
export function parseBearer(header: string | undefined): ParsedToken | undefined {
  if (header === undefined || !header.startsWith(SCHEME)) return undefined;
  return parseToken(header.slice(SCHEME.length));
}
