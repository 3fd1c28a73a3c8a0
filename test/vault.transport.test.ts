/** How /v1 is asked and answers whatever is asked for: bodies, paths, tokens, namespaces, what says how the server is. */
import { Agent, get } from 'node:http';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type TestVault, testVault } from './harness.ts';
import { errors, v1Of } from './v1.ts';
import { entriesOf, rowsHash, tenantId } from './witness.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
  await v1('PUT', 'secret/data/kv/one', { data: { a: 1 } });
});
afterAll(() => t.close());

const v1 = v1Of(() => t);

it('reads JSON whatever the content type says, forms that are none, and refuses the rest in its own shape', async () => {
  for (const type of [
    'text/plain;charset=UTF-8',
    'application/x-www-form-urlencoded',
    'application/octet-stream',
    'application/json; charset=utf-8',
  ]) {
    const answer = await v1('POST', 'secret/data/kv/type', '{"data":{"a":1}}', undefined, { 'content-type': type });
    expect([type, answer.status]).toEqual([type, 200]);
  }
  expect(errors(await v1('POST', 'secret/data/kv/type', '{"data":'))).toEqual([400, ['error parsing JSON']]);
  expect(errors(await v1('POST', 'secret/data/kv/type', '[1]'))).toEqual([400, ['error parsing JSON']]);
  expect(errors(await v1('POST', 'secret/data/', '{}'))).toEqual([400, ["cannot write to a path ending in '/'"]]);
  expect(errors(await v1('GET', 'secret/data/a/'))).toEqual([404, []]);
  expect(errors(await v1('DELETE', 'secret/config'))).toEqual([
    405,
    ['1 error occurred:\n\t* unsupported operation\n\n'],
  ]);
  expect(errors(await v1('GET', 'sys/nothing'))).toEqual([404, ['1 error occurred:\n\t* unsupported path\n\n']]);
  expect((await t.request('GET', '/v1')).status).toBe(404);
});

it('T-060 a path that is not canonical is 400 in the shape of this API', async () => {
  for (const path of ['secret/data/a%2fb', 'secret/data//a', 'secret/data/a//', '/secret/data/a']) {
    const answer = await v1('GET', path);
    expect([path, answer.status, Array.isArray(answer.json.errors)]).toEqual([path, 400, true]);
  }
});

it('without a token, with one that is none, and by a policy: 403 in three ways', async () => {
  const nobody = await t.user('kv-nobody', []);
  expect(errors(await t.request('GET', '/v1/secret/data/a'))).toEqual([403, ['permission denied']]);
  expect(errors(await v1('GET', 'secret/data/a', undefined, 'hvs.nonsense'))).toEqual([403, ['permission denied']]);
  expect(errors(await v1('GET', 'secret/data/a', undefined, nobody))).toEqual([
    403,
    ['1 error occurred:\n\t* permission denied\n\n'],
  ]);
  const bearer = await t.request('GET', '/v1/secret/config', { token: t.admin });
  expect(bearer.status).toBe(200);
});

it('on one connection each request is judged by the token that it brings, and by how it brings it', async () => {
  const other = await t.user('kv-other', []);
  const address = await t.address();
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ports = new Set<number | undefined>();
  const ask = (headers: Record<string, string>, path = '/v1/secret/data/kv/one') =>
    new Promise<number | undefined>((resolve, reject) => {
      const request = get(`${address}${path}`, { agent, headers }, (answer) => {
        ports.add(request.socket?.localPort);
        answer.resume().once('end', () => resolve(answer.statusCode));
      });
      request.once('error', reject);
    });
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const own = (token: string) => ({ 'x-vault-token': token });
  const native = '/api/v1/secrets/kv/one';
  const { admin } = t;
  const asked = [
    [own(admin), undefined, 200],
    [bearer(admin), native, 200],
    // Neither way reads what the other one was shown.
    [own(`Bearer ${admin}`), undefined, 403],
    [bearer(admin), native, 200],
    [bearer(`Bearer ${admin}`), native, 401],
    [own(admin), undefined, 200],
    [{ ...bearer(admin), ...own(other) }, undefined, 403],
    [{ ...bearer(other), ...own(admin) }, undefined, 200],
    [own('x'), undefined, 403],
    [bearer(other), native, 403],
    [own(admin), undefined, 200],
  ] as const;
  const statuses: (number | undefined)[] = [];
  for (const [headers, path] of asked) statuses.push(await ask(headers, path));
  expect(statuses).toEqual(asked.map(([, , status]) => status));
  agent.destroy();
  expect(ports.size).toBe(1);
});

it('a namespace is the tenant of the token, and no other', async () => {
  const acme = await t.tenant('acme');
  await v1('PUT', 'secret/data/mine', { data: { of: 'acme' } }, acme);
  for (const namespace of ['', '/', 'root', 'acme', '/acme/']) {
    const answer = await v1('GET', 'secret/data/mine', undefined, acme, { 'x-vault-namespace': namespace });
    expect([namespace, answer.json?.data?.data]).toEqual([namespace, { of: 'acme' }]);
    const echoed = namespace.includes('acme') ? 'acme' : null;
    expect([namespace, answer.headers.get('x-vault-namespace')]).toEqual([namespace, echoed]);
  }
  const theirs = await tenantId(t.owner, 'acme');
  const before = await rowsHash(t.owner, theirs);
  for (const namespace of ['acme', 'no-such-tenant']) {
    const answer = await v1('GET', 'secret/data/mine', undefined, undefined, { 'x-vault-namespace': namespace });
    expect(errors(answer)).toEqual([404, ['no handler for route "secret/data/mine". route entry not found.']]);
  }
  expect(errors(await v1('GET', 'secret/data/mine'))).toEqual([404, []]);
  expect(await rowsHash(t.owner, theirs)).toBe(before);
});

it('T-087 every request of a known token has its entries, under the protocol’s name', async () => {
  const sent: [string, string, unknown?, Record<string, string>?][] = [
    ['GET', 'secret/data/kv/one'],
    ['GET', 'secret/data/kv/never'],
    ['LIST', 'secret/metadata/'],
    ['GET', 'secret/data/a%2fb'],
    ['GET', 'nothing/here'],
    ['DELETE', 'secret/config'],
    ['POST', 'secret/data/kv/one', '{'],
    ['POST', 'secret/data/kv/one', {}],
    ['GET', 'secret/config', undefined, { 'x-vault-namespace': 'other' }],
    ['GET', 'auth/token/lookup-self'],
    ['GET', 'sys/mounts'],
  ];
  const ids: string[] = [];
  for (const [i, [method, path, body, headers]] of sent.entries()) {
    const id = `v1-${i}`;
    await v1(method, path, body, undefined, { 'x-request-id': id, ...headers });
    ids.push(id);
  }
  const entries = await entriesOf(t.owner, await tenantId(t.owner, 'default'));
  expect(ids.filter((id) => !entries.some(({ request }) => request === id))).toEqual([]);
  expect(entries.find(({ request }) => request === 'v1-0')).toMatchObject({
    ...{ action: 'secret.read', resource: 'secret:kv/one', outcome: 'ok', protocol: 'vault' },
  });
});

it('health, seal-status, leader and init answer to anybody, and say no version of the product', async () => {
  const health = await t.request('GET', '/v1/sys/health');
  expect([health.status, health.json]).toEqual([
    200,
    expect.objectContaining({ initialized: true, sealed: false, standby: false }),
  ]);
  const head = await t.request('HEAD', '/v1/sys/health?activecode=299');
  expect([head.status, head.text]).toEqual([299, '']);
  expect((await t.request('GET', '/v1/sys/health?activecode=abc')).status).toBe(400);
  expect((await t.request('GET', '/v1/sys/seal-status')).json).toMatchObject({
    initialized: true,
    sealed: false,
    storage_type: 'postgresql',
    nonce: '',
    migration: false,
    recovery_seal: false,
  });
  expect((await t.request('GET', '/v1/sys/leader')).json).toMatchObject({ ha_enabled: false, is_self: true });
  expect((await t.request('GET', '/v1/sys/init')).json).toEqual({ initialized: true });
  expect(errors(await t.request('PUT', '/v1/sys/init', { raw: '{"secret_shares":5}' }))).toEqual([
    400,
    ['Vault is already initialized'],
  ]);
  expect(errors(await t.request('PUT', '/v1/sys/unseal', { raw: '{}' }))).toEqual([
    400,
    ["'key' must be specified in request body as JSON, or 'reset' set to true"],
  ]);
  expect((await t.request('PUT', '/v1/sys/unseal', { raw: '{"key":"x"}' })).json.sealed).toBe(false);
  expect((await v1('PUT', 'sys/seal')).status).toBe(403);
});

it('sealed, everything but what says so is 503', async () => {
  const sealed = await v1('PUT', 'sys/seal', undefined, t.operator);
  expect(sealed.status).toBe(204);
  expect((await t.request('GET', '/v1/sys/health')).status).toBe(503);
  expect((await t.request('GET', '/v1/sys/health?sealedcode=299')).json).toMatchObject({ sealed: true });
  expect((await t.request('GET', '/v1/sys/seal-status')).json).toMatchObject({ sealed: true });
  const refused = await v1('GET', 'secret/data/kv/one');
  expect(errors(refused)).toEqual([503, ['Vault is sealed']]);
  expect(refused.headers.get('retry-after')).toMatch(/^\d+$/);
});
