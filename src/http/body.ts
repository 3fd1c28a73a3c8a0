/**
 * Reading a body within its limits.
 *
 * A body is refused by what it declares before a byte of it is read, and by what has come as soon as that is too much.
 * All bodies together are bounded too, because anybody may send one: small ones by the number of connections, larger
 * ones by a budget, beyond which the answer is `busy`. What is left unread is drained, briefly, by the adapter.
 */
import { LIMITS } from '../config.ts';
import { VaultError } from '../errors.ts';
import type { Exchange } from '../protocols/protocol.ts';
import { HTTP_LIMITS } from './limit.ts';

const EMPTY = new Uint8Array(0);

export type BodyReader = {
  readonly readBody: (exchange: Exchange) => Promise<Uint8Array>;
  /** The answer has gone: the body's bytes are free again. */
  readonly release: (exchange: Exchange) => void;
};

/** One reader per app: it holds the budget of `bytesMax` for all larger bodies in memory at once. */
export function createBodyReader(bytesMax: number): BodyReader {
  const budget = { heldBytes: 0, bytesMax };
  return {
    readBody: (exchange) => read(exchange, budget),
    release: (exchange) => {
      budget.heldBytes -= charged(exchange.bodyBytes);
      exchange.bodyBytes = 0;
    },
  };
}

type Budget = { heldBytes: number; readonly bytesMax: number };

/** Small bodies cost nothing. */
const charged = (bytes: number) => (bytes > HTTP_LIMITS.smallBodyBytesMax ? bytes : 0);

async function read(exchange: Exchange, budget: Budget): Promise<Uint8Array> {
  const { headers } = exchange.incoming;
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new VaultError('unsupported_media_type', 'the body has a Content-Encoding; send it as it is');
  }
  const declared = headers['content-length'];
  if (declared === undefined && headers['transfer-encoding'] === undefined) return EMPTY;
  if (declared !== undefined && Number(declared) > bodyBytesMax(exchange)) throw tooLarge(exchange);
  return collect(exchange, budget);
}

function collect(exchange: Exchange, budget: Budget): Promise<Uint8Array> {
  const { incoming } = exchange;
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    const onData = (chunk: Uint8Array) => {
      const refused = hold(exchange, budget, chunk.length);
      if (refused) {
        incoming.pause();
        settle();
        reject(refused);
      } else {
        chunks.push(chunk);
      }
    };
    const onEnd = () => {
      settle();
      resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks));
    };
    // Nobody is left to read this answer; it ends the handler.
    const onCut = () => {
      settle();
      reject(new VaultError('invalid_request', 'the connection ended before the body did'));
    };
    const settle = () => {
      incoming.off('data', onData).off('end', onEnd).off('error', onCut).off('close', onCut);
      // A late error of a socket that is already given up must not become an uncaught one.
      incoming.on('error', () => undefined);
    };
    incoming.on('data', onData).on('end', onEnd).on('error', onCut).on('close', onCut);
  });
}

function hold(exchange: Exchange, budget: Budget, bytes: number): VaultError | undefined {
  const before = charged(exchange.bodyBytes);
  exchange.bodyBytes += bytes;
  budget.heldBytes += charged(exchange.bodyBytes) - before;
  if (exchange.bodyBytes > bodyBytesMax(exchange)) return tooLarge(exchange);
  if (charged(exchange.bodyBytes) > 0 && budget.heldBytes > budget.bytesMax) {
    return new VaultError('busy', 'Too many large requests at once; try again.', { retryAfterSeconds: 1 });
  }
  return undefined;
}

const bodyBytesMax = ({ dialect }: Exchange) => dialect?.bodyBytesMax ?? LIMITS.bodyBytesMax;

function tooLarge(exchange: Exchange): VaultError {
  return new VaultError('too_large', `the body is larger than ${bodyBytesMax(exchange)} bytes`);
}
