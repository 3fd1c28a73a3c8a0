/** What comes over the socket before it is a request: framing, hosts, targets, methods and headers. */
import { describe, expect, it } from 'vitest';
import { CLOSE, expectProblem, get, HOST, ownVault, post, quick, server, t } from './http.served.ts';
import { open, talk, untilClosed } from './http.wire.ts';

ownVault();

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
