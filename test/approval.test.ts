/** The two-person rule: each way in which one approval could be worth more, or longer, than what was approved. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  answerApproval,
  cancelApproval,
  listApprovals,
  readApproval,
  requestApproval,
} from '../src/approval/approval.ts';
import { createUser, deleteUser, updateUser } from '../src/auth/user.ts';
import type { TenantId } from '../src/db/database.ts';
import { rotateKey } from '../src/job/reencrypt.ts';
import { takeAccess } from '../src/lease/access.ts';
import { createGroup, updateGroup } from '../src/policy/group.ts';
import { readSecret } from '../src/policy/read.ts';
import { deletePolicy, putPolicy } from '../src/policy/store.ts';
import { whoCan } from '../src/policy/who.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { removeSecret } from '../src/secret/metadata.ts';
import { moveSecret } from '../src/secret/move.ts';
import { parsePath, type SecretPrefix } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { destroyVersions } from '../src/secret/version.ts';
import { type TestVault, testVault } from './harness.ts';
import { added, codeOf, tenantId, text, textOf } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let app: string;
let carl: string;
let cora: string;
let count = 0;
let path = parsePath('root/start');

const allow = (actions: string[], resources: string[], rest: object = {}) => ({
  effect: 'allow',
  actions,
  resources,
  ...rest,
});
const admin = () => t.call(t.admin);
const four = (rest: object = {}) => ({ approval: { by: 'custodians', within: '1h', ...rest } });
const rooted = (rest: object = {}) => ({
  rules: [
    allow(['secret.read', 'secret.destroy'], ['secret:root/**'], four(rest)),
    allow(['secret.read', 'secret.delete', 'secret.write'], ['secret:open/**', 'secret:root/**']),
    allow(['key.rotate'], ['key:data'], four(rest)),
  ],
});

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
  await putPolicy(t.vault, admin(), 'custodians', { rules: [] });
  await putPolicy(t.vault, admin(), 'rooted', rooted());
  app = await t.user('app', ['rooted']);
  carl = await t.user('carl', ['custodians']);
  cora = await t.user('cora', ['custodians']);
  await putSecret(t.vault, admin(), parsePath('open/key'), text('open'));
});
afterAll(() => t.close());
beforeEach(async () => {
  path = parsePath(`root/key-${count++}`);
  await putSecret(t.vault, admin(), path, text('first'));
});

const read = (token: string, version = 0, vault = t.vault) => codeOf(readSecret(vault, t.call(token), path, version));
const request = (token = app, rest: object = {}) =>
  requestApproval(t.vault, t.call(token), { action: 'secret.read', resource: `secret:${path}`, ...rest });
const approve = (id: string, token = carl) => codeOf(answerApproval(t.vault, t.call(token), id, true));
const stateOf = async (id: string) => (await readApproval(t.vault, t.call(app), id)).state;
/** An approval that is whole. */
async function approved(rest: object = {}): Promise<string> {
  const { id } = await request(app, rest);
  expect(await approve(id)).toBe('ok');
  return id;
}

describe('reading', () => {
  it('waits for somebody else, works once, and says so in the log', async () => {
    const { entries: refused } = await added(t.owner, tenant, async () =>
      expect(await read(app)).toBe('approval_required'),
    );
    expect(refused).toMatchObject([{ action: 'secret.read', outcome: 'denied', code: 'approval_required' }]);
    const asked = await request(app, { reason: 'incident 4711' });
    expect(asked).toMatchObject({ state: 'open', subject: '1', requestedBy: 'app', reason: 'incident 4711' });
    expect(await read(app)).toBe('approval_required');
    expect(await approve(asked.id, app)).toBe('forbidden');
    expect(await approve(asked.id, carl)).toBe('ok');
    expect(await readApproval(t.vault, t.call(carl), asked.id)).toMatchObject({
      state: 'approved',
      approvedBy: ['carl'],
    });
    const { value, entries } = await added(t.owner, tenant, () => readSecret(t.vault, t.call(app), path, 0));
    expect(textOf(value)).toBe('first');
    expect(entries).toMatchObject([{ outcome: 'ok', version: 1, details: { approval: asked.id } }]);
    expect(await read(app)).toBe('approval_required');
    expect(await stateOf(asked.id)).toBe('used');
    expect(await approve(asked.id, cora)).toBe('conflict');
  });

  it('twice at once, on two nodes, gives one answer', async () => {
    await approved();
    const node = await t.node();
    const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => read(app, 0, i % 2 ? node : t.vault)));
    expect(answers.filter((code) => code === 'ok')).toHaveLength(1);
    expect(new Set(answers)).toEqual(new Set(['ok', 'approval_required']));
  });

  it('is approved for nobody else, nothing else, and no other version', async () => {
    const other = await t.user(`other-${count}`, ['rooted']);
    const id = await approved();
    expect(await read(other)).toBe('approval_required');
    const [mine, elsewhere] = [path, parsePath(`root/key-${count}-b`)];
    await putSecret(t.vault, admin(), elsewhere, text('elsewhere'));
    path = elsewhere;
    expect(await read(app)).toBe('approval_required');
    path = mine;
    await putSecret(t.vault, admin(), path, text('second'));
    expect(await read(app, 2)).toBe('approval_required');
    expect(await read(app)).toBe('approval_required');
    expect(await stateOf(id)).toBe('approved');
    expect(textOf(await readSecret(t.vault, t.call(app), path, 1))).toBe('first');
    expect(await read(app, 1)).toBe('approval_required');
    const [older, newer] = [await approved({ version: 1 }), await approved()];
    expect(textOf(await readSecret(t.vault, t.call(app), path, 0))).toBe('second');
    expect([await stateOf(older), await stateOf(newer)]).toEqual(['approved', 'used']);
  });

  it('of many at once takes nobody else’s answer away', async () => {
    await approved();
    const open = () => codeOf(readSecret(t.vault, t.call(app), parsePath('open/key'), 0));
    const answers = await Promise.all([
      open(),
      read(app),
      open(),
      codeOf(readSecret(t.vault, admin(), path, 0)),
      open(),
    ]);
    expect(answers).toEqual(['ok', 'ok', 'ok', 'ok', 'ok']);
  });

  it('that fails leaves the approval as it was', async () => {
    const id = await approved();
    const damage = (envelope: string) =>
      t.owner.unsafe(`UPDATE secret_versions v SET envelope = ${envelope} FROM secrets s
      WHERE s.secret_id = v.secret_id AND s.tenant_id = '${tenant}' AND s.path = '${path}'`);
    await damage('set_byte(envelope, 70, get_byte(envelope, 70) # 1)');
    expect(await read(app)).toBe('integrity');
    expect(await stateOf(id)).toBe('approved');
    await damage('set_byte(envelope, 70, get_byte(envelope, 70) # 1)');
    expect(await read(app)).toBe('ok');
  });

  it('ends with the time of the rule', async () => {
    const id = await approved();
    const later = await t.node({ clockOffsetSeconds: 3601 });
    const token = app;
    await t.owner`UPDATE tokens SET expires_at = expires_at + interval '1 day', max_expires_at = max_expires_at + interval '1 day'`;
    expect(await read(token, 0, later)).toBe('approval_required');
    expect((await readApproval(later, t.call(token), id)).state).toBe('expired');
    expect(await codeOf(answerApproval(later, t.call(cora), id, true))).toBe('conflict');
    expect(await read(app)).toBe('ok');
  });

  it('by fetch: each secret takes its own approval, all or nothing; a prefix leaves out what waits', async () => {
    const fetch = (paths: string[]) => codeOf(fetchSecrets(t.vault, t.call(app), { paths: paths.map(parsePath) }));
    const id = await approved();
    expect(await fetch(['open/key', path, 'root/start-not-there'])).toBe('approval_required');
    expect(await stateOf(id)).toBe('approved');
    expect(await fetch(['open/key', path])).toBe('ok');
    expect(await fetch(['open/key', path])).toBe('approval_required');
    const found = await fetchSecrets(t.vault, t.call(app), { prefixes: ['' as SecretPrefix] });
    expect(found.map((one) => one.path)).toEqual(['open/key']);
  });
});

describe('other acts', () => {
  it('destroying takes exactly the versions that were approved; moving away is no way around', async () => {
    await putSecret(t.vault, admin(), path, text('second'));
    const destroy = (versions: number[]) => codeOf(destroyVersions(t.vault, t.call(app), path, versions));
    const { id } = await request(app, { action: 'secret.destroy', versions: [1] });
    await approve(id);
    expect([await destroy([2]), await destroy([1, 2]), await destroy([1]), await destroy([1])]).toEqual([
      'approval_required',
      'approval_required',
      'ok',
      'approval_required',
    ]);
    expect(await codeOf(removeSecret(t.vault, t.call(app), path))).toBe('approval_required');
    await approved();
    expect(await codeOf(moveSecret(t.vault, t.call(app), path, parsePath(`open/moved-${count}`)))).toBe(
      'approval_required',
    );
    const all = await request(app, { action: 'secret.destroy' });
    await approve(all.id);
    expect(await codeOf(removeSecret(t.vault, t.call(app), path))).toBe('ok');
  });

  it('rotating a key', async () => {
    const rotate = () => codeOf(rotateKey(t.vault, t.call(app), { reencrypt: false }));
    expect(await rotate()).toBe('approval_required');
    const { id } = await requestApproval(t.vault, t.call(app), { action: 'key.rotate', resource: 'key:data' });
    await approve(id, cora);
    expect([await rotate(), await rotate()]).toEqual(['ok', 'approval_required']);
  });
});

describe('between the approval and the act', () => {
  it('an approver who loses the policy, is disabled or deleted does not count', async () => {
    await t.user('temp', ['custodians']);
    const { id } = await request();
    await approve(id, await t.login('default', 'temp'));
    await updateUser(t.vault, admin(), 'temp', { policies: [] });
    expect(await read(app)).toBe('approval_required');
    await createGroup(t.vault, admin(), { name: 'keepers', policies: ['custodians'], members: ['temp'] });
    expect(await stateOf(id)).toBe('approved');
    await updateUser(t.vault, admin(), 'temp', { disabled: true });
    expect(await read(app)).toBe('approval_required');
    await updateUser(t.vault, admin(), 'temp', { disabled: false });
    await updateGroup(t.vault, admin(), 'keepers', { policies: [] });
    expect(await read(app)).toBe('approval_required');
    await updateGroup(t.vault, admin(), 'keepers', { policies: ['custodians'] });
    await deleteUser(t.vault, admin(), 'temp');
    expect(await read(app)).toBe('approval_required');
    expect(await stateOf(id)).toBe('open');
    await approve(id, cora);
    expect(await read(app)).toBe('ok');
  });

  it('a policy that asks for more, for others, or denies is obeyed; one that asks for nothing takes none', async () => {
    const id = await approved();
    await putPolicy(t.vault, admin(), 'rooted', rooted({ count: 2 }));
    expect(await read(app)).toBe('approval_required');
    await putPolicy(t.vault, admin(), 'others', { rules: [] });
    await putPolicy(t.vault, admin(), 'rooted', rooted({ by: 'others' }));
    expect(await read(app)).toBe('approval_required');
    await putPolicy(t.vault, admin(), 'rooted', {
      rules: [...rooted().rules, { ...allow(['*'], ['secret:root/**']), effect: 'deny' }],
    });
    expect(await read(app)).toBe('forbidden');
    await putPolicy(t.vault, admin(), 'rooted', { rules: [allow(['secret.read'], ['**'])] });
    expect(await read(app)).toBe('ok');
    expect(await stateOf(id)).toBe('approved');
    await putPolicy(t.vault, admin(), 'rooted', rooted());
    expect(await read(app)).toBe('ok');
    expect(await stateOf(id)).toBe('used');
  });

  it('a policy of the approvers’ name that was made after the vote has not approved', async () => {
    await putPolicy(t.vault, admin(), 'passing', { rules: [] });
    await putPolicy(t.vault, admin(), 'rooted', rooted({ by: 'passing' }));
    const pam = await t.user('pam', ['passing']);
    const { id } = await request();
    await approve(id, pam);
    expect(await codeOf(deletePolicy(t.vault, admin(), 'passing'))).toBe('conflict');
    await updateUser(t.vault, admin(), 'pam', { policies: [] });
    expect(await codeOf(deletePolicy(t.vault, admin(), 'passing'))).toBe('conflict');
    await putPolicy(t.vault, admin(), 'rooted', rooted());
    await deletePolicy(t.vault, admin(), 'passing');
    await putPolicy(t.vault, admin(), 'passing', { rules: [] });
    await updateUser(t.vault, admin(), 'pam', { policies: ['passing'] });
    await putPolicy(t.vault, admin(), 'rooted', rooted({ by: 'passing' }));
    expect(await read(app)).toBe('approval_required');
    await putPolicy(t.vault, admin(), 'rooted', rooted());
  });

  it('two of them are two people', async () => {
    await putPolicy(t.vault, admin(), 'rooted', rooted({ count: 2 }));
    const { id } = await request();
    expect([await approve(id), await approve(id)]).toEqual(['ok', 'ok']);
    expect(await read(app)).toBe('approval_required');
    await approve(id, cora);
    expect(await read(app)).toBe('ok');
    await putPolicy(t.vault, admin(), 'rooted', rooted());
  });
});

describe('who', () => {
  it('an approval that one rule asks for is needed, whatever others allow; who could read says so', async () => {
    const both = await t.user('both', ['rooted', 'admin']);
    expect(await read(both)).toBe('approval_required');
    const { items } = await whoCan(t.vault, admin(), { action: 'secret.read', resource: `secret:${path}` });
    expect(items.find(({ name }) => name === 'both')).toMatchObject({ when: 'always', approval: true });
    expect(items.find(({ name }) => name === 'admin')).toMatchObject({ when: 'always', approval: false });
  });

  it('nobody approves themselves, by another login, or by a friend whom they make an approver', async () => {
    const judge = await t.user('judge', ['rooted', 'custodians'], [allow(['user.*', 'group.*', 'policy.*'], ['**'])]);
    const { id } = await request(judge);
    expect(await approve(id, judge)).toBe('forbidden');
    expect(await approve(id, await t.login('default', 'judge'))).toBe('forbidden');
    expect(await read(judge)).toBe('approval_required');
    const clerk = await t.user('clerk', ['rooted'], [allow(['user.*', 'group.*', 'policy.*'], ['**'])]);
    const friend = { username: 'friend', policies: ['custodians'] };
    expect(await codeOf(createUser(t.vault, t.call(clerk), friend))).toBe('forbidden');
    expect(await codeOf(createGroup(t.vault, t.call(clerk), { name: 'friends', policies: ['custodians'] }))).toBe(
      'forbidden',
    );
    expect(await codeOf(updateGroup(t.vault, t.call(clerk), 'keepers', { addMembers: ['clerk'] }))).toBe('forbidden');
    expect(await codeOf(updateUser(t.vault, t.call(clerk), 'carl', { resetPassword: true }))).toBe('forbidden');
    expect(await codeOf(putPolicy(t.vault, t.call(clerk), 'rooted', rooted({ by: 'clerk' })))).toBe('forbidden');
    expect(await codeOf(putPolicy(t.vault, t.call(clerk), 'rooted', { rules: rooted().rules.slice(1) }))).toBe(
      'forbidden',
    );
  });

  it('whoever holds the policy of some approvers gives that one, and not that of others along with it', async () => {
    await putPolicy(t.vault, admin(), 'guards', { rules: [] });
    await putPolicy(t.vault, admin(), 'guarded', {
      rules: [allow(['secret.read'], ['secret:g/**'], four({ by: 'guards' }))],
    });
    const clerk = await t.user('gatekeeper', ['custodians'], [allow(['user.*'], ['**'])]);
    const make = (username: string, policies: string[]) =>
      codeOf(createUser(t.vault, t.call(clerk), { username, policies }));
    expect(await make('mine', ['custodians'])).toBe('ok');
    expect(await make('theirs', ['guards'])).toBe('forbidden');
    expect(await make('both-of-them', ['custodians', 'guards'])).toBe('forbidden');
  });

  it('a request is seen by whoever made it, may answer it, or may list all; to others it is not there', async () => {
    const nobody = await t.user('nobody', ['reader']);
    const auditor = await t.user('auditor-1', ['auditor']);
    const acme = await t.tenant('acme');
    const { id } = await request();
    for (const token of [nobody, acme]) {
      expect(await codeOf(readApproval(t.vault, t.call(token), id))).toBe('not_found');
      expect(await approve(id, token)).toBe('not_found');
      expect(await codeOf(cancelApproval(t.vault, t.call(token), id))).toBe('not_found');
      expect(JSON.stringify(await listApprovals(t.vault, t.call(token), {}))).not.toContain(id);
    }
    expect(await approve(id, auditor)).toBe('forbidden');
    for (const token of [app, carl, auditor]) {
      const { items } = await listApprovals(t.vault, t.call(token), { open: true, limit: 1 });
      expect(items.map((one) => one.id)).toEqual([id]);
    }
    expect(await codeOf(cancelApproval(t.vault, t.call(carl), id))).toBe('forbidden');
    expect(await codeOf(cancelApproval(t.vault, t.call(app), id))).toBe('ok');
    expect(await approve(id)).toBe('conflict');
  });

  it('whoever was handed one secret of an account sees and ends nothing that the account has asked for', async () => {
    const both = await t.user(`both-${count}`, ['rooted'], [allow(['lease.create'], ['lease:open/**'])]);
    const { id } = await request(both, { reason: 'not for everybody' });
    const { token } = await takeAccess(t.vault, t.call(both), { secret: parsePath('open/key') });
    expect(await read(token)).toBe('forbidden');
    expect((await listApprovals(t.vault, t.call(token), {})).items).toEqual([]);
    expect(await codeOf(readApproval(t.vault, t.call(token), id))).toBe('not_found');
    expect(await codeOf(cancelApproval(t.vault, t.call(token), id))).toBe('not_found');
    expect((await listApprovals(t.vault, t.call(both), { open: true })).items).toMatchObject([{ id, state: 'open' }]);
    await cancelApproval(t.vault, t.call(both), id);
  });

  it('one no ends it', async () => {
    const id = await approved();
    expect(await codeOf(answerApproval(t.vault, t.call(cora), id, false))).toBe('ok');
    expect(await stateOf(id)).toBe('denied');
    expect(await read(app)).toBe('approval_required');
  });

  it('nothing is asked for that is allowed, denied, not there, or of another spelling', async () => {
    const asked = (action: string, resource: string, rest: object = {}, token = app) =>
      codeOf(requestApproval(t.vault, t.call(token), { action, resource, ...rest }));
    expect(await asked('secret.read', 'secret:open/key')).toBe('conflict');
    expect(await asked('secret.read', 'secret:elsewhere/key')).toBe('forbidden');
    expect(await asked('secret.read', 'secret:root/not-there')).toBe('not_found');
    for (const resource of ['secret:root//key', 'secret:root/../open', 'root/key', 'key:data', 'secret:']) {
      expect(['invalid_request', 'invalid_path']).toContain(await asked('secret.read', resource));
    }
    for (const action of ['secret.list', 'secret.*', 'admin', '']) {
      expect(await asked(action, `secret:${path}`)).toBe('invalid_request');
    }
  });

  it('every log proves', () => t.check());
});
