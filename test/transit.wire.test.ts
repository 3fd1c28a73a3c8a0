/** Named keys as applications and people reach them: the routes, the library and the command line. */
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runProgram } from '../src/cli/program.ts';
import { Bulla } from '../src/client/index.ts';
import { loadClientConfig } from '../src/config-client.ts';
import { spellings, type TestVault, testVault } from './harness.ts';

let t: TestVault;
let vaultAddress: string;
let bulla: Bulla;
beforeAll(async () => {
  t = await testVault();
  vaultAddress = await t.address();
  bulla = new Bulla({ address: vaultAddress, token: t.admin });
});
afterAll(async () => {
  bulla.close();
  await t.close();
});

const CANARY = 'canary-of-transit-4111';
const base64 = (value: string) => Buffer.from(value).toString('base64');
const post = (path: string, body: unknown, token = t.admin) =>
  t.request('POST', `/api/v1/transit/${path}`, { token, body });

describe('routes', () => {
  test('a key is made, used, rotated, trimmed and deleted', async () => {
    const made = await post('keys', { name: 'wire', auto_rotate_period: '30d' });
    expect(made).toMatchObject({
      status: 201,
      json: { name: 'wire', type: 'aes256-gcm96', auto_rotate_period: 2_592_000 },
    });
    expect(made.headers.get('location')).toBe('/api/v1/transit/keys/wire');
    expect(await post('keys', { name: 'wire' })).toMatchObject({ status: 409, json: { code: 'conflict' } });
    t.secrets.add(CANARY);
    const encrypted = await post('encrypt/wire', { items: [{ plaintext: base64(CANARY), reference: 'r' }] });
    expect(encrypted).toMatchObject({ status: 200, json: { items: [{ key_version: 1, reference: 'r' }] } });
    const { ciphertext } = encrypted.json.items[0];
    expect((await post('decrypt/wire', { items: [{ ciphertext }] })).json.items).toEqual([
      { plaintext: base64(CANARY), key_version: 1 },
    ]);
    expect((await post('keys/wire/rotate', {})).json.latest_version).toBe(2);
    const moved = await post('rewrap/wire', { items: [{ ciphertext }] });
    expect(moved.json.items[0]).toMatchObject({ key_version: 2 });
    const configured = await t.request('PATCH', '/api/v1/transit/keys/wire', {
      token: t.admin,
      body: { min_decryption_version: 2, deletion_allowed: true, auto_rotate_period: 0 },
    });
    expect(configured.json).toMatchObject({ min_decryption_version: 2, auto_rotate_period: 0 });
    expect((await post('keys/wire/trim', { min_available_version: 2 })).json.versions).toHaveLength(1);
    expect((await post('decrypt/wire', { items: [{ ciphertext }] })).status).toBe(400);
    expect((await t.request('DELETE', '/api/v1/transit/keys/wire', { token: t.admin })).status).toBe(204);
    expect((await t.request('GET', '/api/v1/transit/keys/wire', { token: t.admin })).status).toBe(404);
  });

  test('one failed item of many has its fault in its place; when all fail, the call does', async () => {
    await post('keys', { name: 'many' });
    const good = (await post('encrypt/many', { items: [{ plaintext: '' }] })).json.items[0].ciphertext;
    const mixed = await post('decrypt/many', { items: [{ ciphertext: good }, { ciphertext: 'x', reference: 'bad' }] });
    expect(mixed).toMatchObject({ status: 200, json: { items: [{ plaintext: '' }, { reference: 'bad' }] } });
    expect(mixed.json.items[1].error).toMatch(/vault:v<version>/);
    expect(await post('decrypt/many', { items: [{ ciphertext: 'x' }] })).toMatchObject({
      status: 400,
      json: { code: 'invalid_request' },
    });
  });

  test('T-022 what does not open is told in one way: another tag, version, context or associated data', async () => {
    await post('keys', { name: 'oracle', derived: true });
    const context = base64('a');
    const item = { plaintext: base64('x'), context, associated_data: base64('b') };
    const { ciphertext } = (await post('encrypt/oracle', { items: [item] })).json.items[0];
    const bound = { context, associated_data: base64('b') };
    const wrong = [
      { ...bound, ciphertext: `${ciphertext.slice(0, -8)}AAAAAAA=` },
      { ...bound, ciphertext: ciphertext.replace('v1', 'v2') },
      { ...bound, ciphertext: 'vault:v1:AAAA' },
      { ciphertext, context: base64('c'), associated_data: base64('b') },
      { ciphertext, context, associated_data: base64('c') },
      { ciphertext, context: base64('ab'), associated_data: base64('') },
    ];
    const answers = await Promise.all(wrong.map((one) => post('decrypt/oracle', { items: [one] })));
    const told = answers.map(({ status, json }) => JSON.stringify([status, { ...json, request_id: '' }]));
    expect(new Set(told).size).toBe(1);
    expect(answers[0]!.status).toBe(400);
  });

  test('T-088 no value of a call, right or wrong, stands in the log, an answer to it or any table', async () => {
    t.secrets.add('canary-in-the-wrong-place');
    const place = 'canary-in-the-wrong-place';
    for (const [path, body] of [
      ['encrypt/many', { items: [{ plaintext: place }] }],
      ['encrypt/many', { items: [{ plaintext: base64(place), context: base64(place) }] }],
      ['encrypt/many', { items: [{ plaintext: base64(place), [place]: 1 }] }],
      ['decrypt/many', { items: [{ ciphertext: place }] }],
      ['sign/many', { items: [{ input: base64(place) }], hash_algorithm: place }],
      ['verify/many', { items: [{ input: base64(place), signature: place }] }],
      ['password-hash/many', { password: place }],
      ['hmac/many', { items: [{ input: base64(place) }] }],
      ['keys', { name: `${place}!` }],
      ['hash', { input: base64(place) }],
    ] as const) {
      const answer = await post(path, body);
      for (const spelling of spellings(place)) expect(answer.text.includes(spelling.toString())).toBe(false);
    }
    const entries = await t.request('GET', '/api/v1/audit/entries', { token: t.admin });
    for (const value of [place, CANARY]) {
      for (const spelling of spellings(value)) expect(entries.text.includes(spelling.toString())).toBe(false);
    }
    await t.check();
  });
});

describe('the library', () => {
  test('takes and gives bytes', async () => {
    const { transit } = bulla;
    await transit.keys.create('sdk', { derived: true });
    const { ciphertext } = await transit.encrypt('sdk', 'hello', { context: 'c', associatedData: 'a' });
    expect((await transit.decrypt('sdk', ciphertext, { context: 'c', associatedData: 'a' })).toString()).toBe('hello');
    const moved = await transit.rewrap('sdk', ciphertext, { context: 'c', associatedData: 'a' });
    expect(moved.key_version).toBe(1);
    const many = await transit.encryptMany('sdk', [
      { plaintext: 'x', context: 'c', reference: '1' },
      { plaintext: 'y' },
    ]);
    expect(many).toMatchObject([{ reference: '1' }, { error: expect.stringMatching(/context/) }]);
    const opened = await transit.decryptMany('sdk', [
      { ciphertext: (many[0] as { ciphertext: string }).ciphertext, context: 'c' },
    ]);
    expect(opened).toMatchObject([{ plaintext: Buffer.from('x') }]);
    const { plaintext, ciphertext: wrapped } = await transit.dataKey('sdk', { context: 'c', bits: 512 });
    expect((await transit.decrypt('sdk', wrapped, { context: 'c' })).equals(plaintext)).toBe(true);
    expect((await transit.wrappedDataKey('sdk', { context: 'c' })).ciphertext).toMatch(/^vault:v1:/);

    await transit.keys.create('sdk-sign', { type: 'ecdsa-p256' });
    const { signature } = await transit.sign('sdk-sign', 'm', { marshalingAlgorithm: 'jws' });
    expect(await transit.verify('sdk-sign', 'm', signature, { marshalingAlgorithm: 'jws' })).toBe(true);
    expect(await transit.verify('sdk-sign', 'n', signature, { marshalingAlgorithm: 'jws' })).toBe(false);
    const { hmac } = await transit.hmac('sdk-sign', 'm', { hashAlgorithm: 'sha2-512' });
    expect(await transit.verifyHmac('sdk-sign', 'm', hmac, { hashAlgorithm: 'sha2-512' })).toBe(true);
    const exported = await transit.keys.export('sdk-sign', 'public-key', { version: 'latest' });
    expect(exported.keys[0]!.key).toMatch(/BEGIN PUBLIC KEY/);

    await transit.keys.create('sdk-password', { type: 'password' });
    const hash = await transit.hashPassword('sdk-password', 'short');
    expect(await transit.verifyPassword('sdk-password', 'short', hash)).toEqual({ valid: true, needs_rehash: false });

    const inbox = await transit.keys.create('sdk-inbox', { type: 'hpke' });
    const publicKey = Buffer.from(inbox.versions[0]!.public_key!, 'base64');
    const sealed = await transit.sealTo(publicKey, 'psst', { info: 'i' });
    const text = `vault:v1:${sealed.toString('base64')}`;
    expect((await transit.decrypt('sdk-inbox', text, { context: 'i' })).toString()).toBe('psst');

    expect((await transit.hash('hello')).toString('hex')).toMatch(/^2cf24dba/);
    expect(await transit.random(48)).toHaveLength(48);
    await transit.keys.rotate('sdk');
    await transit.keys.configure('sdk', { deletionAllowed: true, minDecryptionVersion: 2 });
    expect((await transit.keys.trim('sdk', 2)).min_available_version).toBe(2);
    const names: string[] = [];
    for await (const { name } of transit.keys.list()) names.push(name);
    expect(names).toEqual(expect.arrayContaining(['sdk', 'sdk-inbox', 'sdk-password', 'sdk-sign']));
    await transit.keys.delete('sdk');
    await expect(transit.keys.get('sdk')).rejects.toMatchObject({ code: 'not_found' });
  });
});

/** Within this process; `input` is standard input to its end. */
async function cli(args: readonly string[], input = ''): Promise<{ code: number; stdout: string; stderr: string }> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  stdin.end(input);
  const config = loadClientConfig({ BULLA_ADDR: vaultAddress, BULLA_TOKEN: t.admin, PATH: '' });
  const code = await runProgram(['transit', ...args], { io: { stdin, stdout, stderr }, config, serve: async () => 0 });
  stdout.end();
  stderr.end();
  return { code, stdout: await text(stdout), stderr: await text(stderr) };
}

describe('the command line', () => {
  test('encrypts standard input to the byte, and gives it back', async () => {
    expect((await cli(['key', 'create', 'cli'])).stdout).toMatch(/Made the key cli/);
    const encrypted = await cli(['encrypt', 'cli', '--aad', 'row 7'], 'with a line feed\n');
    expect(encrypted.stdout).toMatch(/^vault:v1:\S+\n$/);
    const decrypted = await cli(['decrypt', 'cli', '--aad', 'row 7'], encrypted.stdout);
    expect(decrypted).toMatchObject({ code: 0, stdout: 'with a line feed\n', stderr: '' });
    const wrong = await cli(['decrypt', 'cli'], encrypted.stdout);
    expect(wrong).toMatchObject({ code: 2, stdout: '' });
    expect(wrong.stderr).toMatch(/does not open/);
    expect((await cli(['key', 'rotate', 'cli'])).stdout).toBe('cli uses version 2.\n');
    expect((await cli(['rewrap', 'cli', '--aad', 'row 7'], encrypted.stdout)).stdout).toMatch(/^vault:v2:/);
    expect((await cli(['key', 'configure', 'cli', '--min-decryption', '2', '--allow-deletion'])).code).toBe(0);
    expect((await cli(['key', 'configure', 'cli', '--auto-rotate', '30d'])).code).toBe(0);
    const shown = await cli(['key', 'show', 'cli']);
    expect(shown.stdout).toMatch(/opens from version: +2\n[\s\S]*deletion allowed: +yes/);
    expect((await cli(['key', 'trim', 'cli', '2', '--yes'])).code).toBe(0);
    expect((await cli(['key', 'list'])).stdout).toMatch(/cli +aes256-gcm96 +2/);
    expect((await cli(['key', 'delete', 'cli', '--yes'])).code).toBe(0);
    expect((await cli(['key', 'show', 'cli'])).code).toBe(5);
  });

  test('signs and verifies; a wrong signature or password is exit code 1', async () => {
    await cli(['key', 'create', 'cli-sign', '--type', 'ed25519']);
    const signature = (await cli(['sign', 'cli-sign'], 'm')).stdout.trim();
    expect(await cli(['verify', 'cli-sign', signature], 'm')).toMatchObject({ code: 0, stdout: 'Right.\n' });
    expect(await cli(['verify', 'cli-sign', signature], 'n')).toMatchObject({ code: 1, stdout: 'Wrong.\n' });
    const mac = (await cli(['hmac', 'cli-sign'], 'm')).stdout.trim();
    expect((await cli(['verify-hmac', 'cli-sign', mac], 'm')).code).toBe(0);
    await cli(['key', 'create', 'cli-password', '--type', 'password']);
    const hash = (await cli(['hash-password', 'cli-password'], 'secret\n')).stdout.trim();
    expect((await cli(['verify-password', 'cli-password', hash], 'secret\n')).stdout).toBe('Right.\n');
    expect((await cli(['verify-password', 'cli-password', hash], 'wrong\n')).code).toBe(1);
    await cli(['key', 'create', 'cli-inbox', '--type', 'hpke']);
    const publicKey = (await cli(['key', 'show', 'cli-inbox', '--public'])).stdout.trim();
    const sealed = (await cli(['seal-to', publicKey], 'psst')).stdout.trim();
    expect((await cli(['decrypt', 'cli-inbox'], `vault:v1:${sealed}`)).stdout).toBe('psst');
    expect((await cli(['key', 'export', 'cli-inbox', '--kind', 'encryption-key'])).code).toBe(2);
    expect((await cli(['random', '8', '--format', 'hex'])).stdout).toMatch(/^[0-9a-f]{16}\n$/);
    expect((await cli(['datakey', 'cli-inbox', '--plaintext'])).stdout).toMatch(/^vault:v1:\S+\n\S{44}\n$/);
  });
});
