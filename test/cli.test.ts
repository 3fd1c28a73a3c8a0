/**
 * The command line against a real vault: as real processes where arguments, environment, signals and exit codes matter,
 * and within this process, with streams in place of a terminal, where answers and output do.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { SignJWT } from 'jose';
import { Secret, TOTP } from 'otpauth';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runProgram } from '../src/cli/program.ts';
import { Bulla } from '../src/client/index.ts';
import { loadClientConfig } from '../src/config-client.ts';
import { createApp } from '../src/http/app.ts';
import { type Listener, listen } from '../src/http/listener.ts';
import { startJobs } from '../src/job/kinds.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';

const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const CANARY = 'canary-c4f1-value';

let vault: TestVault;
let listener: Listener;
let admin: Bulla;
let directory: string;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  vault = await testVault();
  listener = await listen(vault.vault, createApp(vault.vault), vault.config);
  admin = new Bulla({ address: listener.address, token: vault.admin });
});
afterAll(async () => {
  admin?.close();
  await listener?.close();
  await vault?.close();
});
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'bulla-cli-'));
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
  rmSync(directory, { recursive: true, force: true });
});

type Ended = { code: number | null; signal: string | null; stdout: string; stderr: string };
type Options = { input?: string | Buffer; env?: Record<string, string>; token?: string | null };

function environment({ env = {}, token = vault.admin }: Options): Record<string, string> {
  const base = { PATH: process.env.PATH!, BULLA_ADDR: listener.address, XDG_STATE_HOME: join(directory, 'state') };
  return { ...base, ...(token === null ? {} : { BULLA_TOKEN: token }), ...env };
}

/** A real process; its standard input stays open unless there is input. */
function start(args: readonly string[], options: Options = {}) {
  const child = spawn(process.execPath, [MAIN, ...args], { cwd: directory, env: environment(options), stdio: 'pipe' });
  children.add(child);
  if (options.input !== undefined) child.stdin.end(options.input);
  return child;
}

async function bulla(args: readonly string[], options: Options = {}): Promise<Ended> {
  const child = start(args, { input: '', ...options });
  const [stdout, stderr, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  return { code, signal, stdout, stderr };
}

type Stream = PassThrough & { isTTY?: boolean; setRawMode?: (on: boolean) => void };

/** Within this process; `answers` are typed into a terminal as its questions come. */
async function here(args: readonly string[], options: Options & { answers?: [question: string, keys: string][] } = {}) {
  const stdin: Stream = new PassThrough();
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const raw: boolean[] = [];
  if (options.answers === undefined) stdin.end(options.input ?? '');
  else Object.assign(stdin, { isTTY: true, setRawMode: (on: boolean) => raw.push(on) });
  const answers = [...(options.answers ?? [])];
  let asked = '';
  stderr.on('data', (piece: Buffer) => {
    asked += piece.toString();
    const next = answers[0];
    if (next === undefined || !asked.endsWith(`${next[0]}: `)) return;
    answers.shift();
    stdin.write(next[1]);
  });
  const shown = buffer(stdout);
  const program = {
    io: { stdin, stdout, stderr },
    config: loadClientConfig(environment(options)),
    serve: async () => 0,
  };
  const code = await runProgram(args, program);
  stdout.end();
  return { code, bytes: await shown, stdout: (await shown).toString(), stderr: asked, raw };
}

const file = (name: string) => join(directory, name);
const words = (line: string) => line.split(' ');

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

describe('login', () => {
  test('keeps the token in a file of one’s own, and logout ends and forgets it', async () => {
    const login = await here(words('login default admin'), { input: `${PASSWORD}\n`, token: null });
    expect(login).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Logged in to default as admin until /) });
    const kept = file('state/bulla/token.json');
    expect([statSync(kept).mode & 0o777, statSync(file('state/bulla')).mode & 0o777]).toEqual([0o600, 0o700]);
    const { token } = JSON.parse(readFileSync(kept, 'utf8')).tokens[listener.address];
    expect(login.stdout + login.stderr).not.toContain(token);
    expect((await here(words('status'), { token: null })).stdout).toMatch(/username:\s+admin/);
    expect((await here(words('logout'), { token: null })).code).toBe(0);
    expect(JSON.parse(readFileSync(kept, 'utf8')).tokens).toEqual({});
    expect((await here(words('user list'), { token: null })).code).toBe(3);
    expect((await here(words('user list'), { token })).code).toBe(3);
  });

  test('prints only the token when asked, and keeps nothing', async () => {
    const { stdout } = await here(words('login default admin --print-token'), { input: PASSWORD, token: null });
    expect((await here(words('user list'), { token: stdout.trim() })).code).toBe(0);
    expect(existsSync(file('state'))).toBe(false);
  });

  test('at a terminal asks without echo, and for a new password where one is due', async () => {
    const { one_time_password: once } = await admin.users.create({ username: 'fresh', policies: ['reader'] });
    const next = `${PASSWORD} ${CANARY}`;
    const ended = await here(words('login'), {
      token: null,
      answers: [
        ['Username', 'fresh\r'],
        ['Password', `${once}\r`],
        ['New password', `${next}\r`],
        ['New password (again)', `${next}\r`],
      ],
    });
    expect(ended.code).toBe(0);
    expect(ended.stdout + ended.stderr).not.toContain(CANARY);
    expect(ended.stdout + ended.stderr).not.toContain(once);
    const json = await here(words('login default fresh --json'), { input: next, token: null });
    expect(JSON.parse(json.stdout)).toMatchObject({ username: 'fresh', password_change_required: false });
    expect(json.stdout).not.toContain('"token"');
  });

  test('without a terminal takes the new password from the second line', async () => {
    const { one_time_password: once } = await admin.users.create({ username: 'robot', policies: ['reader'] });
    const ended = await here(words('login default robot'), { input: `${once}\n${PASSWORD}\n`, token: null });
    expect(ended.code).toBe(0);
    const short = await here(words('login default robot'), { input: '', token: null });
    expect(short).toMatchObject({ code: 2, stderr: expect.stringContaining('Standard input ended') });
  });

  test('a wrong password is code 3, and neither it nor the name of the user is repeated', async () => {
    const ended = await here(words('login default admin'), { input: CANARY, token: null });
    expect(ended).toMatchObject({ code: 3, stdout: '' });
    expect(ended.stderr).not.toContain(CANARY);
    await admin.users.unlock('admin');
  });

  test('a token file that others can read is refused', async () => {
    mkdirSync(file('state/bulla'), { recursive: true });
    writeFileSync(file('state/bulla/token.json'), '{"version":1,"tokens":{}}');
    chmodSync(file('state/bulla/token.json'), 0o644);
    expect(await here(words('user list'), { token: null })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('can be read'),
    });
  });

  test('one’s own password is changed and the login goes on', async () => {
    await vault.user('changer', ['reader']);
    await here(words('login default changer'), { input: PASSWORD, token: null });
    const next = `${PASSWORD} 2`;
    expect((await here(words('user password'), { input: `${PASSWORD}\n${next}\n`, token: null })).code).toBe(0);
    expect((await here(words('status --json'), { token: null })).stdout).toContain('"username": "changer"');
  });
});

describe('second factors and sessions', () => {
  const shows = (secret: string, steps = 0) =>
    new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + steps * 30_000 });

  test('from enrolment to a login with a code, a recovery code, and back', async () => {
    await vault.user('careful', ['reader']);
    const mine = (line: string, input = '') => here(words(line), { input, token: null });
    expect((await mine('login default careful', PASSWORD)).code).toBe(0);
    const shown = await mine('totp enrol', PASSWORD);
    expect([shown.code, shown.stderr]).toEqual([0, expect.stringContaining('bulla totp confirm')]);
    expect(shown.stdout).toMatch(/▄▄▄▄▄[\s\S]*otpauth:\/\/totp\/Bulla:careful/);
    const { secret } = JSON.parse((await mine('totp enrol --json', PASSWORD)).stdout);
    const code = shows(secret, -1);
    const confirmed = await mine('totp confirm --json', `${code.slice(0, 3)} ${code.slice(3)}`);
    const { recovery_codes: codes } = JSON.parse(confirmed.stdout) as { recovery_codes: string[] };
    expect(codes).toHaveLength(10);
    expect((await mine('totp show')).stdout).toMatch(/state:\s+active/);
    expect((await mine('login default careful', `${PASSWORD}\n000000`)).code).toBe(3);
    expect((await mine('login default careful', `${PASSWORD}\n${shows(secret)}`)).code).toBe(0);
    expect((await mine('login default careful', `${PASSWORD}\n${codes[0]}`)).code).toBe(0);
    expect((await mine('totp recovery-codes', codes[1])).stdout).toMatch(/(\n {2}([a-z2-7]{5}-?){5}){10}\n/);
    expect((await mine('session elevate', shows(secret, 1))).code).toBe(0);
    const sessions = JSON.parse((await mine('session list --json')).stdout) as { current: boolean }[];
    expect(sessions.map(({ current }) => current).sort()).toEqual([false, false, true]);
    expect((await mine('session end --others')).stdout).toBe('Other sessions ended: 2.\n');
    expect((await mine('session end')).code).toBe(2);
    expect((await here(words('user remove-totp careful'))).code).toBe(0);
    expect((await mine('session list')).code).toBe(3);
    expect((await mine('login default careful', PASSWORD)).code).toBe(0);
  });

  test('a user of whom one is required is told so, and does nothing else', async () => {
    const made = await here(words('user create strict --generate --json'));
    const { generated_password: generated } = JSON.parse(made.stdout);
    expect(generated).toMatch(/^[a-z]+(-[a-z]+){5}$/);
    const required = await here(words('user update strict --require-totp'));
    expect(required.stdout).toMatch(/second factor:\s+no, but required/);
    const login = await here(words('login default strict'), { input: generated, token: null });
    expect([login.code, login.stderr]).toEqual([0, expect.stringContaining('bulla totp enrol')]);
    const refused = await here(words('secret list'), { token: null });
    expect([refused.code, refused.stderr]).toEqual([4, expect.stringContaining('bulla totp enrol')]);
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
    expect(ended.stdout).toBe(`postgres://${CANARY} 5432 api-key kept ${listener.address}\n`);
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

describe('administration', () => {
  test('users, with one-time passwords that are shown once', async () => {
    const made = await here(words('user create ann --policy reader --policy auditor'));
    expect(made.stdout).toMatch(/one-time password:\s+\S+/);
    expect((await here(words('user show ann'))).stdout).not.toMatch(/one-time/);
    const own = await here(words('user create bob --password --json'), { input: `${PASSWORD} b\n` });
    expect(JSON.parse(own.stdout)).toMatchObject({ username: 'bob', policies: [], password_change_required: false });
    expect((await here(words('login default bob --print-token'), { input: `${PASSWORD} b`, token: null })).code).toBe(
      0,
    );
    expect((await here(words('user update bob --disable --policy reader'))).stdout).toMatch(/state:\s+disabled/);
    expect((await here(words('user update bob --enable --no-policies'))).stdout).toMatch(/policies:\s+-/);
    expect((await here(words('user update bob'))).code).toBe(2);
    expect((await here(words('user password bob'))).stdout).toMatch(/one-time password:/);
    expect((await here(words('user password bob --set'), { input: `${PASSWORD} c\n` })).stdout).not.toMatch(/one-time/);
    expect((await here(words('user list'))).stdout).toMatch(/^ann\s+reader, auditor\s+must change password/m);
    expect((await here(words('user unlock bob'))).code).toBe(0);
    expect((await here(words('user delete bob'))).code).toBe(0);
    expect((await here(words('user show bob'))).code).toBe(5);
    expect((await here(words('user create ann'))).code).toBe(6);
  });

  test('policies go in as they come out', async () => {
    const rules = '{"rules":[{"effect":"allow","actions":["secret.read"],"resources":["secret:a/**"]}]}';
    expect((await here(words('policy put web'), { input: rules })).stdout).toBe('Stored the policy web, revision 1.\n');
    const shown = (await here(words('policy show web'))).stdout;
    expect((await here(words('policy put web --if-revision 1'), { input: shown })).code).toBe(0);
    expect((await here(words('policy put web --if-revision 1'), { input: shown })).code).toBe(6);
    // The text goes as it is, so the server sees and refuses what a parser here would hide.
    expect(
      (await here(words('policy put web'), { input: rules.replace('{"effect"', '{"effect":"deny","effect"') })).code,
    ).toBe(2);
    expect((await here(words('policy list'))).stdout).toMatch(/^web\s+2\s+no/m);
    expect((await here(words('policy delete web'))).code).toBe(0);
    expect((await here(words('policy delete admin'))).code).toBe(6);
  });

  test('groups, approvals, explanations, dry runs and quotas', async () => {
    const operator = { token: vault.operator };
    const put = (name: string, rules: object[], dry = '') =>
      here(words(`policy put ${name}${dry}`), { input: JSON.stringify({ rules }) });
    const rule = { effect: 'allow', actions: ['secret.read'], resources: ['secret:vaulted/**'] };
    await here(words('secret put vaulted/root --text'), { input: 'the value behind two people' });
    await put('custodians', []);
    await put('vaulted', [{ ...rule, approval: { by: 'custodians', within: '1h' } }]);
    const [asker, keeper] = [await vault.user('asker', []), await vault.user('keeper', ['custodians'])];
    expect((await here(words('group create askers -p vaulted -m asker'))).stdout).toMatch(/members:\s+1/);
    expect((await here(words('group members askers'))).stdout).toMatch(/^asker\s+person/m);
    expect((await here(words('group list'))).stdout).toMatch(/^askers\s+vaulted\s+1/m);
    expect((await here(words('user show asker'))).stdout).toMatch(/groups:\s+askers/);
    const waits = await here(words('secret get vaulted/root'), { token: asker });
    expect([waits.code, waits.stderr]).toEqual([4, expect.stringContaining('bulla approval request')]);
    const asked = await here(words('approval request secret.read vaulted/root --json'), { token: asker });
    const { id } = JSON.parse(asked.stdout) as { id: string };
    expect((await here(words(`approval approve ${id}`), { token: asker })).code).toBe(4);
    expect((await here(words('approval list --open'), { token: keeper })).stdout).toMatch(
      /secret:vaulted\/root \(1\)\s+open/,
    );
    expect((await here(words(`approval approve ${id}`), { token: keeper })).stdout).toMatch(/state:\s+approved/);
    expect((await here(words('secret get vaulted/root'), { token: asker })).stdout).toContain('behind two people');
    expect((await here(words(`approval show ${id}`), { token: asker })).stdout).toMatch(/state:\s+used/);
    expect((await here(words('secret get vaulted/root'), { token: asker })).code).toBe(4);
    const second = JSON.parse(
      (await here(words('approval request secret.read vaulted/root --json'), { token: asker })).stdout,
    );
    expect((await here(words(`approval cancel ${second.id}`), { token: asker })).code).toBe(0);
    expect((await here(words('policy explain secret.read vaulted/root --user asker'))).stdout).toMatch(
      /approvals:\s+1 of custodians/,
    );
    expect((await here(words('policy explain secret.write vaulted/root'), { token: asker })).stdout).toMatch(
      /would allow it:\s+allow secret\.write on secret:vaulted\/root/,
    );
    expect((await put('vaulted', [rule], ' --dry-run')).stdout).toMatch(/^1 hold it[\s\S]*asker \+ allow secret\.read/);
    expect((await here(words('policy history vaulted'))).stdout).toMatch(/^1\s+1\s+1\s+admin/m);
    expect((await here(words('group remove askers asker'))).stdout).toMatch(/members:\s+0/);
    expect((await here(words('group add askers asker keeper'))).stdout).toMatch(/members:\s+2/);
    expect((await here(words('group update askers --no-policies'))).stdout).toMatch(/policies:\s+-/);
    expect((await here(words('group delete askers'))).code).toBe(0);
    const quota = 'tenant quota default --secrets 5000 --requests-per-second any --account-requests-per-second 100000';
    expect((await here(words(quota), operator)).stdout).toMatch(/of 5000[\s\S]*requests:\s+any/);
    expect((await here(words('tenant quota default'), operator)).code).toBe(2);
    await here(words('tenant quota default --account-requests-per-second any'), operator);
  });

  test('tenants and keys', async () => {
    const operator = { token: vault.operator };
    const made = await here(words('tenant create acme --admin boss --json'), operator);
    expect(JSON.parse(made.stdout)).toMatchObject({
      name: 'acme',
      admin: { username: 'boss', one_time_password: expect.any(String) },
    });
    expect((await here(words('tenant suspend acme'), operator)).stdout).toMatch(/state:\s+suspended/);
    expect((await here(words('tenant resume acme'), operator)).stdout).toMatch(/state:\s+active/);
    expect((await here(words('tenant list'), operator)).stdout).toMatch(/^acme/m);
    expect((await here(words('tenant delete acme'), operator)).code).toBe(2);
    expect((await here(words('tenant delete acme --yes'), operator)).code).toBe(0);
    expect((await here(words('tenant show acme'), operator)).code).toBe(5);
    expect((await here(words('key rotate'))).stdout).toBe(
      `New writes use version 2 (${JSON.parse((await here(words('key list --json'))).stdout)[0].fingerprint}).\n`,
    );
    expect((await here(words('key list'))).stdout).toMatch(/^1\s+decrypt_only/m);
    expect((await here(words('key destroy 2 --yes'))).code).toBe(6);
    const jobs = startJobs(vault.vault);
    const moved = await here(words('key rotate --reencrypt'));
    await jobs.stop();
    expect([moved.code, moved.stdout]).toEqual([
      0,
      expect.stringMatching(/New writes use version 3[\s\S]*state:\s+done/),
    ]);
    const [job] = JSON.parse((await here(words('job list --json'))).stdout);
    expect((await here(words(`job show ${job.id}`))).stdout).toMatch(/"destroyed":\[\{/);
    expect((await here(words(`job cancel ${job.id}`))).code).toBe(6);
    expect((await here(words(`job resume ${job.id}`))).code).toBe(6);
    expect((await here(words('key list'))).stdout).toMatch(/^3\s+active[\s\S]*^2\s+destroyed[\s\S]*^1\s+destroyed/m);
    expect((await here(words('pepper rotate'), operator)).stdout).toBe('New passwords use pepper version 2.\n');
    expect((await here(words('pepper list'), operator)).stdout).toMatch(/^2\s+active\s+0[\s\S]*^1\s+retiring\s+\d/m);
    expect((await here(words('pepper users 1'), operator)).stdout).toMatch(/^default\s+admin/m);
    expect((await here(words('pepper destroy 1 --yes'), operator)).code).toBe(6);
    expect((await here(words('root-key rotate'), operator)).stdout).toMatch(/version 1 is destroyed/);
    expect((await here(words('root-key list'), operator)).stdout).toMatch(/^2\s+active/m);
  });
});

describe('issuers and login roles', () => {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwks = JSON.stringify({ keys: [{ ...keys.publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256' }] });
  const ISSUER = 'https://ci.example';
  const sign = (claims: Record<string, string>) =>
    new SignJWT({ iss: ISSUER, aud: 'vault', sub: 'job', ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'one' })
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(keys.privateKey);
  const role = (rest: object = {}) =>
    JSON.stringify({
      ...{ issuer: 'ci', audiences: ['vault'], token_ttl: '15m' },
      ...{ rules: [{ claims: { repository: ['acme/web'] }, policies: ['reader'] }], ...rest },
    });
  const issuer = (rest = '') =>
    here(words(`issuer put ci ${ISSUER} --jwks ${file('jwks')} --algorithm ES256 --clock-skew 1m${rest}`), {
      input: CANARY,
    });

  beforeEach(() => writeFileSync(file('jwks'), jwks));

  test('an issuer is stored with its keys and its client, shown without the secret, and deleted', async () => {
    const stored = await issuer(' --client-id vault --client-secret --redirect-uri http://127.0.0.1/cb --scope openid');
    expect(stored).toMatchObject({ code: 0, stdout: 'Stored the issuer ci, revision 1.\n' });
    const shown = await here(words('issuer show ci'));
    expect(shown.stdout).toMatch(
      /issuer: +https:\/\/ci\.example\nkeys: +1\nalgorithms: +ES256\nclient: +vault, with a secret\n/,
    );
    expect(shown.stdout).toMatch(/clock skew: +1m/);
    const whole = JSON.parse((await here(words('issuer show ci --json'))).stdout);
    expect(whole).toMatchObject({ name: 'ci', client: { id: 'vault', confidential: true }, clock_skew_seconds: 60 });
    const list = await here(words('issuer list'));
    expect(list.stdout).toMatch(/^ci\s+https:\/\/ci\.example\s+1\s+ES256/m);
    for (const { stdout, stderr } of [stored, shown, list]) expect(stdout + stderr).not.toContain(CANARY);
    expect(await issuer()).toMatchObject({ code: 0, stdout: 'Stored the issuer ci, revision 2.\n' });
    expect(await here(words('issuer delete ci'))).toMatchObject({ code: 0, stdout: 'Deleted the issuer ci.\n' });
    expect((await here(words('issuer show ci'))).code).toBe(5);
  });

  test('what is wrong is said without what was given: a client without its id, keys that are no JSON, no such file', async () => {
    const half = await here(words(`issuer put ci ${ISSUER} --client-secret`), { input: CANARY });
    expect(half).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('--client-id') });
    writeFileSync(file('jwks'), `{"keys": "${CANARY}`);
    const broken = await issuer();
    expect(broken).toMatchObject({ code: 2, stderr: expect.stringContaining('not JSON') });
    expect(half.stderr + broken.stderr).not.toContain(CANARY);
    expect((await here(words(`issuer put ci ${ISSUER} --jwks ${file('nowhere')}`))).code).toBe(2);
    expect((await here(words('issuer list --json'))).stdout).toBe('[]\n');
    expect((await here(words('login-role put early'), { input: role() })).code).not.toBe(0);
  });

  test('a login role is stored from standard input or a file, printed as it is taken, and logs in with a token', async () => {
    await issuer();
    const stored = await here(words('login-role put deploy'), { input: role() });
    expect(stored).toMatchObject({ code: 0, stdout: 'Stored the login role deploy, revision 1.\n' });
    const shown = (await here(words('login-role show deploy'))).stdout;
    expect(JSON.parse(shown)).toMatchObject({ kind: 'jwt', issuer: 'ci', audiences: ['vault'], token_ttl: 900 });
    writeFileSync(file('role'), shown);
    const again = await here(words(`login-role put deploy --file ${file('role')}`));
    expect(again).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^Stored the login role deploy, revision \d\.\n$/),
    });
    expect((await here(words('login-role list'))).stdout).toMatch(/^deploy\s+jwt\s+ci\s+vault\s+reader\s/m);

    const jwt = await sign({ repository: 'acme/web' });
    const entered = await here(words('login-role login deploy'), { input: `${jwt}\n`, token: null });
    expect(entered.stdout).toMatch(/^Logged in to default as ci-[a-z2-7]{16} until /);
    expect(entered.stdout + entered.stderr).not.toContain(jwt);
    expect((await here(words('status'), { token: null })).stdout).toMatch(/username:\s+ci-/);
    writeFileSync(file('jwt'), jwt);
    const printed = await here(words(`login-role login deploy --print-token --file ${file('jwt')}`), { token: null });
    const token = printed.stdout.trim();
    expect(token).toMatch(/^bulla_/);
    expect((await here(words('secret list'), { token })).code).toBe(0);
    expect((await here(words('user list'), { token })).code).toBe(4);

    const refused = await here(words('login-role login deploy'), {
      input: await sign({ repository: 'acme/db' }),
      token: null,
    });
    expect(refused).toMatchObject({ code: 3, stdout: '' });
    const elsewhere = { input: jwt, token: null, env: { BULLA_TENANT: 'nowhere' } };
    expect((await here(words('login-role login deploy'), elsewhere)).code).toBe(3);
    expect(await here(words('login-role delete deploy'))).toMatchObject({
      code: 0,
      stdout: 'Deleted the login role deploy.\n',
    });
    expect((await here(words('secret list'), { token })).code).toBe(3);
    expect((await here(words('login-role show deploy'))).code).toBe(5);
    await here(words('issuer delete ci'));
  });
});

describe('audit', () => {
  test('an export is whole and private, verifies offline, and a changed one is named with code 1', async () => {
    await admin.secrets.put('audit/x', { text: CANARY });
    expect((await here(['audit', 'export', file('log')])).code).toBe(0);
    expect(readdirSync(directory).sort()).toEqual(['log', 'log.checkpoint', 'log.tree']);
    expect(statSync(file('log')).mode & 0o777).toBe(0o600);
    const verify = (...args: string[]) =>
      bulla(['audit', 'verify', ...args], { token: null, env: { BULLA_ADDR: 'nonsense' } });
    expect(await verify(file('log'))).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^Whole and unchanged: \d+ entries/),
    });
    const whole = readFileSync(file('log'), 'utf8');
    expect(whole).toContain('secret:audit/x');
    expect(whole).not.toContain(CANARY);
    writeFileSync(file('log'), whole.replace('"ok"', '"no"'));
    expect(await verify(file('log'))).toMatchObject({ code: 1, stdout: expect.stringMatching(/^line 1 was edited/) });
    const json = JSON.parse((await verify(file('log'), '--json')).stdout);
    expect(json).toMatchObject({ ok: false, findings: [{ kind: 'edited', entries: [0, 0], lines: [1, 1] }] });
    rmSync(file('log.tree'));
    expect(await verify(file('log'))).toMatchObject({ code: 1, stdout: expect.stringContaining('do not add up') });
    rmSync(file('log.checkpoint'));
    expect(await verify(file('log'))).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('Only the numbering was checked'),
    });
    expect(await verify(file('nothing'))).toMatchObject({ code: 2 });
  });

  test('a filtered export leaves no older tree beside it to accuse it', async () => {
    await here(['audit', 'export', file('log')]);
    const { stdout } = await here(['audit', 'export', file('log'), '--action', 'secret.write', '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ tree: null });
    expect(readdirSync(directory)).toEqual(['log']);
    const lines = readFileSync(file('log'), 'utf8').trimEnd().split('\n');
    expect(new Set(lines.map((line) => JSON.parse(line).action))).toEqual(new Set(['secret.write']));
    await here(['audit', 'export', file('log.csv'), '--format', 'csv', '--limit', '2']);
    expect(readFileSync(file('log.csv'), 'utf8').trimEnd().split('\n')).toHaveLength(3);
  });

  test('a failed export leaves the file that was there', async () => {
    writeFileSync(file('log'), 'before');
    expect((await here(['audit', 'export', file('log')], { token: await vault.user('nobody', []) })).code).toBe(4);
    expect(readdirSync(directory)).toEqual(['log']);
    expect(readFileSync(file('log'), 'utf8')).toBe('before');
  });
});

describe('audit proofs', () => {
  const verify = (...args: string[]) => bulla(['audit', 'verify', ...args], { token: null });

  test('the log is verified against the key and an older checkpoint, and a part of it with --proof', async () => {
    writeFileSync(file('key'), (await here(['audit', 'key'])).stdout);
    writeFileSync(file('old'), (await here(['audit', 'checkpoint'])).stdout);
    await admin.secrets.put('audit/y', { text: 'y' });
    await here(['audit', 'export', file('log')]);
    const whole = await verify(file('log'), '--key', file('key'), '--checkpoint', file('old'));
    expect(whole).toMatchObject({ code: 0, stdout: expect.stringMatching(/extends the older.*\n.*is signed by/) });
    const asked = ['--action', 'secret.write', '--proof', '--checkpoint', file('old')];
    await here(['audit', 'export', file('part'), ...asked]);
    const part = await verify(file('part'), '--key', file('key'), '--checkpoint', file('old'));
    expect(part).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Unchanged: \d+ of the \d+ entries/) });
    writeFileSync(file('part'), readFileSync(file('part'), 'utf8').replace('"secret.write"', '"secret.read"'));
    expect(await verify(file('part'))).toMatchObject({ code: 1, stdout: expect.stringMatching(/was edited/) });
  });
});

describe('audit questions', () => {
  test('who could, who did, what nobody reads, what was denied: tables, and JSON for programs', async () => {
    await admin.secrets.put('asked/db', { text: 'x' });
    await admin.secrets.put('asked/idle', { text: 'x' });
    await admin.secrets.get('asked/db');
    const token = await vault.user('stranger', []);
    await here(words('secret get asked/db'), { token });
    expect((await here(words('audit who-can asked/db'))).stdout).toMatch(/^admin\s+always\s+admin/m);
    expect((await here(words('audit who-did asked/db'))).stdout).toMatch(/^stranger\s+0\s+1\s+0\s/m);
    const idle = JSON.parse((await here(words('audit unread --days 1 --json'))).stdout);
    const paths = idle.map(({ path }: { path: string }) => path);
    expect(paths).toContain('asked/idle');
    expect(paths).not.toContain('asked/db');
    expect((await here(words('audit denials'))).stdout).toMatch(/denied\s+stranger\s+secret.read\s+secret:asked\/db/);
    expect((await here(words('audit denials --day yesterday'))).code).toBe(2);
    const [entry] = JSON.parse((await here(words('audit actor stranger --json'))).stdout);
    const request = JSON.parse((await here(['audit', 'request', entry.request, '--json'])).stdout);
    expect(request).toEqual([entry]);
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
