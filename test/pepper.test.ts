/** Rotating the pepper: logins take the new one along, nobody is locked out, and an old one goes only when nobody needs it. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { updateUser } from '../src/auth/user.ts';
import { destroyPepper, listPeppers, listUnderPepper, rotatePepper } from '../src/job/pepper.ts';
import { callOf, PASSWORD, type TestVault, testVault } from './harness.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());

const peppers = async () =>
  (await listPeppers(t.vault, callOf(t.operator), {})).items.map(
    ({ version, state, users }) => `${version} ${state} ${users}`,
  );

test('T-031 T-032 a new pepper takes each user at the next login; who has not come back is listed', async () => {
  await t.user('absent', []);
  const admin = await t.tenant('acme');
  expect(admin).toMatch(/^bulla_/);
  expect(await peppers()).toEqual(['1 active 4']);
  expect(await rotatePepper(t.vault, callOf(t.operator))).toMatchObject({ version: 2, state: 'active', users: 0 });
  expect(await peppers()).toEqual(['2 active 0', '1 retiring 4']);

  await t.login('default', 'admin');
  await t.login('system', 'operator');
  expect(await peppers()).toEqual(['2 active 2', '1 retiring 2']);
  await expect(t.login('default', 'admin', 'not the right password')).rejects.toMatchObject({ code: 'login_failed' });

  const first = await listUnderPepper(t.vault, callOf(t.operator), 1, { limit: 1 });
  const second = await listUnderPepper(t.vault, callOf(t.operator), 1, { limit: 1, cursor: first.nextCursor! });
  const listed = [...first.items, ...second.items].map(({ tenant, username }) => `${tenant}/${username}`);
  expect([listed.sort(), second.nextCursor]).toEqual([['acme/admin', 'default/absent'], null]);
});

test('who has not come back for so many days is listed apart', async () => {
  await t.owner`UPDATE users SET last_login_at = bulla.now() - interval '40 days' WHERE name = 'absent'`;
  const days = (n: number) => t.request('GET', `/api/v1/peppers/1/users?absent_for=${n}d`, { token: t.operator });
  expect((await days(30)).json.items).toEqual([
    { tenant: 'default', username: 'absent', last_login_at: expect.stringMatching(/Z$/) },
  ]);
  expect((await days(41)).json.items).toEqual([]);
  expect((await t.request('GET', '/api/v1/peppers/1/users', { token: t.operator })).json.items).toHaveLength(2);
});

test('T-032 an old pepper is not destroyed while a password depends on it, nor the active one', async () => {
  const destroy = (version: number, endPasswords = false) =>
    destroyPepper(t.vault, callOf(t.operator), version, { endPasswords });
  await expect(destroy(1)).rejects.toMatchObject({ code: 'conflict' });
  await expect(destroy(2)).rejects.toMatchObject({ code: 'conflict' });
  await expect(destroy(9)).rejects.toMatchObject({ code: 'not_found' });
  await expect(t.owner`DELETE FROM system_key_material WHERE purpose = 'pepper' AND version = 1`).rejects.toThrow(
    /foreign key/,
  );
});

test('passwords that are ended let nobody in until an administrator resets them, and end their tokens', async () => {
  const before = await t.login('acme', 'admin');
  await t.user('idle', []);
  await rotatePepper(t.vault, callOf(t.operator));
  await t.login('system', 'operator');
  await t.login('acme', 'admin');
  await t.login('default', 'admin');
  await destroyPepper(t.vault, callOf(t.operator), 1, { endPasswords: true });
  await destroyPepper(t.vault, callOf(t.operator), 2, { endPasswords: true });
  await destroyPepper(t.vault, callOf(t.operator), 2, { endPasswords: true });
  expect(await peppers()).toEqual(['3 active 3', '2 destroyed 0', '1 destroyed 0']);
  expect(before).toMatch(/^bulla_/);
  for (const name of ['absent', 'idle']) {
    await expect(t.login('default', name)).rejects.toMatchObject({ code: 'login_failed' });
    const reset = await updateUser(t.vault, callOf(t.admin), name, { password: `${PASSWORD} again` });
    expect(reset.username).toBe(name);
    expect(await t.login('default', name, `${PASSWORD} again`)).toMatch(/^bulla_/);
  }
  const gone = await t.owner`SELECT 1 FROM system_key_material WHERE purpose = 'pepper' AND version < 3`;
  expect(gone).toHaveLength(0);
  await t.check();
});

test('T-072 a tenant administrator rotates no pepper', async () => {
  await expect(rotatePepper(t.vault, callOf(t.admin))).rejects.toMatchObject({ code: 'forbidden' });
  await expect(listPeppers(t.vault, callOf(t.admin), {})).rejects.toMatchObject({ code: 'forbidden' });
});
