/** The gate: what it decides, it records; what it cannot record does not happen; what is taken away is not served. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { login } from '../src/auth/login.ts';
import { logout } from '../src/auth/token.ts';
import { updateUser } from '../src/auth/user.ts';
import { parseToken } from '../src/crypto/token.ts';
import type { TenantId } from '../src/db/database.ts';
import { VaultError } from '../src/errors.ts';
import { permit } from '../src/policy/permit.ts';
import { readSecret } from '../src/policy/read.ts';
import { putPolicy, readPolicy } from '../src/policy/store.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { moveSecret } from '../src/secret/move.ts';
import { parsePath } from '../src/secret/path.ts';
import { deleteVersions, putSecret } from '../src/secret/secret.ts';
import { updateTenant } from '../src/tenant/tenant.ts';
import type { Vault } from '../src/vault.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';
import { added, codeOf, entriesOf, holdHead, rowsHash, sizeOf, tenantId, text, textOf, waiting } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let acme: TenantId;
/** A node that gives up early. */
let hasty: Vault;

beforeAll(async () => {
  t = await testVault();
  hasty = await t.node({ env: { BULLA_REQUEST_DEADLINE: '1s' } });
  tenant = await tenantId(t.owner, 'default');
  await t.tenant('acme');
  acme = await tenantId(t.owner, 'acme');
});
afterAll(() => t.close());

const put = (token: string, path: string, body: string) =>
  putSecret(t.vault, t.call(token), parsePath(path), text(body));
const read = (token: string | undefined, path: string, version = 0) =>
  readSecret(t.vault, t.call(token), parsePath(path), version);
const allow = (actions: string[], resources: string[]) => ({ effect: 'allow', actions, resources });
const deny = (actions: string[], resources: string[]) => ({ effect: 'deny', actions, resources });
const log = ['audit_heads', 'audit_segments', 'audit_leaves'];
const effects = (of: TenantId = tenant) => rowsHash(t.owner, of, log);

describe('one act', () => {
  it('a denied act leaves one entry and no effect', async () => {
    const eve = await t.user('eve', ['auditor']);
    const before = await effects();
    const { value, entries } = await added(t.owner, tenant, () => codeOf(put(eve, 'prod/db', 'planted')));
    expect(value).toBe('forbidden');
    expect(entries).toMatchObject([
      {
        action: 'secret.write',
        resource: 'secret:prod/db',
        outcome: 'denied',
        code: 'forbidden',
        actor: { name: 'eve' },
      },
    ]);
    expect(await effects()).toBe(before);
  });

  it('a denial of several asks names each that was missing, and only those', async () => {
    const mover = await t.user('mover', [], [allow(['secret.read'], ['secret:**'])]);
    await put(t.admin, 'moving/here', 'x');
    const act = () => codeOf(moveSecret(t.vault, t.call(mover), parsePath('moving/here'), parsePath('moving/there')));
    const { value, entries } = await added(t.owner, tenant, act);
    expect(value).toBe('forbidden');
    expect(entries.map(({ action, resource, outcome }) => `${action} ${resource} ${outcome}`)).toEqual([
      'secret.write secret:moving/there denied',
      'secret.delete secret:moving/here denied',
    ]);
  });

  it('an act that fails is undone whole and leaves one error entry', async () => {
    const before = await effects();
    const { value, entries } = await added(t.owner, tenant, () =>
      codeOf(
        permit(t.vault, t.call(t.admin), { action: 'user.write', resource: 'user:admin' }, async (tx) => {
          await tx`UPDATE users SET disabled = true`;
          throw new VaultError('conflict', 'for the test');
        }),
      ),
    );
    expect(value).toBe('conflict');
    expect(entries).toMatchObject([
      { action: 'user.write', resource: 'user:admin', outcome: 'error', code: 'conflict' },
    ]);
    expect(await effects()).toBe(before);
  });

  it('an act that crashes is undone whole', async () => {
    const before = await effects();
    const act = permit(t.vault, t.call(t.admin), { action: 'user.write', resource: 'user:admin' }, async (tx) => {
      await tx`UPDATE users SET disabled = true`;
      throw new TypeError('a defect');
    });
    await expect(act).rejects.toThrow(TypeError);
    expect(await effects()).toBe(before);
  });

  it('no token, a forged secret and an unknown accessor are told alike and write nothing', async () => {
    const forged = `${t.admin.slice(0, 40)}`;
    const other = await t.login('default', 'admin');
    const mine = parseToken(t.admin)!;
    const theirs = parseToken(other)!;
    const calls = [
      t.call(undefined),
      { ...t.call(undefined), token: parseToken(forged) },
      { ...t.call(undefined), token: { ...mine, secretHash: theirs.secretHash } },
      { ...t.call(undefined), token: { ...mine, tokenId: 'aaaaaaaaaaaaaaaa' } },
      { ...t.call(undefined), token: { ...mine, tenantId: acme } },
    ];
    const { value, entries } = await added(t.owner, tenant, async () => {
      const messages = new Set<string>();
      for (const call of calls) {
        for (const act of [
          () => readPolicy(t.vault, call, 'admin'),
          () => readSecret(t.vault, call, parsePath('prod/db'), 0),
        ]) {
          await act().then(
            () => messages.add('served'),
            (error: VaultError) => messages.add(`${error.code} ${error.message}`),
          );
        }
      }
      return [...messages];
    });
    expect(value).toHaveLength(1);
    expect(value[0]).toMatch(/^unauthenticated/);
    expect(entries).toEqual([]);
  });

  it('T-085 an entry that cannot be written: unavailable within the deadline, and nothing happened', async () => {
    await put(t.admin, 'held/secret', 'not a byte of this');
    const before = await effects();
    const logBefore = (await entriesOf(t.owner, tenant)).length;
    const release = await holdHead(t.owner, tenant);
    try {
      const started = performance.now();
      const acts = [
        putSecret(hasty, t.call(t.admin), parsePath('held/new'), text('x')),
        deleteVersions(hasty, t.call(t.admin), parsePath('held/secret'), undefined),
        readSecret(hasty, t.call(t.admin), parsePath('held/secret'), 0),
        fetchSecrets(hasty, t.call(t.admin), { paths: [parsePath('held/secret')] }),
        putPolicy(hasty, t.call(t.admin), 'held', { rules: [] }),
        login(hasty, t.call(), { tenant: 'default', username: 'admin', password: PASSWORD }),
      ];
      expect(await Promise.all(acts.map(codeOf))).toEqual(acts.map(() => 'unavailable'));
      expect(performance.now() - started).toBeLessThan(4_000);
    } finally {
      await release();
    }
    expect(await effects()).toBe(before);
    expect(await entriesOf(t.owner, tenant)).toHaveLength(logBefore);
    expect(textOf(await read(t.admin, 'held/secret'))).toBe('not a byte of this');
  });

  it('an operator’s act on a tenant is in both logs or in neither', async () => {
    const system = await entriesOf(t.owner, 'system');
    const release = await holdHead(t.owner, acme);
    const act = await codeOf(updateTenant(hasty, t.call(t.operator), 'acme', { state: 'suspended' })).finally(release);
    expect(act).toBe('unavailable');
    expect(await entriesOf(t.owner, 'system')).toHaveLength(system.length);
    const there = await added(t.owner, acme, () =>
      updateTenant(t.vault, t.call(t.operator), 'acme', { state: 'suspended' }),
    );
    expect(there.entries).toMatchObject([{ action: 'tenant.update', outcome: 'ok', actor: { name: 'operator' } }]);
    await updateTenant(t.vault, t.call(t.operator), 'acme', { state: 'active' });
    expect((await entriesOf(t.owner, 'system')).slice(-2)).toMatchObject([
      { action: 'tenant.update', outcome: 'ok' },
      { action: 'tenant.update', outcome: 'ok' },
    ]);
  });
});

describe('access that is taken away', () => {
  /** The revocation waits for the held head with its rows changed; the act decides before that commits, and waits too. */
  async function overtaken(revoke: () => Promise<unknown>, act: () => Promise<unknown>) {
    const release = await holdHead(t.owner, tenant);
    const revoked = revoke();
    let acted: Promise<string> | undefined;
    try {
      await waiting(t.owner, 1);
      acted = codeOf(act());
      await waiting(t.owner, 2);
    } finally {
      await release();
    }
    await revoked;
    return acted;
  }

  const acts = [
    ['a batched read', (token: string) => read(token, 'taken/away')],
    ['a fetch', (token: string) => fetchSecrets(t.vault, t.call(token), { prefixes: ['' as never] })],
    ['a write', (token: string) => put(token, 'taken/written', 'late')],
  ] as const;

  it.each(acts)('I4 the token is ended between the decision and the entry of %s: not served', async (name, act) => {
    await put(t.admin, 'taken/away', 'x');
    const user = await t.user(`taken-${name.replaceAll(' ', '-')}`, ['admin']);
    const before = (await entriesOf(t.owner, tenant)).length;
    expect(
      await overtaken(
        () => logout(t.vault, t.call(user)),
        () => act(user),
      ),
    ).toBe('unauthenticated');
    const entries = (await entriesOf(t.owner, tenant)).slice(before);
    const ended = entries.findIndex(({ action }) => action === 'auth.logout');
    expect(ended).toBeGreaterThanOrEqual(0);
    expect(entries.slice(ended + 1).filter(({ outcome }) => outcome === 'ok')).toEqual([]);
  });

  it.each(acts)(
    'T-073 the policy changes between the decision and the entry of %s: denied, by name',
    async (name, act) => {
      const who = `narrowed-${name.replaceAll(' ', '-')}`;
      const user = await t.user(who, [], [allow(['*'], ['**'])]);
      await put(t.admin, 'taken/away', 'x');
      const before = (await entriesOf(t.owner, tenant)).length;
      const narrow = () => putPolicy(t.vault, t.call(t.admin), who, { rules: [allow(['user.list'], ['user:**'])] });
      expect(await overtaken(narrow, () => act(user))).toBe('forbidden');
      const entries = (await entriesOf(t.owner, tenant)).slice(before);
      const changed = entries.findIndex(({ action }) => action === 'policy.write');
      expect(entries.slice(changed + 1)).toMatchObject([
        { outcome: 'denied', code: 'forbidden', actor: { name: who } },
      ]);
    },
  );

  it('I4 under load, on two nodes: nothing of a token is served in the log after it was ended', async () => {
    const node = await t.node();
    await put(t.admin, 'stream/secret', 'x');
    await t.user('streaming', ['reader']);
    for (let round = 0; round < 6; round += 1) {
      const { token, accessor } = await login(t.vault, t.call(), {
        tenant: 'default',
        username: 'streaming',
        password: PASSWORD,
      });
      const before = await sizeOf(t.owner, tenant);
      const reads: Promise<string>[] = [];
      let served = 0;
      let ended = false;
      const end = (async () => {
        await until('reads are served', () => served > 0);
        await logout(round % 2 ? node : t.vault, t.call(token));
        ended = true;
      })();
      for (let i = 0; !ended || i < 40; i += 1) {
        const read = codeOf(readSecret(i % 3 ? t.vault : node, t.call(token), parsePath('stream/secret'), 0));
        reads.push(read);
        void read.then((code) => {
          served += code === 'ok' ? 1 : 0;
        });
        if (i % 4 === 0) await new Promise(setImmediate);
      }
      await end;
      expect(new Set(await Promise.all(reads))).toEqual(new Set(['ok', 'unauthenticated']));
      const entries = (await entriesOf(t.owner, tenant, before)).filter(({ actor }) => actor.accessor === accessor);
      const logoutAt = entries.findIndex(({ action }) => action === 'auth.logout');
      expect(logoutAt).toBeGreaterThan(0);
      expect(entries.slice(logoutAt + 1).filter(({ outcome }) => outcome === 'ok')).toEqual([]);
    }
    await t.check();
  });

  it('I4 a login that a suspension overtakes is refused: no ok of it follows in the log', async () => {
    const release = await holdHead(t.owner, acme);
    const suspension = updateTenant(t.vault, t.call(t.operator), 'acme', { state: 'suspended' });
    let late: Promise<string> | undefined;
    try {
      await waiting(t.owner, 1);
      late = codeOf(login(t.vault, t.call(), { tenant: 'acme', username: 'admin', password: PASSWORD }));
      await waiting(t.owner, 2);
    } finally {
      await release();
    }
    await suspension;
    expect(await late).toBe('tenant_suspended');
    await updateTenant(t.vault, t.call(t.operator), 'acme', { state: 'active' });
  });

  it('T-073 the very next request on another node obeys', async () => {
    const node = await t.node();
    const user = await t.user('sticky', [], [allow(['secret.read'], ['secret:**'])]);
    await put(t.admin, 'sticky/secret', 'x');
    const there = () => codeOf(readSecret(node, t.call(user), parsePath('sticky/secret'), 0));
    expect(await there()).toBe('ok');
    await putPolicy(t.vault, t.call(t.admin), 'sticky', {
      rules: [allow(['secret.read'], ['secret:**']), deny(['secret.read'], ['secret:sticky/**'])],
    });
    expect(await there()).toBe('forbidden');
    await updateUser(t.vault, t.call(t.admin), 'sticky', { policies: ['reader'] });
    expect(await there()).toBe('ok');
    await updateUser(t.vault, t.call(t.admin), 'sticky', { disabled: true });
    expect(await there()).toBe('unauthenticated');
  });

  it('a stored policy that does not compile denies everything to who holds it', async () => {
    const user = await t.user('broken', ['reader'], [deny(['secret.read'], ['secret:secret/**'])]);
    await put(t.admin, 'plain', 'x');
    expect(await codeOf(read(user, 'plain'))).toBe('ok');
    await t.owner`UPDATE policies SET document = '{"rules":[{"effect":"permit"}]}', revision = revision + 1
                  WHERE tenant_id = ${tenant} AND name = 'broken'`;
    expect(await codeOf(read(user, 'plain'))).toBe('forbidden');
  });
});
