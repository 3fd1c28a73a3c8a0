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
import type { ErrorCode } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Vault } from '../vault.ts';

/** One request and its answer. What is mutable here is only what the log line and the metrics will say. */
export type Exchange = {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly requestId: string;
  /** The peer's address as the socket has it; what a header claims is never believed. */
  readonly source: string;
  /** The pattern of the route, such as `/api/v1/secrets/{path}`: never the path itself, which names a secret. */
  route: string;
  /** The tenant that the token names, believed or not; said in the log only where the token was believed. */
  tenant: string | undefined;
  code: ErrorCode | undefined;
  /** What the verb is called with: says whether the request has an entry in the log. */
  call: Call | undefined;
  /** Of the body, held in memory until the answer has gone. */
  bodyBytes: number;
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
};

export type Protocol = {
  readonly name: string;
  readonly mount: (router: Hono<HttpEnv>, vault: Vault, host: Host) => void;
  /** Adds its operations to the registry of an OpenAPI document. */
  readonly describe: (document: OpenAPIHono, statusOf: Host['statusOf']) => void;
};
