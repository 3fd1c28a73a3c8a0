/** `bulla import`: what comes in, what is left alone, what is reported, and going on after an interruption. */
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { runProgram } from '../src/cli/program.ts';
import { Bulla } from '../src/client/index.ts';
import { loadClientConfig } from '../src/config-client.ts';
import { KMS_CREDENTIALS } from './fixtures/kms.ts';
import { type FakeSecretsManager, startSecretsManager } from './fixtures/secrets-manager.ts';
import { type TestVault, testVault } from './harness.ts';

let t: TestVault;
let vaultAddress: string;
let bulla: Bulla;
let aws: FakeSecretsManager;
beforeAll(async () => {
  t = await testVault();
  vaultAddress = await t.address();
  bulla = new Bulla({ address: vaultAddress, token: t.admin });
  aws = await startSecretsManager([
    {
      Name: 'prod/db',
      SecretString: '{"password":"of the database"}',
      Description: 'main',
      Tags: [{ Key: 'team', Value: 'a' }],
    },
    { Name: '/prod/text', SecretString: 'just a text' },
    { Name: 'prod/cert', SecretBinary: Buffer.from([0, 255, 1]).toString('base64') },
    { Name: 'prod//empty', SecretString: 'x' },
    { Name: 'PROD/other', SecretString: 'not under the prefix' },
    { Name: 'prod/none' },
  ]);
});
afterAll(async () => {
  vi.unstubAllEnvs();
  bulla.close();
  await aws.close();
  await t.close();
});
beforeEach(() => {
  for (const [name, value] of Object.entries(KMS_CREDENTIALS)) vi.stubEnv(name, value);
});

async function run(args: readonly string[], input = '', token = t.admin) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  stdin.end(input);
  const config = loadClientConfig({ BULLA_ADDR: vaultAddress, BULLA_TOKEN: token, PATH: '' });
  const code = await runProgram(['import', ...args], { io: { stdin, stdout, stderr }, config, serve: async () => 0 });
  stdout.end();
  stderr.end();
  return { code, stdout: await text(stdout), stderr: await text(stderr) };
}

test('env: as one secret, or each variable as one', async () => {
  const input = 'A=1\nB="two words"\n';
  expect(await run(['env', '--to', 'env/app'], input)).toMatchObject({ code: 0, stdout: '1 created.\n' });
  expect((await bulla.secrets.get('env/app')).data).toEqual({ A: '1', B: 'two words' });
  expect((await run(['env', '--to', 'env/each', '--each'], input)).stdout).toBe('2 created.\n');
  expect((await bulla.secrets.get('env/each/B')).text).toBe('two words');
  expect(await run(['env', '--to', 'env/app'], '')).toMatchObject({ code: 2, stdout: '' });
});

test('json: numbers and order survive; again, nothing is done twice; another value is reported, not touched', async () => {
  const input = '{"db": {"big": 123456789012345678901, "b": 1, "a": 2}, "text": "x\\n", "list": [1], "a//b": "x"}';
  const first = await run(['json', '--to', 'json'], input);
  expect(first.code).toBe(1);
  expect(first.stdout).toMatch(/json\/a\/\/b +failed +invalid_path\njson\/list +failed +a value that is neither/);
  expect(first.stdout).toMatch(/\n2 created, 2 failed\.\n$/);
  expect(await bulla.secrets.getText('json/db')).toContain('{"big": 123456789012345678901, "b": 1, "a": 2}');
  const again = await run(['json', '--to', 'json'], input.replaceAll(': ', ':'));
  expect(again.stdout).toMatch(/\n2 same, 2 failed\.\n$/);

  const changed = '{"db": {"big": 123456789012345678902, "b": 1, "a": 2}}';
  const dry = await run(['json', '--to', 'json', '--overwrite', '--dry-run'], changed);
  expect(dry).toMatchObject({ code: 0, stdout: 'Would be: 1 updated.\n' });
  const kept = await run(['json', '--to', 'json'], changed);
  expect(kept.code).toBe(1);
  expect(kept.stdout).toMatch(/json\/db +differs +version 1 is there\n1 differs\.\n$/);
  expect((await run(['json', '--to', 'json', '--overwrite'], changed)).stdout).toBe('1 updated.\n');
  expect((await bulla.secrets.get('json/db')).version).toBe(2);
  expect(await run(['json'], '["not an object"]')).toMatchObject({ code: 2 });
  const denied = await run(['json', '--to', 'json'], changed, await t.user('no-import', []));
  expect(denied.stdout).toMatch(/json\/db +failed +forbidden/);
});

test('many, and one of them at once from two sides: every one is there once', async () => {
  const input = JSON.stringify(Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`s${i}`, { n: i }])));
  const [one, two] = await Promise.all([run(['json', '--to', 'twice'], input), run(['json', '--to', 'twice'], input)]);
  expect([one.code, two.code]).toEqual([0, 0]);
  const listed: number[] = [];
  for await (const item of bulla.secrets.list({ prefix: 'twice', recursive: true })) {
    if (!item.folder) listed.push(item.version!);
  }
  expect(listed).toEqual(Array.from({ length: 60 }, () => 1));
});

test('aws: pages of names, kinds of values, metadata; interrupted, it goes on', async () => {
  const args = ['aws', '--endpoint', aws.endpoint, '--region', 'eu-test-1', '--prefix', 'prod', '--to', 'aws'];
  aws.fault = 'InternalServiceError';
  const stopped = await run(args);
  expect(stopped).toMatchObject({ code: 7, stdout: '' });
  expect(stopped.stderr).toMatch(/AWS did not read prod\/db/);
  aws.fault = undefined;
  const done = await run(args);
  expect(done.stdout).toMatch(
    /aws\/prod\/\/empty +failed +invalid_path\naws\/prod\/none +failed +it has no current value/,
  );
  expect(done.stdout).toMatch(/\n2 created, 2 failed\.\n$/);
  expect(await bulla.secrets.get('aws/prod/db')).toMatchObject({
    data: { password: 'of the database' },
    metadata: { description: 'main', 'tag:team': 'a' },
  });
  expect((await bulla.secrets.get('aws/prod/cert')).bytes).toEqual(Buffer.from([0, 255, 1]));
  await expect(bulla.secrets.get('aws/PROD/other')).rejects.toMatchObject({ code: 'not_found' });
  const slash = [...args];
  slash[slash.indexOf('prod')] = '/prod';
  expect((await run(slash)).stdout).toBe('1 created.\n');
  expect((await bulla.secrets.get('aws/prod/text')).text).toBe('just a text');
  expect((await run(['--json', ...args].slice(1))).code).toBe(1);
});

test('an interruption says how far it came', async () => {
  const ended = await run(['json'], '{"a": "x"}', `${t.admin.slice(0, -1)}${t.admin.endsWith('A') ? 'B' : 'A'}`);
  expect(ended.code).toBe(3);
  expect(ended.stderr).toMatch(/0 of 1 secrets are done: run the same command again/);
});
