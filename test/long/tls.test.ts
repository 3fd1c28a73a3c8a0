/** TLS under the scanners that people use, and under many who mean no good. Minutes long. */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CLIENT_AUTH, type Made, make, makeServer } from '../fixtures/certificate.ts';
import { type TestVault, testVault } from '../harness.ts';
import { talk } from '../http.wire.ts';
import { startServer, temporaryDirectory } from '../process.ts';
import { askTls, keepPair, type Served, serveTls, shake } from '../tls-server.ts';

const SCAN = fileURLToPath(new URL('../tls-scan.sh', import.meta.url));
const MISSING = 77;
const HEALTHY = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';

let t: TestVault;
let authority: Made;
let server: Served;

beforeAll(async () => {
  t = await testVault();
  authority = await make({ name: 'Authority', ca: true });
  server = await serveTls(t, [await makeServer(authority)], { env: { BULLA_HTTP_CONNECTIONS_PER_SOURCE_MAX: '4000' } });
});
afterAll(async () => {
  await server.close();
  await t.close();
});

function ended(
  program: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; said: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { env: { PATH: process.env.PATH, ...env } });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (said += data));
    child.once('close', (code) => resolve({ code: code ?? -1, said }));
  });
}

describe('scanners', () => {
  it.each(['false', 'true'])(
    'T-129 testssl.sh and sslscan find nothing of MEDIUM or worse; client certificates asked for: %s',
    async (asked) => {
      const { code, said } = await ended(SCAN, [], { BULLA_TLS_CLIENT_CERTIFICATES: asked });
      if (code === MISSING) return void process.stderr.write(`${said.trim()}: the scan is skipped\n`);
      expect([code, said]).toEqual([0, expect.stringContaining('nothing of MEDIUM or worse')]);
    },
    900_000,
  );
});

const HANDSHAKES = 100_000;
const AT_ONCE = 50;
/** Of a handshake, what could hide in the noise of the measurement. */
const LEAK_BYTES = 400;

/** The n-th of many: most are whole, some show a certificate, want another protocol, are odd or break off. */
async function handshaker(port: number): Promise<(n: number) => Promise<void>> {
  const { pem: cert, key } = await make({
    name: 'Client',
    by: authority,
    sans: ['client.example'],
    uses: [CLIENT_AUTH],
  });
  const [bare, known] = [
    createSecureContext({ ca: authority.pem }),
    createSecureContext({ ca: authority.pem, cert, key }),
  ];
  return async (n) => {
    if (n % 10 === 9) return breakOff(port, n % 20 === 9 ? randomBytes(200) : CLIENT_HELLO_BEGUN);
    const socket = await shake(port, {
      secureContext: n % 3 === 0 ? bare : known,
      servername: `n${n % 97}.example`,
      checkServerIdentity: () => undefined,
      ALPNProtocols: n % 5 === 0 ? ['h2'] : ['http/1.1'],
    });
    if (typeof socket !== 'string') socket.destroy();
  };
}

/** A record of a handshake that says it has 512 bytes, of which there are two. */
const CLIENT_HELLO_BEGUN = Buffer.from('16030102000100', 'hex');

function breakOff(port: number, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port }, () => socket.end(bytes));
    socket.resume().on('error', () => undefined);
    socket.once('close', () => resolve());
  });
}

const residentKib = (pid: number) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);

describe('many who mean no good', () => {
  it('T-140 many handshakes, finished, broken off and odd, leave the server alive and its memory flat', async () => {
    const directory = temporaryDirectory('handshakes');
    const { certFile, keyFile } = keepPair(directory.path, 'server', await makeServer(authority));
    // A process of its own, so that only the server is measured. Its heap may not put off collecting for long.
    const measured = await startServer(join(directory.path, 'data'), {
      ...{ BULLA_TLS_CERT_FILE: certFile, BULLA_TLS_KEY_FILE: keyFile, BULLA_TLS_CLIENT_CERTIFICATES: 'true' },
      NODE_OPTIONS: '--max-old-space-size=96',
    });
    try {
      const port = Number(new URL(measured.address).port);
      const attempt = await handshaker(port);
      const kib: number[] = [];
      for (let i = 0; i < HANDSHAKES; i += AT_ONCE) {
        await Promise.all(Array.from({ length: AT_ONCE }, (_, k) => attempt(i + k)));
        kib.push(residentKib(measured.child.pid!));
      }
      // What it comes down to when it collects, in the second quarter and in the last one.
      const quarter = kib.length / 4;
      const [early, late] = [kib.slice(quarter, 2 * quarter), kib.slice(3 * quarter)].map((some) => Math.min(...some));
      process.stdout.write(
        `${HANDSHAKES} handshakes: ${kib[0]} KiB at first, at least ${early} and then ${late} KiB\n`,
      );
      expect(late! - early!).toBeLessThan(((HANDSHAKES / 2) * LEAK_BYTES) / 1024);
      expect((await askTls(port, HEALTHY, { ca: authority.pem }))[0]?.status).toBe(200);
    } finally {
      await measured.end('SIGTERM');
      directory.remove();
    }
  }, 1_800_000);

  const isHere = spawnSync('which', ['slowhttptest']).status === 0;
  if (!isHere) process.stderr.write('slowhttptest is not here (Debian’s package): its tests are skipped\n');

  it.skipIf(!isHere).each([
    ['headers', '-H'],
    ['bodies', '-B'],
    ['reads', '-X'],
  ])(
    'T-110 2000 slow %s: somebody healthy is served all the time',
    async (_, kind) => {
      const plain = await t.request('GET', '/healthz');
      expect(plain.status).toBe(200);
      const attack = ended('slowhttptest', [
        kind,
        '-c',
        '2000',
        '-r',
        '500',
        '-l',
        '15',
        '-i',
        '5',
        '-u',
        `https://localhost:${server.port}/healthz`,
      ]);
      let over = false;
      void attack.then(() => {
        over = true;
      });
      let served = 0;
      while (!over) {
        const started = performance.now();
        const [answer] = await askTls(server.port, HEALTHY, { ca: authority.pem });
        expect([answer?.status, performance.now() - started < 5_000]).toEqual([200, true]);
        served += 1;
      }
      expect(served).toBeGreaterThan(10);
      expect((await talk(`http://127.0.0.1:${server.port}`, HEALTHY)).raw).toBe('');
    },
    120_000,
  );
});
