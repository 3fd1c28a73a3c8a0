/**
 * Several workers at one port, with real processes: a first process that is killed, an end while requests run, a certificate
 * that changes, and starts that must not serve. test/workers.test.ts has the rest. Linux.
 */
import { once } from 'node:events';
import { renameSync } from 'node:fs';
import { Agent } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { make, makeServer } from '../fixtures/certificate.ts';
import { ask, call, fileOf, logIn, type Outcome, postgresOf, postmasterOf, settle, startLoad } from '../lifecycle.ts';
import { firstCredentials, type Server, startServer } from '../process.ts';
import { keepPair, shake } from '../tls-server.ts';
import { until } from '../until.ts';
import { ADMIN, admin, ended, OPERATOR, vaults } from '../vaults.ts';
import { acceptedOf, TWO, verifiedLog, workersAt } from '../workers.ts';

const { dir, start, refusal, endAll } = vaults('workers');
/** Over TLS, which `vaults` does not speak. */
const secure: Server[] = [];
afterEach(async () => {
  await endAll();
  for (const server of secure.splice(0)) await server.end('SIGTERM');
});

it('T-178 a kill -9 of the first process: no worker is left, and the next start takes PostgreSQL over', async () => {
  const server = await start('a', TWO);
  const token = await logIn(server.address, firstCredentials(dir('a')).default, ADMIN);
  const workers = workersAt(server);
  const load = startLoad(server.address, token, 'orphans');
  await until('the load runs', async () => load.ledger.kept.size > 10);
  const postmaster = postmasterOf(dir('a'));
  server.child.kill('SIGKILL');
  await ended(server);
  await until('no worker is left', async () => workers.every((pid) => fileOf(pid, 'cmdline') === ''));
  const ledger = await load.stop();
  const next = await start('a', TWO);
  expect(postmasterOf(dir('a'))).toBe(postmaster);
  const again = await admin(next);
  expect(await settle(next.address, again, ledger)).toEqual({ lost: [], undead: [] });
  expect(await next.end('SIGTERM')).toBe(0);
  expect(postgresOf(dir('a'))).toEqual([]);

  const alone = await start('a');
  await verifiedLog(alone, await admin(alone), dir('.'));
});

it('T-206 at the end a connection that no worker takes any more is cut off, while running requests are waited for', async () => {
  const server = await start('late', { ...TWO, BULLA_HTTP_DRAIN_DEADLINE: '60s' });
  const held = [await hold(server), await hold(server)];
  const workers = workersAt(server);
  for (const pid of workers) process.kill(pid, 'SIGSTOP');
  const agent = new Agent();
  const late: Outcome[] = [];
  try {
    server.child.kill('SIGTERM');
    const asked = Array.from({ length: 8 }, async () =>
      late.push(await ask(server.address, 'GET', '/healthz', { agent })),
    );
    await until('the first process has accepted all', () => acceptedOf(agent) === asked.length);
    for (const pid of workers) process.kill(pid, 'SIGCONT');
    await until('all are answered or cut off', () => late.length === asked.length, 5_000);
  } finally {
    for (const pid of workers) process.kill(pid, 'SIGCONT');
    agent.destroy();
  }
  expect(held.map(({ readyState }) => readyState)).toEqual(['open', 'open']);
  for (const socket of held) socket.destroy();
  await ended(server);
});

/** A request that a worker has begun, and whose body never comes. */
async function hold({ address }: Server): Promise<Socket> {
  const socket = connect(Number(new URL(address).port), '127.0.0.1');
  socket.write('POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n');
  socket.write('Content-Length: 50\r\nExpect: 100-continue\r\n\r\n');
  const [answer] = await once(socket, 'data');
  expect(String(answer)).toMatch(/^HTTP\/1.1 100 /);
  return socket;
}

it('a new certificate is served by all of them, after SIGHUP and without it', async () => {
  const authority = await make({ name: 'Authority', ca: true });
  const [first, second, third] = await Promise.all([1, 2, 3].map(() => makeServer(authority)));
  const files = keepPair(dir('.'), 'server', first!);
  const tls = { BULLA_TLS_CERT_FILE: files.certFile, BULLA_TLS_KEY_FILE: files.keyFile };
  const server = await startServer(dir('tls'), { ...TWO, ...tls });
  secure.push(server);
  const port = Number(new URL(server.address).port);
  const served = async () => {
    const shown = await Promise.all(Array.from({ length: 8 }, () => shake(port, { ca: authority.pem })));
    return shown.map((socket) => {
      if (typeof socket === 'string') return socket;
      const { serialNumber } = socket.getPeerCertificate();
      socket.destroy();
      return serialNumber;
    });
  };
  const bare = (serial: string) => serial.toUpperCase().replace(/^0+/, '');
  const allServe = (made: typeof first) => async () =>
    (await served()).every((shown) => bare(shown) === bare(made!.cert.serialNumber));
  const replace = (made: typeof first) => {
    const next = keepPair(dir('.'), 'next', made!);
    renameSync(next.keyFile, files.keyFile);
    renameSync(next.certFile, files.certFile);
  };
  expect(await allServe(first)()).toBe(true);
  replace(second);
  server.child.kill('SIGHUP');
  await until('all serve the second', allServe(second));
  replace(third);
  await until('all serve the third, of which nobody told them', allServe(third));
});

it('under a seal that people open there is one process, and none is moved to while there are more', async () => {
  const why =
    'The shamir seal is opened by people, in one process at a time, and this server has 2 workers: start it with BULLA_WORKERS=1';
  expect(await refusal('shared', { BULLA_WORKERS: '2', BULLA_SEAL: 'shamir' })).toContain(why);
  const server = await start('filed', TWO);
  const token = await logIn(server.address, firstCredentials(dir('filed')).system, OPERATOR);
  await expect(call(server.address, 'POST', '/seal/migrate', { token, body: { to: 'shamir' } })).rejects.toThrow(
    /"status":409.*start it with BULLA_WORKERS=1/,
  );
});

it('a port that is taken is one sentence', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const said = await refusal('taken', {
    BULLA_WORKERS: '2',
    BULLA_LISTEN: `127.0.0.1:${port}`,
    BULLA_LOG_LEVEL: 'warn',
  });
  expect(said).toContain(`Cannot listen on 127.0.0.1:${port}: another program listens there`);
  taken.close();
});
