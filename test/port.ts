/** Ports that nobody has: for servers of others, which have to be told one. */
import { type AddressInfo, createServer } from 'node:net';

/** Free when this returns; whoever wants it takes it soon. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((listening) => probe.listen(0, '127.0.0.1', listening));
  const { port } = probe.address() as AddressInfo;
  await new Promise((closed) => probe.close(closed));
  return port;
}
