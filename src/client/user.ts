/** The people of a tenant. A one-time password is in an answer once and never again. */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { CreateUserBody, UpdateUserBody, User, UserWithPassword } from './types.ts';

export type Users = ReturnType<typeof createUsers>;

export function createUsers(connection: Connection) {
  return {
    list: (options: CallOptions = {}): AsyncGenerator<User, void, undefined> =>
      listAll(connection, `${API}/users`, {}, options),

    /** Without a password the answer has a one-time password, to be changed at the first login. */
    create: (user: CreateUserBody, options: CallOptions = {}): Promise<UserWithPassword> =>
      sendForJson(connection, { method: 'POST', path: `${API}/users`, effect: 'same', json: user, ...options }),

    get: (name: string, options: CallOptions = {}): Promise<User> =>
      sendForJson(connection, { method: 'GET', path: `${API}/users/${part(name)}`, effect: 'none', ...options }),

    patch: (name: string, patch: UpdateUserBody, options: CallOptions = {}): Promise<UserWithPassword> =>
      sendForJson(connection, {
        method: 'PATCH',
        path: `${API}/users/${part(name)}`,
        effect: patch.reset_password ? 'more' : 'same',
        json: patch,
        ...options,
      }),

    /** The user's tokens end with it. */
    delete: async (name: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: `${API}/users/${part(name)}`, effect: 'same', ...options });
    },

    /** Takes a lost second factor away; the user's tokens end with it. */
    removeTotp: async (name: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: `${API}/users/${part(name)}/totp`, effect: 'same', ...options });
    },

    unlock: (name: string, options: CallOptions = {}): Promise<User> =>
      sendForJson(connection, {
        method: 'POST',
        path: `${API}/users/${part(name)}/unlock`,
        effect: 'same',
        ...options,
      }),
  };
}
