/**
 * Answers to what never became a request: Node's parser gave up, or a timeout came first.
 *
 * They are written to the socket as they stand, with the headers and the problem that every other answer has, and the
 * connection ends. Nothing of what was sent is repeated, and nothing is written where an answer is already under way.
 */
import { randomUUID } from 'node:crypto';
import { type Server, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { VaultError } from '../errors.ts';
import type { App } from './app.ts';
import { methodNotAllowed, noSuchRoute, problemOf } from './error.ts';
import { HSTS, isEncrypted, SECURITY_HEADERS } from './exchange.ts';
import type { Running } from './running.ts';
import { canonicalAddress } from './source.ts';
import { assertCanonicalTarget } from './target.ts';

type ParserError = Error & { readonly code?: string; readonly rawPacket?: Uint8Array; readonly bytesParsed?: number };

export function onParserError(server: Server, app: App, running: Running): void {
  server.on('clientError', (error: ParserError, socket: Socket) => {
    const before = running.on(socket);
    const last = before.at(-1);
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
    } else if (last?.req.complete) {
      // What follows whole requests is broken: they have their answers, and the connection ends after them.
      last.shouldKeepAlive = false;
      if (last.headersSent) last.once('close', () => socket.destroySoon());
    } else if (before.length > 1 || last?.headersSent) {
      socket.destroy();
    } else {
      const { error: said, status } = explain(error, app);
      app.countUnread(canonicalAddress(socket.remoteAddress), said.code);
      answerRaw(socket, said, status);
    }
  });
}

function explain(error: ParserError, app: App): { error: VaultError; status?: number } {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW':
      return { error: new VaultError('too_large', 'the headers of the request are too large'), status: 431 };
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return { error: new VaultError('too_large', 'the chunk extensions of the request are too large') };
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return { error: new VaultError('invalid_request', 'the request did not come in time'), status: 408 };
    case 'HPE_INVALID_METHOD':
      return { error: unknownMethod(error, app) ?? malformed() };
    default:
      return { error: malformed() };
  }
}

const malformed = () =>
  new VaultError('invalid_request', 'this is not an HTTP/1.1 request that can be read in one way only');

const REQUEST_LINE = /^([A-Za-z-]{1,20}) (\/[^ ]{0,2048}) HTTP\/1\.[01]\r\n/;

/** The parser knows a closed set of methods; what looks like a request with another one deserves its 405. */
function unknownMethod({ rawPacket, bytesParsed = 0 }: ParserError, app: App): VaultError | undefined {
  const start = rawPacket ? Buffer.from(rawPacket.subarray(0, 4096)).toString('latin1') : '';
  const [, method = '', target] = REQUEST_LINE.exec(start) ?? [];
  // Only what the packet starts with: the parser must have stopped within the method.
  if (target === undefined || bytesParsed > method.length) return undefined;
  try {
    assertCanonicalTarget(target);
  } catch {
    return undefined;
  }
  const allow = app.methodsOf(target.split('?', 1)[0]!);
  return allow.length === 0 ? noSuchRoute() : methodNotAllowed(allow);
}

/** Writes a whole answer to a socket that has none under way, and ends it. */
export function answerRaw(socket: Socket, error: VaultError, status?: number): void {
  const requestId = randomUUID();
  const problem = problemOf(error, requestId, status);
  const allow = error.details?.allow;
  const headers = isEncrypted(socket) ? [...SECURITY_HEADERS, HSTS] : SECURITY_HEADERS;
  const lines = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
    ...Object.entries(problem.headers).map(([name, value]) => `${name}: ${value}`),
    ...(Array.isArray(allow) ? [`Allow: ${allow.join(', ')}`] : []),
    `X-Request-Id: ${requestId}`,
    `Content-Length: ${Buffer.byteLength(problem.body)}`,
    'Connection: close',
  ];
  socket.on('error', () => undefined);
  socket.end(`${lines.join('\r\n')}\r\n\r\n${problem.body}`, () => socket.destroySoon());
}
