/** TLS under the scanners that people use, and under many who mean no good. Minutes long. */
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Made, make, makeServer } from '../fixtures/certificate.ts';
import { type TestVault, testVault } from '../harness.ts';
import { talk } from '../http.wire.ts';
import { askTls, type Served, serveTls, shake } from '../tls-server.ts';

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

describe('many who mean no good', () => {
  it('T-140 12,000 handshakes, finished, broken off and odd, leave the process alive and its memory flat', async () => {
    const one = async (i: number) => {
      const socket = await shake(server.port, {
        ca: authority.pem,
        servername: `n${i % 97}.example`,
        checkServerIdentity: () => undefined,
        ALPNProtocols: i % 5 === 0 ? ['h2'] : ['http/1.1'],
      });
      if (typeof socket !== 'string') socket.destroy();
    };
    const round = async (from: number, to: number) => {
      for (let i = from; i < to; i += 50) await Promise.all(Array.from({ length: 50 }, (_, k) => one(i + k)));
    };
    // Both sides are in this process: its memory settles with the first half.
    await round(0, 6_000);
    const rss = process.memoryUsage().rss;
    await round(6_000, 12_000);
    expect(process.memoryUsage().rss - rss).toBeLessThan(64 * 1024 * 1024);
    expect((await askTls(server.port, HEALTHY, { ca: authority.pem }))[0]?.status).toBe(200);
  }, 600_000);

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
