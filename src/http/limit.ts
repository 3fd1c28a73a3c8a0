/**
 * The limits of a connection. Those that are part of the contract with clients (body, headers, paging) are LIMITS in
 * config.ts; these bound what a stranger can hold open or make us hold in memory.
 */

export const CONNECTION_LIMITS = {
  connectionsMax: 4096,
  /** From the first byte of a request to the end of its headers. */
  headersTimeoutMs: 10_000,
  /** From the first byte of a request to the end of its body. */
  requestTimeoutMs: 30_000,
  /** How often the two above are looked at. */
  checkIntervalMs: 1_000,
  /** Between two requests of a connection. */
  keepAliveTimeoutMs: 75_000,
  /** Without a byte in either direction while an answer is under way. */
  idleTimeoutMs: 60_000,
  requestsPerConnectionMax: 100_000,
  /** How long running requests may take to finish when the server stops. */
  drainDeadlineMs: 10_000,
} as const;

export type ConnectionLimits = { readonly [name in keyof typeof CONNECTION_LIMITS]: number };

export const HTTP_LIMITS = {
  headersCountMax: 100,
  hostLengthMax: 255,
  /** Bodies up to this size are always read; connectionsMax bounds them. */
  smallBodyBytesMax: 16 * 1024,
  /** All larger bodies in memory at once. */
  bodiesBytesMax: 64 * 1024 * 1024,
} as const;
