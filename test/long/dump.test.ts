/**
 * T-209: PostgreSQL's own pg_dump, taken while a rotation re-encrypts and people write, and restored beside it: a vault on the copy opens what
 * was there, ends the rotation, and proves that the old key is gone. Debian's postgresql-15.
 */
import { spawn, spawnSync } from 'node:child_process';
import { chownSync, copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ask, call, logIn } from '../lifecycle.ts';
import { freePort } from '../port.ts';
import { firstCredentials, run, startServer, temporaryDirectory } from '../process.ts';
import { PASSWORD } from '../setup.ts';
import { until } from '../until.ts';

const BIN = '/usr/lib/postgresql/15/bin';
const isHere = existsSync(join(BIN, 'pg_dump'));
if (!isHere) process.stderr.write(`${BIN} is not here (Debian's package postgresql-15): its test is skipped\n`);

const SECRETS = 3000;
const AT_ONCE = 20;

/** A cluster of this test's own, that believes who comes from here. */
async function startCluster(directory: string) {
  const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  const data = join(directory, 'pg');
  mkdirSync(data, { mode: 0o700 });
  if (user.uid !== undefined) chownSync(data, user.uid, user.gid);
  const made = spawnSync(
    join(BIN, 'initdb'),
    ['-D', data, '-U', 'boss', '-A', 'trust', '--no-sync', '-E', 'UTF8', '--locale=C'],
    {
      ...user,
      cwd: data,
      encoding: 'utf8',
    },
  );
  if (made.status !== 0) throw new Error(made.stderr);
  const port = String(await freePort());
  const settings = { port, listen_addresses: '127.0.0.1', unix_socket_directories: data };
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const postmaster = spawn(join(BIN, 'postgres'), ['-D', data, ...args], { ...user, cwd: data, stdio: 'ignore' });
  const at = ['-h', data, '-p', port, '-U', 'boss'];
  await until(
    'PostgreSQL takes connections',
    async () => spawnSync(join(BIN, 'pg_isready'), ['-q', ...at]).status === 0,
  );
  const tool = async (name: string, args: readonly string[]): Promise<string> => {
    const ran = await run(join(BIN, name), [...at, ...args]);
    if (ran.code !== 0) throw new Error(`${name}: ${ran.stderr}`);
    return ran.stdout.toString().trim();
  };
  return {
    tool,
    sql: (database: string, text: string) => tool('psql', ['-d', database, '-v', 'ON_ERROR_STOP=1', '-XAtc', text]),
    url: (database: string) => `postgres://boss@127.0.0.1:${port}/${database}`,
    stop: async () => {
      const ended = new Promise((done) => postmaster.once('exit', done));
      postmaster.kill('SIGQUIT');
      await ended;
    },
  };
}

const BY_VERSION = `
  SELECT count(*) FILTER (WHERE key_version = 1) > 0 AND count(*) FILTER (WHERE key_version = 2) > 0
  FROM bulla.secret_versions JOIN bulla.tenants USING (tenant_id) WHERE name = 'default'`;

type Job = { readonly id: string; readonly state: string; readonly report: { readonly left: Record<string, number> } };
const readJob = async (address: string, token: string, id: string): Promise<Job> =>
  (await call(address, 'GET', `/jobs/${id}`, { token })) as unknown as Job;

test.skipIf(!isHere)(
  'T-209 a dump taken in mid-rotation restores, opens and ends its rotation',
  { timeout: 600_000 },
  async () => {
    const directory = temporaryDirectory('dump');
    const place = (name: string) => join(directory.path, name);
    const cluster = await startCluster(directory.path);
    const running: (() => Promise<unknown>)[] = [cluster.stop];
    try {
      await cluster.sql('postgres', 'CREATE DATABASE one');
      const server = await startServer(place('one'), { BULLA_DATABASE_URL: cluster.url('one') });
      running.unshift(() => server.end('SIGTERM'));
      const { address } = server;
      const token = await logIn(address, firstCredentials(place('one')).default, PASSWORD);
      for (let at = 0; at < SECRETS; at += AT_ONCE) {
        const put = (i: number) => call(address, 'PUT', `/secrets/s${i}`, { token, body: { text: `v${i}` } });
        await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => put(at + i)));
      }
      const { job } = (await call(address, 'POST', '/keys/rotate', {
        token,
        body: { reencrypt: true },
      })) as unknown as { job: Job };
      await until('some are moved', async () => (await cluster.sql('one', BY_VERSION)) === 't');
      // It stands still while the dump is taken, with whatever it had begun.
      server.child.kill('SIGSTOP');
      const late = ask(address, 'PUT', '/api/v1/secrets/late', { token, body: { text: 'late' } });
      await cluster.tool('pg_dump', ['-Fc', '-f', place('dump'), 'one']);
      server.child.kill('SIGCONT');
      expect((await late).kind).toBe('answer');
      await cluster.sql('postgres', 'CREATE DATABASE two');
      await cluster.tool('pg_restore', ['--exit-on-error', '-d', 'two', place('dump')]);
      expect(await cluster.sql('two', BY_VERSION)).toBe('t');

      mkdirSync(place('two'), { mode: 0o711 });
      copyFileSync(join(place('one'), 'seal.key'), join(place('two'), 'seal.key'));
      const copy = await startServer(place('two'), { BULLA_DATABASE_URL: cluster.url('two') });
      running.unshift(() => copy.end('SIGTERM'));
      for (const at of [copy.address, address]) {
        const ended = await until(
          'the rotation ends',
          async () => {
            const now = await readJob(at, token, job.id);
            return ['done', 'failed'].includes(now.state) && now;
          },
          120_000,
        );
        expect([ended.state, Object.values(ended.report.left).filter((rows) => rows !== 0)]).toEqual(['done', []]);
        for (let i = 0; i < SECRETS; i += 25) {
          expect((await call(at, 'GET', `/secrets/s${i}`, { token })).text).toBe(`v${i}`);
        }
      }
      for (const database of ['one', 'two']) {
        const left = `SELECT count(*) FROM bulla.data_key_material JOIN bulla.tenants USING (tenant_id) WHERE name = 'default' AND version = 1`;
        expect([database, await cluster.sql(database, left)]).toEqual([database, '0']);
      }
    } finally {
      for (const stop of running) await stop();
      directory.remove();
    }
  },
);
