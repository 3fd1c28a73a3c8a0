/** Why, why not, and what a change would do: the answers against what the gate really does. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createToken } from '../src/auth/child.ts';
import { updateUser } from '../src/auth/user.ts';
import type { TenantId } from '../src/db/database.ts';
import { explain } from '../src/policy/explain.ts';
import { createGroup } from '../src/policy/group.ts';
import { previewPolicy } from '../src/policy/preview.ts';
import { readSecret } from '../src/policy/read.ts';
import { deletePolicy, putPolicy, readPolicy } from '../src/policy/store.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { type TestVault, testVault } from './harness.ts';
import { added, codeOf, errorOf, tenantId, text } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let app: string;
const allow = (actions: string[], resources: string[], rest: object = {}) => ({
  effect: 'allow' as const,
  actions,
  resources,
  ...rest,
});
const deny = (actions: string[], resources: string[]) => ({ ...allow(actions, resources), effect: 'deny' as const });
const admin = () => t.call(t.admin);
const about = (path: string, username?: string, circumstances?: object, token = t.admin) =>
  explain(t.vault, t.call(token), { action: 'secret.read', resource: `secret:${path}`, username, circumstances });
const why = (path: string, circumstances?: object) => about(path, 'app', circumstances);

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
  await putPolicy(t.vault, admin(), 'custodians', { rules: [] });
  await putPolicy(t.vault, admin(), 'no-prod', { rules: [deny(['*'], ['secret:prod/**'])] });
  app = await t.user(
    'app',
    ['no-prod'],
    [
      allow(['secret.read'], ['secret:web/**', 'secret:prod/**', 'secret:own/${user.name}/*']),
      allow(['secret.read'], ['secret:office/**'], { conditions: { cidrs: ['10.0.0.0/8'], mfa: true } }),
      allow(['secret.read'], ['secret:root/**'], { approval: { by: 'custodians', count: 2, within: '1h' } }),
      allow(['secret.read'], ['secret:day/*'], {
        conditions: { time: { zone: 'Europe/Berlin', from: '08:00', until: '18:00' } },
      }),
    ],
  );
  for (const path of ['web/key', 'prod/key', 'office/key', 'root/key', 'other/key', 'own/app/key']) {
    await putSecret(t.vault, admin(), parsePath(path), text('a value'));
  }
});
afterAll(() => t.close());

describe('explain', () => {
  it('names the rule that decides, and the smallest that would', async () => {
    expect(await why('web/key')).toMatchObject({
      allowed: true,
      reason: 'allowed',
      rule: { policy: 'app', index: 0 },
      smallestRule: null,
    });
    expect(await why('own/app/key')).toMatchObject({ allowed: true, rule: { policy: 'app', index: 0 } });
    expect(await why('prod/key')).toMatchObject({
      ...{ allowed: false, reason: 'denied', smallestRule: null },
      rule: { policy: 'no-prod', index: 0, rule: deny(['*'], ['secret:prod/**']) },
    });
    expect(await why('office/key')).toMatchObject({
      ...{ allowed: false, reason: 'conditions', rule: null },
      almost: [{ policy: 'app', index: 1, conditions: ['cidrs', 'mfa'] }],
    });
    expect(await why('office/key', { source: '10.1.1.1' })).toMatchObject({ almost: [{ conditions: ['mfa'] }] });
    expect(await why('office/key', { source: '10.1.1.1', mfa: true })).toMatchObject({ allowed: true });
    expect(await why('day/key', { now: '2026-07-01T15:59:59.000000Z' })).toMatchObject({ allowed: true });
    expect(await why('day/key', { now: '2026-07-01T16:00:00.000000Z' })).toMatchObject({
      almost: [{ conditions: ['time'] }],
    });
    expect(await why('root/key')).toMatchObject({
      allowed: false,
      reason: 'approval',
      requirements: [{ by: 'custodians', count: 2 }],
    });
  });

  it('the smallest rule allows it, and nothing less would', async () => {
    const { smallestRule, reason } = await why('other/key');
    expect(reason).toBe('no_rule');
    expect(smallestRule).toEqual(allow(['secret.read'], ['secret:other/key']));
    const before = await readPolicy(t.vault, admin(), 'app');
    expect(await codeOf(readSecret(t.vault, t.call(app), parsePath('other/key'), 0))).toBe('forbidden');
    await putPolicy(t.vault, admin(), 'app', { rules: [...before.rules, smallestRule!] });
    expect(await codeOf(readSecret(t.vault, t.call(app), parsePath('other/key'), 0))).toBe('ok');
    await putPolicy(t.vault, admin(), 'app', { rules: before.rules });
  });

  it('agrees with the gate about oneself, and shows no policy that one may not read', async () => {
    for (const path of ['web/key', 'prod/key', 'office/key', 'root/key', 'other/key']) {
      const { allowed, rule } = await about(path, undefined, undefined, app);
      expect(allowed, path).toBe((await codeOf(readSecret(t.vault, t.call(app), parsePath(path), 0))) === 'ok');
      expect(rule?.rule ?? null).toBeNull();
    }
    expect(await codeOf(about('web/key', 'admin', undefined, app))).toBe('forbidden');
    expect(await codeOf(about('web/key', 'nobody-there'))).toBe('not_found');
    expect(await codeOf(about('web/*', 'app'))).toBe('invalid_request');
    expect(await codeOf(explain(t.vault, admin(), { action: 'secret.read', resource: 'user:app' }))).toBe(
      'invalid_request',
    );
    await updateUser(t.vault, admin(), 'app', { disabled: true });
    expect(await why('web/key')).toMatchObject({ allowed: false, reason: 'disabled' });
    await updateUser(t.vault, admin(), 'app', { disabled: false });
    app = await t.login('default', 'app');
    const foreign = { action: 'tenant.create', resource: 'tenant:x', username: 'admin' };
    expect(await explain(t.vault, admin(), foreign)).toMatchObject({ allowed: false, reason: 'other_tenant' });
  });

  it('about oneself, a token says no where it cannot be used: elsewhere, or for what outlives its uses', async () => {
    const bound = async (wish: object) =>
      (await createToken(t.vault, t.call(t.admin), { policies: ['admin'], ...wish })).token;
    const net = await bound({ cidrs: ['127.0.0.0/8'] });
    expect(await about('web/key', undefined, undefined, net)).toMatchObject({ allowed: true });
    expect(await about('web/key', undefined, { source: '127.9.9.9' }, net)).toMatchObject({ allowed: true });
    expect(await about('web/key', undefined, { source: '10.1.1.1' }, net)).toMatchObject({
      ...{ allowed: false, reason: 'token', rule: { policy: 'admin' }, smallestRule: null },
    });
    expect(await about('web/key', undefined, { tokenKind: 'wrapping' }, net)).toMatchObject({ reason: 'token' });
    const few = await bound({ uses: 5 });
    expect(await about('web/key', undefined, undefined, few)).toMatchObject({ allowed: true });
    const lease = { action: 'lease.create', resource: 'lease:db/reporting' };
    expect(await explain(t.vault, t.call(few), lease)).toMatchObject({ allowed: false, reason: 'token' });
    expect(await explain(t.vault, t.call(t.admin), lease)).toMatchObject({ allowed: true });
    // The conditions of a bound are held against what was asked about, as those of the account are.
    await putPolicy(t.vault, admin(), 'at-night', {
      rules: [allow(['*'], ['**'], { conditions: { time: { zone: 'UTC', from: '22:00', until: '23:00' } } })],
    });
    const { token: night } = await createToken(t.vault, t.call(t.admin), { policies: ['at-night'] });
    const when = (now: string) => about('web/key', undefined, { now }, night);
    expect(await when('2026-07-01T22:30:00.000000Z')).toMatchObject({ allowed: true });
    expect(await when('2026-07-01T12:30:00.000000Z')).toMatchObject({ allowed: false, reason: 'token' });
  });

  it('says in the log what was asked, and a 403 says what is missing whether the thing exists or not', async () => {
    const { entries } = await added(t.owner, tenant, () => why('web/key'));
    expect(entries).toMatchObject([
      { action: 'policy.explain', resource: 'user:app', details: { about: 'secret:web/key' } },
    ]);
    const refused = async (path: string) => {
      const { code, message, details } = await errorOf(readSecret(t.vault, t.call(app), parsePath(path), 0));
      expect({ code, details }).toEqual({
        code: 'forbidden',
        details: { action: 'secret.read', resource: `secret:${path}` },
      });
      return message.replace(path, '');
    };
    expect(await refused('other/key')).toBe(await refused('never/there'));
    const over = await t.request('GET', '/api/v1/secrets/other/key', { token: app });
    expect([over.status, over.json.action, over.json.resource]).toEqual([403, 'secret.read', 'secret:other/key']);
  });
});

describe('dry run', () => {
  const preview = (rules: object[], token = t.admin) => previewPolicy(t.vault, t.call(token), 'shared', { rules });
  const one = allow(['secret.read'], ['secret:web/**']);
  const wide = allow(['secret.read'], ['secret:**']);

  beforeAll(async () => {
    await putPolicy(t.vault, admin(), 'shared', { rules: [one, deny(['secret.*'], ['secret:prod/**'])] });
    await t.user('alone', ['shared']);
    await t.user('also', ['shared', 'reader']);
    await t.user('ingroup', ['custodians']);
    await createGroup(t.vault, admin(), { name: 'team', policies: ['shared'], members: ['ingroup'] });
  });

  it('lists who gains and who loses what, by their other policies, and changes nothing', async () => {
    const before = await readPolicy(t.vault, admin(), 'shared');
    const wider = await preview([wide, deny(['secret.*'], ['secret:prod/**'])]);
    expect(wider).toMatchObject({ name: 'shared', revision: 1, holders: 3, truncated: false });
    // What reads everything anyway gains nothing; within the wider rule the narrow one is not lost.
    expect(wider.changes.map(({ username, gains, loses }) => [username, gains, loses])).toEqual([
      ['alone', [wide], []],
      ['ingroup', [wide], []],
    ]);
    const free = await preview([one]);
    expect(free.changes).toMatchObject([
      { username: 'also', gains: [deny(['secret.*'], ['secret:prod/**'])], loses: [] },
    ]);
    const none = await preview([]);
    expect(none.changes.map(({ username, gains, loses }) => [username, gains.length, loses.length])).toEqual([
      ['alone', 0, 1],
      ['also', 1, 0],
      ['ingroup', 0, 1],
    ]);
    expect(await readPolicy(t.vault, admin(), 'shared')).toEqual(before);
    expect(await previewPolicy(t.vault, admin(), 'not-yet', { rules: [wide] })).toMatchObject({
      revision: 0,
      holders: 0,
      changes: [],
    });
    expect(await codeOf(deletePolicy(t.vault, admin(), 'not-yet'))).toBe('not_found');
  });

  it('is refused to whoever may not make the change, and hides users whom one may not list', async () => {
    const clerk = await t.user('clerk', [], [allow(['policy.write'], ['policy:shared']), one]);
    expect(await codeOf(preview([wide], clerk))).toBe('forbidden');
    expect(
      await preview([one, allow(['secret.read'], ['secret:web/a'])].slice(0, 1), app).catch((error) => error.code),
    ).toBe('forbidden');
    const narrow = await preview(
      [deny(['secret.*'], ['secret:prod/**']), allow(['secret.read'], ['secret:web/a'])],
      clerk,
    );
    expect(narrow).toMatchObject({ holders: 3, changes: [] });
  });
});
