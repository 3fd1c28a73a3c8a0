/**
 * Whom a client takes for the server: a certificate by an authority that it trusts, for the host that it asked for, and,
 * where keys are pinned, with one of those keys in its chain.
 *
 * Pins narrow and never widen: a pinned key without a trusted certificate is refused too. A pin is `sha256/` and the
 * base64 of SHA-256 of a public key (RFC 7469 §2.4), the server's own or that of an authority above it. Several are
 * taken, so that the next key is known before it is served.
 */
import { createHash, X509Certificate } from 'node:crypto';
import {
  type ConnectionOptions,
  checkServerIdentity,
  createSecureContext,
  type DetailedPeerCertificate,
} from 'node:tls';
import { BullaError } from './error.ts';

export type Trust = {
  /** Certificates as PEM, in place of the system's. */
  readonly ca?: string | undefined;
  readonly pins?: readonly string[] | undefined;
  /** The client's own certificate with its chain, and its key, as PEM. */
  readonly certificate?: { readonly cert: string; readonly key: string } | undefined;
};

const PIN = /^sha256\/[A-Za-z0-9+/]{43}=$/;

/** Throws `invalid_request` for what is no pin. */
export function checkPins(pins: readonly string[] | undefined): readonly string[] | undefined {
  for (const pin of pins ?? []) {
    if (PIN.test(pin)) continue;
    throw new BullaError(
      'invalid_request',
      'A pin is "sha256/" and 44 characters of base64, as `bulla server` prints it.',
    );
  }
  return pins?.length ? pins : undefined;
}

export function tlsOptions({ ca, pins, certificate }: Trust): ConnectionOptions {
  if (certificate) checkOwn(certificate);
  const check = (host: string, peer: DetailedPeerCertificate) =>
    checkServerIdentity(host, peer) ?? (pins && checkKey(host, peer, pins));
  return {
    minVersion: 'TLSv1.2',
    ...(ca === undefined ? {} : { ca }),
    ...(certificate ?? {}),
    checkServerIdentity: check as NonNullable<ConnectionOptions['checkServerIdentity']>,
  };
}

function checkOwn(certificate: NonNullable<Trust['certificate']>): void {
  try {
    createSecureContext(certificate);
  } catch {
    throw new BullaError(
      'invalid_request',
      'The certificate of your own cannot be used: it and its key have to be PEM, the key without a passphrase, and of each other.',
    );
  }
}

function checkKey(host: string, peer: DetailedPeerCertificate, pins: readonly string[]): Error | undefined {
  const chain = provenChain(peer);
  if (chain.some((certificate) => pins.includes(pinOf(certificate)))) return undefined;
  return new BullaError(
    'untrusted_server',
    `The certificate of ${host} is trusted, but its key ${pinOf(chain[0]!)} is none of the ${pins.length} that are pinned: ` +
      'either somebody is in between, or the key was changed. Compare it with what the server itself prints or shows ' +
      'in its status; when it was changed, give the new pin (BULLA_PINS, --pin, or the option pins).',
  );
}

/** From the server's own upwards, as far as each certificate is signed by the next: what else was sent proves nothing. */
function provenChain(peer: DetailedPeerCertificate): X509Certificate[] {
  const chain = [new X509Certificate(peer.raw)];
  for (let above = peer.issuerCertificate; above?.raw; above = above.issuerCertificate) {
    const [last, next] = [chain.at(-1)!, new X509Certificate(above.raw)];
    if (next.raw.equals(last.raw) || !last.checkIssued(next) || !last.verify(next.publicKey)) break;
    chain.push(next);
  }
  return chain;
}

function pinOf({ publicKey }: X509Certificate): string {
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  return `sha256/${createHash('sha256').update(spki).digest('base64')}`;
}
