/**
 * One's own second factor and sessions. A code is taken once, so nothing that takes one is sent again by itself; a seed
 * and recovery codes are in an answer once and never again.
 */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { EnrolTotpBody, RecoveryCodes, Session, SessionsEnded, Totp, TotpConfirmed, TotpSeed } from './types.ts';

export type SecondFactor = ReturnType<typeof createSecondFactor>;
export type Sessions = ReturnType<typeof createSessions>;

export function createSecondFactor(connection: Connection) {
  const withCode = (path: string, code: string, options: CallOptions) =>
    ({ method: 'POST', path: `${API}${path}`, effect: 'more', json: { totp: code }, ...options }) as const;
  return {
    state: (options: CallOptions = {}): Promise<Totp> =>
      sendForJson(connection, { method: 'GET', path: `${API}/auth/totp`, effect: 'none', ...options }),

    /** Makes a seed, which counts once it is confirmed. */
    enrol: (request: EnrolTotpBody, options: CallOptions = {}): Promise<TotpSeed> =>
      sendForJson(connection, {
        method: 'POST',
        path: `${API}/auth/totp`,
        effect: 'more',
        json: request,
        ...options,
      }),

    /** All other sessions end; goes on with the new token. */
    confirm: async (code: string, options: CallOptions = {}): Promise<TotpConfirmed> => {
      const answer = await sendForJson<TotpConfirmed>(connection, withCode('/auth/totp/confirm', code, options));
      connection.setToken(answer.token);
      return answer;
    },

    /** All sessions end, the one in use too: log in again. */
    remove: async (code: string, options: CallOptions = {}): Promise<void> => {
      await connection.send(withCode('/auth/totp/remove', code, options));
      connection.setToken(undefined);
    },

    recoveryCodes: (code: string, options: CallOptions = {}): Promise<RecoveryCodes> =>
      sendForJson(connection, withCode('/auth/totp/recovery-codes', code, options)),
  };
}

export function createSessions(connection: Connection) {
  return {
    list: (options: CallOptions = {}): AsyncGenerator<Session, void, undefined> =>
      listAll(connection, `${API}/auth/sessions`, {}, options),

    end: async (accessor: string, options: CallOptions = {}): Promise<void> => {
      const path = `${API}/auth/sessions/${part(accessor)}`;
      await connection.send({ method: 'DELETE', path, effect: 'same', ...options });
    },

    /** All but the one in use. */
    endOthers: (options: CallOptions = {}): Promise<SessionsEnded> =>
      sendForJson(connection, { method: 'DELETE', path: `${API}/auth/sessions`, effect: 'same', ...options }),
  };
}
