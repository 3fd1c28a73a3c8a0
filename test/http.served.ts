/** For the tests of what comes over the socket: a vault that listens, with its log at hand, and requests byte by byte. */
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterAll, beforeAll, expect } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { createApp } from '../src/http/app.ts';
import { type ConnectionLimits, connectionLimits } from '../src/http/limit.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';
import type { WireAnswer } from './http.wire.ts';

export const LIMITS = connectionLimits(loadConfig({}));
const QUICK: ConnectionLimits = {
  ...LIMITS,
  headersTimeoutMs: 300,
  requestTimeoutMs: 400,
  checkIntervalMs: 50,
};

export let t: TestVault;
export let vault: Vault;
export let server: Listener;
export let quick: Listener;
export let log = '';

/** Once a file: a vault, served with the limits of the product and with quick ones. */
export function ownVault(): void {
  beforeAll(async () => {
    t = await testVault();
    log = '';
    const sink = new Writable({
      write(chunk, _encoding, done) {
        log += chunk;
        done();
      },
    });
    vault = { ...t.vault, log: pino({ level: 'trace' }, sink) };
    server = await start();
    quick = await start(QUICK);
    // The routes under test exist with something in them.
    await t.request('PUT', '/api/v1/secrets/wire/a', { token: t.admin, body: { data: { n: 1 } } });
  });
  afterAll(async () => {
    await Promise.all([server.close(), quick.close()]);
    await t.close();
  });
}

export function start(
  limits?: ConnectionLimits,
  routes?: (app: ReturnType<typeof createApp>) => void,
): Promise<Listener> {
  const app = createApp(vault);
  routes?.(app);
  return listen(vault, app, vault.config, limits);
}

export const HOST = 'Host: localhost\r\n';
export const CLOSE = 'Connection: close\r\n';
export const get = (target: string, headers = '') => `GET ${target} HTTP/1.1\r\n${HOST}${headers}${CLOSE}\r\n`;
export const post = (headers: string, body = '') =>
  `POST /api/v1/auth/login HTTP/1.1\r\n${HOST}Content-Type: application/json\r\n${headers}\r\n${body}`;

const SECURITY = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

export function expectProblem(answer: WireAnswer | undefined, status: number, code?: string): void {
  expect(answer?.status).toBe(status);
  expect(answer!.headers.get('content-type')).toBe('application/problem+json');
  expect(answer!.json).toMatchObject({ type: 'about:blank', status, ...(code === undefined ? {} : { code }) });
  expect(answer!.json.request_id).toBe(answer!.headers.get('x-request-id'));
  expectHeaders(answer!);
}

export function expectHeaders({ headers, status }: WireAnswer): void {
  expect(Object.fromEntries(headers)).toMatchObject(SECURITY);
  for (const name of ['server', 'x-powered-by', 'strict-transport-security', 'access-control-allow-origin', 'vary']) {
    expect(headers.has(name)).toBe(false);
  }
  expect(headers.has('x-request-id')).toBe(true);
  if (status === 401) expect(headers.get('www-authenticate')).toBe('Bearer');
  if (status === 503) expect(headers.get('retry-after')).toMatch(/^\d+$/);
}
