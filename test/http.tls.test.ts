/** TLS in the process: what is spoken, what is refused, and what many and slow clients leave behind. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { connect as connectPlain } from 'node:net';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ConnectionLimits } from '../src/http/limit.ts';
import { type Made, make, makeServer, RSA } from './fixtures/certificate.ts';
import { type TestVault, testVault } from './harness.ts';
import { open as openPlain, parseAnswers, talk, untilClosed } from './http.wire.ts';
import { run } from './process.ts';
import { askTls, request, type Served, serveTls, shake as shakeTls } from './tls-server.ts';

/** Says by its exit code that a scanner is not here. */
const SCAN = fileURLToPath(new URL('./tls-scan.sh', import.meta.url));
const MISSING = 77;

let t: TestVault;
let authority: Made;
const opened: { close: () => Promise<void> }[] = [];

beforeAll(async () => {
  t = await testVault();
  authority = await make({ name: 'Authority', ca: true });
});
afterAll(async () => {
  for (const served of opened) await served.close();
  await t.close();
});

async function serve(
  pairs: readonly Pick<Made, 'pem' | 'key'>[],
  env: Record<string, string> = {},
  limits: Partial<ConnectionLimits> = {},
): Promise<Served> {
  const served = await serveTls(t, pairs, { env, limits });
  opened.push(served);
  return served;
}

const shake = (port: number, options: ConnectionOptions = {}) => shakeTls(port, { ca: authority.pem, ...options });
const ask = (port: number, bytes: string) => askTls(port, bytes, { ca: authority.pem });

async function spoken(port: number, options: ConnectionOptions = {}): Promise<string> {
  const socket = await shake(port, options);
  if (typeof socket === 'string') return socket;
  const said = `${socket.getProtocol()} ${socket.getCipher().name}`;
  socket.destroy();
  return said;
}

const SECURITY_LEVEL_0 = 'DEFAULT:@SECLEVEL=0';

describe('what is spoken', () => {
  let server: Served;
  beforeAll(async () => {
    const [ec, rsa] = await Promise.all([makeServer(authority), makeServer(authority, { algorithm: RSA })]);
    server = await serve([ec, rsa]);
  });

  it('T-129 TLS 1.2 and 1.3 with ephemeral keys and authenticated encryption; nothing older or weaker', async () => {
    const { port } = server;
    expect(await spoken(port)).toBe('TLSv1.3 TLS_AES_256_GCM_SHA384');
    expect(await spoken(port, { maxVersion: 'TLSv1.2' })).toBe('TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384');
    for (const version of ['TLSv1', 'TLSv1.1'] as const) {
      const options = { minVersion: version, maxVersion: version, ciphers: SECURITY_LEVEL_0 };
      expect([version, await spoken(port, options)]).toEqual([version, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION']);
    }
    for (const ciphers of [
      'AES128-GCM-SHA256',
      'ECDHE-RSA-AES256-SHA384',
      'ECDHE-ECDSA-AES128-SHA256',
      'DHE-RSA-AES256-GCM-SHA384',
      'aNULL',
    ]) {
      const said = await spoken(port, { maxVersion: 'TLSv1.2', ciphers: `${ciphers}:@SECLEVEL=0` });
      expect([ciphers, said]).toEqual([ciphers, 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE']);
    }
  });

  it('T-129 the server chooses the suite, and serves ECDSA and RSA certificates side by side', async () => {
    const { port } = server;
    const weakFirst = 'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384';
    expect(await spoken(port, { maxVersion: 'TLSv1.2', ciphers: weakFirst })).toContain('AES256');
    const rsaOnly = { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' } as const;
    expect(await spoken(port, rsaOnly)).toBe('TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256');
    expect(server.tls.status().certificates.map(({ key }) => key)).toEqual(['ecdsa', 'rsa']);
  });

  it('T-124 T-129 ALPN offers http/1.1 and nothing else; a client that wants only h2 is refused', async () => {
    const both = (await shake(server.port, { ALPNProtocols: ['h2', 'http/1.1'] })) as TLSSocket;
    expect(both.alpnProtocol).toBe('http/1.1');
    both.destroy();
    expect(await shake(server.port, { ALPNProtocols: ['h2'] })).toBe('ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL');
  });

  it('T-129 sslscan finds nothing of MEDIUM or worse', async (context) => {
    const scanned = await serve([await makeServer(authority)]);
    const { code, stdout } = await run(SCAN, [`127.0.0.1:${scanned.port}`]);
    const said = stdout.toString().trim();
    if (code === MISSING) {
      process.stderr.write(`sslscan is not here (Debian’s package): its test is skipped\n`);
      context.skip(said);
    }
    expect([code, said]).toEqual([0, expect.stringMatching(/Accepted[\s\S]*nothing of MEDIUM or worse$/)]);
  });

  it('T-129 a client cannot renegotiate', async () => {
    const socket = (await shake(server.port, { maxVersion: 'TLSv1.2' })) as TLSSocket;
    const refused = new Promise((resolve) => socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code)));
    socket.renegotiate({}, () => undefined);
    expect(await refused).toBe('ERR_SSL_NO_RENEGOTIATION');
  });

  it('T-130 in the mode for 1.3 only nothing else is spoken', async () => {
    const only = await serve([await makeServer(authority)], { BULLA_TLS_MIN_VERSION: '1.3' });
    expect(await spoken(only.port)).toMatch(/^TLSv1\.3 /);
    expect(await spoken(only.port, { maxVersion: 'TLSv1.2' })).toBe('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'a ticket of %s is taken for an hour, and then its key is gone',
    async (version) => {
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
      try {
        const own = await serve([await makeServer(authority)]);
        const resumed = async (session?: Buffer) => {
          const socket = (await shake(own.port, { maxVersion: version, ...(session ? { session } : {}) })) as TLSSocket;
          const reused = socket.isSessionReused();
          // Of TLS 1.2 it came with the handshake.
          let ticket = version === 'TLSv1.2' ? socket.getSession() : undefined;
          socket.on('session', (given) => {
            ticket = given;
          });
          socket.write(request('/healthz'));
          await untilClosed(socket);
          return { reused, ticket };
        };
        const { ticket } = await resumed();
        expect((await resumed(ticket)).reused).toBe(true);
        vi.advanceTimersByTime(59 * 60_000);
        expect((await resumed(ticket)).reused).toBe(true);
        vi.advanceTimersByTime(60_000);
        expect((await resumed(ticket)).reused).toBe(false);
      } finally {
        vi.useRealTimers();
      }
    },
  );

  it('T-130 odd values that a client mixes in are skipped, and TLS 1.2 bears the mark that forbids a downgrade', async () => {
    const socket = await openPlain(`http://127.0.0.1:${server.port}`);
    socket.write(clientHello());
    const [hello] = await new Promise<Buffer[]>((resolve) => socket.once('data', (data: Buffer) => resolve([data])));
    socket.destroy();
    // RFC 8446 §4.1.3: record (5), type and length (4), version (2), then the random, whose last eight bytes say it.
    expect([hello![0], hello![5]]).toEqual([22, 2]);
    expect(hello!.subarray(35, 43).toString('latin1')).toBe('DOWNGRD\x01');
  });

  it('T-130 T-131 a fallback is refused, no early data is accepted, nothing is compressed', async () => {
    const run = async (...args: string[]) => {
      const child = promisify(execFile)('openssl', ['s_client', '-connect', `127.0.0.1:${server.port}`, ...args]);
      child.child.stdin!.end();
      return child.then(
        ({ stdout, stderr }) => stdout + stderr,
        (error) => error.stdout + error.stderr,
      );
    };
    const [fallback, early] = await Promise.all([run('-tls1_2', '-fallback_scsv'), run('-tls1_3')]);
    expect(fallback).toMatch(/inappropriate fallback/);
    expect(early).toMatch(/Compression: NONE/);
    expect(early).toMatch(/Early data was not sent/);
    expect(early).not.toMatch(/Max Early Data: [1-9]/);
  });

  it('T-132 plain HTTP at the port of TLS is closed without a word, and plain HTTP never sends anybody elsewhere', async () => {
    const { raw } = await talk(`http://127.0.0.1:${server.port}`, request('/healthz'));
    expect(raw).toBe('');
    const plain = await t.request('GET', '/healthz');
    expect([plain.status, plain.headers.get('location')]).toEqual([200, null]);
  });

  it('T-133 HSTS stands once on every answer over TLS, errors too, and never on plain HTTP', async () => {
    const cases = [
      request('/healthz'),
      request('/nothing'),
      request('/api/v1/status'),
      'nonsense\r\n\r\n',
      'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n',
    ];
    for (const bytes of cases) {
      const [answer] = await ask(server.port, bytes);
      const lines = [...answer!.headers].filter(([name]) => name === 'strict-transport-security');
      expect([bytes, lines]).toEqual([bytes, [['strict-transport-security', 'max-age=31536000; includeSubDomains']]]);
      expect(Number(/max-age=(\d+)/.exec(lines[0]![1])![1])).toBeGreaterThanOrEqual(31_536_000);
    }
    for (const path of ['/healthz', '/nothing']) {
      expect((await t.request('GET', path)).headers.has('strict-transport-security')).toBe(false);
    }
  });

  it('T-139 no name that a client asks for changes what it gets', async () => {
    const fingerprints = new Set<string>();
    for (const servername of ['localhost', 'other.example', 'xn--nxasmq6b', '']) {
      const socket = (await shake(server.port, { servername, checkServerIdentity: () => undefined })) as TLSSocket;
      fingerprints.add(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    }
    expect(fingerprints.size).toBe(1);
  });

  it('counts handshakes by version and cipher, and refusals by why, in the status of operators and in the metrics', async () => {
    const token = (who: string) =>
      `GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${who}\r\nConnection: close\r\n\r\n`;
    const [operator] = await ask(server.port, token(t.operator));
    const tls = operator!.json.tls as Record<string, unknown[]>;
    expect(tls.handshakes).toContainEqual({ version: 'TLSv1.2', cipher: 'ECDHE-RSA-AES128-GCM-SHA256', count: 1 });
    const reasons = (tls.refusals as { reason: string }[]).map(({ reason }) => reason);
    for (const reason of ['version', 'cipher', 'protocol', 'fallback', 'plain_http']) expect(reasons).toContain(reason);
    const [admin] = await ask(server.port, token(t.admin));
    expect(admin!.json.tls).toMatchObject({ min_version: 'TLSv1.2', alarms: [] });
    expect(Object.keys(admin!.json.tls as object)).not.toContain('handshakes');
    const [metrics] = await ask(server.port, request('/metrics'));
    expect(metrics!.body).toMatch(
      /bulla_tls_handshakes_total\{version="TLSv1\.3",cipher="TLS_AES_256_GCM_SHA384"\} \d/,
    );
    expect(metrics!.body).toMatch(/bulla_tls_refusals_total\{reason="plain_http"\} 1/);
    expect(metrics!.body).toMatch(/bulla_tls_certificate_expiry_timestamp_seconds\{key="rsa"\} \d/);
    expect(metrics!.body).toMatch(/bulla_tls_alarms 0/);
  });
});

/** A hello for TLS 1.2 with values that no version knows (RFC 8701) in every list. */
function clientHello(): Buffer {
  const vector = (lengthBytes: number, ...parts: Buffer[]) => {
    const body = Buffer.concat(parts);
    const length = Buffer.alloc(lengthBytes);
    length.writeUIntBE(body.length, 0, lengthBytes);
    return Buffer.concat([length, body]);
  };
  const hex = (text: string) => Buffer.from(text.replace(/ /g, ''), 'hex');
  const extension = (type: string, body: Buffer) => Buffer.concat([hex(type), vector(2, body)]);
  const extensions = [
    extension('0a0a', Buffer.alloc(0)),
    extension('000a', vector(2, hex('1a1a 001d 0017'))),
    extension('000b', vector(1, hex('00'))),
    extension('000d', vector(2, hex('2a2a 0403 0804'))),
    extension('002b', vector(1, hex('3a3a 0303'))),
    extension('fafa', hex('00')),
  ];
  const hello = Buffer.concat([
    hex('0303'),
    Buffer.alloc(32, 7),
    vector(1, Buffer.alloc(0)),
    vector(2, hex('4a4a c02b c02f')),
    vector(1, hex('00')),
    vector(2, ...extensions),
  ]);
  return Buffer.concat([hex('16 0301'), vector(2, Buffer.concat([hex('01'), vector(3, hello)]))]);
}

describe('slow and many', () => {
  it('T-110 T-140 handshakes that stall, break off or are none end by themselves, and leave nothing behind', async () => {
    const server = await serve([await makeServer(authority)], {}, { handshakeTimeoutMs: 400 });
    const stalled = Array.from({ length: 20 }, () => openPlain(`http://127.0.0.1:${server.port}`).then(untilClosed));
    const rss = process.memoryUsage().rss;
    const hello = clientHello();
    await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const socket = connectPlain(server.port, '127.0.0.1').on('error', () => undefined);
        socket.write(i % 3 === 0 ? hello.subarray(0, 5 + i) : i % 3 === 1 ? hello : randomBytes(100));
        await new Promise((resolve) =>
          i % 2 === 0 ? socket.once('data', resolve).once('close', resolve) : socket.once('connect', resolve),
        );
        socket.destroy();
      }),
    );
    for (let i = 0; i < 30; i += 1)
      expect(await spoken(server.port, { servername: `n${i}.example`, checkServerIdentity: () => undefined })).toMatch(
        /^TLS/,
      );
    for (const { raw } of await Promise.all(stalled)) expect(raw).toBe('');
    expect(process.memoryUsage().rss - rss).toBeLessThan(64 * 1024 * 1024);
    expect(server.tls.status().refusals.map(({ reason }) => reason)).toEqual(
      expect.arrayContaining(['too_slow', 'aborted']),
    );
    expect((await ask(server.port, request('/healthz')))[0]?.status).toBe(200);
    // None of them keeps the end waiting.
    await openPlain(`http://127.0.0.1:${server.port}`);
    await server.listener.close();
  });

  it('T-110 one address does not take all the places', async () => {
    const server = await serve([await makeServer(authority)], {}, { connectionsPerSourceMax: 2 });
    const [one, two] = [(await shake(server.port)) as TLSSocket, (await shake(server.port)) as TLSSocket];
    expect(await shake(server.port)).toBe('ECONNRESET');
    const elsewhere = { localAddress: '127.0.0.2' } as ConnectionOptions;
    const other = (await shake(server.port, elsewhere)) as TLSSocket;
    other.write(request('/metrics'));
    expect(parseAnswers((await untilClosed(other)).raw)[0]?.body).toMatch(
      /connections_refused_total\{limit="source"\} 1/,
    );
    one.destroy();
    await expect.poll(() => spoken(server.port)).toMatch(/^TLS/);
    two.destroy();
  });
});
