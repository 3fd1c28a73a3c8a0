/**
 * The certificate that a client has shown, as the connection has it. Its key is proven by the handshake; nothing else is
 * believed here. No connection gets another one: there is no renegotiation, and no session is resumed.
 */
import { createHash, type X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { ClientCertificate } from '../protocols/protocol.ts';

const known = new WeakMap<Socket, ClientCertificate | 'none'>();

export function clientCertificateOf(socket: Socket): ClientCertificate | undefined {
  if (!('getPeerX509Certificate' in socket)) return undefined;
  const found = known.get(socket) ?? read(socket as TLSSocket);
  known.set(socket, found);
  return found === 'none' ? undefined : found;
}

function read(socket: TLSSocket): ClientCertificate | 'none' {
  const own = socket.getPeerX509Certificate();
  if (!own) return 'none';
  return { thumbprint: createHash('sha256').update(own.raw).digest(), chain: () => chainOf(own) };
}

const CHAIN_MAX = 16;

function chainOf(own: X509Certificate): Uint8Array[] {
  const chain: X509Certificate[] = [];
  for (let next: X509Certificate | undefined = own; next && chain.length < CHAIN_MAX; next = next.issuerCertificate) {
    if (chain.some(({ raw }) => raw.equals(next!.raw))) break;
    chain.push(next);
  }
  return chain.map(({ raw }) => raw);
}
