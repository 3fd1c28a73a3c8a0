/**
 * The listening socket: where it listens, what one connection may cost, and how it ends.
 *
 * With TLS it speaks TLS only, else plain HTTP, and that on loopback addresses only, unless the configuration says by
 * its long name that a proxy in front terminates TLS. Every limit of Node's server is set here by name. The end loses
 * nothing: no connection is accepted any more, running requests finish within a deadline, and what still arrives on
 * open connections is told to come back. In a worker the port is its first process's, which hands out connections in turn.
 */
import { lookup } from 'node:dns/promises';
import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { type Config, LIMITS } from '../config.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import type { App } from './app.ts';
import { admit } from './connection.ts';
import { methodNotAllowed, recordOf } from './error.ts';
import { type ConnectionLimits, connectionLimits } from './limit.ts';
import { acceptListVerb } from './list-verb.ts';
import { answerRaw, onParserError } from './parser.ts';
import { createRunning, type Running } from './running.ts';
import { canonicalAddress, isLoopback } from './source.ts';

export type Listener = {
  /** `http://127.0.0.1:8200` or `https://…`, with the port that was taken. */
  readonly address: string;
  /** Stops accepting, waits for running requests, and resolves when the last connection is gone. */
  readonly close: () => Promise<void>;
};

/** Throws `conflict` when the address cannot be listened on, `invalid_request` when plain HTTP may not be served there. */
export async function listen(
  vault: Vault,
  app: App,
  config: Config,
  limits: ConnectionLimits = connectionLimits(config),
): Promise<Listener> {
  const { host, port } = config.listen;
  const address = await resolve(host);
  const plain = app.tls === undefined;
  if (plain && !isLoopback(canonicalAddress(address)) && !config.plainHttpBehindProxy) throw plainHttp(host);
  const shared = config.workers > 1;
  const server = createLimited(app, limits, shared);
  const state: State = { stopping: false, running: createRunning(), sockets: new Set() };
  serve(server, app, state);
  const endPending = admit(server, app, limits, state.sockets);
  await bind(server, address, host, port, shared);
  server.on('error', (error) => vault.log.error({ error: recordOf(error) }, 'the listening socket failed'));
  const url = addressOf(server, plain ? 'http' : 'https');
  vault.log.debug({ address: url }, 'listening');
  return {
    address: url,
    close: () => {
      endPending();
      return stop(server, state, limits.drainDeadlineMs);
    },
  };
}

/** A server with every limit that Node has. */
function createLimited({ tls }: App, limits: ConnectionLimits, shared: boolean): Server {
  const options: ServerOptions = {
    insecureHTTPParser: false,
    maxHeaderSize: LIMITS.headersBytesMax,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: limits.checkIntervalMs,
    // The app refuses a missing Host itself, with a problem.
    requireHostHeader: false,
  };
  const server = tls
    ? tls.keepServing(
        createTlsServer({ ...options, ...tls.serverOptions(), handshakeTimeout: limits.handshakeTimeoutMs }),
      )
    : createServer(options);
  // A worker refuses for itself (connection.ts): what Node refuses there would be offered to the next one, for ever.
  if (!shared) server.maxConnections = limits.connectionsMax;
  server.maxRequestsPerSocket = limits.requestsPerConnectionMax;
  // Node drops headers beyond its count in silence, an If-Match too; the app refuses such requests instead.
  server.maxHeadersCount = 0;
  server.timeout = limits.idleTimeoutMs;
  return server;
}

type State = { stopping: boolean; readonly running: Running; readonly sockets: Set<Socket> };

/** The same for plain HTTP and for TLS. */
function serve(server: Server, app: App, state: State): void {
  acceptListVerb(server, app.tls ? 'secureConnection' : 'connection');
  const handle = (incoming: IncomingMessage, outgoing: ServerResponse, refusal?: VaultError) => {
    state.running.add(outgoing);
    if (state.stopping) outgoing.shouldKeepAlive = false;
    app.handle(incoming, outgoing, state.stopping ? stopping() : refusal);
  };
  server.on('request', handle);
  server.on('checkContinue', (incoming: IncomingMessage, outgoing: ServerResponse) => {
    // A body that is refused by its length is not asked for.
    const most = app.bodyBytesMax(incoming.url ?? '');
    if (Number(incoming.headers['content-length'] ?? 0) <= most) outgoing.writeContinue();
    handle(incoming, outgoing);
  });
  server.on('checkExpectation', (incoming: IncomingMessage, outgoing: ServerResponse) => {
    handle(incoming, outgoing, new VaultError('invalid_request', 'the header Expect may only ask for 100-continue'));
  });
  server.on('connect', (incoming: IncomingMessage, socket: Socket) => {
    app.countUnread(canonicalAddress(socket.remoteAddress), 'method_not_allowed');
    answerRaw(socket, methodNotAllowed(app.methodsOf(incoming.url ?? '')));
  });
  onParserError(server, app, state.running);
}

function stopping(): VaultError {
  return new VaultError('unavailable', 'The vault is stopping; try again.', { retryAfterSeconds: 1 });
}

async function stop(server: Server, state: State, deadlineMs: number): Promise<void> {
  state.stopping = true;
  for (const outgoing of state.running.all()) if (!outgoing.headersSent) outgoing.shouldKeepAlive = false;
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  const deadline = setTimeout(() => server.closeAllConnections(), deadlineMs);
  // Node counts a connection that has not sent anything yet as busy, and one may become idle later.
  const sweep = setInterval(() => closeIdle(state), SWEEP_MS);
  await closed;
  clearTimeout(deadline);
  clearInterval(sweep);
}

const SWEEP_MS = 50;

function closeIdle({ running, sockets }: State): void {
  for (const socket of sockets) {
    if (running.on(socket).length === 0 && !socket.writableEnded) socket.destroySoon();
  }
}

async function resolve(host: string): Promise<string> {
  try {
    return (await lookup(host)).address;
  } catch (cause) {
    throw new VaultError('conflict', `BULLA_LISTEN: the host ${host} has no address; use one such as 127.0.0.1.`, {
      cause,
    });
  }
}

function plainHttp(host: string): VaultError {
  return new VaultError(
    'invalid_request',
    `BULLA_LISTEN: ${host} is not a loopback address and this is plain HTTP; start with --tls, listen on ` +
      '127.0.0.1, or set BULLA_SERVE_PLAIN_HTTP_BEHIND_A_TLS_TERMINATING_PROXY=true if that is what stands in front.',
  );
}

const BIND_ADVICE: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program listens there; end it or set BULLA_LISTEN to another port',
  EACCES: 'this user may not listen there; set BULLA_LISTEN to a port above 1023',
  EADDRNOTAVAIL: 'this machine does not have that address; set BULLA_LISTEN to one that it has',
};

function bind(server: Server, address: string, host: string, port: number, shared: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const advice =
        BIND_ADVICE[cause.code ?? ''] ?? `the system says ${cause.code}; set BULLA_LISTEN to another address`;
      reject(new VaultError('conflict', `Cannot listen on ${host}:${port}: ${advice}.`, { cause }));
    });
    server.listen({ host: address, port, exclusive: !shared }, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}

function addressOf(server: Server, scheme: 'http' | 'https'): string {
  const { address, family, port } = server.address() as AddressInfo;
  return `${scheme}://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
