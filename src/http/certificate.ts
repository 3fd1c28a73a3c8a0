/**
 * A server's certificate with its key, read from files and checked before anything is served with it.
 *
 * What clients would refuse is refused here, with a sentence that names the file: a key that is not the certificate's, a
 * chain out of order, a certificate without names, not for servers, or not valid now. The key's text goes to OpenSSL and
 * nowhere else.
 */
import { createHash, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { VaultError } from '../errors.ts';
import type { ServedCertificate } from '../protocols/protocol.ts';

/** PEM: the certificate and those between it and its authority, and its key. */
export type Pair = { readonly cert: string; readonly key: string; readonly facts: ServedCertificate };

export type PairFiles = { readonly certFile: string; readonly keyFile: string };

/** Throws `invalid_request`. One that has ended is refused unless `expiredToo`. */
export async function readPair(files: PairFiles, nowMs: number, expiredToo: boolean): Promise<Pair> {
  const { certFile, keyFile } = files;
  const [cert, key] = await Promise.all([readText(certFile), readText(keyFile)]);
  const chain = parseChain(certFile, cert);
  const leaf = chain[0]!;
  const kind = kindOf(certFile, leaf.publicKey);
  const privateKey = parseKey(keyFile, key);
  if (!leaf.checkPrivateKey(privateKey)) throw invalid(`${keyFile} is not the key of the certificate in ${certFile}.`);
  assertOrder(certFile, chain);
  const names = namesOf(leaf);
  if (names.length === 0) throw invalid(`${certFile}: the certificate has no subjectAltName, so no client takes it.`);
  if (leaf.keyUsage !== undefined && !leaf.keyUsage.some((use) => use === SERVER_AUTH || use === ANY_USE)) {
    throw invalid(`${certFile}: the certificate is not for servers (extendedKeyUsage).`);
  }
  assertValid(certFile, leaf, nowMs, expiredToo);
  const pin = pinOf(leaf.publicKey);
  const fingerprint = createHash('sha256').update(leaf.raw).digest('hex');
  const facts = { key: kind, names, issuer: issuerOf(leaf), notAfter: new Date(leaf.validTo), fingerprint, pin };
  return { cert, key, facts };
}

/** `sha256/…` of RFC 7469 §2.4: it stays the same when the certificate is renewed for the same key. */
export function pinOf(publicKey: KeyObject): string {
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  return `sha256/${createHash('sha256').update(spki).digest('base64')}`;
}

/** RFC 5280 §4.2.1.12 */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const ANY_USE = '2.5.29.37.0';

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw invalid(`${file} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
  }
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

function parseChain(file: string, text: string): X509Certificate[] {
  const blocks = text.match(PEM_CERTIFICATE) ?? [];
  if (blocks.length === 0) throw invalid(`${file} holds no certificate in PEM.`);
  return blocks.map((pem, i) => {
    try {
      return new X509Certificate(pem);
    } catch {
      throw invalid(`${file}: certificate ${i + 1} cannot be read.`);
    }
  });
}

function parseKey(file: string, text: string): KeyObject {
  try {
    return createPrivateKey(text);
  } catch {
    throw invalid(`${file} holds no private key in PEM that opens without a passphrase.`);
  }
}

const RSA_BITS_MIN = 2048;

function kindOf(file: string, key: KeyObject): ServedCertificate['key'] {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === 'ec') return 'ecdsa';
  if (type === 'ed25519') return 'ed25519';
  if (type === 'rsa' && (details?.modulusLength ?? 0) >= RSA_BITS_MIN) return 'rsa';
  throw invalid(`${file}: expected a certificate for an ECDSA, Ed25519 or RSA key of at least ${RSA_BITS_MIN} bits.`);
}

function assertOrder(file: string, chain: readonly X509Certificate[]): void {
  for (let i = 1; i < chain.length; i += 1) {
    const [below, above] = [chain[i - 1]!, chain[i]!];
    if (below.checkIssued(above) && below.verify(above.publicKey)) continue;
    throw invalid(
      `${file}: certificate ${i + 1} did not issue the one before it; put them in order, the server's first.`,
    );
  }
}

function assertValid(file: string, { validFrom, validTo }: X509Certificate, nowMs: number, expiredToo: boolean): void {
  if (Date.parse(validFrom) > nowMs) throw invalid(`${file}: the certificate is not valid before ${iso(validFrom)}.`);
  if (Date.parse(validTo) > nowMs || expiredToo) return;
  throw invalid(
    `${file}: the certificate ended at ${iso(validTo)}; renew it. To start all the same: ` +
      'BULLA_TLS_START_WITH_AN_EXPIRED_CERTIFICATE=true.',
  );
}

const iso = (text: string) => new Date(text).toISOString();

/** `DNS:vault.example, IP Address:10.0.0.7`, without names that hold a quote: those are nobody's. */
function namesOf({ subjectAltName }: X509Certificate): string[] {
  return (subjectAltName ?? '')
    .split(', ')
    .map((name) => /^(?:DNS|IP Address):([^"]+)$/.exec(name)?.[1])
    .filter((name) => name !== undefined);
}

function issuerOf({ issuer }: X509Certificate): string {
  return issuer.replace(/[^\x20-\x7e]+/g, ', ').slice(0, 256);
}

function invalid(message: string): VaultError {
  return new VaultError('invalid_request', message);
}
