/**
 * From a connection's answers to values: JSON, and lists that come in pages. What comes back is the server's word; its
 * shape is described by openapi.yaml and not checked again here.
 */
import type { Answer, Call, CallOptions, Connection } from './connection.ts';
import { BullaError } from './error.ts';

/** The API's base path; what is outside of it is named whole. */
export const API = '/api/v1';

export function jsonOf<T>(answer: Answer): T {
  try {
    return JSON.parse(answer.body.toString('utf8')) as T;
  } catch {
    // JSON.parse quotes the text in its error, and the text may be a secret.
    throw new BullaError(
      'bad_answer',
      'The answer is not JSON; is something other than a Bulla server at this address?',
      {
        status: answer.status,
      },
    );
  }
}

export async function sendForJson<T>(connection: Connection, call: Call): Promise<T> {
  return jsonOf<T>(await connection.send(call));
}

/** Every item of a list, page after page; only one page is in memory. */
export async function* listAll<T>(
  connection: Connection,
  path: string,
  query: Call['query'],
  options: CallOptions,
): AsyncGenerator<T, void, undefined> {
  let cursor: string | undefined;
  do {
    const page = await sendForJson<{ items: T[]; next_cursor: string | null }>(connection, {
      method: 'GET',
      path,
      effect: 'none',
      query: { ...query, limit: PAGE_ITEMS, cursor },
      ...options,
    });
    yield* page.items;
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
}

/** The most that the server gives at once. */
const PAGE_ITEMS = 1000;

/**
 * A name or path as a part of the target. The server has the rules for them; here it is only made sure that a text can
 * not reach another route: a `?`, a `#` or a dot segment would, and proxies repair what the server would refuse. The
 * text is not repeated, because it may be a secret in the wrong place.
 */
export function part(text: string): string {
  const isSegment = (part: string) => /^[A-Za-z0-9._~@+=-]+$/.test(part) && !/^\.\.?$/.test(part);
  if (text.split('/').every(isSegment)) return text;
  throw new BullaError(
    'invalid_path',
    'A name or path is made of segments of A-Z a-z 0-9 . _ ~ @ + = - with single slashes between them; this one is not.',
  );
}
