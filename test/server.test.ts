/**
 * The vault's life, with real processes: started, greeted, ended, killed at bad moments, refused, looked at from outside.
 * Linux; what needs root says so where it is skipped.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import {
  ask,
  call,
  fileOf,
  hasherOf,
  logIn,
  postgresOf,
  postmasterOf,
  settle,
  startLoad,
  statusOf,
  untilAnswered,
} from './lifecycle.ts';
import { firstCredentials, MAIN, type Ran, run, type Server, startServer, temporaryDirectory } from './process.ts';
import { CHEAP_ARGON2 } from './setup.ts';
import { until } from './until.ts';

const CHECKOUT = dirname(dirname(MAIN));
const isRoot = process.getuid?.() === 0;
const OPERATOR = 'the operator chose this one';
const ADMIN = 'the first admin chose this one';
const ANSWER_MS_MAX = 5_000;
/** What a test adds to a promise of the vault for the machine that it runs on. */
const MARGIN_MS = 1_500;

const place = temporaryDirectory('life');
const dir = (name: string) => join(place.path, name);
const servers: Server[] = [];

async function start(name: string, env: Record<string, string> = {}, through: readonly string[] = []): Promise<Server> {
  const began = performance.now();
  const server = await startServer(dir(name), env, through);
  servers.push(server);
  await untilAnswered(server.address, '/readyz', 200);
  figures.push(`${name}: ${Math.round(performance.now() - began)} ms`);
  return server;
}

/** Starts to the first answer, for people to read. */
const figures: string[] = [];

afterAll(async () => {
  for (const { child } of servers) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  for (const name of readdirSync(place.path)) for (const pid of postgresOf(dir(name))) process.kill(pid, 'SIGKILL');
  await until('PostgreSQL is gone', async () =>
    readdirSync(place.path).every((name) => postgresOf(dir(name)).length === 0),
  );
  place.remove();
  process.stderr.write(`start to first answer: ${figures.join(', ')}\n`);
});

/** What a failed test left running must not fail the next ones. */
async function endAll(): Promise<void> {
  for (const server of servers.splice(0)) {
    if (server.child.exitCode === null && server.child.signalCode === null) await server.end('SIGTERM');
  }
}

const admin = (server: Server) =>
  logIn(server.address, { tenant: 'default', username: 'admin', password: ADMIN }, ADMIN);
const ended = (server: Server) =>
  until('the vault has ended', async () => server.child.exitCode !== null || server.child.signalCode !== null);

// ---- starting -----------------------------------------------------------------------------------------------------

describe('a first start', () => {
  let server: Server;

  it('prints where it serves, where the credentials are, and three commands that work as they are printed', async () => {
    server = await start('a');
    await until('everything is printed', async () => server.output().includes('secret get'));
    const file = join(dir('a'), 'first-credentials.json');
    const first = firstCredentials(dir('a'));
    expect(server.output()).toContain(file);
    expect(server.output()).not.toContain(first.default.password);
    expect(server.output()).not.toContain(first.system.password);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(first).toMatchObject({ address: server.address });

    const commands = server.output().split('Try next, in another terminal:\n')[1]!.trimEnd().split('\n');
    expect(commands).toHaveLength(3);
    const options = { cwd: CHECKOUT, env: { HOME: dir('home') } };
    mkdirSync(dir('home'));
    const answers: Ran[] = [];
    for (const command of commands) {
      answers.push(await run('sh', ['-c', command], { ...options, input: `${first.default.password}\n${ADMIN}\n` }));
    }
    expect(answers.map(({ code, stderr }) => ({ code, stderr: code === 0 ? '' : stderr }))).toEqual(
      Array(3).fill({ code: 0, stderr: '' }),
    );
    expect(answers[2]!.stdout.toString()).toContain('postgres://app:secret@db/app');
  });

  it('removes the credentials once both passwords are changed, and prints none after that', async () => {
    const file = join(dir('a'), 'first-credentials.json');
    expect(existsSync(file)).toBe(true);
    await logIn(server.address, firstCredentials(dir('a')).system, OPERATOR);
    await until('the file is gone', async () => !existsSync(file));
    const pids = postgresOf(dir('a'));
    expect(pids.length).toBeGreaterThan(1);
    expect(await server.end('SIGINT')).toBe(0);
    expect(postgresOf(dir('a'))).toEqual([]);

    server = await start('a');
    await until('everything is printed', async () => server.output().includes('secret get'));
    expect(server.output()).not.toMatch(/credentials|password/);
    const token = await admin(server);
    expect((await call(server.address, 'GET', '/secrets/prod/web/db', { token })).text).toContain('postgres://');
    expect(await server.end('SIGTERM')).toBe(0);
    expect(postgresOf(dir('a'))).toEqual([]);
  });

  it('prints the credentials to a terminal, and Ctrl-C there ends both cleanly; T-250 under umask 777 too', async (test) => {
    if (spawnSync('script', ['--version']).status !== 0) test.skip('script of util-linux is not here');
    const child = spawn('script', ['-qefc', `umask 777; exec '${process.execPath}' '${MAIN}' server`, '/dev/null'], {
      env: { PATH: process.env.PATH, BULLA_DATA_DIR: dir('tty'), BULLA_LISTEN: '127.0.0.1:0', ...CHEAP_ARGON2 },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const code = new Promise((done) => child.once('exit', done));
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    await until('everything is printed', async () => output.includes('secret get'));
    const first = firstCredentials(dir('tty'));
    expect(output).toContain(first.system.password);
    expect(output).toContain(first.default.password);
    for (const name of ['first-credentials.json', 'seal.key']) {
      expect(statSync(join(dir('tty'), name)).mode & 0o777).toBe(0o600);
    }
    child.stdin.write('\x03');
    expect(await code).toBe(0);
    expect(postgresOf(dir('tty'))).toEqual([]);
  });
});

// ---- ending -------------------------------------------------------------------------------------------------------

describe('a signal', () => {
  afterEach(endAll);

  it('T-206 under load: every request is answered whole, refused with 503 or not taken, and what was promised is kept', async () => {
    const server = await start('a');
    const load = startLoad(server.address, await admin(server), 'term');
    await until('the load runs', async () => load.ledger.kept.size > 50);
    expect(await server.end('SIGTERM')).toBe(0);
    const ledger = await load.stop();
    expect(postgresOf(dir('a'))).toEqual([]);
    const strange = ledger.outcomes.filter(
      ({ outcome }) =>
        outcome.kind === 'half' || (outcome.kind === 'answer' && ![200, 201, 503].includes(outcome.status)),
    );
    expect(strange).toEqual([]);
    const again = await start('a');
    expect(await settle(again.address, await admin(again), ledger)).toEqual({ lost: [], undead: [] });
    await again.end('SIGTERM');
  });

  it('T-206 twice ends at once, and the next start takes PostgreSQL over', async () => {
    const server = await start('a');
    const socket = connect(Number(new URL(server.address).port), '127.0.0.1');
    socket.on('error', () => undefined);
    // A request whose body never comes: a clean end waits for it.
    socket.write(
      'PUT /api/v1/secrets/a HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{',
    );
    await untilAnswered(server.address, '/healthz', 200);
    server.child.kill('SIGTERM');
    await until(
      'it takes no more connections',
      async () => (await ask(server.address, 'GET', '/healthz')).kind === 'none',
    );
    expect(server.child.exitCode).toBe(null);
    // Two that come together are one: npm passes on what the terminal has sent already.
    await until('it has ended', async () => !server.child.kill('SIGTERM') || server.child.exitCode !== null);
    expect(server.child.exitCode).toBe(130);
    socket.destroy();
    const postmaster = postmasterOf(dir('a'));
    expect(postgresOf(dir('a'))).toContain(postmaster);

    const next = await start('a');
    expect(postmasterOf(dir('a'))).toBe(postmaster);
    expect(await next.end('SIGTERM')).toBe(0);
    expect(postgresOf(dir('a'))).toEqual([]);
  });

  it('during the start is obeyed, and leaves nothing running', async () => {
    const child = spawn(process.execPath, [MAIN, 'server'], {
      env: { PATH: process.env.PATH, BULLA_DATA_DIR: dir('a'), BULLA_LISTEN: '127.0.0.1:0', ...CHEAP_ARGON2 },
      stdio: 'ignore',
    });
    const code = new Promise((done) => child.once('exit', done));
    await until('PostgreSQL runs', async () => postgresOf(dir('a')).length > 0);
    child.kill('SIGTERM');
    expect(await code).toBe(0);
    expect(postgresOf(dir('a'))).toEqual([]);
  });
});

// ---- under fire ------------------------------------------------------------------------------------------------------

describe('under fire', () => {
  afterEach(endAll);

  const killings = {
    'of the vault': (server: Server) => server.child.kill('SIGKILL'),
    'of both': (server: Server) => {
      const postmaster = postmasterOf(dir('a'));
      server.child.kill('SIGKILL');
      process.kill(postmaster, 'SIGKILL');
    },
  };
  for (const [whom, kill] of Object.entries(killings)) {
    it(`T-178 a kill -9 ${whom} under load: the next start recovers by itself, and no acknowledged write is lost`, async () => {
      const server = await start('a');
      const load = startLoad(server.address, await admin(server), whom.replaceAll(' ', '-'));
      await until('the load runs', async () => load.ledger.kept.size > 50);
      kill(server);
      await ended(server);
      const ledger = await load.stop();
      const again = await start('a');
      expect(await settle(again.address, await admin(again), ledger)).toEqual({ lost: [], undead: [] });
      expect(await again.end('SIGTERM')).toBe(0);
      expect(postgresOf(dir('a'))).toEqual([]);
    });
  }

  it('T-178 a kill -9 of PostgreSQL: 503 within 5 s, then it serves again without a restart, and no acknowledged write is lost', async () => {
    const server = await start('a');
    const token = await admin(server);
    const load = startLoad(server.address, token, 'postgres');
    await until('the load runs', async () => load.ledger.kept.size > 50);
    process.kill(postmasterOf(dir('a')), 'SIGKILL');
    await until('somebody is told', async () =>
      load.ledger.outcomes.some(({ outcome }) => outcome.kind === 'answer' && outcome.status === 503),
    );
    const before = load.ledger.kept.size;
    await until('writes are taken again', async () => load.ledger.kept.size > before + 10);
    const ledger = await load.stop();
    const answers = ledger.outcomes.map(({ outcome }) => outcome);
    // 504 is the honest answer of a write whose COMMIT had been sent.
    const honest = ({ method, outcome }: (typeof ledger.outcomes)[number]) =>
      outcome.kind === 'answer' &&
      ([200, 201, 503].includes(outcome.status) || (method === 'PUT' && outcome.json?.code === 'outcome_unknown'));
    expect(ledger.outcomes.filter((answered) => !honest(answered))).toEqual([]);
    expect(Math.max(...answers.map(({ ms }) => ms))).toBeLessThan(ANSWER_MS_MAX + MARGIN_MS);
    expect(await settle(server.address, token, ledger)).toEqual({ lost: [], undead: [] });
    expect(server.output()).toContain('PostgreSQL is running again');
    await server.end('SIGTERM');
  });

  it('T-181 a PostgreSQL that hangs is answered with 503 within 5 s, and the pool heals when it goes on', async () => {
    const server = await start('a');
    const token = await admin(server);
    const stopped = postgresOf(dir('a'));
    for (const pid of stopped) process.kill(pid, 'SIGSTOP');
    try {
      const path = '/api/v1/secrets/prod/web/db';
      const asked = [
        ask(server.address, 'GET', path, { token }),
        ask(server.address, 'PUT', `${path}2`, { token, body: { text: 'no' } }),
        ask(server.address, 'POST', '/api/v1/auth/login', {
          body: { tenant: 'default', username: 'admin', password: ADMIN },
        }),
      ];
      for (const outcome of await Promise.all(asked)) {
        expect(outcome).toMatchObject({ kind: 'answer', status: 503 });
        expect(outcome.ms).toBeLessThan(ANSWER_MS_MAX + MARGIN_MS);
      }
      expect(await ask(server.address, 'GET', '/healthz')).toMatchObject({ kind: 'answer', status: 200 });
    } finally {
      for (const pid of stopped) process.kill(pid, 'SIGCONT');
    }
    await untilAnswered(server.address, '/readyz', 200);
    expect((await call(server.address, 'GET', '/secrets/prod/web/db', { token })).text).toContain('postgres://');
    expect(await server.end('SIGTERM')).toBe(0);
  });

  it('T-186 a log that cannot be written, and a reader that has gone, do not stop it', async () => {
    const server = await start('a', {}, ['sh', '-c', 'exec "$0" "$@" 2>/dev/full']);
    server.child.stdout?.destroy();
    const token = await admin(server);
    expect((await call(server.address, 'GET', '/secrets/prod/web/db', { token })).text).toContain('postgres://');
    expect(await server.end('SIGTERM')).toBe(0);
    expect(postgresOf(dir('a'))).toEqual([]);
  });

  it('T-187 more connections than it may open files: it refuses some, and heals', async () => {
    const server = await start('a', {}, ['sh', '-c', 'ulimit -n 300; exec "$0" "$@"']);
    const port = Number(new URL(server.address).port);
    const sockets = Array.from({ length: 400 }, () => connect(port, '127.0.0.1').on('error', () => undefined));
    await until('it has none left', async () => readdirSync(`/proc/${server.child.pid}/fd`).length >= 299);
    for (const socket of sockets) socket.destroy();
    await untilAnswered(server.address, '/readyz', 200);
    const token = await admin(server);
    expect((await call(server.address, 'GET', '/secrets/prod/web/db', { token })).text).toContain('postgres://');
    expect(await server.end('SIGTERM')).toBe(0);
  });
});

// ---- refusing -----------------------------------------------------------------------------------------------------

/** Starts a vault that must refuse: exit code 1, and on both streams one sentence and nothing else. */
async function refusal(
  name: string,
  env: Record<string, string> = {},
  through: readonly string[] = [],
): Promise<string> {
  const [program = '', ...args] = [...through, process.execPath, MAIN, 'server'];
  const ran = await run(program, args, {
    env: { BULLA_DATA_DIR: dir(name), BULLA_LISTEN: '127.0.0.1:0', ...CHEAP_ARGON2, ...env },
    cwd: place.path,
  });
  expect(ran.stdout.toString()).toBe('');
  expect(ran.stderr).toMatch(/^bulla: [^\n]+[.)]\n$/);
  expect(ran.stderr).not.toMatch(/\n\s+at |\{"level"|node:internal/);
  expect(ran.code).toBe(1);
  expect(postgresOf(dir(name)).length === 0 || servers.some((server) => server.dataDir === dir(name))).toBe(true);
  return ran.stderr.trim();
}

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
      put(readFileSync(join(dir('tty'), 'seal.key')), 0o600);
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
        spawnSync('cp', ['-a', join(dir('tty'), name), join(dir('a'), name)]);
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

  it('T-127 a debugger that is open already', async () => {
    const env = { BULLA_DATA_DIR: dir('a'), NODE_OPTIONS: '--inspect=127.0.0.1:0' };
    const ran = await run(process.execPath, [MAIN, 'server'], { env });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/^bulla: A debugger can reach this process .* start it without --inspect.*\.$/m);
  });

  it('a PostgreSQL that is not there', async () => {
    expect(await refusal('none', { BULLA_DATABASE_URL: 'postgres://bulla:hunter2hunter2@127.0.0.1:1/bulla' })).toBe(
      'bulla: PostgreSQL cannot be reached (ECONNREFUSED): check host and port in BULLA_DATABASE_URL, and that the server runs.',
    );
  });
});

// ---- from outside -------------------------------------------------------------------------------------------------

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

describe('from outside', () => {
  afterEach(endAll);

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

  const alone = ['unshare', '-n', 'sh', '-c', 'ip link set lo up && exec "$0" "$@"'];
  const canBeAlone = isRoot && spawnSync(alone[0]!, [...alone.slice(1), 'true']).status === 0;
  it.skipIf(!canBeAlone)(
    'T-242 it serves in a network of its own and tries to reach nobody (unshare -n, as root)',
    async () => {
      const server = await startServer(dir('a'), {}, alone);
      servers.push(server);
      const vault = server.child.pid!;
      const inside = (...command: string[]) => run('nsenter', ['-t', String(vault), '-n', ...command]);
      expect((await inside('curl', '-s', `${server.address}/readyz`)).stdout.toString()).toBe('{"status":"ok"}');
      const tried = () => {
        const [ip, udp] = ['Ip', 'Udp'].map((name) => {
          const [names, values] = fileOf(vault, 'net/snmp')
            .split('\n')
            .filter((line) => line.startsWith(`${name}:`))
            .map((line) => line.split(' '));
          return Object.fromEntries(names!.map((field, at) => [field, Number(values![at])]));
        });
        return ip!.OutNoRoutes! + udp!.OutDatagrams!;
      };
      expect(tried()).toBe(0);
      // The counter does count.
      await inside(process.execPath, '-e', "require('node:net').connect(80, '192.0.2.1').on('error', () => {})");
      expect(tried()).toBe(1);
      await server.end('SIGTERM');
    },
  );
});
