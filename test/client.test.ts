/** The SDK against a server that says what the test wants: requests, errors, and when a call is sent again. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { performance } from 'node:perf_hooks';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { Bulla, BullaError } from '../src/client/index.ts';
import {
  type Answer,
  client,
  closeAfterEach,
  closing,
  failure,
  json,
  problem,
  serve,
  TOKEN,
  written,
} from './client.served.ts';

closeAfterEach();

describe('a request', () => {
  test('carries the token as a Bearer header and nowhere else', async () => {
    const { seen, address } = await serve((response) => json(response, 200, { items: [], next_cursor: null }));
    for await (const _ of client(address).secrets.list({ prefix: 'prod/web', recursive: true })) expect.unreachable();
    expect(seen[0]).toMatchObject({ method: 'GET', headers: { authorization: `Bearer ${TOKEN}` }, body: '' });
    expect(seen[0]!.url).toBe('/api/v1/secrets?prefix=prod%2Fweb&recursive=true&limit=1000');
  });

  test('of a login carries no token', async () => {
    const { seen, address } = await serve((response) => json(response, 200, { token: TOKEN }));
    await client(address).auth.login({ tenant: 'default', username: 'app', password: 'x' });
    expect(seen[0]!.headers.authorization).toBeUndefined();
  });

  test('stores a JSON text to the letter', async () => {
    const { seen, address } = await serve((response) => json(response, 201, written));
    const { secrets } = client(address);
    await secrets.put('a/b', { data: '{"big": 123456789012345678901, "b": 1, "a": 1.0}', cas: 0 });
    await secrets.put('a/b', { data: { a: 1 } });
    await secrets.put('a/b', { bytes: Buffer.from([0, 255]), content_type: 'x/y' });
    expect(seen.map(({ body }) => body)).toEqual([
      '{"data":{"big": 123456789012345678901, "b": 1, "a": 1.0},"cas":0}',
      '{"data":{"a":1}}',
      '{"bytes":"AP8=","content_type":"x/y"}',
    ]);
  });

  test.each(['{} , "cas": 0', '[1]', '"x"', 'null', '', '{'])(
    'refuses %j as the data of a secret, without saying it',
    async (data) => {
      const { seen, address } = await serve((response) => json(response, 201, written));
      const secret = 'canary';
      const error = await failure((async () => client(address).secrets.put('a/b', { data: `${data}${secret}` }))());
      expect(error.code).toBe('invalid_json');
      expect(error.message).not.toContain(secret);
      expect(seen).toEqual([]);
    },
  );

  test.each(['a?version=1', 'a#b', '../users', 'a/../b', 'a/./b', 'a//b', '/a', 'a/', '', 'a%2fb', 'a b', 'ä'])(
    'for the path %j is never sent, because it could reach another route',
    async (path) => {
      const { seen, address } = await serve((response) => json(response, 200, {}));
      const error = await failure((async () => client(address).secrets.get(path))());
      expect(error.code).toBe('invalid_path');
      expect(seen).toEqual([]);
    },
  );

  test('walks through all pages of a list', async () => {
    const { seen, address } = await serve((response, { url }) => {
      const last = url.includes('cursor=c1');
      json(response, 200, {
        items: last ? [{ name: 'c' }] : [{ name: 'a' }, { name: 'b' }],
        next_cursor: last ? null : 'c1',
      });
    });
    const names: string[] = [];
    for await (const { name } of client(address).tenants.list()) names.push(name);
    expect(names).toEqual(['a', 'b', 'c']);
    expect(seen).toHaveLength(2);
  });
});

describe('an error', () => {
  test('has the code, status, request id and details of the server', async () => {
    const { address } = await serve((response) => problem(response, 412, 'version_mismatch'));
    const error = await failure(client(address).secrets.put('a', { text: 'x', cas: 3 }));
    expect(error).toMatchObject({
      code: 'version_mismatch',
      status: 412,
      requestId: 'req-1',
      message: 'It is version_mismatch.',
      details: { field: 'x' },
    });
  });

  test('T-245 holds neither the token nor a value, even when the server sends them back', async () => {
    const { address } = await serve((response, { headers, body }, count) => {
      if (count === 1) problem(response, 400, `echo ${headers.authorization} \u001b[31m`);
      else response.writeHead(502, { 'content-type': 'text/html' }).end(`${headers.authorization} ${body}`);
    });
    const { secrets } = client(address, { retries: 0 });
    const canary = 'canary-value';
    for (const error of [
      await failure(secrets.put('a', { text: canary })),
      await failure(secrets.put('a', { text: canary })),
    ]) {
      const shown = inspect(error, { depth: 20, showHidden: true }) + JSON.stringify(error) + error.stack;
      expect(error.message).not.toContain(TOKEN);
      expect(error.message).not.toContain('\u001b');
      expect(shown).not.toContain(canary);
    }
  });

  test('T-245 the client shows no token in an inspection or as JSON', () => {
    const bulla = client('http://127.0.0.1:1');
    expect(inspect(bulla, { depth: 20, showHidden: true }) + JSON.stringify(bulla)).not.toContain('bulla_system');
  });

  test('T-123 a redirect is not followed', async () => {
    const target = await serve((response) => json(response, 200, {}));
    const { address } = await serve((response) => response.writeHead(307, { location: target.address }).end());
    const error = await failure(client(address).status());
    expect(error).toMatchObject({ code: 'bad_answer', status: 307 });
    expect(target.seen).toEqual([]);
  });

  test('says that something that is no vault answered', async () => {
    const { address } = await serve((response) => response.writeHead(200).end('<html>'));
    expect((await failure(client(address).status())).code).toBe('bad_answer');
  });
});

describe('a client is not made', () => {
  test.each(['', 'vault', 'ftp://x', 'http://user:pw@127.0.0.1', 'https://x/?a=1'])('for the address %j', (address) => {
    expect(() => new Bulla({ address })).toThrow(BullaError);
  });

  test('for plain HTTP to another machine, unless that is asked for by name', () => {
    expect(() => new Bulla({ address: 'http://vault.example' })).toThrow(/plain HTTP/);
    expect(new Bulla({ address: 'http://vault.example', sendTokensOverPlainHttp: true }).address).toBe(
      'http://vault.example',
    );
    for (const host of ['127.0.0.1', '127.9.9.9', 'localhost', '[::1]']) new Bulla({ address: `http://${host}:8200` });
  });

  test('for a token with a line feed, and the error does not show it', () => {
    expect(() => new Bulla({ address: 'http://localhost', token: 'canary\n' })).toThrow(/^(?!.*canary)/);
  });
});

describe('a call is sent again', () => {
  test.each([
    [429, 'too_many_requests'],
    [503, 'unavailable'],
    [503, 'busy'],
  ])('after %i %s, even when doing it twice would be wrong, because nothing was done', async (status, code) => {
    const { seen, address } = await serve((response, _, count) =>
      count < 3 ? problem(response, status, code) : json(response, 200, { version: 2 }),
    );
    await client(address).keys.rotate();
    expect(seen).toHaveLength(3);
  });

  test('no sooner than Retry-After says', async () => {
    const { address } = await serve((response, _, count) =>
      count === 1 ? problem(response, 503, 'busy', { 'retry-after': '1' }) : json(response, 200, {}),
    );
    const start = performance.now();
    await client(address).status();
    expect(performance.now() - start).toBeGreaterThanOrEqual(1000);
  });

  test('not when Retry-After is far away: the caller learns of it', async () => {
    const { seen, address } = await serve((response) =>
      problem(response, 429, 'too_many_requests', { 'retry-after': '900' }),
    );
    expect(await failure(client(address).status())).toMatchObject({
      code: 'too_many_requests',
      retryAfterSeconds: 900,
    });
    expect(seen).toHaveLength(1);
  });

  test('only so often', async () => {
    const { seen, address } = await serve((response) => problem(response, 503, 'unavailable'));
    expect((await failure(client(address, { retries: 2 }).status())).code).toBe('unavailable');
    expect(seen).toHaveLength(3);
  });

  test('after a connection that ended before the answer, when it is a read', async () => {
    const { seen, address } = await serve((response, _, count) =>
      count === 1 ? response.destroy() : json(response, 200, { items: [] }),
    );
    await client(address).secrets.fetch({ paths: ['a'] });
    expect(seen).toHaveLength(2);
  });

  test('after an answer that was cut short, when it is a read', async () => {
    const { seen, address } = await serve((response, _, count) => {
      if (count > 1) return json(response, 200, { items: [] });
      response.writeHead(200, { 'content-length': '100' }).write('{"items"');
      setImmediate(() => response.destroy());
    });
    await client(address).secrets.fetch({ paths: ['a'] });
    expect(seen).toHaveLength(2);
  });

  test('after a refused connection, even when doing it twice would be wrong', async () => {
    const held = createTcpServer();
    held.listen(0, '127.0.0.1');
    await once(held, 'listening');
    const { port } = held.address() as AddressInfo;
    await new Promise((done) => held.close(done));
    const rotated = client(`http://127.0.0.1:${port}`, { retries: 8 }).keys.rotate();
    const server = createServer((_, response) => json(response, 200, { version: 2 }));
    closing.push(
      () => new Promise((done) => server.close(done)),
      () => server.closeAllConnections(),
    );
    server.listen(port, '127.0.0.1');
    expect((await rotated).version).toBe(2);
  });

  test('never after a 4xx', async () => {
    const { seen, address } = await serve((response) => problem(response, 403, 'forbidden'));
    await failure(client(address).status());
    expect(seen).toHaveLength(1);
  });
});

describe('T-180 when nobody knows whether an act was done', () => {
  const outcomes: [string, Answer][] = [
    ['the connection ends', (response) => response.destroy()],
    ['the vault says so', (response) => problem(response, 504, 'outcome_unknown')],
    ['a proxy gives up', (response) => response.writeHead(504).end('gateway')],
  ];
  test.each(outcomes)('%s: it is not done a second time', async (_what, answer) => {
    const { seen, address } = await serve(answer);
    const error = await failure(client(address).secrets.put('a', { text: 'x' }));
    expect(error.code).toBe('outcome_unknown');
    expect(error.message).toMatch(/may or may not have been made|It is outcome_unknown/);
    expect(seen).toHaveLength(1);
  });

  test('a guarded write is repeated, and a version that is another by then may be our own', async () => {
    const { seen, address } = await serve((response, _, count) =>
      count === 1 ? response.destroy() : problem(response, 412, 'version_mismatch'),
    );
    const error = await failure(client(address).secrets.put('a', { text: 'x', cas: 3 }));
    expect(error).toMatchObject({ code: 'outcome_unknown', status: 412 });
    expect(seen).toHaveLength(2);
  });

  test('a guarded write that had not been done is done', async () => {
    const { seen, address } = await serve((response, _, count) =>
      count === 1 ? response.destroy() : json(response, 200, written),
    );
    expect(await client(address).secrets.put('a', { text: 'x', cas: 3 })).toEqual(written);
    expect(seen).toHaveLength(2);
  });

  test('the same refusal without a doubt before it stays what it is', async () => {
    const { address } = await serve((response) => problem(response, 412, 'version_mismatch'));
    expect((await failure(client(address).secrets.put('a', { text: 'x', cas: 3 }))).code).toBe('version_mismatch');
  });

  test('a write that is late', async () => {
    const { seen, address } = await serve(() => {});
    expect((await failure(client(address).secrets.put('a', { text: 'x' }, { timeoutMs: 500 }))).code).toBe(
      'outcome_unknown',
    );
    expect(seen).toHaveLength(1);
  });
});

describe('time', () => {
  test('an answer that does not come ends with timed_out', async () => {
    const { address } = await serve(() => {});
    expect((await failure(client(address, { timeoutMs: 50 }).status())).code).toBe('timed_out');
  });

  test('an answer that stops in its middle ends with timed_out', async () => {
    const { address } = await serve((response) => response.writeHead(200, { 'content-length': '100' }).write('{'));
    expect((await failure(client(address, { timeoutMs: 100 }).status())).code).toBe('timed_out');
  });

  test('the caller’s signal ends a request, and a wait between two tries', async () => {
    const silent = await serve(() => {});
    const busy = await serve((response) => problem(response, 503, 'busy', { 'retry-after': '20' }));
    for (const { address } of [silent, busy]) {
      const abort = new AbortController();
      const error = failure(client(address).status({ signal: abort.signal }));
      setTimeout(() => abort.abort(), 50);
      expect((await error).code).toBe('aborted');
    }
    const error = await failure(client(silent.address).status({ signal: AbortSignal.abort() }));
    expect(error.code).toBe('aborted');
    expect(silent.seen).toHaveLength(1);
  });

  test('a slow reader of a stream is not the server’s delay', async () => {
    const { address } = await serve((response) => {
      response.write('a');
      setTimeout(() => response.end('b'), 20);
    });
    const pieces: string[] = [];
    for await (const piece of await client(address, { timeoutMs: 150 }).audit.entries()) {
      pieces.push(piece.toString());
      await new Promise((done) => setTimeout(done, 300));
    }
    expect(pieces.join('')).toBe('ab');
  });

  test.each([
    ['ndjson', (i: number) => `{"action":"a","seq":${i},"v":1}\n`, ''],
    ['csv', (i: number) => `${i},"a","b"\r\n`, 'seq,time\r\n'],
    ['ocsf', (i: number) => `{"raw_data":"{\\"seq\\":${i},\\"v\\":1}"}\n`, ''],
  ] as const)('a stream of %s that is cut short goes on after its last line', async (format, lineOf, header) => {
    const rows = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => lineOf(from + i)).join('');
    const { seen, address } = await serve((response, { url }, count) => {
      const query = new URL(url, 'http://x').searchParams;
      const from = Number(query.get('from_index') ?? 0);
      const to = query.has('limit') ? from + Number(query.get('limit')) : 20;
      if (count > 4) return void response.end(header + rows(from, to));
      // Cut within a line, and once after only a part of the first.
      response.write(header + rows(from, from + (count === 3 ? 1 : 3)) + lineOf(from + 3).slice(0, 5));
      setTimeout(() => response.destroy(), 20);
    });
    for (const limit of [undefined, 15]) {
      const filter = limit === undefined ? { action: 'a' } : { action: 'a', limit };
      let text = '';
      for await (const piece of await client(address).audit.entries(filter, { format })) text += piece;
      expect(text).toBe(header + rows(0, limit ?? 20));
    }
    expect(seen[1]!.url).toContain('from_index=3');
    expect(seen[1]!.url).toContain('action=a');
  });

  test('an export with proof is not put together from two', async () => {
    const { seen, address } = await serve((response) => {
      response.write('{"action":"a","seq":0}\n');
      setTimeout(() => response.destroy(), 20);
    });
    const read = async () => {
      for await (const _ of await client(address).audit.entries({}, { proof: true }));
    };
    expect((await failure(read())).code).toBe('unreachable');
    expect(seen).toHaveLength(1);
  });

  test('a stream that is cut short and brings nothing more throws, so what was read without an error is whole', async () => {
    const { address } = await serve((response) => {
      response.write('line\n');
      setTimeout(() => response.destroy(), 20);
    });
    const read = async () => {
      for await (const _ of await client(address).audit.entries());
    };
    expect((await failure(read())).code).toBe('unreachable');
  });
});
