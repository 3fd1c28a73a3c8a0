/**
 * The contract of a wire protocol: parse a request, call one verb, shape the answer.
 *
 * A protocol mounts its routes on the router that http/ owns and documents them itself. It holds no SQL and no keys, and
 * it never writes to the socket: what it needs of HTTP beyond the Response it returns is given to it as the Host, so
 * that limits, back-pressure and the table from error code to status stand once, in http/.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { OpenAPIHono } from '@hono/zod-openapi';
import type { Hono } from 'hono';
import type { ParsedToken } from '../crypto/token.ts';
import type { ErrorCode, VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Vault } from '../vault.ts';

/** One request and its answer. What is mutable here is only what the log line and the metrics will say. */
export type Exchange = {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly requestId: string;
  /** The peer's address as the socket has it; what a header claims is never believed. */
  readonly source: string;
  /** Whose key the connection has proven; whom it stands for is a tenant's to say. */
  readonly clientCertificate: ClientCertificate | undefined;
  /** The pattern of the route, such as `/api/v1/secrets/{path}`: never the path itself, which names a secret. */
  route: string;
  /** The tenant that the token names, believed or not; said in the log only where the token was believed. */
  tenant: string | undefined;
  code: ErrorCode | undefined;
  /** What the verb is called with: says whether the request has an entry in the log. */
  call: Call | undefined;
  /** Of the protocol that the target belongs to, when that has rules of its own. */
  readonly dialect: Dialect | undefined;
  /** Of the body, held in memory until the answer has gone. */
  bodyBytes: number;
};

export type ClientCertificate = {
  /** SHA-256 of it. */
  readonly thumbprint: Uint8Array;
  /** DER: the client's own first, then what it sent along. */
  readonly chain: () => readonly Uint8Array[];
};

export type HttpEnv = { Bindings: Exchange };

export type Host = {
  /** THE table from code to status. */
  readonly statusOf: (code: ErrorCode) => number;
  /** The whole body within the limits, empty when there is none. Throws `too_large`, `unsupported_media_type`, `busy`. */
  readonly readBody: (exchange: Exchange) => Promise<Uint8Array>;
  /**
   * Sends chunks as the client takes them and ends. The first chunk is awaited before anything is sent, so that what it
   * throws is still an error answer; what a later one throws ends the connection, which the client sees.
   */
  readonly stream: (
    exchange: Exchange,
    contentType: string,
    chunks: AsyncIterable<Uint8Array | string>,
  ) => Promise<Response>;
  /** Undefined where plain HTTP is served. */
  readonly tls: () => TlsStatus | undefined;
};

export type TlsStatus = {
  readonly minVersion: string;
  readonly clientCertificates: boolean;
  readonly certificates: readonly ServedCertificate[];
  /** Of the key that will take over, where the vault makes its keys itself. */
  readonly backupPin: string | undefined;
  /** Sentences for people: a certificate that has ended or soon will. */
  readonly alarms: readonly string[];
  /** What keeps a new one from being served; names files, so it is for operators. */
  readonly faults: readonly string[];
  readonly handshakes: readonly { readonly version: string; readonly cipher: string; readonly count: number }[];
  readonly refusals: readonly { readonly reason: string; readonly count: number }[];
};

export type ServedCertificate = {
  readonly key: 'ecdsa' | 'rsa' | 'ed25519';
  readonly names: readonly string[];
  readonly issuer: string;
  readonly notAfter: Date;
  /** SHA-256 of the certificate, in hex. */
  readonly fingerprint: string;
  /** What clients pin: `sha256/` and the base64 of SHA-256 of the public key. */
  readonly pin: string;
};

/** An answer as it goes out, whole. */
export type WireAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Empty where there is none: a 204. */
  readonly body: string;
};

/**
 * How a protocol that others have defined speaks HTTP, where that is not as the native interface does: all that http/
 * has to know of it before and after it is served.
 */
export type Dialect = {
  /** Every target that begins with this is its own. */
  readonly base: string;
  /** Where its clients put their token: not yet believed. */
  readonly tokenOf: (incoming: IncomingMessage) => ParsedToken | undefined;
  readonly bodyBytesMax: number;
  /** Whether a path may end with a slash. Everything else that is not canonical is refused for everybody. */
  readonly trailingSlash: boolean;
  /** Paths that answer while the vault is sealed. */
  readonly openWhileSealed: ReadonlySet<string>;
  /** `status` is that of THE table; what the protocol's clients expect instead is its own business. */
  readonly errorAnswer: (error: VaultError, status: number) => WireAnswer;
  /**
   * Routes by itself, because its paths are rows of tables, and so needs neither router nor adapter. Throws what
   * `errorAnswer` then shapes.
   */
  readonly serve: (exchange: Exchange) => Promise<WireAnswer>;
};

/**
 * A route that is asked more than all others and answered without the router and the adapter, which would cost more than
 * the answer. It is only ever asked a GET without query, body and condition; whatever else comes to the same path goes to
 * the router, and both say the same.
 */
export type PlainRoute = {
  /** What the target begins with. The rest, never empty, is the parameter: checked by nobody yet but as part of a target. */
  readonly prefix: string;
  /** A 200. What is thrown becomes a problem, as everywhere. */
  readonly answer: (vault: Vault, exchange: Exchange, param: string) => Promise<PlainAnswer>;
};

export type PlainAnswer = {
  /** Names and values in turn. */
  readonly headers: readonly string[];
  /** One character a byte. */
  readonly body: string;
};

export type Protocol = {
  readonly name: string;
  readonly mount: (router: Hono<HttpEnv>, vault: Vault, host: Host) => void;
  readonly plain?: readonly PlainRoute[];
  /** Adds its operations to the registry of an OpenAPI document. */
  readonly describe: (document: OpenAPIHono, statusOf: Host['statusOf']) => void;
  readonly dialect?: (vault: Vault, host: Host) => Dialect;
};
