/** Secrets through the verbs: versions, conditions, deletion, metadata, expiry, moving, listing, fetching. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TenantId } from '../src/db/database.ts';
import { readSecret } from '../src/policy/read.ts';
import { fetchSecrets } from '../src/secret/fetch.ts';
import type { NewVersion } from '../src/secret/insert.ts';
import { patchMetadata, readMetadata, removeSecret } from '../src/secret/metadata.ts';
import { moveSecret } from '../src/secret/move.ts';
import { parsePath, type SecretPrefix } from '../src/secret/path.ts';
import { deleteVersions, patchSecret, putSecret } from '../src/secret/secret.ts';
import { destroyVersions, listVersions, undeleteVersions } from '../src/secret/version.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';
import { added, codeOf, data, entriesOf, errorOf, tenantId, text, textOf } from './witness.ts';

let t: TestVault;
let tenant: TenantId;

beforeAll(async () => {
  t = await testVault();
  tenant = await tenantId(t.owner, 'default');
});
afterAll(() => t.close());

const put = (path: string, version: NewVersion, token = t.admin) =>
  putSecret(t.vault, t.call(token), parsePath(path), version);
const get = (path: string, version = 0, token = t.admin, vault: Vault = t.vault) =>
  readSecret(vault, t.call(token), parsePath(path), version);
const value = (path: string, version = 0, vault: Vault = t.vault) =>
  get(path, version, t.admin, vault).then(textOf, (error: { code: string }) => error.code);
const history = async (path: string, vault = t.vault) =>
  (await listVersions(vault, t.call(t.admin), parsePath(path))).items.map(
    ({ version, state }) => `${version} ${state}`,
  );
const allow = (actions: string[], resources: string[]) => ({ effect: 'allow', actions, resources });
const rowsOf = (path: string) => t.owner`
  SELECT v.* FROM secret_versions v JOIN secrets s USING (tenant_id, secret_id)
  WHERE s.tenant_id = ${tenant} AND s.path = ${path} ORDER BY version`;

describe('versions', () => {
  it('every put is a new version; old ones stay readable; kind, type and bytes come back as they were', async () => {
    const bytes = Buffer.from([0, 255, 10, 13, 0]);
    expect(await put('v/one', data('{"a":1}'))).toMatchObject({ created: true, version: 1, expiresAt: null });
    expect(await put('v/one', text(''))).toMatchObject({ created: false, version: 2 });
    expect(await put('v/one', { kind: 'bytes', body: bytes, contentType: 'application/x-thing' })).toMatchObject({
      version: 3,
    });
    expect(await value('v/one', 1)).toBe('{"a":1}');
    expect(await value('v/one', 2)).toBe('');
    const latest = await get('v/one');
    expect(latest).toMatchObject({ version: 3, kind: 'bytes', contentType: 'application/x-thing' });
    expect(Buffer.from(latest.body).equals(bytes)).toBe(true);
    for (const version of [4, 2 ** 31 - 1]) expect(await value('v/one', version)).toBe('not_found');
    expect(await history('v/one')).toEqual(['3 readable', '2 readable', '1 readable']);
  });

  it('ten versions are kept unless the secret says otherwise, and numbering goes on', async () => {
    for (let i = 1; i <= 12; i += 1) await put('v/kept', text(`value ${i}`));
    expect((await history('v/kept')).map((line) => Number.parseInt(line, 10))).toEqual([
      12, 11, 10, 9, 8, 7, 6, 5, 4, 3,
    ]);
    expect(await rowsOf('v/kept')).toHaveLength(10);
    await destroyVersions(t.vault, t.call(t.admin), parsePath('v/kept'), [4, 12]);
    await put('v/kept', { ...text('thirteen'), versionsKept: 2 });
    expect(await history('v/kept')).toEqual(['13 readable', '12 destroyed']);
    await patchMetadata(t.vault, t.call(t.admin), parsePath('v/kept'), { versionsKept: 3 });
    for (let i = 14; i <= 16; i += 1) await put('v/kept', text(`value ${i}`));
    expect(await history('v/kept')).toEqual(['16 readable', '15 readable', '14 readable']);
    for (const kept of [0, -1, 1.5, 1001, Number.NaN]) {
      expect(await codeOf(put('v/kept', { ...text('x'), versionsKept: kept }))).toBe('invalid_request');
    }
  });

  it('T-080 of two writers that expect the same version one wins; absent means absent', async () => {
    const first = await Promise.all(
      Array.from({ length: 8 }, (_, i) => codeOf(put('v/cas', { ...text(`${i}`), expect: 0 }))),
    );
    expect(first.filter((code) => code === 'ok')).toHaveLength(1);
    expect(first.filter((code) => code === 'version_mismatch')).toHaveLength(7);
    const second = await Promise.all(
      Array.from({ length: 8 }, (_, i) => codeOf(put('v/cas', { ...text(`${i}`), expect: 1 }))),
    );
    expect(second.filter((code) => code === 'ok')).toHaveLength(1);
    expect(await history('v/cas')).toEqual(['2 readable', '1 readable']);
    const error = await errorOf(put('v/cas', { ...text('late'), expect: 1 }));
    expect(error.details).toEqual({ current_version: 2 });
    expect(await codeOf(put('v/cas-nowhere', { ...text('x'), expect: 3 }))).toBe('version_mismatch');
    expect(await value('v/cas-nowhere')).toBe('not_found');
    expect(await t.owner`SELECT 1 FROM secrets WHERE path = 'v/cas-nowhere'`).toHaveLength(0);
    await deleteVersions(t.vault, t.call(t.admin), parsePath('v/cas'), undefined);
    expect(await codeOf(put('v/cas', { ...text('x'), expect: 0 }))).toBe('version_mismatch');
    expect(await codeOf(put('v/cas', { ...text('x'), expect: 2 }))).toBe('ok');
  });

  it('writers at once without conditions: every version once, none lost', async () => {
    const written = await Promise.all(Array.from({ length: 9 }, (_, i) => put('v/race', text(`${i}`))));
    expect(written.map(({ version }) => version).sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(written.filter(({ created }) => created)).toHaveLength(1);
    for (const [i, { version }] of written.entries()) expect(await value('v/race', version)).toBe(`${i}`);
  });

  it('deleting hides and can be undone; destroying takes the ciphertext out of the table for good', async () => {
    for (const body of ['one', 'two', 'three']) await put('v/gone', text(body));
    const call = () => t.call(t.admin);
    const path = parsePath('v/gone');
    await deleteVersions(t.vault, call(), path, undefined);
    expect(await value('v/gone')).toBe('not_found');
    expect(await value('v/gone', 3)).toBe('not_found');
    expect(await value('v/gone', 2)).toBe('two');
    await deleteVersions(t.vault, call(), path, [1, 2]);
    expect(await history('v/gone')).toEqual(['3 deleted', '2 deleted', '1 deleted']);
    await undeleteVersions(t.vault, call(), path, [2, 3]);
    expect([await value('v/gone'), await value('v/gone', 2), await value('v/gone', 1)]).toEqual([
      'three',
      'two',
      'not_found',
    ]);
    await destroyVersions(t.vault, call(), path, [1, 3]);
    await destroyVersions(t.vault, call(), path, [3]);
    expect(await history('v/gone')).toEqual(['3 destroyed', '2 readable', '1 destroyed']);
    expect((await rowsOf('v/gone')).map(({ version }) => version)).toEqual([2]);
    expect(await value('v/gone')).toBe('not_found');
    expect(await codeOf(undeleteVersions(t.vault, call(), path, [3]))).toBe('not_found');
    expect(await codeOf(deleteVersions(t.vault, call(), path, [3]))).toBe('not_found');
    expect(await put('v/gone', text('four'))).toMatchObject({ version: 4, created: false });
  });

  it('of several versions all are changed or none, and each change has its entry', async () => {
    for (const body of ['one', 'two']) await put('v/all', text(body));
    const path = parsePath('v/all');
    for (const act of [deleteVersions, undeleteVersions, destroyVersions]) {
      const { value: code, entries } = await added(t.owner, tenant, () =>
        codeOf(act(t.vault, t.call(t.admin), path, [1, 2, 3])),
      );
      expect(code).toBe('not_found');
      expect(entries).toMatchObject([{ outcome: 'error', code: 'not_found', resource: 'secret:v/all' }]);
      expect(await history('v/all')).toEqual(['2 readable', '1 readable']);
    }
    const { entries } = await added(t.owner, tenant, () => deleteVersions(t.vault, t.call(t.admin), path, [1, 2]));
    expect(entries.map(({ version, outcome }) => `${version} ${outcome}`)).toEqual(['1 ok', '2 ok']);
  });

  it('no versions named: refused, and never without an entry', async () => {
    await put('v/none', text('x'));
    const path = parsePath('v/none');
    for (const act of [deleteVersions, undeleteVersions, destroyVersions]) {
      expect(await codeOf(act(t.vault, t.call(t.admin), path, []))).toBe('invalid_request');
    }
    expect(await history('v/none')).toEqual(['1 readable']);
  });

  it('a removed secret is gone with all it had, and its path starts again at 1', async () => {
    await put('v/removed', { ...text('x'), metadata: { owner: 'me' } });
    await removeSecret(t.vault, t.call(t.admin), parsePath('v/removed'));
    expect(await value('v/removed')).toBe('not_found');
    expect(await codeOf(listVersions(t.vault, t.call(t.admin), parsePath('v/removed')))).toBe('not_found');
    expect(await put('v/removed', text('new'))).toMatchObject({ version: 1, created: true });
    expect((await readMetadata(t.vault, t.call(t.admin), parsePath('v/removed'))).metadata).toEqual({});
  });
});

describe('expiry', () => {
  it('a version with a ttl ends by the database’s clock, for reads, lists of versions, fetches and patches', async () => {
    const { expiresAt } = await put('e/short', { ...data('{"a":1}'), ttlSeconds: 60 });
    expect(Date.parse(expiresAt!) - Date.now()).toBeGreaterThan(50_000);
    const later = await t.node({ clockOffsetSeconds: 61 });
    expect(await value('e/short')).toBe('{"a":1}');
    expect(await value('e/short', 0, later)).toBe('not_found');
    expect(await value('e/short', 1, later)).toBe('not_found');
    expect(await history('e/short', later)).toEqual(['1 expired']);
    expect(await codeOf(fetchSecrets(later, t.call(t.admin), { paths: [parsePath('e/short')] }))).toBe('not_found');
    expect(await fetchSecrets(later, t.call(t.admin), { prefixes: ['e' as SecretPrefix] })).toEqual([]);
    expect(await codeOf(patchSecret(later, t.call(t.admin), parsePath('e/short'), { patch: '{"b":2}' }))).toBe(
      'not_found',
    );
    expect(await put('e/short', text('next'))).toMatchObject({ version: 2, expiresAt: null });
  });

  it('a time is taken as it is; both a ttl and a time are refused', async () => {
    const at = '2031-02-03T04:05:06.789012Z';
    expect((await put('e/at', { ...text('x'), expiresAt: at })).expiresAt).toBe(at);
    expect(await codeOf(put('e/at', { ...text('x'), expiresAt: at, ttlSeconds: 5 }))).toBe('invalid_request');
  });
});

describe('merge patches', () => {
  it('keep what they do not name to the last digit, on the current version only', async () => {
    await put('p/one', data('{"id":12345678901234567890, "keep" : 1.10, "drop":true,"deep":{"a":1,"b":2}}'));
    await patchSecret(t.vault, t.call(t.admin), parsePath('p/one'), {
      patch: '{"drop":null,"deep":{"b":null,"c":9007199254740993},"new":-0.0}',
      expect: 1,
    });
    const now = await value('p/one');
    expect(now).toContain('12345678901234567890');
    expect(now).toContain('1.10');
    expect(now).toContain('9007199254740993');
    expect(JSON.parse(now)).toEqual({
      id: expect.any(Number),
      keep: 1.1,
      deep: { a: 1, c: expect.any(Number) },
      new: -0,
    });
    const stale = patchSecret(t.vault, t.call(t.admin), parsePath('p/one'), { patch: '{"a":1}', expect: 1 });
    expect(await codeOf(stale)).toBe('version_mismatch');
  });

  it('of two at once neither is lost', async () => {
    await put('p/two', data('{}'));
    const patch = (key: string) => patchSecret(t.vault, t.call(t.admin), parsePath('p/two'), { patch: `{"${key}":1}` });
    await Promise.all(['a', 'b', 'c', 'd'].map(patch));
    expect(JSON.parse(await value('p/two'))).toEqual({ a: 1, b: 1, c: 1, d: 1 });
  });

  it('are refused on text, on what is deleted or absent, and when the result is too large', async () => {
    const patch = (path: string, body = '{"a":1}') =>
      codeOf(patchSecret(t.vault, t.call(t.admin), parsePath(path), { patch: body }));
    await put('p/text', text('x'));
    await put('p/deleted', data('{}'));
    await deleteVersions(t.vault, t.call(t.admin), parsePath('p/deleted'), undefined);
    await put('p/large', data(`{"a":"${'x'.repeat(600_000)}"}`));
    expect(await patch('p/text')).toBe('conflict');
    expect(await patch('p/deleted')).toBe('not_found');
    expect(await patch('p/nowhere')).toBe('not_found');
    expect(await patch('p/large', `{"b":"${'y'.repeat(600_000)}"}`)).toBe('too_large');
    expect(await history('p/large')).toEqual(['1 readable']);
  });
});

describe('metadata', () => {
  it('is sealed in the table, patched member by member, and comes with the secret', async () => {
    t.secrets.add('metadata-nobody-may-read');
    const path = parsePath('m/one');
    await put('m/one', { ...text('x'), metadata: { owner: 'metadata-nobody-may-read', team: 'web' } });
    expect(JSON.parse(textOf({ body: (await get('m/one')).metadata! }))).toMatchObject({ team: 'web' });
    const change = { team: null, __proto__x: 'p', 'ünïcode\n': '\u2028' };
    const { metadata, versionsKept } = await patchMetadata(t.vault, t.call(t.admin), path, {
      metadata: change,
      versionsKept: 7,
    });
    expect(metadata).toEqual({ owner: 'metadata-nobody-may-read', __proto__x: 'p', 'ünïcode\n': '\u2028' });
    expect(versionsKept).toBe(7);
    expect((await readMetadata(t.vault, t.call(t.admin), path)).metadata).toEqual(metadata);
    await put('m/one', text('y'));
    expect((await readMetadata(t.vault, t.call(t.admin), path)).metadata).toEqual(metadata);
    await t.check();
  });

  it('a member called __proto__ is a member', async () => {
    const metadata = JSON.parse('{"__proto__":"mine"}') as Record<string, string>;
    await put('m/proto', { ...text('x'), metadata });
    const changed = await patchMetadata(t.vault, t.call(t.admin), parsePath('m/proto'), { metadata: { a: 'b' } });
    expect(JSON.stringify(changed.metadata)).toBe('{"__proto__":"mine","a":"b"}');
  });

  it('of more than 16 KiB is refused, by put and by patch', async () => {
    const large = { a: 'x'.repeat(16 * 1024) };
    expect(await codeOf(put('m/large', { ...text('x'), metadata: large }))).toBe('too_large');
    await put('m/large', text('x'));
    expect(await codeOf(patchMetadata(t.vault, t.call(t.admin), parsePath('m/large'), { metadata: large }))).toBe(
      'too_large',
    );
  });

  it('T-074 brought along with a version is changed by whoever may change it, and no version goes for it', async () => {
    const path = parsePath('m/kept');
    for (let i = 0; i < 3; i++) await put('m/kept', { ...text(`value ${i}`), metadata: { owner: 'them' } });
    const writer = await t.user(
      'writer',
      [],
      [
        { effect: 'allow', actions: ['secret.write'], resources: ['secret:m/**'] },
        { effect: 'deny', actions: ['secret.metadata-write'], resources: ['secret:m/kept'] },
      ],
    );
    const write = (rest: object) => codeOf(putSecret(t.vault, t.call(writer), path, { ...text('x'), ...rest }));
    expect([await write({ versionsKept: 1 }), await write({ metadata: { owner: 'me' } })]).toEqual([
      'forbidden',
      'forbidden',
    ]);
    expect((await readMetadata(t.vault, t.call(t.admin), path)).metadata).toEqual({ owner: 'them' });
    expect((await listVersions(t.vault, t.call(t.admin), path)).items).toHaveLength(3);
    expect(await write({})).toBe('ok');
  });

  it('a reader of values without leave for metadata still reads; history says who wrote', async () => {
    const user = await t.user('values', [], [allow(['secret.read', 'secret.history'], ['secret:m/**'])]);
    expect(await codeOf(readMetadata(t.vault, t.call(user), parsePath('m/one')))).toBe('forbidden');
    const { items } = await listVersions(t.vault, t.call(user), parsePath('m/one'));
    expect(items[0]!.createdBy).toMatch(/^[a-z2-7]{16}$/);
  });
});

describe('moving', () => {
  it('takes all versions and metadata along, and leaves nothing', async () => {
    await put('mv/from', { ...text('one'), metadata: { a: 'b' } });
    await put('mv/from', text('two'));
    expect(await moveSecret(t.vault, t.call(t.admin), parsePath('mv/from'), parsePath('mv/to'))).toEqual({
      path: 'mv/to',
      version: 2,
    });
    expect([await value('mv/to', 1), await value('mv/to'), await value('mv/from')]).toEqual([
      'one',
      'two',
      'not_found',
    ]);
    expect((await readMetadata(t.vault, t.call(t.admin), parsePath('mv/to'))).metadata).toEqual({ a: 'b' });
    expect(await put('mv/from', text('other'))).toMatchObject({ version: 1 });
  });

  it('onto something, or onto itself, is a conflict; from nowhere is not found', async () => {
    await put('mv/a', text('a'));
    await put('mv/b', text('b'));
    const move = (from: string, to: string) =>
      codeOf(moveSecret(t.vault, t.call(t.admin), parsePath(from), parsePath(to)));
    expect(await move('mv/a', 'mv/b')).toBe('conflict');
    expect(await move('mv/a', 'mv/a')).toBe('conflict');
    expect(await move('mv/nowhere', 'mv/c')).toBe('not_found');
    expect(await Promise.all([move('mv/a', 'mv/c'), move('mv/b', 'mv/c')]).then((codes) => codes.sort())).toEqual([
      'conflict',
      'ok',
    ]);
  });

  it('needs to read and delete there and to write here: it is no way around a policy', async () => {
    await put('mv/secret', text('s'));
    const here = 'secret:mine/**';
    for (const [name, rules] of [
      ['mv-write', [allow(['secret.*'], [here]), allow(['secret.write', 'secret.delete'], ['secret:mv/**'])]],
      ['mv-read', [allow(['secret.*'], [here]), allow(['secret.write', 'secret.read'], ['secret:mv/**'])]],
      ['mv-nowhere', [allow(['secret.*'], ['secret:mv/**'])]],
    ] as const) {
      const user = await t.user(name, [], [...rules]);
      expect(await codeOf(moveSecret(t.vault, t.call(user), parsePath('mv/secret'), parsePath('mine/now'))), name).toBe(
        'forbidden',
      );
    }
  });
});

describe('rows that were touched', () => {
  it('T-007 no ciphertext opens in the place of another: other secret, version, kind of row, tenant', async () => {
    const acme = await t.tenant('acme');
    await put('sw/a', { ...text('value a'), metadata: { of: 'a' } });
    await put('sw/a', text('value a2'));
    await put('sw/b', { ...text('value b'), metadata: { of: 'b' } });
    await put('sw/a', { ...text('value of acme'), metadata: { of: 'acme' } }, acme);
    type Place = { table: string; where: string; envelope: Buffer; key: number; name: string };
    const places: Place[] = [];
    for (const [table, version] of [
      ['secret_versions', 'version'],
      ['secret_metadata', '0'],
    ] as const) {
      const rows =
        await t.owner.unsafe(`SELECT m.tenant_id, m.secret_id, ${version} AS version, m.key_version, m.envelope
        FROM ${table} m JOIN secrets s USING (tenant_id, secret_id) WHERE s.path LIKE 'sw/%'`);
      for (const row of rows) {
        const where = `tenant_id = '${row.tenant_id}' AND secret_id = '${row.secret_id}'${row.version ? ` AND version = ${row.version}` : ''}`;
        places.push({ table, where, envelope: row.envelope, key: row.key_version, name: `${table} ${where}` });
      }
    }
    expect(places).toHaveLength(7);
    const set = (place: Place, envelope: Buffer) =>
      t.owner.unsafe(`UPDATE ${place.table} SET envelope = $1 WHERE ${place.where}`, [envelope]);
    const readAll = async (place: Place) => {
      const token = place.where.includes(tenant) ? t.admin : acme;
      const [row] = await t.owner.unsafe(`SELECT path FROM secrets WHERE ${place.where.split(' AND version')[0]}`);
      const version = Number(/version = (\d+)/.exec(place.where)?.[1] ?? 0);
      return codeOf(get(row!.path, version, token));
    };
    for (const here of places) {
      expect(await readAll(here)).toBe('ok');
      for (const there of places) {
        if (here === there) continue;
        await set(here, there.envelope);
        expect(await readAll(here), `${there.name} in ${here.name}`).toBe('integrity');
      }
      await set(here, here.envelope);
    }
    await t.check();
  });
});

it('the log says every act of this file, and no value', async () => {
  t.secrets.add('value of acme').add('metadata-nobody-may-read');
  expect((await entriesOf(t.owner, tenant)).length).toBeGreaterThan(100);
  await t.check();
});
