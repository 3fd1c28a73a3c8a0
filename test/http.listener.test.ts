/** What comes over the socket before it is a request: framing, hosts, targets, methods, limits, and how it all ends. */
import { createServer } from 'node:net';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { closeDatabase } from '../src/db/database.ts';
import { VaultError } from '../src/errors.ts';
import { createApp } from '../src/http/app.ts';
import { type ConnectionLimits, connectionLimits } from '../src/http/limit.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import { stream } from '../src/http/stream.ts';
import type { Vault } from '../src/vault.ts';
import { spellings, type TestVault, testVault } from './harness.ts';
import { open, parseAnswers, talk, untilClosed, type WireAnswer } from './http.wire.ts';

const LIMITS = connectionLimits(loadConfig({}));
const QUICK: ConnectionLimits = {
  ...LIMITS,
  headersTimeoutMs: 300,
  requestTimeoutMs: 400,
  checkIntervalMs: 50,
};

let t: TestVault;
let vault: Vault;
let server: Listener;
let quick: Listener;
let log = '';

beforeAll(async () => {
  t = await testVault();
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

function start(limits?: ConnectionLimits, routes?: (app: ReturnType<typeof createApp>) => void): Promise<Listener> {
  const app = createApp(vault);
  routes?.(app);
  return listen(vault, app, vault.config, limits);
}

const HOST = 'Host: localhost\r\n';
const CLOSE = 'Connection: close\r\n';
const get = (target: string, headers = '') => `GET ${target} HTTP/1.1\r\n${HOST}${headers}${CLOSE}\r\n`;
const post = (headers: string, body = '') =>
  `POST /api/v1/auth/login HTTP/1.1\r\n${HOST}Content-Type: application/json\r\n${headers}\r\n${body}`;

const SECURITY = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

function expectProblem(answer: WireAnswer | undefined, status: number, code?: string): void {
  expect(answer?.status).toBe(status);
  expect(answer!.headers.get('content-type')).toBe('application/problem+json');
  expect(answer!.json).toMatchObject({ type: 'about:blank', status, ...(code === undefined ? {} : { code }) });
  expect(answer!.json.request_id).toBe(answer!.headers.get('x-request-id'));
  expectHeaders(answer!);
}

function expectHeaders({ headers, status }: WireAnswer): void {
  expect(Object.fromEntries(headers)).toMatchObject(SECURITY);
  for (const name of ['server', 'x-powered-by', 'strict-transport-security', 'access-control-allow-origin', 'vary']) {
    expect(headers.has(name)).toBe(false);
  }
  expect(headers.has('x-request-id')).toBe(true);
  if (status === 401) expect(headers.get('www-authenticate')).toBe('Bearer');
  if (status === 503) expect(headers.get('retry-after')).toMatch(/^\d+$/);
}

describe('framing', () => {
  it('T-102 T-103 a request that two parsers could cut differently gets one 400 and the end of the connection', async () => {
    const smuggled = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const cases: Record<string, string> = {
      'length and chunks': post('Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', `0\r\n\r\n${smuggled}`),
      'two lengths': post('Content-Length: 0\r\nContent-Length: 44\r\n', smuggled),
      'two equal lengths': post('Content-Length: 2\r\nContent-Length: 2\r\n', '{}'),
      'length with a sign': post('Content-Length: +2\r\n', '{}'),
      'length in hex': post('Content-Length: 0x2\r\n', '{}'),
      'length list': post('Content-Length: 2, 2\r\n', '{}'),
      'negative length': post('Content-Length: -1\r\n', '{}'),
      'space before the colon': post('Content-Length : 2\r\n', '{}'),
      'chunked twice': post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
      xchunked: post('Transfer-Encoding: xchunked\r\n', '0\r\n\r\n'),
      'chunked, identity': post('Transfer-Encoding: chunked, identity\r\n', '0\r\n\r\n'),
      'folded header': post('Transfer-Encoding:\r\n chunked\r\n', '0\r\n\r\n'),
      'bare line feeds': `GET /healthz HTTP/1.1\n${HOST.replace('\r', '')}\n`,
      'bare line feed in a header': `GET /healthz HTTP/1.1\r\n${HOST}X: a\nY: b\r\n\r\n`,
      'carriage return in a header': `GET /healthz HTTP/1.1\r\n${HOST}X: a\rY: b\r\n\r\n`,
      'NUL in a header': `GET /healthz HTTP/1.1\r\n${HOST}X: a\0b\r\n\r\n`,
      'header without a name': `GET /healthz HTTP/1.1\r\n${HOST}: x\r\n\r\n`,
      'chunk size overflow': post('Transfer-Encoding: chunked\r\n', 'fffffffffffffffff\r\nx'),
      'chunk size nonsense': post('Transfer-Encoding: chunked\r\n', 'zz\r\nx'),
      'chunk data too long': post('Transfer-Encoding: chunked\r\n', '1\r\nab\r\n0\r\n\r\n'),
      'HTTP/0.9': 'GET /healthz\r\n\r\n',
      'HTTP/2 preface': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      'TLS hello': '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      'spaces in the target': 'GET /healthz x HTTP/1.1\r\n\r\n',
    };
    for (const [name, bytes] of Object.entries(cases)) {
      const { answers } = await talk(server.address, bytes);
      expect([name, answers.map((answer) => answer.status)]).toEqual([name, [400]]);
      expectProblem(answers[0], 400);
    }
  });

  it('T-102 a body longer than it said is a broken next request, never part of this one', async () => {
    const { answers } = await talk(
      server.address,
      post('Content-Length: 2\r\n', '{}garbage that is no request\r\n\r\n'),
    );
    // The first has its own answer, and the connection ends without one for what follows.
    expect(answers.map(({ status, json }) => [status, json.detail])).toEqual([
      [400, expect.stringContaining('tenant')],
    ]);
    expect(answers[0]?.headers.get('connection')).toBe('close');
  });

  it('T-102 a body shorter than it said is cut off by the clock', async () => {
    const { answers } = await talk(quick.address, post('Content-Length: 100\r\n', '{"tenant":'));
    expectProblem(answers[0], 408, 'invalid_request');
  });

  it('T-102 endless chunk extensions and trailers are 413 and 431', async () => {
    const extensions = await talk(
      server.address,
      post('Transfer-Encoding: chunked\r\n', `2;${'a'.repeat(20_000)}\r\n{}\r\n0\r\n\r\n`),
    );
    expectProblem(extensions.answers[0], 413, 'too_large');
    const trailers = await talk(
      server.address,
      post('Transfer-Encoding: chunked\r\n', `2\r\n{}\r\n0\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`),
    );
    expect(trailers.answers.at(-1)?.status).toBeGreaterThanOrEqual(400);
  });

  it('T-102 a body that is too large is refused by its length before a byte, or when the limit is passed', async () => {
    const before = process.memoryUsage().rss;
    const declared = await talk(server.address, post(`Content-Length: 99999999999\r\n${CLOSE}`));
    expectProblem(declared.answers[0], 413, 'too_large');
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
    const socket = await open(server.address);
    const closed = untilClosed(socket);
    socket.write(post(`Transfer-Encoding: chunked\r\n${CLOSE}`));
    for (let sent = 0; sent < 40 && socket.writable; sent += 1) socket.write(chunk);
    expectProblem((await closed).answers[0], 413, 'too_large');
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
  });

  it('asks for a body only when it will take it, and understands no other expectation', async () => {
    const asked = await talk(server.address, post(`Expect: 100-continue\r\nContent-Length: 2\r\n${CLOSE}`), '{}');
    expect(asked.raw).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\n/);
    const refused = await talk(server.address, post(`Expect: 100-continue\r\nContent-Length: 99999999\r\n${CLOSE}`));
    expect(refused.raw).not.toContain('100 Continue');
    expectProblem(refused.answers[0], 413);
    expectProblem((await talk(server.address, get('/healthz', 'Expect: magic\r\n'))).answers[0], 400);
  });

  it('answers pipelined requests in their order, each its own', async () => {
    const first = `GET /api/v1/status HTTP/1.1\r\n${HOST}X-Request-Id: first\r\n\r\n`;
    const { answers } = await talk(server.address, first + get('/healthz', 'X-Request-Id: second\r\n'));
    expect(answers.map(({ status, headers }) => [status, headers.get('x-request-id')])).toEqual([
      [401, 'first'],
      [200, 'second'],
    ]);
  });
});

describe('the head of a request', () => {
  it('T-111 a Host that is empty, has slashes, is too long or comes twice is 400', async () => {
    const hosts = [
      '',
      ' ',
      'a/b',
      'a\\b',
      'user@host',
      'host:port',
      'host:99999',
      'a b',
      `${'a'.repeat(300)}`,
      '[::1',
      'http://a',
      '<script>',
      'a,b',
      '%41',
    ];
    for (const host of hosts) {
      const { answers } = await talk(server.address, `GET /healthz HTTP/1.1\r\nHost: ${host}\r\n${CLOSE}\r\n`);
      expect([host, answers[0]?.status]).toEqual([host, 400]);
      expectProblem(answers[0], 400, 'invalid_request');
    }
    expectProblem((await talk(server.address, `GET /healthz HTTP/1.1\r\n${CLOSE}\r\n`)).answers[0], 400);
    expectProblem((await talk(server.address, `GET /healthz HTTP/1.1\r\n${HOST}${HOST}${CLOSE}\r\n`)).answers[0], 400);
    expectProblem(
      (await talk(server.address, `GET /healthz HTTP/1.1\r\nHost: ${'a'.repeat(16_384)}\r\n\r\n`)).answers[0],
      431,
      'too_large',
    );
    for (const host of ['localhost', 'VAULT.example.com:8200', '127.0.0.1:1', '[::1]:8200', 'my_vault']) {
      const { answers } = await talk(server.address, `GET /healthz HTTP/1.1\r\nHost: ${host}\r\n${CLOSE}\r\n`);
      expect([host, answers[0]?.status]).toEqual([host, 200]);
    }
  });

  it('T-060 a target that is not canonical is 400 for every method, before a token is looked at', async () => {
    const base = '/api/v1/secrets';
    const paths = [
      '/wire/%61',
      '/wire%2Fa',
      '/wire//a',
      '/wire/a/',
      '/wire/./a',
      '/wire/../wire/a',
      '/wire/%2e%2e/wire/a',
      '/wire/%252e/a',
      '/wire/a;x',
      '/wire\\a',
      '/wire/a%00',
      '/wire/\u00e4',
      '/wire/a%c0%ae',
      '/wire/a|b',
      '/wire/..',
      '//',
    ];
    const targets = [
      ...paths.map((path) => base + path),
      '//api/v1/secrets/wire/a',
      '/api//v1/secrets/wire/a',
      '/api/v1/../v1/secrets/wire/a',
      'http://localhost/api/v1/secrets/wire/a',
      'api/v1/secrets/wire/a',
      '*',
      '/healthz#x',
      '/healthz?a b'.replace(' ', '\x7f'),
    ];
    for (const method of ['GET', 'PUT', 'PATCH', 'DELETE', 'POST', 'OPTIONS', 'HEAD']) {
      for (const target of targets) {
        const token = `Authorization: Bearer ${t.admin}\r\n`;
        const { answers } = await talk(server.address, `${method} ${target} HTTP/1.1\r\n${HOST}${token}${CLOSE}\r\n`);
        expect([method, target, answers[0]?.status]).toEqual([method, target, 400]);
      }
    }
  });

  it('T-112 an unknown method is 405 with the methods that there are; TRACE, TRACK and CONNECT too', async () => {
    const allowed = 'HEAD, GET, PUT, PATCH, DELETE';
    for (const method of ['POST', 'OPTIONS', 'TRACE', 'PROPFIND', 'FOO', 'TRACK', 'get', 'SEARCH']) {
      const { answers } = await talk(
        server.address,
        `${method} /api/v1/secrets/wire/a HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
      );
      expect([method, answers[0]?.status, answers[0]?.headers.get('allow')]).toEqual([method, 405, allowed]);
      expectProblem(answers[0], 405, 'method_not_allowed');
    }
    const connect = await talk(server.address, `CONNECT localhost:80 HTTP/1.1\r\n${HOST}\r\n`);
    expectProblem(connect.answers[0], 405, 'method_not_allowed');
    const login = await talk(server.address, get('/api/v1/auth/login'));
    expect(login.answers[0]?.headers.get('allow')).toBe('POST');
    expectProblem((await talk(server.address, get('/api/v1/nothing'))).answers[0], 404, 'not_found');
    expectProblem((await talk(server.address, get('/'))).answers[0], 404, 'not_found');
  });

  it('an upgrade that nobody offered is an ordinary request', async () => {
    const { answers } = await talk(
      server.address,
      `GET /healthz HTTP/1.1\r\n${HOST}Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n`,
    );
    expect(answers[0]?.status).toBe(200);
  });

  it('headers that are too many, too large or given twice are refused, never dropped', async () => {
    const many = Array.from({ length: 101 }, (_, i) => `X-${i}: 1\r\n`).join('');
    expectProblem((await talk(server.address, get('/healthz', many))).answers[0], 400, 'invalid_request');
    expectProblem(
      (await talk(server.address, get('/healthz', `X: ${'a'.repeat(17_000)}\r\n`))).answers[0],
      431,
      'too_large',
    );
    for (const name of [
      'Authorization',
      'If-Match',
      'If-None-Match',
      'Content-Type',
      'X-Request-Id',
      'Content-Encoding',
    ]) {
      const { answers } = await talk(server.address, get('/healthz', `${name}: a\r\n${name.toLowerCase()}: b\r\n`));
      expectProblem(answers[0], 400, 'invalid_request');
    }
  });

  it('T-105 headers named like parts of JavaScript are only headers', async () => {
    const odd = '__proto__: x\r\nconstructor: x\r\ntoString: x\r\nhasOwnProperty: x\r\n';
    expect((await talk(server.address, get('/healthz', odd))).answers[0]?.status).toBe(200);
    expectProblem((await talk(server.address, get('/api/v1/auth/self', odd))).answers[0], 401);
  });

  it('T-108 what headers claim of the client, the method or the target is not believed', async () => {
    const claims =
      'X-Forwarded-For: 10.9.9.9\r\nForwarded: for=10.9.9.9\r\nX-Real-IP: 10.9.9.9\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-HTTP-Method-Override: DELETE\r\nX-Original-URL: /api/v1/status\r\nX-Rewrite-URL: /api/v1/status\r\n';
    const { answers } = await talk(
      server.address,
      get('/api/v1/secrets/wire/a', `${claims}Authorization: Bearer ${t.admin}\r\nX-Request-Id: t-108\r\n`),
    );
    expect(answers[0]?.json).toMatchObject({ path: 'wire/a', version: 1 });
    expect(answers[0]?.headers.has('strict-transport-security')).toBe(false);
    const entries = await t.request('GET', '/api/v1/audit/entries?request=t-108', { token: t.admin });
    expect(JSON.parse(entries.text)).toMatchObject({ source: '127.0.0.1', action: 'secret.read', request: 't-108' });
    expect(entries.text).not.toContain('10.9.9.9');
  });

  it('echoes a request id that is plain, and makes its own otherwise', async () => {
    const id = (header: string) =>
      talk(server.address, get('/healthz', header)).then(({ answers }) => answers[0]?.headers.get('x-request-id'));
    expect(await id('X-Request-Id: Abc-1.2_3\r\n')).toBe('Abc-1.2_3');
    for (const odd of ['a b', 'a/b', '', 'x'.repeat(65), '<x>', 'ä']) {
      expect(await id(`X-Request-Id: ${odd}\r\n`)).toMatch(/^[0-9a-f]{8}-[0-9a-f-]{27}$/);
    }
  });
});

describe('slow and many', () => {
  it('T-110 slow headers, slow bodies and idle connections end by themselves while others are served', async () => {
    const slowHeads = Array.from({ length: 30 }, async () => {
      const socket = await open(quick.address);
      socket.write('GET /healthz HTTP/1.1\r\nHost: local');
      return (await untilClosed(socket)).answers[0];
    });
    const slowBodies = Array.from({ length: 30 }, async () => {
      const socket = await open(quick.address);
      socket.write(post('Content-Length: 1000\r\n', '{'));
      return (await untilClosed(socket)).answers[0];
    });
    const idle = open(quick.address).then(untilClosed);
    const served = await talk(quick.address, get('/healthz'));
    expect(served.answers[0]?.status).toBe(200);
    for (const answer of await Promise.all([...slowHeads, ...slowBodies]))
      expectProblem(answer, 408, 'invalid_request');
    expect((await idle).answers.length).toBeLessThan(2);
  });

  it('T-110 a client that does not read its answer is cut, and one over the number of connections is dropped', async () => {
    const few = await start({ ...LIMITS, connectionsMax: 3, idleTimeoutMs: 300, checkIntervalMs: 50 });
    await t.request('PUT', '/api/v1/secrets/wire/large', { token: t.admin, body: { text: 'x'.repeat(1024 * 1024) } });
    const lazy = await Promise.all([open(few.address), open(few.address), open(few.address)]);
    for (const socket of lazy) {
      socket.pause();
      const one = `GET /api/v1/secrets/wire/large HTTP/1.1\r\n${HOST}Authorization: Bearer ${t.admin}\r\n\r\n`;
      socket.write(one.repeat(20));
    }
    const refused = await untilClosed(await open(few.address));
    expect(refused.raw).toBe('');
    // Their places come back without their doing anything.
    await expect
      .poll(
        () =>
          talk(few.address, get('/healthz')).then(
            ({ answers }) => answers[0]?.status,
            () => 'refused',
          ),
        { timeout: 10_000 },
      )
      .toBe(200);
    for (const socket of lazy) socket.destroy();
    await few.close();
  });
});

describe('bodies and streams', () => {
  it('T-102 all large bodies together are bounded: beyond it 503, while small requests are served', async () => {
    const crowded = await start();
    const length = 2 * 1024 * 1024 - 1;
    const part = Buffer.alloc(length - 1, 0x20);
    const put = `PUT /api/v1/secrets/wire/crowd HTTP/1.1\r\n${HOST}Content-Type: application/octet-stream\r\nAuthorization: Bearer ${t.admin}\r\nContent-Length: ${length}\r\n${CLOSE}\r\n`;
    const stalled = await Promise.all(
      Array.from({ length: 34 }, async () => {
        const socket = await open(crowded.address);
        const end = untilClosed(socket);
        socket.write(put);
        socket.write(part);
        return { socket, end };
      }),
    );
    const refused = (await Promise.race(stalled.map(({ end }) => end))).answers[0];
    expectProblem(refused, 503, 'busy');
    expect((await talk(crowded.address, post(`Content-Length: 2\r\n${CLOSE}`, '{}'))).answers[0]?.status).toBe(400);
    for (const { socket } of stalled) socket.destroy();
    await Promise.all(stalled.map(({ end }) => end));
    // The places are free again: the same body is now only larger than a secret may be.
    await expect.poll(() => talk(crowded.address, put, part, ' ').then(({ answers }) => answers[0]?.status)).toBe(413);
    await crowded.close();
  });

  it('a stream is taken no faster than it is read, and its source ends with the client', async () => {
    let made = 0;
    let ended = false;
    async function* endless() {
      try {
        for (;;) {
          made += 1;
          yield Buffer.alloc(64 * 1024, 0x61);
        }
      } finally {
        ended = true;
      }
    }
    const streaming = await start(undefined, (app) => {
      app.router.get('/endless', (c) => stream(c.env, 'text/plain', endless()));
    });
    const lazy = await open(streaming.address);
    lazy.pause();
    lazy.write(get('/endless'));
    await expect.poll(() => made).toBeGreaterThan(1);
    let before = -1;
    await expect
      .poll(
        () => {
          const still = made === before;
          before = made;
          return still;
        },
        { interval: 100 },
      )
      .toBe(true);
    expect(made).toBeLessThan(400);
    lazy.destroy();
    await expect.poll(() => ended).toBe(true);
    await streaming.close();
  });

  it('an error before the first chunk is a problem; a later one cuts the connection, and nothing is said', async () => {
    async function* failing(after: number) {
      for (let i = 0; i < after; i += 1) yield 'line\n';
      throw new VaultError('unavailable', 'the canary-detail of the failure');
    }
    const streaming = await start(undefined, (app) => {
      app.router.get('/early', (c) => stream(c.env, 'text/plain', failing(0)));
      app.router.get('/late', (c) => stream(c.env, 'text/plain', failing(2)));
    });
    expectProblem((await talk(streaming.address, get('/early'))).answers[0], 503, 'unavailable');
    const late = await talk(streaming.address, get('/late'));
    expect(late.raw).not.toContain('canary-detail');
    expect(late.raw).not.toMatch(/\r\n0\r\n/);
    await streaming.close();
  });

  it('T-115 without its database the vault answers 503 with Retry-After, and is alive', async () => {
    const node = await t.node();
    const app = createApp(node);
    const lonely = await listen(node, app, node.config);
    await closeDatabase(node.db);
    expectProblem((await talk(lonely.address, get('/readyz'))).answers[0], 503, 'unavailable');
    const read = get('/api/v1/secrets/wire/a', `Authorization: Bearer ${t.admin}\r\n`);
    expectProblem((await talk(lonely.address, read)).answers[0], 503, 'unavailable');
    expect((await talk(lonely.address, get('/healthz'))).answers[0]?.status).toBe(200);
    await lonely.close();
  });
});

describe('what every answer has and none says', () => {
  it('T-114 T-115 T-116 T-248 every kind of error is a problem with the same headers, and no-store is on answers too', async () => {
    const token = `Authorization: Bearer ${t.admin}\r\n`;
    const answers = await Promise.all(
      [
        get('/healthz'),
        get('/api/v1/secrets/wire/a', token),
        get('/api/v1/secrets/wire/a'),
        get('/api/v1/secrets/wire/none', token),
        get('/openapi.json'),
        get('/metrics'),
        get('/nothing'),
        post(CLOSE),
        `DELETE /healthz HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
        'nonsense\r\n\r\n',
      ].map(async (bytes) => (await talk(server.address, bytes)).answers[0]!),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 401, 404, 200, 200, 404, 400, 405, 400]);
    for (const answer of answers) {
      expectHeaders(answer);
      if (answer.status < 400) continue;
      expectProblem(answer, answer.status);
      expect(answer.body).not.toMatch(/node_modules|\.js:|SELECT |postgres|\/work\/|at Object/i);
    }
  });

  it('T-117 no origin is allowed, whatever it is', async () => {
    for (const origin of ['null', 'https://evil.example', 'https://localhost.evil.example', 'http://localhost']) {
      const preflight = `OPTIONS /api/v1/auth/login HTTP/1.1\r\n${HOST}Origin: ${origin}\r\nAccess-Control-Request-Method: POST\r\n${CLOSE}\r\n`;
      const asked = (await talk(server.address, preflight)).answers[0]!;
      const simple = (await talk(server.address, get('/healthz', `Origin: ${origin}\r\n`))).answers[0]!;
      expect([asked.status, simple.status]).toEqual([405, 200]);
      for (const { headers } of [asked, simple]) {
        expect([...headers.keys()].filter((name) => name.startsWith('access-control') || name === 'vary')).toEqual([]);
      }
    }
  });

  it('T-119 T-222 a defect is a 500 that says nothing, is whole in the log but for values, and the process lives', async () => {
    const canary = 'hunter2-canary';
    const broken = await start(undefined, (app) => {
      app.router.get('/parse', () => JSON.parse(`"${canary}`));
      app.router.get('/token', () => {
        throw new TypeError(`cannot use bulla_${canary} here`, { cause: new Error(`no "${canary}" in it`) });
      });
      app.router.get('/string', () => {
        throw canary;
      });
      app.router.get('/late', async (c) => {
        c.env.outgoing.writeHead(200);
        c.env.outgoing.write('begun');
        throw new Error('late');
      });
    });
    const before = log.length;
    for (const path of ['/parse', '/token', '/string']) {
      const { answers } = await talk(broken.address, get(path));
      expectProblem(answers[0], 500, 'internal');
      expect(answers[0]!.body).not.toContain(canary);
    }
    expect((await talk(broken.address, get('/late'))).raw).toMatch(/begun\r\n$/);
    expect((await talk(broken.address, get('/healthz'))).answers[0]?.status).toBe(200);
    const said = log.slice(before);
    expect(said).toContain('http.listener.test.ts');
    expect(said).toContain('TypeError');
    for (const spelling of spellings(canary)) expect(said).not.toContain(spelling.toString());
    await broken.close();
  });

  it('T-220 T-230 a token in the query is refused, and the log holds no token, path, query or body', async () => {
    const before = log.length;
    for (const name of ['token', 'access_token', 'Token', '%74oken', 'access%5Ftoken']) {
      const { answers } = await talk(
        server.address,
        get(`/api/v1/secrets/wire/a?${name}=${t.admin}`, `Referer: http://x/?q=${t.admin}\r\n`),
      );
      expectProblem(answers[0], 400, 'invalid_request');
      expect(answers[0]!.body).not.toContain(t.admin);
      expectProblem((await talk(server.address, get(`/healthz?${name}=x`))).answers[0], 400);
    }
    await talk(
      server.address,
      get(
        '/api/v1/secrets/wire/very-secret-name?version=7',
        `Authorization: Bearer ${t.admin}\r\nCookie: c=cookie-canary\r\n`,
      ),
    );
    await talk(server.address, get('/very-secret-name'));
    await talk(
      server.address,
      post(
        `${CLOSE}Content-Length: 60\r\n`,
        `{"tenant":"t","username":"user-canary","password":"pw-canary"}`.slice(0, 60),
      ),
    );
    await expect.poll(() => log.slice(before).split('\n').length).toBeGreaterThan(12);
    const said = log.slice(before);
    const forbidden = [
      t.admin,
      t.admin.split('.')[1]!,
      'very-secret-name',
      'cookie-canary',
      'user-canary',
      'pw-canary',
      'version=7',
    ];
    for (const text of forbidden) expect(said).not.toContain(text);
    const lines = said
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.find((line) => line.route === '/api/v1/secrets/{path}' && line.status === 404)).toMatchObject({
      msg: 'request',
      method: 'GET',
      code: 'not_found',
      source: '127.0.0.1',
      tenant: expect.stringMatching(/^[a-z2-7]{16}$/),
    });
  });

  it('T-241 metrics are by route pattern, and only for a loopback peer or who has the token', async () => {
    const { answers } = await talk(server.address, get('/metrics'));
    expect(answers[0]!.body).toMatch(
      /bulla_http_requests_total\{method="GET",route="\/api\/v1\/secrets\/\{path\}",status="200"\} \d/,
    );
    expect(answers[0]!.body).not.toMatch(/wire|default|very-secret/);
    const token = 'a-metrics-token-of-some-length';
    const env = {
      BULLA_LISTEN: '127.0.0.1:0',
      BULLA_METRICS_TOKEN: token,
      BULLA_SERVE_PLAIN_HTTP_BEHIND_A_TLS_TERMINATING_PROXY: 'true',
    };
    const config = loadConfig(env);
    const behind = await listen(vault, createApp({ ...vault, config }), config);
    const scrape = (header = '') => talk(behind.address, get('/metrics', header)).then((wire) => wire.answers[0]!);
    expectProblem(await scrape(), 401);
    expectProblem(await scrape('Authorization: Bearer another\r\n'), 401);
    expect((await scrape(`Authorization: Bearer ${token}\r\n`)).status).toBe(200);
    await behind.close();
  });

  it('is ready while the database answers, and alive either way', async () => {
    expect((await talk(server.address, get('/readyz'))).answers[0]?.status).toBe(200);
    const head = await talk(server.address, `HEAD /healthz HTTP/1.1\r\n${HOST}${CLOSE}\r\n`);
    expect(head.raw).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(head.raw.endsWith('\r\n\r\n')).toBe(true);
    const yaml = (await talk(server.address, get('/openapi.yaml'))).answers[0]!;
    expect([yaml.status, yaml.headers.get('content-type')]).toEqual([200, 'application/yaml']);
  });
});

describe('beginning and end', () => {
  it('refuses plain HTTP anywhere but on loopback, and says what to do', async () => {
    for (const host of ['0.0.0.0:0', '[::]:0']) {
      const config = loadConfig({ BULLA_LISTEN: host });
      await expect(listen(vault, createApp(vault), config)).rejects.toMatchObject({
        code: 'invalid_request',
        message: expect.stringContaining('BULLA_SERVE_PLAIN_HTTP_BEHIND_A_TLS_TERMINATING_PROXY'),
      });
    }
    const config = loadConfig({ BULLA_LISTEN: 'no-such-host.invalid:1' });
    await expect(listen(vault, createApp(vault), config)).rejects.toMatchObject({ code: 'conflict' });
  });

  it('a port in use is one sentence', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    const { port } = other.address() as { port: number };
    const config = loadConfig({ BULLA_LISTEN: `127.0.0.1:${port}` });
    await expect(listen(vault, createApp(vault), config)).rejects.toMatchObject({
      code: 'conflict',
      message: `Cannot listen on 127.0.0.1:${port}: another program listens there; end it or set BULLA_LISTEN to another port.`,
    });
    other.close();
  });

  it('T-206 stops by finishing what runs, refusing what comes, and then it is gone', async () => {
    let proceed = () => {};
    const gate = new Promise<void>((resolve) => {
      proceed = resolve;
    });
    let entered = () => {};
    const inside = new Promise<void>((resolve) => {
      entered = resolve;
    });
    const ending = await start(undefined, (app) => {
      app.router.get('/slow', async (c) => {
        entered();
        await gate;
        return c.text('done');
      });
    });
    const running = await open(ending.address);
    const idle = await open(ending.address);
    const runningEnd = untilClosed(running);
    const idleEnd = untilClosed(idle);
    running.write(`GET /slow HTTP/1.1\r\n${HOST}\r\n`);
    await inside;
    const closed = ending.close();
    // Pipelined on the connection that is still open.
    running.write(`GET /healthz HTTP/1.1\r\n${HOST}\r\n`);
    await idleEnd;
    await expect(open(ending.address)).rejects.toThrow();
    proceed();
    await closed;
    const [slow, late] = (await runningEnd).answers;
    expect([slow?.status, slow?.body, slow?.headers.get('connection')]).toEqual([200, 'done', 'close']);
    if (late !== undefined) expectProblem(late, 503, 'unavailable');
  });

  it('does not wait for ever: at the deadline what runs is cut', async () => {
    let entered = () => {};
    const inside = new Promise<void>((resolve) => {
      entered = resolve;
    });
    const ending = await start({ ...LIMITS, drainDeadlineMs: 100 }, (app) => {
      app.router.get('/never', () => {
        entered();
        return new Promise<Response>(() => undefined);
      });
    });
    const stuck = await open(ending.address);
    const end = untilClosed(stuck);
    stuck.write(`GET /never HTTP/1.1\r\n${HOST}\r\n`);
    await inside;
    await ending.close();
    expect(parseAnswers((await end).raw)).toEqual([]);
  });
});
