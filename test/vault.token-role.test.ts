/** Token roles under /v1, and what a token is made with: an end that no renewal passes, and no policy `default`. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createToken } from '../src/auth/child.ts';
import { type TestVault, testVault } from './harness.ts';
import { errors, v1Of } from './v1.ts';
import { codeOf, entriesOf, tenantId } from './witness.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
  for (const name of ['ci-read', 'ci-write', 'ops']) {
    const policy = `path "secret/data/${name}/*" { capabilities = ["read"] }`;
    expect((await v1('PUT', `sys/policies/acl/${name}`, { policy })).status).toBe(204);
  }
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const v1 = v1Of(() => t);
const lookup = async (token: string) => (await v1('POST', 'auth/token/lookup', { token })).json.data;
/** A token that is bound to a policy of this text. */
async function holder(name: string, policy: string, more: readonly string[] = []): Promise<string> {
  expect((await v1('PUT', `sys/policies/acl/${name}`, { policy })).status).toBe(204);
  return (await v1('POST', 'auth/token/create', { policies: [name, ...more] })).json.auth.client_token;
}

describe('policies of a token', () => {
  it('default alone is what every token may, and nothing else', async () => {
    const made = (await v1('POST', 'auth/token/create', { policies: ['default'] })).json.auth;
    expect(made.policies).toEqual(['default']);
    expect((await v1('GET', 'secret/data/ci-read/x', undefined, made.client_token)).status).toBe(403);
    expect((await lookup(made.client_token)).policies).toEqual(['default']);
  });
});

describe('auth/token/roles', () => {
  it('are written, read, listed and deleted; a write keeps what it leaves out', async () => {
    expect(errors(await v1('LIST', 'auth/token/roles'))).toEqual([404, []]);
    const role = {
      ...{ allowed_policies: ['ci-read', 'ci-write'], disallowed_policies_glob: 'ops*', path_suffix: 'jobs' },
      ...{ token_period: '1h', renewable: false, token_bound_cidrs: ['127.0.0.1'], token_num_uses: 7 },
    };
    expect((await v1('POST', 'auth/token/roles/CI', role)).status).toBe(204);
    expect((await v1('POST', 'auth/token/roles/ci', { explicit_max_ttl: '2h', orphan: true })).status).toBe(204);
    expect((await v1('GET', 'auth/token/roles/ci')).json.data).toEqual({
      ...{ allowed_entity_aliases: [], allowed_policies: ['ci-read', 'ci-write'], allowed_policies_glob: [] },
      ...{ disallowed_policies: [], disallowed_policies_glob: ['ops*'], name: 'ci', orphan: true, renewable: false },
      ...{ explicit_max_ttl: 7200, token_explicit_max_ttl: 7200, period: 3600, token_period: 3600 },
      ...{ path_suffix: 'jobs', token_bound_cidrs: ['127.0.0.1/32'], token_num_uses: 7 },
      ...{ token_no_default_policy: false, token_type: 'default-service' },
    });
    expect((await v1('LIST', 'auth/token/roles')).json.data.keys).toEqual(['ci']);
    expect((await v1('DELETE', 'auth/token/roles/ci')).status).toBe(204);
    expect((await v1('DELETE', 'auth/token/roles/ci')).status).toBe(204);
    expect(errors(await v1('GET', 'auth/token/roles/ci'))).toEqual([404, []]);
  });

  it('refuse by its name what would not be enforced', async () => {
    for (const [field, value, text] of [
      ['allowed_entity_aliases', ['a'], 'allowed_entity_aliases is not supported by token roles'],
      ['token_strictly_bind_ip', true, 'token_strictly_bind_ip is not supported by token roles'],
      ['token_type', 'batch', 'token_type: batch tokens are not supported'],
      ['path_suffix', 'a/b', 'path_suffix: expected 2 to 128 of A–Z, a–z, 0–9, dot, underscore and hyphen.'],
    ] as const) {
      expect([field, ...errors(await v1('POST', 'auth/token/roles/no', { [field]: value }))]).toEqual([
        ...[field, 400, [text]],
      ]);
    }
    for (const [field, value] of [
      ['token_period', '-1h'],
      ['token_explicit_max_ttl', '9999999h'],
      ['token_bound_cidrs', ['10.0.0.1/8']],
      ['allowed_policies', ['UPPER']],
      ['allowed_policies_glob', ['a/b']],
      ['token_num_uses', -1],
    ] as const) {
      expect([field, (await v1('POST', 'auth/token/roles/no', { [field]: value })).status]).toEqual([field, 400]);
    }
    expect((await v1('GET', 'auth/token/roles/no')).status).toBe(404);
  });

  it('need leave of their own, for the role that is named', async () => {
    const own = await holder(
      'role-writer',
      'path "auth/token/roles/ci-*" { capabilities = ["create", "update", "read"] }',
    );
    expect((await v1('POST', 'auth/token/roles/ci-own', { orphan: true }, own)).status).toBe(204);
    expect((await v1('GET', 'auth/token/roles/ci-own', undefined, own)).json.data.orphan).toBe(true);
    for (const [method, path] of [
      ['POST', 'roles/other'],
      ['GET', 'roles/other'],
      ['DELETE', 'roles/ci-own'],
      ['LIST', 'roles'],
      ['POST', 'create/ci-own'],
    ] as const) {
      const body = method === 'POST' ? {} : undefined;
      expect([path, (await v1(method, `auth/token/${path}`, body, own)).status]).toEqual([path, 403]);
    }
    expect((await v1('GET', 'auth/token/roles/ci-own', undefined, '')).status).toBe(403);
    const paths = ['auth/token/roles/ci-own', 'auth/token/create/ci-own'];
    expect((await v1('POST', 'sys/capabilities-self', { paths }, own)).json.data).toEqual({
      [paths[0]!]: ['create', 'read', 'update'],
      [paths[1]!]: ['deny'],
    });
  });

  it('T-067 are of one tenant', async () => {
    await v1('POST', 'auth/token/roles/mine', { renewable: false });
    const acme = await t.tenant('role-acme');
    expect(errors(await v1('GET', 'auth/token/roles/mine', undefined, acme))).toEqual([404, []]);
    expect(errors(await v1('POST', 'auth/token/create/mine', {}, acme))).toEqual([400, ['unknown role mine']]);
  });
});

describe('auth/token/create/<role>', () => {
  it('gives what the role allows, to whoever holds it', async () => {
    await v1('POST', 'auth/token/roles/build', { allowed_policies: ['ci-read', 'ci-write'], path_suffix: 'jobs' });
    const auth = (await v1('POST', 'auth/token/create/build', { display_name: 'job', ttl: '10m' })).json.auth;
    expect(auth).toMatchObject({ policies: ['ci-read', 'ci-write', 'default'], orphan: false, lease_duration: 600 });
    expect(await lookup(auth.client_token)).toMatchObject({ role: 'build', path: 'auth/token/create/build/jobs' });
    const one = (await v1('POST', 'auth/token/create/build', { policies: ['ci-read'] })).json.auth;
    expect(one.policies).toEqual(['ci-read', 'default']);
    const beyond = await v1('POST', 'auth/token/create/build', { policies: ['ci-read', 'ops'] });
    expect(errors(beyond)).toEqual([400, ["token policies must be subset of the role's allowed policies: ops"]]);
    const maker = 'path "auth/token/create/build" { capabilities = ["update"] }';
    const part = await holder('build-maker', maker, ['ci-read']);
    const held = await v1('POST', 'auth/token/create/build', { policies: ['ci-read'] }, part);
    expect(held.json.auth.policies).toEqual(['ci-read', 'default']);
    expect(errors(await v1('POST', 'auth/token/create/build', {}, part))).toEqual([
      ...[400, ['child policies must be subset of parent']],
    ]);
    expect((await v1('POST', 'auth/token/create', {}, part)).status).toBe(403);
    expect(errors(await v1('POST', 'auth/token/create/absent', {}))).toEqual([400, ['unknown role absent']]);
    const entries = await entriesOf(t.owner, await tenantId(t.owner, 'default'));
    expect(entries).toContainEqual(
      expect.objectContaining({
        ...{ action: 'token.create', resource: 'token:role/build', outcome: 'ok' },
        details: expect.objectContaining({ role: 'build', accessor: auth.accessor }),
      }),
    );
  });

  it('by patterns, and what it disallows is refused also where it would be inherited', async () => {
    await v1('POST', 'auth/token/roles/glob', { allowed_policies_glob: ['ci-*'], disallowed_policies: ['ci-write'] });
    const made = await v1('POST', 'auth/token/create/glob', { policies: ['ci-read'] });
    expect(made.json.auth.policies).toEqual(['ci-read', 'default']);
    expect((await v1('POST', 'auth/token/create/glob', {})).json.auth.policies).toEqual(['default']);
    expect(errors(await v1('POST', 'auth/token/create/glob', { policies: ['ci-write'] }))).toEqual([
      ...[400, ['token policy "ci-write" is disallowed by this role']],
    ]);
    expect((await v1('POST', 'auth/token/create/glob', { policies: ['ops'] })).status).toBe(400);
    await v1('POST', 'auth/token/roles/all-but', { disallowed_policies_glob: ['adm*'] });
    expect(errors(await v1('POST', 'auth/token/create/all-but', {}))).toEqual([
      ...[400, ['token policy "admin" is disallowed by this role']],
    ]);
    expect((await v1('POST', 'auth/token/create/all-but', { policies: ['ops'] })).json.auth.policies).toEqual([
      ...['default', 'ops'],
    ]);
  });

  it('bounds uses, networks, renewal and period', async () => {
    const role = { token_num_uses: 3, token_bound_cidrs: ['192.0.2.0/24'], renewable: false };
    await v1('POST', 'auth/token/roles/bounded', role);
    const auth = (await v1('POST', 'auth/token/create/bounded', { num_uses: 50, renewable: true })).json.auth;
    expect([auth.num_uses, auth.renewable]).toEqual([3, false]);
    expect((await lookup(auth.client_token)).bound_cidrs).toEqual(['192.0.2.0/24']);
    expect((await v1('GET', 'auth/token/lookup-self', undefined, auth.client_token)).status).toBe(403);
    // What is asked for narrows it further, and never widens it.
    const asking = (cidr: string) => createToken(t.vault, t.call(t.admin), { cidrs: [cidr] }, 'bounded');
    expect((await asking('192.0.2.7/32')).cidrs).toEqual(['192.0.2.7/32']);
    expect(await codeOf(asking('192.0.0.0/16'))).toBe('invalid_request');
    await v1('POST', 'auth/token/roles/periodic', { token_period: '30m' });
    const periodic = (await v1('POST', 'auth/token/create/periodic', { ttl: '2h', period: '50m' })).json.auth;
    expect(periodic.lease_duration).toBe(1800);
    expect((await lookup(periodic.client_token)).period).toBe(1800);
  });

  it('an orphan by a role takes the leave for one, by whatever way it is asked for', async () => {
    await v1('POST', 'auth/token/roles/lasting', { orphan: true });
    const rule = { effect: 'allow', actions: ['token.create'], resources: ['token:role/*'] };
    await t.request('PUT', '/api/v1/policies/by-role', { token: t.admin, body: { rules: [rule] } });
    const weak = (await v1('POST', 'auth/token/create', { policies: ['by-role'] })).json.auth.client_token;
    const refused = [400, ['root or sudo privileges required to create orphan token']];
    expect(errors(await v1('POST', 'auth/token/create/lasting', {}, weak))).toEqual(refused);
    await v1('POST', 'auth/token/roles/plain', {});
    expect((await v1('POST', 'auth/token/create/plain', {}, weak)).status).toBe(200);
    expect(errors(await v1('POST', 'auth/token/create/plain', { no_parent: true }, weak))).toEqual(refused);
    const maker = await holder('lasting-maker', 'path "auth/token/create/lasting" { capabilities = ["update"] }');
    const orphan = (await v1('POST', 'auth/token/create/lasting', {}, maker)).json.auth;
    expect(orphan.orphan).toBe(true);
    await v1('POST', 'auth/token/revoke', { token: maker });
    expect((await v1('GET', 'auth/token/lookup-self', undefined, orphan.client_token)).json.data.orphan).toBe(true);
    expect((await v1('POST', 'auth/token/create', {}, orphan.client_token)).status).toBe(403);
  });

  it('is not renewed when the role is gone', async () => {
    await v1('POST', 'auth/token/roles/brief', {});
    const { client_token: token, accessor } = (await v1('POST', 'auth/token/create/brief', { ttl: '1h' })).json.auth;
    expect((await v1('POST', 'auth/token/renew-self', {}, token)).status).toBe(200);
    await v1('DELETE', 'auth/token/roles/brief');
    const gone = [400, ['original token role could not be found, not renewing']];
    expect(errors(await v1('POST', 'auth/token/renew-self', {}, token))).toEqual(gone);
    expect(errors(await v1('POST', 'auth/token/renew-accessor', { accessor }))).toEqual(gone);
    expect((await v1('GET', 'auth/token/lookup-self', undefined, token)).json.data.role).toBe('brief');
  });
});

describe('explicit_max_ttl', () => {
  it('is an end that no renewal passes, of periodic tokens too', async () => {
    for (const wish of [
      { ttl: '1h', explicit_max_ttl: '2h' },
      { period: '1h', explicit_max_ttl: '90m' },
    ]) {
      const made = (await v1('POST', 'auth/token/create', { ...wish, no_parent: true })).json.auth;
      const seconds = wish.period ? 5400 : 7200;
      const before = await lookup(made.client_token);
      expect(before.explicit_max_ttl).toBe(seconds);
      const renewed = await v1('POST', 'auth/token/renew-self', { increment: '20h' }, made.client_token);
      expect(renewed.json.auth.lease_duration).toBeLessThanOrEqual(seconds);
      const most = Date.parse(before.issue_time) + seconds * 1000;
      const ends = async () => Date.parse((await lookup(made.client_token)).expire_time);
      expect(await ends()).toBeLessThanOrEqual(most);
      await t.owner`
        UPDATE tokens SET max_expires_at = max_expires_at - interval '80 minutes' WHERE token_id = ${made.accessor}`;
      await v1('POST', 'auth/token/renew-self', { increment: '20h' }, made.client_token);
      expect(await ends()).toBe(most - 80 * 60_000);
    }
  });

  it('a role’s and a wish’s: the shorter one; beyond what is allowed it is capped, and said so', async () => {
    await v1('POST', 'auth/token/roles/short', { token_explicit_max_ttl: '5m' });
    for (const [asked, seconds] of [
      ['10m', 300],
      ['1m', 60],
      [undefined, 300],
    ] as const) {
      const made = (await v1('POST', 'auth/token/create/short', { explicit_max_ttl: asked })).json.auth;
      expect([made.lease_duration, (await lookup(made.client_token)).explicit_max_ttl]).toEqual([seconds, seconds]);
    }
    const long = await v1('POST', 'auth/token/create', { explicit_max_ttl: '70000h' });
    expect(long.json.warnings).toEqual([
      'Explicit max TTL specified is greater than the allowed value; value is being capped',
    ]);
    const { explicit_max_ttl } = await lookup(long.json.auth.client_token);
    expect(explicit_max_ttl).toBe(t.vault.config.tokenMaxTtlSeconds);
    expect((await v1('POST', 'auth/token/create', { explicit_max_ttl: '99999999h' })).status).toBe(400);
  });
});

describe('no_default_policy', () => {
  const OWN = [
    ['GET', 'auth/token/lookup-self'],
    ['POST', 'auth/token/renew-self'],
    ['POST', 'auth/token/revoke-self'],
    ['POST', 'sys/capabilities-self'],
    ['GET', 'sys/internal/ui/resultant-acl'],
    ['POST', 'cubbyhole/x'],
    ['GET', 'cubbyhole/x'],
    ['LIST', 'cubbyhole'],
  ] as const;

  it('leaves a token what its policies say, and nothing that default gives', async () => {
    await t.request('PUT', '/api/v1/secrets/ci-read/x', { token: t.admin, body: { data: { a: '1' } } });
    const auth = (await v1('POST', 'auth/token/create', { policies: ['ci-read'], no_default_policy: true })).json.auth;
    const token = auth.client_token;
    expect([auth.policies, auth.token_policies]).toEqual([['ci-read'], ['ci-read']]);
    expect((await v1('GET', 'secret/data/ci-read/x', undefined, token)).status).toBe(200);
    expect((await v1('GET', 'sys/internal/ui/mounts/secret/ci-read/x', undefined, token)).status).toBe(200);
    for (const [method, path] of OWN) {
      const body = method === 'POST' ? { paths: ['a'], x: 1 } : undefined;
      expect([path, ...errors(await v1(method, path, body, token))]).toEqual([
        ...[path, 403, ['1 error occurred:\n\t* permission denied\n\n']],
      ]);
    }
    expect((await v1('POST', 'auth/token/lookup', { token }, token)).status).toBe(403);
    expect((await v1('POST', 'auth/token/revoke-accessor', { accessor: auth.accessor }, token)).status).toBe(403);
    for (const path of ['auth/self', 'policies/explain']) {
      expect([401, 403, 404, 405]).toContain((await t.request('GET', `/api/v1/${path}`, { token })).status);
    }
    expect((await lookup(token)).policies).toEqual(['ci-read']);
    const paths = ['auth/token/lookup-self', 'secret/data/ci-read/x'];
    const seen = { [paths[0]!]: ['deny'], [paths[1]!]: ['read'] };
    expect((await v1('POST', 'sys/capabilities', { token, paths })).json.data).toEqual(seen);
    expect((await v1('POST', 'sys/capabilities-accessor', { accessor: auth.accessor, paths })).json.data).toEqual(seen);
    const native = await t.request('GET', `/api/v1/tokens/${auth.accessor}`, { token: t.admin });
    expect(native.json).toMatchObject({ without_default: true, role: null, explicit_max_ttl_seconds: null });
    expect((await v1('POST', 'auth/token/revoke', { token })).status).toBe(204);
  });

  it('goes over to what is made with it, and default that is named stays', async () => {
    const policy = 'path "auth/token/create" { capabilities = ["update"] }';
    await v1('PUT', 'sys/policies/acl/make', { policy });
    const wish = { policies: ['make'], no_default_policy: true };
    const maker = (await v1('POST', 'auth/token/create', wish)).json.auth.client_token;
    const child = (await v1('POST', 'auth/token/create', {}, maker)).json.auth;
    expect(child.policies).toEqual(['make']);
    expect((await v1('GET', 'auth/token/lookup-self', undefined, child.client_token)).status).toBe(403);
    const named = await v1('POST', 'auth/token/create', { ...wish, policies: ['make', 'default'] });
    expect(named.json.auth.policies).toEqual(['default', 'make']);
  });

  it('a role says so, or disallows default by its name', async () => {
    await v1('POST', 'auth/token/roles/bare', { token_no_default_policy: true });
    await v1('POST', 'auth/token/roles/no-default', { disallowed_policies: ['default'] });
    for (const role of ['bare', 'no-default']) {
      const { policies, client_token: token } = (await v1('POST', `auth/token/create/${role}`, { policies: ['ops'] }))
        .json.auth;
      expect([role, policies]).toEqual([role, ['ops']]);
      expect((await v1('GET', 'auth/token/lookup-self', undefined, token)).status).toBe(403);
    }
  });

  it('its leases are its own only where a policy says so', async () => {
    const rules = [
      { effect: 'allow', actions: ['secret.read', 'lease.create'], resources: ['secret:ci-read/*', 'lease:ci-read/*'] },
    ];
    await t.request('PUT', '/api/v1/policies/lessee', { token: t.admin, body: { rules } });
    const ended = async (no_default_policy: boolean) => {
      const wish = { policies: ['lessee'], no_default_policy };
      const token = (await v1('POST', 'auth/token/create', wish)).json.auth.client_token;
      const lease = await t.request('POST', '/api/v1/leases', { token, body: { secret: 'ci-read/x' } });
      expect(lease.status).toBe(201);
      return (await t.request('DELETE', `/api/v1/leases/${lease.json.id}`, { token })).status;
    };
    expect([await ended(false), await ended(true)]).toEqual([200, 403]);
  });
});
