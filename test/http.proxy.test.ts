/**
 * Behind proxies that people run: Debian's nginx and HAProxy. What can be read in two ways never makes the proxy and the
 * vault disagree about where a request ends. A proxy that is not here is said and skipped.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../src/http/app.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import { type TestVault, testVault } from './harness.ts';
import { open, parseAnswers, talk, untilClosed, type Wire } from './http.wire.ts';
import { freePort } from './port.ts';
import { until } from './until.ts';

let t: TestVault;
let vault: Listener;
/** Lists the proxies, which come from 127.0.0.1. */
let listing: Listener;
const children: ChildProcess[] = [];
/** The ids of the requests that reached the vault, as it read them. */
let seen: string[] = [];

beforeAll(async () => {
  t = await testVault();
  const app = createApp(t.vault);
  const handle: typeof app.handle = (incoming, outgoing, refusal) => {
    seen.push(String(incoming.headers['x-request-id']));
    app.handle(incoming, outgoing, refusal);
  };
  vault = await listen(t.vault, { ...app, handle }, t.config);
  const node = await t.node({
    env: { BULLA_TRUSTED_PROXIES: '127.0.0.1/32', BULLA_HTTP_CONNECTIONS_PER_SOURCE_MAX: '2' },
  });
  listing = await listen(node, createApp(node), node.config);
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await Promise.all([vault.close(), listing.close()]);
  await t.close();
});

/** Connections to the vault are kept and shared, so that what is left over of one request would meet the next. */
const PROXIES: Record<string, (directory: string, port: number, backend: string) => readonly string[]> = {
  nginx: (directory, port, backend) => {
    const file = join(directory, 'nginx.conf');
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (name) => `${name}_temp_path ${directory};`,
    );
    writeFileSync(
      file,
      `daemon off; master_process off; pid ${directory}/nginx.pid; error_log stderr crit; events {}
http { access_log off; ${temporary.join(' ')}
  upstream vault { server ${backend}; keepalive 1; }
  server { listen 127.0.0.1:${port};
    location / { proxy_pass http://vault; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_request_buffering off; } } }`,
    );
    return ['nginx', '-e', 'stderr', '-p', directory, '-c', file];
  },
  haproxy: (directory, port, backend) => {
    const file = join(directory, 'haproxy.cfg');
    writeFileSync(
      file,
      `defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
  http-reuse always
  option forwardfor
frontend f
  bind 127.0.0.1:${port}
  default_backend b
backend b
  server vault ${backend}
`,
    );
    return ['haproxy', '-db', '-f', file];
  },
};

const HOST = 'Host: localhost\r\n';
const SMUGGLED = `GET /healthz HTTP/1.1\r\n${HOST}X-Request-Id: smuggled\r\n\r\n`;
const post = (headers: string, body: string) =>
  `POST /api/v1/auth/login HTTP/1.1\r\n${HOST}Content-Type: application/json\r\n${headers}\r\n${body}`;

/** Each could be one request or two. */
const CASES: Record<string, string> = {
  'length and chunks': post('Content-Length: 6\r\nTransfer-Encoding: chunked\r\n', `0\r\n\r\n${SMUGGLED}`),
  'chunks and length': post(
    `Transfer-Encoding: chunked\r\nContent-Length: ${5 + SMUGGLED.length}\r\n`,
    `0\r\n\r\n${SMUGGLED}`,
  ),
  'two lengths': post(`Content-Length: 0\r\nContent-Length: ${SMUGGLED.length}\r\n`, SMUGGLED),
  'length with a sign': post(`Content-Length: +${SMUGGLED.length}\r\n`, SMUGGLED),
  'space before the colon': post(`Content-Length : ${SMUGGLED.length}\r\n`, SMUGGLED),
  'space before the colon of chunks': post(
    `Content-Length: ${SMUGGLED.length}\r\nTransfer-Encoding : chunked\r\n`,
    SMUGGLED,
  ),
  'folded chunks': post(`Content-Length: ${SMUGGLED.length}\r\nTransfer-Encoding:\r\n chunked\r\n`, SMUGGLED),
  'vertical tab': post(`Content-Length: ${SMUGGLED.length}\r\nTransfer-Encoding:\x0bchunked\r\n`, SMUGGLED),
  'odd coding': post(`Content-Length: ${SMUGGLED.length}\r\nTransfer-Encoding: xchunked\r\n`, SMUGGLED),
  'coding twice': post('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n', `0\r\n\r\n${SMUGGLED}`),
  'bare line feed hides chunks': post(
    `Content-Length: ${SMUGGLED.length}\r\nX: a\nTransfer-Encoding: chunked\r\n`,
    SMUGGLED,
  ),
  'carriage return in the middle': post(
    `Content-Length: ${SMUGGLED.length}\r\nX: a\rTransfer-Encoding: chunked\r\n`,
    SMUGGLED,
  ),
  'carriage return, line feed, carriage return, X': post('Content-Length: 0\r\n', `\r\n\rX${SMUGGLED}`),
  'chunk size with a line feed in its extension': post(
    'Transfer-Encoding: chunked\r\n',
    `2;\nxx\r\n{}\r\n0\r\n\r\n${SMUGGLED}`,
  ),
  'chunk size that overflows': post('Transfer-Encoding: chunked\r\n', `100000000000000000\r\n\r\n${SMUGGLED}`),
};

/** What the proxy gives back; some keep a connection that they do not understand open until they lose patience. */
async function through(port: number, bytes: string): Promise<Wire> {
  const socket = await open(`http://127.0.0.1:${port}`);
  let raw = '';
  socket.on('data', (data) => {
    raw += data.toString('latin1');
  });
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.write(Buffer.from(bytes, 'latin1'));
  // A second, whole request tells where the proxy thinks that the first one ended.
  socket.end(Buffer.from(`GET /healthz HTTP/1.1\r\n${HOST}X-Request-Id: last\r\nConnection: close\r\n\r\n`));
  await closed;
  return { raw, answers: parseAnswers(raw) };
}

describe.each(Object.entries(PROXIES))('behind %s', (name, configure) => {
  const isHere = spawnSync('which', [name]).status === 0;
  if (!isHere) process.stderr.write(`${name} is not here (Debian’s package): its tests are skipped\n`);
  let port: number;
  let listedPort: number;

  const start = async (backend: string): Promise<number> => {
    const taken = await freePort();
    const directory = join(t.dataDir, `${name}-${taken}`);
    mkdirSync(directory);
    const [program = '', ...args] = configure(directory, taken, new URL(backend).host);
    children.push(spawn(program, args, { stdio: 'ignore', env: { PATH: process.env.PATH } }));
    await until(`${name} is there`, () =>
      open(`http://127.0.0.1:${taken}`).then(
        (socket) => !!socket.destroy(),
        () => false,
      ),
    );
    return taken;
  };

  beforeAll(async () => {
    if (isHere) [port, listedPort] = [await start(vault.address), await start(listing.address)];
  });

  it.skipIf(!isHere)('T-103 no request hides in another one, and the next client gets its own answer', async () => {
    const next = `GET /healthz HTTP/1.1\r\n${HOST}X-Request-Id: victim\r\nConnection: close\r\n\r\n`;
    for (const [what, bytes] of Object.entries(CASES)) {
      seen = [];
      const { answers } = await through(port, bytes);
      const victim = await talk(`http://127.0.0.1:${port}`, next);
      const own = victim.answers.map(({ headers, status }) => [status, headers.get('x-request-id')]);
      expect([what, own]).toEqual([what, [[200, 'victim']]]);
      // The vault has read as many hidden requests as the proxy knew of and answered to who sent them.
      const answered = answers.filter(({ headers }) => headers.get('x-request-id') === 'smuggled');
      expect([what, seen.filter((id) => id === 'smuggled').length]).toEqual([what, answered.length]);
    }
  });

  it.skipIf(!isHere)('T-108 whom the proxy speaks for is not believed unless it is listed', async () => {
    const bytes = `GET /api/v1/secrets/a HTTP/1.1\r\n${HOST}X-Forwarded-For: 10.9.9.9\r\nX-Request-Id: spoken-for\r\nAuthorization: Bearer ${t.admin}\r\nConnection: close\r\n\r\n`;
    await talk(`http://127.0.0.1:${port}`, bytes);
    const entries = await t.request('GET', '/api/v1/audit/entries?limit=1000', { token: t.admin });
    expect(entries.text).toContain('spoken-for');
    expect(entries.text).not.toContain('10.9.9.9');
  });

  it.skipIf(!isHere)(
    'T-108 T-110 a listed proxy has the connections that it needs, and each client its own share',
    async () => {
      const from = (client: string) => connect({ host: '127.0.0.1', port: listedPort, localAddress: client });
      const status = async (client: string) => {
        const socket = from(client);
        socket.write(`GET /healthz HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`);
        return (await untilClosed(socket)).answers[0]?.status;
      };
      const rest = 'no more than this';
      const half = (client: string): Socket => {
        const socket = from(client);
        socket.write(post(`Content-Length: ${rest.length + 1}\r\nConnection: close\r\n`, '{'));
        return socket;
      };
      const [one, other] = ['127.0.0.2', '127.0.0.3'];
      const held = [half(one), half(one)];
      await expect.poll(() => status(one), { interval: 20, timeout: 20_000 }).toBe(429);
      expect(await status(other)).toBe(200);
      const more = [half(other), half(other)];
      await expect.poll(() => status(other), { interval: 20, timeout: 20_000 }).toBe(429);
      const ends = [...held, ...more].map(untilClosed);
      held[0]!.write(rest);
      expect((await ends[0]!).answers.map((answer) => answer.status)).toEqual([400]);
      await expect.poll(() => status(one), { interval: 20, timeout: 20_000 }).toBe(200);
      for (const socket of [held[1]!, ...more]) socket.write(rest);
      for (const { answers } of await Promise.all(ends)) expect(answers.map((answer) => answer.status)).toEqual([400]);
    },
  );
});
