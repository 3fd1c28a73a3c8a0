/**
 * What an address of PostgreSQL says of TLS: asked for, it is verified, the certificate and the host (T-142).
 *
 * `sslmode` is libpq's word with one difference: `require` and `verify-ca` check as much as `verify-full`, because TLS
 * with whoever answers protects from nobody who can answer. What would go on in plain text when the server wants to
 * (`prefer`, `allow`) is refused. `sslrootcert` names the authorities, as PEM; without it the system's count.
 */
import { readFileSync } from 'node:fs';
import { type ConnectionOptions, checkServerIdentity } from 'node:tls';
import { VaultError } from '../errors.ts';
import { NOT_OF_AN_ADDRESS } from './session.ts';

export type Link = {
  /** The address without what is said of TLS, and without what it has no say in. */
  readonly url: string;
  readonly tls: { readonly ssl?: ConnectionOptions };
};

const VERIFIED = new Set(['require', 'verify-ca', 'verify-full', 'true']);
const PLAIN = new Set(['disable', 'false']);

/** Throws `invalid_request`. */
export function parseLink(target: string): Link {
  const url = new URL(target);
  const mode = url.searchParams.get('sslmode') ?? url.searchParams.get('ssl') ?? 'disable';
  const authorities = url.searchParams.get('sslrootcert');
  for (const name of ['sslmode', 'ssl', 'sslrootcert', ...NOT_OF_AN_ADDRESS]) url.searchParams.delete(name);
  if (PLAIN.has(mode)) return { url: url.href, tls: {} };
  if (!VERIFIED.has(mode)) {
    throw new VaultError(
      'invalid_request',
      'BULLA_DATABASE_URL: sslmode is verify-full, which checks certificate and host, or disable; nothing between.',
    );
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const ssl: ConnectionOptions = {
    minVersion: 'TLSv1.2',
    // By the host of the address, an IP address too: for one of those the library would let "localhost" be checked.
    checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate),
    ...(authorities === null ? {} : { ca: readAuthorities(authorities) }),
  };
  return { url: url.href, tls: { ssl } };
}

function readAuthorities(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new VaultError('invalid_request', `BULLA_DATABASE_URL: sslrootcert ${file} cannot be read (${code}).`);
  }
}
