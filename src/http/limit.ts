/**
 * The limits of a connection. Those that are part of the contract with clients (body, headers, paging) are LIMITS in
 * config.ts; these bound what a stranger can hold open or make us hold in memory, and most are settings.
 */
import type { Config } from '../config.ts';
import type { Cidr } from '../policy/cidr.ts';

export type ConnectionLimits = {
  readonly connectionsMax: number;
  /** Of one client, so that nobody takes all places alone. */
  readonly connectionsPerSourceMax: number;
  /** Whose connections are shared by many clients: the number above is not for them. */
  readonly proxies: readonly Cidr[];
  /** From the connection to the end of the TLS handshake. */
  readonly handshakeTimeoutMs: number;
  /** From the first byte of a request to the end of its headers. */
  readonly headersTimeoutMs: number;
  /** From the first byte of a request to the end of its body. */
  readonly requestTimeoutMs: number;
  /** How often the two above are looked at. */
  readonly checkIntervalMs: number;
  /** Between two requests of a connection. */
  readonly keepAliveTimeoutMs: number;
  /** Without a byte in either direction while an answer is under way. */
  readonly idleTimeoutMs: number;
  readonly requestsPerConnectionMax: number;
  /** How long running requests may take to finish when the server stops. */
  readonly drainDeadlineMs: number;
};

const CHECK_INTERVAL_MS = 1_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;

export function connectionLimits({ http, tls, trustedProxies }: Config): ConnectionLimits {
  return {
    connectionsMax: http.connectionsMax,
    connectionsPerSourceMax: http.connectionsPerSourceMax,
    proxies: trustedProxies,
    handshakeTimeoutMs: tls === undefined ? HANDSHAKE_TIMEOUT_MS : tls.handshakeTimeoutSeconds * 1000,
    headersTimeoutMs: http.headersTimeoutSeconds * 1000,
    requestTimeoutMs: http.requestTimeoutSeconds * 1000,
    checkIntervalMs: CHECK_INTERVAL_MS,
    keepAliveTimeoutMs: http.keepAliveTimeoutSeconds * 1000,
    idleTimeoutMs: http.idleTimeoutSeconds * 1000,
    requestsPerConnectionMax: http.requestsPerConnectionMax,
    drainDeadlineMs: http.drainDeadlineSeconds * 1000,
  };
}

export const HTTP_LIMITS = {
  hostLengthMax: 255,
  /** Bodies up to this size are always read; the number of connections bounds them. */
  smallBodyBytesMax: 16 * 1024,
} as const;
