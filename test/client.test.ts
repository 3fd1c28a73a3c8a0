/**
 * The SDK: against a small HTTP server that says what the test wants (faults, delays, headers), and against a real vault.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { text } from 'node:stream/consumers';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Bulla, BullaError, type BullaOptions, type Change, verifyExport } from '../src/client/index.ts';
import { createApp } from '../src/http/app.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';

const TOKEN = 'bulla_system_aaaaaaaaaaaaaaaa.c2VjcmV0LXRva2VuLWNhbmFyeS1uZXZlci10by1zaG93AAAAAAAA';

/** Each request, in order, with its whole body. */
type Seen = { method: string; url: string; headers: IncomingMessage['headers']; body: string };

const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

type Answer = (response: ServerResponse, seen: Seen, count: number) => void;

async function serve(answer: Answer, create: (listener: RequestListener) => Server = createServer) {
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

function client(address: string, options: Partial<BullaOptions> = {}): Bulla {
  const bulla = new Bulla({ address, token: TOKEN, ...options });
  closing.push(() => bulla.close());
  return bulla;
}

function json(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

function problem(response: ServerResponse, status: number, code: string, headers: Record<string, string> = {}): void {
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

const written = { path: 'a/b', version: 1, created_at: 't', expires_at: null };

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

async function failure(act: Promise<unknown>): Promise<BullaError> {
  const error = await act.then(
    () => expect.unreachable('it should have failed'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BullaError);
  return error as BullaError;
}

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
    expect((await failure(client(address).secrets.put('a', { text: 'x' }, { timeoutMs: 50 }))).code).toBe(
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

  test('a stream that is cut short throws, so what was read without an error is whole', async () => {
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

describe('TLS', () => {
  let directory: string;
  let tls: { key: Buffer; cert: Buffer };

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'bulla-client-'));
    const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
    const subject = ['-subj', '/CN=vault', '-addext', 'subjectAltName=IP:127.0.0.1'];
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-days',
        '1',
        '-keyout',
        key,
        '-out',
        cert,
        ...subject,
      ],
      { stdio: 'pipe' },
    );
    tls = { key: readFileSync(key), cert: readFileSync(cert) };
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const secure = (answer: Answer) => serve(answer, (listener) => createTlsServer(tls, listener) as unknown as Server);

  test('a certificate that is not trusted is refused before anything is sent', async () => {
    const { seen, port } = await secure((response) => json(response, 200, {}));
    expect((await failure(client(`https://127.0.0.1:${port}`).status())).code).toBe('untrusted_server');
    const ca = tls.cert.toString();
    expect((await failure(client(`https://localhost:${port}`, { ca }).status())).code).toBe('untrusted_server');
    expect(seen).toEqual([]);
  });

  test('a CA of the caller’s is trusted', async () => {
    const { seen, port } = await secure((response) => json(response, 200, { tenant: 'default' }));
    const bulla = client(`https://127.0.0.1:${port}`, { ca: tls.cert.toString() });
    expect((await bulla.status()).tenant).toBe('default');
    expect(seen).toHaveLength(1);
  });
});

describe('watch', () => {
  type Stored = { path: string; version: number; created_at: string };
  const stored = (path: string, version: number, created_at = `t${version}`): Stored => ({ path, version, created_at });

  /** Answers POST /fetch as the vault does, with an ETag over what is stored. */
  async function watched() {
    const state: { secrets: Stored[]; down: boolean } = { secrets: [], down: false };
    const server = await serve((response, { headers }) => {
      if (state.down) {
        response.destroy();
        return;
      }
      const etag = `"${state.secrets.map(({ path, version, created_at }) => path + version + created_at).join()}"`;
      if (headers['if-none-match'] === etag) response.writeHead(304, { etag }).end();
      else json(response, 200, { items: state.secrets }, { etag });
    });
    return { ...server, state };
  }

  function collector() {
    const changes: Change[] = [];
    const waiting: (() => void)[] = [];
    const onChange = (change: Change) => {
      changes.push(change);
      for (const wake of waiting.splice(0)) wake();
    };
    const reach = async (count: number): Promise<Change> => {
      while (changes.length < count) await new Promise<void>((wake) => waiting.push(wake));
      return changes[count - 1]!;
    };
    return { changes, onChange, reach };
  }

  test('calls back with everything first, then with what changed and what is gone', async () => {
    const { address, state } = await watched();
    const { onChange, reach } = collector();
    state.secrets = [stored('p/a', 1), stored('p/b', 1)];
    const watch = client(address).watch('p', onChange, { intervalMs: 100 });
    closing.push(() => watch.close());
    await watch.ready;
    expect((await reach(1)).changed.map(({ path }) => path)).toEqual(['p/a', 'p/b']);
    state.secrets = [stored('p/b', 2), stored('p/c', 1)];
    const second = await reach(2);
    expect(second.changed.map(({ path, version }) => [path, version])).toEqual([
      ['p/b', 2],
      ['p/c', 1],
    ]);
    expect(second.removed).toEqual(['p/a']);
    expect([...second.secrets.keys()]).toEqual(['p/b', 'p/c']);
    // Removed and made again: the same number, another secret.
    state.secrets = [stored('p/b', 2), stored('p/c', 1, 'later')];
    expect((await reach(3)).changed.map(({ path }) => path)).toEqual(['p/c']);
  });

  test('does not call back while nothing changes, and costs one 304 each time', async () => {
    const { address, state, seen } = await watched();
    const { changes, onChange } = collector();
    state.secrets = [stored('p/a', 1)];
    const watch = client(address).watch('p', onChange, { intervalMs: 100 });
    closing.push(() => watch.close());
    await expect.poll(() => seen.length).toBeGreaterThan(3);
    expect(changes).toHaveLength(1);
    expect(seen.slice(1).every(({ headers }) => headers['if-none-match'] !== undefined)).toBe(true);
  });

  test('survives an outage from the start and one in between', async () => {
    const { address, state } = await watched();
    const { onChange, reach } = collector();
    const errors: unknown[] = [];
    state.down = true;
    const bulla = client(address, { retries: 0 });
    const watch = bulla.watch('p', onChange, { intervalMs: 100, onError: (error) => errors.push(error) });
    closing.push(() => watch.close());
    await expect.poll(() => errors.length).toBeGreaterThan(0);
    state.secrets = [stored('p/a', 1)];
    state.down = false;
    await watch.ready;
    state.down = true;
    const before = errors.length;
    await expect.poll(() => errors.length).toBeGreaterThan(before);
    state.secrets = [stored('p/a', 2)];
    state.down = false;
    expect((await reach(2)).changed[0]!.version).toBe(2);
    expect(errors.every((error) => error instanceof BullaError && error.code === 'unreachable')).toBe(true);
  });

  test('delivers a change again until the callback has taken it', async () => {
    const { address, state } = await watched();
    state.secrets = [stored('p/a', 1)];
    const errors: unknown[] = [];
    let calls = 0;
    const watch = client(address).watch(
      'p',
      async ({ changed }) => {
        calls += 1;
        expect(changed).toHaveLength(1);
        if (calls < 3) throw new Error('not yet');
      },
      { intervalMs: 100, onError: (error) => errors.push(error) },
    );
    closing.push(() => watch.close());
    await watch.ready;
    expect(calls).toBe(3);
    expect(errors).toHaveLength(2);
  });

  test('ends with close, in the middle of a poll too, and calls back no more', async () => {
    const { address, seen } = await serve(() => {});
    const errors: unknown[] = [];
    const { changes, onChange } = collector();
    const watch = client(address).watch('p', onChange, { intervalMs: 100, onError: (error) => errors.push(error) });
    await expect.poll(() => seen.length).toBe(1);
    watch.close();
    await new Promise((done) => setTimeout(done, 300));
    expect([seen.length, changes.length, errors.length]).toEqual([1, 0, 0]);
  });
});

describe('against a real vault', () => {
  let vault: TestVault;
  let listener: Listener;
  let admin: Bulla;

  beforeAll(async () => {
    vault = await testVault();
    listener = await listen(vault.vault, createApp(vault.vault), vault.config);
    admin = new Bulla({ address: listener.address, token: vault.admin });
  });
  afterAll(async () => {
    admin?.close();
    await listener?.close();
    await vault?.close();
  });

  test('secrets of every kind come back as they went in', async () => {
    const { secrets } = admin;
    await secrets.put('sdk/data', {
      data: { user: 'app', nested: { a: [1, null] } },
      metadata: { owner: 'me' },
      cas: 0,
    });
    await secrets.put('sdk/text', { text: 'grüße\n' });
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    await secrets.put('sdk/bytes', { bytes, content_type: 'application/x-test' });
    expect(await secrets.get('sdk/data')).toMatchObject({
      kind: 'data',
      data: { user: 'app' },
      metadata: { owner: 'me' },
    });
    expect((await secrets.get('sdk/text')).text).toBe('grüße\n');
    expect(await secrets.get('sdk/bytes')).toMatchObject({ bytes, content_type: 'application/x-test' });
    expect((await secrets.fetch({ prefixes: ['sdk'] })).map(({ path }) => path)).toEqual([
      'sdk/bytes',
      'sdk/data',
      'sdk/text',
    ]);
    expect(await secrets.fetchFlat({ paths: ['sdk/data'] })).toMatchObject({ SDK_DATA_USER: 'app' });
    expect(await secrets.fetchEnv({ prefixes: ['sdk'] })).toContain('DATA_USER=app\n');
  });

  test('what is too large is refused in the server’s words, not by a broken connection', async () => {
    for (const mebibytes of [1.5, 3, 20]) {
      const put = admin.secrets.put('sdk/large', { bytes: Buffer.alloc(mebibytes * 1024 * 1024) });
      expect(await failure(put)).toMatchObject({ code: 'too_large', status: 413 });
    }
    await admin.secrets.put('sdk/large', { bytes: Buffer.alloc(1024 * 1024, 1) });
    expect((await admin.secrets.get('sdk/large')).bytes).toHaveLength(1024 * 1024);
  });

  test('versions, metadata and moves', async () => {
    const { secrets } = admin;
    await secrets.put('sdk/v', { data: { a: 1 } });
    expect((await secrets.patch('sdk/v', { data: { b: 2 }, cas: 1 })).version).toBe(2);
    expect((await failure(secrets.patch('sdk/v', { data: { b: 3 }, cas: 1 }))).code).toBe('version_mismatch');
    expect((await secrets.get('sdk/v')).data).toEqual({ a: 1, b: 2 });
    expect((await secrets.get('sdk/v', { version: 1 })).data).toEqual({ a: 1 });
    await secrets.delete('sdk/v', { versions: [1] });
    await secrets.undelete('sdk/v', [1]);
    await secrets.destroy('sdk/v', [1]);
    expect((await secrets.versions('sdk/v')).items.map(({ state }) => state)).toEqual(['readable', 'destroyed']);
    expect((await secrets.patchMetadata('sdk/v', { metadata: { a: 'b' }, versions_kept: 3 })).versions_kept).toBe(3);
    expect(await secrets.move('sdk/v', 'sdk/w')).toEqual({ path: 'sdk/w', version: 2 });
    await secrets.remove('sdk/w');
    expect((await failure(secrets.get('sdk/w'))).code).toBe('not_found');
  });

  test('users, policies, tokens, keys and tenants', async () => {
    const policy = await admin.policies.put('sdk', {
      rules: [{ effect: 'allow', actions: ['secret.read'], resources: ['secret:sdk/**'] }],
    });
    expect((await failure(admin.policies.put('sdk', { rules: policy.rules }, { ifRevision: 9 }))).code).toBe(
      'version_mismatch',
    );
    expect((await admin.users.create({ username: 'sdk', policies: ['sdk'] })).one_time_password).toMatch(/./);
    const bulla = new Bulla({ address: listener.address });
    closing.push(() => bulla.close());
    const { one_time_password: once } = await admin.users.patch('sdk', { reset_password: true });
    expect(
      (await bulla.auth.login({ tenant: 'default', username: 'sdk', password: once! })).password_change_required,
    ).toBe(true);
    expect((await failure(bulla.secrets.get('sdk/text'))).code).toBe('password_change_required');
    await bulla.auth.changePassword(once!, `${PASSWORD} too`);
    const { accessor } = await bulla.auth.login({ tenant: 'default', username: 'sdk', password: `${PASSWORD} too` });
    expect((await bulla.auth.self()).policies).toEqual(['sdk']);
    expect((await bulla.auth.renew({ ttl: '10m' })).accessor).toBe(accessor);
    expect((await admin.tokens.get(accessor)).username).toBe('sdk');
    await admin.tokens.revoke(accessor);
    expect((await failure(bulla.auth.self())).code).toBe('unauthenticated');
    await admin.users.delete('sdk');
    await admin.policies.delete('sdk');
    const before = await all(admin.keys.list());
    expect((await admin.keys.rotate()).version).toBe(before.length + 1);
    expect((await failure(admin.rootKeys.rotate())).code).toBe('forbidden');
  });

  test('watch sees a change of a real secret', async () => {
    await admin.secrets.put('watched/a', { text: '1' });
    const seen: (string | undefined)[] = [];
    const watch = admin.watch('watched', ({ changed }) => void seen.push(changed[0]?.text), { intervalMs: 100 });
    closing.push(() => watch.close());
    await watch.ready;
    await admin.secrets.put('watched/a', { text: '2' });
    await expect.poll(() => seen).toEqual(['1', '2']);
  });

  test('an export proves itself, and a changed one does not', async () => {
    const entries = await all(await admin.audit.entries());
    const size = Buffer.concat(entries).toString().split('\n').length - 1;
    const tree = await all(await admin.audit.tree({ size }));
    expect(await verifyExport(entries, tree)).toMatchObject({ ok: true, lines: size, size });
    const file = Buffer.concat(entries).toString().replace('"ok"', '"no"');
    expect((await verifyExport([Buffer.from(file)], tree)).findings).toMatchObject([{ kind: 'edited' }]);
  });
});
