/**
 * The vault's life, with real processes: started, greeted, ended, killed and starved under load.
 * Linux.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { ask, call, logIn, postgresOf, postmasterOf, settle, startLoad, untilAnswered } from './lifecycle.ts';
import { CHECKOUT, firstCredentials, MAIN, type Ran, run, type Server } from './process.ts';
import { CHEAP_ARGON2 } from './setup.ts';
import { until } from './until.ts';
import { ADMIN, ANSWER_MS_MAX, admin, ended, OPERATOR, vaults } from './vaults.ts';

const { dir, start, endAll } = vaults('life');

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
    const forgotten = readFileSync(file);
    await logIn(server.address, firstCredentials(dir('a')).system, OPERATOR);
    await until('the file is gone', async () => !existsSync(file));
    const pids = postgresOf(dir('a'));
    expect(pids.length).toBeGreaterThan(1);
    expect(await server.end('SIGINT')).toBe(0);
    expect(postgresOf(dir('a'))).toEqual([]);

    // As if it had been killed before it could remove the file.
    writeFileSync(file, forgotten, { mode: 0o600 });
    server = await start('a');
    await until('everything is printed', async () => server.output().includes('secret get'));
    expect(server.output()).not.toMatch(/credentials|password/);
    expect(existsSync(file)).toBe(false);
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

describe('a hasher', () => {
  it('that dies while it is tried keeps the vault from serving, with a sentence, and leaves nothing running', async () => {
    const slow = { BULLA_ARGON2_MEMORY_KIB: '65536', BULLA_ARGON2_PASSES: '20' };
    const child = spawn(process.execPath, [MAIN, 'server'], {
      env: { PATH: process.env.PATH, BULLA_DATA_DIR: dir('a'), BULLA_LISTEN: '127.0.0.1:0', ...slow },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
        if (output.includes('running at')) child.kill('SIGTERM');
      });
    }
    const code = new Promise((done) => child.once('close', done));
    const hashers = () =>
      readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
        .split(' ')
        .filter((pid) => pid !== '' && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('password-child'))
        .map(Number);
    await until('it runs', async () => hashers().length > 0);
    process.kill(hashers()[0]!, 'SIGKILL');
    expect(await code).toBe(1);
    expect(output).toMatch(/^bulla: The process that hashes passwords failed: it ended with SIGKILL\. .*\n$/);
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
    expect(Math.max(...answers.map(({ ms }) => ms))).toBeLessThan(ANSWER_MS_MAX);
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
        expect(outcome.ms).toBeLessThan(ANSWER_MS_MAX);
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
