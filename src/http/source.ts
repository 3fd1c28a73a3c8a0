/**
 * Where a request comes from, in one spelling.
 *
 * The peer of the connection, unless that is one of the listed proxies (BULLA_TRUSTED_PROXIES): then X-Forwarded-For is
 * read from its right end, where the nearest proxy wrote, past addresses that are listed themselves; the first that is
 * not is the client. What stands further left was written by the client and is never looked at, and a part that is no
 * address ends the walk at the proxy that sent it. No other header is read: not Forwarded, not X-Real-IP (T-108).
 */
import type { IncomingMessage } from 'node:http';
import { type Address, type Cidr, contains, formatAddress, parseAddress } from '../policy/cidr.ts';

const HOPS_MAX = 20;

export function sourceOf({ socket, headers }: IncomingMessage, proxies: readonly Cidr[]): string {
  const peer = canonicalAddress(socket.remoteAddress);
  const said = headers['x-forwarded-for'];
  if (proxies.length === 0 || typeof said !== 'string' || !isListed(parseAddress(peer), proxies)) return peer;
  let source = peer;
  const hops = said.split(',').slice(-HOPS_MAX);
  for (const hop of hops.reverse()) {
    const address = addressIn(hop.trim());
    if (address === undefined) return source;
    source = formatAddress(address);
    if (!isListed(address, proxies)) return source;
  }
  return source;
}

/** An address, or one with a port as some proxies write it. A scope is another machine's, so there is none. */
function addressIn(text: string): Address | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]{2,45})\](?::\d{1,5})?|(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5})$/.exec(text);
  const bare = match?.[1] ?? match?.[2] ?? text;
  return bare.includes('%') ? undefined : parseAddress(bare);
}

export function isListed(address: Address | undefined, proxies: readonly Cidr[]): boolean {
  return address !== undefined && proxies.some((proxy) => contains(proxy, address));
}

/** The socket's address, with IPv4 in IPv6 as IPv4 and without a scope: one client, one spelling. */
export function canonicalAddress(address: string | undefined): string {
  if (address === undefined) return '';
  if (address.startsWith('::ffff:') && address.includes('.')) return address.slice('::ffff:'.length);
  const scope = address.indexOf('%');
  return scope === -1 ? address : address.slice(0, scope);
}

/** `address` is canonical. */
export function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
}
