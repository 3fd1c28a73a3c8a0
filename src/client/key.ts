/** The versions of a tenant's data key and of the deployment's root key: never their bytes. */
import { API, listAll, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { DataKey, DataKeyRotation, RootKey, RootRotation } from './types.ts';

export type Keys = ReturnType<typeof createKeys>;
export type RootKeys = ReturnType<typeof createRootKeys>;

export function createKeys(connection: Connection) {
  return {
    list: (options: CallOptions = {}): AsyncGenerator<DataKey, void, undefined> =>
      listAll(connection, `${API}/keys`, {}, options),

    /** New writes use the new version; what older versions encrypted still opens. */
    rotate: (options: CallOptions = {}): Promise<DataKey> =>
      sendForJson(connection, { method: 'POST', path: `${API}/keys/rotate`, effect: 'more', json: {}, ...options }),

    /** The same, with a job that moves everything stored to the new version and then destroys the older ones. */
    reencrypt: (options: CallOptions = {}): Promise<DataKeyRotation> =>
      sendForJson(connection, {
        method: 'POST',
        path: `${API}/keys/rotate`,
        effect: 'more',
        json: { reencrypt: true },
        ...options,
      }),

    /** Destroys a version that nothing stored depends on any more. */
    destroy: async (version: number, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: `${API}/keys/${version}`, effect: 'same', ...options });
    },
  };
}

export function createRootKeys(connection: Connection) {
  return {
    list: (options: CallOptions = {}): AsyncGenerator<RootKey, void, undefined> =>
      listAll(connection, `${API}/root-keys`, {}, options),

    /** Every data key is wrapped anew and the old root key destroyed. */
    rotate: (options: CallOptions = {}): Promise<RootRotation> =>
      sendForJson(connection, {
        method: 'POST',
        path: `${API}/root-keys/rotate`,
        effect: 'more',
        json: {},
        ...options,
      }),
  };
}
