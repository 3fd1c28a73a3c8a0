/** Service accounts and their client secrets. A client secret is in one answer and never again. */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type {
  ClientSecret,
  CreateClientSecretBody,
  CreateServiceBody,
  NewClientSecret,
  Service,
  UpdateServiceBody,
} from './types.ts';

export type Services = ReturnType<typeof createServices>;

export function createServices(connection: Connection) {
  const at = (name: string) => `${API}/services/${part(name)}`;
  return {
    list: (options: CallOptions = {}): AsyncGenerator<Service, void, undefined> =>
      listAll(connection, `${API}/services`, {}, options),

    create: (service: CreateServiceBody, options: CallOptions = {}): Promise<Service> =>
      sendForJson(connection, { method: 'POST', path: `${API}/services`, effect: 'same', json: service, ...options }),

    get: (name: string, options: CallOptions = {}): Promise<Service> =>
      sendForJson(connection, { method: 'GET', path: at(name), effect: 'none', ...options }),

    patch: (name: string, patch: UpdateServiceBody, options: CallOptions = {}): Promise<Service> =>
      sendForJson(connection, { method: 'PATCH', path: at(name), effect: 'same', json: patch, ...options }),

    /** Its client secrets and tokens end with it. */
    delete: async (name: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: at(name), effect: 'same', ...options });
    },

    listSecrets: (name: string, options: CallOptions = {}): AsyncGenerator<ClientSecret, void, undefined> =>
      listAll(connection, `${at(name)}/secrets`, {}, options),

    /** Several work side by side; one that replaces another ends it after the overlap. */
    createSecret: (name: string, wish: CreateClientSecretBody, options: CallOptions = {}): Promise<NewClientSecret> =>
      sendForJson(connection, { method: 'POST', path: `${at(name)}/secrets`, effect: 'more', json: wish, ...options }),

    /** The tokens that were given for it end with it. */
    deleteSecret: async (name: string, secret: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({
        method: 'DELETE',
        path: `${at(name)}/secrets/${part(secret)}`,
        effect: 'same',
        ...options,
      });
    },
  };
}
