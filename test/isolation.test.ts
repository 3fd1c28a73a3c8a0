/**
 * One tenant against another: what lists and exports show, names that both use, and operators, who hold nobody's secrets.
 * Every operation by itself, asked about another's things, is test/isolation.routes.test.ts.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportEntries, exportTree } from '../src/audit/export.ts';
import { readToken, revokeToken } from '../src/auth/token.ts';
import { createUser, deleteUser, listUsers, readUser } from '../src/auth/user.ts';
import { parseToken } from '../src/crypto/token.ts';
import type { TenantId } from '../src/db/database.ts';
import { listJobs, readJob } from '../src/job/job.ts';
import { ENVELOPE_TABLES, rotateKey } from '../src/job/reencrypt.ts';
import { readSecret } from '../src/policy/read.ts';
import { deletePolicy, listPolicies, putPolicy, readPolicy } from '../src/policy/store.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { listSecrets } from '../src/secret/list.ts';
import { readMetadata, removeSecret } from '../src/secret/metadata.ts';
import { moveSecret } from '../src/secret/move.ts';
import { parsePath, type SecretPrefix } from '../src/secret/path.ts';
import { patchSecret, putSecret } from '../src/secret/secret.ts';
import { listVersions } from '../src/secret/version.ts';
import { listDataKeys } from '../src/tenant/rotation.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { codeOf, data, entriesOf, rowsHash, tenantId, text, textOf } from './witness.ts';

let t: TestVault;
let mine: TenantId;
let acme: TenantId;
let acmeAdmin: string;
let theirAccessor: string;
let theirJob: string;

const THEIRS = 'theirs/only';
const VALUE = 'a value of acme that nobody else may see';

beforeAll(async () => {
  t = await testVault();
  acmeAdmin = await t.tenant('acme');
  [mine, acme] = [await tenantId(t.owner, 'default'), await tenantId(t.owner, 'acme')];
  const call = t.call(acmeAdmin);
  await putSecret(t.vault, call, parsePath(THEIRS), { ...text(VALUE), metadata: { of: 'acme' } });
  await putSecret(t.vault, call, parsePath(THEIRS), data('{"b":2}'));
  await createUser(t.vault, call, { username: 'their-user', password: PASSWORD, policies: ['admin'] });
  await putPolicy(t.vault, call, 'their-policy', { rules: [] });
  theirAccessor = parseToken(await t.login('acme', 'their-user'))!.tokenId;
  theirJob = (await rotateKey(t.vault, call, { reencrypt: true })).job!.id;
});
afterAll(() => t.close());

const theirs = parsePath(THEIRS);
const prefix = 'theirs' as SecretPrefix;

describe('I7 an administrator of one tenant with the names of another’s things', () => {
  it('T-067 lists and exports show one’s own only, whatever cursor or filter is sent', async () => {
    const call = t.call(t.admin);
    const before = await rowsHash(t.owner, acme);
    const cursor = (key: string) => Buffer.from(key).toString('base64url');
    const lists = await Promise.all([
      listSecrets(t.vault, call, { prefix: '' as SecretPrefix, recursive: true }),
      listSecrets(t.vault, call, { prefix, recursive: true, cursor: cursor('theirs/') }),
      listUsers(t.vault, call, { cursor: cursor('their') }),
      listPolicies(t.vault, call, { cursor: cursor('their') }),
      listJobs(t.vault, call, {}),
      listDataKeys(t.vault, call, {}, ENVELOPE_TABLES),
      fetchSecrets(t.vault, call, { prefixes: ['' as SecretPrefix, prefix] }),
    ]);
    const shown = JSON.stringify(lists);
    for (const foreign of [THEIRS, 'their-user', 'their-policy', theirJob]) expect(shown).not.toContain(foreign);
    expect((await listDataKeys(t.vault, call, {}, ENVELOPE_TABLES)).items).toHaveLength(1);
    let log = '';
    for await (const lines of (await exportEntries(t.vault, call, {})).lines) log += lines;
    const own = (await entriesOf(t.owner, mine)).length;
    expect(log.split('\n').length - 1).toBeLessThanOrEqual(own);
    expect(log).not.toContain(acme);
    let tree = '';
    for await (const part of await exportTree(t.vault, call)) tree += part;
    expect(tree).toContain(`/${mine}\n`);
    expect(await rowsHash(t.owner, acme)).toBe(before);
  });

  it('the same names can be used here, and are other things', async () => {
    const call = t.call(t.admin);
    const before = await rowsHash(t.owner, acme);
    await putSecret(t.vault, call, theirs, text('mine'));
    await createUser(t.vault, call, { username: 'their-user', password: 'a password of its own' });
    await putPolicy(t.vault, call, 'their-policy', { rules: [{ effect: 'allow', actions: ['*'], resources: ['**'] }] });
    await removeSecret(t.vault, call, theirs);
    await deleteUser(t.vault, call, 'their-user');
    await deletePolicy(t.vault, call, 'their-policy');
    expect(await rowsHash(t.owner, acme)).toBe(before);
    expect(await readSecret(t.vault, t.call(acmeAdmin), theirs, 1).then(textOf)).toBe(VALUE);
  });
});

describe('operators', () => {
  it('hold no tenant’s secrets: for them there are none, and none can be made', async () => {
    const call = t.call(t.operator);
    const before = await rowsHash(t.owner, acme);
    for (const act of [
      () => readSecret(t.vault, call, theirs, 0),
      () => putSecret(t.vault, call, parsePath('of/system'), text('x')),
      () => patchSecret(t.vault, call, theirs, { patch: '{}' }),
      () => listVersions(t.vault, call, theirs),
      () => readMetadata(t.vault, call, theirs),
      () => removeSecret(t.vault, call, theirs),
      () => moveSecret(t.vault, call, theirs, parsePath('x')),
      () => fetchSecrets(t.vault, call, { paths: [theirs] }),
      () => fetchSecrets(t.vault, call, { prefixes: [prefix] }),
      () => listSecrets(t.vault, call, { prefix, recursive: true }),
    ]) {
      expect(await codeOf(act())).toBe('not_found');
    }
    expect(await rowsHash(t.owner, acme)).toBe(before);
    expect(await t.owner`SELECT 1 FROM secrets WHERE tenant_id = 'system'`).toHaveLength(0);
  });

  it('do not see a tenant’s users, policies, tokens, jobs and log through their own verbs', async () => {
    const call = t.call(t.operator);
    for (const act of [
      () => readUser(t.vault, call, 'their-user'),
      () => readPolicy(t.vault, call, 'their-policy'),
      () => readToken(t.vault, call, theirAccessor),
      () => revokeToken(t.vault, call, theirAccessor),
      () => readJob(t.vault, call, theirJob),
    ]) {
      expect(await codeOf(act())).toBe('not_found');
    }
  });
});

it('no text of one tenant stands in another’s log, and all logs prove', async () => {
  t.secrets.add(VALUE);
  expect(JSON.stringify(await entriesOf(t.owner, mine))).not.toContain(VALUE);
  await t.check();
});
