/**
 * One tenant against another: every verb with the other's names, ids, cursors and versions. Whatever is asked, the
 * answer is the one that a thing which does not exist gets, and not a byte of the other tenant's rows changes.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportEntries, exportTree } from '../src/audit/export.ts';
import { changePassword } from '../src/auth/password.ts';
import { resetFactor } from '../src/auth/second-factor.ts';
import { endSession } from '../src/auth/session.ts';
import { readSelf, readToken, renewToken, revokeToken } from '../src/auth/token.ts';
import { createUser, deleteUser, listUsers, readUser, unlockUser, updateUser } from '../src/auth/user.ts';
import { parseToken } from '../src/crypto/token.ts';
import type { TenantId } from '../src/db/database.ts';
import type { VaultError } from '../src/errors.ts';
import { cancelJob, listJobs, readJob, resumeJob } from '../src/job/job.ts';
import { rotateKey, rotateRoot } from '../src/job/reencrypt.ts';
import { createTenant, deleteTenant } from '../src/job/tenant.ts';
import type { Call } from '../src/policy/access.ts';
import { readSecret } from '../src/policy/read.ts';
import { deletePolicy, listPolicies, putPolicy, readPolicy } from '../src/policy/store.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { listSecrets } from '../src/secret/list.ts';
import { patchMetadata, readMetadata, removeSecret } from '../src/secret/metadata.ts';
import { moveSecret } from '../src/secret/move.ts';
import { parsePath, type SecretPrefix } from '../src/secret/path.ts';
import { deleteVersions, patchSecret, putSecret } from '../src/secret/secret.ts';
import { destroyVersions, listVersions, undeleteVersions } from '../src/secret/version.ts';
import { destroyDataKey, listDataKeys, listRootKeys } from '../src/tenant/rotation.ts';
import { listTenants, readTenant, updateTenant } from '../src/tenant/tenant.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { codeOf, data, entriesOf, rowsHash, sizeOf, tenantId, text, textOf } from './witness.ts';

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

/** Every verb that names a thing. `name` is what the tenant asked about calls it; `here` a path of the caller's own. */
const named: Record<
  string,
  (
    call: Call,
    its: { path: typeof theirs; user: string; policy: string; accessor: string; job: string; version: number },
  ) => Promise<unknown>
> = {
  readSecret: (call, { path }) => readSecret(t.vault, call, path, 0),
  'readSecret of a version': (call, { path }) => readSecret(t.vault, call, path, 1),
  patchSecret: (call, { path }) => patchSecret(t.vault, call, path, { patch: '{"a":1}' }),
  deleteVersions: (call, { path }) => deleteVersions(t.vault, call, path, [1]),
  undeleteVersions: (call, { path }) => undeleteVersions(t.vault, call, path, [1]),
  destroyVersions: (call, { path }) => destroyVersions(t.vault, call, path, [1, 2]),
  listVersions: (call, { path }) => listVersions(t.vault, call, path),
  readMetadata: (call, { path }) => readMetadata(t.vault, call, path),
  patchMetadata: (call, { path }) => patchMetadata(t.vault, call, path, { metadata: { a: 'b' } }),
  removeSecret: (call, { path }) => removeSecret(t.vault, call, path),
  'moveSecret away': (call, { path }) => moveSecret(t.vault, call, path, parsePath('stolen')),
  'fetchSecrets by path': (call, { path }) => fetchSecrets(t.vault, call, { paths: [path] }),
  'fetchSecrets of both': (call, { path }) => fetchSecrets(t.vault, call, { paths: [parsePath('own/secret'), path] }),
  readUser: (call, { user }) => readUser(t.vault, call, user),
  updateUser: (call, { user }) => updateUser(t.vault, call, user, { disabled: true }),
  'updateUser with a password': (call, { user }) =>
    updateUser(t.vault, call, user, { password: 'taken over by somebody' }),
  deleteUser: (call, { user }) => deleteUser(t.vault, call, user),
  unlockUser: (call, { user }) => unlockUser(t.vault, call, user),
  resetFactor: (call, { user }) => resetFactor(t.vault, call, user),
  endSession: (call, { accessor }) => endSession(t.vault, call, accessor),
  readPolicy: (call, { policy }) => readPolicy(t.vault, call, policy),
  deletePolicy: (call, { policy }) => deletePolicy(t.vault, call, policy),
  readToken: (call, { accessor }) => readToken(t.vault, call, accessor),
  revokeToken: (call, { accessor }) => revokeToken(t.vault, call, accessor),
  readJob: (call, { job }) => readJob(t.vault, call, job),
  cancelJob: (call, { job }) => cancelJob(t.vault, call, job),
  resumeJob: (call, { job }) => resumeJob(t.vault, call, job),
  destroyDataKey: (call, { version }) => destroyDataKey(t.vault, call, version),
};

const outcome = (act: Promise<unknown>) =>
  act.then(
    () => 'served',
    (error: VaultError) => JSON.stringify([error.code, error.message, error.details]),
  );

describe('I7 an administrator of one tenant with the names of another’s things', () => {
  beforeAll(() => putSecret(t.vault, t.call(t.admin), parsePath('own/secret'), text('mine')));

  it.each(Object.keys(named))(
    'T-067 %s: answered as for what does not exist anywhere, nothing changed, nothing logged there',
    async (verb) => {
      const act = named[verb]!;
      const before = await rowsHash(t.owner, acme);
      const asked = {
        path: theirs,
        user: 'their-user',
        policy: 'their-policy',
        accessor: theirAccessor,
        job: theirJob,
        version: 2,
      };
      const nowhere = {
        path: parsePath('nowhere/only'),
        user: 'no-such-user',
        policy: 'no-such-policy',
        accessor: 'a'.repeat(16),
        job: 'a'.repeat(16),
        version: 99,
      };
      const [foreign, absent] = [
        await outcome(act(t.call(t.admin), asked)),
        await outcome(act(t.call(t.admin), nowhere)),
      ];
      const blind = (said: string) =>
        Object.values(asked)
          .concat(Object.values(nowhere))
          .reduce<string>((rest, name) => rest.replaceAll(String(name), '*'), said);
      expect(blind(foreign)).toBe(blind(absent));
      expect(JSON.parse(foreign)[0]).toBe('not_found');
      expect(await rowsHash(t.owner, acme)).toBe(before);
    },
  );

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
      listDataKeys(t.vault, call, {}),
      fetchSecrets(t.vault, call, { prefixes: ['' as SecretPrefix, prefix] }),
    ]);
    const shown = JSON.stringify(lists);
    for (const foreign of [THEIRS, 'their-user', 'their-policy', theirJob]) expect(shown).not.toContain(foreign);
    expect((await listDataKeys(t.vault, call, {})).items).toHaveLength(1);
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

  it('no act of one tenant makes another’s log longer', async () => {
    const before = await sizeOf(t.owner, acme);
    const call = t.call(t.admin);
    await Promise.all(
      Object.values(named).map((act) =>
        outcome(
          act(call, {
            path: theirs,
            user: 'their-user',
            policy: 'their-policy',
            accessor: theirAccessor,
            job: theirJob,
            version: 2,
          }),
        ),
      ),
    );
    expect(await sizeOf(t.owner, acme)).toBe(before);
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

describe('tokens of a tenant that is not there any more', () => {
  it('T-067 a deleted tenant’s token is told as none, by every verb', async () => {
    const gone = await t.tenant('gone');
    const ghost = t.call(gone);
    await deleteTenant(t.vault, t.call(t.operator), 'gone');
    const verbs = [
      ...Object.values(named).map(
        (act) => () =>
          act(ghost, {
            path: theirs,
            user: 'their-user',
            policy: 'their-policy',
            accessor: theirAccessor,
            job: theirJob,
            version: 1,
          }),
      ),
      () => putSecret(t.vault, ghost, theirs, text('x')),
      () => listSecrets(t.vault, ghost, { prefix, recursive: true }),
      () => listUsers(t.vault, ghost, {}),
      () => createUser(t.vault, ghost, { username: 'x', password: PASSWORD }),
      () => putPolicy(t.vault, ghost, 'x', { rules: [] }),
      () => rotateKey(t.vault, ghost, { reencrypt: false }),
      () => rotateRoot(t.vault, ghost),
      () => listRootKeys(t.vault, ghost, {}),
      () => createTenant(t.vault, ghost, { name: 'x' }),
      () => listTenants(t.vault, ghost, {}),
      () => readTenant(t.vault, ghost, 'acme'),
      () => updateTenant(t.vault, ghost, 'acme', { state: 'suspended' }),
      () => exportEntries(t.vault, ghost, {}),
      () => exportTree(t.vault, ghost),
      () => readSelf(t.vault, ghost),
      () => renewToken(t.vault, ghost),
      () => changePassword(t.vault, ghost, { currentPassword: PASSWORD, newPassword: 'another long password' }),
    ];
    for (const verb of verbs) expect(await codeOf(verb()), String(verb)).toBe('unauthenticated');
  });

  it('no text of one tenant stands in another’s log, and all logs prove', async () => {
    t.secrets.add(VALUE);
    expect(JSON.stringify(await entriesOf(t.owner, mine))).not.toContain(VALUE);
    await t.check();
  });
});
