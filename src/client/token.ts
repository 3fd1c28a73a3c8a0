/** Tokens: children of the one in use, and all of them by accessor. A token is in one answer and never again. */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { CreateTokenBody, NewToken, Token } from './types.ts';

export type Tokens = ReturnType<typeof createTokens>;

export function createTokens(connection: Connection) {
  return {
    /** A token under the one in use: it ends with it, and does nothing that it may not do. */
    create: (wish: CreateTokenBody = {}, options: CallOptions = {}): Promise<NewToken> =>
      sendForJson(connection, { method: 'POST', path: `${API}/tokens`, effect: 'more', json: wish, ...options }),

    list: (
      options: CallOptions & { readonly username?: string | undefined } = {},
    ): AsyncGenerator<Token, void, undefined> => {
      const { username, ...rest } = options;
      return listAll(connection, `${API}/tokens`, username === undefined ? {} : { username }, rest);
    },

    get: (accessor: string, options: CallOptions = {}): Promise<Token> =>
      sendForJson(connection, { method: 'GET', path: `${API}/tokens/${part(accessor)}`, effect: 'none', ...options }),

    /** What hangs under it ends with it, on every node. */
    revoke: async (accessor: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: `${API}/tokens/${part(accessor)}`, effect: 'same', ...options });
    },
  };
}
