/** Groups of users and services. */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { CreateGroupBody, Group, Member, UpdateGroupBody } from './types.ts';

export type Groups = ReturnType<typeof createGroups>;

export function createGroups(connection: Connection) {
  const path = (name: string) => `${API}/groups/${part(name)}`;
  return {
    list: (options: CallOptions = {}): AsyncGenerator<Group, void, undefined> =>
      listAll(connection, `${API}/groups`, {}, options),

    create: (group: CreateGroupBody, options: CallOptions = {}): Promise<Group> =>
      sendForJson(connection, { method: 'POST', path: `${API}/groups`, effect: 'same', json: group, ...options }),

    get: (name: string, options: CallOptions = {}): Promise<Group> =>
      sendForJson(connection, { method: 'GET', path: path(name), effect: 'none', ...options }),

    members: (name: string, options: CallOptions = {}): AsyncGenerator<Member, void, undefined> =>
      listAll(connection, `${path(name)}/members`, {}, options),

    patch: (name: string, patch: UpdateGroupBody, options: CallOptions = {}): Promise<Group> =>
      sendForJson(connection, { method: 'PATCH', path: path(name), effect: 'same', json: patch, ...options }),

    delete: async (name: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: path(name), effect: 'same', ...options });
    },
  };
}
