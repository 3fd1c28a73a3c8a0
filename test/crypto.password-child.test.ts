/** The process that hashes passwords: what it is given, whom it gives way to, and its end. */
import { ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  children,
  closeHashers,
  failure,
  hasher,
  pepper,
  policiesOf,
  prioritiesOf,
  SCHED_IDLE,
  untilYielding,
} from './hashers.ts';

const DIST = new URL('../dist/crypto/', import.meta.url).href;

afterEach(closeHashers);

describe('the child process', () => {
  test('starts with the first hash, gets no environment and no secret in argv, and has a lower priority in all its threads', async () => {
    const passwords = hasher();
    expect(children()).toEqual([]);
    await passwords.hash('hunter2-on-the-wire', pepper);
    const [pid] = children();
    const names = readFileSync(`/proc/${pid}/environ`, 'utf8')
      .replace(/\0$/, '')
      .split('\0')
      .map((line) => line.split('=')[0]);
    expect(names.sort()).toEqual(['NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE', 'UV_THREADPOOL_SIZE']);
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toMatch(/^[^\0]+\0[^\0]+password-child\.js\0$/);
    expect([prioritiesOf(pid!), policiesOf(pid!)]).toEqual([new Set([10]), new Set([0])]);
  });

  test('where hashes follow one another it gives way to everything else, in all its threads', async () => {
    const passwords = hasher();
    expect(policiesOf(await untilYielding(passwords))).toEqual(new Set([SCHED_IDLE]));
  });

  test('one that gives way and does not come to a hash is replaced, by one that gives way less for a while', async () => {
    const passwords = hasher();
    const pid = await untilYielding(passwords);
    process.kill(pid, 'SIGSTOP');
    const asked = Array.from({ length: 3 }, () => passwords.verifyDecoy('x', pepper));
    expect(await Promise.all(asked)).toEqual([false, false, false]);
    const [second] = children();
    expect(second).not.toBe(pid);
    const until = performance.now() + 1_500;
    while (performance.now() < until) await passwords.verifyDecoy('x', pepper);
    expect([children(), policiesOf(second!)]).toEqual([[second], new Set([0])]);
  });

  test('a vault that closes starts no other for one that gives way and does not end at once', async () => {
    const passwords = hasher();
    process.kill(await untilYielding(passwords), 'SIGSTOP');
    // As where it does not come to its own end either.
    const kill = ChildProcess.prototype.kill;
    const killed = vi.spyOn(ChildProcess.prototype, 'kill').mockImplementation(function (this: ChildProcess, signal) {
      setTimeout(() => kill.call(this, signal), 1_500);
      return true;
    });
    try {
      const asked = failure(passwords.verifyDecoy('x', pepper));
      await passwords.close();
      expect([(await asked).code, children()]).toEqual(['unavailable', []]);
    } finally {
      killed.mockRestore();
    }
  });

  test('what makes it give way gets none of the environment', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'bulla-chrt-'));
    const file = join(directory, 'environment');
    writeFileSync(
      join(directory, 'chrt'),
      `#!/bin/sh\n/usr/bin/env > '${file}.part'\n/bin/mv '${file}.part' '${file}'\n`,
      {
        mode: 0o755,
      },
    );
    vi.stubEnv('BULLA_SEAL_KEY', 'a key that nobody else is to have');
    try {
      const passwords = hasher({ chrt: join(directory, 'chrt') });
      while (!existsSync(file)) await passwords.verifyDecoy('x', pepper);
      const names = readFileSync(file, 'utf8')
        .trim()
        .split('\n')
        .map((line) => line.split('=')[0]!);
      // A shell adds its own.
      expect(names.filter((name) => !['PWD', 'OLDPWD', 'SHLVL', '_'].includes(name))).toEqual([]);
    } finally {
      vi.unstubAllEnvs();
      rmSync(directory, { recursive: true });
    }
  });

  test('where there is no chrt, one that is slow is left to it', async () => {
    const passwords = hasher({ chrt: '/nowhere/chrt' });
    const until = performance.now() + 1_500;
    while (performance.now() < until) await passwords.verifyDecoy('x', pepper);
    const before = children();
    expect(policiesOf(before[0]!)).toEqual(new Set([0]));
    process.kill(before[0]!, 'SIGSTOP');
    setTimeout(() => process.kill(before[0]!, 'SIGCONT'), 1_500);
    expect(await passwords.verifyDecoy('x', pepper)).toBe(false);
    expect(children()).toEqual(before);
  });

  test('ends when idle, and the next hash starts another', async () => {
    const passwords = hasher({ idleMs: 30 });
    await passwords.verifyDecoy('x', pepper);
    await vi.waitFor(() => expect(children()).toEqual([]), { timeout: 60_000 });
    expect(await passwords.verifyDecoy('x', pepper)).toBe(false);
  });

  test('a crash fails its hashes as unavailable, the waiting ones go to the next child', async () => {
    const passwords = hasher();
    const phc = await passwords.hash('x', pepper);
    const [first] = children();
    const running = failure(passwords.verify(phc, 'x', pepper));
    const waiting = passwords.verify(phc, 'x', pepper);
    process.kill(first!, 'SIGSEGV');
    const error = await running;
    expect(error.code).toBe('unavailable');
    expect(error.message).toContain('SIGSEGV');
    expect(await waiting).toBe(true);
    expect(children().length).toBe(1);
    expect(children()).not.toEqual([first]);
  });

  test('a child that dies between two hashes costs none', async () => {
    const passwords = hasher();
    await passwords.verifyDecoy('x', pepper);
    const [pid] = children();
    process.kill(pid!, 'SIGKILL');
    await vi.waitFor(() => expect(existsSync(`/proc/${pid}`)).toBe(false), { timeout: 60_000 });
    expect(await passwords.verifyDecoy('x', pepper)).toBe(false);
  });

  test('a hung child is killed at the deadline', async () => {
    const passwords = hasher({ deadlineMs: 3_000 });
    await passwords.verifyDecoy('x', pepper);
    process.kill(children()[0]!, 'SIGSTOP');
    expect((await failure(passwords.verifyDecoy('x', pepper))).message).toContain('SIGKILL');
  });

  test('Ctrl-C and SIGUSR1 do not reach it: the vault drains, and no debugger opens', async () => {
    const passwords = hasher();
    await passwords.verifyDecoy('x', pepper);
    const [pid] = children();
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const) process.kill(pid!, signal);
    expect(await passwords.verifyDecoy('x', pepper)).toBe(false);
    expect(children()).toEqual([pid]);
    const sockets = readFileSync('/proc/net/tcp', 'utf8')
      .split('\n')
      .filter((line) => /:240D .* 0A /.test(line)); // 9229
    expect(sockets).toEqual([]);
  });

  test('closing fails what runs and waits, and leaves no process', async () => {
    const passwords = hasher();
    await passwords.verifyDecoy('x', pepper);
    const jobs = [failure(passwords.verifyDecoy('x', pepper)), failure(passwords.verifyDecoy('x', pepper))];
    await passwords.close();
    expect((await Promise.all(jobs)).map(({ code }) => code)).toEqual(['unavailable', 'unavailable']);
    expect(children()).toEqual([]);
    expect((await failure(passwords.hash('x', pepper))).code).toBe('unavailable');
  });

  const HASH_ONCE = `
    const { PasswordHasher } = await import('${DIST}password.js');
    const { SecretBytes } = await import('${DIST}keys.js');
    const passwords = new PasswordHasher({ memoryKib: 12288, passes: 3, lanes: 1, queueMax: 1 });
    await passwords.verifyDecoy('x', SecretBytes.generate(32));
    process.stdout.write('hashed\\n');
  `;

  test('an idle child keeps no program from ending', async () => {
    const ran = promisify(execFile)(process.execPath, ['--input-type=module', '--eval', HASH_ONCE], {
      timeout: 20_000,
    });
    expect((await ran).stdout).toBe('hashed\n');
  });

  test('a vault that is killed leaves no child behind', async () => {
    const program = `${HASH_ONCE} setInterval(() => {}, 1000);`;
    const vault = spawn(process.execPath, ['--input-type=module', '--eval', program]);
    await new Promise((resolve) => vault.stdout.once('data', resolve));
    const [pid] = children(vault.pid);
    expect(pid).toBeDefined();
    vault.kill('SIGKILL');
    await vi.waitFor(() => expect(() => process.kill(pid!, 0)).toThrow(), { timeout: 60_000 });
  });
});
