/** Connections: slow ones and many, bodies and streams, and how it all begins and ends. */
import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { closeDatabase } from '../src/db/database.ts';
import { VaultError } from '../src/errors.ts';
import { createApp } from '../src/http/app.ts';
import { listen } from '../src/http/listener.ts';
import { stream } from '../src/http/stream.ts';
import { CLOSE, expectProblem, get, HOST, LIMITS, ownVault, post, quick, start, t, vault } from './http.served.ts';
import { open, parseAnswers, talk, untilClosed } from './http.wire.ts';

ownVault();

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
