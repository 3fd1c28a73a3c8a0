/**
 * One request over node:http or node:https, and its answer.
 *
 * It stands on these modules and not on `fetch`, because they need no dependency to trust a CA of the caller's and to
 * say whether a request had left before its connection failed: that decides whether it may be sent again. Connections
 * are kept alive; idle ones do not keep the process running. Redirects are never followed: the token would go with them
 * (T-123). Errors name the server and the fault, never a header or a body.
 */
import * as http from 'node:http';
import * as https from 'node:https';
import { abortedError, BullaError } from './error.ts';
import { type Trust, tlsOptions } from './trust.ts';

export type Exchange = {
  readonly method: string;
  /** The whole target, such as `/api/v1/status?x=1`. */
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | undefined;
  /** For the headers, and then for the body: for all of it, or between two pieces of a stream. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
};

/** An answer whose body is still to come. One of the two must be read to its end or left, or the connection stays taken. */
export type OpenAnswer = {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  /** All of it, in memory. Rejects with a BullaError when it is cut short, late or too large. */
  whole(): Promise<Buffer>;
  /** Piece by piece, at the reader's speed; memory does not grow. Throws as `whole` does. */
  pieces(): AsyncGenerator<Buffer, void, undefined>;
};

/** No answer. `sent` says whether the connection stood, so that the server may have acted on the request. */
export type Failure = { readonly error: BullaError; readonly sent: boolean };

export type Transport = {
  readonly origin: string;
  open(exchange: Exchange): Promise<OpenAnswer | Failure>;
  close(): void;
};

/** 32 MiB of secrets in base64 and JSON are the largest answer that is not a stream. */
const ANSWER_BYTES_MAX = 128 * 1024 * 1024;
const IDLE_MS_MAX = 60_000;

/** `base` is the server's address. */
export function createTransport(base: URL, trust: Trust): Transport {
  const secure = base.protocol === 'https:';
  // With a time-out of its own the agent obeys the server's Keep-Alive hint and does not write to a closing connection.
  const options = { keepAlive: true, timeout: IDLE_MS_MAX };
  const agent = secure ? new https.Agent({ ...options, ...tlsOptions(trust) }) : new http.Agent(options);
  const start = secure ? https.request : http.request;
  const prefix = base.pathname.replace(/\/$/, '');
  return {
    origin: base.origin,
    open: (exchange) => {
      const { method, target, headers } = exchange;
      if (exchange.signal?.aborted) return Promise.resolve({ error: abortedError(), sent: false });
      return settle(exchange, base.origin, () => start(base.origin, { method, path: prefix + target, headers, agent }));
    },
    close: () => agent.destroy(),
  };
}

function settle(exchange: Exchange, origin: string, start: () => http.ClientRequest): Promise<OpenAnswer | Failure> {
  return new Promise((resolve) => {
    const request = start();
    const wasSent = watchSending(request);
    let response: http.IncomingMessage | undefined;
    const end = (error: BullaError) => (response ?? request).destroy(error);
    const timer = alarm(exchange.timeoutMs, () => end(timedOutError(origin, exchange.timeoutMs)));
    const abort = () => end(abortedError());
    exchange.signal?.addEventListener('abort', abort, { once: true });
    request.once('close', () => {
      timer.stop();
      exchange.signal?.removeEventListener('abort', abort);
    });
    request.on('error', (error) => resolve({ error: faultOf(error, origin), sent: wasSent() }));
    request.once('response', (incoming) => {
      response = incoming;
      // Whoever reads the body meets the error there; until then it must not end the process.
      incoming.on('error', () => {});
      resolve(openAnswer(incoming, origin, timer));
    });
    timer.start();
    request.end(exchange.body);
  });
}

function watchSending(request: http.ClientRequest): () => boolean {
  let connected = false;
  request.once('socket', (socket) => {
    connected = !socket.connecting;
    if (!connected) {
      socket.once('encrypted' in socket ? 'secureConnect' : 'connect', () => {
        connected = true;
      });
    }
  });
  return () => connected;
}

function openAnswer(incoming: http.IncomingMessage, origin: string, timer: Alarm): OpenAnswer {
  async function* pieces(): AsyncGenerator<Buffer, void, undefined> {
    try {
      timer.start();
      for await (const piece of incoming as AsyncIterable<Buffer>) {
        // The reader's own time is not the server's.
        timer.stop();
        yield piece;
        timer.start();
      }
    } catch (error) {
      throw faultOf(error, origin);
    } finally {
      timer.stop();
    }
  }
  async function whole(): Promise<Buffer> {
    const all: Buffer[] = [];
    let length = 0;
    timer.start();
    try {
      for await (const piece of incoming as AsyncIterable<Buffer>) {
        length += piece.length;
        if (length > ANSWER_BYTES_MAX) {
          throw new BullaError('bad_answer', `${origin} answered with more than ${ANSWER_BYTES_MAX} bytes.`);
        }
        all.push(piece);
      }
    } catch (error) {
      throw faultOf(error, origin);
    } finally {
      timer.stop();
    }
    return Buffer.concat(all, length);
  }
  return { status: incoming.statusCode ?? 0, headers: incoming.headers, whole, pieces };
}

type Alarm = { start(): void; stop(): void };

function alarm(ms: number, late: () => void): Alarm {
  let timer: NodeJS.Timeout | undefined;
  return {
    start: () => {
      clearTimeout(timer);
      timer = setTimeout(late, ms);
    },
    stop: () => clearTimeout(timer),
  };
}

/** What OpenSSL and Node call a certificate that is not to be trusted. Everything else is a matter of the connection. */
const UNTRUSTED = /^(ERR_TLS_CERT|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH)/;

function faultOf(error: unknown, origin: string): BullaError {
  if (error instanceof BullaError) return error;
  const code =
    error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown fault';
  if (UNTRUSTED.test(code)) {
    return new BullaError(
      'untrusted_server',
      `The certificate of ${origin} is not trusted (${code}); give the CA that signed it (BULLA_CACERT, or the option ca).`,
      { cause: error },
    );
  }
  if (code.startsWith('HPE_')) {
    return new BullaError('bad_answer', `${origin} did not answer in HTTP (${code}); is the address right?`, {
      cause: error,
    });
  }
  const hint =
    code === 'ECONNREFUSED' ? 'is the server running, and the address right?' : 'the connection failed or ended early.';
  return new BullaError('unreachable', `No answer from ${origin} (${code}): ${hint}`, { cause: error });
}

function timedOutError(origin: string, ms: number): BullaError {
  return new BullaError('timed_out', `${origin} did not answer within ${ms / 1000} s.`);
}
