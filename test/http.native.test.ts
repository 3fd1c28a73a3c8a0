/** The native interface: logins and tokens, users and policies, keys, tenants and the log. */
import { describe, expect, it } from 'vitest';
import { PASSWORD } from './harness.ts';
import { api, as, get, ownVault, put, reader, t } from './http.native.ts';

ownVault();

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
    await put('before/rotation', { text: 'x' });
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
    expect((await get('before/rotation')).status).toBe(200);
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
    await put('text/exact', { text: 'x' });
    await get('text/exact');
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
