/**
 * `--tls auto`: a certificate authority of this host's own, and a certificate by it for the names of this host.
 *
 * Made at the first start and kept in the data directory; the certificate is renewed when two thirds of its time are
 * over or when the host has other names. Whoever wants to reach the vault is given ca.crt. The authority's key signs
 * nothing else, and only by a process that can read the data directory.
 */
import { type KeyObject, webcrypto, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { writePrivateFile } from '../private-file.ts';
import { backupPin, keyIn, type OwnFiles, ownFiles, serverKey } from './own-key.ts';
import type { CertificateSource } from './tls.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const AUTHORITY_DAYS = 3650;
const CERTIFICATE_DAYS = 90;
/** For clients whose clock is a little behind. */
const BEFORE_MS = 5 * 60 * 1000;

export function ownAuthority(dataDir: string, config: Config): CertificateSource & { readonly authorityFile: string } {
  const files = ownFiles(dataDir);
  const authorityFile = join(files.directory, 'ca.crt');
  const names = namesOf(config);
  return {
    files: [files],
    authorityFile,
    backupPin: () => backupPin(files),
    renew: async () => {
      const authorityKey = keyIn(join(files.directory, 'ca.key'));
      if (!isOf(authorityFile, authorityKey)) await makeAuthority(authorityFile, authorityKey);
      const key = serverKey(files);
      const authority = new X509Certificate(readFileSync(authorityFile));
      if (isDue(files.certFile, key, names, Date.now(), authority)) {
        await makeCertificate(files, key, names, authority, authorityKey);
      }
    },
  };
}

/** What clients on this host and beside it may call it. */
function namesOf({ listen, tls }: Config): string[] {
  const own = hostname().toLowerCase();
  const listening = /^(0\.0\.0\.0|::)$/.test(listen.host) ? [] : [listen.host.toLowerCase()];
  const host = /^[a-z0-9][a-z0-9.-]*$/.test(own) ? [own] : [];
  return [...new Set([...(tls?.names ?? []), ...listening, ...host, 'localhost', '127.0.0.1', '::1'])];
}

function isOf(file: string, key: KeyObject): boolean {
  return existsSync(file) && new X509Certificate(readFileSync(file)).checkPrivateKey(key);
}

/** Whether the certificate has to be made: it is none, another key's, for other names, or two thirds over. */
export function isDue(
  file: string,
  key: KeyObject,
  names: readonly string[],
  nowMs: number,
  authority?: X509Certificate,
): boolean {
  if (!existsSync(file)) return true;
  let found: X509Certificate;
  try {
    found = new X509Certificate(readFileSync(file));
  } catch {
    return true;
  }
  const [from, to] = [Date.parse(found.validFrom), Date.parse(found.validTo)];
  const covers = (name: string) => (isIP(name) ? found.checkIP(name) : found.checkHost(name)) !== undefined;
  const fits = found.checkPrivateKey(key) && names.every(covers) && (!authority || found.verify(authority.publicKey));
  return !fits || nowMs > from + ((to - from) * 2) / 3;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** A key of ours as the library for certificates takes it. */
async function cryptoKeys(key: KeyObject): Promise<webcrypto.CryptoKeyPair> {
  const { x, y, ...rest } = key.export({ format: 'jwk' });
  const { subtle } = webcrypto;
  const { d: _, ...open } = { ...rest, x, y } as webcrypto.JsonWebKey;
  return {
    privateKey: await subtle.importKey('pkcs8', key.export({ type: 'pkcs8', format: 'der' }), ALGORITHM, false, [
      'sign',
    ]),
    publicKey: await subtle.importKey('jwk', open, ALGORITHM, true, ['verify']),
  };
}

async function makeAuthority(file: string, key: KeyObject): Promise<void> {
  const x509 = await import('@peculiar/x509');
  const keys = await cryptoKeys(key);
  const now = Date.now();
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [`Bulla on ${hostname()}`.slice(0, 64)] }, { OU: [new Date(now).toISOString().slice(0, 10)] }],
    ...{ keys, signingAlgorithm: ALGORITHM },
    notBefore: new Date(now - BEFORE_MS),
    notAfter: new Date(now + AUTHORITY_DAYS * DAY_MS),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  writePrivateFile(file, Buffer.from(`${made.toString('pem')}\n`));
}

async function makeCertificate(
  files: OwnFiles,
  key: KeyObject,
  names: readonly string[],
  authority: X509Certificate,
  authorityKey: KeyObject,
): Promise<void> {
  const x509 = await import('@peculiar/x509');
  const [own, above] = await Promise.all([cryptoKeys(key), cryptoKeys(authorityKey)]);
  const now = Date.now();
  const made = await x509.X509CertificateGenerator.create({
    subject: [{ CN: [names[0]!.slice(0, 64)] }],
    issuer: new x509.X509Certificate(authority.raw).subjectName,
    ...{ publicKey: own.publicKey, signingKey: above.privateKey, signingAlgorithm: ALGORITHM },
    notBefore: new Date(now - BEFORE_MS),
    notAfter: new Date(Math.min(now + CERTIFICATE_DAYS * DAY_MS, Date.parse(authority.validTo))),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        names.map((name) => ({ type: isIP(name) ? 'ip' : 'dns', value: name }) as const),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(above.publicKey),
      await x509.SubjectKeyIdentifierExtension.create(own.publicKey),
    ],
  });
  writePrivateFile(files.certFile, Buffer.from(`${made.toString('pem')}\n`));
}
