/** Writes that come together: stored in few transactions, and to each caller as if they had come alone. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TenantId } from '../src/db/database.ts';
import type { Waiting } from '../src/policy/deadline.ts';
import { createRounds } from '../src/policy/rounds.ts';
import type { NewVersion } from '../src/secret/insert.ts';
import { patchMetadata } from '../src/secret/metadata.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';
import { added, codeOf, hold, holdHead, rowsHash, sizeOf, tenantId, text, waiting } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
});
afterAll(() => t.close());

const put = (token: string | undefined, path: string, more: Partial<NewVersion> = {}) =>
  putSecret(t.vault, t.call(token), parsePath(path), { ...text(`of ${path}`), ...more });
const allow = (actions: string[], resources: string[]) => ({ effect: 'allow', actions, resources });
const segmentsFrom = async (first: number) => {
  const rows = await t.owner`
    SELECT count FROM audit_segments WHERE tenant_id = ${tenant} AND first_seq >= ${first} ORDER BY first_seq`;
  return rows.map((row) => row.count as number);
};

it('one transaction stores many, each with an entry of its own', async () => {
  const before = await sizeOf(t.owner, tenant);
  const paths = Array.from({ length: 40 }, (_, i) => `many/s${i}`);
  const calls = paths.map(() => t.call(t.admin));
  const { value, entries } = await added(t.owner, tenant, () =>
    Promise.all(paths.map((path, i) => putSecret(t.vault, calls[i]!, parsePath(path), text(path)))),
  );
  expect(value).toMatchObject(paths.map((path) => ({ created: true, path, version: 1, expiresAt: null })));
  expect(new Map(entries.map(({ request, resource }) => [request, resource]))).toEqual(
    new Map(calls.map(({ requestId }, i) => [requestId, `secret:${paths[i]}`])),
  );
  expect(entries).toHaveLength(40);
  expect(await segmentsFrom(before)).toEqual([40]);
  await t.check();
});

it('of one secret, each is a version; what is asked for each holds for it', async () => {
  await patchMetadata(t.vault, t.call(t.admin), parsePath('mixed/few'), {
    create: true,
    versionsKept: 2,
    metadata: {},
  });
  const at = '2090-01-02T03:04:05.000000Z';
  const written = await Promise.all([
    put(t.admin, 'mixed/one'),
    put(t.admin, 'mixed/one'),
    put(t.admin, 'mixed/one', { kind: 'data', body: Buffer.from('{"a":1}') }),
    put(t.admin, 'mixed/ends', { expiresAt: at }),
    put(t.admin, 'mixed/typed', { kind: 'bytes', contentType: 'image/png' }),
    ...Array.from({ length: 5 }, () => put(t.admin, 'mixed/few')),
  ]);
  const versions = (path: string) => written.filter((one) => one.path === path).map(({ version }) => version);
  expect(versions('mixed/one').sort()).toEqual([1, 2, 3]);
  expect(versions('mixed/few').sort()).toEqual([1, 2, 3, 4, 5]);
  expect(written[3]!.expiresAt).toBe(at);
  const kept = await t.owner`
    SELECT path, version, kind, content_type AS type FROM secret_versions JOIN secrets USING (tenant_id, secret_id)
    WHERE tenant_id = ${tenant} AND path LIKE 'mixed/%' AND path <> 'mixed/one' ORDER BY path, version`;
  expect([...kept]).toEqual([
    { path: 'mixed/ends', version: 1, kind: 'text', type: null },
    { path: 'mixed/few', version: 4, kind: 'text', type: null },
    { path: 'mixed/few', version: 5, kind: 'text', type: null },
    { path: 'mixed/typed', version: 1, kind: 'bytes', type: 'image/png' },
  ]);
  await t.check();
});

it('who may not, and what cannot be, costs nobody else anything, and is refused and recorded as by itself', async () => {
  const writer = await t.user('together', [], [allow(['secret.write'], ['secret:open/*'])]);
  await put(t.admin, 'open/there');
  const asked: [string | undefined, string, Partial<NewVersion>, string][] = [
    [t.admin, 'open/a', {}, 'ok'],
    [writer, 'open/b', {}, 'ok'],
    [writer, 'closed/c', {}, 'forbidden'],
    [t.admin, 'open/there', { expect: 7 }, 'version_mismatch'],
    [t.admin, 'open/none', { expect: 1 }, 'version_mismatch'],
    [t.admin, 'open/d', { expect: 0 }, 'ok'],
    [`${writer.slice(0, -4)}AAAA`, 'open/e', {}, 'unauthenticated'],
    [undefined, 'open/f', {}, 'unauthenticated'],
    [writer, 'open/g', { contentType: 'no\0text' }, 'invalid_request'],
    [writer, 'open/h', { expect: 0, tellMetadata: true }, 'ok'],
  ];
  for (const others of [asked, asked.filter(([, , more]) => more.contentType === undefined)]) {
    const again = others === asked ? 0 : 1;
    const now = others.map(([token, path, more, code]) => {
      // What was made in the first wave is there in the second.
      const made = again === 1 && code === 'ok' && more.expect === 0;
      return [token, path, made ? { ...more, expect: 1 } : more, code] as const;
    });
    const { value, entries } = await added(t.owner, tenant, () =>
      Promise.all(now.map(([token, path, more]) => codeOf(put(token, path, more)))),
    );
    expect(value).toEqual(now.map(([, , , code]) => code));
    // A stranger's, and what is no text (over HTTP both are counted, and in summaries), have no entry of their own.
    const recorded = now.filter(([, , , code]) => code !== 'unauthenticated' && code !== 'invalid_request');
    const outcomes = { ok: 'ok', forbidden: 'denied', version_mismatch: 'error' } as const;
    const wanted = recorded.map(([, path, , code]) => `secret:${path} ${outcomes[code as keyof typeof outcomes]}`);
    expect(entries.map(({ resource, outcome }) => `${resource} ${outcome}`).sort()).toEqual(wanted.sort());
  }
  await t.check();
});

it('I4 access that is taken away while a round waits for the log stores nothing of who lost it', async () => {
  const loser = await t.user('loser', [], [allow(['secret.write'], ['secret:lost/*'])]);
  const before = await rowsHash(t.owner, tenant, ['audit_heads', 'audit_segments', 'audit_leaves', 'users']);
  const taking = await t.owner.reserve();
  await taking`BEGIN`;
  await taking`UPDATE audit_heads SET acl_revision = acl_revision + 1 WHERE tenant_id = ${tenant}`;
  await taking`UPDATE users SET disabled = true WHERE tenant_id = ${tenant} AND name = 'loser'`;
  const size = await sizeOf(t.owner, tenant);
  const puts = Array.from({ length: 10 }, (_, i) => codeOf(put(loser, `lost/s${i}`)));
  await waiting(t.owner, 1);
  await taking`COMMIT`;
  taking.release();
  expect(new Set(await Promise.all(puts))).toEqual(new Set(['unauthenticated']));
  expect(await rowsHash(t.owner, tenant, ['audit_heads', 'audit_segments', 'audit_leaves', 'users'])).toBe(before);
  expect(await sizeOf(t.owner, tenant)).toBe(size + 10);
});

it('two nodes that lock the same secrets in other orders all go through', async () => {
  const second = await t.node();
  const paths = Array.from({ length: 20 }, (_, i) => `both/s${i}`);
  for (let round = 0; round < 5; round += 1) {
    const on = (vault: typeof second, order: readonly string[]) =>
      order.map((path) => codeOf(putSecret(vault, t.call(t.admin), parsePath(path), text('x'))));
    const codes = await Promise.all([...on(t.vault, paths), ...on(second, [...paths].reverse())]);
    expect(new Set(codes)).toEqual(new Set(['ok']));
  }
  const rows = await t.owner`SELECT DISTINCT current_version AS at FROM secrets WHERE path LIKE 'both/%'`;
  expect(rows.map(({ at }) => at)).toEqual([10]);
  await t.check();
});

describe('what somebody else holds for long', () => {
  it('is waited for by whoever wants it, and by nobody who came with them', async () => {
    await patchMetadata(t.vault, t.call(t.admin), parsePath('held/pruned'), {
      ...{ create: true, versionsKept: 1, metadata: {} },
    });
    for (const path of ['held/row', 'held/pruned']) await put(t.admin, path);
    const ofSecret = (path: string) => `SELECT 1 FROM secrets WHERE path = '${path}' FOR UPDATE`;
    const ofVersion = (path: string) => `
      SELECT 1 FROM secret_versions v JOIN secrets s USING (tenant_id, secret_id) WHERE s.path = '${path}' FOR UPDATE OF v`;
    for (const [path, statement] of [
      ['held/row', ofSecret('held/row')],
      // As a batch of a re-encryption does.
      ['held/pruned', ofVersion('held/pruned')],
    ] as const) {
      const release = await hold(t.owner, statement);
      const wanting = codeOf(put(t.admin, path));
      const others = Array.from({ length: 9 }, (_, i) => codeOf(put(t.admin, `held/other${i}`)));
      expect(new Set(await Promise.all(others))).toEqual(new Set(['ok']));
      await release();
      expect(await wanting).toBe('ok');
    }
    await t.check();
  });

  it('the log is waited for together, as long as by one alone', async () => {
    const release = await holdHead(t.owner, tenant);
    const before = await sizeOf(t.owner, tenant);
    const puts = Array.from({ length: 10 }, (_, i) => codeOf(put(t.admin, `head/s${i}`)));
    await until('somebody has waited for the head for more than a second', async () => {
      const rows = await t.owner`
        SELECT 1 FROM pg_locks JOIN pg_stat_activity a USING (pid)
        WHERE NOT granted AND a.datname = current_database() AND clock_timestamp() - waitstart > interval '1.2 seconds'`;
      return rows.length > 0;
    });
    await release();
    expect(new Set(await Promise.all(puts))).toEqual(new Set(['ok']));
    expect(await segmentsFrom(before)).toEqual([10]);
  });

  it('few go in one round, of many half, and who came with the others before is in it when they come again', async () => {
    const sizes: number[] = [];
    const ends: (() => void)[] = [];
    const begin = async (members: readonly Waiting[]) => {
      sizes.push(members.length);
      await new Promise<void>((resolve) => ends.push(resolve));
    };
    const rounds = createRounds<Waiting>(t.vault, 100, begin, { inHalves: true });
    const add = (count: number) => {
      for (let i = 0; i < count; i += 1) {
        rounds.add({ arrivedMs: t.vault.clock.monotonicMs(), begunMs: undefined, reject: () => undefined });
      }
    };
    const run = async (count: number) => {
      await until(`${count} rounds are under way`, () => ends.length === count);
      for (const end of ends.splice(0)) end();
      await new Promise(setImmediate);
    };
    add(10);
    await run(1);
    add(4);
    // What comes in later turns of the event loop.
    for (const count of [5, 1]) {
      await new Promise(setImmediate);
      add(count);
    }
    await run(1);
    expect(sizes.splice(0)).toEqual([10, 10]);
    add(20);
    await run(1);
    add(64);
    await run(2);
    expect(sizes).toEqual([20, 32, 32]);
  });

  it('who comes beside two rounds waits for none that hangs', async () => {
    const begun: string[] = [];
    const ends: (() => void)[] = [];
    type Member = { arrivedMs: number; begunMs: undefined; reject: () => void; name: string };
    const rounds = createRounds<Member>(t.vault, 100, async (members) => {
      begun.push(...members.map(({ name }) => name));
      await new Promise<void>((resolve) => ends.push(resolve));
    });
    const add = (name: string) =>
      rounds.add({ arrivedMs: t.vault.clock.monotonicMs(), begunMs: undefined, reject: () => undefined, name });
    for (const name of ['hangs', 'ends']) {
      for (let i = 0; i < 10; i += 1) add(name);
      await until(`the round that ${name} is under way`, () => begun.includes(name));
    }
    add('late');
    ends[1]!();
    await until('the late one has its round', () => begun.includes('late'));
    for (const end of ends) end();
  });
});
