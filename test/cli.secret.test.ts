/** Secrets on the command line: what goes in comes out, nothing is shown that is one, and every failure has its code. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../src/cli/program.ts';
import { loadClientConfig } from '../src/config-client.ts';
import { admin, CANARY, directory, environment, file, here, ownShell, vault, words } from './shell.ts';

ownShell();

describe('secrets', () => {
  test('a JSON object comes out as the text that went in', async () => {
    const input = '{"url": "postgres://x", "big": 123456789012345678901, "float": 1.0, "none": null, "url2": "a\\"b"}';
    expect((await here(words('secret put cli/data --data'), { input })).stdout).toBe('Stored cli/data, version 1.\n');
    expect((await here(words('secret get cli/data'))).stdout).toBe(input);
    const key = async (name: string) => (await here(['secret', 'get', 'cli/data', '--key', name])).stdout;
    expect(await Promise.all(['url', 'big', 'float', 'none', 'url2'].map(key))).toEqual([
      'postgres://x',
      '123456789012345678901',
      '1.0',
      '',
      'a"b',
    ]);
    expect(await here(words('secret get cli/data --key nothing'))).toMatchObject({ code: 5, stdout: '' });
    expect((await here(words('secret get cli/data --json'))).stdout).toContain(`"data":${input}`);
  });

  test('texts and bytes come out exactly as they went in', async () => {
    const bytes = Buffer.from(Array.from({ length: 1000 }, (_, i) => i % 256));
    await here(words('secret put cli/text --text'), { input: '  grüße \n\n' });
    expect((await here(words('secret get cli/text'))).stdout).toBe('  grüße \n\n');
    writeFileSync(file('in'), bytes);
    await here(['secret', 'put', 'cli/bytes', '--bytes', '--content-type', 'x/y', '--file', file('in')]);
    expect((await here(words('secret get cli/bytes'))).bytes).toEqual(bytes);
    await here(['secret', 'get', 'cli/bytes', '--out', file('out')]);
    expect(readFileSync(file('out'))).toEqual(bytes);
    expect(statSync(file('out')).mode & 0o777).toBe(0o600);
    expect((await here(words('secret put cli/text --text'), { input: Buffer.from([0xff]) })).code).toBe(2);
  });

  test('a file that others could read is replaced by one that they cannot', async () => {
    await here(words('secret put cli/text --text'), { input: 'x' });
    writeFileSync(file('out'), 'old', { mode: 0o644 });
    await here(['secret', 'get', 'cli/text', '--out', file('out')]);
    expect(statSync(file('out')).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(['out']);
    expect(await here(['secret', 'get', 'cli/text', '--out', file('no/such')])).toMatchObject({ code: 2 });
  });

  test('keys from standard input, files and .env files', async () => {
    await here(words('secret put cli/key --key password'), { input: 'hunter2\n' });
    expect((await admin.secrets.get('cli/key')).data).toEqual({ password: 'hunter2' });
    writeFileSync(file('cert.pem'), 'CERT\n');
    writeFileSync(file('key.pem'), 'KEY\n');
    await here([
      'secret',
      'put',
      'cli/tls',
      '--key-file',
      `cert=${file('cert.pem')}`,
      '--key-file',
      `key=${file('key.pem')}`,
    ]);
    expect((await admin.secrets.get('cli/tls')).data).toEqual({ cert: 'CERT\n', key: 'KEY\n' });
    writeFileSync(file('.env'), '# c\nA=1\nexport B="two\nlines"\nC=\'$x\'\n');
    await here(['secret', 'put', 'cli/env', '--env-file', file('.env')]);
    expect((await admin.secrets.get('cli/env')).data).toEqual({ A: '1', B: 'two\nlines', C: '$x' });
    await here(words('secret patch cli/env --key D --remove A'), { input: 'four' });
    expect((await admin.secrets.get('cli/env')).data).toEqual({ B: 'two\nlines', C: '$x', D: 'four' });
    await here(words('secret patch cli/env'), { input: '{"C": null, "E": {"f": 1}}' });
    expect((await admin.secrets.get('cli/env')).data).toEqual({ B: 'two\nlines', D: 'four', E: { f: 1 } });
  });

  test('at a terminal a value is asked for twice and never shown', async () => {
    const answers: [string, string][] = [
      ['Value of password', `wrong\u0015${CANARY}x\u007f\r`],
      ['Value of password (again)', `${CANARY}\u001b[A\r`],
    ];
    const ended = await here(words('secret put cli/typed --key password'), { answers });
    expect(ended).toMatchObject({ code: 0, raw: [true, false, true, false] });
    expect(ended.stdout + ended.stderr).not.toContain('canary');
    expect((await admin.secrets.get('cli/typed')).data).toEqual({ password: CANARY });
    const differ = await here(words('secret put cli/typed --key password'), {
      answers: [
        ['Value of password', 'a\r'],
        ['Value of password (again)', 'b\r'],
      ],
    });
    expect(differ.code).toBe(2);
    expect(await here(words('secret put cli/typed --key p'), { answers: [['Value of p', 'a\u0003']] })).toMatchObject({
      code: 130,
    });
  });

  test('what the input is has to be said, and only once', async () => {
    for (const kind of [
      '',
      ' --data --text',
      ' --text --key k',
      ' --text --content-type x/y',
      ' --text --cas 1 --if-absent',
    ]) {
      expect((await here(words(`secret put cli/x${kind}`), { input: '{}' })).code).toBe(2);
    }
    expect((await here(words('secret put cli/x --data'), { input: '{"a":1,"a":2}' })).code).toBe(2);
    expect((await here(words('secret put cli/x --data'), { input: '[]' })).code).toBe(2);
  });

  test('check-and-set, history, delete, undelete, destroy, metadata and move', async () => {
    expect((await here(words('secret put cli/v --text --if-absent'), { input: '1' })).code).toBe(0);
    expect((await here(words('secret put cli/v --text --if-absent'), { input: '2' })).code).toBe(6);
    expect(
      (await here(words('secret put cli/v --text --cas 1 --ttl 1h --metadata owner=me'), { input: '2' })).code,
    ).toBe(0);
    expect((await here(words('secret get cli/v --version 1'))).stdout).toBe('1');
    await here(words('secret delete cli/v --versions 1'));
    const history = async () => JSON.parse((await here(words('secret history cli/v --json'))).stdout);
    expect((await history()).map(({ state }: { state: string }) => state)).toEqual(['readable', 'deleted']);
    expect((await here(words('secret get cli/v --version 1'))).code).toBe(5);
    await here(words('secret undelete cli/v --versions 1'));
    expect((await here(words('secret get cli/v --version 1'))).stdout).toBe('1');
    expect((await here(words('secret destroy cli/v --versions 1'))).code).toBe(2);
    const answers: [string, string][] = [
      ['Destroy version 1 of cli/v for good? This cannot be undone. Type cli/v to go on', 'cli/v\r'],
    ];
    expect((await here(words('secret destroy cli/v --versions 1'), { answers })).code).toBe(0);
    expect((await history()).map(({ state }: { state: string }) => state)).toEqual(['readable', 'destroyed']);
    const changed = await here(
      words('secret metadata cli/v --set team=web --unset owner --versions-kept 3 --delete-after 2h --json'),
    );
    expect(JSON.parse(changed.stdout)).toMatchObject({
      metadata: { team: 'web' },
      versions_kept: 3,
      delete_after: 7200,
    });
    await here(words('secret metadata cli/v --cas-required --delete-after 0'));
    const settled = (await here(words('secret metadata cli/v'))).stdout;
    expect(settled).toMatch(/cas required:\s+yes/);
    expect(settled).toMatch(/delete after:\s+never/);
    await here(words('secret metadata cli/v --no-cas-required'));
    expect((await here(words('secret move cli/v cli/w'))).code).toBe(0);
    expect((await here(words('secret destroy cli/w --all --yes'))).code).toBe(0);
    expect((await here(words('secret metadata cli/w'))).code).toBe(5);
  });

  test('listing shows paths for people and JSON for programs', async () => {
    await admin.secrets.put('list/a/b', { text: CANARY });
    await admin.secrets.put('list/c', { text: CANARY });
    const people = (await here(words('secret list list'))).stdout.split('\n');
    expect(people.map((line) => line.split(/\s+/)[0])).toEqual(['PATH', 'list/a/', 'list/c', '']);
    const programs = JSON.parse((await here(words('secret list list --recursive --json'))).stdout);
    expect(programs.map(({ path }: { path: string }) => path)).toEqual(['list/a/b', 'list/c']);
    expect(JSON.stringify(programs) + people).not.toContain(CANARY);
    expect((await here(words('secret list nothing --json'))).stdout).toBe('[]\n');
  });

  test('bytes that would steer a terminal are not written to one', async () => {
    await admin.secrets.put('cli/esc', { text: 'a\u001b[31mb' });
    const stdout = Object.assign(new PassThrough(), { isTTY: true });
    const stderr = new PassThrough();
    const io = { stdin: new PassThrough(), stdout, stderr };
    const program = { io, config: loadClientConfig(environment({})), serve: async () => 0 };
    expect(await runProgram(words('secret get cli/esc'), program)).toBe(2);
    expect(stdout.read()).toBe(null);
    await admin.secrets.put('cli/esc', { text: 'plain' });
    expect(await runProgram(words('secret get cli/esc'), program)).toBe(0);
    expect(stdout.read().toString()).toBe('plain\n');
  });
});

describe('exit codes', () => {
  test.each([
    [0, 'secret list'],
    [2, 'secret get'],
    [2, 'secret'],
    [2, 'nothing'],
    [2, 'secret get a//b'],
    [2, 'secret list --limit 3'],
    [4, 'tenant list'],
    [5, 'secret get no/such'],
    [7, '--address http://127.0.0.1:1 --json secret list'],
  ])('%i for: bulla %s', async (code, command) => {
    expect((await here(words(command))).code).toBe(code);
  });

  test('3 without a token', async () => {
    const ended = await here(words('secret list'), { token: null });
    expect(ended).toMatchObject({ code: 3, stderr: expect.stringContaining('bulla login') });
  });

  test('an error for a program is one JSON object with the server’s code and request id', async () => {
    const ended = await here(words('secret get no/such --json'));
    expect(JSON.parse(ended.stderr)).toMatchObject({
      error: { code: 'not_found', status: 404, request_id: expect.any(String) },
    });
    expect(ended.stdout).toBe('');
  });
});

describe('T-245, T-229 secrets on the command line', () => {
  test('a value as an argument is refused and not repeated', async () => {
    for (const args of [
      ['secret', 'put', 'cli/x', `password=${CANARY}`],
      ['secret', 'put', 'cli/x', `--password=${CANARY}`],
      ['secret', 'put', 'cli/x', '--text', CANARY],
      ['login', 'default', 'admin', CANARY],
      ['login', '--token', CANARY],
      [CANARY],
    ]) {
      const ended = await here(args);
      expect(ended.code).toBe(2);
      expect(ended.stdout + ended.stderr).not.toContain(CANARY);
    }
  });

  test('no option of any command takes a password, token or value', async () => {
    const { stdout } = await here(['completion', 'bash']);
    const options = new Set(stdout.match(/--[a-z-]+/g));
    const names = [...options].filter((name) => /pass|token|secret|value|credential/.test(name));
    // Flags, which take no value: `issuer put --client-secret`, `login --print-token`, `run --pass-token`, `user create --password`, `service secret create --print-secret`,
    // `pepper … --end-passwords`; and what takes a duration or a number: `certificate-role put --token-ttl`, `tenant quota --secrets`.
    const flags = [
      '--client-secret',
      '--end-passwords',
      '--pass-token',
      '--password',
      '--print-secret',
      '--print-token',
    ];
    expect(names.sort()).toEqual([...flags, '--secrets', '--token-ttl']);
    const help = (await here(words('user create --help'))).stdout + (await here(words('run --help'))).stdout;
    expect(help).not.toMatch(/--(pass-token|password) </);
  });

  test('a PUT that fails shows nothing of its value', async () => {
    const ended = await here(words('secret put cli/x --data'), { input: `{"a": "${CANARY}", "a": 1}` });
    expect(ended.code).toBe(2);
    expect(ended.stdout + ended.stderr).not.toContain(CANARY);
    const down = await here(words('--address http://127.0.0.1:1 secret put cli/x --text'), { input: CANARY });
    expect(down.stdout + down.stderr).not.toContain(CANARY);
    expect(down.stdout + down.stderr).not.toContain(vault.admin);
  });
});
