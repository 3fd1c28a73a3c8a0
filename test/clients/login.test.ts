/** Logging in with real clients by every method of the API under /v1, over TLS: node-vault, and hvac. */
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SignJWT } from 'jose';
import nodeVault from 'node-vault';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CLIENT_AUTH, type Made, make, makeServer } from '../fixtures/certificate.ts';
import { PASSWORD, type TestVault, testVault } from '../harness.ts';
import { type Served, serveTls } from '../tls-server.ts';
import { NO_HVAC, PYTHONS, runClient } from './program.ts';

const ISSUER = 'https://issuer.example';
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const publicKey = ec.publicKey.export({ type: 'spki', format: 'pem' }).toString();

let t: TestVault;
let server: Served;
let trusted: Made;
let clients: Made;
let machine: Made;
let address: string;
beforeAll(async () => {
  t = await testVault();
  [trusted, clients] = await Promise.all([make({ name: 'Servers', ca: true }), make({ name: 'Clients', ca: true })]);
  server = await serveTls(t, [await makeServer(trusted)], { env: { BULLA_TLS_CLIENT_CERTIFICATES: 'true' } });
  machine = await make({ name: 'web', by: clients, sans: ['a.web.example'], uses: [CLIENT_AUTH] });
  address = `https://localhost:${server.port}`;
});
afterAll(async () => {
  await t.check();
  await server.close();
  await t.close();
});

const signed = (subject: string) => {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ iss: ISSUER, sub: subject, aud: 'vault', iat: now, exp: now + 300 })
    .setProtectedHeader({ alg: 'ES256' })
    .sign(ec.privateKey);
};

const connect = (token?: string, shown?: Made) =>
  nodeVault({
    endpoint: address,
    ...(token === undefined ? {} : { token }),
    requestOptions: { ca: trusted.pem, ...(shown ? { cert: shown.pem, key: shown.key } : {}) },
  });

const refusal = (act: Promise<unknown>) =>
  act.then(
    () => 'ok',
    (error: { response?: { statusCode: number }; message: string }) => `${error.response?.statusCode} ${error.message}`,
  );

it('node-vault logs in by userpass, approle, jwt and cert, and is refused in the words of each', async () => {
  const admin = connect();
  await admin.userpassLogin({ username: 'admin', password: PASSWORD });
  expect(await refusal(connect().userpassLogin({ username: 'admin', password: 'not this one' }))).toBe(
    '400 invalid username or password',
  );

  await admin.addApproleRole({ role_name: 'js', policies: 'reader', token_ttl: 600 });
  expect((await admin.getApproleRole({ role_name: 'js' })).data).toMatchObject({ token_ttl: 600 });
  expect((await admin.approleRoles()).data.keys).toEqual(['js']);
  const { role_id } = (await admin.getApproleRoleId({ role_name: 'js' })).data;
  const { secret_id, secret_id_accessor } = (
    await admin.getApproleRoleSecret({ role_name: 'js', metadata: '{"run":"1"}' })
  ).data;
  expect((await admin.approleSecretAccessors({ role_name: 'js' })).data.keys).toEqual([secret_id_accessor]);
  expect((await admin.approleSecretLookup({ role_name: 'js', secret_id })).data).toMatchObject({
    metadata: { run: '1' },
  });
  const byRole = connect();
  const login = await byRole.approleLogin({ role_id, secret_id });
  expect(login.auth).toMatchObject({ metadata: { role_name: 'js', run: '1' }, policies: ['default', 'reader'] });
  expect((await byRole.tokenLookupSelf()).data).toMatchObject({ path: 'auth/approle/login', meta: { run: '1' } });
  expect(await refusal(byRole.write('secret/data/x', { data: {} }))).toMatch(/^403 .*permission denied/s);
  await admin.approleSecretAccessorDestroy({ role_name: 'js', secret_id_accessor });
  expect(await refusal(byRole.tokenLookupSelf())).toBe('403 permission denied');
  expect(await refusal(connect().approleLogin({ role_id, secret_id }))).toBe('400 invalid role or secret ID');

  const config = { jwt_validation_pubkeys: [publicKey], bound_issuer: ISSUER, jwt_supported_algs: ['ES256'] };
  await admin.write('auth/jwt/config', config);
  await admin.write('auth/jwt/role/js', {
    ...{ role_type: 'jwt', user_claim: 'sub', bound_audiences: ['vault'], token_policies: ['reader'] },
    ...{ bound_claims_type: 'glob', bound_claims: { sub: 'repo:*' } },
  });
  expect((await admin.read('auth/jwt/config')).data).toMatchObject({ jwt_validation_pubkeys: [publicKey] });
  const byToken = connect();
  const proven = await byToken.jwtLogin({ role: 'js', jwt: await signed('repo:acme/web:ref:main') });
  expect(proven.auth.metadata).toEqual({ role: 'js' });
  expect((await byToken.tokenLookupSelf()).data).toMatchObject({ path: 'auth/jwt/login', meta: { role: 'js' } });
  for (const [role, jwt] of [
    ['js', await signed('org:acme')],
    ['absent', await signed('repo:acme/web')],
  ]) {
    expect(await refusal(connect().jwtLogin({ role, jwt }))).toMatch(/^400 error validating token: /);
  }

  await admin.write('auth/cert/certs/other', { certificate: trusted.pem, allowed_dns_sans: ['*.web.example'] });
  await admin.write('auth/cert/certs/web', {
    ...{ certificate: clients.pem, allowed_dns_sans: ['*.web.example'], token_policies: 'reader' },
  });
  // Named, and found by trying each role in the order of their names.
  for (const body of [{ name: 'web' }, {}]) {
    const byCertificate = connect(undefined, machine);
    const done = await byCertificate.write('auth/cert/login', body);
    expect(done.auth.metadata).toMatchObject({ cert_name: 'web', subject: 'dns:a.web.example' });
    byCertificate.token = done.auth.client_token;
    expect((await byCertificate.tokenLookupSelf()).data).toMatchObject({ path: 'auth/cert/login' });
    // It is bound to the certificate.
    expect(await refusal(connect(done.auth.client_token).tokenLookupSelf())).toBe('403 permission denied');
  }
  expect(await refusal(connect(undefined, machine).write('auth/cert/login', { name: 'other' }))).toBe(
    '400 invalid certificate or no client certificate supplied',
  );
  expect(await refusal(connect().write('auth/cert/login', {}))).toBe('400 client certificate must be supplied');
});

const SCRIPT = fileURLToPath(new URL('login.py', import.meta.url));

it.skipIf(PYTHONS.length === 0)(
  `hvac${PYTHONS.length > 0 ? '' : ` (skipped: ${NO_HVAC})`}`,
  async () => {
    const file = (name: string, text: string) => {
      writeFileSync(join(t.dataDir, name), text, { mode: 0o600 });
      return join(t.dataDir, name);
    };
    for (const [i, python] of PYTHONS.entries()) {
      const env = {
        ...{ PATH: process.env.PATH, VAULT_ADDR: address, BULLA_USER: 'admin', BULLA_PASSWORD: PASSWORD },
        ...{ NAME: `py${i}`, ISSUER, PUBLIC_KEY: publicKey, JWT: await signed(`repo:py${i}`) },
        ...{ SERVERS: file('servers.pem', trusted.pem), CLIENTS: file('clients.pem', clients.pem) },
        ...{ CERT: file('client.pem', machine.pem), KEY: file('client.key', machine.key) },
      };
      const [code, said] = await runClient(python, ['-B', SCRIPT], { env });
      expect([python, code, said]).toEqual([python, 0, expect.stringMatching(/done\n$/)]);
    }
  },
  60_000,
);
