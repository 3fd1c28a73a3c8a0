/**
 * Connections, before anything is read from them: how many one client may have, and how a TLS handshake ended.
 *
 * Those of a listed proxy are many clients', whose requests are counted instead (allowance.ts).
 * A connection over TLS counts from its first byte, so that somebody who never finishes a handshake takes a place of
 * their own and of nobody else's. A failed handshake is counted by its reason and ends without a word of ours.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { parseAddress } from '../policy/cidr.ts';
import { createAllowance } from './allowance.ts';
import type { App } from './app.ts';
import type { ConnectionLimits } from './limit.ts';
import { isListed } from './source.ts';
import type { Tls } from './tls.ts';

/** Keeps `sockets` to those that requests can come over. What it gives back ends those whose handshake still runs. */
export function admit(server: Server, app: App, limits: ConnectionLimits, sockets: Set<Socket>): () => void {
  const { take } = createAllowance(limits.connectionsPerSourceMax);
  let count = 0;
  server.on('connection', (socket: Socket) => {
    const { remoteAddress = '' } = socket;
    // Where Node refuses by itself, none comes here that would be too many.
    if (server.maxConnections === undefined && count >= limits.connectionsMax) {
      app.connections.refused('all');
      return void socket.destroy();
    }
    count += 1;
    socket.once('close', () => {
      count -= 1;
    });
    if (limits.proxies.length > 0 && isListed(parseAddress(remoteAddress), limits.proxies)) return;
    const leave = take(remoteAddress);
    if (leave) return void socket.once('close', leave);
    app.connections.refused('source');
    socket.destroy();
  });
  server.on('drop', () => app.connections.refused('all'));
  return app.tls ? admitSecure(server, app.tls, sockets) : admitPlain(server, sockets);
}

function admitPlain(server: Server, sockets: Set<Socket>): () => void {
  server.on('connection', (socket: Socket) => hold(sockets, socket));
  return () => undefined;
}

function admitSecure(server: Server, { handshakes }: Tls, sockets: Set<Socket>): () => void {
  const pending = new Map<string, Socket>();
  server.on('connection', (socket: Socket) => {
    const name = nameOf(socket);
    pending.set(name, socket);
    socket.once('close', () => pending.delete(name));
  });
  server.on('secureConnection', (socket: TLSSocket) => {
    pending.delete(nameOf(socket));
    handshakes.succeeded(socket);
    hold(sockets, socket);
  });
  // Node's own would hand a failed handshake to the parser of HTTP.
  server.removeAllListeners('tlsClientError');
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
    handshakes.failed(error.code);
    socket.destroy();
  });
  return () => {
    for (const socket of pending.values()) socket.destroy();
  };
}

function hold(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket);
  socket.once('close', () => sockets.delete(socket));
}

/** The same for a socket and for what TLS makes of it. */
const nameOf = ({ remoteAddress, remotePort }: Socket) => `${remoteAddress} ${remotePort}`;
