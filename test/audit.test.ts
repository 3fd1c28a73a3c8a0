/** Audit entries and the log they make: canonical lines, clean text, salts, filters, trees, and many writers at once. */
import canonicalize from 'canonicalize';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Actor, cleanText, type Entry, entryLine } from '../src/audit/entry.ts';
import { type ExportFilter, exportEntries, exportTree } from '../src/audit/export.ts';
import { readSelf } from '../src/auth/token.ts';
import { listUsers, unlockUser } from '../src/auth/user.ts';
import { leafHash, treeRoot } from '../src/crypto/merkle.ts';
import type { TenantId } from '../src/db/database.ts';
import { readSecret } from '../src/policy/read.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import { listSecrets } from '../src/secret/list.ts';
import { parsePath, type SecretPrefix } from '../src/secret/path.ts';
import { deleteVersions, putSecret } from '../src/secret/secret.ts';
import { naiveRoot, type TestVault, testVault } from './harness.ts';
import { codeOf, entriesOf, type LogEntry, sizeOf, tenantId, text } from './witness.ts';

/** Its types are those of CommonJS. */
const canonical = canonicalize as unknown as (value: unknown) => string | undefined;

let t: TestVault;
let tenant: TenantId;

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
});
afterAll(() => t.close());

const exported = async (filter: ExportFilter, token = t.admin) => {
  let lines = '';
  for await (const part of (await exportEntries(t.vault, t.call(token), filter)).lines) lines += part;
  return lines === ''
    ? []
    : lines
        .slice(0, -1)
        .split('\n')
        .map((line) => JSON.parse(line) as LogEntry);
};

describe('a line', () => {
  const name = fc.stringMatching(/^[a-z0-9._-]{1,20}$/);
  const foreign = fc.string({ unit: 'binary', maxLength: 300 });
  const optional = <T>(of: fc.Arbitrary<T>) => fc.option(of, { nil: undefined });
  const actor: fc.Arbitrary<Actor> = fc.record(
    { kind: fc.constantFrom('user', 'vault', 'anonymous'), id: name, name: foreign, method: foreign, accessor: name },
    { requiredKeys: ['kind'] },
  );
  const details = fc.dictionary(
    fc.stringMatching(/^[a-zA-Z_]{1,12}$/),
    fc.oneof(foreign, fc.maxSafeInteger(), fc.boolean()),
    { maxKeys: 8 },
  );
  const entry: fc.Arbitrary<Entry> = fc.record({
    origin: fc.record({ requestId: name, source: foreign, protocol: name }),
    actor,
    action: name,
    resource: optional(name.map((path) => `secret:${path}`)),
    version: optional(fc.nat()),
    outcome: fc.constantFrom('ok', 'denied', 'error'),
    code: optional(name),
    lease: optional(name),
    details: optional(details),
  });

  it('is RFC 8785 to the byte, as another implementation writes it, and reads back as what went in', () => {
    fc.assert(
      fc.property(entry, fc.nat(), (given, seq) => {
        const line = entryLine(given, seq, '2026-01-02T03:04:05.678901Z', 'A'.repeat(22));
        const back = JSON.parse(line) as LogEntry & Record<string, unknown>;
        expect(canonical(back)).toBe(line);
        expect(Buffer.from(line).toString()).toBe(line);
        expect(line).not.toMatch(/[\n\r\u2028\u2029\u202a-\u202e\u2066-\u2069]/);
        expect(back).toMatchObject({
          seq,
          action: given.action,
          outcome: given.outcome,
          request: given.origin.requestId,
          v: 1,
        });
        for (const member of ['code', 'details', 'lease', 'resource', 'version'] as const) {
          expect(member in back).toBe(given[member] !== undefined);
        }
        expect(back.actor.name).toBe(given.actor.name === undefined ? undefined : cleanText(given.actor.name));
      }),
      { numRuns: 300 },
    );
  });

  it('holds foreign text without control characters, separators, bidi marks and lone surrogates, at most 256 characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 700 }), (given) => {
        const clean = cleanText(given);
        expect(Array.from(clean).length).toBeLessThanOrEqual(256);
        expect(clean).not.toMatch(/\p{Cs}/u);
        expect(clean).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u);
        expect(cleanText(clean)).toBe(clean);
      }),
      { numRuns: 500 },
    );
    expect(cleanText('\u{1f600}'.repeat(300))).toBe('\u{1f600}'.repeat(256));
    expect(cleanText('plain text, ünïcode, 漢字')).toBe('plain text, ünïcode, 漢字');
    expect(cleanText('a\u202eb\nc\0d\ud800e')).toBe('a\ufffdb\ufffdc\ufffdd\ufffde');
  });

  it('refuses details that are no text, truth value or whole number, and too many of them', () => {
    const of = (details: Record<string, unknown>) => () =>
      entryLine(
        {
          origin: { requestId: 'r', source: '', protocol: 'p' },
          actor: { kind: 'vault' },
          action: 'a',
          outcome: 'ok',
          details: details as never,
        },
        0,
        '',
        '',
      );
    for (const value of [1.5, Number.NaN, 2 ** 53, null, {}, [], undefined]) expect(of({ value })).toThrow();
    expect(of(Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, i])))).toThrow();
  });
});

describe('the log', () => {
  it('salts every line with 16 bytes of its own, and numbers and dates them in order', async () => {
    await putSecret(t.vault, t.call(t.admin), parsePath('s/one'), text('x'));
    await Promise.all(Array.from({ length: 50 }, () => readSecret(t.vault, t.call(t.admin), parsePath('s/one'), 0)));
    const entries = await entriesOf(t.owner, tenant);
    expect(new Set(entries.map(({ salt }) => salt)).size).toBe(entries.length);
    for (const [i, { seq, salt, time }] of entries.entries()) {
      expect(seq).toBe(i);
      expect(Buffer.from(salt, 'base64url')).toHaveLength(16);
      expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    }
  });

  it('T-096 a clock that goes back never dates an entry before the one ahead of it', async () => {
    const early = await t.node({ clockOffsetSeconds: -24 * 3600 });
    const late = await t.node({ clockOffsetSeconds: 600 });
    for (const node of [t.vault, late, early, t.vault, late]) {
      await codeOf(listUsers(node, t.call(t.admin), {}));
      await codeOf(readSecret(node, t.call(t.admin), parsePath('s/one'), 0));
    }
    const times = (await entriesOf(t.owner, tenant)).map(({ time }) => time);
    expect(times).toEqual([...times].sort());
    await t.check();
  });

  it('200 acts at once in five tenants, through two nodes: every one recorded once, every log proves', async () => {
    const other = await t.node();
    const names = ['t-one', 't-two', 't-three', 't-four', 't-five'];
    const tenants: { id: TenantId; token: string }[] = [];
    for (const name of names) {
      const token = await t.tenant(name);
      tenants.push({ token, id: await tenantId(t.owner, name) });
      await putSecret(t.vault, t.call(token), parsePath('a'), text('x'));
    }
    const before = await Promise.all(tenants.map(({ id }) => sizeOf(t.owner, id)));
    const kinds = [
      (call: ReturnType<typeof t.call>, vault = t.vault) => readSecret(vault, call, parsePath('a'), 0),
      (call: ReturnType<typeof t.call>, vault = t.vault) =>
        putSecret(vault, call, parsePath(`b/${call.requestId}`), text('y')),
      (call: ReturnType<typeof t.call>, vault = t.vault) =>
        listSecrets(vault, call, { prefix: '' as SecretPrefix, recursive: true }),
      (call: ReturnType<typeof t.call>, vault = t.vault) => readSelf(vault, call),
    ];
    const calls = Array.from({ length: 200 }, (_, i) => ({ i, call: t.call(tenants[i % 5]!.token) }));
    await Promise.all(calls.map(({ i, call }) => kinds[Math.floor(i / 5) % 4]!(call, i % 2 ? other : t.vault)));
    for (const [at, { id }] of tenants.entries()) {
      const entries = await entriesOf(t.owner, id, before[at]);
      const expected = calls.filter(({ i }) => i % 5 === at).map(({ call }) => call.requestId);
      expect(entries.map(({ request }) => request).sort()).toEqual(expected.sort());
      expect(new Set(entries.map(({ outcome }) => outcome))).toEqual(new Set(['ok']));
    }
    await t.check();
  });
});

describe('exports', () => {
  let eve: string;
  beforeAll(async () => {
    eve = await t.user('eve', ['auditor']);
    const call = t.call(t.admin);
    for (const path of ['x/a', 'x/b', 'y/a'])
      await putSecret(t.vault, call, parsePath(path), text('value-of-an-export'));
    await codeOf(readSecret(t.vault, t.call(eve), parsePath('x/a'), 0));
    await codeOf(deleteVersions(t.vault, call, parsePath('x/nowhere'), undefined));
    await fetchSecrets(t.vault, call, { prefixes: ['x' as SecretPrefix] });
    await codeOf(unlockUser(t.vault, t.call(eve), 'eve'));
  });

  it('whole: exactly the lines that the hashes are of, without the export’s own entry', async () => {
    const size = await sizeOf(t.owner, tenant);
    let lines = '';
    const made = await exportEntries(t.vault, t.call(eve), {});
    for await (const part of made.lines) lines += part;
    expect(made.size).toBe(size);
    const hashes = lines
      .slice(0, -1)
      .split('\n')
      .map((line) => Buffer.from(leafHash(Buffer.from(line))));
    expect(hashes).toHaveLength(size);
    let tree = '';
    for await (const part of await exportTree(t.vault, t.call(eve), size)) tree += part;
    const [format, origin, said, root, blank, ...leaves] = tree.slice(0, -1).split('\n');
    expect([format, origin, said, blank]).toEqual([
      'bulla-tree-v1',
      `${t.vault.deploymentId}/${tenant}`,
      String(size),
      '',
    ]);
    expect(leaves).toEqual(hashes.map((hash) => hash.toString('base64')));
    expect(root).toBe(naiveRoot(hashes).toString('base64'));
    expect(root).toBe(Buffer.from(treeRoot(hashes)).toString('base64'));
    expect((await entriesOf(t.owner, tenant, size))[0]).toMatchObject({
      action: 'audit.read',
      actor: { name: 'eve' },
      outcome: 'ok',
    });
  });

  it('a tree of every earlier size has that size’s root, and one larger than the log is refused', async () => {
    const size = await sizeOf(t.owner, tenant);
    const hashes = (
      await t.owner`SELECT hashes FROM audit_leaves WHERE tenant_id = ${tenant} ORDER BY first_seq`
    ).flatMap(({ hashes }) =>
      Array.from({ length: hashes.length / 32 }, (_, i) => hashes.subarray(i * 32, i * 32 + 32) as Buffer),
    );
    for (const at of [0, 1, 2, 3, 7, 8, 9, size - 1, size]) {
      let tree = '';
      for await (const part of await exportTree(t.vault, t.call(eve), at)) tree += part;
      expect(tree.split('\n')[3], `size ${at}`).toBe(naiveRoot(hashes.slice(0, at)).toString('base64'));
      expect(tree.split('\n').length - 6).toBe(at);
    }
    expect(await codeOf(exportTree(t.vault, t.call(eve), size + 1000))).toBe('invalid_request');
  });

  it('filters give what a plain look at all lines gives, alone and together', async () => {
    const all = await exported({}, eve);
    const middle = all[Math.floor(all.length / 2)]!.time;
    const cases: [ExportFilter, (entry: LogEntry) => boolean][] = [
      [{ actor: 'eve' }, ({ actor }) => actor.name === 'eve'],
      [{ actor: all[0]!.actor.id ?? 'nobody' }, ({ actor }) => actor.id === (all[0]!.actor.id ?? 'nobody')],
      [{ action: 'secret.read' }, ({ action }) => action === 'secret.read'],
      [{ outcome: 'denied' }, ({ outcome }) => outcome === 'denied'],
      [{ outcome: 'error' }, ({ outcome }) => outcome === 'error'],
      [{ resource: 'secret:x/**' }, ({ resource }) => resource?.startsWith('secret:x/') ?? false],
      [{ resource: 'secret:*/a' }, ({ resource }) => /^secret:[^/]+\/a$/.test(resource ?? '')],
      [{ from: middle }, ({ time }) => time >= middle],
      [{ to: middle }, ({ time }) => time <= middle],
      [{ from: middle, to: middle }, ({ time }) => time === middle],
      [{ fromIndex: 3, toIndex: 9 }, ({ seq }) => seq >= 3 && seq < 9],
      [{ fromIndex: 10 ** 9 }, () => false],
      [{ request: all[4]!.request }, ({ request }) => request === all[4]!.request],
      [
        { action: 'secret.read', outcome: 'denied', actor: 'eve', resource: 'secret:**', fromIndex: 2 },
        (entry) =>
          entry.action === 'secret.read' && entry.outcome === 'denied' && entry.actor.name === 'eve' && entry.seq >= 2,
      ],
    ];
    for (const [filter, wanted] of cases) {
      const got = (await exported(filter, eve)).filter(({ seq }) => seq < all.length);
      expect(
        got.map(({ seq }) => seq),
        JSON.stringify(filter),
      ).toEqual(all.filter(wanted).map(({ seq }) => seq));
    }
    for (const limit of [0, 1, 2, 5, 10_000]) {
      expect(await exported({ limit, toIndex: all.length }, eve)).toEqual(all.slice(0, limit));
      const read = all.filter(({ action }) => action === 'secret.read');
      expect(await exported({ limit, action: 'secret.read', toIndex: all.length }, eve)).toEqual(read.slice(0, limit));
    }
    expect(await codeOf(exported({ resource: 'secret:**/**/..' }, eve))).toMatch(/^(invalid_request|ok)$/);
    expect(await codeOf(exported({ resource: '' }, eve))).toBe('invalid_request');
  });

  it('are for who may, and say who asked for what', async () => {
    const reader = await t.user('only-reads', ['reader']);
    expect(await codeOf(exportEntries(t.vault, t.call(reader), {}))).toBe('forbidden');
    expect(await codeOf(exportTree(t.vault, t.call(reader)))).toBe('forbidden');
    await exported({ actor: 'admin', limit: 3 }, eve);
    const last = (await entriesOf(t.owner, tenant)).at(-1)!;
    expect(last).toMatchObject({
      action: 'audit.read',
      actor: { name: 'eve' },
      details: { export: 'entries', actor: 'admin', limit: 3 },
    });
  });

  it('T-088 the log holds no value, and still proves', async () => {
    t.secrets.add('value-of-an-export');
    await t.check();
  });
});
