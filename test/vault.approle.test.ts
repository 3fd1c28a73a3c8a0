/** Machines under /v1/auth/approle: roles that are services, and secret ids that are their client secrets. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type TestVault, testVault } from './harness.ts';
import { errors, v1Of } from './v1.ts';
import { entriesOf, tenantId } from './witness.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
  await v1('POST', 'auth/approle/role/web', { token_policies: 'reader', token_ttl: '10m' });
  await v1('POST', 'auth/approle/role/other', { token_policies: 'reader' });
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const v1 = v1Of(() => t);
const WRONG = [400, ['invalid role or secret ID']];

async function secretId(role: string, wish: object = {}): Promise<{ secret_id: string; secret_id_accessor: string }> {
  const made = await v1('POST', `auth/approle/role/${role}/secret-id`, wish);
  expect(made.status).toBe(200);
  t.secrets.add(made.json.data.secret_id.split('.')[1].slice(0, 43));
  return made.json.data;
}
const roleId = async (role: string): Promise<string> =>
  (await v1('GET', `auth/approle/role/${role}/role-id`)).json.data.role_id;
const logIn = (role_id: string, secret_id: string, headers: Record<string, string> = {}) =>
  v1('POST', 'auth/approle/login', { role_id, secret_id }, '', headers);

it('T-048 a secret id is in one answer and in the database as a hash; its login is the service’s in the log', async () => {
  const made = await secretId('web', { metadata: '{"pipeline":"7"}' });
  const done = await logIn(await roleId('web'), made.secret_id);
  expect(done.json.auth).toMatchObject({
    ...{ policies: ['default', 'reader'], metadata: { role_name: 'web', pipeline: '7' }, lease_duration: 600 },
  });
  const self = await v1('GET', 'auth/token/lookup-self', undefined, done.json.auth.client_token);
  expect(self.json.data).toMatchObject({ meta: { role_name: 'web', pipeline: '7' }, path: 'auth/approle/login' });
  const rows = JSON.stringify(await t.owner`SELECT * FROM client_secrets`);
  expect(rows).not.toContain(made.secret_id.split('.')[1]!.slice(0, 43));
  const entries = await entriesOf(t.owner, await tenantId(t.owner, 'default'));
  expect(entries.findLast(({ action }) => action === 'auth.login')).toMatchObject({
    actor: { kind: 'service', name: 'web' },
    details: { client_secret: made.secret_id_accessor },
  });
});

it('secret_id_num_uses holds for twenty logins at once', async () => {
  const made = await secretId('web', { num_uses: 3 });
  const id = await roleId('web');
  const all = await Promise.all(Array.from({ length: 20 }, () => logIn(id, made.secret_id)));
  const done = all.filter(({ status }) => status === 200);
  expect(done).toHaveLength(3);
  for (const one of all) if (one.status !== 200) expect(errors(one)).toEqual(WRONG);
  // It is gone for clients, and what it gave goes on to its end.
  expect((await v1('POST', 'auth/approle/role/web/secret-id/lookup', { secret_id: made.secret_id })).status).toBe(204);
  const token = done[0]!.json.auth.client_token;
  expect((await v1('GET', 'auth/token/lookup-self', undefined, token)).status).toBe(200);
});

it('T-058 one role neither sees nor ends a secret id of another, by itself or by its accessor', async () => {
  const made = await secretId('web');
  const by = { secret_id_accessor: made.secret_id_accessor };
  const at = (rest: string) => `auth/approle/role/other/${rest}`;
  expect((await v1('POST', at('secret-id/lookup'), { secret_id: made.secret_id })).status).toBe(204);
  expect((await v1('POST', at('secret-id-accessor/lookup'), by)).status).toBe(404);
  expect((await v1('POST', at('secret-id/destroy'), { secret_id: made.secret_id })).status).toBe(204);
  expect(errors(await v1('POST', at('secret-id-accessor/destroy'), by))).toEqual([403, ['invalid secret id accessor']]);
  expect(errors(await logIn(await roleId('other'), made.secret_id))).toEqual(WRONG);
  expect((await logIn(await roleId('web'), made.secret_id)).status).toBe(200);
});

it('ends a login with its secret id, and refuses what is not right in one way', async () => {
  const made = await secretId('web');
  const id = await roleId('web');
  const token = (await logIn(id, made.secret_id)).json.auth.client_token;
  await v1('POST', 'auth/approle/role/web/secret-id/destroy', { secret_id: made.secret_id });
  expect((await v1('GET', 'auth/token/lookup-self', undefined, token)).status).toBe(403);
  const changed = made.secret_id.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'));
  for (const [role, secret] of [
    [id, made.secret_id],
    [id, changed],
    ['no-such-role-id', made.secret_id],
    [`${id.slice(0, 17)}aaaaaaaaaaaaaaaa`, made.secret_id],
  ] as const) {
    expect(errors(await logIn(role, secret))).toEqual(WRONG);
  }
});

it('T-057 a role id is of one tenant: the same one elsewhere is another role', async () => {
  const acme = await t.tenant('acme');
  await v1('POST', 'auth/approle/role/web', { token_policies: 'reader', role_id: 'web-of-before' }, acme);
  await v1('POST', 'auth/approle/role/web/role-id', { role_id: 'web-of-before' });
  const [ours, theirs] = [
    await secretId('web'),
    (await v1('POST', 'auth/approle/role/web/secret-id', {}, acme)).json.data as { secret_id: string },
  ];
  t.secrets.add(theirs.secret_id.split('.')[1]!.slice(0, 43));
  const there = { 'x-vault-namespace': 'acme' };
  expect((await logIn('web-of-before', ours.secret_id)).status).toBe(200);
  expect((await logIn('web-of-before', theirs.secret_id, there)).status).toBe(200);
  expect(errors(await logIn('web-of-before', theirs.secret_id))).toEqual(WRONG);
  expect(errors(await logIn('web-of-before', ours.secret_id, there))).toEqual(WRONG);
  // A tenant that is named and not that of the client id.
  await v1('DELETE', 'auth/approle/role/web', undefined, acme);
  await v1('POST', 'auth/approle/role/web/role-id', { role_id: 'web-of-before-too' });
  expect(errors(await logIn('web-of-before-too', ours.secret_id, there))).toEqual(WRONG);
  const taken = await v1('POST', 'auth/approle/role/other/role-id', { role_id: 'web-of-before-too' });
  expect(taken.status).toBe(400);
});

it('networks of the role hold for its secret ids and its tokens, whatever these say', async () => {
  await v1('POST', 'auth/approle/role/near', {
    ...{ token_policies: 'reader', secret_id_bound_cidrs: '127.0.0.0/8', token_bound_cidrs: '127.0.0.0/16' },
  });
  const made = await secretId('near', { cidr_list: ['127.0.0.1', '10.0.0.0/8'] });
  const done = await logIn(await roleId('near'), made.secret_id);
  const self = await v1('GET', 'auth/token/lookup-self', undefined, done.json.auth.client_token);
  expect(self.json.data.bound_cidrs).toEqual(['127.0.0.1/32']);
  await v1('POST', 'auth/approle/role/near/secret-id-bound-cidrs', { secret_id_bound_cidrs: '10.0.0.0/8' });
  expect(errors(await logIn(await roleId('near'), made.secret_id))).toEqual(WRONG);
});

it('token_num_uses and token_period are what its tokens have', async () => {
  await v1('POST', 'auth/approle/role/few', { token_policies: 'reader', token_num_uses: 2, token_period: '30m' });
  const made = await secretId('few');
  const done = await logIn(await roleId('few'), made.secret_id);
  expect(done.json.auth).toMatchObject({ num_uses: 2, lease_duration: 1800 });
  const look = () => v1('GET', 'auth/token/lookup-self', undefined, done.json.auth.client_token);
  expect((await look()).json.data).toMatchObject({ period: 1800 });
  expect((await look()).status).toBe(200);
  expect((await look()).status).toBe(403);
});

it('whoever may not make secrets of a service does not by this path, and gives no policy that they do not hold', async () => {
  const rules = [{ effect: 'allow', actions: ['service.read', 'service.list'], resources: ['service:*'] }];
  const looker = await t.user('looker', [], rules);
  expect((await v1('GET', 'auth/approle/role/web', undefined, looker)).status).toBe(200);
  expect((await v1('POST', 'auth/approle/role/web/secret-id', {}, looker)).status).toBe(403);
  expect((await v1('POST', 'auth/approle/role/web', { token_policies: 'admin' }, looker)).status).toBe(403);
  const maker = await t.user('maker', [], [{ effect: 'allow', actions: ['service.*'], resources: ['service:*'] }]);
  expect((await v1('POST', 'auth/approle/role/mine', { token_policies: 'admin' }, maker)).status).toBe(403);
  const asked = await v1('POST', 'sys/capabilities-self', { path: 'auth/approle/role/web/secret-id' }, looker);
  expect(asked.json.data.capabilities).toEqual(['list']);
});

it('what no id can be finds none, as any wrong one; metadata does not say another role; the log says what is widened', async () => {
  expect(errors(await logIn('\0aaaaaaaa', 'x'))).toEqual(WRONG);
  const lookup = 'auth/approle/role/web/secret-id-accessor/lookup';
  expect((await v1('POST', lookup, { secret_id_accessor: '\0aaaaaaaa' })).status).toBe(404);
  const made = await secretId('web', { metadata: '{"role_name":"root"}' });
  const done = await logIn(await roleId('web'), made.secret_id);
  expect(done.json.auth.metadata).toEqual({ role_name: 'web' });
  const part = (name: string) => `auth/approle/role/other/${name}`;
  await v1('POST', part('secret-id-bound-cidrs'), { secret_id_bound_cidrs: '10.0.0.0/8,192.168.0.0/16' });
  await v1('DELETE', part('secret-id-bound-cidrs'));
  await v1('POST', part('token-num-uses'), { token_num_uses: 3 });
  const entries = await entriesOf(t.owner, await tenantId(t.owner, 'default'));
  const said = entries.filter(({ action, resource }) => action === 'service.write' && resource === 'service:other');
  expect(said.slice(-3).map(({ details }) => details)).toEqual([
    { secret_cidrs: '10.0.0.0/8 192.168.0.0/16' },
    { secret_cidrs: 'none' },
    { token_uses: 3 },
  ]);
});
