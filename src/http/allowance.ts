/**
 * How much one client may have at once: connections, or, where a listed proxy (BULLA_TRUSTED_PROXIES) carries many clients
 * over few connections, requests. So a proxy's connections are bound by the number of all alone, and each client behind
 * it has what it would have without one.
 *
 * A client is its network (policy/cidr.ts), so that nobody takes more by another address of the same /64. What is kept
 * goes with the last place of a client.
 */
import type { IncomingMessage } from 'node:http';
import type { Config } from '../config.ts';
import { VaultError } from '../errors.ts';
import { networkOf } from '../policy/cidr.ts';
import { canonicalAddress } from './source.ts';

export type Allowance = {
  /** Takes a place. What it gives back returns it, and is to be called once; undefined when the client has them all. */
  readonly take: (address: string) => (() => void) | undefined;
};

export function createAllowance(most: number): Allowance {
  const taken = new Map<string, number>();
  return {
    take: (address) => {
      const client = networkOf(address);
      const count = taken.get(client) ?? 0;
      if (count >= most) return undefined;
      taken.set(client, count + 1);
      return () => {
        const left = taken.get(client)! - 1;
        if (left > 0) taken.set(client, left);
        else taken.delete(client);
      };
    },
  };
}

/** Throws `too_many_requests`. Without a place to return where the connection has one already. */
export type EnterRequest = (incoming: IncomingMessage, source: string) => (() => void) | undefined;

/** For requests that came over a listed proxy and are another's, `source`. */
export function createRequestAllowance({ trustedProxies, http }: Config): EnterRequest {
  if (trustedProxies.length === 0) return () => undefined;
  const { take } = createAllowance(http.connectionsPerSourceMax);
  return ({ socket }, source) => {
    if (source === canonicalAddress(socket.remoteAddress)) return undefined;
    const leave = take(source);
    if (leave) return leave;
    throw new VaultError('too_many_requests', 'Too many requests of this address are under way; try again.', {
      retryAfterSeconds: 1,
    });
  };
}
