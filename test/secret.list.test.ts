/** Looking at many secrets: listing what a policy shows, and fetching all or nothing. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TenantId } from '../src/db/database.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import type { NewVersion } from '../src/secret/insert.ts';
import { type ListAsk, listSecrets } from '../src/secret/list.ts';
import { parsePath, type SecretPrefix } from '../src/secret/path.ts';
import { deleteVersions, putSecret } from '../src/secret/secret.ts';
import { type TestVault, testVault } from './harness.ts';
import { added, codeOf, errorOf, fillSecrets, tenantId, text, textOf } from './witness.ts';

let t: TestVault;
let tenant: TenantId;

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
});
afterAll(() => t.close());

const put = (path: string, version: NewVersion, token = t.admin) =>
  putSecret(t.vault, t.call(token), parsePath(path), version);
const list = (ask: Partial<Omit<ListAsk, 'prefix'>> & { prefix?: string }, token = t.admin) =>
  listSecrets(t.vault, t.call(token), { recursive: false, ...ask, prefix: (ask.prefix ?? '') as SecretPrefix });
const fetch = (paths: string[], token = t.admin) =>
  fetchSecrets(t.vault, t.call(token), { paths: paths.map(parsePath) });
const under = (prefixes: string[], token = t.admin) =>
  fetchSecrets(t.vault, t.call(token), { prefixes: prefixes as SecretPrefix[] });
const allow = (actions: string[], resources: string[]) => ({ effect: 'allow', actions, resources });
const deny = (actions: string[], resources: string[]) => ({ effect: 'deny', actions, resources });
const rowsOf = (path: string) => t.owner`
  SELECT v.* FROM secret_versions v JOIN secrets s USING (tenant_id, secret_id)
  WHERE s.tenant_id = ${tenant} AND s.path = ${path} ORDER BY version`;

describe('among tens of thousands that may not be seen', () => {
  let few: string;

  beforeAll(async () => {
    await fillSecrets(t.owner, tenant, 'hidden/deep/inside', 20_500);
    await put('shown/last', text('x'));
    few = await t.user('few', [], [allow(['secret.list'], ['secret:shown/**'])]);
  });
  afterAll(async () => {
    await t.owner`DELETE FROM secrets WHERE path LIKE 'hidden/%' OR path LIKE 'shown/%'`;
  });
  const everything = (ask: object = {}, token = few) => list({ recursive: true, ...ask }, token);

  it('a page ends early, with a cursor that goes on and names nothing', async () => {
    const first = await everything();
    expect(first.items).toEqual([]);
    const [mark, envelope] = [first.nextCursor![0], Buffer.from(first.nextCursor!.slice(1), 'base64url')];
    expect([mark, envelope.toString('latin1').includes('hidden')]).toEqual(['~', false]);
    const another = await everything();
    expect(another.nextCursor).not.toBe(first.nextCursor);
    const last = await everything({ cursor: first.nextCursor });
    expect([last.items.map(({ path }) => path), last.nextCursor]).toEqual([['shown/last'], null]);
    const answer = await t.request('GET', `/api/v1/secrets?recursive=true&cursor=${first.nextCursor}`, { token: few });
    expect([answer.status, answer.json.items[0].path]).toEqual([200, 'shown/last']);
  });

  it('T-084 such a cursor of another tenant, edited, cut, or of a key that never was, is refused', async () => {
    const { nextCursor } = await everything();
    const cursor = nextCursor!;
    const bytes = Buffer.from(cursor.slice(1), 'base64url');
    const edited = [2, 5, 10, 50, bytes.length - 1].map((at) => {
      const copy = Buffer.from(bytes);
      copy[at]! ^= 1;
      return `~${copy.toString('base64url')}`;
    });
    const huge = Buffer.from(bytes);
    huge.writeUInt32BE(0xffff_ffff, 2);
    const spelled = [
      '~',
      '~~',
      cursor.slice(0, -9),
      `${cursor}A`.repeat(9),
      cursor.slice(1),
      `~${huge.toString('base64url')}`,
    ];
    for (const wrong of [...edited, ...spelled]) {
      expect([wrong, await codeOf(everything({ cursor: wrong }))]).toEqual([wrong, 'invalid_request']);
    }
    const other = await t.tenant('lists');
    expect(await codeOf(everything({ cursor }, other))).toBe('invalid_request');
  });

  it('T-120 all of them are seen once by who may, in pages of any size', async () => {
    for (const limit of [1000, 333]) {
      let [seen, before, cursor]: [number, string, string | undefined] = [0, '', undefined];
      do {
        const page: Awaited<ReturnType<typeof list>> = await list({ prefix: 'hidden', recursive: true, limit, cursor });
        for (const { path } of page.items) {
          expect(path > before).toBe(true);
          before = path;
        }
        seen += page.items.length;
        cursor = page.nextCursor ?? undefined;
      } while (cursor !== undefined);
      expect(seen).toBe(20_500);
    }
    expect((await list({ prefix: 'hidden' })).items).toMatchObject([{ path: 'hidden/deep/', folder: true }]);
  });
});

describe('listing', () => {
  beforeAll(async () => {
    for (const path of ['l/a', 'l/a/x', 'l/a/y', 'l/a-b', 'l/b/deep/er', 'l/c', 'l~', 'l-b/x', 'la'])
      await put(path, text(path));
  });
  const names = async (ask: Parameters<typeof list>[0], token?: string) =>
    (await list(ask, token)).items.map(({ path }) => path);

  it('shows what lies directly under a prefix, folders once, in order; or everything', async () => {
    expect(await names({ prefix: 'l' })).toEqual(['l/a', 'l/a-b', 'l/a/', 'l/b/', 'l/c']);
    expect(await names({ prefix: 'l', recursive: true })).toEqual([
      'l/a',
      'l/a-b',
      'l/a/x',
      'l/a/y',
      'l/b/deep/er',
      'l/c',
    ]);
    expect(await names({ prefix: 'l/a' })).toEqual(['l/a/x', 'l/a/y']);
    expect(await names({ prefix: 'l/nothing' })).toEqual([]);
    expect(await names({})).toEqual(expect.arrayContaining(['l-b/', 'l/', 'la', 'l~']));
  });

  it('pages of every size give the same whole', async () => {
    for (const recursive of [true, false]) {
      const whole = await names({ prefix: 'l', recursive });
      for (const limit of [1, 2, 3, 5]) {
        const seen: string[] = [];
        let cursor: string | undefined;
        do {
          const page = await list({ prefix: 'l', recursive, limit, cursor });
          seen.push(...page.items.map(({ path }) => path));
          cursor = page.nextCursor ?? undefined;
        } while (cursor !== undefined);
        expect(seen).toEqual(whole);
      }
    }
  });

  it('what a policy hides is not there, not counted, and not named by a cursor', async () => {
    const user = await t.user(
      'lister',
      [],
      [
        allow(['secret.list'], ['secret:l/a', 'secret:l/b/**', 'secret:l/a/*']),
        deny(['secret.list'], ['secret:l/a/x']),
      ],
    );
    expect(await names({ prefix: 'l' }, user)).toEqual(['l/a', 'l/a/', 'l/b/']);
    expect(await names({ prefix: 'l', recursive: true }, user)).toEqual(['l/a', 'l/a/y', 'l/b/deep/er']);
    const only = await t.user('one-only', [], [allow(['secret.list'], ['secret:l/a'])]);
    const page = await list({ prefix: 'l', recursive: true, limit: 1 }, only);
    expect(page).toMatchObject({ items: [{ path: 'l/a' }], nextCursor: null });
    const none = await t.user('none', [], [allow(['secret.list'], ['secret:elsewhere/**'])]);
    expect(await list({ prefix: 'l', limit: 1 }, none)).toEqual({ items: [], nextCursor: null });
    expect(await codeOf(list({ prefix: 'l' }, await t.user('no-list', ['auditor'])))).toBe('forbidden');
  });

  it('T-084 limits out of range and edited or foreign cursors: 400 or one’s own things only', async () => {
    for (const limit of [0, -1, 1001, 1e9, 1.5, Number.NaN])
      expect(await codeOf(list({ prefix: 'l', limit }))).toBe('invalid_request');
    const cursor = (key: string) => Buffer.from(key).toString('base64url');
    for (const hostile of ['%', 'a b', 'YQ==', 'x'.repeat(2000), cursor('\0'), cursor('a\0b'), 'gA']) {
      expect(await codeOf(list({ prefix: 'l', cursor: hostile })), hostile.slice(0, 20)).toBe('invalid_request');
    }
    for (const foreign of ['', 'a', 'l', 'zzz', '\u{10ffff}', "'; DROP TABLE secrets; --", '../..', 'l/a\x7f']) {
      const page = await list({ prefix: 'l/a', recursive: true, cursor: cursor(foreign) });
      for (const { path } of page.items) expect(path.startsWith('l/a/')).toBe(true);
    }
    const acme = await t.tenant('acme');
    await put('l/theirs', text('x'), acme);
    const theirs = await list({ prefix: 'l', recursive: true, limit: 1, cursor: cursor('l') }, acme);
    expect(theirs.items.map(({ path }) => path)).toEqual(['l/theirs']);
  });
});

describe('fetching', () => {
  beforeAll(async () => {
    for (const path of ['f/a', 'f/b', 'f/sub/c', 'f-other']) await put(path, text(`value of ${path}`));
  });

  it('by paths: all in path order, each once, an entry for each', async () => {
    const { value: opened, entries } = await added(t.owner, tenant, () => fetch(['f/sub/c', 'f/a', 'f/a']));
    expect(opened.map(textOf)).toEqual(['value of f/a', 'value of f/sub/c']);
    expect(entries.map(({ action, resource, version }) => `${action} ${resource} ${version}`)).toEqual([
      'secret.read secret:f/a 1',
      'secret.read secret:f/sub/c 1',
    ]);
  });

  it('T-070 by paths: one that is forbidden, absent or deleted, and none is given', async () => {
    const user = await t.user('fetcher', [], [allow(['secret.read'], ['secret:f/a', 'secret:f/gone'])]);
    await put('f/gone', text('x'));
    await deleteVersions(t.vault, t.call(t.admin), parsePath('f/gone'), undefined);
    expect(await codeOf(fetch(['f/a', 'f/b'], user))).toBe('forbidden');
    expect(await codeOf(fetch(['f/a', 'f/gone'], user))).toBe('not_found');
    const { entries } = await added(t.owner, tenant, () => codeOf(fetch(['f/a', 'f/b', 'f/nowhere'], user)));
    expect(entries.map(({ outcome, resource }) => `${outcome} ${resource}`)).toEqual([
      'denied secret:f/b',
      'denied secret:f/nowhere',
    ]);
  });

  it('by prefixes: what may be read, whole segments only, overlapping ones once', async () => {
    const user = await t.user(
      'prefixer',
      [],
      [allow(['secret.read'], ['secret:f/**']), deny(['secret.read'], ['secret:f/b'])],
    );
    expect((await under(['f', 'f/sub', 'f'], user)).map(({ path }) => path)).toEqual(['f/a', 'f/sub/c']);
    expect((await under([''], user)).map(({ path }) => path)).toEqual(['f/a', 'f/sub/c']);
    const { value: empty, entries } = await added(t.owner, tenant, () => under(['nothing/here'], user));
    expect(empty).toEqual([]);
    expect(entries).toMatchObject([{ action: 'secret.read', outcome: 'ok', details: { secrets: 0 } }]);
  });

  it('nothing asked for, or more than 500 secrets: refused before anything is opened', async () => {
    expect(await codeOf(fetch([]))).toBe('invalid_request');
    expect(await codeOf(under([]))).toBe('invalid_request');
    const many = Array.from({ length: 501 }, (_, i) => `many/${i}`);
    expect(await codeOf(fetch(many))).toBe('too_large');
    await t.owner`
      INSERT INTO secrets (tenant_id, secret_id, path, current_version, created_at, updated_at)
      SELECT ${tenant}, 'many' || i, 'many/' || i, 0, now(), now() FROM generate_series(1, 501) i`;
    expect(await codeOf(under(['many']))).toBe('too_large');
    await t.owner`DELETE FROM secrets WHERE path LIKE 'many/%'`;
  });

  it('500 secrets at once, and more than 32 MiB never', async () => {
    for (let from = 0; from < 500; from += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, i) => put(`bulk/${from + i}`, text(`${i}`))));
    }
    const { value: opened, entries } = await added(t.owner, tenant, () => under(['bulk']));
    expect(opened).toHaveLength(500);
    expect(entries).toHaveLength(500);
    const body = Buffer.alloc(1024 * 1024);
    await put('heavy/one', { kind: 'bytes', body });
    const [row] = await rowsOf('heavy/one');
    // The same ciphertext under 33 paths: the bytes are counted before anything is opened.
    await t.owner.unsafe(`INSERT INTO secrets (tenant_id, secret_id, path, current_version, created_at, updated_at)
      SELECT tenant_id, 'heavy' || i, 'heavy/' || i, 1, created_at, updated_at FROM secrets, generate_series(2, 33) i
      WHERE secret_id = '${row!.secret_id}';
      INSERT INTO secret_versions (tenant_id, secret_id, version, key_version, kind, envelope, created_at, created_by)
      SELECT tenant_id, 'heavy' || i, version, key_version, kind, envelope, created_at, created_by
      FROM secret_versions, generate_series(2, 33) i WHERE secret_id = '${row!.secret_id}'`);
    expect(await codeOf(under(['heavy']))).toBe('too_large');
    await t.owner`DELETE FROM secrets WHERE secret_id LIKE 'heavy%'`;
  });

  it('a damaged secret among many: integrity, by name, in the answer and in the log', async () => {
    await put('hurt/a', text('fine'));
    await put('hurt/b', text('whole'));
    await t.owner`UPDATE secret_versions v SET envelope = set_byte(envelope, 75, get_byte(envelope, 75) # 1)
      FROM secrets s WHERE s.secret_id = v.secret_id AND s.path = 'hurt/b'`;
    const { value: error, entries } = await added(t.owner, tenant, () => errorOf(under(['hurt'])));
    expect(error.code).toBe('integrity');
    expect(error.message).toContain('hurt/b');
    expect(entries).toMatchObject([{ outcome: 'error', code: 'integrity' }]);
    await t.owner`DELETE FROM secrets WHERE path LIKE 'hurt/%'`;
  });
});
