/** The native interface over a real listener: every route's way through, conditions, forms of secrets, bad input. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cpuMs } from './cost.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';

let t: TestVault;
let reader: string;
const api = (path: string) => `/api/v1${path}`;
const as = (token: string, body?: unknown, headers?: Record<string, string>) => ({
  token,
  ...(body === undefined ? {} : { body }),
  ...(headers === undefined ? {} : { headers }),
});

beforeAll(async () => {
  t = await testVault();
  reader = await t.user('reader', ['reader']);
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const put = (path: string, body: unknown, headers?: Record<string, string>) =>
  t.request('PUT', api(`/secrets/${path}`), as(t.admin, body, headers));
const get = (path: string, headers?: Record<string, string>) =>
  t.request('GET', api(`/secrets/${path}`), as(t.admin, undefined, headers));

describe('login and tokens', () => {
  it('goes from a password to a token, and the token tells, renews and ends itself', async () => {
    const login = await t.request('POST', api('/auth/login'), {
      body: { tenant: 'default', username: 'reader', password: PASSWORD },
    });
    expect(login.status).toBe(200);
    expect(Object.keys(login.json)).toEqual([
      ...['token', 'accessor', 'tenant', 'username', 'policies', 'expires_at', 'max_expires_at'],
      ...['password_change_required', 'mfa', 'mfa_required'],
    ]);
    const { token, accessor } = login.json;
    const self = await t.request('GET', api('/auth/self'), { token });
    expect(self.json).toMatchObject({ tenant: 'default', username: 'reader', accessor, policies: ['reader'] });
    for (const body of [undefined, {}, { ttl: '15m' }, { ttl: 900 }]) {
      const renewed = await t.request('POST', api('/auth/renew'), as(token, body));
      expect(renewed.status).toBe(200);
      expect(renewed.json.accessor).toBe(accessor);
    }
    const seen = await t.request('GET', api(`/tokens/${accessor}`), as(t.admin));
    expect(seen.json).toMatchObject({ accessor, username: 'reader', source: '127.0.0.1' });
    expect((await t.request('POST', api('/auth/logout'), { token })).status).toBe(204);
    expect((await t.request('GET', api('/auth/self'), { token })).status).toBe(401);
  });

  it('refuses a ttl that is fractional, negative, nonsense or beyond the maximum', async () => {
    for (const ttl of [1.5, -1, 0, '0s', '-1m', '1.5h', '1y', '', null, '1000h', 1e30, [1]]) {
      const answer = await t.request('POST', api('/auth/renew'), as(reader, { ttl }));
      expect([ttl, answer.status, answer.json.code]).toEqual([ttl, 400, 'invalid_request']);
      expect(answer.json.detail).toMatch(/^ttl: /);
    }
  });

  it('T-115 a wrong password and a missing token are 401 with WWW-Authenticate, and never the same body as success', async () => {
    const wrong = await t.request('POST', api('/auth/login'), {
      body: { tenant: 'default', username: 'reader', password: 'not the right password' },
    });
    expect([wrong.status, wrong.json.code]).toEqual([401, 'login_failed']);
    const missing = await t.request('GET', api('/auth/self'));
    expect([missing.status, missing.json.code]).toEqual([401, 'unauthenticated']);
    for (const answer of [wrong, missing]) expect(answer.headers.get('www-authenticate')).toBe('Bearer');
  });

  it('takes a token only as "Bearer <token>", exactly', async () => {
    for (const authorization of [
      `bearer ${reader}`,
      `Bearer  ${reader}`,
      `Bearer ${reader} x`,
      reader,
      `Basic ${reader}`,
      'Bearer',
    ]) {
      const answer = await t.request('GET', api('/auth/self'), { headers: { authorization } });
      expect(answer.status).toBe(401);
    }
  });
});

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

describe('users, policies, keys, tenants', () => {
  it('makes, changes, unlocks and deletes a user', async () => {
    const made = await t.request('POST', api('/users'), as(t.admin, { username: 'app', policies: ['reader'] }));
    expect(made.status).toBe(201);
    expect(made.json).toMatchObject({ username: 'app', password_change_required: true, locked_until: null });
    const once = made.json.one_time_password;
    const login = await t.request('POST', api('/auth/login'), {
      body: { tenant: 'default', username: 'app', password: once },
    });
    expect(login.json.password_change_required).toBe(true);
    const refused = await t.request('GET', api('/secrets'), { token: login.json.token });
    expect([refused.status, refused.json.code]).toEqual([403, 'password_change_required']);
    const changed = await t.request(
      'POST',
      api('/auth/password'),
      as(login.json.token, { current_password: once, new_password: PASSWORD }),
    );
    expect(changed.status).toBe(204);
    const updated = await t.request('PATCH', api('/users/app'), as(t.admin, { disabled: true }));
    expect(updated.json).toMatchObject({ disabled: true });
    expect(updated.json).not.toHaveProperty('one_time_password');
    expect(
      (await t.request('PATCH', api('/users/app'), as(t.admin, { reset_password: true }))).json.one_time_password,
    ).toMatch(/^[a-z2-7-]{29}$/);
    expect((await t.request('POST', api('/users/app/unlock'), as(t.admin))).status).toBe(200);
    expect((await t.request('GET', api('/users/app'), as(t.admin))).json.username).toBe('app');
    expect((await t.request('GET', api('/users'), as(t.admin))).json.items.length).toBeGreaterThan(2);
    expect((await t.request('DELETE', api('/users/app'), as(t.admin))).status).toBe(204);
    expect((await t.request('GET', api('/users/app'), as(t.admin))).status).toBe(404);
  });

  it('T-071 extra fields are refused, whatever they are called, and the fields that there are are named', async () => {
    for (const field of ['tenant_id', 'owner', 'constructor', 'id']) {
      const answer = await t.request('POST', api('/users'), as(t.admin, { username: 'extra', [field]: 'x' }));
      expect([answer.status, answer.json.code]).toEqual([400, 'invalid_request']);
      expect(answer.json.detail).toContain('it takes username');
    }
    const patch = await t.request('PATCH', api('/users/reader'), as(t.admin, { username: 'other' }));
    expect(patch.status).toBe(400);
    expect((await t.request('GET', api('/users/extra'), as(t.admin))).status).toBe(404);
  });

  it('puts, reads and deletes a policy, with its revision as the ETag; an unknown action is refused', async () => {
    const rules = [{ effect: 'allow', actions: ['secret.read'], resources: ['secret:a/**'] }];
    const made = await t.request('PUT', api('/policies/web'), as(t.admin, { rules }));
    expect([made.status, made.headers.get('etag')]).toEqual([201, '"1"']);
    expect((await t.request('PUT', api('/policies/web'), as(t.admin, { rules }, { 'if-match': '"2"' }))).status).toBe(
      412,
    );
    expect((await t.request('PUT', api('/policies/web'), as(t.admin, { rules }, { 'if-match': '"1"' }))).status).toBe(
      200,
    );
    expect((await t.request('GET', api('/policies/web'), as(t.admin))).json).toMatchObject({
      name: 'web',
      revision: 2,
      rules,
    });
    const unknown = [{ effect: 'allow', actions: ['secret.raed'], resources: ['secret:a/**'] }];
    const refused = await t.request('PUT', api('/policies/web'), as(t.admin, { rules: unknown }));
    expect([refused.status, refused.json.code]).toEqual([400, 'invalid_request']);
    expect((await t.request('PUT', api('/policies/admin'), as(t.admin, { rules }))).status).toBe(409);
    expect(
      (await t.request('GET', api('/policies'), as(t.admin))).json.items.map((p: { name: string }) => p.name),
    ).toContain('web');
    expect((await t.request('DELETE', api('/policies/web'), as(t.admin))).status).toBe(204);
  });

  it('rotates the data key and the root key', async () => {
    expect((await t.request('POST', api('/keys/rotate'), as(t.admin))).json).toMatchObject({
      version: 2,
      state: 'active',
    });
    const keys = (await t.request('GET', api('/keys'), as(t.admin))).json.items;
    expect(keys.map((key: { version: number; state: string }) => [key.version, key.state])).toEqual([
      [2, 'active'],
      [1, 'decrypt_only'],
    ]);
    const moving = await t.request('POST', api('/keys/rotate'), as(t.admin, { reencrypt: true }));
    expect([moving.status, moving.json.version, moving.json.job.state]).toEqual([202, 3, 'queued']);
    expect(moving.headers.get('location')).toBe(api(`/jobs/${moving.json.job.id}`));
    expect((await t.request('DELETE', api('/keys/3'), as(t.admin))).json.code).toBe('conflict');
    expect((await t.request('POST', `${moving.headers.get('location')}/cancel`, as(t.admin))).json.state).toBe(
      'cancelled',
    );
    expect((await t.request('GET', api('/jobs'), as(t.admin))).json.items).toMatchObject([
      { kind: 'reencrypt', done: 0 },
    ]);
    expect((await t.request('POST', api('/root-keys/rotate'), as(t.admin))).status).toBe(403);
    const rotated = (await t.request('POST', api('/root-keys/rotate'), as(t.operator))).json;
    expect(rotated).toMatchObject({ version: 2, state: 'active', destroyed_version: 1 });
    expect((await t.request('GET', api('/root-keys'), as(t.operator))).json.items).toHaveLength(2);
    expect((await get('text/exact')).status).toBe(200);
  });

  it('makes, suspends, resumes and deletes a tenant', async () => {
    const made = await t.request('POST', api('/tenants'), as(t.operator, { name: 'acme' }));
    expect([made.status, made.json.admin.username]).toEqual([201, 'admin']);
    const { one_time_password } = made.json.admin;
    const login = { tenant: 'acme', username: 'admin', password: one_time_password };
    const { token } = (await t.request('POST', api('/auth/login'), { body: login })).json;
    expect((await t.request('PATCH', api('/tenants/acme'), as(t.operator, { state: 'suspended' }))).json.state).toBe(
      'suspended',
    );
    const refused = await t.request('PUT', api('/secrets/a'), as(token, { data: {} }));
    expect([refused.status, refused.json.code]).toEqual([403, 'tenant_suspended']);
    expect((await t.request('PATCH', api('/tenants/acme'), as(t.operator, { state: 'active' }))).status).toBe(200);
    expect(
      (await t.request('GET', api('/tenants'), as(t.operator))).json.items.map((x: { name: string }) => x.name),
    ).toContain('acme');
    expect((await t.request('DELETE', api('/tenants/acme'), as(t.operator))).status).toBe(204);
    expect((await t.request('GET', api('/tenants/acme'), as(t.operator))).status).toBe(404);
    expect((await t.request('GET', api('/secrets/a'), { token })).status).toBe(401);
  });

  it('tells who holds a token what the vault is, and strangers nothing (T-083, T-248)', async () => {
    expect((await t.request('GET', api('/status'), as(reader))).json).toMatchObject({
      tenant: 'default',
      seal: { kind: 'file' },
    });
    expect((await t.request('GET', api('/status'))).status).toBe(401);
  });
});

describe('audit', () => {
  it('streams the canonical lines, filtered, as ndjson and as csv', async () => {
    const all = await t.request('GET', api('/audit/entries'), as(t.admin));
    expect(all.headers.get('content-type')).toBe('application/x-ndjson');
    const lines = all.text.trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line).seq)).toEqual(lines.map((_, seq) => seq));
    const reads = await t.request(
      'GET',
      api('/audit/entries?action=secret.read&resource=secret:text/**&limit=1'),
      as(t.admin),
    );
    expect(JSON.parse(reads.text)).toMatchObject({ action: 'secret.read', resource: 'secret:text/exact' });
    const from = JSON.parse(lines[3]!).time;
    const later = await t.request('GET', api(`/audit/entries?from=${from}&to_index=6`), as(t.admin));
    expect(
      later.text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line).seq),
    ).toEqual([3, 4, 5]);
    const csv = await t.request('GET', api('/audit/entries?format=csv&limit=2'), as(t.admin));
    expect(csv.text.split('\r\n')).toHaveLength(4);
    expect(csv.text.startsWith('seq,time,outcome,action,')).toBe(true);
    const tree = await t.request('GET', api('/audit/tree?size=3'), as(t.admin));
    expect(tree.text.split('\n').slice(0, 3)).toEqual(['bulla-tree-v1', expect.stringContaining('/'), '3']);
    for (const query of [
      'from=yesterday',
      'outcome=maybe',
      'limit=0',
      'limit=x',
      'format=xml',
      'from_index=-1',
      'resource=**a',
    ]) {
      expect([query, (await t.request('GET', api(`/audit/entries?${query}`), as(t.admin))).status]).toEqual([
        query,
        400,
      ]);
    }
    expect((await t.request('GET', api('/audit/entries'), as(reader))).status).toBe(403);
    expect((await t.request('HEAD', api('/audit/entries'), as(t.admin))).status).toBe(200);
  });
});

describe('bad input', () => {
  it('T-104 T-105 JSON that has two meanings or no end is refused before anything is looked at, token or not', async () => {
    const bodies = [
      '['.repeat(1_000_000),
      `{"a":${'{"a":'.repeat(100_000)}`,
      `{${Array.from({ length: 100_000 }, (_, i) => `"${i}":1`).join(',')}}`,
      `{"data":{"n":${'9'.repeat(1_000_000)}}}`,
      '{"data":{},"data":{}}',
      '{"data":{"__proto__":{"polluted":true}}}',
      '{"data":{"a":1,"\\u0061":2}}',
      '{"data":{}',
      '{"data":{}} x',
      '\ufeff{"data":{}}',
      '{"data":{"a":"\\ud800"}}',
      '',
    ];
    for (const raw of bodies) {
      for (const token of [t.admin, undefined]) {
        const cost = await cpuMs(async () => {
          const answer = await t.request('PUT', api('/secrets/bad/json'), {
            raw,
            headers: { 'content-type': 'application/json' },
            ...(token === undefined ? {} : { token }),
          });
          expect([raw.slice(0, 20), answer.status]).toEqual([raw.slice(0, 20), 400]);
        });
        // Asking is part of it, as both sides are this process.
        expect(cost).toBeLessThan(500);
      }
    }
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    expect((await get('bad/json')).status).toBe(404);
  });

  it('T-105 names of the prototype are only names in a query too', async () => {
    for (const query of ['__proto__=1', '__proto__[x]=1', 'constructor=1', 'constructor.prototype.x=1', 'toString=1']) {
      expect((await t.request('GET', api(`/secrets?${query}`), as(t.admin))).status).toBe(400);
    }
    expect(({} as { x?: unknown }).x).toBeUndefined();
  });

  it('T-222 a message names the field and what is expected, never what came', async () => {
    const canary = 'hunter2-canary';
    const bodies: [string, string, unknown][] = [
      ['PUT', '/secrets/a', { data: canary }],
      ['PUT', '/secrets/a', { text: 'x', cas: canary }],
      ['PUT', '/secrets/a', { bytes: canary }],
      ['PUT', '/secrets/a', { text: 'x', ttl: canary }],
      ['PUT', '/secrets/a', { text: 'x', content_type: canary }],
      ['PUT', '/secrets/a', { text: 'x', metadata: { a: { b: canary } } }],
      ['POST', '/auth/login', { tenant: 'default', username: 'admin', password: [canary] }],
      ['POST', '/users', { username: { a: canary } }],
      ['POST', '/fetch', { paths: [`${canary}/`] }],
      ['PUT', '/policies/x', { rules: [{ effect: canary, actions: [canary], resources: [canary] }] }],
    ];
    for (const [method, path, body] of bodies) {
      const answer = await t.request(method, api(path), as(t.admin, body));
      expect([path, answer.status]).toEqual([path, 400]);
      expect(answer.text).not.toContain(canary);
    }
    const cut = await t.request('PUT', api('/secrets/a'), {
      token: t.admin,
      raw: `{"data":{"a":"${canary}`,
      headers: { 'content-type': 'application/json' },
    });
    expect(cut.text).not.toContain(canary);
  });

  it('a body where none is taken is refused, and a missing one is said to be', async () => {
    expect((await t.request('DELETE', api('/users/reader'), as(t.admin, {}))).status).toBe(400);
    expect((await t.request('POST', api('/auth/logout'), as(reader, { all: true }))).status).toBe(400);
    const missing = await t.request(
      'POST',
      api('/users'),
      as(t.admin, undefined, { 'content-type': 'application/json' }),
    );
    expect([missing.status, missing.json.code]).toEqual([400, 'invalid_json']);
    expect((await t.request('POST', api('/users'), as(t.admin))).status).toBe(415);
    for (const encoding of ['gzip', 'br', 'identity, gzip']) {
      const answer = await t.request(
        'POST',
        api('/users'),
        as(t.admin, { username: 'x' }, { 'content-encoding': encoding }),
      );
      expect(answer.status).toBe(415);
    }
  });
});
