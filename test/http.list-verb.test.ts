/**
 * The verb LIST over plain and TLS connections: it arrives under its own name wherever a request begins, in whatever
 * pieces, and nothing else that came over the wire is changed.
 */
import { execFileSync } from 'node:child_process';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { acceptListVerb } from '../src/http/list-verb.ts';
import { parseAnswers } from './http.wire.ts';

type Kind = 'plain' | 'TLS';
const servers = {} as Record<Kind, Server>;

beforeAll(async () => {
  const pem = execFileSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-keyout', '-', '-subj', '/CN=localhost', '-days', '2'],
  ]);
  servers.plain = createServer(answer);
  servers.TLS = createTlsServer({ key: pem, cert: pem }, answer);
  acceptListVerb(servers.plain, 'connection');
  acceptListVerb(servers.TLS, 'secureConnection');
  for (const server of Object.values(servers)) {
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
  }
});
afterAll(() => {
  for (const server of Object.values(servers)) {
    server.closeAllConnections();
    server.close();
  }
});

/** Says what arrived. */
function answer(incoming: IncomingMessage, outgoing: ServerResponse): void {
  const chunks: Buffer[] = [];
  incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
  incoming.on('end', () => {
    const { method, url, headers } = incoming;
    outgoing.setHeader('Content-Type', 'application/json');
    outgoing.end(JSON.stringify({ method, url, x: headers['x-said'], body: Buffer.concat(chunks).toString() }));
  });
}

async function dial(kind: Kind): Promise<Socket> {
  const { port } = servers[kind].address() as AddressInfo;
  const socket =
    kind === 'plain'
      ? connect(port, '127.0.0.1')
      : connectTls({
          port,
          host: '127.0.0.1',
          checkServerIdentity: () => undefined,
          ca: [],
          rejectUnauthorized: false,
        });
  socket.setNoDelay(true);
  await new Promise((resolve) => socket.once(kind === 'plain' ? 'connect' : 'secureConnect', resolve));
  return socket;
}

/** The server's end of the newest connection, and how many bytes it has read. */
const newest = new Map<Kind, { socket: Socket; read: number }>();
beforeAll(() => {
  const note = (kind: Kind) => (socket: Socket) => {
    const peer = { socket, read: 0 };
    newest.set(kind, peer);
    socket.on('data', (chunk: Buffer) => {
      peer.read += chunk.length;
    });
  };
  servers.plain.on('connection', note('plain'));
  servers.TLS.on('secureConnection', note('TLS'));
});

async function peerOf(kind: Kind): Promise<{ socket: Socket; read: number }> {
  await expect.poll(() => newest.get(kind)?.socket.destroyed, { interval: 2 }).toBe(false);
  return newest.get(kind)!;
}

/** Sends the parts, each as a chunk of its own: the next when the server has read the one before. */
async function exchange(kind: Kind, parts: readonly string[], answers: number): Promise<Record<string, unknown>[]> {
  const socket = await dial(kind);
  let raw = '';
  let sent = 0;
  const peer = await peerOf(kind);
  socket.on('data', (chunk: Buffer) => {
    raw += chunk.toString('latin1');
  });
  for (const part of parts) {
    sent += Buffer.byteLength(part);
    socket.write(part);
    await expect.poll(() => peer.read, { interval: 2 }).toBe(sent);
  }
  await expect.poll(() => parseAnswers(raw).length, { interval: 2 }).toBe(answers);
  socket.destroy();
  return parseAnswers(raw).map(({ status, json }) => (status === 200 ? json : { status }));
}

const HOST = 'Host: localhost\r\n';
const list = (target: string, more = '') => `LIST ${target} HTTP/1.1\r\n${HOST}${more}\r\n`;
const get = (target: string, more = '') => `GET ${target} HTTP/1.1\r\n${HOST}${more}\r\n`;
const post = (target: string, body: string) =>
  `POST ${target} HTTP/1.1\r\n${HOST}Content-Length: ${body.length}\r\n\r\n${body}`;

describe.each(['plain', 'TLS'] as const)('over a %s connection', (kind) => {
  it('LIST arrives as LIST, before and after other requests of one connection', async () => {
    const answers = await exchange(kind, [list('/a'), get('/b'), list('/c'), post('/d', 'x'), list('/e/')], 5);
    expect(answers.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'LIST /a',
      'GET /b',
      'LIST /c',
      'POST /d',
      'LIST /e/',
    ]);
  });

  it('in pieces, cut anywhere', async () => {
    const whole = list('/v1/secret/metadata/?a=b', 'X-Said: something\r\n');
    for (const at of [1, 2, 3, 4, 5, 6, 12, 30, whole.length - 1]) {
      const [said] = await exchange(kind, [whole.slice(0, at), whole.slice(at)], 1);
      expect([at, said]).toEqual([at, { method: 'LIST', url: '/v1/secret/metadata/?a=b', x: 'something', body: '' }]);
    }
    const other = 'LOCK /a HTTP/1.1\r\nHost: localhost\r\n\r\n';
    expect(await exchange(kind, [other.slice(0, 1), other.slice(1)], 1)).toMatchObject([{ method: 'LOCK' }]);
  });

  it('a body that begins with LIST is left as it is, whole or in pieces', async () => {
    const head = `POST /a HTTP/1.1\r\n${HOST}Content-Length: 12\r\n\r\n`;
    expect(await exchange(kind, [head, 'LIST /x HTTP'], 1)).toMatchObject([{ method: 'POST', body: 'LIST /x HTTP' }]);
    expect(await exchange(kind, [`${head}abc`, 'LIST /x H', list('/b')], 2)).toMatchObject([
      { method: 'POST', body: 'abcLIST /x H' },
      { method: 'LIST', url: '/b', body: '' },
    ]);
    const chunked = `POST /a HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n8\r\n`;
    expect(await exchange(kind, [chunked, 'LIST /x ', '\r\n0\r\n\r\n', list('/b')], 2)).toMatchObject([
      { method: 'POST', body: 'LIST /x ' },
      { method: 'LIST' },
    ]);
  });

  it('a header that goes on with LIST is left as it is', async () => {
    const parts = [`GET /a HTTP/1.1\r\n${HOST}X-Said: `, 'LIST /x HTTP/1.1\r\n\r\n', list('/b')];
    expect(await exchange(kind, parts, 2)).toMatchObject([
      { method: 'GET', x: 'LIST /x HTTP/1.1' },
      { method: 'LIST', url: '/b' },
    ]);
  });

  it('LIST may have a body, and what is no request line stays what it is', async () => {
    const body = `LIST /a HTTP/1.1\r\n${HOST}Content-Length: 2\r\n\r\n{}`;
    expect(await exchange(kind, [body, list('/b')], 2)).toMatchObject([{ method: 'LIST', body: '{}' }, { url: '/b' }]);
    expect(await exchange(kind, [post('/a', 'x') + list('/b')], 1)).toEqual([{ status: 400 }]);
    expect(await exchange(kind, ['LISTEN /a HTTP/1.1\r\n\r\n'], 1)).toEqual([{ status: 400 }]);
    expect(await exchange(kind, ['LIST * HTTP/1.1\r\n\r\n'], 1)).toEqual([{ status: 400 }]);
  });
});

it('T-103 after CONNECT nothing that comes reaches a parser', async () => {
  const socket = await dial('plain');
  const peer = await peerOf('plain');
  servers.plain.once('connect', (_: IncomingMessage, tunnel: Socket) => tunnel.write('tunnel'));
  socket.write('CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n');
  let said = '';
  socket.on('data', (chunk: Buffer) => {
    said += chunk;
  });
  await expect.poll(() => said).toBe('tunnel');
  socket.write(list('/a'));
  expect(await exchange('plain', [list('/b')], 1)).toMatchObject([{ method: 'LIST', url: '/b' }]);
  expect(said).toBe('tunnel');
  peer.socket.destroy();
});
