/** A proxy before PostgreSQL that hangs, or cuts a connection around COMMIT: after it went on, or before. */
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Endpoint } from '../src/db/database.ts';

export type CuttingProxy = {
  /** The endpoint through the proxy. */
  readonly endpoint: Endpoint;
  /** What becomes of the next COMMIT: lost on its way there, or done and its answer lost. Once. */
  cut: 'never' | 'before commit' | 'after commit';
  /** What the statement that commits is known by. */
  commit: string;
  /** What must have gone over a connection before its commit is cut: nodes have other things to commit too. */
  about: string;
  /** While true no byte goes either way and new connections are taken and left hanging. */
  blackHole: boolean;
  /** What each new connection waits for before it goes on to the server. */
  admission: Promise<unknown> | undefined;
  /** Ends every connection, and each new one at once, until told otherwise. */
  readonly refuse: (refuses: boolean) => void;
  /** Sees what clients send. */
  carries: (bytes: Buffer) => void;
  readonly close: () => Promise<void>;
};

export async function cuttingProxy(server: Endpoint): Promise<CuttingProxy> {
  const sockets = new Set<Socket>();
  let refuses = false;
  const listener = createServer(async (client) => {
    if (refuses) {
      client.destroy();
      return;
    }
    if (proxy.admission) await proxy.admission;
    const target = server.host.startsWith('/')
      ? connect(join(server.host, `.s.PGSQL.${server.port}`))
      : connect(server.port, server.host);
    for (const socket of [client, target]) {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    }
    let answerLost = false;
    let carried: string | undefined;
    client.on('data', (bytes) => {
      if (proxy.blackHole) return;
      proxy.carries(bytes);
      if (bytes.includes(proxy.about)) carried = proxy.about;
      const commits = proxy.cut !== 'never' && carried === proxy.about && bytes.includes(proxy.commit);
      if (commits && proxy.cut === 'before commit') {
        proxy.cut = 'never';
        target.destroy();
        client.destroy();
        return;
      }
      if (commits) {
        proxy.cut = 'never';
        answerLost = true;
      }
      target.write(bytes);
    });
    target.on('data', (bytes) => {
      if (proxy.blackHole) return;
      if (!answerLost) client.write(bytes);
      else {
        client.destroy();
        target.destroy();
      }
    });
    client.on('close', () => target.destroy());
    target.on('close', () => client.destroy());
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address() as { port: number };
  const proxy: CuttingProxy = {
    endpoint: { ...server, host: '127.0.0.1', port },
    cut: 'never',
    commit: 'COMMIT',
    about: '',
    blackHole: false,
    admission: undefined,
    refuse: (from) => {
      refuses = from;
      if (from) for (const socket of sockets) socket.destroy();
    },
    carries: () => undefined,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
  return proxy;
}
