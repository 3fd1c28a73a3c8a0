/** A vault's listener over TLS inside the test's process, with certificates that the test makes. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { type Logger, pino } from 'pino';
import { loadConfig } from '../src/config.ts';
import { createApp } from '../src/http/app.ts';
import { type ConnectionLimits, connectionLimits } from '../src/http/limit.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import { openTls, type Tls } from '../src/http/tls.ts';
import type { Made } from './fixtures/certificate.ts';
import type { TestVault } from './harness.ts';
import { untilClosed, type WireAnswer } from './http.wire.ts';

export type Served = {
  readonly tls: Tls;
  readonly listener: Listener;
  readonly port: number;
  readonly files: { certFile: string; keyFile: string }[];
  readonly close: () => Promise<void>;
};

export type ServeOptions = {
  readonly env?: Record<string, string>;
  readonly limits?: Partial<ConnectionLimits>;
  readonly log?: Logger;
};

export function keepPair(directory: string, name: string, { pem, key }: Pick<Made, 'pem' | 'key'>) {
  const files = { certFile: join(directory, `${name}.crt`), keyFile: join(directory, `${name}.key`) };
  writeFileSync(files.certFile, pem);
  writeFileSync(files.keyFile, key, { mode: 0o600 });
  return files;
}

export async function serveTls(
  t: TestVault,
  pairs: readonly Pick<Made, 'pem' | 'key'>[],
  options: ServeOptions = {},
): Promise<Served> {
  const { env = {}, limits = {}, log = pino({ level: 'silent' }) } = options;
  const directory = join(t.dataDir, randomBytes(4).toString('hex'));
  mkdirSync(directory);
  const files = pairs.map((pair, i) => keepPair(directory, `server${i}`, pair));
  const config = loadConfig({
    BULLA_LISTEN: '127.0.0.1:0',
    BULLA_TLS_CERT_FILE: files.map(({ certFile }) => certFile).join(','),
    BULLA_TLS_KEY_FILE: files.map(({ keyFile }) => keyFile).join(','),
    ...env,
  });
  const tls = await openTls(config.tls!, { files }, log);
  const vault = { ...t.vault, config };
  const listener = await listen(vault, createApp(vault, tls), config, { ...connectionLimits(config), ...limits });
  const close = async () => {
    await listener.close();
    tls.close();
  };
  return { tls, listener, files, port: Number(new URL(listener.address).port), close };
}

/** A handshake: the socket, or the code of why there is none. */
export function shake(port: number, options: ConnectionOptions): Promise<TLSSocket | string> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', ...options });
    socket.once('secureConnect', () => resolve(socket));
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

export async function askTls(port: number, bytes: string, options: ConnectionOptions): Promise<WireAnswer[]> {
  const socket = await shake(port, options);
  if (typeof socket === 'string') throw new Error(`no handshake: ${socket}`);
  socket.write(bytes);
  return (await untilClosed(socket)).answers;
}

/** The bytes of a request after which the connection ends. */
export const request = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
