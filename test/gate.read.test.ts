/** The gate in batches: every member its own answer and entry, the same as by the plain path, and nobody delayed. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createToken } from '../src/auth/child.ts';
import { updateUser } from '../src/auth/user.ts';
import { LIMITS } from '../src/config.ts';
import { parseToken } from '../src/crypto/token.ts';
import type { TenantId } from '../src/db/database.ts';
import { VaultError } from '../src/errors.ts';
import { createKnownTenants } from '../src/policy/known.ts';
import type { OpenedVersion } from '../src/policy/opened.ts';
import { readSecret } from '../src/policy/read.ts';
import { putPolicy } from '../src/policy/store.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { parsePath } from '../src/secret/path.ts';
import { deleteVersions, putSecret } from '../src/secret/secret.ts';
import { type TestVault, testVault } from './harness.ts';
import { added, codeOf, data, entriesOf, hold, holdHead, type LogEntry, tenantId, text, textOf } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let acme: TenantId;
let acmeAdmin: string;

beforeAll(async () => {
  t = await testVault();
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

  it.each(['tokens', 'secret_versions'])('%s locked by somebody: unavailable within the deadline', async (table) => {
    await put(t.admin, 'locked/x', 'x');
    const hasty = await t.node({ env: { BULLA_REQUEST_DEADLINE: '1s' } });
    const release = await hold(t.owner, `LOCK TABLE ${table}`);
    const answer = codeOf(readSecret(hasty, t.call(t.admin), parsePath('locked/x'), 0));
    expect(await answer.finally(release)).toBe('unavailable');
    expect(textOf(await read(t.admin, 'locked/x'))).toBe('x');
  });

  it('I7 a tenant whose log is busy does not delay another, however much it reads', async () => {
    await put(t.admin, 'busy/mine', 'x');
    await put(acmeAdmin, 'busy/theirs', 'y');
    // Those who wait for the log are not to be turned away before it is free, however slow this machine is.
    const patient = await t.node({ env: { BULLA_REQUEST_DEADLINE: '120s' } });
    const ask = (token: string, path: string) => codeOf(readSecret(patient, t.call(token), parsePath(path), 0));
    const release = await holdHead(t.owner, tenant);
    const stuck: Promise<string>[] = [];
    const others: string[] = [];
    try {
      for (let i = 0; i < 60; i += 1) {
        stuck.push(ask(t.admin, 'busy/mine'));
        // Answered while the log is held, or this waits for ever.
        others.push(await ask(acmeAdmin, 'busy/theirs'));
      }
    } finally {
      await release();
    }
    expect(new Set(others)).toEqual(new Set(['ok']));
    expect(new Set(await Promise.all(stuck))).toEqual(new Set(['ok']));
  });

  it('a head that others go on to move is guessed ever more seldom, and at once again when a guess held', () => {
    const tenants = createKnownTenants(t.vault);
    const rest = { frontier: new Uint8Array(), aclRevision: 0, changes: 0, lastTime: '', now: '', sealed: false };
    const head = { tenant, size: 1, ...rest };
    tenants.set(head, t.vault.db.made);
    /** Rounds that lock the head until it is guessed again. */
    const locked = () => {
      let rounds = 0;
      for (; !tenants.get(tenant)!.head; rounds += 1) tenants.set(head, t.vault.db.made);
      return rounds;
    };
    const waits = Array.from({ length: 8 }, () => {
      tenants.wasWrong(tenants.get(tenant)!, head);
      return locked();
    });
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 65]);
    tenants.wasRight(tenants.get(tenant)!, head, head, t.vault.clock.monotonicMs());
    tenants.wasWrong(tenants.get(tenant)!, head);
    expect(locked()).toBe(1);
  });

  it('I7 a tenant that writes as fast as it can does not keep another from reading and writing', async () => {
    await put(acmeAdmin, 'calm/secret', 'x');
    const writers = 300;
    let isOver = false;
    let written = 0;
    const storm = Array.from({ length: writers }, async (_, i) => {
      while (!isOver) {
        await codeOf(put(t.admin, `storm/${i}`, 'x'));
        written += 1;
      }
    });
    const rounds = 10;
    try {
      for (let i = 0; i < rounds; i += 1) {
        await read(acmeAdmin, 'calm/secret');
        await put(acmeAdmin, 'calm/other', 'y');
      }
    } finally {
      isOver = true;
    }
    // Whoever queues behind the storm sees all of its writers pass before each answer; others see the rounds under way.
    expect(written / (2 * rounds)).toBeLessThan(2 * LIMITS.writesTogetherMax);
    expect(writers).toBeGreaterThan(4 * LIMITS.writesTogetherMax);
    await Promise.all(storm);
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
  const said = ({ version, body, metadata }: OpenedVersion) =>
    `${version} ${textOf({ body })} ${metadata ? textOf({ body: metadata }) : ''}`;
  const ask = (token: string | undefined, paths: readonly string[]): Promise<string> => {
    const [first] = paths;
    const answer =
      paths.length === 1
        ? read(token, first!).then(said)
        : fetchSecrets(t.vault, t.call(token), { paths: paths.map(parsePath) }).then((all) => all.map(said).join());
    return answer.catch((error: VaultError) => error.code);
  };
  /** The same holder, whose uses are counted: each of its acts goes by itself. */
  const counted = async (token: string) =>
    (await createToken(t.vault, t.call(token), { uses: LIMITS.tokenUsesMax })).token;

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
    const maker = [allow(['token.create'], ['token:**'])];
    const users = await Promise.all([0, 1, 2].map((i) => t.user(`random-${i}`, [], maker)));
    const disabled = await t.user('random-disabled', ['admin']);
    const known = [...users, t.admin, acmeAdmin, disabled];
    const tokens = [...known, undefined];
    const alone = [...(await Promise.all(known.map(counted))), undefined];
    await updateUser(t.vault, t.call(t.admin), 'random-disabled', { disabled: true });
    const paths = fc.oneof(
      { weight: 2, arbitrary: fc.array(path, { minLength: 1, maxLength: 1 }) },
      fc.uniqueArray(path, { minLength: 2, maxLength: 3 }).map((several) => several.sort()),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(rules, rules, rules),
        fc.array(fc.tuple(fc.nat(tokens.length - 1), paths), { minLength: 1, maxLength: 12 }),
        async (policies, asked) => {
          for (const [i, document] of policies.entries()) {
            await putPolicy(t.vault, t.call(t.admin), `random-${i}`, { rules: document });
          }
          const strip = ({ action, resource, outcome, code, version, actor, details }: LogEntry) =>
            JSON.stringify([action, resource, outcome, code, version, actor.name, details]);
          const one = await added(t.owner, tenant, () => Promise.all(asked.map(([who, p]) => ask(tokens[who], p))));
          const two = await added(t.owner, tenant, async () => {
            const answers: string[] = [];
            for (const [who, p] of asked) answers.push(await ask(alone[who], p));
            return answers;
          });
          expect(one.value).toEqual(two.value);
          expect(one.entries.map(strip).sort()).toEqual(two.entries.map(strip).sort());
        },
      ),
      { numRuns: 20 },
    );
  });

  it('a fetch of many, of some too large to go with others, and of more than a round holds', async () => {
    const names = Array.from({ length: 150 }, (_, i) => `bulk/s${String(i).padStart(3, '0')}`);
    await Promise.all(names.map((name, i) => put(t.admin, name, i % 50 === 49 ? name.repeat(3_000) : name)));
    const all = () => fetchSecrets(t.vault, t.call(t.admin), { paths: names.map(parsePath) });
    const few = () => fetchSecrets(t.vault, t.call(t.admin), { paths: names.slice(0, 40).map(parsePath) });
    const { value, entries } = await added(t.owner, tenant, () => Promise.all([few(), all(), few(), few()]));
    expect(value.map((opened) => opened.map((one) => one.path))).toEqual(
      [40, 150, 40, 40].map((count) => names.slice(0, count)),
    );
    expect(textOf(value[1]![49]!)).toBe(names[49]!.repeat(3_000));
    expect(entries.filter(({ resource }) => resource === 'secret:bulk/s007')).toHaveLength(4);
    expect(entries).toHaveLength(270);
    await t.check();
  });
});
