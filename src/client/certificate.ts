/** Whose client certificates a tenant believes, and what they give. */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { Authority, CertificateRole, PutAuthorityBody, PutCertificateRoleBody } from './types.ts';

export type Authorities = ReturnType<typeof createAuthorities>;
export type CertificateRoles = ReturnType<typeof createCertificateRoles>;

export function createAuthorities(connection: Connection) {
  const at = (name: string) => `${API}/authorities/${part(name)}`;
  return {
    list: (options: CallOptions = {}): AsyncGenerator<Authority, void, undefined> =>
      listAll(connection, `${API}/authorities`, {}, options),

    get: (name: string, options: CallOptions = {}): Promise<Authority> =>
      sendForJson(connection, { method: 'GET', path: at(name), effect: 'none', ...options }),

    /** Made, or replaced: then the tokens of its clients end. */
    put: (name: string, authority: PutAuthorityBody, options: CallOptions = {}): Promise<Authority> =>
      sendForJson(connection, { method: 'PUT', path: at(name), effect: 'same', json: authority, ...options }),

    /** The newest revocation list, as PEM: tokens of certificates in it end. */
    putRevocationList: (name: string, crl: string, options: CallOptions = {}): Promise<Authority> =>
      sendForJson(connection, { method: 'PUT', path: `${at(name)}/crl`, effect: 'same', json: { crl }, ...options }),

    delete: async (name: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: at(name), effect: 'same', ...options });
    },
  };
}

export function createCertificateRoles(connection: Connection) {
  const at = (name: string) => `${API}/certificate-roles/${part(name)}`;
  return {
    list: (options: CallOptions = {}): AsyncGenerator<CertificateRole, void, undefined> =>
      listAll(connection, `${API}/certificate-roles`, {}, options),

    get: (name: string, options: CallOptions = {}): Promise<CertificateRole> =>
      sendForJson(connection, { method: 'GET', path: at(name), effect: 'none', ...options }),

    /** Made, or replaced: then the tokens that it gave end. */
    put: (name: string, role: PutCertificateRoleBody, options: CallOptions = {}): Promise<CertificateRole> =>
      sendForJson(connection, { method: 'PUT', path: at(name), effect: 'same', json: role, ...options }),

    /** With it go the accounts that came by it. */
    delete: async (name: string, options: CallOptions = {}): Promise<void> => {
      await connection.send({ method: 'DELETE', path: at(name), effect: 'same', ...options });
    },
  };
}
