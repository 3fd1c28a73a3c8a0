/** What two change at the same moment in the ways to log in: nothing is lost, orphaned or done by halves. */
import type postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { putAuthority, putCertificateRole } from '../src/auth/authority.ts';
import { deleteIssuer, putIssuer, readIssuer } from '../src/auth/issuer.ts';
import { putLoginRole, readLoginRole } from '../src/auth/login-role.ts';
import { cert } from '../src/auth/methods/cert.ts';
import { loginBy } from '../src/auth/proven-login.ts';
import type { TenantId } from '../src/db/database.ts';
import { CLIENT_AUTH, make } from './fixtures/certificate.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { codeOf, errorOf, tenantId, waiting } from './witness.ts';

let t: TestVault;
let tenant: TenantId;

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const admin = () => t.call(t.admin);
const url = (name: string) => `https://${name}.example`;
const issuer = (name: string, wish: object = {}) => putIssuer(t.vault, admin(), name, { issuer: url(name), ...wish });
const role = (name: string, of: string) =>
  putLoginRole(t.vault, admin(), name, {
    ...{ issuer: of, audiences: ['vault'] },
    rules: [{ claims: { sub: ['x'] }, policies: ['reader'] }],
  });

/** `act` begins when somebody else has done `theirs`, and goes on when that is committed. */
async function behind<T>(
  theirs: (sql: postgres.TransactionSql) => Promise<unknown>,
  act: () => Promise<T>,
  meanwhile?: (sql: postgres.TransactionSql) => Promise<unknown>,
): Promise<T> {
  let acting: Promise<T> | undefined;
  await t.owner.begin(async (sql) => {
    await theirs(sql);
    acting = act();
    acting.catch(() => undefined);
    await waiting(t.owner, 1);
    await meanwhile?.(sql);
  });
  return acting!;
}

const theirIssuer = (id: string, name: string, issuerUrl: string) => (sql: postgres.TransactionSql) =>
  sql`
  INSERT INTO jwt_issuers (tenant_id, issuer_id, name, issuer, algorithms, clock_skew_seconds, revision, created_at, updated_at)
  VALUES (${tenant}, ${id}, ${name}, ${issuerUrl}, '{RS256}', 30, 1, now(), now())`;

const theirRole = (id: string, name: string, issuerId: string) => (sql: postgres.TransactionSql) =>
  sql`
  INSERT INTO login_roles (tenant_id, role_id, name, kind, issuer_id, audiences, rules, revision, created_at, updated_at)
  VALUES (${tenant}, ${id}, ${name}, 'jwt', ${issuerId}, '{other}', '[{"claims":{"sub":["y"]},"policies":["reader"]}]', 1, now(), now())`;

describe('an issuer that somebody else makes at the same moment', () => {
  it('under the same name is not taken for another one', async () => {
    const theirs = theirIssuer('aaaaaaaaaaaaaaa2', 'two', 'https://theirs.example');
    expect((await errorOf(behind(theirs, () => issuer('two')))).message).toMatch(/The issuer two is https:\/\/theirs/);
    expect(await readIssuer(t.vault, admin(), 'two')).toMatchObject({ issuer: 'https://theirs.example', revision: 1 });
  });

  it('is the same one, and is changed, with its client and the secret of that', async () => {
    const client = { id: 'vault', secret: 'a secret of the client' };
    t.secrets.add(client.secret);
    const put = await behind(theirIssuer('aaaaaaaaaaaaaaa3', 'same', url('same')), () => issuer('same', { client }));
    expect(put).toMatchObject({ created: false, revision: 2, client: { id: 'vault', confidential: true } });
  });
});

describe('a login role', () => {
  it('that somebody else makes at the same moment is changed, and is not said to be new', async () => {
    await issuer('ours');
    const [row] = await t.owner`SELECT issuer_id FROM jwt_issuers WHERE name = 'ours'`;
    const put = await behind(theirRole('aaaaaaaaaaaaaaa4', 'both', row!.issuer_id), () => role('both', 'ours'));
    expect(put).toMatchObject({ created: false, revision: 2, audiences: ['vault'] });
  });

  it('keeps its issuer, which is being deleted at the same moment', async () => {
    await issuer('needed');
    const [row] = await t.owner`SELECT issuer_id FROM jwt_issuers WHERE name = 'needed'`;
    const put = async (sql: postgres.TransactionSql) => {
      await sql`SELECT 1 FROM jwt_issuers WHERE issuer_id = ${row!.issuer_id} FOR SHARE`;
      await theirRole('aaaaaaaaaaaaaaa5', 'needing', row!.issuer_id)(sql);
    };
    const refused = await errorOf(behind(put, () => deleteIssuer(t.vault, admin(), 'needed')));
    expect([refused.code, refused.message]).toEqual(['conflict', expect.stringMatching(/Login roles need the issuer/)]);
    expect(await readLoginRole(t.vault, admin(), 'needing')).toMatchObject({ issuer: 'needed' });
    expect(await codeOf(deleteIssuer(t.vault, admin(), 'never-there'))).toBe('not_found');
  });
});

describe('a data key that is destroyed at the same moment', () => {
  /** The key that is active to begin with is gone, and the one after it active, when the act comes to its row. */
  async function destroyed<T>(name: string, act: (token: string) => Promise<T>): Promise<T> {
    const token = await t.tenant(name);
    const rotated = await t.request('POST', '/api/v1/keys/rotate', { token, body: {} });
    expect(rotated.status, rotated.text).toBeLessThan(300);
    const of = await tenantId(t.owner, name);
    await t.owner`DELETE FROM jobs WHERE tenant_id = ${of}`;
    const become = (sql: postgres.Sql | postgres.TransactionSql, version: number, state: string) =>
      sql`UPDATE data_keys SET state = ${state} WHERE tenant_id = ${of} AND version = ${version}`;
    await become(t.owner, 2, 'decrypt_only');
    await become(t.owner, 1, 'active');
    return behind(
      async (sql) => {
        await sql`DELETE FROM data_key_material WHERE tenant_id = ${of} AND version = 1`;
        await become(sql, 1, 'destroyed');
        await become(sql, 2, 'active');
      },
      () => act(token),
    );
  }

  it('keeps no client secret of an issuer and no second factor from being stored', async () => {
    t.secrets.add('of the registration');
    const client = { id: 'vault', secret: 'of the registration' };
    const put = await destroyed('shredding', (token) =>
      putIssuer(t.vault, t.call(token), 'corp', { issuer: url('corp'), client }),
    );
    expect(put.client).toMatchObject({ confidential: true });
    const enrolled = await destroyed('enrolling', (token) =>
      t.request('POST', '/api/v1/auth/totp', { token, body: { password: PASSWORD } }),
    );
    expect(enrolled.status, enrolled.text).toBeLessThan(300);
    t.secrets.add(enrolled.json.secret);
  });
});

describe('a login that waits for somebody else', () => {
  it('gives no token that outlives its certificate', async () => {
    const authority = await make({ name: 'Clients', ca: true });
    const shown = await make({ name: 'web', by: authority, sans: ['a.web.example'], uses: [CLIENT_AUTH], to: 0.01 });
    const bundle = { certificates: authority.pem, listRequired: false, staleList: 'refuse' } as const;
    await putAuthority(t.vault, admin(), 'corp', bundle);
    const names = ['dns:a.web.example'];
    await putCertificateRole(t.vault, admin(), 'web', { authority: 'corp', names, policies: ['reader'] });
    const chain = [new Uint8Array(shown.cert.rawData)];
    const enter = () => loginBy(t.vault, t.call(), cert, { tenant: 'default', role: 'web', chain });
    const { username } = await enter();
    const late = await behind(
      async (sql) => {
        await sql`SELECT 1 FROM users WHERE tenant_id = ${tenant} AND name = ${username} FOR UPDATE`;
      },
      enter,
      // Longer than any part of a second that is cut off.
      (sql) => sql`SELECT pg_sleep(1.2)`,
    );
    const end = shown.cert.notAfter.getTime();
    expect([late.expiresAt, late.maxExpiresAt].map((time) => Date.parse(time!))).toEqual([end, end]);
  });
});
