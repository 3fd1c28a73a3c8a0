/** Groups, and the rule of giving where accounts, groups and policies are changed: through the real gate. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deleteCertificateRole, putAuthority, readAuthority } from '../src/auth/authority.ts';
import { createUser, readUser, updateUser } from '../src/auth/user.ts';
import type { TenantId } from '../src/db/database.ts';
import { createGroup, deleteGroup, listGroups, listMembers, updateGroup } from '../src/policy/group.ts';
import { readSecret } from '../src/policy/read.ts';
import { deletePolicy, listPolicyChanges, putPolicy } from '../src/policy/store.ts';
import { whoCan } from '../src/policy/who.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { make } from './fixtures/certificate.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { added, codeOf, tenantId, text, waiting } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
const allow = (actions: string[], resources: string[], rest: object = {}) => ({
  effect: 'allow',
  actions,
  resources,
  ...rest,
});
const deny = (actions: string[], resources: string[]) => ({ ...allow(actions, resources), effect: 'deny' });
const admin = () => t.call(t.admin);
const read = (token: string, path: string, vault = t.vault) =>
  codeOf(readSecret(vault, t.call(token), parsePath(path), 0));

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
  for (const path of ['web/key', 'prod/key', 'people/ann/key', 'people/bob/key']) {
    await putSecret(t.vault, admin(), parsePath(path), text('a value'));
  }
  await putPolicy(t.vault, admin(), 'web', { rules: [allow(['secret.read'], ['secret:web/**'])] });
});
afterAll(() => t.close());

describe('groups', () => {
  it('T-073 whoever is put in or taken out, or whose group changes, is so at the next request on every node', async () => {
    const ann = await t.user('ann', []);
    const node = await t.node();
    const both = async () => [await read(ann, 'web/key'), await read(ann, 'web/key', node)];
    expect(await both()).toEqual(['forbidden', 'forbidden']);
    await createGroup(t.vault, admin(), { name: 'team', policies: ['web'], members: ['ann'] });
    expect(await both()).toEqual(['ok', 'ok']);
    expect(await codeOf(fetchSecrets(node, t.call(ann), { paths: [parsePath('web/key')] }))).toBe('ok');
    await updateGroup(node, admin(), 'team', { policies: [] });
    expect(await both()).toEqual(['forbidden', 'forbidden']);
    await updateGroup(t.vault, admin(), 'team', { policies: ['web'] });
    expect(await both()).toEqual(['ok', 'ok']);
    await updateGroup(node, admin(), 'team', { removeMembers: ['ann'] });
    expect(await both()).toEqual(['forbidden', 'forbidden']);
    await updateGroup(t.vault, admin(), 'team', { addMembers: ['ann'] });
    expect((await readUser(t.vault, admin(), 'ann')).groups).toEqual(['team']);
    expect((await listMembers(t.vault, admin(), 'team', {})).items.map(({ username }) => username)).toEqual(['ann']);
    await deleteGroup(node, admin(), 'team');
    expect(await both()).toEqual(['forbidden', 'forbidden']);
  });

  it('T-061 what a group denies its members are denied, whatever they hold themselves', async () => {
    const eve = await t.user('eve', ['reader']);
    await putPolicy(t.vault, admin(), 'no-prod', { rules: [deny(['*'], ['secret:prod/**'])] });
    await createGroup(t.vault, admin(), { name: 'outside', policies: ['no-prod'], members: ['eve'] });
    expect([await read(eve, 'web/key'), await read(eve, 'prod/key')]).toEqual(['ok', 'forbidden']);
    const { items } = await whoCan(t.vault, admin(), { action: 'secret.read', resource: 'secret:prod/key' });
    expect(items.map(({ name }) => name)).not.toContain('eve');
  });

  it('who could do something counts what groups give', async () => {
    await createGroup(t.vault, admin(), { name: 'asked', policies: ['web'], members: ['ann'] });
    const { items } = await whoCan(t.vault, admin(), { action: 'secret.read', resource: 'secret:web/key' });
    expect(items.find(({ name }) => name === 'ann')).toMatchObject({ when: 'always', policies: ['web'] });
    await deleteGroup(t.vault, admin(), 'asked');
  });

  it('T-065 T-066 names of groups are names: no path, no other spelling, no special one', async () => {
    for (const name of ['../web', 'web/..', 'a\0b', 'Web', ' web', '', tenant.toUpperCase(), 'ｗeb']) {
      expect(await codeOf(createGroup(t.vault, admin(), { name })), JSON.stringify(name)).toBe('invalid_request');
    }
    for (const name of ['root', 'default', 'system', 'admin', '__proto__'.replaceAll('_', 'x')]) {
      expect(await codeOf(createGroup(t.vault, admin(), { name }))).toBe('ok');
      expect(await codeOf(createGroup(t.vault, admin(), { name }))).toBe('conflict');
    }
    expect(await codeOf(updateGroup(t.vault, admin(), 'root', { addMembers: ['nobody-there'] }))).toBe(
      'invalid_request',
    );
    expect(await codeOf(createGroup(t.vault, admin(), { name: 'x', policies: ['none-such'] }))).toBe('invalid_request');
  });

  it('T-067 another tenant’s groups and members are not there', async () => {
    const acme = await t.tenant('acme');
    await createGroup(t.vault, t.call(acme), { name: 'theirs', policies: ['reader'] });
    expect(await codeOf(updateGroup(t.vault, admin(), 'theirs', { policies: [] }))).toBe('not_found');
    expect(await codeOf(deleteGroup(t.vault, admin(), 'theirs'))).toBe('not_found');
    expect(await codeOf(updateGroup(t.vault, t.call(acme), 'theirs', { addMembers: ['ann'] }))).toBe('invalid_request');
    expect(JSON.stringify(await listGroups(t.vault, admin(), {}))).not.toContain('theirs');
  });

  it('a policy that a group holds is not deleted', async () => {
    await createGroup(t.vault, admin(), { name: 'keeper', policies: ['web'] });
    expect(await codeOf(deletePolicy(t.vault, admin(), 'web'))).toBe('conflict');
    await deleteGroup(t.vault, admin(), 'keeper');
  });
});

describe('templates', () => {
  it('T-064 each member of a group reads below its own name; a template that does not fit denies everything', async () => {
    await putPolicy(t.vault, admin(), 'own', {
      rules: [allow(['secret.*'], ['secret:people/${user.name}/**'])],
    });
    const bob = await t.user('bob', []);
    await createGroup(t.vault, admin(), { name: 'people', policies: ['own'], members: ['ann', 'bob'] });
    const ann = await t.login('default', 'ann');
    expect([await read(ann, 'people/ann/key'), await read(ann, 'people/bob/key')]).toEqual(['ok', 'forbidden']);
    expect([await read(bob, 'people/ann/key'), await read(bob, 'people/bob/key')]).toEqual(['forbidden', 'ok']);
    // No name of ours has two dots or is empty; a row that somebody wrote into the database might.
    const eve = await t.user('even', ['reader', 'own']);
    expect(await read(eve, 'web/key')).toBe('ok');
    for (const name of ['a..b', '..', '', 'a/b', '*', 'a,b', 'a%2fb']) {
      await t.owner`UPDATE users SET name = ${name} WHERE name = 'even' AND tenant_id = ${tenant}`;
      const fresh = await t.node();
      expect(await read(eve, 'web/key', fresh), name).toBe('forbidden');
      await t.owner`UPDATE users SET name = 'even' WHERE name = ${name} AND tenant_id = ${tenant}`;
    }
  });
});

describe('nobody gives what they do not hold', () => {
  const manager = [allow(['user.*', 'group.*', 'policy.*'], ['**'])];

  it('T-056 T-082 whoever manages users, groups and policies makes nobody stronger than themselves, by any way', async () => {
    const boss = await t.user('boss', ['web'], manager);
    const call = () => t.call(boss);
    await t.user('victim', []);
    const { entries } = await added(t.owner, tenant, async () => {
      for (const policy of ['admin', 'reader', 'own', 'key-admin']) {
        expect(await codeOf(createUser(t.vault, call(), { username: 'mine', policies: [policy] })), policy).toBe(
          'forbidden',
        );
        expect(await codeOf(updateUser(t.vault, call(), 'victim', { policies: [policy] }))).toBe('forbidden');
        expect(await codeOf(updateUser(t.vault, call(), 'boss', { policies: ['web', 'boss', policy] }))).toBe(
          'forbidden',
        );
        expect(await codeOf(createGroup(t.vault, call(), { name: 'mine', policies: [policy] }))).toBe('forbidden');
      }
    });
    expect(new Set(entries.map(({ outcome, code }) => `${outcome} ${code}`))).toEqual(new Set(['denied forbidden']));
    for (const name of ['ADMIN', ' admin', 'admin/', 'аdmin', 'admin ']) {
      expect(await codeOf(createUser(t.vault, call(), { username: 'mine', policies: [name] }))).toBe('invalid_request');
    }
    const all = { rules: [allow(['*'], ['**'])] };
    expect(await codeOf(putPolicy(t.vault, call(), 'mine', all))).toBe('forbidden');
    expect(
      await codeOf(putPolicy(t.vault, call(), 'boss', { rules: [...manager, allow(['secret.read'], ['**'])] })),
    ).toBe('forbidden');
    expect(await codeOf(putPolicy(t.vault, call(), 'web', { rules: [allow(['secret.read'], ['secret:**'])] }))).toBe(
      'forbidden',
    );
    expect(await codeOf(putPolicy(t.vault, call(), 'no-prod', { rules: [] }))).toBe('forbidden');
    expect(await codeOf(updateGroup(t.vault, call(), 'outside', { removeMembers: ['eve'] }))).toBe('forbidden');
    expect(await codeOf(deleteGroup(t.vault, call(), 'outside'))).toBe('forbidden');
    expect(await codeOf(updateUser(t.vault, call(), 'admin', { password: 'a long password of mine' }))).toBe(
      'forbidden',
    );
    expect(await codeOf(updateUser(t.vault, call(), 'ann', { resetPassword: true }))).toBe('forbidden');
    // What they hold they give, by each of these ways.
    expect(await codeOf(createUser(t.vault, call(), { username: 'mine', policies: ['web', 'boss'] }))).toBe('ok');
    expect(await codeOf(createGroup(t.vault, call(), { name: 'mine', policies: ['web'], members: ['victim'] }))).toBe(
      'ok',
    );
    expect(
      await codeOf(putPolicy(t.vault, call(), 'narrow', { rules: [allow(['secret.read'], ['secret:web/a/*'])] })),
    ).toBe('ok');
    expect(await codeOf(updateUser(t.vault, call(), 'victim', { resetPassword: true }))).toBe('ok');
  });

  it('an authority is changed only by who holds what its roles give, also what one gives at that moment', async () => {
    const authority = (await make({ name: 'Clients', ca: true })).pem;
    const theirs = (await make({ name: 'Clients', ca: true })).pem;
    const said = { certificates: authority, listRequired: false, staleList: 'refuse' } as const;
    await putAuthority(t.vault, admin(), 'corp', said);
    const keeper = await t.user('keeper', [], [allow(['authority.*'], ['authority:**'])]);
    const take = () => putAuthority(t.vault, t.call(keeper), 'corp', { ...said, certificates: theirs });
    const making = await t.owner.reserve();
    await making`BEGIN`;
    await making`
      INSERT INTO certificate_roles (tenant_id, name, role_id, authority_id, names, policies, created_at, updated_at)
      SELECT tenant_id, 'web', 'aaaaaaaaaaaaaaaa', authority_id, '{dns:a.example}', '{web}', now(), now()
      FROM authorities WHERE tenant_id = ${tenant} AND name = 'corp' FOR SHARE`;
    const taken = codeOf(take());
    await waiting(t.owner, 1);
    await making`COMMIT`;
    making.release();
    expect(await taken).toBe('forbidden');
    expect((await readAuthority(t.vault, admin(), 'corp')).certificates).toBe(authority);
  });

  it('a policy that a certificate role gives is not deleted: another one of its name would be given unasked', async () => {
    expect(await codeOf(deletePolicy(t.vault, admin(), 'web'))).toBe('conflict');
    await deleteCertificateRole(t.vault, admin(), 'web');
  });

  it('the log names everybody and everything of a change, however long the list', async () => {
    const names = Array.from({ length: 20 }, (_, i) => `a-policy-with-a-name-that-takes-some-room-${i}`);
    for (const name of names) await putPolicy(t.vault, admin(), name, { rules: [] });
    const policies = [...names, 'admin'];
    const { entries } = await added(t.owner, tenant, async () => {
      await createUser(t.vault, admin(), { username: 'padded', policies });
      await createGroup(t.vault, admin(), { name: 'padded', policies, members: ['padded', 'ann'] });
    });
    for (const action of ['user.write', 'group.write']) {
      const own = entries.filter((entry) => entry.action === action);
      expect(own.flatMap(({ details }) => String(details!.policies).split(' '))).toEqual(policies);
      expect(own.map(({ details }) => details!.part)).toEqual([undefined, ...own.slice(1).map((_, i) => i + 2)]);
      expect(own.every(({ details }) => String(details!.policies).length <= 256)).toBe(true);
    }
    await deleteGroup(t.vault, admin(), 'padded');
  });

  it('key-admin and auditor never read a secret, whatever else they hold, and through no policy that they write', async () => {
    for (const policy of ['key-admin', 'auditor']) {
      const both = await t.user(`${policy}-too`, [policy, 'reader', 'admin']);
      expect(await read(both, 'web/key')).toBe('forbidden');
      expect(await codeOf(fetchSecrets(t.vault, t.call(both), { paths: [parsePath('web/key')] }))).toBe('forbidden');
      const call = () => t.call(both);
      const reading = { rules: [allow(['secret.read'], ['secret:web/**'])] };
      expect(await codeOf(putPolicy(t.vault, call(), 'mine-too', reading))).toBe('forbidden');
      const friend = { username: 'friend', password: PASSWORD, policies: ['reader'] };
      expect(await codeOf(createUser(t.vault, call(), friend))).toBe('forbidden');
      expect(await codeOf(updateUser(t.vault, call(), `${policy}-too`, { policies: ['admin'] }))).toBe('forbidden');
      expect(await codeOf(updateUser(t.vault, call(), 'admin', { password: 'a long password of mine' }))).toBe(
        'forbidden',
      );
    }
  });
});

describe('what a policy has been', () => {
  it('says who changed it to what, across a deletion', async () => {
    const rules = (path: string) => ({ rules: [allow(['secret.read'], [`secret:${path}`])] });
    await putPolicy(t.vault, admin(), 'told', rules('a'));
    await putPolicy(t.vault, admin(), 'told', rules('b'));
    await deletePolicy(t.vault, admin(), 'told');
    await putPolicy(t.vault, admin(), 'told', rules('c'));
    const { items } = await listPolicyChanges(t.vault, admin(), 'told', {});
    expect(
      items.map(({ number, revision, rules: said, changedByName }) => [
        number,
        revision,
        said?.[0]?.resources[0],
        changedByName,
      ]),
    ).toEqual([
      [4, 1, 'secret:c', 'admin'],
      [3, 3, undefined, 'admin'],
      [2, 2, 'secret:b', 'admin'],
      [1, 1, 'secret:a', 'admin'],
    ]);
    const first = await listPolicyChanges(t.vault, admin(), 'told', { limit: 3 });
    const rest = await listPolicyChanges(t.vault, admin(), 'told', { limit: 3, cursor: first.nextCursor! });
    expect(rest.items.map(({ number }) => number)).toEqual([1]);
    expect(await codeOf(listPolicyChanges(t.vault, admin(), 'never-there', {}))).toBe('not_found');
  });

  it('every log proves', () => t.check());
});
