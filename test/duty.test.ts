/** Separation of duty: the roundabout ways to what one does not hold, and to a secret for those who may read none. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { putAuthority, putCertificateRole } from '../src/auth/authority.ts';
import { putIssuer } from '../src/auth/issuer.ts';
import { putLoginRole } from '../src/auth/login-role.ts';
import { jwt } from '../src/auth/methods/jwt.ts';
import { loginBy } from '../src/auth/proven-login.ts';
import { updateUser } from '../src/auth/user.ts';
import { createGroup, updateGroup } from '../src/policy/group.ts';
import { readSecret } from '../src/policy/read.ts';
import { putPolicy } from '../src/policy/store.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { make } from './fixtures/certificate.ts';
import { type TestVault, testVault } from './harness.ts';
import { codeOf, text } from './witness.ts';

let t: TestVault;
const allow = (actions: string[], resources = ['**']) => ({ effect: 'allow', actions, resources });
const admin = () => t.call(t.admin);
const read = (token: string, path = 'prod/key') => codeOf(readSecret(t.vault, t.call(token), parsePath(path), 0));

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const mine = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const keysOf = ({ publicKey }: { publicKey: KeyObject }) => ({
  keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256' }],
});
const AUDIENCE = 'https://vault.example';
const ISSUER = 'https://ci.example';
const issuer = (keys: { publicKey: KeyObject }, more: object = {}) => ({
  ...{ issuer: ISSUER, jwks: keysOf(keys), algorithms: ['ES256' as const], ...more },
});

async function enter(role: string, sub: string, { privateKey }: { privateKey: KeyObject } = pair, aud = AUDIENCE) {
  const signed = await new SignJWT({ iss: ISSUER, sub, aud })
    .setProtectedHeader({ alg: 'ES256', kid: 'one' })
    .setExpirationTime('5m')
    .sign(privateKey);
  return loginBy(t.vault, t.call(), jwt, { tenant: 'default', role, jwt: signed });
}

beforeAll(async () => {
  t = await testVault();
  await putSecret(t.vault, admin(), parsePath('prod/key'), text('a value'));
  await putPolicy(t.vault, admin(), 'nothing', { rules: [] });
  await putPolicy(t.vault, admin(), 'prod', { rules: [allow(['secret.read'], ['secret:prod/**'])] });
  await putIssuer(t.vault, admin(), 'ci', issuer(pair));
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const rule = (sub: string, policies: string[]) => ({ claims: { sub: [sub] }, policies });
const role = (rules: ReturnType<typeof rule>[], audiences = [AUDIENCE]) => ({ issuer: 'ci', audiences, rules });

describe('a deny that stands elsewhere gives nothing', () => {
  it('in another rule of a login role: who fits the one need not fit the other', async () => {
    const roles = [allow(['login-role.*', 'issuer.*', 'policy.write'])];
    for (const [name, held] of [['keeper', 'key-admin'] as const, ['clerk', 'nothing'] as const]) {
      const call = t.call(await t.user(name, [held], roles));
      const denies = held === 'key-admin' ? held : 'no-secrets';
      if (held === 'nothing') {
        const rules = [{ ...allow(['secret.*']), effect: 'deny' }];
        expect(await codeOf(putPolicy(t.vault, call, 'no-secrets', { rules }))).toBe('ok');
      }
      const split = role([rule('me', ['prod']), rule('nobody', [denies])]);
      expect([name, await codeOf(putLoginRole(t.vault, call, `by-${name}`, split))]).toEqual([name, 'forbidden']);
      // In one rule the deny comes along with what it denies.
      const whole = role([rule('me', ['prod', denies])]);
      expect([name, await codeOf(putLoginRole(t.vault, call, `by-${name}`, whole))]).toEqual([name, 'ok']);
      expect(await read((await enter(`by-${name}`, 'me')).token)).toBe('forbidden');
    }
  });

  it('in another role of an issuer or of an authority: whoever says which keys count could come by the one alone', async () => {
    await putIssuer(t.vault, admin(), 'hub', { ...issuer(pair), issuer: 'https://hub.example' });
    const authority = async () => {
      const { pem } = await make({ name: 'Clients', ca: true });
      return { certificates: pem, listRequired: false, staleList: 'refuse' as const };
    };
    await putAuthority(t.vault, admin(), 'corp', await authority());
    for (const [name, policy] of [['reading', 'prod'] as const, ['denied', 'key-admin'] as const]) {
      await putLoginRole(t.vault, admin(), `hub-${name}`, { ...role([rule('x', [policy])]), issuer: 'hub' });
      const names = [`dns:${name}.corp.example`];
      await putCertificateRole(t.vault, admin(), name, { authority: 'corp', names, policies: [policy] });
    }
    const call = t.call(await t.user('warden', ['key-admin'], [allow(['issuer.*', 'authority.*'])]));
    const taken = { ...issuer(mine), issuer: 'https://hub.example' };
    expect(await codeOf(putIssuer(t.vault, call, 'hub', taken))).toBe('forbidden');
    expect(await codeOf(putAuthority(t.vault, call, 'corp', await authority()))).toBe('forbidden');
  });
});

describe('becoming an account that somebody else vouches for', () => {
  it('takes all that it may do: the keys of its issuer, and the roles that let it in', async () => {
    await putLoginRole(t.vault, admin(), 'plain', role([rule('*:main', ['nothing'])]));
    const { username, token } = await enter('plain', 'repo:main');
    await createGroup(t.vault, admin(), { name: 'deployers', policies: ['reader'], members: [username] });
    expect(await read(token)).toBe('ok');
    const call = t.call(await t.user('smith', ['nothing'], [allow(['issuer.*', 'login-role.*'])]));
    expect(await codeOf(putIssuer(t.vault, call, 'ci', issuer(mine)))).toBe('forbidden');
    // Where the account shows its tokens for something else, their receiver could show them here.
    const elsewhere = role([rule('*:main', ['nothing'])], ['https://elsewhere.example']);
    expect(await codeOf(putLoginRole(t.vault, call, 'mine', elsewhere))).toBe('forbidden');
    await updateGroup(t.vault, admin(), 'deployers', { removeMembers: [username] });
    await updateUser(t.vault, admin(), username, { policies: ['reader'] });
    expect(await codeOf(putIssuer(t.vault, call, 'ci', issuer(mine)))).toBe('forbidden');
    expect(await codeOf(putLoginRole(t.vault, call, 'mine', elsewhere))).toBe('forbidden');
    await updateUser(t.vault, admin(), username, { policies: ['nothing'] });
    expect(await codeOf(putLoginRole(t.vault, call, 'mine', elsewhere))).toBe('ok');
  });
});
