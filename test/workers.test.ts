/**
 * Several workers at one port (BULLA_WORKERS), with real processes: shared out, killed, sealed and drained. The parent that
 * is killed, certificates and refusals are in test/long/workers.test.ts. Linux.
 */
import { Agent } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { shareOfFirst, shareOfWorker } from '../src/config-share.ts';
import { ask, call, fileOf, logIn, type Outcome, postgresOf, settle, startLoad } from './lifecycle.ts';
import { firstCredentials, person, type Server } from './process.ts';
import { until } from './until.ts';
import { ADMIN, OPERATOR, vaults } from './vaults.ts';
import { acceptedOf, countOf, get, killOne, linesOf, statuses, TWO, verifiedLog, workersAt } from './workers.ts';

const READS = /^bulla_http_requests_total\{method="GET",route="\/api\/v1\/secrets\/\{path\}",status="200"\}/;

const WRITES = /^bulla_http_requests_total\{method="PUT"/;

describe('two workers', () => {
  const { dir, start, endAll } = vaults('workers');
  let server: Server;
  let token: string;
  let operator: string;

  beforeAll(async () => {
    server = await start('a', TWO);
    const first = firstCredentials(dir('a'));
    [token, operator] = await Promise.all([
      logIn(server.address, first.default, ADMIN),
      logIn(server.address, first.system, OPERATOR),
    ]);
    await call(server.address, 'PUT', '/secrets/a', { token, body: { text: 'shared' } });
  });
  afterAll(endAll);

  it('share the port, the log and the metrics: each read has its entry once, and the log verifies', async () => {
    expect(server.output().match(/Bulla is running at/g)).toHaveLength(1);
    expect(linesOf(server).filter(({ msg }) => msg === 'started')).toMatchObject([{ workers: 2 }]);
    const ids = Array.from({ length: 100 }, (_, i) => `read-${i}`);
    const answers = await Promise.all(ids.map((id) => get(server.address, '/api/v1/secrets/a', token, id)));
    expect(answers.filter(({ status, text }) => status !== 200 || !text.includes('shared'))).toEqual([]);
    const byWorker = await until('every read is in the log of the process', async () => {
      const lines = linesOf(server).filter((line) => line.msg === 'request' && line.request?.startsWith('read-'));
      return (
        lines.length === ids.length && [1, 2].map((worker) => lines.filter((line) => line.worker === worker).length)
      );
    });
    // The next connection falls to a worker that is free, so a slow one gets fewer.
    expect(Math.min(...byWorker)).toBeGreaterThan(0);
    const entries = await verifiedLog(server, token, dir('.'));
    const reads = entries.filter(({ action, request }) => action === 'secret.read' && ids.includes(String(request)));
    expect(reads.map(({ request }) => request).sort()).toEqual(ids.toSorted());

    expect(await countOf(server, READS)).toBe(100);
    expect(await countOf(server, /^bulla_workers /)).toBe(2);
    expect(await countOf(server, /^bulla_root_key_age_seconds /)).toBeLessThan(3_600);
    // Nothing that is set for the vault is in a worker's environment or arguments.
    for (const pid of workersAt(server)) expect(fileOf(pid, 'environ') + fileOf(pid, 'cmdline')).not.toMatch(/BULLA_/);
  });

  it('have one rate together, whoever a connection falls to', async () => {
    const rate = (requests: number | null) =>
      call(server.address, 'PATCH', '/tenants/default', {
        token: operator,
        body: { quotas: { account_requests_per_second: requests } },
      });
    await rate(5);
    const began = Date.now();
    const answers = await statuses(server.address, token, '/secrets/a', 40);
    // Five in each second, of which the first begins with the burst.
    const seconds = 1 + Math.floor((Date.now() - began) / 1000);
    const allowed = answers.filter((status) => status === 200).length;
    expect(allowed).toBeGreaterThanOrEqual(5);
    expect(allowed).toBeLessThanOrEqual(5 * seconds);
    expect(new Set(answers)).toEqual(new Set([200, 429]));
    await rate(null);
    expect(new Set(await statuses(server.address, token, '/secrets/a', 20))).toEqual(new Set([200]));
  });

  it('T-178 a kill -9 of one under load: only what was at it is cut off, and it comes back', async () => {
    const load = startLoad(server.address, token, 'killed');
    await until('the load runs', async () => load.ledger.kept.size > 30);
    const victim = await killOne(server);
    const before = load.ledger.kept.size;
    await until('the load goes on', async () => load.ledger.kept.size > before + 10);
    const ledger = await load.stop();
    const others = ledger.outcomes.filter(({ outcome }) => outcome.kind !== 'answer' || outcome.status >= 300);
    expect(others.filter(({ outcome }) => outcome.kind !== 'none')).toEqual([]);
    expect(others.length).toBeLessThanOrEqual(3);
    expect(await settle(server.address, token, ledger)).toEqual({ lost: [], undead: [] });
    expect(workersAt(server)).toHaveLength(2);
    expect(workersAt(server)).not.toContain(victim);
  });

  it('are sealed together within a second, one that is started meanwhile too, and opened together', async () => {
    const look = () => statuses(server.address, token, '/secrets/a');
    const written = await countOf(server, WRITES);
    expect(written).toBeGreaterThan(30);
    await call(server.address, 'POST', '/seal/seal', { token: operator });
    await until('all are sealed', async () => (await look()).every((status) => status === 503), 1_000);
    await killOne(server);
    expect(await look()).toEqual(Array(8).fill(503));
    const atHost = person(server.address, dir('home'), { BULLA_DATA_DIR: dir('a') });
    expect((await atHost(['unseal'])).code).toBe(0);
    await until('all are open', async () => (await look()).every((status) => status === 200));
    // What the killed one had counted is still there: a sum that fell would look like a server that began anew.
    expect(await countOf(server, WRITES)).toBe(written);
  });

  it('T-178 a kill -9 of one that was given a connection and has not taken it: that one is cut off, all others are served', async () => {
    const workers = workersAt(server);
    expect(workers).toHaveLength(2);
    for (const pid of workers) process.kill(pid, 'SIGSTOP');
    const agent = new Agent();
    const outcomes: Outcome[] = [];
    const kinds = () => outcomes.map(({ kind }) => kind);
    try {
      const asked = Array.from({ length: 4 }, async () =>
        outcomes.push(await ask(server.address, 'GET', '/api/v1/secrets/a', { token, agent })),
      );
      // Each worker is given one, and the others wait for who is free again.
      await until('the first process has accepted all', () => acceptedOf(agent) === asked.length);
      process.kill(workers[0]!, 'SIGKILL');
      await until('one is cut off', () => kinds().includes('none'), 5_000);
      process.kill(workers[1]!, 'SIGCONT');
      await Promise.all(asked);
      expect(kinds().sort()).toEqual(['answer', 'answer', 'answer', 'none']);
    } finally {
      process.kill(workers[1]!, 'SIGCONT');
      agent.destroy();
    }
    await until('both serve', async () => (await countOf(server, /^bulla_workers /)) === 2);
  });

  it('T-206 a signal under load: every request is answered whole, refused with 503 or not taken, and none is left', async () => {
    const load = startLoad(server.address, token, 'drained');
    await until('the load runs', async () => load.ledger.kept.size > 30);
    const workers = workersAt(server);
    expect(await server.end('SIGTERM')).toBe(0);
    const { outcomes } = await load.stop();
    const strange = outcomes.filter(
      ({ outcome }) =>
        outcome.kind === 'half' || (outcome.kind === 'answer' && ![200, 201, 503].includes(outcome.status)),
    );
    expect(strange).toEqual([]);
    expect([postgresOf(dir('a')), workers.filter((pid) => fileOf(pid, 'cmdline') !== '')]).toEqual([[], []]);
  });
});

describe('a number of workers', () => {
  it.each(['0', '65', '-1', '1.5', 'two', '1e1', '0x2', ' 2'])('%o is refused with what is expected', (value) => {
    expect(() => loadConfig({ BULLA_WORKERS: value })).toThrow('BULLA_WORKERS: expected a whole number from 1 to 64.');
  });

  it('comes from the option before the variable, and one means this process alone', () => {
    expect(loadConfig({}).workers).toBe(1);
    expect(loadConfig({ BULLA_WORKERS: '3' }, { BULLA_WORKERS: '2' }).workers).toBe(2);
    const alone = loadConfig({});
    expect(shareOfFirst(alone)).toBe(alone);
  });

  it('shares what is set for all of them, and leaves each what it cannot do without', () => {
    const whole = loadConfig({ BULLA_WORKERS: '3', BULLA_DATABASE_CONNECTIONS: '20', BULLA_HASH_CONCURRENCY: '7' });
    const [first, each] = [shareOfFirst(whole), shareOfWorker(whole)];
    expect([first.databaseConnections, each.databaseConnections]).toEqual([5, 5]);
    expect([each.hashConcurrency, each.hashQueueMax]).toEqual([2, 22]);
    expect([each.http.connectionsMax, each.http.connectionsPerSourceMax]).toEqual([1366, 683]);
    const least = shareOfWorker(
      loadConfig({ BULLA_WORKERS: '64', BULLA_HASH_CONCURRENCY: '1', BULLA_HTTP_BODIES_BYTES_MAX: '4194304' }),
    );
    expect([least.databaseConnections, least.hashConcurrency, least.http.bodiesBytesMax]).toEqual([2, 1, 4_194_304]);
  });
});
