/** What operators manage: tenants. */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { CreateTenantBody, NewTenant, Tenant, UnlockTenantBody, UpdateTenantBody } from './types.ts';

export type Tenants = ReturnType<typeof createTenants>;

export function createTenants(connection: Connection) {
  const patch = (name: string, json: UpdateTenantBody, options: CallOptions): Promise<Tenant> =>
    sendForJson(connection, {
      method: 'PATCH',
      path: `${API}/tenants/${part(name)}`,
      effect: 'same',
      json,
      ...options,
    });
  return {
    list: (options: CallOptions = {}): AsyncGenerator<Tenant, void, undefined> =>
      listAll(connection, `${API}/tenants`, {}, options),

    /** The answer has the first admin's one-time password, once. */
    create: (tenant: CreateTenantBody, options: CallOptions = {}): Promise<NewTenant> =>
      sendForJson(connection, { method: 'POST', path: `${API}/tenants`, effect: 'same', json: tenant, ...options }),

    get: (name: string, options: CallOptions = {}): Promise<Tenant> =>
      sendForJson(connection, { method: 'GET', path: `${API}/tenants/${part(name)}`, effect: 'none', ...options }),

    suspend: (name: string, options: CallOptions = {}): Promise<Tenant> => patch(name, { state: 'suspended' }, options),

    resume: (name: string, options: CallOptions = {}): Promise<Tenant> => patch(name, { state: 'active' }, options),

    /** Whether every person in it must have a second factor. */
    requireTotp: (name: string, required: boolean, options: CallOptions = {}): Promise<Tenant> =>
      patch(name, { mfa_required: required }, options),

    /** Lets the last administrator of a tenant in again. */
    unlock: async (name: string, unlock: UnlockTenantBody, options: CallOptions = {}): Promise<void> => {
      const path = `${API}/tenants/${part(name)}/unlock`;
      await connection.send({ method: 'POST', path, effect: 'same', json: unlock, ...options });
    },

    /** How much it may have, and how fast it may ask; what is not said stays. */
    setQuotas: (name: string, quotas: UpdateTenantBody['quotas'], options: CallOptions = {}): Promise<Tenant> =>
      patch(name, { quotas }, options),

    /**
     * Its leases are revoked first, then its data keys are destroyed, then everything that it has. `force` gives up leases
     * whose targets never answer: their credentials may go on working.
     */
    delete: async (name: string, options: CallOptions & { readonly force?: true } = {}): Promise<void> => {
      const { force, ...rest } = options;
      const query = force === undefined ? {} : { query: { force } };
      const path = `${API}/tenants/${part(name)}`;
      await connection.send({ method: 'DELETE', path, effect: 'same', ...query, ...rest });
    },
  };
}
