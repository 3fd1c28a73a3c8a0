/**
 * Certificates of clients: read strictly, and followed from one to the authority that stands for it.
 *
 * Whether one was signed by another is OpenSSL's to say; the structure is read by a library for X.509; what is ours is the
 * profile (RFC 5280 §6 with everything refused that we do not evaluate): version 3, keys and hashes of today, no critical
 * extension that is not understood, no name constraints, and names that can be read in one way only. The CN is never
 * looked at. What does not fit is refused with a word for the log.
 */
import { createHash, X509Certificate } from 'node:crypto';
import type * as Library from '@peculiar/x509';
import { VaultError } from '../errors.ts';

/** `dns:web.example`, `uri:spiffe://…`, `email:…`, `ip:…`. */
export type SubjectName = string;

export type Certificate = {
  readonly x509: X509Certificate;
  /** SHA-256 of it all. */
  readonly thumbprint: Buffer;
  /** SHA-256 of its public key. */
  readonly keyHash: Buffer;
  /** Hex, as OpenSSL writes it. */
  readonly serial: string;
  readonly issuer: Uint8Array;
  readonly subjectNames: { readonly der: Uint8Array; readonly names: readonly SubjectName[] } | undefined;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly ca: boolean;
  readonly pathLength: number | undefined;
  /** Bits of keyUsage (RFC 5280 §4.2.1.3); undefined when it does not say. */
  readonly usages: number | undefined;
  /** Of extendedKeyUsage; undefined when it does not say. */
  readonly uses: readonly string[] | undefined;
  /** Why it is not one that we take, whoever signed it. */
  readonly flaw: string | undefined;
};

export type RevocationList = {
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  readonly serials: readonly string[];
  readonly isSignedBy: (issuer: Certificate) => Promise<boolean>;
};

export type CertificateReader = {
  /** Throws `invalid_request`. */
  readonly parse: (der: Uint8Array) => Certificate;
  readonly parseBundle: (pem: string) => Certificate[];
  readonly parseRevocationList: (pem: string) => RevocationList;
};

/** Of one certificate. */
const DER_BYTES_MAX = 16 * 1024;
const BUNDLE_MAX = 32;

let loaded: Promise<CertificateReader> | undefined;

/** Loaded when it is first needed: few vaults do, and the library is not small. */
export function certificateReader(): Promise<CertificateReader> {
  loaded ??= import('@peculiar/x509').then(readerOf);
  return loaded;
}

function readerOf(library: typeof Library): CertificateReader {
  const parse = (der: Uint8Array) => parseCertificate(library, der);
  return {
    parse,
    parseBundle: (pem) => {
      const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
      if (blocks.length === 0 || blocks.length > BUNDLE_MAX) {
        throw invalid(`expected from 1 to ${BUNDLE_MAX} certificates as PEM`);
      }
      return blocks.map((block) => parse(derOf(block)));
    },
    parseRevocationList: (pem) => parseList(library, pem),
  };
}

function derOf(pem: string): Uint8Array {
  return new Uint8Array(Buffer.from(pem.replace(/-----[A-Z0-9 ]+-----/g, ''), 'base64'));
}

function parseCertificate(library: typeof Library, der: Uint8Array): Certificate {
  if (der.length > DER_BYTES_MAX) throw invalid(`a certificate has at most ${DER_BYTES_MAX} bytes`);
  try {
    return factsOf(library, new X509Certificate(der), new library.X509Certificate(Buffer.from(der)));
  } catch (error) {
    if (error instanceof VaultError) throw error;
    throw invalid('a certificate cannot be read');
  }
}

function factsOf(library: typeof Library, x509: X509Certificate, read: Library.X509Certificate): Certificate {
  const { extensions } = read;
  const constraints = extensions.find((one) => one instanceof library.BasicConstraintsExtension);
  const usage = extensions.find((one) => one instanceof library.KeyUsagesExtension);
  const extended = extensions.find((one) => one instanceof library.ExtendedKeyUsageExtension);
  const alternative = extensions.find((one) => one instanceof library.SubjectAlternativeNameExtension);
  const spki = x509.publicKey.export({ type: 'spki', format: 'der' });
  return {
    x509,
    thumbprint: createHash('sha256').update(x509.raw).digest(),
    keyHash: createHash('sha256').update(spki).digest(),
    serial: serialOf(x509.serialNumber),
    issuer: new Uint8Array(read.issuerName.toArrayBuffer()),
    subjectNames: alternative && {
      der: new Uint8Array(alternative.rawData),
      names: alternative.names.items.map(({ type, value }) => subjectName(type, value)),
    },
    notBeforeMs: read.notBefore.getTime(),
    notAfterMs: read.notAfter.getTime(),
    ca: constraints?.ca ?? false,
    pathLength: constraints?.pathLength,
    usages: usage?.usages,
    uses: extended?.usages.map(String),
    flaw: flawOf(x509, read, extensions),
  };
}

/** One spelling for one number. */
const serialOf = (hex: string) => hex.toLowerCase().replace(/^0+(?=.)/, '');

// ---- what we take -------------------------------------------------------------------------------------------------

/** basicConstraints, keyUsage, extendedKeyUsage and subjectAltName: the critical ones that are evaluated here. */
const UNDERSTOOD = new Set(['2.5.29.19', '2.5.29.15', '2.5.29.37', '2.5.29.17']);
const NAME_CONSTRAINTS = '2.5.29.30';
const CURVES = new Set(['prime256v1', 'secp384r1', 'secp521r1']);
const HASHES = new Set(['SHA-256', 'SHA-384', 'SHA-512']);
const RSA_BITS_MIN = 2048;
const RSA_BITS_MAX = 8192;

function flawOf(x509: X509Certificate, read: Library.X509Certificate, extensions: readonly Library.Extension[]) {
  // Extensions came with version 3.
  if (extensions.length === 0) return 'version_1';
  const types = extensions.map(({ type }) => type);
  if (new Set(types).size !== types.length) return 'extension_twice';
  if (types.includes(NAME_CONSTRAINTS)) return 'name_constraints';
  if (extensions.some(({ critical, type }) => critical && !UNDERSTOOD.has(type))) return 'unknown_extension';
  if (!isStrongKey(x509)) return 'weak_key';
  return isStrongSignature(read.signatureAlgorithm) ? undefined : 'weak_signature';
}

function isStrongKey({
  publicKey: { asymmetricKeyType: type, asymmetricKeyDetails: details },
}: X509Certificate): boolean {
  const bits = details?.modulusLength ?? 0;
  if (type === 'rsa') return bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX;
  return type === 'ed25519' || (type === 'ec' && CURVES.has(details?.namedCurve ?? ''));
}

function isStrongSignature(found: object): boolean {
  const algorithm = found as { readonly name: string; readonly hash?: { readonly name?: string } };
  const hash = algorithm.hash?.name ?? '';
  return (
    /^(Ed25519|EdDSA)$/.test(algorithm.name) ||
    (/^(ECDSA|RSASSA-PKCS1-v1_5|RSA-PSS)$/.test(algorithm.name) && HASHES.has(hash))
  );
}

const DNS = /^(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/;
const URI = /^[a-z][a-z0-9+.-]{0,31}:\/\/[!-~]{1,1000}$/;
const EMAIL = /^[A-Za-z0-9._+-]{1,64}@[a-z0-9.-]{1,253}$/;
const IP = /^[0-9a-f.:]{2,45}$/;

/** Throws for a name that somebody could read in another way: a wildcard, another alphabet, a zero byte, a kind unknown. */
function subjectName(type: string, value: string): SubjectName {
  if (type === 'dns' && DNS.test(value.toLowerCase())) return `dns:${value.toLowerCase()}`;
  if (type === 'url' && URI.test(value)) return `uri:${value}`;
  if (type === 'email' && EMAIL.test(value)) return `email:${value}`;
  if (type === 'ip' && IP.test(value)) return `ip:${value}`;
  throw invalid('a certificate has a name in its subjectAltName that is not plain');
}

// ---- from one to its authority --------------------------------------------------------------------------------------

/** keyUsage: digitalSignature is bit 0, keyCertSign bit 5 (RFC 5280 §4.2.1.3). */
const DIGITAL_SIGNATURE = 1 << 0;
const KEY_CERT_SIGN = 1 << 5;
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
/** Certificates from the client's to its authority's. */
const PATH_MAX = 5;

/** From the client's upwards, the authority's last. */
export type Path = readonly Certificate[];

/** `presented` came with the leaf and is believed only as far as an authority has signed it. */
export function findPath(
  leaf: Certificate,
  presented: readonly Certificate[],
  authorities: readonly Certificate[],
  nowMs: number,
): Path | { readonly refused: string } {
  const own = leafFlaw(leaf) ?? timeFlaw(leaf, nowMs);
  if (own) return { refused: own };
  let reason = 'unknown_authority';
  const climb = (path: Path): Path | undefined => {
    const last = path.at(-1)!;
    for (const [issuers, isTrusted] of [
      [authorities, true],
      [presented, false],
    ] as const) {
      for (const issuer of issuers) {
        if (path.includes(issuer) || !isIssuedBy(last, issuer)) continue;
        const flaw = issuerFlaw(issuer, path.length - 1) ?? timeFlaw(issuer, nowMs);
        if (flaw) {
          reason = `authority_${flaw}`;
          continue;
        }
        const longer = [...path, issuer];
        if (isTrusted) return longer;
        const found = longer.length < PATH_MAX ? climb(longer) : undefined;
        if (found) return found;
      }
    }
    return undefined;
  };
  return climb([leaf]) ?? { refused: reason };
}

const isIssuedBy = (below: Certificate, above: Certificate) =>
  below.x509.checkIssued(above.x509) && below.x509.verify(above.x509.publicKey);

function leafFlaw({ flaw, ca, usages, uses, subjectNames }: Certificate): string | undefined {
  if (flaw) return flaw;
  if (ca) return 'is_authority';
  if (usages !== undefined && (usages & DIGITAL_SIGNATURE) === 0) return 'key_usage';
  if (uses !== undefined && !uses.includes(CLIENT_AUTH)) return 'not_for_clients';
  return subjectNames === undefined || subjectNames.names.length === 0 ? 'no_names' : undefined;
}

/** Why it may not have issued what has `below` certificates of authorities under it. Also of those that an operator gives. */
export function issuerFlaw({ flaw, ca, usages, uses, pathLength }: Certificate, below: number): string | undefined {
  if (flaw) return flaw;
  if (!ca) return 'is_none';
  if (usages === undefined || (usages & KEY_CERT_SIGN) === 0) return 'key_usage';
  if (uses !== undefined && !uses.includes(CLIENT_AUTH)) return 'not_for_clients';
  return pathLength !== undefined && below > pathLength ? 'path_too_long' : undefined;
}

function timeFlaw({ notBeforeMs, notAfterMs }: Certificate, nowMs: number): string | undefined {
  if (nowMs < notBeforeMs) return 'not_yet_valid';
  return nowMs > notAfterMs ? 'expired' : undefined;
}

// ---- revocation lists -----------------------------------------------------------------------------------------------

const REVOKED_MAX = 20_000;

function parseList(library: typeof Library, pem: string): RevocationList {
  let list: Library.X509Crl;
  try {
    list = new library.X509Crl(pem);
  } catch {
    throw invalid('expected a certificate revocation list as PEM');
  }
  const { thisUpdate, nextUpdate, entries } = list;
  // A list of a part, or of changes, says so in a critical extension (RFC 5280 §5.2.4, §5.2.5).
  if (list.extensions.some(({ critical }) => critical))
    throw invalid('the list is not of all certificates of its authority');
  if (nextUpdate === undefined) throw invalid('the list does not say when the next one comes');
  if (entries.length > REVOKED_MAX) throw invalid(`the list has more than ${REVOKED_MAX} certificates`);
  if (!isStrongSignature(list.signatureAlgorithm)) throw invalid('the list is signed with a weak hash');
  return {
    thisUpdate,
    nextUpdate,
    serials: entries.map(({ serialNumber }) => serialOf(serialNumber)),
    isSignedBy: async ({ x509 }) => {
      const issuer = new library.X509Certificate(x509.raw);
      if (Buffer.compare(Buffer.from(list.issuerName.toArrayBuffer()), Buffer.from(issuer.subjectName.toArrayBuffer())))
        return false;
      return list.verify({ publicKey: issuer.publicKey });
    },
  };
}

function invalid(message: string): VaultError {
  return new VaultError('invalid_request', `${message}.`);
}
