/** Every listing with hostile limits and cursors: refused, or one's own things; never a fault of ours. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { listUsers } from '../src/auth/user.ts';
import type { PageAsk } from '../src/db/page.ts';
import { listJobs } from '../src/job/job.ts';
import { listPeppers, listUnderPepper } from '../src/job/pepper.ts';
import { ENVELOPE_TABLES } from '../src/job/reencrypt.ts';
import { listPolicies } from '../src/policy/store.ts';
import { listSecrets } from '../src/secret/list.ts';
import type { SecretPrefix } from '../src/secret/path.ts';
import { listRootKeys } from '../src/tenant/root-key.ts';
import { listDataKeys } from '../src/tenant/rotation.ts';
import { listTenants } from '../src/tenant/tenant.ts';
import { type TestVault, testVault } from './harness.ts';
import { codeOf } from './witness.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
});
afterAll(() => t.close());

const lists: Record<string, (page: PageAsk) => Promise<unknown>> = {
  secrets: (page) => listSecrets(t.vault, t.call(t.admin), { prefix: '' as SecretPrefix, recursive: true, ...page }),
  users: (page) => listUsers(t.vault, t.call(t.admin), page),
  policies: (page) => listPolicies(t.vault, t.call(t.admin), page),
  jobs: (page) => listJobs(t.vault, t.call(t.admin), page),
  'data keys': (page) => listDataKeys(t.vault, t.call(t.admin), page, ENVELOPE_TABLES),
  'root keys': (page) => listRootKeys(t.vault, t.call(t.operator), page),
  tenants: (page) => listTenants(t.vault, t.call(t.operator), page),
  'users under a pepper': (page) => listUnderPepper(t.vault, t.call(t.operator), 1, page),
};

it.each(Object.keys(lists))('T-084 %s', async (name) => {
  const list = lists[name]!;
  for (const limit of [0, -1, 1001, 1e9, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(await codeOf(list({ limit })), `limit ${limit}`).toBe('invalid_request');
  }
  expect(await codeOf(list({ limit: 1000 }))).toBe('ok');
  const of = (key: string) => Buffer.from(key).toString('base64url');
  for (const cursor of ['%', 'a b', 'YQ==', 'x'.repeat(2000), of('\0'), 'gA', '_', 'ÿ']) {
    expect(await codeOf(list({ cursor })), JSON.stringify(cursor.slice(0, 20))).toBe('invalid_request');
  }
  const keys = [
    '',
    'a',
    '1',
    '-1',
    '1e400',
    '9'.repeat(40),
    '0x10',
    'NaN',
    "';--",
    '../..',
    '/',
    'a/b/c',
    '\u{10ffff}',
    '~',
    '\x7f',
  ];
  for (const key of keys) {
    expect(await codeOf(list({ cursor: of(key) })), JSON.stringify(key)).toMatch(/^(ok|invalid_request)$/);
  }
});

it('peppers', async () => {
  expect(await codeOf(listPeppers(t.vault, t.call(t.operator), {}))).toBe('ok');
  expect(await codeOf(listPeppers(t.vault, t.call(t.admin), {}))).toBe('forbidden');
});
