/** TLS of the real process: what it prints is enough for a client to trust it, and a hangup has it look at its certificate. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { afterAll, expect, it } from 'vitest';
import { make, makeServer } from './fixtures/certificate.ts';
import { postgresOf } from './lifecycle.ts';
import { firstCredentials, person, type Server, startServer, temporaryDirectory } from './process.ts';
import { keepPair, shake } from './tls-server.ts';
import { until } from './until.ts';
import { ADMIN } from './vaults.ts';

const place = temporaryDirectory('server-tls');
const servers: Server[] = [];
afterAll(async () => {
  for (const server of servers) await server.end('SIGTERM');
  expect(servers.flatMap(({ dataDir }) => postgresOf(dataDir))).toEqual([]);
  place.remove();
});

async function start(name: string, env: Record<string, string>): Promise<Server> {
  const server = await startServer(join(place.path, name), env);
  servers.push(server);
  return server;
}

it('BULLA_TLS=auto makes a certificate, and the command line comes in as it is told to, and not without that', async () => {
  const { address, dataDir, output } = await start('auto', { BULLA_TLS: 'auto' });
  await until('it says what to try', async () => /\.\/bulla login/.test(output()));
  const [, said, authority = ''] = /BULLA_ADDR=(\S+) BULLA_CACERT=(\S+) \.\/bulla login default admin/.exec(output())!;
  expect([address, said]).toEqual([expect.stringMatching(/^https:/), address]);
  const first = firstCredentials(dataDir).default;
  const logIn = (home: string, more: Record<string, string>) =>
    person(address, join(place.path, home), more)(['login', 'default', 'admin'], `${first.password}\n${ADMIN}\n`);
  const stranger = await logIn('stranger', {});
  expect([stranger.code === 0, stranger.stderr]).toEqual([false, expect.stringMatching(/certificate|trust/i)]);
  expect(await logIn('owner', { BULLA_CACERT: authority })).toMatchObject({ code: 0 });
  // The pins beside it are of the same keys: with one of them, nothing else is trusted and nothing else is needed.
  const pins = /pin them: (\S+)/.exec(output())![1]!;
  const pinned = person(address, join(place.path, 'owner'), { BULLA_CACERT: authority, BULLA_PINS: pins });
  expect(await pinned(['secret', 'put', 'a', '--text'], 'a value')).toMatchObject({ code: 0 });
});

it('T-134 a hangup has a broken certificate be an alarm and a good one be served, and ends nothing', async () => {
  const authority = await make({ name: 'Authority', ca: true });
  const [old, next] = [await makeServer(authority), await makeServer(authority)];
  const files = keepPair(place.path, 'server', old);
  const { address, child, output } = await start('own', {
    ...{ BULLA_TLS_CERT_FILE: files.certFile, BULLA_TLS_KEY_FILE: files.keyFile },
  });
  const served = async () => {
    const socket = (await shake(Number(new URL(address).port), { ca: authority.pem })) as TLSSocket;
    const { raw } = socket.getPeerCertificate();
    socket.destroy();
    return [old, next].findIndex(({ cert }) => raw.equals(Buffer.from(cert.rawData)));
  };
  expect(await served()).toBe(0);
  writeFileSync(files.certFile, next.pem.slice(0, 200));
  child.kill('SIGHUP');
  await until('it says that the certificate is broken', async () =>
    output().includes('the certificate needs somebody'),
  );
  expect([await served(), child.exitCode]).toEqual([0, null]);
  writeFileSync(files.keyFile, next.key);
  writeFileSync(files.certFile, next.pem);
  child.kill('SIGHUP');
  await until('the new one is served', async () => (await served()) === 1);
});
