/** Issuers of signed tokens, and login roles: what an identity that somebody else proves may do. */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { Issuer, LoginRole, PutIssuerBody, PutLoginRoleBody } from './types.ts';

export type Issuers = ReturnType<typeof createIssuers>;
export type LoginRoles = ReturnType<typeof createLoginRoles>;

export const createIssuers = (connection: Connection) => collection<Issuer, PutIssuerBody>(connection, 'issuers');
export const createLoginRoles = (connection: Connection) =>
  collection<LoginRole, PutLoginRoleBody>(connection, 'login-roles');

function collection<Item, Body>(connection: Connection, noun: string) {
  const at = (name: string) => `${API}/${noun}/${part(name)}`;
  return {
    list: (options: CallOptions = {}): AsyncGenerator<Item, void, undefined> =>
      listAll(connection, `${API}/${noun}`, {}, options),

    get: (name: string, options: CallOptions = {}): Promise<Item> =>
      sendForJson(connection, { method: 'GET', path: at(name), effect: 'none', ...options }),

    /** Creates or replaces; a change ends the tokens that were given by it. */
    put: (name: string, body: Body, options: CallOptions = {}): Promise<Item> =>
      sendForJson(connection, { method: 'PUT', path: at(name), effect: 'same', json: body, ...options }),

    delete: async (name: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: at(name), effect: 'same', ...options });
    },
  };
}
