/**
 * T-199, for everything that is sealed or kept as a hash beside secrets and logins (test/flipped-bit.test.ts): one bit of a
 * stored column flips, what that row holds fails by name, its neighbour of the same kind works, and no column has no case.
 */
import { generateKeyPairSync } from 'node:crypto';
import { Secret, TOTP } from 'otpauth';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { signCheckpoint } from '../src/audit/proof.ts';
import { createClientSecret } from '../src/auth/client-secret.ts';
import { readCubbyhole, writeCubbyhole } from '../src/auth/cubbyhole.ts';
import { putIssuer } from '../src/auth/issuer.ts';
import { login } from '../src/auth/login.ts';
import { putLoginRole } from '../src/auth/login-role.ts';
import { oidc } from '../src/auth/methods/oidc.ts';
import { service } from '../src/auth/methods/service.ts';
import { loginBy } from '../src/auth/proven-login.ts';
import { confirmFactor, enrolFactor } from '../src/auth/second-factor.ts';
import { createService } from '../src/auth/service.ts';
import { mintLoginSecret } from '../src/crypto/login-secret.ts';
import { randomId } from '../src/crypto/token.ts';
import { asTenantId, transaction } from '../src/db/database.ts';
import { rotateSecret } from '../src/job/rotator.ts';
import { sealPasswords } from '../src/lease/account-password.ts';
import { revealAccount } from '../src/lease/check-out.ts';
import { putBackend } from '../src/lease/configuration.ts';
import { takeLease } from '../src/lease/issue.ts';
import { putRole } from '../src/lease/role.ts';
import { parsePath } from '../src/secret/path.ts';
import { putRotator } from '../src/secret/rotator.ts';
import { putSecret } from '../src/secret/secret.ts';
import { encrypt } from '../src/transit/cipher.ts';
import { createKey } from '../src/transit/key.ts';
import { parseKeyName } from '../src/transit/name.ts';
import type { Vault } from '../src/vault.ts';
import { hasRedis, NO_REDIS, type Redis, startRedis } from './fixtures/redis.ts';
import { callOf, PASSWORD, type TestVault, testVault } from './harness.ts';

type Act = (vault: Vault) => Promise<unknown>;

/** What is flipped, who meets it and how, and who does not. */
type Case = {
  readonly where: string;
  readonly hit: Act;
  /** What it is answered before. */
  readonly well?: string;
  readonly fails: string;
  readonly spared: Act;
};

let t: TestVault;
let redis: Redis | undefined;
const cases: Record<string, Case> = {};
const as = () => callOf(t.admin);

const outcome = async (act: Act, vault: Vault): Promise<string> => {
  try {
    const value = await act(vault);
    const [first] = Array.isArray(value) ? value : [];
    return first?.fault?.reason ?? 'ok';
  } catch (error) {
    return (error as { code?: string }).code ?? 'defect';
  }
};

beforeAll(async () => {
  t = await testVault();
  await Promise.all([namedKeys(), cubbyholes(), leases(), clientSecrets(), secondFactor(), rotators()]);
  redis = hasRedis ? await startRedis() : undefined;
  if (redis) await accounts(redis);
  else process.stderr.write(`${NO_REDIS}: the column of static accounts is not looked at\n`);
  await issuerSecret();
  cases['system_key_material.wrapped'] = {
    where: `purpose = 'log-signing'`,
    hit: (vault) => signCheckpoint(vault, as()),
    fails: 'integrity',
    spared: (vault) => readCubbyhole(vault, as(), 'a'),
  };
});
afterAll(async () => {
  await t.close();
  await redis?.stop();
});

async function namedKeys(): Promise<void> {
  const [a, b] = [parseKeyName('a'), parseKeyName('b')];
  for (const name of [a, b]) await createKey(t.vault, as(), name, {});
  const use = (name: typeof a) => (vault: Vault) => encrypt(vault, as(), name, [{ plaintext: Buffer.from('x') }]);
  cases['transit_key_versions.envelope'] = {
    where: `key_id = (SELECT key_id FROM transit_keys WHERE name = 'a')`,
    ...{ hit: use(a), fails: 'integrity', spared: use(b) },
  };
}

async function cubbyholes(): Promise<void> {
  for (const path of ['a', 'b']) await writeCubbyhole(t.vault, as(), path, 'text');
  cases['cubbyholes.envelope'] = {
    where: `path = 'b'`,
    hit: (vault) => readCubbyhole(vault, as(), 'b'),
    fails: 'integrity',
    spared: (vault) => readCubbyhole(vault, as(), 'a'),
  };
}

/** Certificates need no target: the backend is the authority. */
async function leases(): Promise<void> {
  const jwk = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' });
  const parts = [Buffer.from('ssh-ed25519'), Buffer.from(jwk.x!, 'base64url')];
  const blob = Buffer.concat(parts.flatMap((part) => [Buffer.from([0, 0, 0, part.length]), part]));
  const parameters = { public_key: `ssh-ed25519 ${blob.toString('base64')}` };
  for (const name of ['a', 'b']) {
    await putBackend(t.vault, as(), name, { kind: 'ssh', config: {} });
    await putRole(t.vault, as(), `at-${name}`, { backend: name, settings: { principals: ['deploy'] } });
  }
  const take = (name: string, idempotencyKey?: string) => (vault: Vault) =>
    takeLease(vault, as(), { role: `${name}/at-${name}`, parameters, ...(idempotencyKey ? { idempotencyKey } : {}) });
  cases['backends.envelope'] = { where: `name = 'a'`, hit: take('a'), fails: 'integrity', spared: take('b') };
  const { id } = await take('b', 'again')(t.vault);
  await take('b', 'anew')(t.vault);
  cases['lease_credentials.envelope'] = {
    where: `lease_id = '${id}'`,
    ...{ hit: take('b', 'again'), fails: 'integrity', spared: take('b', 'anew') },
  };
}

/** As if taken over: the target is asked for nothing while no change is under way. */
async function accounts({ host, port, password }: Redis): Promise<void> {
  await putBackend(t.vault, as(), 'target', { kind: 'redis', config: { host, port, password, tls: 'off' } });
  const [backend] = await t.owner`SELECT tenant_id, backend_id FROM backends WHERE name = 'target'`;
  const tenant = asTenantId(backend!.tenant_id);
  for (const name of ['a', 'b']) {
    const id = randomId();
    const { keyVersion, envelope } = await transaction(t.vault.db, [tenant], (tx) =>
      sealPasswords(t.vault, tx, tenant, id, { current: 'x' }),
    );
    await t.owner`
      INSERT INTO static_accounts (tenant_id, account_id, backend_id, name, username, key_version, envelope, in_doubt,
                                   end_sessions, created_at, updated_at)
      VALUES (${tenant}, ${id}, ${backend!.backend_id}, ${name}, ${name}, ${keyVersion}, ${envelope}, false, true, now(), now())`;
  }
  cases['static_accounts.envelope'] = {
    where: `name = 'a'`,
    hit: (vault) => revealAccount(vault, as(), 'a'),
    fails: 'integrity',
    spared: (vault) => revealAccount(vault, as(), 'b'),
  };
}

async function rotators(): Promise<void> {
  const [a, b] = [parsePath('turning/a'), parsePath('turning/b')];
  for (const path of [a, b]) {
    await putSecret(t.vault, as(), path, { kind: 'text', body: Buffer.from('x') });
    await putRotator(t.vault, as(), path, { kind: 'password' });
  }
  cases['rotators.envelope'] = {
    where: `secret_id = (SELECT secret_id FROM secrets WHERE path = 'turning/a')`,
    // Shown, it says so; used, it fails.
    hit: (vault) => rotateSecret(vault, as(), a),
    fails: 'integrity',
    spared: (vault) => rotateSecret(vault, as(), b),
  };
}

async function clientSecrets(): Promise<void> {
  await createService(t.vault, as(), { name: 'billing', policies: ['reader'] });
  const [a, b] = [
    await createClientSecret(t.vault, as(), 'billing', { name: 'a' }),
    await createClientSecret(t.vault, as(), 'billing', { name: 'b' }),
  ];
  const enter = (secret: typeof a) => (vault: Vault) => loginBy(vault, callOf(), service, secret);
  cases['client_secrets.secret_hash'] = {
    where: `name = 'a'`,
    ...{ hit: enter(a), fails: 'login_failed', spared: enter(b) },
  };
}

async function secondFactor(): Promise<void> {
  const careful = callOf(await t.user('careful', ['reader']));
  await t.user('plain', ['reader']);
  const { secret } = await enrolFactor(t.vault, careful, { password: PASSWORD });
  const code = new TOTP({ secret: Secret.fromBase32(secret) }).generate();
  const { recoveryCodes } = await confirmFactor(t.vault, careful, code);
  const enter = (username: string, totp?: string) => (vault: Vault) =>
    login(vault, callOf(), { tenant: 'default', username, password: PASSWORD, totp });
  const where = `user_id = (SELECT user_id FROM users WHERE name = 'careful')`;
  const spared = enter('plain');
  // The code of a step that is over: refused before, and after it cannot even be looked at.
  cases['totp_factors.envelope'] = {
    ...{ where, hit: enter('careful', code), well: 'login_failed', fails: 'integrity', spared },
  };
  let used = 0;
  cases['recovery_codes.code_hash'] = {
    ...{ where, hit: (vault) => enter('careful', recoveryCodes[used++])(vault), fails: 'login_failed', spared },
  };
}

/** The secret is opened before the issuer is asked, which nobody reaches. */
async function issuerSecret(): Promise<void> {
  await putIssuer(t.vault, as(), 'corp', {
    issuer: 'https://127.0.0.1',
    client: { id: 'vault', secret: 'of the client' },
  });
  const rules = [{ claims: { sub: ['ann'] }, policies: ['reader'] }];
  await putLoginRole(t.vault, as(), 'people', { kind: 'oidc', issuer: 'corp', rules });
  const hit = async (vault: Vault) => {
    const { login: begun, loginHash, state } = mintLoginSecret();
    await t.owner`
      INSERT INTO oidc_logins (tenant_id, login_hash, role_id, issuer_revision, redirect_uri, source, expires_at)
      SELECT tenant_id, ${loginHash}, role_id, 1, 'http://127.0.0.1/oidc/callback', '', now() + interval '1 hour'
      FROM login_roles WHERE name = 'people'`;
    return loginBy(vault, callOf(), oidc, { tenant: 'default', login: begun, state, code: 'x' });
  };
  const spared = (vault: Vault) => readCubbyhole(vault, as(), 'a');
  cases['issuer_secrets.envelope'] = { where: 'true', hit, well: 'unavailable', fails: 'integrity', spared };
}

/** test/flipped-bit.test.ts has these. */
const ELSEWHERE = [
  ...['secret_versions.envelope', 'secret_metadata.envelope', 'data_key_material.wrapped'],
  ...['root_key_material.wrapped', 'tokens.secret_hash', ...(hasRedis ? [] : ['static_accounts.envelope'])],
];

test('T-199 one flipped bit in any column that is sealed or a hash: its row fails by name, and its neighbour works', async () => {
  const columns = await t.owner`
    SELECT table_name || '.' || column_name AS name FROM information_schema.columns
    WHERE table_schema = 'bulla' AND column_name IN ('envelope', 'wrapped', 'secret_hash', 'code_hash')`;
  expect(columns.map(({ name }) => name).sort()).toEqual([...Object.keys(cases), ...ELSEWHERE].sort());
  await allWell();
  for (const [name, { where, hit, fails, spared }] of Object.entries(cases)) {
    const [table = '', column = ''] = name.split('.');
    const flip = async () => {
      const rows = await t.owner.unsafe(
        `UPDATE ${table} SET ${column} = set_byte(${column}, octet_length(${column}) - 1,
           get_byte(${column}, octet_length(${column}) - 1) # 1) WHERE ${where} RETURNING 1`,
      );
      expect([name, rows.length > 0]).toEqual([name, true]);
    };
    await flip();
    // A node that has nothing in memory.
    const vault = await t.node();
    expect([name, await outcome(hit, vault), await outcome(spared, vault)]).toEqual([name, fails, 'ok']);
    await flip();
  }
  await allWell();
});

async function allWell(): Promise<void> {
  const vault = await t.node();
  for (const [name, { hit, well = 'ok', spared }] of Object.entries(cases)) {
    expect([name, await outcome(hit, vault), await outcome(spared, vault)]).toEqual([name, well, 'ok']);
  }
}
