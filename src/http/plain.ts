/**
 * Answers to the plainest requests, past the router and the adapter: a GET without query, body and condition to a path
 * that a protocol has named for it. Everything before (checks, seal) and after (problems, metrics, log) is as always.
 */
import type { IncomingMessage } from 'node:http';
import type { Exchange, PlainAnswer, PlainRoute, Protocol } from '../protocols/protocol.ts';
import { commonHeaders } from './exchange.ts';

/** Finds the route of a request, or undefined where the router is to look at it. The target is canonical. */
export function createPlainRouter(
  protocols: readonly Protocol[],
): (incoming: IncomingMessage) => PlainRoute | undefined {
  const routes = protocols.flatMap(({ plain }) => plain ?? []);
  return ({ method, url = '', headers }) => {
    if (method !== 'GET' || url.includes('?') || !isPlain(headers)) return undefined;
    for (const route of routes) {
      if (url.length > route.prefix.length && url.startsWith(route.prefix)) return route;
    }
    return undefined;
  };
}

function isPlain(headers: IncomingMessage['headers']): boolean {
  return (
    headers['content-length'] === undefined &&
    headers['transfer-encoding'] === undefined &&
    headers['if-none-match'] === undefined &&
    headers['if-match'] === undefined
  );
}

export function sendPlain(exchange: Exchange, { headers, body }: PlainAnswer): void {
  const { outgoing } = exchange;
  // The client has gone meanwhile.
  if (outgoing.destroyed) return;
  const all = commonHeaders(exchange);
  all.push(...headers, 'Content-Length', String(body.length));
  outgoing.writeHead(200, all);
  outgoing.end(body, 'latin1');
}
