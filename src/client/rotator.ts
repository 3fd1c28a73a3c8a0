/** Rotators: what gives a stored secret a new version by itself. Programs hear of it by `watch`. */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { PutRotatorBody, Rotator } from './types.ts';

export type Rotators = ReturnType<typeof createRotators>;

export function createRotators(connection: Connection) {
  const at = (path: string) => `${API}/rotators/${part(path)}`;
  return {
    list: (options: CallOptions = {}): AsyncGenerator<Rotator, void, undefined> =>
      listAll(connection, `${API}/rotators`, {}, options),
    get: (path: string, options: CallOptions = {}): Promise<Rotator> =>
      sendForJson(connection, { method: 'GET', path: at(path), effect: 'none', ...options }),
    /** Secrets of webhooks that are left out stay as they are. */
    put: (path: string, rotator: PutRotatorBody, options: CallOptions = {}): Promise<Rotator> =>
      sendForJson(connection, { method: 'PUT', path: at(path), effect: 'same', json: rotator, ...options }),
    rotate: (path: string, options: CallOptions = {}): Promise<Rotator> =>
      sendForJson(connection, { method: 'POST', path: `${at(path)}/rotate`, effect: 'more', ...options }),
    /** The secret stays as it is. */
    delete: async (path: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: at(path), effect: 'same', ...options });
    },
  };
}
