/**
 * A real vault as the system shows it, and three starts that must not serve. test/long/server.outside.test.ts has every
 * other refusal. Linux.
 */
import { chmodSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { call, fileOf, hasherOf, logIn, postgresOf } from './lifecycle.ts';
import { firstCredentials, MAIN, run } from './process.ts';
import { until } from './until.ts';
import { ADMIN, vaults } from './vaults.ts';

const isRoot = process.getuid?.() === 0;
const { dir, start, refusal, endAll } = vaults('outside');
afterEach(endAll);

const SEAL_KEY = `bulla-seal-key-v1:${Buffer.alloc(32, 7).toString('base64')}`;

const namesIn = (environment: string) =>
  environment
    .split('\0')
    .filter(Boolean)
    .map((entry) => entry.split('=')[0])
    .sort();

/** The inodes of the sockets that a process listens on. */
function listening(pid: number): string[] {
  const table = fileOf(pid, 'net/tcp') + fileOf(pid, 'net/tcp6');
  const inodes = table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === '0A')
    .map((fields) => fields[9]!);
  const held = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return '';
    }
  });
  return inodes.filter((inode) => held.includes(`socket:[${inode}]`));
}

it('T-127 T-224 T-228 T-229 T-238 processes show no key, take no debugger and leave no memory in a core file', async () => {
  const server = await start('seen', { BULLA_SEAL: 'env', BULLA_SEAL_KEY: SEAL_KEY }, [
    'sh',
    '-c',
    'umask 000; exec "$0" "$@"',
  ]);
  const vault = server.child.pid!;
  const first = firstCredentials(dir('seen'));
  const token = await logIn(server.address, first.default, ADMIN);
  await call(server.address, 'PUT', '/secrets/a', { token, body: { text: 'a canary for a core' } });
  const hasher = await until('passwords are hashed', async () => hasherOf(vault));

  // The residual that SECURITY.md names: what starts the vault put the env seal's key there, and only there.
  expect(fileOf(vault, 'environ')).toContain(SEAL_KEY);
  const others = [hasher, ...postgresOf(dir('seen'))];
  const shown = [
    fileOf(vault, 'cmdline'),
    ...others.flatMap((pid) => [fileOf(pid, 'cmdline'), fileOf(pid, 'environ')]),
  ].join('\n');
  expect(shown).not.toMatch(/BULLA_|bulla-seal-key/);
  expect(namesIn(fileOf(hasher, 'environ'))).toEqual([
    'NODE_CHANNEL_FD',
    'NODE_CHANNEL_SERIALIZATION_MODE',
    'UV_THREADPOOL_SIZE',
  ]);
  for (const secret of [SEAL_KEY.split(':')[1]!, first.default.password, first.system.password, ADMIN, token]) {
    expect(shown).not.toContain(secret);
  }
  for (const pid of [vault, hasher]) expect(fileOf(pid, 'coredump_filter').trim()).toMatch(/^0+$/);

  const before = [listening(vault), listening(hasher)];
  expect(before.map((sockets) => sockets.length)).toEqual([1, 0]);
  for (const pid of [vault, hasher]) process.kill(pid, 'SIGUSR1');
  await call(server.address, 'GET', '/secrets/a', { token });
  await logIn(server.address, { ...first.default, password: ADMIN }, ADMIN);
  expect([listening(vault), listening(hasher)]).toEqual(before);
  expect(hasherOf(vault)).toBe(hasher);

  // T-250, started under umask 000: nothing is readable to others but what is named here.
  const open = readdirSync(dir('seen'), { recursive: true, encoding: 'utf8' }).filter(
    (name) => (statSync(join(dir('seen'), name)).mode & 0o077) !== 0,
  );
  expect(open.filter((name) => !(isRoot && name === 'pg_hba.conf'))).toEqual([]);
  expect(statSync(dir('seen')).mode & 0o777).toBe(isRoot ? 0o711 : 0o700);
  expect(server.output()).not.toContain(SEAL_KEY);
  await server.end('SIGTERM');
});

it('T-203 a vault whose seal key is gone, or is another one, does not start, and says what to bring', async () => {
  // One that has served before, with the key in its file.
  const key = join(dir('keyed'), 'seal.key');
  await (await start('keyed')).end('SIGTERM');
  const right = readFileSync(key, 'utf8');
  rmSync(key);
  expect(await refusal('keyed')).toMatch(
    /seal\.key cannot be read \(ENOENT\): restore it .* sealed by key [0-9a-f]{16}\.$/,
  );
  writeFileSync(key, right.replace(/:.*/, `:${Buffer.alloc(32, 7).toString('base64')}`));
  chmodSync(key, 0o600);
  const wrong = /holds the seal key ([0-9a-f]{16}), but this vault was sealed by ([0-9a-f]{16}):/;
  const [, held, expected] = wrong.exec(await refusal('keyed')) ?? [];
  expect(expected).toMatch(/^[0-9a-f]{16}$/);
  expect(held).not.toBe(expected);
});

it('T-127 a debugger that is open already', async () => {
  const env = { BULLA_DATA_DIR: dir('watched'), NODE_OPTIONS: '--inspect=127.0.0.1:0' };
  const ran = await run(process.execPath, [MAIN, 'server'], { env });
  expect(ran.code).toBe(1);
  expect(ran.stderr).toMatch(/^bulla: A debugger can reach this process .* start it without --inspect.*\.$/m);
});
