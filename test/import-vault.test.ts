/** `bulla import vault`, from our own /v1 as the source: versions, metadata and policies, again and again, with differences named. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runProgram } from '../src/cli/program.ts';
import { loadClientConfig } from '../src/config-client.ts';
import { type Answer, type TestVault, testVault } from './harness.ts';

let t: TestVault;
let vaultAddress: string;
let source: string;
const directory = mkdtempSync(join(tmpdir(), 'bulla-import-'));
const tokenFile = join(directory, 'token');

beforeAll(async () => {
  t = await testVault();
  vaultAddress = await t.address();
  source = await t.tenant('source');
  writeFileSync(tokenFile, `${source}\n`, { mode: 0o600 });
});
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true });
  await t.check();
  await t.close();
});

const at =
  (token: string) =>
  (method: string, path: string, raw?: string): Promise<Answer> =>
    t.request(method, `/v1/${path}`, { headers: { 'x-vault-token': token }, ...(raw === undefined ? {} : { raw }) });

async function bulla(...args: string[]) {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const stdin = new PassThrough();
  stdin.end('');
  const shown = buffer(stdout);
  const said = buffer(stderr);
  const env = {
    PATH: process.env.PATH!,
    BULLA_ADDR: vaultAddress,
    BULLA_TOKEN: t.admin,
    XDG_STATE_HOME: directory,
  };
  const code = await runProgram(args, {
    io: { stdin, stdout, stderr },
    config: loadClientConfig(env),
    serve: async () => 0,
  });
  stdout.end();
  stderr.end();
  return { code, stdout: (await shown).toString(), stderr: (await said).toString() };
}

const importing = (...more: string[]) =>
  bulla('import', 'vault', '--addr', vaultAddress, '--auth-file', tokenFile, ...more);

it('copies versions under their numbers, to the letter, with metadata and policies; again, it changes nothing', async () => {
  const there = at(source);
  await there('PUT', 'secret/data/app/db', '{"data":{"n":12345678901234567890,"z":1.0,"a":"a word of the source"}}');
  t.secrets.add('a word of the source');
  await there('PUT', 'secret/data/app/db', '{"data":{"v":2}}');
  await there('PUT', 'secret/data/app/db', '{"data":{"v":3}}');
  await there('PUT', 'secret/data/app/db', '{"data":{"v":4}}');
  await there('POST', 'secret/destroy/app/db', '{"versions":[2]}');
  await there('POST', 'secret/delete/app/db', '{"versions":[3]}');
  await there(
    'POST',
    'secret/metadata/app/db',
    '{"custom_metadata":{"owner":"web"},"cas_required":true,"delete_version_after":"1h30m"}',
  );
  await there('PUT', 'secret/data/top', '{"data":{"x":"y"}}');
  const policy = 'path "secret/data/app/*" {\n  capabilities = ["read"]\n}\n';
  await there('PUT', 'sys/policies/acl/app-read', JSON.stringify({ policy }));

  const dry = await importing('--dry-run');
  expect([dry.code, dry.stdout]).toEqual([0, expect.stringContaining('Would be: copied')]);
  const here = at(t.admin);
  expect((await here('GET', 'secret/data/top')).status).toBe(404);

  const first = await importing();
  expect([first.code, first.stderr]).toEqual([0, '']);
  expect(first.stdout).toContain(
    'secret app/db: copied: version 3 is deleted at the source: its value was not copied\n',
  );
  const versions = (await here('GET', 'secret/metadata/app/db')).json.data;
  expect(versions).toMatchObject({
    ...{ current_version: 4, cas_required: true, delete_version_after: '1h30m0s', custom_metadata: { owner: 'web' } },
    versions: { 1: { destroyed: false }, 2: { destroyed: true }, 3: { destroyed: true }, 4: { destroyed: false } },
  });
  expect((await here('GET', 'secret/data/app/db?version=1')).text).toContain(
    '"data":{"n":12345678901234567890,"z":1.0,"a":"a word of the source"}',
  );
  expect((await here('GET', 'secret/data/app/db')).json.data.data).toEqual({ v: 4 });
  expect((await here('GET', 'sys/policies/acl/app-read')).json.data.policy).toBe(policy);

  const again = await importing('--json');
  expect([again.code, JSON.parse(again.stdout).counts]).toEqual([
    0,
    expect.objectContaining({ copied: 0, continued: 0, differs: 0, failed: 0 }),
  ]);
  expect((await here('GET', 'secret/metadata/app/db')).json.data.current_version).toBe(4);
});

it('goes on where it ended, and names what differs without its value', async () => {
  const [there, here] = [at(source), at(t.admin)];
  await there('PUT', 'secret/data/grown', '{"data":{"v":1}}');
  await importing('--no-policies');
  await there('PUT', 'secret/data/grown', '{"data":{"v":2}}');
  await there('PUT', 'secret/data/other', '{"data":{"v":"theirs"}}');
  await here('PUT', 'secret/data/other', '{"data":{"v":"a value that is ours"}}');
  t.secrets.add('a value that is ours');
  await there('POST', 'secret/metadata/empty', '{"custom_metadata":{"owner":"nobody yet"}}');
  await here(
    'PUT',
    'sys/policies/acl/app-read',
    JSON.stringify({ policy: 'path "secret/data/z" { capabilities = ["read"] }' }),
  );
  const ended = await importing();
  expect(ended.code).toBe(1);
  expect(ended.stdout).toContain('secret other: differs: version 1 is there, with another value\n');
  expect(ended.stdout).toContain('policy app-read: differs: a policy of this name is there\n');
  expect(ended.stdout).toContain('secret empty: differs: it has metadata and no version: nothing was copied\n');
  expect(ended.stdout).not.toContain('a value that is ours');
  expect(ended.stdout).toMatch(/continued 1, .*differs 3\.\n$/);
  expect((await here('GET', 'secret/data/grown')).json.data).toMatchObject({
    data: { v: 2 },
    metadata: { version: 2 },
  });
  expect((await here('GET', 'secret/data/other')).json.data.data).toEqual({ v: 'a value that is ours' });
});

it('a dry run leaves what an import before it has begun as it is', async () => {
  const [there, here] = [at(source), at(t.admin)];
  await there('PUT', 'secret/data/half', '{"data":{"v":1}}');
  await there('POST', 'secret/destroy/half', '{"versions":[1]}');
  await here('PUT', 'secret/data/half', '{"data":{}}');
  const before = (await here('GET', 'secret/metadata/half')).json.data;
  const size = async () => (await t.owner`SELECT sum(size)::int AS size FROM audit_heads`)[0]!.size as number;
  await importing('--dry-run', '--no-policies');
  expect((await here('GET', 'secret/metadata/half')).json.data).toEqual(before);
  const read = await size();
  await importing('--no-policies');
  expect((await here('GET', 'secret/metadata/half')).json.data.versions[1].destroyed).toBe(true);
  expect(await size()).toBeGreaterThan(read);
});

it('folders that are too deep to be looked into are named', async () => {
  // A source whose folders never end.
  const answer = JSON.stringify({ data: { type: 'kv', options: { version: '2' }, keys: ['a/'] } });
  const endless = createServer((_, response) => response.end(answer));
  await new Promise<void>((resolve) => endless.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${(endless.address() as AddressInfo).port}`;
  try {
    const ended = await bulla('import', 'vault', '--addr', address, '--auth-file', tokenFile, '--no-policies');
    expect(ended.code).toBe(1);
    expect(ended.stdout).toMatch(/secret (a\/){17}: failed: folders that deep were not looked into\n/);
  } finally {
    endless.closeAllConnections();
    endless.close();
  }
});

it('mounts are made, shown, set and removed by the command line', async () => {
  expect((await bulla('mount', 'create', 'kv', '--description', 'of the build')).stdout).toBe('Mounted kv/ at kv/.\n');
  expect((await bulla('mount', 'set', 'kv', '--versions-kept', '3', '--delete-after', '30d')).code).toBe(0);
  expect((await bulla('mount', 'list')).stdout).toMatch(/kv\/ +kv +2 +3/);
  expect((await bulla('mount', 'create', 'kv')).stderr).toContain('path is already in use at kv/');
  await at(t.admin)('PUT', 'kv/data/x', '{"data":{}}');
  expect((await bulla('mount', 'remove', 'kv')).stderr).toContain('There are secrets under kv/');
  await at(t.admin)('DELETE', 'kv/metadata/x');
  expect((await bulla('mount', 'remove', 'kv')).stdout).toBe('Removed the mount kv/.\n');
});

it('a mount that is not there, or is of another kind, is not one with nothing in it', async () => {
  const there = at(source);
  expect((await importing('--mount', 'nosuch')).stderr).toContain('shows no mount nosuch/ to this token');
  expect((await importing('--mount', 'transit')).stderr).toContain('transit/ at ');
  await there('POST', 'sys/mounts/old', '{"type":"kv","options":{"version":"1"}}');
  await there('PUT', 'old/metadata/x', '{"a":"b"}');
  const first = await importing('--mount', 'old/');
  expect([first.code, first.stderr]).toEqual([2, expect.stringContaining('vault kv enable-versioning old/')]);
  const written = await importing('--mount', 'secret/', '--to', 'slashed/', '--no-policies');
  expect(written.stderr).toBe('');
  expect((await at(t.admin)('GET', 'secret/data/slashed/top')).status).toBe(200);
});

it('says what is wrong with the source, and never follows it elsewhere', async () => {
  writeFileSync(tokenFile, 'hvs.never-issued\n');
  const refused = await importing();
  expect([refused.code, refused.stderr]).toEqual([4, expect.stringContaining('shows no mount secret/ to this token')]);
  expect(refused.stderr).not.toContain('hvs.never-issued');
  const elsewhere = createServer((_, response) => response.writeHead(307, { Location: vaultAddress }).end());
  await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
  const standby = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}`;
  const sent = await bulla('import', 'vault', '--addr', standby, '--auth-file', tokenFile);
  elsewhere.closeAllConnections();
  elsewhere.close();
  expect([sent.code, sent.stderr]).toEqual([7, expect.stringContaining('the address of the node that is active')]);
  const away = await bulla('import', 'vault', '--addr', 'http://127.0.0.1:9', '--auth-file', tokenFile);
  expect([away.code, away.stderr]).toEqual([7, expect.stringContaining('does not answer')]);
});
