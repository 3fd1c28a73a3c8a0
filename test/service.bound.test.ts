/** A service that makes itself another client secret: never one that goes where the token that makes it does not. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createToken } from '../src/auth/child.ts';
import { createClientSecret } from '../src/auth/client-secret.ts';
import { service } from '../src/auth/methods/service.ts';
import { loginBy } from '../src/auth/proven-login.ts';
import { createService } from '../src/auth/service.ts';
import { putPolicy } from '../src/policy/store.ts';
import { type TestVault, testVault } from './harness.ts';
import { codeOf, errorOf } from './witness.ts';

let t: TestVault;
let made = 0;

beforeAll(async () => {
  t = await testVault();
  const rules = [
    { effect: 'allow', actions: ['service.issue', 'token.create'], resources: ['**'] },
    { effect: 'allow', actions: ['secret.read'], resources: ['secret:app/**'] },
  ];
  await putPolicy(t.vault, t.call(t.admin), 'whole', { rules });
  await putPolicy(t.vault, t.call(t.admin), 'issuing', { rules: rules.slice(0, 1) });
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const issue = async (name: string, token: string, wish: object = {}, certificate?: Uint8Array) => {
  made += 1;
  const secret = await createClientSecret(t.vault, { ...t.call(token), certificate }, name, {
    name: `s${made}`,
    ...wish,
  });
  t.secrets.add(secret.clientSecret.split('.')[1]!.slice(0, 43));
  return secret;
};
const tokenOf = async ({ clientId, clientSecret }: { clientId: string; clientSecret: string }) =>
  (await loginBy(t.vault, t.call(), service, { clientId, clientSecret })).token;
const start = async (name: string, settings: object = {}, wish: object = {}) => {
  await createService(t.vault, t.call(t.admin), { name, policies: ['whole'], ...settings });
  return tokenOf(await issue(name, t.admin, wish));
};

it('bound to networks makes secrets for these, and none for others or for everywhere', async () => {
  const token = await start('nets', {}, { cidrs: ['127.0.0.0/8'] });
  const refused = await errorOf(issue('nets', token));
  expect([refused.code, refused.message]).toEqual(['forbidden', expect.stringContaining('127.0.0.0/8')]);
  expect(await codeOf(issue('nets', token, { cidrs: ['127.0.0.1/32', '10.0.0.0/8'] }))).toBe('forbidden');
  expect(await codeOf(issue('nets', token, { cidrs: ['127.0.0.1/32'] }))).toBe('ok');
  // Whose tokens are all bound so by the service itself need not say it again.
  const own = await start('own', { tokenCidrs: ['127.0.0.0/8'] });
  expect(await codeOf(issue('own', own))).toBe('ok');
  expect(await codeOf(issue('own', t.admin))).toBe('ok');
});

it('bound to a certificate makes none of its own account', async () => {
  const token = await start('cert');
  const certificate = new Uint8Array(32).fill(7);
  expect(await codeOf(issue('cert', token))).toBe('ok');
  await t.owner`
    UPDATE tokens SET certificate = ${certificate}
    WHERE user_id = (SELECT user_id FROM users WHERE name = 'cert')`;
  const refused = await errorOf(issue('cert', token, {}, certificate));
  expect([refused.code, refused.message]).toEqual(['forbidden', expect.stringMatching(/bound to a certificate/)]);
});

it('bound to fewer policies makes none that has them all', async () => {
  const token = await start('few');
  expect(await codeOf(issue('few', token))).toBe('ok');
  const { token: child } = await createToken(t.vault, t.call(token), { policies: ['issuing'] });
  expect(await codeOf(issue('few', child))).toBe('forbidden');
});
