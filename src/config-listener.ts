/**
 * The settings of the listener: TLS and where its certificate comes from, and what a connection may cost. Part of
 * config.ts.
 */
import { z } from 'zod';
import { HOUR } from './config-duration.ts';
import { count, duration, flag, listen, parseListen } from './config-value.ts';
import { VaultError } from './errors.ts';

/** One or two, such as `/etc/bulla/ecdsa.crt,/etc/bulla/rsa.crt`. */
const fileList = z
  .string()
  .transform((text) => text.split(',').map((file) => file.trim()))
  .pipe(z.array(z.string().min(1)).min(1).max(2, 'expected one file, or two separated by a comma'));

const nameList = z
  .string()
  .transform((text) => text.split(',').map((name) => name.trim().toLowerCase()))
  .pipe(
    z
      .array(z.string().regex(/^(?=.{1,253}$)[a-z0-9][a-z0-9.:-]*$/, 'expected host names and addresses'))
      .min(1)
      .max(100),
  );

/** Where the certificate comes from: none, the files of an operator, an authority of the vault's own, or ACME. */
const TLS_MODES = ['off', 'files', 'auto', 'acme'] as const;

export const LISTENER_SETTINGS = {
  BULLA_LISTEN: listen.default('127.0.0.1:8200'),
  BULLA_SERVE_PLAIN_HTTP_BEHIND_A_TLS_TERMINATING_PROXY: flag,
  BULLA_TLS: z.enum(TLS_MODES).optional(),
  BULLA_TLS_CERT_FILE: fileList.optional(),
  BULLA_TLS_KEY_FILE: fileList.optional(),
  BULLA_TLS_MIN_VERSION: z.enum(['1.2', '1.3']).default('1.2'),
  BULLA_TLS_NAMES: nameList.optional(),
  BULLA_TLS_CLIENT_CERTIFICATES: flag,
  BULLA_TLS_START_WITH_AN_EXPIRED_CERTIFICATE: flag,
  BULLA_TLS_HANDSHAKE_TIMEOUT: duration('10s'),
  BULLA_ACME_DIRECTORY: z.url({ protocol: /^https$/ }).default('https://acme-v02.api.letsencrypt.org/directory'),
  BULLA_ACME_AGREE_TO_TERMS: flag,
  BULLA_ACME_EMAIL: z.email().optional(),
  BULLA_ACME_CACERT: z.string().min(1).optional(),
  BULLA_ACME_HTTP_LISTEN: listen.default('0.0.0.0:80'),
  BULLA_HTTP_CONNECTIONS_MAX: count(4096, 1, 1_000_000),
  BULLA_HTTP_CONNECTIONS_PER_SOURCE_MAX: count(2048, 1, 1_000_000),
  BULLA_HTTP_REQUESTS_PER_CONNECTION_MAX: count(100_000, 1, 100_000_000),
  BULLA_HTTP_HEADERS_TIMEOUT: duration('10s'),
  BULLA_HTTP_REQUEST_TIMEOUT: duration('30s'),
  BULLA_HTTP_KEEP_ALIVE_TIMEOUT: duration('75s'),
  BULLA_HTTP_IDLE_TIMEOUT: duration('60s'),
  BULLA_HTTP_DRAIN_DEADLINE: duration('10s'),
  BULLA_HTTP_HEADERS_MAX: count(100, 10, 1000),
  BULLA_HTTP_BODIES_BYTES_MAX: count(64 * 1024 * 1024, 4 * 1024 * 1024, 64 * 1024 * 1024 * 1024),
};

export type TlsConfig = Readonly<{
  source:
    | { kind: 'files'; pairs: readonly { certFile: string; keyFile: string }[] }
    | { kind: 'auto' }
    | {
        kind: 'acme';
        directory: string;
        email: string | undefined;
        caFile: string | undefined;
        /** Where the challenge is answered while an order runs. */
        listen: { host: string; port: number };
      };
  /** For which the certificate is made; ACME needs at least one. */
  names: readonly string[];
  minVersion: 'TLSv1.2' | 'TLSv1.3';
  /** Whether clients are asked for a certificate. */
  clientCertificates: boolean;
  startWithExpired: boolean;
  handshakeTimeoutSeconds: number;
}>;

/** What a stranger may hold open, or make us hold in memory. */
export type HttpConfig = Readonly<{
  connectionsMax: number;
  connectionsPerSourceMax: number;
  requestsPerConnectionMax: number;
  headersTimeoutSeconds: number;
  requestTimeoutSeconds: number;
  keepAliveTimeoutSeconds: number;
  idleTimeoutSeconds: number;
  drainDeadlineSeconds: number;
  headersMax: number;
  bodiesBytesMax: number;
}>;

const parsed = z.object(LISTENER_SETTINGS);
type Settings = z.output<typeof parsed>;

export function tlsOf(s: Settings): TlsConfig | undefined {
  const mode = s.BULLA_TLS ?? (s.BULLA_TLS_CERT_FILE ? 'files' : 'off');
  if (mode === 'off') return undefined;
  return Object.freeze({
    source: certificateSource(s, mode),
    names: s.BULLA_TLS_NAMES ?? [],
    minVersion: `TLSv${s.BULLA_TLS_MIN_VERSION}` as const,
    clientCertificates: s.BULLA_TLS_CLIENT_CERTIFICATES,
    startWithExpired: s.BULLA_TLS_START_WITH_AN_EXPIRED_CERTIFICATE,
    handshakeTimeoutSeconds: s.BULLA_TLS_HANDSHAKE_TIMEOUT,
  });
}

function certificateSource(s: Settings, mode: 'files' | 'auto' | 'acme'): TlsConfig['source'] {
  if (mode === 'auto') return { kind: 'auto' };
  if (mode === 'files') {
    const [certFiles, keyFiles] = [s.BULLA_TLS_CERT_FILE, s.BULLA_TLS_KEY_FILE];
    if (!certFiles || certFiles.length !== keyFiles?.length) {
      throw invalid('BULLA_TLS_CERT_FILE and BULLA_TLS_KEY_FILE are to be set together, with as many files each.');
    }
    return { kind: 'files', pairs: certFiles.map((certFile, i) => ({ certFile, keyFile: keyFiles[i]! })) };
  }
  if (!s.BULLA_TLS_NAMES) throw invalid('BULLA_TLS_NAMES: ACME needs the host names that the certificate is for.');
  if (!s.BULLA_ACME_AGREE_TO_TERMS) {
    throw invalid('BULLA_ACME_AGREE_TO_TERMS: set it to true when you agree to the terms of the authority.');
  }
  return {
    kind: 'acme',
    directory: s.BULLA_ACME_DIRECTORY,
    email: s.BULLA_ACME_EMAIL,
    caFile: s.BULLA_ACME_CACERT,
    listen: parseListen('BULLA_ACME_HTTP_LISTEN', s.BULLA_ACME_HTTP_LISTEN),
  };
}

export function httpOf(s: Settings): HttpConfig {
  return Object.freeze({
    connectionsMax: s.BULLA_HTTP_CONNECTIONS_MAX,
    connectionsPerSourceMax: s.BULLA_HTTP_CONNECTIONS_PER_SOURCE_MAX,
    requestsPerConnectionMax: s.BULLA_HTTP_REQUESTS_PER_CONNECTION_MAX,
    headersTimeoutSeconds: positive('BULLA_HTTP_HEADERS_TIMEOUT', s.BULLA_HTTP_HEADERS_TIMEOUT),
    requestTimeoutSeconds: positive('BULLA_HTTP_REQUEST_TIMEOUT', s.BULLA_HTTP_REQUEST_TIMEOUT),
    keepAliveTimeoutSeconds: positive('BULLA_HTTP_KEEP_ALIVE_TIMEOUT', s.BULLA_HTTP_KEEP_ALIVE_TIMEOUT),
    idleTimeoutSeconds: positive('BULLA_HTTP_IDLE_TIMEOUT', s.BULLA_HTTP_IDLE_TIMEOUT),
    drainDeadlineSeconds: s.BULLA_HTTP_DRAIN_DEADLINE,
    headersMax: s.BULLA_HTTP_HEADERS_MAX,
    bodiesBytesMax: s.BULLA_HTTP_BODIES_BYTES_MAX,
  });
}

/** Node takes 0 for no limit at all, which nobody shall set by mistake. */
function positive(variable: string, seconds: number): number {
  if (seconds >= 1 && seconds <= HOUR) return seconds;
  throw invalid(`${variable}: expected from 1s to 1h.`);
}

function invalid(message: string): VaultError {
  return new VaultError('invalid_request', message);
}
