/**
 * A certificate by ACME from a real authority, pebble, with its own name server: obtained, served, renewed, and kept when
 * the authority is gone. Needs Debian's package pebble; without it this file says so and is skipped.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, get } from 'node:https';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { createApp } from '../src/http/app.ts';
import { certificateSource } from '../src/http/certificate-source.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import { openTls, type Tls } from '../src/http/tls.ts';
import { type Made, make, makeServer } from './fixtures/certificate.ts';
import { type TestVault, testVault } from './harness.ts';
import { open } from './http.wire.ts';
import { freePort } from './port.ts';
import { keepPair, shake } from './tls-server.ts';
import { until } from './until.ts';

const isHere = ['pebble', 'pebble-challtestsrv'].every((name) => spawnSync('which', [name]).status === 0);
if (!isHere) process.stderr.write('pebble is not here (Debian’s package pebble): its tests are skipped\n');

const NAME = 'vault.example';
let t: TestVault;
let api: Made;
let ports: { acme: number; management: number; http: number; dns: number; control: number };
let children: ChildProcess[] = [];
let tls: Tls;
let listener: Listener;
let dataDir: string;
let root: string;

beforeAll(async () => {
  if (!isHere) return;
  t = await testVault();
  api = await make({ name: 'Interface', ca: true });
  const [acme, management, http, dns, control] = (await Promise.all(Array.from({ length: 5 }, freePort))) as [
    number,
    number,
    number,
    number,
    number,
  ];
  ports = { acme, management, http, dns, control };
  const { certFile, keyFile } = keepPair(t.dataDir, 'pebble', await makeServer(api));
  const settings = {
    listenAddress: `127.0.0.1:${acme}`,
    managementListenAddress: `127.0.0.1:${management}`,
    ...{ certificate: certFile, privateKey: keyFile, httpPort: http, tlsPort: 1 },
  };
  const configFile = join(t.dataDir, 'pebble.json');
  writeFileSync(configFile, JSON.stringify({ pebble: settings }));
  writeFileSync(join(t.dataDir, 'api.crt'), api.pem);
  const env = { PATH: process.env.PATH, PEBBLE_VA_NOSLEEP: '1' };
  const options = { env, stdio: 'ignore' } as const;
  const names = [
    '-defaultIPv4',
    '127.0.0.1',
    '-defaultIPv6',
    '',
    '-dns01',
    `127.0.0.1:${dns}`,
    '-management',
    `127.0.0.1:${control}`,
  ];
  const off = ['-http01', '', '-https01', '', '-tlsalpn01', ''];
  children = [
    spawn('pebble-challtestsrv', [...names, ...off], options),
    spawn('pebble', ['-config', configFile, '-dnsserver', `127.0.0.1:${dns}`], options),
  ];
  for (const port of [control, acme, management]) {
    await until(`port ${port} is there`, () =>
      open(`http://127.0.0.1:${port}`).then(
        (socket) => !!socket.destroy(),
        () => false,
      ),
    );
  }
  root = await fetchRoot();
  dataDir = join(t.dataDir, 'acme');
  mkdirSync(dataDir);
  const config = loadConfig({
    BULLA_LISTEN: '127.0.0.1:0',
    BULLA_TLS: 'acme',
    BULLA_TLS_NAMES: NAME,
    BULLA_ACME_DIRECTORY: `https://localhost:${acme}/dir`,
    BULLA_ACME_CACERT: join(t.dataDir, 'api.crt'),
    BULLA_ACME_AGREE_TO_TERMS: 'true',
    BULLA_ACME_EMAIL: 'vault@example.com',
    BULLA_ACME_HTTP_LISTEN: `127.0.0.1:${http}`,
  });
  tls = await openTls(config.tls!, certificateSource(config, config.tls!, dataDir), pino({ level: 'silent' }));
  listener = await listen(t.vault, createApp(t.vault, tls), config);
});
afterAll(async () => {
  await listener?.close();
  tls?.close();
  for (const child of children) child.kill('SIGKILL');
  await t?.close();
});

function fetchRoot(): Promise<string> {
  return new Promise((resolve, reject) => {
    const agent = new Agent({ ca: api.pem });
    get({ host: 'localhost', port: ports.management, path: '/roots/0', agent }, async (answer) => {
      let text = '';
      for await (const chunk of answer) text += chunk;
      resolve(text);
    }).once('error', reject);
  });
}

describe.skipIf(!isHere)('ACME', () => {
  it('obtains a certificate before anything is served, and clients trust it by the authority', async () => {
    const { port } = new URL(listener.address);
    const socket = (await shake(Number(port), { ca: root, servername: NAME })) as TLSSocket;
    expect(socket.authorized).toBe(true);
    expect(socket.getPeerCertificate().subjectaltname).toBe(`DNS:${NAME}`);
    socket.destroy();
    expect(tls.status().faults).toEqual([]);
    // The challenge is answered only while an order runs.
    await expect(open(`http://127.0.0.1:${ports.http}`)).rejects.toThrow(/ECONNREFUSED/);
  });

  it('renews it for the same key, and keeps what it has when the authority is gone', async () => {
    const first = tls.status().certificates[0]!;
    rmSync(join(dataDir, 'tls', 'server.crt'));
    await tls.look();
    const second = tls.status().certificates[0]!;
    expect([second.pin, second.fingerprint === first.fingerprint]).toEqual([first.pin, false]);
    children[1]!.kill('SIGKILL');
    await until('pebble has ended', async () => children[1]!.signalCode !== null);
    rmSync(join(dataDir, 'tls', 'server.crt'));
    await tls.look();
    expect(tls.status().certificates[0]!.fingerprint).toBe(second.fingerprint);
    expect(tls.status().faults.join(' ')).toMatch(
      /^A new certificate is not served: .* No certificate from localhost:\d+: /,
    );
    const { port } = new URL(listener.address);
    const socket = (await shake(Number(port), { ca: root, servername: NAME })) as TLSSocket;
    expect(socket.authorized).toBe(true);
    socket.destroy();
  });
});
