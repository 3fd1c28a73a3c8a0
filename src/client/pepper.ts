/** The secret that every password is hashed with, in versions: never its bytes. For operators. */
import { API, listAll, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { Pepper } from './types.ts';

export type Peppers = ReturnType<typeof createPeppers>;
export type PepperUser = { readonly tenant: string; readonly username: string; readonly last_login_at: string | null };

export function createPeppers(connection: Connection) {
  return {
    list: (options: CallOptions = {}): AsyncGenerator<Pepper, void, undefined> =>
      listAll(connection, `${API}/peppers`, {}, options),

    /** New passwords use the new one at once, others from the next login on. */
    rotate: (options: CallOptions = {}): Promise<Pepper> =>
      sendForJson(connection, { method: 'POST', path: `${API}/peppers/rotate`, effect: 'more', json: {}, ...options }),

    /**
     * Whose password depends on it: of one that was replaced, who has not logged in since. With `absentFor` ("30d"), only
     * who has not for so long.
     */
    users: (
      version: number,
      { absentFor, ...options }: CallOptions & { readonly absentFor?: string | undefined } = {},
    ): AsyncGenerator<PepperUser, void, undefined> =>
      listAll(connection, `${API}/peppers/${version}/users`, { absent_for: absentFor }, options),

    /** With `endPasswords`, who still depends on it must be given a new password. */
    destroy: async (
      version: number,
      { endPasswords = false, ...options }: CallOptions & { readonly endPasswords?: boolean } = {},
    ): Promise<void> => {
      const query = { end_passwords: endPasswords ? 'true' : undefined };
      await connection.send({ method: 'DELETE', path: `${API}/peppers/${version}`, effect: 'same', query, ...options });
    },
  };
}
