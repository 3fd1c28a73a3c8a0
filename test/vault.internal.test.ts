/**
 * T-081: what servers of this API do for themselves is no way in: requests within requests, logins within requests,
 * workflows, raw storage, and verbs that are only meant for other nodes.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PASSWORD, type TestVault, testVault } from './harness.ts';

let t: TestVault;

beforeAll(async () => {
  t = await testVault();
  await t.user('ann', ['admin']);
  await t.request('PUT', '/api/v1/secrets/a', { token: t.admin, body: { text: 'a value' } });
});
afterAll(async () => {
  await t.check();
  await t.close();
});

it('T-081 a login that stands in the headers of another request is none', async () => {
  const parameter = (name: string, value: string) =>
    Buffer.from(JSON.stringify({ key: name, value })).toString('base64');
  const headers = {
    'X-Vault-Inline-Auth-Path': 'auth/userpass/login/ann',
    'X-Vault-Inline-Auth-Operation': 'update',
    'X-Vault-Inline-Auth-Parameter-1': parameter('password', PASSWORD),
    'X-Vault-Inline-Auth-Namespace': 'default',
  };
  for (const path of ['/v1/secret/data/a', '/v1/auth/token/lookup-self', '/v1/sys/policies/acl/admin']) {
    const [told, plain] = [await t.request('GET', path, { headers }), await t.request('GET', path)];
    expect([path, told.status, told.text]).toEqual([path, 403, plain.text]);
  }
  expect((await t.request('GET', '/api/v1/secrets/a', { headers })).status).toBe(401);
  // It is a login where it is one.
  const login = await t.request('POST', '/v1/auth/userpass/login/ann', { body: { password: PASSWORD } });
  expect([login.status, login.json.auth?.policies]).toEqual([200, expect.arrayContaining(['admin'])]);
});

it('T-081 no operation runs others, reads the storage or does what only nodes do, for administrators and operators neither', async () => {
  const paths = [
    ...[
      'sys/batch',
      'sys/workflows/manage/x',
      'sys/workflows/execute/x',
      'sys/raw/core/keyring',
      'sys/raw',
      'sys/storage/raft',
    ],
    ...[
      'sys/internal/counters/tokens',
      'sys/internal/inspect/router/root',
      'sys/internal/specs/openapi',
      'sys/pprof/heap',
    ],
    ...[
      'sys/rekey/init',
      'sys/generate-root/attempt',
      'sys/rotate',
      'sys/rotate/root',
      'sys/step-down',
      'sys/audit-hash/file',
    ],
    ...['sys/config/state/sanitized', 'sys/loggers', 'sys/monitor', 'sys/in-flight-req', 'sys/host-info'],
    ...[
      'sys/plugins/runtimes/catalog',
      'sys/quotas/config',

      'identity/entity',
    ],
  ];
  const body = { requests: [{ operation: 'read', path: 'secret/data/a' }], policies: ['admin'] };
  const reached: unknown[] = [];
  for (const token of [t.admin, t.operator]) {
    for (const path of paths) {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'LIST']) {
        const asked = method === 'GET' || method === 'LIST' ? {} : { body };
        const { status, text } = await t.request(method, `/v1/${path}`, { token, ...asked });
        if (status < 400 || text.includes('a value')) reached.push([method, path, status, text.slice(0, 100)]);
      }
    }
  }
  expect(reached).toEqual([]);
});
