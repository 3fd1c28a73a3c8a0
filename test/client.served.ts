/** For the tests of the SDK: a small HTTP server that says what the test wants, with faults, delays and headers. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, expect } from 'vitest';
import { Bulla, BullaError, type BullaOptions } from '../src/client/index.ts';

export const TOKEN = 'bulla_system_aaaaaaaaaaaaaaaa.c2VjcmV0LXRva2VuLWNhbmFyeS1uZXZlci10by1zaG93AAAAAAAA';

/** Each request, in order, with its whole body. */
type Seen = { method: string; url: string; headers: IncomingMessage['headers']; body: string };

export const closing: (() => unknown)[] = [];

/** Once a file: what a test has opened is closed after it. */
export function closeAfterEach(): void {
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });
}

export type Answer = (response: ServerResponse, seen: Seen, count: number) => void;

export async function serve(answer: Answer, create: (listener: RequestListener) => Server = createServer) {
  const seen: Seen[] = [];
  const server = create(async (request, response) => {
    const one = { method: request.method!, url: request.url!, headers: request.headers, body: await text(request) };
    seen.push(one);
    answer(response, one, seen.length);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(
    () => new Promise((done) => server.close(done)),
    () => server.closeAllConnections(),
  );
  const { port } = server.address() as AddressInfo;
  return { seen, port, address: `http://127.0.0.1:${port}` };
}

export function client(address: string, options: Partial<BullaOptions> = {}): Bulla {
  const bulla = new Bulla({ address, token: TOKEN, ...options });
  closing.push(() => bulla.close());
  return bulla;
}

export function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

export function problem(
  response: ServerResponse,
  status: number,
  code: string,
  headers: Record<string, string> = {},
): void {
  const body = {
    type: 'about:blank',
    title: code,
    status,
    detail: `It is ${code}.`,
    code,
    request_id: 'req-1',
    field: 'x',
  };
  json(response, status, body, { 'content-type': 'application/problem+json', ...headers });
}

export const written = { path: 'a/b', version: 1, created_at: 't', expires_at: null };

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

export async function failure(act: Promise<unknown>): Promise<BullaError> {
  const error = await act.then(
    () => expect.unreachable('it should have failed'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BullaError);
  return error as BullaError;
}
