/**
 * How TLS handshakes ended, counted: the good ones by version and cipher, the others by why they failed.
 *
 * Both are closed sets, so that nobody grows them from outside: we offer few ciphers, and of OpenSSL's many reasons only
 * those are told apart that somebody can act on.
 */
import type { TLSSocket } from 'node:tls';

export type Handshakes = {
  readonly succeeded: (socket: TLSSocket) => void;
  /** `code` is that of Node's error. */
  readonly failed: (code: string | undefined) => void;
  readonly done: () => { readonly version: string; readonly cipher: string; readonly count: number }[];
  readonly refused: () => { readonly reason: string; readonly count: number }[];
};

export function countHandshakes(): Handshakes {
  const done = new Map<string, number>();
  const refused = new Map<string, number>();
  const add = (counts: Map<string, number>, key: string) => counts.set(key, (counts.get(key) ?? 0) + 1);
  return {
    succeeded: (socket) => add(done, `${socket.getProtocol()} ${socket.getCipher()?.name}`),
    failed: (code) => add(refused, reasonOf(code)),
    done: () =>
      [...done].map(([key, count]) => {
        const [version = '', cipher = ''] = key.split(' ');
        return { version, cipher, count };
      }),
    refused: () => [...refused].map(([reason, count]) => ({ reason, count })),
  };
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNRESET: 'aborted',
  EPIPE: 'aborted',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'too_slow',
  ERR_SSL_HTTP_REQUEST: 'plain_http',
  ERR_SSL_HTTPS_PROXY_REQUEST: 'plain_http',
  ERR_SSL_WRONG_VERSION_NUMBER: 'not_tls',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'version',
  ERR_SSL_VERSION_TOO_LOW: 'version',
  ERR_SSL_UNKNOWN_PROTOCOL: 'version',
  ERR_SSL_INAPPROPRIATE_FALLBACK: 'fallback',
  ERR_SSL_NO_SHARED_CIPHER: 'cipher',
  ERR_SSL_NO_SHARED_GROUPS: 'cipher',
  ERR_SSL_NO_SUITABLE_KEY_SHARE: 'cipher',
  ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM: 'cipher',
  ERR_SSL_NO_SHARED_SIGNATURE_ALGORITHMS: 'cipher',
  ERR_SSL_NO_APPLICATION_PROTOCOL: 'protocol',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'client_distrusts',
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'client_distrusts',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'client_distrusts',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: 'client_distrusts',
  ERR_SSL_EXCESSIVE_MESSAGE_SIZE: 'too_large',
};

function reasonOf(code: string | undefined): string {
  return REASONS[code ?? ''] ?? 'other';
}
