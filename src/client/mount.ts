/** Mounts: parts of the tree of secrets under names of their own for clients under /v1, and the settings of their secrets. */
import { API, jsonOf, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { ChangeMountBody, CreateMountBody, Mount } from './types.ts';

export type Mounts = ReturnType<typeof createMounts>;

export function createMounts(connection: Connection) {
  const at = (path: string) => `${API}/mounts/${part(path)}`;
  return {
    /** All of them: there is no paging. */
    list: async (options: CallOptions = {}): Promise<Mount[]> => {
      const answer = await connection.send({ method: 'GET', path: `${API}/mounts`, effect: 'none', ...options });
      return jsonOf<{ items: Mount[] }>(answer).items;
    },

    create: (mount: CreateMountBody, options: CallOptions = {}): Promise<Mount> =>
      sendForJson(connection, { method: 'POST', path: `${API}/mounts`, effect: 'more', json: mount, ...options }),

    get: (path: string, options: CallOptions = {}): Promise<Mount> =>
      sendForJson(connection, { method: 'GET', path: at(path), effect: 'none', ...options }),

    change: (path: string, change: ChangeMountBody, options: CallOptions = {}): Promise<Mount> =>
      sendForJson(connection, { method: 'PATCH', path: at(path), effect: 'same', json: change, ...options }),

    /** Refused while it has secrets. */
    remove: async (path: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: at(path), effect: 'same', ...options });
    },
  };
}
