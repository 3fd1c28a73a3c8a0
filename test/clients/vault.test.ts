/**
 * Clients of HashiCorp's API as their users have them, against our listener: node-vault, @litehex/node-vault, curl and,
 * where Python has it, hvac. Nothing about them is told that this is another server.
 */
import { fileURLToPath } from 'node:url';
import { Client } from '@litehex/node-vault';
import nodeVault from 'node-vault';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PASSWORD, type TestVault, testVault } from '../harness.ts';
import { NO_HVAC, PYTHONS, runClient } from './program.ts';

let t: TestVault;
let vaultAddress: string;
beforeAll(async () => {
  t = await testVault();
  vaultAddress = await t.address();
});
afterAll(async () => {
  await t.close();
});

const refusal = (act: Promise<unknown>) =>
  act.then(
    () => 'ok',
    (error: { response?: { statusCode: number }; message: string }) => `${error.response?.statusCode} ${error.message}`,
  );

it('node-vault: logins, secrets of both versions, policies, tokens, wrapping and transit', async () => {
  const vault = nodeVault({ endpoint: vaultAddress });
  const status = await vault.health();
  expect(status).toMatchObject({ initialized: true, sealed: false });
  const login = await vault.userpassLogin({ username: 'admin', password: PASSWORD });
  expect(vault.token).toBe(login.auth.client_token);
  expect((await vault.tokenLookupSelf()).data).toMatchObject({ display_name: 'userpass-admin', orphan: true });

  await vault.write('secret/data/js/app', { data: { a: 1 } });
  await vault.write('secret/data/js/app', { data: { a: 2 }, options: { cas: 1 } });
  expect(await refusal(vault.write('secret/data/js/app', { data: {}, options: { cas: 1 } }))).toBe(
    '400 check-and-set parameter did not match the current version',
  );
  expect((await vault.read('secret/data/js/app')).data.data).toEqual({ a: 2 });
  expect((await vault.read('secret/data/js/app?version=1')).data.data).toEqual({ a: 1 });
  // Its list is the verb LIST on the wire.
  expect((await vault.list('secret/metadata/js')).data.keys).toEqual(['app']);
  expect((await vault.list('secret/metadata/')).data.keys).toContain('js/');
  await vault.delete('secret/data/js/app');
  expect(await refusal(vault.read('secret/data/js/app'))).toMatch(/^404 /);
  await vault.write('secret/undelete/js/app', { versions: [2] });
  expect((await vault.read('secret/data/js/app')).data.metadata.version).toBe(2);
  await vault.write('secret/destroy/js/app', { versions: [1] });
  expect((await vault.read('secret/metadata/js/app')).data.versions['1'].destroyed).toBe(true);

  await vault.mount({ mount_point: 'js1', type: 'kv', description: 'as before' });
  expect(Object.keys((await vault.mounts()).data)).toContain('js1/');
  await vault.write('js1/x', { y: 'z' });
  expect((await vault.read('js1/x')).data).toEqual({ y: 'z' });
  await vault.delete('js1/x');
  await vault.unmount({ mount_point: 'js1' });

  await vault.addPolicy({ name: 'js-read', rules: 'path "secret/data/js/*" { capabilities = ["read"] }' });
  expect((await vault.policies()).policies).toContain('js-read');
  expect((await vault.getPolicy({ name: 'js-read' })).rules).toContain('secret/data/js/*');
  const child = await vault.tokenCreate({ policies: ['js-read'], ttl: '10m' });
  // It takes whatever token is made for its own.
  vault.token = login.auth.client_token;
  const reader = nodeVault({ endpoint: vaultAddress, token: child.auth.client_token });
  expect((await reader.read('secret/data/js/app')).data.data).toEqual({ a: 2 });
  expect(await refusal(reader.write('secret/data/js/app', { data: {} }))).toMatch(/^403 .*permission denied/s);
  await reader.tokenRenewSelf({ increment: '5m' });
  await vault.addTokenRole({ role_name: 'js-jobs', allowed_policies: 'js-read', period: 600, orphan: true });
  expect((await vault.tokenRoles()).data.keys).toEqual(['js-jobs']);
  expect((await vault.getTokenRole({ role_name: 'js-jobs' })).data).toMatchObject({ period: 600, orphan: true });
  const byRole = await vault.tokenCreateRole({ role_name: 'js-jobs' });
  vault.token = login.auth.client_token;
  expect(byRole.auth).toMatchObject({ policies: ['default', 'js-read'], orphan: true, lease_duration: 600 });
  await vault.removeTokenRole({ role_name: 'js-jobs' });
  await vault.tokenRevoke({ token: child.auth.client_token });
  expect(await refusal(reader.tokenLookupSelf())).toBe('403 permission denied');

  const wrapped = await vault.request({
    ...{
      method: 'GET',
      path: '/secret/data/js/app',
      headers: { 'X-Vault-Wrap-TTL': '60s', 'X-Vault-Token': vault.token },
    },
  });
  const anybody = nodeVault({ endpoint: vaultAddress, token: wrapped.wrap_info.token });
  expect((await anybody.unwrap()).data.data).toEqual({ a: 2 });
  expect(await refusal(anybody.unwrap())).toBe('400 wrapping token is not valid or does not exist');

  await vault.write('transit/keys/js', {});
  const { ciphertext } = (await vault.encryptData({ name: 'js', plaintext: Buffer.from('hello').toString('base64') }))
    .data;
  expect((await vault.decryptData({ name: 'js', ciphertext })).data.plaintext).toBe('aGVsbG8=');
  const elsewhere = nodeVault({ endpoint: vaultAddress, token: vault.token, namespace: 'no-such-tenant' });
  expect(await refusal(elsewhere.read('secret/data/js/app'))).toMatch(/^404 no handler for route/);
  const home = nodeVault({ endpoint: vaultAddress, token: vault.token, namespace: 'default' });
  expect((await home.read('secret/data/js/app')).data.data).toEqual({ a: 2 });
});

it('@litehex/node-vault: what its schemas check', async () => {
  const client = new Client({ endpoint: vaultAddress, token: t.admin });
  const held = async <T>(act: Promise<{ data?: T; error?: unknown }>): Promise<T> => {
    const { data, error } = await act;
    expect(error).toBeUndefined();
    return data as T;
  };
  expect(await held(client.sealStatus())).toMatchObject({ sealed: false });
  expect(await held(client.initialized())).toEqual({ initialized: true });
  const at = { mountPath: 'secret', path: 'lite/app' };
  expect(await held(client.kv2.write({ ...at, data: { a: 'b' } }))).toMatchObject({ data: { version: 1 } });
  expect(await held(client.kv2.read(at))).toMatchObject({ data: { data: { a: 'b' }, metadata: { version: 1 } } });
  expect(await held(client.kv2.patch({ ...at, data: { c: 'd' } }))).toMatchObject({ data: { version: 2 } });
  expect(await held(client.kv2.list({ mountPath: 'secret', path: 'lite' }))).toMatchObject({ data: { keys: ['app'] } });
  expect(await held(client.kv2.subKeys(at))).toMatchObject({ data: { subkeys: { a: null, c: null } } });
  await held(client.kv2.deleteLatest(at));
  await held(client.kv2.undelete({ ...at, versions: [2] }));
  await held(client.kv2.writeMetadata({ ...at, custom_metadata: { owner: 'lite' } }));
  expect(await held(client.kv2.readMetadata(at))).toMatchObject({ data: { current_version: 2 } });
  const transit = { mountPath: 'transit', name: 'lite' };
  await held(client.transit.createKey({ ...transit, type: 'aes256-gcm96' }));
  expect(await held(client.transit.readKey(transit))).toMatchObject({ mount_type: 'transit' });
  const made = await held(client.transit.encrypt({ ...transit, plaintext: 'aGVsbG8=' }));
  const ciphertext = (made as { data: { ciphertext: string } }).data.ciphertext;
  expect(await held(client.transit.decrypt({ ...transit, ciphertext }))).toMatchObject({
    data: { plaintext: 'aGVsbG8=' },
  });
});

it('curl, as every example writes it', async () => {
  const curl = async (...args: string[]) =>
    (
      await runClient('curl', ['-s', '-w', '\n%{http_code}', '-H', '@-', ...args], {
        input: `X-Vault-Token: ${t.admin}\n`,
      })
    )[1];
  const at = (path: string) => `${vaultAddress}/v1/${path}`;
  const body = '{"data":{"a":12345678901234567890}}';
  expect(await curl('--request', 'POST', '--data', body, at('secret/data/curl'))).toMatch(/"version":1.*\n200$/);
  expect(await curl(at('secret/data/curl'))).toContain('"data":{"a":12345678901234567890}');
  expect(await curl('--request', 'LIST', at('secret/metadata'))).toMatch(/"keys":\[.*"curl".*\n200$/);
  // Two requests over one connection, the first of them LIST.
  expect(await curl('--request', 'LIST', at('secret/metadata/'), '--next', '-s', at('sys/health'))).toContain(
    '"initialized":true',
  );
  expect(await curl('--request', 'DELETE', at('secret/metadata/curl'))).toBe('\n204');
});

const SCRIPT = fileURLToPath(new URL('vault.py', import.meta.url));

it.skipIf(PYTHONS.length === 0)(
  `hvac${PYTHONS.length > 0 ? '' : ` (skipped: ${NO_HVAC})`}`,
  async () => {
    for (const [i, python] of PYTHONS.entries()) {
      const env = {
        ...{ PATH: process.env.PATH, VAULT_ADDR: vaultAddress, BULLA_USER: 'admin', BULLA_PASSWORD: PASSWORD },
        NAME: `py${i}`,
      };
      const [code, said] = await runClient(python, ['-B', SCRIPT], { env });
      expect([python, code, said]).toEqual([python, 0, expect.stringMatching(/done\n$/)]);
    }
  },
  60_000,
);
