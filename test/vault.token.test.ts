/** Tokens, logins, wrapping and cubbyholes under /v1: what clients ask for at start, and what they hand on. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startJobs } from '../src/job/kinds.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { errors, v1Of } from './v1.ts';
import { entriesOf, rowsHash, tenantId } from './witness.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
  await t.request('PUT', '/api/v1/secrets/app/db', {
    token: t.admin,
    body: { data: { password: 'a password to hand on' } },
  });
  t.secrets.add('a password to hand on');
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const v1 = v1Of(() => t);

describe('auth/userpass', () => {
  it('logs in with the tenant of the namespace, and every wrong way is one answer', async () => {
    await v1('POST', 'auth/userpass/users/Alice', { password: PASSWORD, token_policies: 'reader' });
    const login = await v1('POST', 'auth/userpass/login/alice', { password: PASSWORD }, '');
    expect(login.json).toMatchObject({
      data: null,
      auth: {
        ...{ policies: ['default', 'reader'], token_policies: ['default', 'reader'], metadata: { username: 'alice' } },
        ...{ lease_duration: 3600, renewable: true, entity_id: '', token_type: 'service', orphan: true, num_uses: 0 },
      },
    });
    // An older token that is sent along counts for nothing.
    const again = await v1('PUT', 'auth/userpass/login/ALICE', { password: PASSWORD }, 'hvs.ended');
    expect(again.status).toBe(200);
    expect((await v1('GET', 'secret/data/app/db', undefined, login.json.auth.client_token)).status).toBe(200);
    for (const [name, namespace] of [
      ['alice', ''],
      ['nobody', ''],
      ['alice', 'acme'],
      ['alice', 'no-such'],
    ] as const) {
      const wrong = await v1('POST', `auth/userpass/login/${name}`, { password: 'wrong horse battery' }, '', {
        'x-vault-namespace': namespace,
      });
      expect(errors(wrong)).toEqual([400, ['invalid username or password']]);
    }
    expect(errors(await v1('POST', 'auth/userpass/login/alice', {}, ''))).toEqual([400, ['missing password']]);
  });

  it('keeps users: list, read, policies, password, removal, and refuses what it would not enforce', async () => {
    expect(errors(await v1('POST', 'auth/userpass/users/bob', {}))).toEqual([400, ['missing password']]);
    expect((await v1('POST', 'auth/userpass/users/bob', { password: PASSWORD })).status).toBe(204);
    expect((await v1('POST', 'auth/userpass/users/bob/policies', { policies: ['reader'] })).status).toBe(204);
    expect((await v1('GET', 'auth/userpass/users/bob')).json.data).toMatchObject({
      token_policies: ['reader'],
      token_ttl: 0,
    });
    expect((await v1('LIST', 'auth/userpass/users')).json.data.keys).toEqual(['admin', 'alice', 'bob']);
    expect((await v1('POST', 'auth/userpass/users/bob/password', { password: `${PASSWORD} two` })).status).toBe(204);
    expect((await v1('POST', 'auth/userpass/login/bob', { password: `${PASSWORD} two` }, '')).status).toBe(200);
    expect(errors(await v1('POST', 'auth/userpass/users/bob', { token_strictly_bind_ip: true }))).toEqual([
      400,
      ['token_strictly_bind_ip is not supported by this auth method'],
    ]);
    expect((await v1('DELETE', 'auth/userpass/users/bob')).status).toBe(204);
    expect((await v1('DELETE', 'auth/userpass/users/bob')).status).toBe(204);
    expect(errors(await v1('GET', 'auth/userpass/users/bob'))).toEqual([404, []]);
  });
});

describe('auth/token', () => {
  it('lookup-self has every field that clients demand', async () => {
    for (const method of ['GET', 'POST']) {
      const self = await v1(method, 'auth/token/lookup-self');
      expect(self.json.data).toEqual({
        ...{ accessor: expect.stringMatching(/^[a-z2-7]{16}$/), creation_time: expect.any(Number), creation_ttl: 3600 },
        ...{
          display_name: 'userpass-admin',
          entity_id: '',
          expire_time: expect.stringMatching(/Z$/),
          explicit_max_ttl: 0,
        },
        ...{ id: t.admin, issue_time: expect.any(String), meta: { username: 'admin' }, num_uses: 0, orphan: true },
        ...{
          path: 'auth/userpass/login/admin',
          policies: ['admin', 'default'],
          renewable: true,
          ttl: expect.any(Number),
          type: 'service',
        },
      });
      expect(self.json.data.ttl).toBeGreaterThan(3500);
    }
  });

  it('makes children no stronger than their maker, which end with it', async () => {
    const made = await v1('POST', 'auth/token/create', {
      policies: ['reader'],
      ttl: '30m',
      meta: { for: 'a job' },
      display_name: 'job',
    });
    const { client_token: child, accessor } = made.json.auth;
    expect(made.json.auth).toMatchObject({
      policies: ['default', 'reader'],
      lease_duration: 1800,
      orphan: false,
      metadata: { for: 'a job' },
    });
    expect((await v1('GET', 'secret/data/app/db', undefined, child)).status).toBe(200);
    expect((await v1('POST', 'secret/data/app/db', { data: {} }, child)).status).toBe(403);
    expect((await v1('POST', 'auth/token/lookup-accessor', { accessor })).json.data).toMatchObject({
      id: '',
      accessor,
      display_name: 'job',
      path: 'auth/token/create',
    });
    expect((await v1('POST', 'auth/token/lookup', { token: child })).json.data.id).toBe(child);
    const renewed = await v1('POST', 'auth/token/renew', { token: child, increment: '45m' });
    expect(renewed.json.auth).toMatchObject({ client_token: child, lease_duration: 2700 });
    expect(
      (await v1('PUT', 'auth/token/renew-self', { increment: null }, child)).json.auth.lease_duration,
    ).toBeGreaterThan(3500);
    expect((await v1('PUT', 'auth/token/renew-self', { increment: '0s' }, child)).status).toBe(200);
    expect(
      (await v1('POST', 'auth/token/renew-accessor', { accessor, increment: 60 })).json.auth.lease_duration,
    ).toBeGreaterThan(50);
    const fixed = (await v1('POST', 'auth/token/create', { renewable: false }, child)).json?.auth?.client_token;
    expect(fixed).toBeUndefined();
    expect((await v1('LIST', 'auth/token/accessors')).json.data.keys).toContain(accessor);
    expect((await v1('POST', 'auth/token/revoke-accessor', { accessor })).status).toBe(204);
    expect(errors(await v1('GET', 'auth/token/lookup-self', undefined, child))).toEqual([403, ['permission denied']]);
    expect((await v1('POST', 'auth/token/revoke', { token: child })).status).toBe(204);
  });

  it('an orphan outlives its maker, and revoke-orphan leaves the children', async () => {
    const maker = (await v1('POST', 'auth/token/create', {})).json.auth;
    const orphan = (await v1('POST', 'auth/token/create-orphan', {}, maker.client_token)).json.auth;
    const child = (await v1('POST', 'auth/token/create', {}, maker.client_token)).json.auth;
    expect([orphan.orphan, child.orphan]).toEqual([true, false]);
    expect((await v1('POST', 'auth/token/revoke-orphan', { token: maker.client_token })).status).toBe(204);
    for (const { client_token } of [orphan, child]) {
      expect((await v1('GET', 'auth/token/lookup-self', undefined, client_token)).json.data.orphan).toBe(true);
    }
    const gone = await v1('POST', 'auth/token/revoke-orphan', { token: maker.client_token });
    expect(errors(gone)).toEqual([400, ['token to revoke not found']]);
    expect((await v1('PUT', 'auth/token/revoke-self', undefined, orphan.client_token)).status).toBe(204);
    expect((await v1('PUT', 'auth/token/revoke-self', undefined, orphan.client_token)).status).toBe(403);
  });

  it('an orphan is as narrow as the token that made it', async () => {
    const narrow = (await v1('POST', 'auth/token/create', { policies: ['reader'] })).json.auth.client_token;
    const orphan = await v1('POST', 'auth/token/create-orphan', {}, narrow);
    expect(orphan.status).toBe(403);
    await t.request('PUT', '/api/v1/policies/parent', {
      token: t.admin,
      body: { rules: [{ effect: 'allow', actions: ['token.create'], resources: ['token:**'] }] },
    });
    const parent = (await v1('POST', 'auth/token/create', { policies: ['parent'] })).json.auth.client_token;
    expect((await v1('POST', 'auth/token/create', {}, parent)).status).toBe(200);
    expect((await v1('POST', 'auth/token/create-orphan', {}, parent)).status).toBe(403);
    expect(errors(await v1('POST', 'auth/token/create', { no_parent: true }, parent))).toEqual([
      ...[400, ['root or sudo privileges required to create orphan token']],
    ]);
    await t.request('PUT', '/api/v1/policies/maker', {
      token: t.admin,
      body: { rules: [{ effect: 'allow', actions: ['token.create', 'token.orphan'], resources: ['token:**'] }] },
    });
    const maker = (await v1('POST', 'auth/token/create', { policies: ['maker'] })).json.auth.client_token;
    const made = (await v1('POST', 'auth/token/create-orphan', {}, maker)).json.auth.client_token;
    expect((await v1('GET', 'secret/data/app/db', undefined, made)).status).toBe(403);
  });

  it('a child has no policy that gives more than its maker has, by its name or by its rules', async () => {
    const policy = (text: string) => ({ policy: `path "auth/token/create" { capabilities = ["update"] }\n${text}` });
    await v1('PUT', 'sys/policies/acl/wide', policy('path "secret/data/wide/*" { capabilities = ["read"] }'));
    await v1('PUT', 'sys/policies/acl/part', policy('path "secret/data/wide/a" { capabilities = ["read"] }'));
    await v1('PUT', 'sys/policies/acl/more', policy('path "secret/data/*" { capabilities = ["read"] }'));
    const wide = (await v1('POST', 'auth/token/create', { policies: ['wide'] })).json.auth.client_token;
    const made = async (policies: readonly string[]) => v1('POST', 'auth/token/create', { policies }, wide);
    for (const name of ['wide', 'part']) expect((await made([name])).json.auth.policies).toEqual(['default', name]);
    for (const policies of [['more'], ['wide', 'more'], ['admin']]) {
      expect(errors(await made(policies))).toEqual([400, ['child policies must be subset of parent']]);
    }
  });

  it('what never was has ended: revoking it is no mistake', async () => {
    expect((await v1('PUT', 'auth/token/revoke', { token: 'hvs.nonsense' })).status).toBe(204);
    expect((await v1('POST', 'auth/token/revoke-accessor', { accessor: 'nonsense' })).status).toBe(204);
    expect((await v1('PUT', 'sys/leases/revoke', { lease_id: 'database/creds/x/nonsense' })).status).toBe(204);
    expect((await v1('PUT', 'auth/token/revoke', { token: 'hvs.nonsense' }, '')).status).toBe(403);
    expect(errors(await v1('PUT', 'sys/leases/revoke-prefix/auth/userpass'))).toEqual([
      400,
      ['tokens are not revoked by a prefix: revoke them by accessor, or disable the account'],
    ]);
  });

  it('uses, batch tokens and what else is not done have their texts', async () => {
    const once = (await v1('POST', 'auth/token/create', { num_uses: 1 })).json.auth.client_token;
    expect((await v1('GET', 'secret/data/app/db', undefined, once)).status).toBe(200);
    expect((await v1('GET', 'secret/data/app/db', undefined, once)).status).toBe(403);
    const few = (await v1('POST', 'auth/token/create', { num_uses: 5 })).json.auth.client_token;
    expect(errors(await v1('POST', 'auth/token/create', {}, few))).toEqual([
      400,
      ['restricted use token cannot generate child tokens'],
    ]);
    expect(errors(await v1('POST', 'auth/token/create', { type: 'batch' }))).toEqual([
      400,
      ['batch tokens are not supported'],
    ]);
    expect(errors(await v1('POST', 'auth/token/create', { policies: ['root'] }))).toEqual([
      400,
      ['root tokens may not be created without parent token being root'],
    ]);
    expect((await v1('POST', 'auth/token/create', { id: 'chosen' })).status).toBe(400);
    expect(errors(await v1('POST', 'auth/token/lookup', { token: 'hvs.nonsense' }))).toEqual([403, ['bad token']]);
    expect(errors(await v1('POST', 'auth/token/renew', { token: 'hvs.nonsense' }))).toEqual([400, ['token not found']]);
    const fixed = (await v1('POST', 'auth/token/create', { renewable: false })).json.auth.client_token;
    expect(errors(await v1('PUT', 'auth/token/renew-self', {}, fixed))).toEqual([400, ['lease is not renewable']]);
  });

  it('T-067 another tenant’s token and accessor are nobody’s here', async () => {
    const acme = await t.tenant('token-acme');
    const theirs = (await v1('POST', 'auth/token/create', {}, acme)).json.auth;
    const before = await rowsHash(t.owner, await tenantId(t.owner, 'token-acme'), [
      'audit_heads',
      'audit_segments',
      'audit_leaves',
    ]);
    const { client_token: token, accessor } = theirs;
    expect(errors(await v1('POST', 'auth/token/lookup', { token }))).toEqual([403, ['bad token']]);
    expect((await v1('POST', 'auth/token/revoke', { token })).status).toBe(204);
    expect((await v1('GET', 'auth/token/lookup-self', undefined, token)).status).toBe(200);
    expect(errors(await v1('POST', 'auth/token/renew', { token }))).toEqual([400, ['token not found']]);
    expect(errors(await v1('POST', 'auth/token/lookup-accessor', { accessor }))).toEqual([403, ['invalid accessor']]);
    expect((await v1('POST', 'auth/token/revoke-accessor', { accessor })).status).toBe(204);
    expect(
      await rowsHash(t.owner, await tenantId(t.owner, 'token-acme'), ['audit_heads', 'audit_segments', 'audit_leaves']),
    ).toBe(before);
  });
});

describe('wrapping', () => {
  const wrapped = { 'x-vault-wrap-ttl': '5m' };

  it('hands on an answer as a token that opens it once, verbatim', async () => {
    const made = await v1('GET', 'secret/data/app/db', undefined, undefined, wrapped);
    expect(made.json).toMatchObject({
      ...{ request_id: '', data: null, auth: null },
      wrap_info: {
        ttl: 300,
        creation_path: 'secret/data/app/db',
        creation_time: expect.stringMatching(/Z$/),
        accessor: expect.any(String),
      },
    });
    const { token } = made.json.wrap_info;
    for (const [method, body, own] of [
      ['POST', { token }, ''],
      ['GET', undefined, token],
    ] as const) {
      const about = await v1(method, 'sys/wrapping/lookup', body, own);
      expect(about.json.data).toEqual({
        creation_path: 'secret/data/app/db',
        creation_time: made.json.wrap_info.creation_time,
        creation_ttl: 300,
      });
    }
    const opened = await v1('POST', 'sys/wrapping/unwrap', undefined, token);
    expect(opened.json.request_id).toBe(made.headers.get('x-request-id'));
    expect(opened.json.data.data).toEqual({ password: 'a password to hand on' });
    for (const [method, path] of [
      ['POST', 'unwrap'],
      ['POST', 'lookup'],
      ['POST', 'rewrap'],
    ] as const) {
      expect(errors(await v1(method, `sys/wrapping/${path}`, { token }))).toEqual([
        400,
        ['wrapping token is not valid or does not exist'],
      ]);
    }
  });

  it('T-053 fifty unwraps at once: one has the answer, the others are refused and recorded', async () => {
    const { token, accessor } = (await v1('GET', 'secret/data/app/db', undefined, undefined, wrapped)).json.wrap_info;
    const all = await Promise.all(Array.from({ length: 50 }, () => v1('POST', 'sys/wrapping/unwrap', { token }, '')));
    expect(all.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(new Set(all.filter(({ status }) => status !== 200).map(({ text }) => text))).toEqual(
      new Set(['{"errors":["wrapping token is not valid or does not exist"]}']),
    );
    const entries = (await entriesOf(t.owner, await tenantId(t.owner, 'default'))).filter(
      (entry) => entry.actor.accessor === accessor,
    );
    expect(entries.filter(({ outcome }) => outcome === 'ok')).toHaveLength(1);
    expect(entries.filter(({ outcome }) => outcome === 'denied')).toHaveLength(49);
  });

  it('T-053 rewrapped, expired and by another tenant', async () => {
    const { token } = (await v1('POST', 'sys/wrapping/wrap', { a: 12345678901234, b: [1] }, undefined, wrapped)).json
      .wrap_info;
    const again = await v1('POST', 'sys/wrapping/rewrap', { token });
    expect(again.json.wrap_info).toMatchObject({ ttl: 300, creation_path: 'sys/wrapping/wrap' });
    expect((await v1('POST', 'sys/wrapping/unwrap', { token })).status).toBe(400);
    const acme = await t.tenant('wrap-acme');
    const opened = await v1('POST', 'sys/wrapping/unwrap', { token: again.json.wrap_info.token }, acme);
    // Whoever shows it has it, as a letter: it was handed to them. It is the log of its own tenant that says so.
    expect(opened.json.data).toEqual({ a: 12345678901234, b: [1] });
    const short = (await v1('POST', 'sys/wrapping/wrap', { a: 1 }, undefined, { 'x-vault-wrap-ttl': '1' })).json
      .wrap_info.token;
    await expect
      .poll(async () => (await v1('POST', 'sys/wrapping/lookup', { token: short })).status, {
        interval: 100,
        timeout: 5000,
      })
      .toBe(400);
    expect((await v1('POST', 'sys/wrapping/unwrap', { token: short })).status).toBe(400);
  });

  it('a wrapping token does nothing else, and no other token unwraps', async () => {
    const { token } = (await v1('GET', 'secret/data/app/db', undefined, undefined, wrapped)).json.wrap_info;
    for (const [method, path] of [
      ['GET', 'secret/data/app/db'],
      ['GET', 'auth/token/lookup-self'],
      ['GET', 'cubbyhole/response'],
      ['POST', 'auth/token/create'],
    ] as const) {
      expect([path, (await v1(method, path, method === 'POST' ? {} : undefined, token)).status]).toEqual([path, 403]);
    }
    expect((await v1('POST', 'sys/wrapping/unwrap', undefined, t.admin)).status).toBe(400);
    expect((await v1('POST', 'sys/wrapping/unwrap', { token })).status).toBe(200);
  });

  it('a login can be wrapped; what is empty or refused passes as it is', async () => {
    const login = await v1('POST', 'auth/userpass/login/admin', { password: PASSWORD }, '', wrapped);
    expect(login.json).toMatchObject({ auth: null, wrap_info: { wrapped_accessor: expect.any(String) } });
    const opened = await v1('POST', 'sys/wrapping/unwrap', { token: login.json.wrap_info.token }, '');
    expect(opened.json.auth.accessor).toBe(login.json.wrap_info.wrapped_accessor);
    expect((await v1('GET', 'secret/data/app/db', undefined, opened.json.auth.client_token)).status).toBe(200);
    expect((await v1('DELETE', 'secret/data/never', undefined, undefined, wrapped)).status).toBe(204);
    expect(errors(await v1('GET', 'secret/data/never', undefined, undefined, wrapped))).toEqual([404, []]);
    expect(errors(await v1('POST', 'sys/wrapping/wrap', { a: 1 }))).toEqual([
      400,
      ['endpoint requires response wrapping to be used'],
    ]);
    expect(
      (await v1('GET', 'secret/data/app/db', undefined, undefined, { 'x-vault-wrap-ttl': 'soon' })).json.errors[0],
    ).toMatch(/^error parsing X-Vault-Wrap-TTL header: /);
    expect((await v1('GET', 'secret/data/app/db', undefined, undefined, { 'x-vault-wrap-ttl': '-5' })).status).toBe(
      400,
    );
    expect(
      (await v1('GET', 'secret/data/app/db', undefined, undefined, { ...wrapped, 'x-vault-wrap-format': 'jwt' }))
        .status,
    ).toBe(400);
  });
});

describe('cubbyhole', () => {
  it('belongs to one token and ends with it', async () => {
    const token = (await v1('POST', 'auth/token/create', {})).json.auth.client_token;
    const text = '{"a":12345678901234567890}';
    await t.request('POST', '/v1/cubbyhole/mine/x', { headers: { 'x-vault-token': token }, raw: text });
    expect((await v1('GET', 'cubbyhole/mine/x', undefined, token)).text).toContain(
      `"lease_duration":0,"data":${text},`,
    );
    expect((await v1('LIST', 'cubbyhole', undefined, token)).json.data.keys).toEqual(['mine/']);
    expect((await v1('LIST', 'cubbyhole/mine/', undefined, token)).json.data.keys).toEqual(['x']);
    expect(errors(await v1('GET', 'cubbyhole/mine/x'))).toEqual([404, []]);
    expect(errors(await v1('LIST', 'cubbyhole'))).toEqual([404, []]);
    await v1('POST', 'auth/token/revoke', { token });
    const [left] = await t.owner`SELECT count(*)::int AS count FROM cubbyholes WHERE path = 'mine/x'`;
    expect(left!.count).toBe(0);
    await v1('POST', 'cubbyhole/a', { b: 1 });
    expect((await v1('DELETE', 'cubbyhole/a')).status).toBe(204);
    expect(errors(await v1('GET', 'cubbyhole/a'))).toEqual([404, []]);
  });

  it('T-014 a rotation of the data key takes it along', async () => {
    await v1('POST', 'cubbyhole/kept', { b: 'kept over a rotation' });
    t.secrets.add('kept over a rotation');
    const jobs = startJobs(t.vault);
    await t.request('POST', '/api/v1/keys/rotate', { token: t.admin, body: { reencrypt: true } });
    await expect
      .poll(async () => (await t.owner`SELECT key_version FROM cubbyholes WHERE path = 'kept'`)[0]?.key_version, {
        timeout: 10_000,
      })
      .toBe(2);
    await jobs.stop();
    expect((await v1('GET', 'cubbyhole/kept')).json.data).toEqual({ b: 'kept over a rotation' });
  });
});

describe('sys/tools', () => {
  it('randomness and hashes', async () => {
    const random = await v1('POST', 'sys/tools/random/16', { format: 'hex' });
    expect(random.json.data.random_bytes).toMatch(/^[0-9a-f]{32}$/);
    const hash = await v1('POST', 'sys/tools/hash/sha2-512', { input: Buffer.from('abc').toString('base64') });
    expect(hash.json.data.sum).toMatch(/^ddaf35a193617abacc417349ae204131/);
    expect((await v1('POST', 'sys/tools/hash', { input: '***' })).status).toBe(400);
  });
});
