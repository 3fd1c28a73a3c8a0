/** Secrets over the native interface: bodies, conditions, versions, metadata, lists and fetches. */
import { describe, expect, it } from 'vitest';
import { api, as, get, ownVault, put, t } from './http.native.ts';

ownVault();

describe('secrets', () => {
  it('stores data as the received text: integers beyond 2^53, key order and spellings survive', async () => {
    const data = '{"b": 1, "a":  12345678901234567890, "c": 1.0, "d": "\\u0041", "e": [ ]}';
    const stored = await t.request('PUT', api('/secrets/text/exact'), {
      token: t.admin,
      raw: `{"data": ${data} , "cas":0}`,
      headers: { 'content-type': 'application/json' },
    });
    expect([stored.status, stored.headers.get('etag')]).toEqual([201, '"1"']);
    const read = await get('text/exact');
    expect(read.text).toContain(`"data":${data},`);
    expect(read.headers.get('etag')).toBe('"1"');
    expect(read.json).toMatchObject({ path: 'text/exact', version: 1, kind: 'data', expires_at: null, metadata: {} });
  });

  it('stores text and bytes, as JSON or as the body itself', async () => {
    await put('forms/text', { text: 'ein Schlüssel\n', content_type: 'application/x-pem-file' });
    expect((await get('forms/text')).json).toMatchObject({
      kind: 'text',
      text: 'ein Schlüssel\n',
      content_type: 'application/x-pem-file',
    });
    const bytes = Buffer.from([0, 255, 1, 254]);
    await put('forms/bytes', { bytes: bytes.toString('base64') });
    expect((await get('forms/bytes')).json).toMatchObject({ kind: 'bytes', bytes: bytes.toString('base64') });
    const large = Buffer.alloc(512 * 1024, 7);
    const raw = await t.request('PUT', api('/secrets/forms/raw'), {
      token: t.admin,
      raw: new Uint8Array(large),
      headers: { 'content-type': 'application/octet-stream' },
    });
    expect(raw.status).toBe(201);
    const back = (await get('forms/raw')).json;
    expect(back.content_type).toBe('application/octet-stream');
    expect(Buffer.from(back.bytes, 'base64').equals(large)).toBe(true);
    const plain = await t.request('PUT', api('/secrets/forms/plain'), {
      token: t.admin,
      raw: 'hällo',
      headers: { 'content-type': 'text/plain; charset=utf-8' },
    });
    expect(plain.status).toBe(201);
    expect((await get('forms/plain')).json).toMatchObject({ kind: 'text', text: 'hällo' });
  });

  it('refuses forms of a body by accident: form data, other charsets, no type, text that is not UTF-8', async () => {
    const types = [
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'text/plain; charset=latin1',
    ];
    for (const type of [...types, 'application/json; charset=utf-16', 'nonsense', 'application/merge-patch+json']) {
      const answer = await t.request('PUT', api('/secrets/forms/none'), {
        token: t.admin,
        raw: 'x=1',
        headers: { 'content-type': type },
      });
      expect([type, answer.status, answer.json.code]).toEqual([type, 415, 'unsupported_media_type']);
    }
    const notText = await t.request('PUT', api('/secrets/forms/none'), {
      token: t.admin,
      raw: new Uint8Array([0xff, 0xfe]),
      headers: { 'content-type': 'text/plain' },
    });
    expect([notText.status, notText.json.code]).toEqual([400, 'invalid_request']);
    expect((await get('forms/none')).status).toBe(404);
  });

  it('T-080 cas and If-Match name the version that must be current; a wrong or a second condition changes nothing', async () => {
    expect((await put('cas/a', { data: {}, cas: 0 })).status).toBe(201);
    expect((await put('cas/a', { data: {}, cas: 0 })).json).toMatchObject({ status: 412, code: 'version_mismatch' });
    expect((await put('cas/a', { data: {} }, { 'if-none-match': '*' })).status).toBe(412);
    expect((await put('cas/b', { data: {} }, { 'if-none-match': '*' })).status).toBe(201);
    expect((await put('cas/a', { data: { n: 2 } }, { 'if-match': '"1"' })).json.version).toBe(2);
    expect((await put('cas/a', { data: { n: 3 } }, { 'if-match': '"1"' })).status).toBe(412);
    const odd = ['1', 'W/"2"', '"2", "3"', '*', '"02"', '"0"', '"-1"', '"2147483647"', '""', '"2"x', ''];
    for (const match of odd) {
      const answer = await put('cas/a', { data: {} }, { 'if-match': match });
      expect([match, answer.status, answer.json.code]).toEqual([match, 400, 'invalid_request']);
    }
    expect((await put('cas/a', { data: {}, cas: 2 }, { 'if-match': '"2"' })).status).toBe(400);
    expect((await put('cas/a', { data: {} }, { 'if-none-match': '"2"' })).status).toBe(400);
    expect(
      (await t.request('DELETE', api('/secrets/cas/a'), as(t.admin, undefined, { 'if-match': '"2"' }))).status,
    ).toBe(400);
    expect((await get('cas/a')).json).toMatchObject({ version: 2, data: { n: 2 } });
  });

  it('answers 304 to the version that the client has, and versions strictly', async () => {
    await put('etag/a', { data: { n: 1 } });
    await put('etag/a', { data: { n: 2 } });
    for (const tag of ['"2"', 'W/"2"', '"1", "2"', '*']) {
      const answer = await get('etag/a', { 'if-none-match': tag });
      expect([tag, answer.status, answer.text, answer.headers.get('etag')]).toEqual([tag, 304, '', '"2"']);
    }
    expect((await get('etag/a', { 'if-none-match': '"1"' })).status).toBe(200);
    expect((await get('etag/a?version=1')).json.data).toEqual({ n: 1 });
    expect((await get('etag/a?version=3')).status).toBe(404);
    for (const version of [
      '0',
      '-1',
      '2147483647',
      '2147483648',
      '01',
      '1.0',
      '1e0',
      '',
      'x',
      '%31%00',
      '+1',
      '%EF%BC%91',
    ]) {
      const answer = await get(`etag/a?version=${version}`);
      expect([version, answer.status, answer.json.code]).toEqual([version, 400, 'invalid_request']);
    }
    expect((await get('etag/a?version=1&version=2')).status).toBe(400);
    expect((await get('etag/a?nonsense=1')).json.detail).toContain('it takes version');
  });

  it('patches members, deletes, undeletes, destroys and removes', async () => {
    await put('life/a', { data: { keep: 1, change: 1, drop: 1 } });
    const patched = await t.request('PATCH', api('/secrets/life/a'), {
      token: t.admin,
      raw: '{"data":{"change": 2.0,"drop":null},"cas":1}',
      headers: { 'content-type': 'application/merge-patch+json' },
    });
    expect([patched.status, patched.json.version]).toEqual([200, 2]);
    expect((await get('life/a')).text).toContain('"data":{"keep":1,"change":2.0}');
    for (const data of [null, [], 'x', 1]) {
      expect((await t.request('PATCH', api('/secrets/life/a'), as(t.admin, { data }))).status).toBe(400);
    }
    expect(
      (await t.request('PATCH', api('/secrets/life/a'), as(t.admin, { data: {} }, { 'if-match': '"1"' }))).status,
    ).toBe(412);

    expect((await t.request('DELETE', api('/secrets/life/a'), as(t.admin))).status).toBe(204);
    expect((await get('life/a')).status).toBe(404);
    expect((await get('life/a?version=1')).status).toBe(200);
    const undelete = await t.request('POST', api('/versions/life/a/undelete'), as(t.admin, { versions: [2] }));
    expect(undelete.status).toBe(204);
    expect((await t.request('DELETE', api('/secrets/life/a?versions=1,2'), as(t.admin))).status).toBe(204);
    await t.request('POST', api('/versions/life/a/destroy'), as(t.admin, { versions: [1] }));
    const history = (await t.request('GET', api('/versions/life/a'), as(t.admin))).json;
    expect(history.items.map((item: { version: number; state: string }) => [item.version, item.state])).toEqual([
      [2, 'deleted'],
      [1, 'destroyed'],
    ]);
    for (const versions of [[], [0], [-1], [1.5], ['1'], [2 ** 31], 1, undefined]) {
      const answer = await t.request('POST', api('/versions/life/a/undelete'), as(t.admin, { versions }));
      expect([versions, answer.status]).toEqual([versions, 400]);
    }
    for (const versions of ['', '0', '1,', ',1', '1,,2', '1%2C02', 'x']) {
      expect((await t.request('DELETE', api(`/secrets/life/a?versions=${versions}`), as(t.admin))).status).toBe(400);
    }
    expect((await t.request('DELETE', api('/metadata/life/a'), as(t.admin))).status).toBe(204);
    expect((await t.request('GET', api('/versions/life/a'), as(t.admin))).status).toBe(404);
  });

  it('keeps metadata and settings, patched member by member', async () => {
    await put('meta/a', { data: {}, metadata: { owner: 'web', old: 'x' }, versions_kept: 3, ttl: '1h' });
    const patched = await t.request(
      'PATCH',
      api('/metadata/meta/a'),
      as(t.admin, { metadata: { old: null, constructor: 'c' }, versions_kept: 4 }),
    );
    expect(patched.json).toMatchObject({ path: 'meta/a', current_version: 1, versions_kept: 4 });
    expect((await t.request('GET', api('/metadata/meta/a'), as(t.admin))).json.metadata).toEqual({
      owner: 'web',
      constructor: 'c',
    });
    expect((await get('meta/a')).json).toMatchObject({ metadata: { owner: 'web', constructor: 'c' } });
    expect((await get('meta/a')).json.expires_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    expect((await t.request('PATCH', api('/metadata/meta/a'), as(t.admin, {}))).status).toBe(400);
  });

  it('takes an expiry as a ttl or a time, not both and not a time that does not exist', async () => {
    const at = await put('expiry/a', { data: {}, expires_at: '2031-01-02T04:04:05.6+01:00' });
    expect(at.json.expires_at).toBe('2031-01-02T03:04:05.600000Z');
    for (const expires_at of [
      '2031-02-30T00:00:00Z',
      '2031-01-02',
      '2031-13-01T00:00:00Z',
      'never',
      5,
      '2031-01-02T25:00:00Z',
    ]) {
      expect((await put('expiry/a', { data: {}, expires_at })).status).toBe(400);
    }
    expect((await put('expiry/a', { data: {}, ttl: 5, expires_at: '2031-01-02T03:04:05Z' })).status).toBe(400);
  });

  it('lists names by prefix, pages, and moves a secret', async () => {
    for (const path of ['list/a', 'list/b/c', 'list/b/d', 'list/e']) await put(path, { data: {} });
    const flat = await t.request('GET', api('/secrets?prefix=list&limit=2'), as(t.admin));
    expect(flat.json.items).toMatchObject([
      { path: 'list/a', folder: false, version: 1 },
      { path: 'list/b/', folder: true },
    ]);
    const rest = await t.request('GET', api(`/secrets?prefix=list&cursor=${flat.json.next_cursor}`), as(t.admin));
    expect(rest.json).toMatchObject({ items: [{ path: 'list/e' }], next_cursor: null });
    const deep = await t.request('GET', api('/secrets?prefix=list/b&recursive=true'), as(t.admin));
    expect(deep.json.items.map((item: { path: string }) => item.path)).toEqual(['list/b/c', 'list/b/d']);
    const moved = await t.request('POST', api('/move'), as(t.admin, { from: 'list/a', to: 'list/z' }));
    expect(moved.json).toEqual({ path: 'list/z', version: 1 });
    expect((await t.request('POST', api('/move'), as(t.admin, { from: 'list/z', to: 'list/e' }))).status).toBe(409);
    expect((await get('list/a')).status).toBe(404);
  });

  it('T-084 refuses limits and cursors that are out of range or made up', async () => {
    for (const query of [
      'limit=0',
      'limit=-1',
      'limit=1001',
      'limit=1000000000',
      'limit=1.5',
      'limit=',
      'cursor=%21',
      'cursor=a',
    ]) {
      for (const list of ['/secrets', '/users', '/policies', '/keys']) {
        const answer = await t.request('GET', api(`${list}?${query}`), as(t.admin));
        expect([list, query, answer.status]).toEqual([list, query, 400]);
      }
    }
    expect((await t.request('GET', api('/secrets?prefix=list/'), as(t.admin))).status).toBe(400);
    expect((await t.request('GET', api('/secrets?recursive=yes'), as(t.admin))).status).toBe(400);
  });

  it('fetches many at once as json, flat and env, and 304 when nothing has changed', async () => {
    await put('app/db', { data: { url: 'postgres://db', port: 5432 }, metadata: { a: 'b' } });
    await put('app/key', { text: "it's" });
    await put('other', { text: 'other' });
    const json = await t.request('POST', api('/fetch'), as(t.admin, { prefixes: ['app'] }));
    expect(json.json.items.map((item: { path: string }) => item.path)).toEqual(['app/db', 'app/key']);
    expect(json.json.items[0]).toMatchObject({ kind: 'data', data: { url: 'postgres://db' }, metadata: { a: 'b' } });
    const etag = json.headers.get('etag')!;
    const same = await t.request('POST', api('/fetch'), as(t.admin, { prefixes: ['app'] }, { 'if-none-match': etag }));
    expect([same.status, same.text]).toEqual([304, '']);
    await put('app/key', { text: "it's new" });
    expect(
      (await t.request('POST', api('/fetch'), as(t.admin, { prefixes: ['app'] }, { 'if-none-match': etag }))).status,
    ).toBe(200);

    const flat = await t.request('POST', api('/fetch'), as(t.admin, { paths: ['app/db', 'other'], format: 'flat' }));
    expect(flat.json).toEqual({ APP_DB_URL: 'postgres://db', APP_DB_PORT: '5432', OTHER: 'other' });
    const env = await t.request('POST', api('/fetch'), as(t.admin, { prefixes: ['app'], format: 'env' }));
    expect(env.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(env.text).toBe('DB_URL=postgres://db\nDB_PORT=5432\nKEY="it\'s new"\n');
    expect((await t.request('POST', api('/fetch'), as(t.admin, { paths: ['app/db', 'absent'] }))).status).toBe(404);
    for (const body of [
      {},
      { paths: [] },
      { paths: ['a'], prefixes: ['b'] },
      { paths: ['a/'] },
      { paths: ['a'], format: 'xml' },
    ]) {
      expect((await t.request('POST', api('/fetch'), as(t.admin, body))).status).toBe(400);
    }
  });

  it('a body over the limit is 413, one secret over its limit too, and nothing is stored', async () => {
    const large = await put('large/a', { text: 'x'.repeat(2 * 1024 * 1024) });
    expect([large.status, large.json.code]).toEqual([413, 'too_large']);
    const secret = await put('large/a', { text: 'x'.repeat(1024 * 1024 + 1) });
    expect([secret.status, secret.json.code]).toEqual([413, 'too_large']);
    expect((await put('large/b', { text: 'x'.repeat(1024 * 1024) })).status).toBe(201);
    expect((await get('large/a')).status).toBe(404);
  });
});
