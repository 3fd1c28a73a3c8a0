/** The certificates of the listener: changed, broken and ended under load, refused at the start, and those it makes itself. */
import { execFile } from 'node:child_process';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, get } from 'node:https';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { createApp } from '../src/http/app.ts';
import { listen } from '../src/http/listener.ts';
import { ownAuthority } from '../src/http/own-authority.ts';
import { openTls } from '../src/http/tls.ts';
import { type Made, make, makeServer, RSA } from './fixtures/certificate.ts';
import { type TestVault, testVault } from './harness.ts';
import { untilClosed } from './http.wire.ts';
import { askTls, request, type Served, serveTls, shake as shakeTls } from './tls-server.ts';

let t: TestVault;
let authority: Made;
let log = '';
const opened: { close: () => Promise<void> }[] = [];

beforeAll(async () => {
  t = await testVault();
  authority = await make({ name: 'Authority', ca: true });
});
afterAll(async () => {
  for (const served of opened) await served.close();
  await t.close();
});

const sink = new Writable({
  write(chunk, _encoding, done) {
    log += chunk;
    done();
  },
});
const logger = pino({}, sink);

async function serve(pairs: readonly Pick<Made, 'pem' | 'key'>[], env: Record<string, string> = {}): Promise<Served> {
  const served = await serveTls(t, pairs, { env, log: logger });
  opened.push(served);
  return served;
}

const shake = (port: number) => shakeTls(port, { ca: authority.pem });
const ask = (port: number, bytes: string) => askTls(port, bytes, { ca: authority.pem });

it('T-134 a broken certificate leaves the old one serving and is an alarm; a good one is served at once, and nobody is cut', async () => {
  const first = await makeServer(authority);
  const server = await serve([first]);
  const [{ certFile, keyFile }] = server.files as [{ certFile: string; keyFile: string }];
  const served = () => server.tls.status().certificates[0]!.fingerprint;
  const old = served();
  const load = startLoad(server.port);
  const standing = (await shake(server.port)) as TLSSocket;
  const [next, expired] = await Promise.all([makeServer(authority), makeServer(authority, { from: -9, to: -1 })]);
  const broken: [string, () => void, RegExp][] = [
    ['half written', () => writeFileSync(certFile, next.pem.slice(0, 200)), /holds no certificate/],
    ['of another key', () => writeFileSync(certFile, next.pem), /is not the key of the certificate/],
    [
      'ended',
      () => {
        writeFileSync(certFile, expired.pem);
        writeFileSync(keyFile, expired.key);
      },
      /ended at/,
    ],
    [
      'no key',
      () => {
        writeFileSync(certFile, next.pem);
        writeFileSync(keyFile, 'none');
      },
      /holds no private key/,
    ],
    ['unreadable', () => rmSync(keyFile), /cannot be read \(ENOENT\)/],
    ['without names', () => undefined, /no subjectAltName/],
  ];
  const nameless = await make({ by: authority });
  broken.at(-1)![1] = () => {
    writeFileSync(certFile, nameless.pem);
    writeFileSync(keyFile, nameless.key);
  };
  for (const [name, spoil, says] of broken) {
    spoil();
    await server.tls.look();
    expect([name, served(), server.tls.status().faults.join()]).toEqual([name, old, expect.stringMatching(says)]);
  }
  expect(log).toMatch(/the certificate needs somebody/);
  // The watch finds it by itself.
  writeFileSync(`${keyFile}.new`, next.key);
  writeFileSync(`${certFile}.new`, next.pem);
  renameSync(`${keyFile}.new`, keyFile);
  renameSync(`${certFile}.new`, certFile);
  await expect.poll(served, { timeout: 60_000 }).not.toBe(old);
  expect(server.tls.status().faults).toEqual([]);
  const fresh = (await shake(server.port)) as TLSSocket;
  expect(fresh.getPeerCertificate().serialNumber.toLowerCase()).toBe(next.cert.serialNumber.replace(/^0+/, ''));
  fresh.destroy();
  standing.write(request('/healthz'));
  expect((await untilClosed(standing)).answers[0]?.status).toBe(200);
  const { done, failed } = await load();
  expect(failed).toEqual([]);
  expect(done).toBeGreaterThan(20);
});

it('T-135 T-205 one that has ended keeps the vault from starting, but for an explicit flag; one that ends soon is an alarm', async () => {
  const expired = await makeServer(authority, { from: -9, to: -1 });
  await expect(serve([expired])).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('BULLA_TLS_START_WITH_AN_EXPIRED_CERTIFICATE=true'),
  });
  const flag = { BULLA_TLS_START_WITH_AN_EXPIRED_CERTIFICATE: 'true' };
  const ended = await serve([expired], flag);
  expect(ended.tls.status().alarms).toEqual([expect.stringMatching(/^The ecdsa certificate has ended at/)]);
  const soon = await serve([await makeServer(authority, { to: 13 })]);
  expect(soon.tls.status().alarms).toEqual([expect.stringMatching(/^The ecdsa certificate ends at/)]);
  const [metrics] = await ask(soon.port, request('/metrics'));
  expect(metrics!.body).toMatch(/bulla_tls_alarms 1/);
});

it('what no client would take is refused at the start, in a sentence', async () => {
  const other = await make({ name: 'Other', ca: true });
  const good = await makeServer(authority);
  const forClients = await makeServer(authority, { uses: ['1.3.6.1.5.5.7.3.2'] });
  const cases: [Made[], RegExp][] = [
    [[forClients], /is not for servers/],
    [[await makeServer(authority, { algorithm: { ...RSA, modulusLength: 1024 } })], /at least 2048 bits/],
    [[await makeServer(authority, { from: 1 })], /is not valid before/],
    [[good, await makeServer(authority)], /two are for two kinds of key/],
    [[{ ...good, pem: good.pem + other.pem }], /did not issue the one before it/],
    [[{ ...good, key: other.key }], /is not the key/],
  ];
  for (const [pairs, says] of cases) {
    await expect(serve(pairs)).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringMatching(says),
    });
  }
});

it('an authority of its own makes a certificate for this host, keeps its key, and makes another one when it is due', async () => {
  const config = loadConfig({
    BULLA_LISTEN: '127.0.0.1:0',
    BULLA_TLS: 'auto',
    BULLA_TLS_NAMES: 'vault.example,10.1.2.3',
  });
  const directory = join(t.dataDir, 'auto');
  const source = ownAuthority(directory, config);
  const tls = await openTls(config.tls!, source, logger);
  const vault = { ...t.vault, config };
  const listener = await listen(vault, createApp(vault, tls), config);
  opened.push({
    close: async () => {
      await listener.close();
      tls.close();
    },
  });
  const { certificates, backupPin } = tls.status();
  expect(certificates[0]!.names).toEqual(
    expect.arrayContaining(['vault.example', '10.1.2.3', 'localhost', '127.0.0.1']),
  );
  const { stdout } = await promisify(execFile)('openssl', [
    ...['verify', '-x509_strict', '-purpose', 'sslserver', '-verify_hostname', 'vault.example'],
    ...['-CAfile', source.authorityFile, join(directory, 'tls', 'server.crt')],
  ]);
  expect(stdout).toMatch(/: OK\n$/);
  // The certificate goes, the key stays; then the key goes, and the one whose pin was known before takes over.
  rmSync(join(directory, 'tls', 'server.crt'));
  await tls.look();
  const renewed = tls.status().certificates[0]!;
  expect([renewed.pin, renewed.fingerprint === certificates[0]!.fingerprint]).toEqual([certificates[0]!.pin, false]);
  rmSync(join(directory, 'tls', 'server.key'));
  await tls.look();
  expect(tls.status().certificates[0]!.pin).toBe(backupPin);
  expect(tls.status().faults).toEqual([]);
});

/** Requests on new and on standing connections until it is asked to end. */
function startLoad(port: number): () => Promise<{ done: number; failed: string[] }> {
  const agents = [
    new Agent({ keepAlive: true, ca: authority.pem }),
    new Agent({ ca: authority.pem, maxCachedSessions: 0 }),
  ];
  let going = true;
  let done = 0;
  const failed: string[] = [];
  const one = (agent: Agent) =>
    new Promise<void>((resolve) => {
      get({ host: 'localhost', port, path: '/healthz', agent }, (answer) => {
        if (answer.statusCode === 200) done += 1;
        else failed.push(String(answer.statusCode));
        answer.resume().once('close', resolve);
      }).once('error', (error) => {
        failed.push(error.message);
        resolve();
      });
    });
  const running = [...agents, ...agents].map(async (agent) => {
    while (going) await one(agent);
  });
  return async () => {
    going = false;
    await Promise.all(running);
    for (const agent of agents) agent.destroy();
    return { done, failed };
  };
}
