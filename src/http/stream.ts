/**
 * Answers of unknown length, sent as fast as the client takes them and no faster.
 *
 * They are written to the socket here and not handed to the adapter as a stream, because an error after the first byte
 * must end the connection without a word: a chunked answer that lacks its end is how the client knows.
 */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Exchange } from '../protocols/protocol.ts';

/** See Host.stream. HEAD has the same headers and takes nothing from the source. */
export async function stream(
  { incoming, outgoing }: Exchange,
  contentType: string,
  chunks: AsyncIterable<Uint8Array | string>,
): Promise<Response> {
  if (incoming.method === 'HEAD') return new Response(null, { headers: { 'Content-Type': contentType } });
  const iterator = chunks[Symbol.asyncIterator]();
  try {
    let next = await iterator.next();
    outgoing.writeHead(200, { 'Content-Type': contentType });
    while (!next.done) {
      if (!outgoing.write(next.value)) await writable(outgoing);
      if (outgoing.destroyed) break;
      next = await iterator.next();
    }
  } finally {
    await iterator.return?.();
  }
  outgoing.end();
  return RESPONSE_ALREADY_SENT;
}

/** Waits until the client has taken what was written, or is gone. */
async function writable(outgoing: ServerResponse): Promise<void> {
  if (outgoing.destroyed) return;
  const waiting = new AbortController();
  const { signal } = waiting;
  try {
    await Promise.race([once(outgoing, 'drain', { signal }), once(outgoing, 'close', { signal })]);
  } finally {
    waiting.abort();
  }
}
