/** `bulla run`, which hands secrets to a program and nothing else, and the process that the command line is itself. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  admin,
  bulla,
  CANARY,
  directory,
  environment,
  file,
  here,
  MAIN,
  ownShell,
  start,
  vault,
  vaultAddress,
  words,
} from './shell.ts';

ownShell();

describe('run', () => {
  beforeAll(async () => {
    await admin.secrets.put('run/app/database', { data: { url: `postgres://${CANARY}`, port: 5432 } });
    await admin.secrets.put('run/app/api', { text: 'api-key' });
    await admin.secrets.put('run/big/blob', { text: 'x'.repeat(200_000) });
    await admin.secrets.put('run/unsafe/node', { data: { options: '--require /tmp/x' } });
  });

  const shell = (script: string, ...options: string[]) => [
    'run',
    '--prefix',
    'run/app',
    ...options,
    '--',
    'sh',
    '-c',
    script,
  ];

  test('gives the program its secrets, which replace what is there, and the rest of the environment', async () => {
    const ended = await bulla(shell('echo "$DATABASE_URL $DATABASE_PORT $API $OTHER $BULLA_ADDR"'), {
      env: { API: 'old', OTHER: 'kept' },
    });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout).toBe(`postgres://${CANARY} 5432 api-key kept ${vaultAddress}\n`);
  });

  test('T-228 the program does not get the token, nor another variable that opens the vault', async () => {
    const env = { BULLA_SEAL_KEY: 'seal', BULLA_DATABASE_URL: 'postgres://x', BULLA_METRICS_TOKEN: 'metrics' };
    const { stdout } = await bulla(shell("tr '\\0' '\\n' < /proc/self/environ"), { env });
    expect(stdout).toContain('DATABASE_URL=postgres://canary');
    expect(stdout).not.toMatch(/BULLA_TOKEN|BULLA_SEAL_KEY|BULLA_DATABASE|BULLA_METRICS/);
    expect(stdout).not.toContain(vault.admin);
    expect((await bulla(shell('echo $BULLA_TOKEN', '--pass-token'))).stdout).toBe(`${vault.admin}\n`);
  });

  test('T-229 neither our arguments nor the program’s hold a secret', async () => {
    const { stdout } = await bulla(shell('cat /proc/$PPID/cmdline /proc/$$/cmdline'));
    expect(stdout).toContain('run/app');
    expect(stdout).not.toContain(CANARY);
    expect(stdout).not.toContain(vault.admin);
  });

  test('writes nothing to disk', async () => {
    await bulla(shell('true'), { env: { TMPDIR: directory, HOME: directory } });
    expect(readdirSync(directory)).toEqual([]);
  });

  test.each([0, 1, 7, 255])('ends with the program’s code %i', async (code) => {
    expect(await bulla(shell(`exit ${code}`))).toMatchObject({ code, signal: null, stderr: '' });
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL', 'SIGUSR2'])(
    'dies of %s when the program does',
    async (signal) => {
      expect(await bulla(shell(`kill -${signal.slice(3)} $$; sleep 10`))).toMatchObject({ code: null, signal });
    },
  );

  test('T-224 does not repeat a signal that would dump its own core', async () => {
    expect(await bulla(shell('ulimit -c 0; kill -SEGV $$; sleep 10'))).toMatchObject({ code: 128 + 11, signal: null });
    expect(await bulla(shell('kill -USR1 $$; sleep 10'))).toMatchObject({ code: 128 + 10, signal: null });
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const)(
    'passes %s on, and the program decides what becomes of it',
    async (signal) => {
      const child = start(
        shell(`trap 'echo got; exit 5' ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`),
      );
      let shown = '';
      child.stdout.on('data', (piece: Buffer) => {
        if (shown === '') child.kill(signal);
        shown += piece.toString();
      });
      expect(await once(child, 'exit')).toEqual([5, null]);
      await expect.poll(() => shown).toBe('ready\ngot\n');
    },
  );

  test('hands through standard input and large outputs, to the last byte', async () => {
    const input = Buffer.alloc(8 * 1024 * 1024, 'abcdefg');
    const child = start(shell('cat; cat /dev/null >&2'), { input });
    const [output, [code]] = await Promise.all([buffer(child.stdout), once(child, 'exit')]);
    expect(code).toBe(0);
    expect(output.equals(input)).toBe(true);
  });

  test('a program that is not there or cannot be run is 127 and 126, as in a shell', async () => {
    const run = (program: string) => bulla(['run', '--prefix', 'run/app', '--', program, 'argument']);
    writeFileSync(file('plain'), 'no program', { mode: 0o644 });
    expect(await run('no-such-program')).toMatchObject({
      code: 127,
      stderr: 'bulla: no-such-program cannot be started (ENOENT).\n',
    });
    expect(await run(file('plain'))).toMatchObject({ code: 126 });
  });

  test('a variable that makes programs load code is refused, unless that is asked for by name', async () => {
    const args = (...options: string[]) => [
      'run',
      '--prefix',
      'run/unsafe',
      ...options,
      '--',
      'printenv',
      'NODE_OPTIONS',
    ];
    const refused = await bulla(args());
    expect(refused).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('NODE_OPTIONS') });
    expect(refused.stderr).not.toContain('/tmp/x');
    expect(await bulla(args('--except', 'NODE_OPTIONS'))).toMatchObject({ code: 1, stdout: '' });
    expect((await bulla(args('--allow-unsafe-env'))).stdout).toBe('--require /tmp/x\n');
  });

  test('a secret too large for an environment is named, and can be left out', async () => {
    const args = (...options: string[]) => [
      'run',
      '--prefix',
      'run/big',
      '--prefix',
      'run/app',
      ...options,
      '--',
      'printenv',
      'API',
    ];
    expect(await bulla(args())).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('--except BLOB'),
    });
    expect(await bulla(args('--except', 'BLOB'))).toMatchObject({ code: 0, stdout: 'api-key\n' });
  });

  test('the program is not started when there is nothing to give it', async () => {
    const args = ['run', '--prefix', 'run/typo', '--', 'touch', file('started')];
    expect(await bulla(args)).toMatchObject({ code: 5 });
    expect(await bulla(['run', '--', 'touch', file('started')])).toMatchObject({ code: 2 });
    expect(
      await bulla(['run', '--path', 'run/app/api', '--path', 'no/such', '--', 'touch', file('started')]),
    ).toMatchObject({ code: 5 });
    expect(existsSync(file('started'))).toBe(false);
    expect((await bulla(['run', '--path', 'run/app/api', '--', 'printenv', 'RUN_APP_API'])).stdout).toBe('api-key\n');
  });
});

describe('the process', () => {
  test('bash completes commands, sub-commands, options and shells, and nothing after --', async () => {
    writeFileSync(file('bulla.bash'), (await here(words('completion bash'))).stdout);
    const complete = (line: string) => {
      const typed = line.split(' ');
      const script = `source ${file('bulla.bash')}; COMP_WORDS=(${typed.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${typed.length - 1}; _bulla; echo "\${COMPREPLY[@]}"`;
      return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).trim();
    };
    expect(complete('bulla se')).toBe('server secret session service seal');
    expect(complete('bulla secret ')).toBe('get put patch list history delete undelete destroy metadata move');
    expect(complete('bulla --json secret --address x u')).toBe('undelete');
    expect(complete('bulla secret put p --k')).toBe('--key --key-file');
    expect(complete('bulla completion ')).toBe('bash zsh fish');
    expect(complete('bulla run -- ')).toBe('');
    for (const shell of ['zsh', 'fish']) expect((await here(['completion', shell])).stdout).toContain('root-key');
  });

  test('T-127 SIGUSR1 opens no debugger', async () => {
    const server = createServer((_, response) => {
      // It waits for this answer, so it is running; without a trap Node says here where its debugger listens.
      child.kill('SIGUSR1');
      setTimeout(() => response.writeHead(404).end(), 500);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const child = start(words('status'), { env: { BULLA_ADDR: address } });
    const [stderr, ended] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    server.close();
    expect(ended).toEqual([1, null]);
    expect(stderr).toMatch(/^bulla: .* answered 404/);
  });

  test('a reader that has seen enough ends it without a word', async () => {
    const [code, stderr] = await new Promise<[number, string]>((done) => {
      const command = `"${process.execPath}" "${MAIN}" secret list --recursive --json; echo $? >&2`;
      const child = spawn('sh', ['-c', `{ ${command}; } | true`], {
        env: environment({}),
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const said = text(child.stderr);
      child.once('exit', async (status) => done([status ?? -1, await said]));
    });
    expect([code, ['0\n', '141\n'].includes(stderr)]).toEqual([0, true]);
  });

  test('says its version, and help that names every command', async () => {
    expect((await here(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const { code, stdout } = await here(['--help']);
    expect(code).toBe(0);
    for (const name of words(
      'server login logout status secret run key root-key tenant user policy audit completion',
    )) {
      expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
    }
  });
});
