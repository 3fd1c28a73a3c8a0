/**
 * The vault from outside, with real processes: what each start that cannot serve says, and whom it tries to reach; the
 * shorter half is test/server.outside.test.ts. Linux; what needs root says so where it is skipped.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { fileOf, logIn, postgresOf, statusOf } from '../lifecycle.ts';
import { firstCredentials, MAIN, run, startServer } from '../process.ts';
import { until } from '../until.ts';
import { ADMIN, admin, vaults } from '../vaults.ts';

const isRoot = process.getuid?.() === 0;
const { dir, start, refusal, endAll } = vaults('outside');

/** Two vaults that have been used before. */
beforeAll(async () => {
  for (const name of ['a', 'b']) {
    const server = await start(name);
    await logIn(server.address, firstCredentials(dir(name)).default, ADMIN);
    await server.end('SIGTERM');
  }
});

// ---- refusing -----------------------------------------------------------------------------------------------------

const AS_NOBODY = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
const canBeNobody =
  isRoot && spawnSync(AS_NOBODY[0]!, [...AS_NOBODY.slice(1), process.execPath, MAIN, '--version']).status === 0;

describe('a start that cannot serve ends with one sentence that says what to do', () => {
  afterEach(endAll);

  it('a second one on a directory, and one on a port that is taken', async () => {
    const server = await start('a');
    expect(await refusal('a')).toMatch(
      `(pid ${server.child.pid}) is running on ${dir('a')}; stop it or set BULLA_DATA_DIR`,
    );
    const other = createServer().listen(0, '127.0.0.1');
    await until('the port is taken', async () => other.listening);
    const listen = `127.0.0.1:${(other.address() as AddressInfo).port}`;
    await server.end('SIGTERM');
    expect(await refusal('a', { BULLA_LISTEN: listen })).toMatch(
      /another program listens there; end it or set BULLA_LISTEN/,
    );
    other.close();
    expect(postgresOf(dir('a'))).toEqual([]);
  });

  it('T-203 a seal key that is missing, damaged, somebody else’s, or open to others', async () => {
    const key = join(dir('a'), 'seal.key');
    const right = readFileSync(key);
    const put = (bytes: Uint8Array, mode: number) => {
      rmSync(key, { force: true });
      writeFileSync(key, bytes);
      chmodSync(key, mode);
    };
    try {
      rmSync(key);
      expect(await refusal('a')).toMatch(
        /seal\.key cannot be read \(ENOENT\): restore it .* sealed by key [0-9a-f]{16}\.$/,
      );
      expect(existsSync(key)).toBe(false);
      put(right.subarray(0, 40), 0o600);
      expect(await refusal('a')).toMatch(/seal\.key does not hold a seal key .* restore it from your backup/);
      put(readFileSync(join(dir('b'), 'seal.key')), 0o600);
      const wrong = /holds the seal key ([0-9a-f]{16}), but this vault was sealed by ([0-9a-f]{16}):/;
      const [, held, expected] = wrong.exec(await refusal('a')) ?? [];
      expect(expected).toMatch(/^[0-9a-f]{16}$/);
      expect(held).not.toBe(expected);
      put(right, 0o644);
      expect(await refusal('a')).toMatch(/must be a plain file of mode 0600/);
    } finally {
      put(right, 0o600);
    }
  });

  it('a database of another vault', async () => {
    const swapped = ['pg', 'pg-credentials.json'];
    try {
      for (const name of swapped) {
        renameSync(join(dir('a'), name), join(dir('a'), `${name}.away`));
        spawnSync('cp', ['-a', join(dir('b'), name), join(dir('a'), name)]);
      }
      expect(await refusal('a')).toMatch(/but this vault was sealed by [0-9a-f]{16}: give it that key/);
    } finally {
      for (const name of swapped) {
        rmSync(join(dir('a'), name), { recursive: true, force: true });
        renameSync(join(dir('a'), `${name}.away`), join(dir('a'), name));
      }
    }
    const server = await start('a');
    await admin(server);
    expect(await server.end('SIGTERM')).toBe(0);
  });

  it.skipIf(!canBeNobody)(
    'a directory that its user may not write to; in one of their own an unprivileged user is served (as nobody)',
    async () => {
      mkdirSync(dir('roots'));
      expect(await refusal('roots/data', {}, AS_NOBODY)).toMatch(/roots\/data cannot be written by uid 65534/);
      mkdirSync(dir('nobodys'));
      chownSync(dir('nobodys'), 65_534, 65_534);
      const server = await start('nobodys', {}, AS_NOBODY);
      expect(new Set(postgresOf(dir('nobodys')).map((pid) => statusOf(pid, 'Uid')))).toEqual(new Set(['65534']));
      expect(await server.end('SIGTERM')).toBe(0);
    },
  );

  it('a PostgreSQL that is not there', async () => {
    expect(await refusal('none', { BULLA_DATABASE_URL: 'postgres://bulla:hunter2hunter2@127.0.0.1:1/bulla' })).toBe(
      'bulla: PostgreSQL cannot be reached (ECONNREFUSED): check host and port in BULLA_DATABASE_URL, and that the server runs.',
    );
  });
});

// ---- from outside -------------------------------------------------------------------------------------------------

describe('from outside', () => {
  afterEach(endAll);

  const alone = ['unshare', '-n', 'sh', '-c', 'ip link set lo up && exec "$0" "$@"'];
  const canBeAlone = isRoot && spawnSync(alone[0]!, [...alone.slice(1), 'true']).status === 0;
  it.skipIf(!canBeAlone)(
    'T-242 it serves in a network of its own and tries to reach nobody (unshare -n, as root)',
    async () => {
      // Nobody out here can ask it anything.
      const server = await startServer(dir('a'), {}, alone);
      const vault = server.child.pid!;
      const inside = (...command: string[]) => run('nsenter', ['-t', String(vault), '-n', ...command]);
      try {
        expect((await inside('curl', '-s', `${server.address}/readyz`)).stdout.toString()).toBe('{"status":"ok"}');
        expect(sentOutside(vault)).toBe(0);
        // The counter does count.
        await inside(process.execPath, '-e', "require('node:net').connect(80, '192.0.2.1').on('error', () => {})");
        expect(sentOutside(vault)).toBe(1);
      } finally {
        expect(await server.end('SIGTERM')).toBe(0);
      }
    },
  );
});

/** In a network with nothing but loopback: what found no route, and datagrams, which a question to a name server is. */
function sentOutside(pid: number): number {
  const lines = fileOf(pid, 'net/snmp')
    .split('\n')
    .map((line) => line.split(' '));
  const count = (layer: string, field: string) => {
    const [names, values] = lines.filter(([first]) => first === `${layer}:`);
    return Number(values?.[names?.indexOf(field) ?? -1]);
  };
  return count('Ip', 'OutNoRoutes') + count('Udp', 'OutDatagrams');
}
