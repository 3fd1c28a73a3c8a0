/** Leases: credentials and accesses that end by themselves; where credentials come from; and keeping one fresh. */
import { randomUUID } from 'node:crypto';
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type {
  Account,
  AccountCredential,
  Backend,
  CondemnedLeases,
  CreateLeaseBody,
  EndedLease,
  Lease,
  PutAccountBody,
  PutBackendBody,
  PutRoleBody,
  RevokeLeasesBody,
  Role,
  Sweeper,
  TakenLease,
} from './types.ts';

export type LeaseListing = {
  readonly state?: Lease['state'] | 'stuck' | undefined;
  /** Of the path, by whole segments. */
  readonly prefix?: string | undefined;
  readonly holder?: string | undefined;
  /** Of the token that took them. */
  readonly accessor?: string | undefined;
};

export type Leases = ReturnType<typeof createLeases>;

export function createLeases(connection: Connection) {
  return {
    /**
     * Takes a lease. A lost answer is asked for again and gives the same credential, because each call has a key of its
     * own; give one to have that for a call of yours.
     */
    take: (
      wanted: CreateLeaseBody,
      options: CallOptions & { readonly idempotencyKey?: string | undefined } = {},
    ): Promise<TakenLease> => {
      const { idempotencyKey = randomUUID(), ...rest } = options;
      return sendForJson(connection, {
        ...{ method: 'POST', path: `${API}/leases`, effect: 'same', json: wanted },
        ...{ headers: { 'idempotency-key': idempotencyKey }, ...rest },
      });
    },

    list: (options: CallOptions & LeaseListing = {}): AsyncGenerator<Lease, void, undefined> => {
      const { state, prefix, holder, accessor, ...rest } = options;
      return listAll(connection, `${API}/leases`, { state, prefix, holder, accessor }, rest);
    },

    get: (id: string, options: CallOptions = {}): Promise<Lease> =>
      sendForJson(connection, { method: 'GET', path: `${API}/leases/${part(id)}`, effect: 'none', ...options }),

    /** Counted from now; without a ttl, what it was taken for. */
    renew: (id: string, options: CallOptions & { readonly ttl?: string | number | undefined } = {}): Promise<Lease> => {
      const { ttl, ...rest } = options;
      const json = ttl === undefined ? {} : { ttl };
      return sendForJson(connection, {
        ...{ method: 'POST', path: `${API}/leases/${part(id)}/renew`, effect: 'same', json, ...rest },
      });
    },

    /** The state of the answer says whether the credential is gone, or still being revoked. */
    revoke: (id: string, options: CallOptions = {}): Promise<Lease> =>
      sendForJson(connection, { method: 'DELETE', path: `${API}/leases/${part(id)}`, effect: 'same', ...options }),

    /** Drops a lease although its credential may still work. */
    dropByForceAlthoughItsCredentialMayStillWork: (id: string, options: CallOptions = {}): Promise<EndedLease> =>
      sendForJson(connection, {
        ...{ method: 'DELETE', path: `${API}/leases/${part(id)}`, effect: 'more', query: { force: true }, ...options },
      }),

    revokeMany: (which: RevokeLeasesBody, options: CallOptions = {}): Promise<CondemnedLeases> =>
      sendForJson(connection, {
        method: 'POST',
        path: `${API}/leases/revoke`,
        effect: 'same',
        json: which,
        ...options,
      }),

    /** For operators: whether leases expire. */
    sweeper: (options: CallOptions = {}): Promise<Sweeper> =>
      sendForJson(connection, { method: 'GET', path: `${API}/sweeper`, effect: 'none', ...options }),

    /** For operators, after a jump of the clock. */
    confirmClock: (options: CallOptions = {}): Promise<Sweeper> =>
      sendForJson(connection, { method: 'POST', path: `${API}/sweeper/confirm`, effect: 'same', ...options }),
  };
}

type Removal = CallOptions & {
  /** Revoke live leases first, in place of refusing. */
  readonly revoke?: boolean | undefined;
};

async function remove(
  connection: Connection,
  path: string,
  { revoke, ...rest }: Removal,
  forced: { readonly force?: true } = {},
): Promise<void> {
  await connection.send({ method: 'DELETE', path, effect: 'same', query: { revoke, ...forced }, ...rest });
}

export type Backends = ReturnType<typeof createBackends>;

export function createBackends(connection: Connection) {
  const at = (name: string) => `${API}/backends/${part(name)}`;
  return {
    list: (options: CallOptions = {}): AsyncGenerator<Backend, void, undefined> =>
      listAll(connection, `${API}/backends`, {}, options),
    get: (name: string, options: CallOptions = {}): Promise<Backend> =>
      sendForJson(connection, { method: 'GET', path: at(name), effect: 'none', ...options }),
    /** Tried on its real target before it is stored. Secrets that the configuration leaves out stay as they are. */
    put: (name: string, backend: PutBackendBody, options: CallOptions = {}): Promise<Backend> =>
      sendForJson(connection, { method: 'PUT', path: at(name), effect: 'same', json: backend, ...options }),
    delete: (name: string, options: Removal = {}): Promise<void> => remove(connection, at(name), options),
    deleteAlthoughNobodyKnowsPasswordsThen: (name: string, options: Removal = {}): Promise<void> =>
      remove(connection, at(name), options, { force: true }),
  };
}

export type Roles = ReturnType<typeof createRoles>;

export function createRoles(connection: Connection) {
  const at = (name: string) => `${API}/roles/${part(name)}`;
  return {
    list: (options: CallOptions = {}): AsyncGenerator<Role, void, undefined> =>
      listAll(connection, `${API}/roles`, {}, options),
    get: (name: string, options: CallOptions = {}): Promise<Role> =>
      sendForJson(connection, { method: 'GET', path: at(name), effect: 'none', ...options }),
    put: (name: string, role: PutRoleBody, options: CallOptions = {}): Promise<Role> =>
      sendForJson(connection, { method: 'PUT', path: at(name), effect: 'same', json: role, ...options }),
    delete: (name: string, options: Removal = {}): Promise<void> => remove(connection, at(name), options),
  };
}

export type Accounts = ReturnType<typeof createAccounts>;

/** Static accounts. One is checked out by `leases.take({ account })`. */
export function createAccounts(connection: Connection) {
  const at = (name: string) => `${API}/accounts/${part(name)}`;
  return {
    list: (
      options: CallOptions & { readonly state?: Account['state'] | undefined } = {},
    ): AsyncGenerator<Account, void, undefined> => {
      const { state, ...rest } = options;
      return listAll(connection, `${API}/accounts`, { state }, rest);
    },
    get: (name: string, options: CallOptions = {}): Promise<Account> =>
      sendForJson(connection, { method: 'GET', path: at(name), effect: 'none', ...options }),
    /** A password that comes with it is proven first; a new account without one is given another at once. */
    put: (name: string, account: PutAccountBody, options: CallOptions = {}): Promise<Account> =>
      sendForJson(connection, { method: 'PUT', path: at(name), effect: 'same', json: account, ...options }),
    /** What it is logged in with now. */
    credential: (name: string, options: CallOptions = {}): Promise<AccountCredential> =>
      sendForJson(connection, { method: 'GET', path: `${at(name)}/credential`, effect: 'none', ...options }),
    rotate: (name: string, options: CallOptions = {}): Promise<Account> =>
      sendForJson(connection, { method: 'POST', path: `${at(name)}/rotate`, effect: 'more', ...options }),
    delete: (name: string, options: Removal = {}): Promise<void> => remove(connection, at(name), options),
    deleteAlthoughNobodyKnowsItsPasswordThen: (name: string, options: Removal = {}): Promise<void> =>
      remove(connection, at(name), options, { force: true }),
  };
}
