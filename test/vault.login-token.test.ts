/** What logins under /v1 give: tokens that are bounded by what a user or a role says, and claims of a signed token. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Answer, PASSWORD, type TestVault, testVault } from './harness.ts';
import { errors, v1Of } from './v1.ts';
import { entriesOf, tenantId } from './witness.ts';

let t: TestVault;
let key: KeyObject;
const ISSUER = 'https://issuer.example';

beforeAll(async () => {
  t = await testVault();
  const pair = generateKeyPairSync('ed25519');
  key = pair.privateKey;
  const pem = pair.publicKey.export({ type: 'spki', format: 'pem' });
  const config = { jwt_validation_pubkeys: [pem], bound_issuer: ISSUER, jwt_supported_algs: ['EdDSA'] };
  expect((await v1('POST', 'auth/jwt/config', { ...config, default_role: 'web' })).status).toBe(204);
  expect((await v1('GET', 'auth/jwt/config')).json.data.default_role).toBe('web');
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const v1 = v1Of(() => t);
const lookup = async (token: string) => (await v1('POST', 'auth/token/lookup', { token })).json.data;

const signed = (claims: Record<string, unknown>) =>
  new SignJWT({ sub: 'repo:acme/web', ...claims })
    .setProtectedHeader({ alg: 'EdDSA' })
    .setIssuer(ISSUER)
    .setAudience('vault')
    .setIssuedAt()
    .setExpirationTime('5m')
    .sign(key);
const ROLE = { role_type: 'jwt', user_claim: 'sub', bound_audiences: ['vault'], token_policies: ['reader'] };
const putRole = async (name: string, role: Record<string, unknown>) =>
  expect((await v1('POST', `auth/jwt/role/${name}`, { ...ROLE, bound_subject: 'repo:acme/web', ...role })).status).toBe(
    204,
  );
const logIn = async (role: string | undefined, claims: Record<string, unknown> = {}) =>
  v1('POST', 'auth/jwt/login', { role, jwt: await signed(claims) }, '');

const BOUNDS = { token_ttl: '10m', token_max_ttl: '40m', token_explicit_max_ttl: '20m', token_num_uses: 9 };

/** Each way of logging in, with a user or role that says these settings; what it answers. */
const METHODS: Readonly<Record<string, (settings: Record<string, unknown>) => Promise<Answer>>> = {
  userpass: async (settings) => {
    const wish = { password: PASSWORD, token_policies: ['reader'], ...settings };
    expect((await v1('POST', 'auth/userpass/users/ann', wish)).status).toBe(204);
    return v1('POST', 'auth/userpass/login/ann', { password: PASSWORD }, '');
  },
  approle: async (settings) => {
    expect((await v1('POST', 'auth/approle/role/app', { token_policies: ['reader'], ...settings })).status).toBe(204);
    const { role_id } = (await v1('GET', 'auth/approle/role/app/role-id')).json.data;
    const { secret_id } = (await v1('POST', 'auth/approle/role/app/secret-id', {})).json.data;
    return v1('POST', 'auth/approle/login', { role_id, secret_id }, '');
  },
  jwt: async (settings) => {
    await putRole('bounded', settings);
    return logIn('bounded');
  },
};
const SHOWN: Readonly<Record<string, string>> = {
  ...{ userpass: 'auth/userpass/users/ann', approle: 'auth/approle/role/app', jwt: 'auth/jwt/role/bounded' },
};

describe.each(Object.keys(METHODS))('tokens of %s', (name) => {
  const made = async (settings: Record<string, unknown>) => {
    const answer = await METHODS[name]!(settings);
    expect(answer.status).toBe(200);
    return answer.json.auth;
  };

  it('are bounded as their user or role says, which shows it', async () => {
    const auth = await made(BOUNDS);
    expect([auth.lease_duration, auth.num_uses, auth.policies]).toEqual([600, 9, ['default', 'reader']]);
    expect(await lookup(auth.client_token)).toMatchObject({ explicit_max_ttl: 1200, num_uses: 9 });
    const renewed = await v1('POST', 'auth/token/renew-self', { increment: '3h' }, auth.client_token);
    expect(renewed.json.auth.lease_duration).toBeGreaterThan(1100);
    expect(renewed.json.auth.lease_duration).toBeLessThanOrEqual(1200);
    expect((await v1('GET', SHOWN[name]!)).json.data).toMatchObject({
      ...{ token_ttl: 600, token_max_ttl: 2400, token_explicit_max_ttl: 1200, token_num_uses: 9, token_period: 0 },
      ...{ token_policies: ['reader'], token_no_default_policy: false, token_bound_cidrs: [] },
    });
  });

  it('are periodic, up to an end that no renewal passes', async () => {
    const none = { token_ttl: 0, token_max_ttl: 0, token_num_uses: 0 };
    const auth = await made({ ...none, token_period: '30m', token_explicit_max_ttl: '45m' });
    expect([auth.lease_duration, auth.num_uses]).toEqual([1800, 0]);
    const { period, issue_time } = await lookup(auth.client_token);
    await t.owner`
      UPDATE tokens SET max_expires_at = max_expires_at - interval '30 minutes' WHERE token_id = ${auth.accessor}`;
    await v1('POST', 'auth/token/renew-self', {}, auth.client_token);
    const ends = Date.parse((await lookup(auth.client_token)).expire_time);
    expect([period, ends - Date.parse(issue_time)]).toEqual([1800, 15 * 60_000]);
  });

  it('may be without default, and are had and used from some networks only', async () => {
    const none = { token_period: 0, token_explicit_max_ttl: 0 };
    const auth = await made({ ...none, token_no_default_policy: true });
    expect(auth.policies).toEqual(['reader']);
    expect((await v1('GET', 'auth/token/lookup-self', undefined, auth.client_token)).status).toBe(403);
    expect((await v1('LIST', 'secret/metadata/', undefined, auth.client_token)).status).not.toBe(403);
    const elsewhere = { token_bound_cidrs: ['192.0.2.0/24'] };
    expect((await METHODS[name]!({ ...none, ...elsewhere, token_no_default_policy: false })).status).toBe(400);
    const here = await made({ token_bound_cidrs: ['127.0.0.1', '::1'] });
    expect((await lookup(here.client_token)).bound_cidrs).toEqual(['127.0.0.1/32', '::1/128']);
  });

  it('refuse what would not be enforced, and what cannot be', async () => {
    for (const wrong of [
      { token_strictly_bind_ip: true },
      { token_type: 'batch' },
      { token_ttl: '5m', token_period: '5m' },
      { token_max_ttl: '1m', token_ttl: '5m' },
      { token_num_uses: -1 },
      { token_bound_cidrs: ['10.0.0.1/8'] },
      { token_explicit_max_ttl: '9999999h' },
    ]) {
      const answer = await v1('POST', SHOWN[name]!, { ...ROLE, bound_subject: 'x', password: PASSWORD, ...wrong });
      expect([wrong, answer.status]).toEqual([wrong, 400]);
    }
  });
});

describe('users', () => {
  it('keep what a write leaves out, and the log says what was changed', async () => {
    await v1('POST', 'auth/userpass/users/ben', { password: PASSWORD, token_ttl: '5m', token_num_uses: 3 });
    expect((await v1('POST', 'auth/userpass/users/ben', { token_num_uses: 0 })).status).toBe(204);
    expect((await v1('GET', 'auth/userpass/users/ben')).json.data).toMatchObject({ token_ttl: 300, token_num_uses: 0 });
    const entries = await entriesOf(t.owner, await tenantId(t.owner, 'default'));
    const said = entries.filter(({ resource, outcome }) => resource === 'user:ben' && outcome === 'ok');
    expect(said.flatMap(({ action, details }) => (action === 'user.write' ? [details] : []))).toMatchObject([
      { token_ttl: 300, token_uses: 3 },
      { token_uses: 'none' },
    ]);
  });

  it('that somebody else proves have none of their own', async () => {
    await putRole('web', {});
    expect((await logIn('web')).status).toBe(200);
    const external = (await v1('LIST', 'auth/userpass/users')).json.data.keys.find((one: string) => /^jwt-/.test(one));
    expect(errors(await v1('POST', `auth/userpass/users/${external}`, { token_ttl: '5m' }))).toEqual([
      ...[400, ['tokens: what bounds the tokens of this account, its login role says.']],
    ]);
  });
});

describe('claims of a signed token', () => {
  it('are shown by the names that the role gives them, in the answer and by the token', async () => {
    await putRole('mapped', { claim_mappings: { ref: 'branch', '/job/id': 'job', absent: 'none' } });
    const auth = (await logIn('mapped', { ref: 'main', job: { id: 17 } })).json.auth;
    expect(auth.metadata).toEqual({ role: 'mapped', branch: 'main', job: '17' });
    expect((await lookup(auth.client_token)).meta).toEqual(auth.metadata);
    expect((await v1('GET', 'auth/jwt/role/mapped')).json.data.claim_mappings).toEqual({
      ...{ ref: 'branch', '/job/id': 'job', absent: 'none' },
    });
    for (const job of [{ id: ['a'] }, { id: { a: 1 } }, { id: 'x'.repeat(257) }, { id: '' }]) {
      expect((await logIn('mapped', { ref: 'main', job })).status).toBe(400);
    }
  });

  it('a mapping says each name once, and never that of the role', async () => {
    for (const claim_mappings of [{ a: 'role' }, { a: 'x', b: 'x' }, { a: 'two words' }, { 'a b': 'x' }]) {
      const role = { ...ROLE, bound_subject: 'repo:acme/web', claim_mappings };
      expect((await v1('POST', 'auth/jwt/role/wrong', role)).status).toBe(400);
    }
  });

  it('the one that says who somebody is makes accounts of its own', async () => {
    await putRole('web', {});
    await putRole('mail', { user_claim: 'email' });
    const account = async (role: string, claims: Record<string, unknown>) => {
      const { client_token } = (await logIn(role, claims)).json.auth;
      return (await t.request('GET', '/api/v1/auth/self', { token: client_token })).json.username;
    };
    const [ann, again, ben] = [
      await account('mail', { email: 'ann@acme.example' }),
      await account('mail', { email: 'ann@acme.example', jti: 'another' }),
      await account('mail', { email: 'ben@acme.example' }),
    ];
    expect([ann === again, ann === ben]).toEqual([true, false]);
    // A subject that reads like somebody's address is not that somebody.
    await putRole('looks', { bound_subject: 'ann@acme.example' });
    expect(await account('looks', { sub: 'ann@acme.example' })).not.toBe(ann);
    await putRole('nested', { user_claim: '/job/owner', user_claim_json_pointer: true });
    expect(await account('nested', { job: { owner: 'ann@acme.example' } })).not.toBe(ann);
    const half = { ...ROLE, bound_subject: 'x', user_claim: '/job/owner' };
    expect((await v1('POST', 'auth/jwt/role/half', half)).status).toBe(400);
    for (const email of [undefined, '', 'two words', ['ann@acme.example'], 'x'.repeat(300)]) {
      expect([email, (await logIn('mail', { email })).status]).toEqual([email, 400]);
    }
  });

  it('a login that names no role has the one of the configuration, if there is one', async () => {
    await putRole('web', {});
    expect((await logIn(undefined)).json.auth.metadata).toEqual({ role: 'web' });
    expect((await logIn(undefined, { sub: 'repo:acme/other' })).status).toBe(400);
    const answer = await t.request('POST', '/v1/auth/jwt/login', {
      ...{ headers: { 'x-vault-namespace': 'nowhere' }, raw: JSON.stringify({ jwt: await signed({}) }) },
    });
    expect(errors(answer)).toEqual([400, ['missing role']]);
    await v1('DELETE', 'auth/jwt/role/web');
    expect(errors(await logIn(undefined))).toEqual([
      ...[400, ['error validating token: the role or the token is not right']],
    ]);
  });
});
