/** The gate: what it decides, it records; what it cannot record does not happen. Single acts and batched reads alike. */
import fc from 'fast-check';
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
import { setTenantState } from '../src/tenant/tenant.ts';
import type { Vault } from '../src/vault.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { added, codeOf, data, entriesOf, holdHead, rowsHash, tenantId, text, textOf, waiting } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let acme: TenantId;
let acmeAdmin: string;
/** A node that gives up early. */
let hasty: Vault;

beforeAll(async () => {
  t = await testVault();
  hasty = await t.node({ env: { BULLA_REQUEST_DEADLINE: '1s' } });
  tenant = await tenantId(t.owner, 'default');
  acmeAdmin = await t.tenant('acme');
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
    const act = await codeOf(setTenantState(hasty, t.call(t.operator), 'acme', 'suspended')).finally(release);
    expect(act).toBe('unavailable');
    expect(await entriesOf(t.owner, 'system')).toHaveLength(system.length);
    const there = await added(t.owner, acme, () => setTenantState(t.vault, t.call(t.operator), 'acme', 'suspended'));
    expect(there.entries).toMatchObject([{ action: 'tenant.update', outcome: 'ok', actor: { name: 'operator' } }]);
    await setTenantState(t.vault, t.call(t.operator), 'acme', 'active');
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

describe('batches', () => {
  it('many tenants, many answers: each member of a batch gets its own', async () => {
    await put(t.admin, 'shared/name', 'of default');
    await put(acmeAdmin, 'shared/name', 'of acme');
    await put(acmeAdmin, 'only/acme', 'x');
    const reader = await t.user('batch-reader', [], [allow(['secret.read'], ['secret:shared/*'])]);
    const asked: [string | undefined, string, number, string][] = [
      [t.admin, 'shared/name', 0, 'of default'],
      [acmeAdmin, 'shared/name', 0, 'of acme'],
      [t.admin, 'only/acme', 0, 'not_found'],
      [reader, 'shared/name', 1, 'of default'],
      [reader, 'only/acme', 0, 'forbidden'],
      [reader, 'shared/name', 2, 'not_found'],
      [undefined, 'shared/name', 0, 'unauthenticated'],
      [t.operator, 'shared/name', 0, 'not_found'],
    ];
    const many = Array.from({ length: 25 }, () => asked).flat();
    const before = { mine: (await entriesOf(t.owner, tenant)).length, theirs: (await entriesOf(t.owner, acme)).length };
    const answers = await Promise.all(
      many.map(([token, path, version]) => read(token, path, version).then(textOf, (error: VaultError) => error.code)),
    );
    expect(answers).toEqual(many.map(([, , , answer]) => answer));
    expect(await entriesOf(t.owner, tenant)).toHaveLength(before.mine + 25 * 5);
    expect(await entriesOf(t.owner, acme)).toHaveLength(before.theirs + 25);
    await t.check();
  });

  it('I7 a token that claims another tenant proves nothing, in one batch with the true one too', async () => {
    await put(acmeAdmin, 'claimed/theirs', 'of acme');
    await put(t.admin, 'claimed/mine', 'of default');
    const mine = parseToken(t.admin)!;
    const forged = { ...t.call(undefined), token: { ...mine, tenantId: acme } };
    const { value, entries } = await added(t.owner, acme, () =>
      Promise.all(
        [t.call(t.admin), forged, t.call(t.admin), forged].flatMap((call) =>
          ['claimed/theirs', 'claimed/mine', 'claimed/nowhere'].map((path) =>
            readSecret(t.vault, call, parsePath(path), 0).then(textOf, (error: VaultError) => error.code),
          ),
        ),
      ),
    );
    const own = ['not_found', 'of default', 'not_found'];
    const refused = ['unauthenticated', 'unauthenticated', 'unauthenticated'];
    expect(value).toEqual([...own, ...refused, ...own, ...refused]);
    expect(entries).toEqual([]);
  });

  it('a damaged row fails alone, as `integrity`, with an error entry of its own', async () => {
    for (const name of ['good', 'cut', 'flipped', 'huge', 'empty']) await put(t.admin, `damage/${name}`, 'whole');
    const damage = (name: string, change: string) =>
      t.owner.unsafe(`UPDATE secret_versions v SET envelope = ${change} FROM secrets s
        WHERE s.secret_id = v.secret_id AND s.tenant_id = '${tenant}' AND s.path = 'damage/${name}'`);
    await damage('cut', 'substring(envelope FROM 1 FOR 60)');
    await damage('flipped', 'set_byte(envelope, 70, get_byte(envelope, 70) # 1)');
    await damage('huge', "decode(repeat('00', 3 * 1024 * 1024), 'hex')");
    await damage('empty', "''");
    const names = ['good', 'cut', 'flipped', 'good', 'huge', 'empty', 'good'];
    const { value, entries } = await added(t.owner, tenant, () =>
      Promise.all(names.map((name) => codeOf(read(t.admin, `damage/${name}`)))),
    );
    expect(value).toEqual(['ok', 'integrity', 'integrity', 'ok', 'integrity', 'integrity', 'ok']);
    const failed = entries.filter(({ outcome }) => outcome === 'error');
    expect(failed.map(({ resource, code }) => `${resource} ${code}`).sort()).toEqual([
      'secret:damage/cut integrity',
      'secret:damage/empty integrity',
      'secret:damage/flipped integrity',
      'secret:damage/huge integrity',
    ]);
    expect(entries.filter(({ outcome }) => outcome === 'ok')).toHaveLength(3);
    await t.owner`DELETE FROM secrets WHERE tenant_id = ${tenant} AND path LIKE 'damage/%'`;
  });

  it('a member that the database refuses costs nobody else the answer', async () => {
    await put(t.admin, 'refused/good', 'x');
    const answers = await Promise.all([
      codeOf(read(t.admin, 'refused/good')),
      read(t.admin, 'refused/good', 2 ** 40).then(
        () => 'ok',
        (error: Error) => (error instanceof VaultError ? error.code : 'internal'),
      ),
      codeOf(read(t.admin, 'refused/good')),
    ]);
    expect(answers[0]).toBe('ok');
    expect(answers[1]).not.toBe('ok');
    expect(answers[2]).toBe('ok');
  });

  it('I7 a tenant whose log is busy does not delay another, however much it reads', async () => {
    await put(t.admin, 'busy/mine', 'x');
    await put(acmeAdmin, 'busy/theirs', 'y');
    const release = await holdHead(t.owner, tenant);
    const stuck: Promise<string>[] = [];
    const took: number[] = [];
    try {
      for (let i = 0; i < 60; i += 1) {
        stuck.push(codeOf(read(t.admin, 'busy/mine')));
        const started = performance.now();
        await read(acmeAdmin, 'busy/theirs');
        took.push(performance.now() - started);
      }
    } finally {
      await release();
    }
    expect(Math.max(...took)).toBeLessThan(1_000);
    expect(new Set(await Promise.all(stuck))).toEqual(new Set(['ok']));
  });

  it('bodies up to 1 MiB go through, many at once, among small ones', async () => {
    const sizes = [0, 1, 16 * 1024 - 200, 16 * 1024, 100_000, 1024 * 1024];
    for (const size of sizes) {
      const body = Buffer.alloc(size, size % 251);
      await putSecret(t.vault, t.call(t.admin), parsePath(`size/${size}`), { kind: 'bytes', body });
    }
    const many = [...sizes, ...sizes, ...sizes];
    const { value, entries } = await added(t.owner, tenant, () =>
      Promise.all(many.map((size) => read(t.admin, `size/${size}`))),
    );
    value.forEach(({ body }, i) => {
      expect(Buffer.from(body).equals(Buffer.alloc(many[i]!, many[i]! % 251))).toBe(true);
    });
    expect(entries).toHaveLength(many.length);
  });

  it('a body of one byte more than 1 MiB is refused', async () => {
    const body = Buffer.alloc(1024 * 1024 + 1);
    expect(await codeOf(putSecret(t.vault, t.call(t.admin), parsePath('size/over'), { kind: 'bytes', body }))).toBe(
      'too_large',
    );
  });

  it('a thousand reads at once: a thousand entries, and the log proves', async () => {
    await put(t.admin, 'many/reads', 'x');
    const { entries } = await added(t.owner, tenant, () =>
      Promise.all(Array.from({ length: 1000 }, () => read(t.admin, 'many/reads'))),
    );
    expect(entries).toHaveLength(1000);
    expect(new Set(entries.map(({ request }) => request)).size).toBe(1000);
    await t.check();
  });

  it('queue full: busy at once, and those inside are served', async () => {
    const all = Array.from({ length: 10_100 }, () => codeOf(read(undefined, 'many/reads')));
    expect(new Set(await Promise.all(all))).toEqual(new Set(['unauthenticated']));
    const answers = await Promise.all(Array.from({ length: 10_050 }, () => codeOf(read(t.admin, 'not/there'))));
    expect(answers.filter((code) => code === 'busy').length).toBeGreaterThanOrEqual(50);
    expect(new Set(answers)).toEqual(new Set(['not_found', 'busy']));
  });
});

describe('the batched read against the single path', () => {
  /** The same question through permit: fetch of one path answers current versions as the plain gate does. */
  async function single(token: string | undefined, path: string): Promise<string> {
    return fetchSecrets(t.vault, t.call(token), { paths: [parsePath(path)] }).then(
      ([opened]) =>
        `${opened!.version} ${textOf(opened!)} ${opened!.metadata ? textOf({ body: opened!.metadata }) : ''}`,
      (error: VaultError) => error.code,
    );
  }
  const batched = (token: string | undefined, path: string) =>
    read(token, path).then(
      (opened) => `${opened.version} ${textOf(opened)} ${opened.metadata ? textOf({ body: opened.metadata }) : ''}`,
      (error: VaultError) => error.code,
    );

  it('design §5: random tokens, policies and paths get the same answer and the same entry', async () => {
    const segment = fc.constantFrom('a', 'b', 'c');
    const path = fc.array(segment, { minLength: 1, maxLength: 3 }).map((parts) => `p/${parts.join('/')}`);
    const pattern = fc.array(fc.constantFrom('a', 'b', 'c', '*', '**'), { minLength: 1, maxLength: 3 });
    const rule = fc.record({
      effect: fc.constantFrom('allow', 'allow', 'deny'),
      actions: fc.constantFrom(['secret.read'], ['secret.*'], ['*'], ['secret.list']),
      resources: fc.array(
        pattern.map((parts) => `secret:p/${parts.join('/')}`),
        { minLength: 1, maxLength: 2 },
      ),
    });
    const rules = fc.array(rule, { maxLength: 3 });
    for (const p of ['p/a', 'p/b', 'p/a/b', 'p/a/a/a', 'p/c/b']) await put(t.admin, p, `value of ${p}`);
    await put(t.admin, 'p/a', 'second');
    await deleteVersions(t.vault, t.call(t.admin), parsePath('p/b'), undefined);
    await putSecret(t.vault, t.call(t.admin), parsePath('p/a/b'), { ...data('{}'), metadata: { of: 'p' } });
    const users = await Promise.all([0, 1, 2].map((i) => t.user(`random-${i}`, [], [])));
    const disabled = await t.user('random-disabled', ['admin']);
    await updateUser(t.vault, t.call(t.admin), 'random-disabled', { disabled: true });
    const tokens = [...users, t.admin, acmeAdmin, disabled, undefined];
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(rules, rules, rules),
        fc.array(fc.tuple(fc.nat(tokens.length - 1), path), { minLength: 1, maxLength: 12 }),
        async (policies, asked) => {
          for (const [i, document] of policies.entries()) {
            await putPolicy(t.vault, t.call(t.admin), `random-${i}`, { rules: document });
          }
          const strip = ({
            action,
            resource,
            outcome,
            code,
            version,
            actor,
          }: Awaited<ReturnType<typeof entriesOf>>[0]) =>
            JSON.stringify([action, resource, outcome, code, version, actor.name]);
          const one = await added(t.owner, tenant, () => Promise.all(asked.map(([who, p]) => batched(tokens[who], p))));
          const two = await added(t.owner, tenant, async () => {
            const answers: string[] = [];
            for (const [who, p] of asked) answers.push(await single(tokens[who], p));
            return answers;
          });
          expect(one.value).toEqual(two.value);
          expect(one.entries.map(strip).sort()).toEqual(two.entries.map(strip).sort());
        },
      ),
      { numRuns: 20 },
    );
  });
});
