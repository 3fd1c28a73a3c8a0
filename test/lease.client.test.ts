/** Leases in applications: a pool that swaps through several maximum times, and a program that `bulla run` started. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bulla, type Lease } from '../src/client/index.ts';
import { type Sweeper, startSweeper } from '../src/lease/sweeper.ts';
import { type TestVault, testVault } from './harness.ts';
import { configure, leaseTarget, type Target, type TargetConfig, works } from './lease-target.ts';
import { until } from './until.ts';

const MAIN = fileURLToPath(new URL('../dist/bundle/main.js', import.meta.url));

let t: TestVault;
let target: Target;
let sweeper: Sweeper;
let vaultAddress: string;
let bulla: Bulla;
const state = mkdtempSync(join(tmpdir(), 'bulla-lease-'));

beforeAll(async () => {
  t = await testVault();
  target = await leaseTarget();
  await configure(t, target);
  sweeper = startSweeper(t.vault);
  vaultAddress = await t.address();
  bulla = new Bulla({ address: vaultAddress, token: t.admin });
});

afterAll(async () => {
  bulla.close();
  await sweeper.stop();
  await t.check();
  await t.close();
  await target.close();
  rmSync(state, { recursive: true, force: true });
});

it('a pool that swaps to the next credential runs through several maximum times without a failed query', async () => {
  await bulla.roles.put('brief', { backend: 'db', settings: {}, default_ttl: '4s', max_ttl: '6s' });
  let sql: postgres.Sql | undefined;
  const seen: string[] = [];
  const errors: unknown[] = [];
  const endings: Lease[] = [];
  const kept = await bulla.keepLease(
    { role: 'db/brief' },
    async ({ credential }) => {
      const old = sql;
      const { host, port, database, username, password } = credential as TargetConfig;
      seen.push(username);
      t.secrets.add(password);
      sql = postgres({ host, port, database, username, password, max: 3, onnotice: () => undefined });
      await sql`SELECT 1`;
      // Ends when the queries under way have.
      await old?.end();
    },
    { onError: (error) => errors.push(error), onEnding: (lease) => endings.push(lease) },
  );
  let queries = 0;
  const worker = async () => {
    while (seen.length < 3) {
      const [row] = await sql!`SELECT current_user AS me`;
      expect(seen).toContain(row!.me);
      queries += 1;
    }
  };
  try {
    await Promise.all([worker(), worker(), worker()]);
  } finally {
    await sql!.end();
    await kept.close();
  }
  expect(queries).toBeGreaterThan(10);
  expect(errors).toEqual([]);
  expect(endings.length).toBeGreaterThanOrEqual(2);
  const last = kept.lease();
  expect((await bulla.leases.get(last.id)).state).toBe('ended');
  await until('no credential is left', async () => !(await target.roles()).some((role) => seen.includes(role)));
});

it('a first lease that is not to be had is told at once, and one whose callback fails is given back', async () => {
  await expect(bulla.keepLease({ role: 'db/nothing' }, () => undefined)).rejects.toMatchObject({ code: 'not_found' });
  const before = (await target.roles()).length;
  const failing = bulla.keepLease({ role: 'db/reporting' }, ({ credential }) => {
    t.secrets.add(String(credential!.password));
    throw new Error('the pool is not to be opened');
  });
  await expect(failing).rejects.toThrow('the pool is not to be opened');
  expect(await target.roles()).toHaveLength(before);
});

function start(args: readonly string[]): ChildProcess {
  const env = { PATH: process.env.PATH!, BULLA_ADDR: vaultAddress, BULLA_TOKEN: t.admin, XDG_STATE_HOME: state };
  return spawn(process.execPath, [MAIN, ...args], { env, stdio: 'pipe' });
}

const PROGRAM = `process.stdout.write(process.env.REPORTING_USERNAME + ' ' + process.env.REPORTING_PASSWORD + ' ' + (process.env.BULLA_TOKEN ?? 'no token') + '\\n'); setInterval(() => {}, 1000)`;

it('a program that `bulla run --lease` started has a credential that works until it ends, by whatever signal', async () => {
  const child = start(['run', '--lease', 'reporting=db/reporting', '--', process.execPath, '-e', PROGRAM]);
  let output = '';
  child.stdout!.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const ended = new Promise<string>((resolve) => child.once('exit', (code, signal) => resolve(String(signal ?? code))));
  const [, username, password] = await until(
    'the program runs',
    async () => /^(\S+) (\S+) no token\n/.exec(output) ?? undefined,
  );
  t.secrets.add(password!);
  expect(await works(target, { username: username!, password: password! })).toBe(true);
  child.kill('SIGTERM');
  expect(await ended).toBe('SIGTERM');
  expect(await works(target, { username: username!, password: password! })).toBe(false);
});

it('a program is not started when its lease is not to be had, and wrong use says what is expected', async () => {
  for (const [lease, code, says] of [
    ['reporting=db/nothing', 5, /no role db\/nothing/],
    ['reporting', 2, /NAME=BACKEND\/ROLE/],
    ['node-options=db/reporting', 0, /^$/],
  ] as const) {
    const child = start(['run', '--lease', lease, '--', process.execPath, '-e', '0']);
    const said = await text(child.stderr!);
    const ended = child.exitCode ?? (await new Promise((resolve) => child.once('exit', resolve)));
    expect([lease, ended, said]).toEqual([lease, code, expect.stringMatching(says)]);
  }
});

it('the commands take, show, list, renew, revoke and share leases', async () => {
  const run = async (...args: string[]) => {
    const child = start(['--json', ...args]);
    const [out, err] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
    expect(err).toBe('');
    return JSON.parse(out);
  };
  const taken = await run('lease', 'take', 'db/reporting', '--ttl', '10m');
  t.secrets.add(taken.credential.password);
  const renewed = await run('lease', 'renew', taken.id, '--ttl', '20m');
  expect(renewed).toMatchObject({ id: taken.id, renewals: 1 });
  expect(await run('lease', 'list', '--state', 'active')).toMatchObject([{ id: taken.id }]);
  expect(await run('role', 'list')).toMatchObject([{ path: 'db/brief' }, { path: 'db/reporting' }]);
  expect(await run('backend', 'list')).toMatchObject([{ name: 'db', kind: 'postgres' }]);
  expect(await run('lease', 'revoke', taken.id)).toMatchObject({ state: 'ended' });
  expect(await run('lease', 'share', 'prod/a', '--uses', '1')).toMatchObject({ kind: 'access', path: 'prod/a' });
});
