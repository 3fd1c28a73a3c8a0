/** Policies in HCL and JSON: kept as they came, decided as their translation, and refused where that would not be the same. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { translatePolicy } from '../src/protocols/vault/acl.ts';
import { WHOLE_TREE } from '../src/secret/mount.ts';
import { type TestVault, testVault } from './harness.ts';
import { errors, v1Of } from './v1.ts';

let t: TestVault;
beforeAll(async () => {
  t = await testVault();
  await v1('POST', 'sys/mounts/kv1', { type: 'kv' });
  for (const path of ['app/db', 'app/web/key', 'other/x', 'appendix'])
    await v1('POST', `secret/data/${path}`, { data: { of: path } });
});
afterAll(() => t.close());

const v1 = v1Of(() => t);

let count = 0;
/** A token that is bound to a policy of this text. */
async function holding(policy: string): Promise<string> {
  const name = `p${count++}`;
  const written = await v1('PUT', `sys/policies/acl/${name}`, { policy });
  expect([policy, written.status, written.text]).toEqual([policy, 204, '']);
  return (await v1('POST', 'auth/token/create', { policies: [name] })).json.auth.client_token;
}

/** What a token may do, as `verb path → status`. */
async function tried(token: string, ...asked: readonly (readonly [method: string, path: string])[]): Promise<string[]> {
  const answers: string[] = [];
  for (const [method, path] of asked) {
    const body =
      method === 'POST'
        ? { data: {}, versions: [1], custom_metadata: {} }
        : method === 'PATCH'
          ? { data: {} }
          : undefined;
    const patch: Record<string, string> = method === 'PATCH' ? { 'content-type': 'application/merge-patch+json' } : {};
    answers.push(`${method} ${path} ${(await v1(method, path, body, token, patch)).status}`);
  }
  return answers;
}

describe('a policy text', () => {
  it('is kept verbatim, under both names, until the native interface changes the policy', async () => {
    const policy = '# mine\npath "secret/data/app/*" {\n  capabilities = ["read"]   // only\n}\n';
    expect((await v1('PUT', 'sys/policies/acl/mine', { policy })).status).toBe(204);
    expect((await v1('GET', 'sys/policies/acl/mine')).json.data).toEqual({ name: 'mine', policy });
    expect((await v1('GET', 'sys/policy/mine')).json).toMatchObject({
      rules: policy,
      data: { name: 'mine', rules: policy },
    });
    expect((await v1('LIST', 'sys/policies/acl')).json.data.keys).toEqual([
      'admin',
      'auditor',
      'default',
      'key-admin',
      'mine',
      'reader',
    ]);
    expect((await v1('GET', 'sys/policy')).json.policies).toContain('mine');
    const native = await t.request('GET', '/api/v1/policies/mine', { token: t.admin });
    expect(native.json.rules).toEqual([{ effect: 'allow', actions: ['secret.read'], resources: ['secret:app/**'] }]);
    await t.request('PUT', '/api/v1/policies/mine', { token: t.admin, body: { rules: [] } });
    expect(JSON.parse((await v1('GET', 'sys/policies/acl/mine')).json.data.policy)).toEqual({ rules: [] });
    expect((await v1('DELETE', 'sys/policies/acl/mine')).status).toBe(204);
    expect((await v1('DELETE', 'sys/policies/acl/mine')).status).toBe(204);
    expect(errors(await v1('GET', 'sys/policies/acl/mine'))).toEqual([404, []]);
    expect((await v1('GET', 'sys/policies/acl/default')).json.data.policy).toContain('auth/token/lookup-self');
    const upper = await v1('PUT', 'sys/policies/acl/Upper', { policy: Buffer.from(policy).toString('base64') });
    expect([upper.status, upper.json.warnings]).toEqual([200, ['policy name was converted to upper']]);
    expect((await v1('GET', 'sys/policies/acl/upper')).json.data.policy).toBe(policy);
  });

  it.each<[string, string, string[]]>([
    [
      'everything under a path',
      'path "secret/data/app/*" { capabilities = ["read"] }',
      [
        'GET secret/data/app/db 200',
        'GET secret/data/app/web/key 200',
        'GET secret/data/appendix 403',
        'GET secret/data/other/x 403',
        'POST secret/data/app/db 403',
        'LIST secret/metadata/app 403',
      ],
    ],
    [
      'a beginning that is no segment',
      'path "secret/data/app*" { capabilities = ["read"] }',
      [
        'GET secret/data/app/db 200',
        'GET secret/data/app/web/key 200',
        'GET secret/data/appendix 200',
        'GET secret/data/other/x 403',
      ],
    ],
    [
      'one segment of any name',
      'path "secret/data/+/db" { capabilities = ["read"] }',
      ['GET secret/data/app/db 200', 'GET secret/data/app/web/key 403'],
    ],
    [
      'every part of a mount',
      'path "secret/+/app/*" { capabilities = ["create", "read", "update", "delete", "list", "patch"] }',
      [
        'GET secret/data/app/db 200',
        'POST secret/data/app/db 200',
        'PATCH secret/data/app/db 200',
        'GET secret/metadata/app/db 200',
        'LIST secret/metadata/app/ 200',
        // With a warning of what was sent and not asked for.
        'POST secret/delete/app/db 200',
        'POST secret/undelete/app/db 200',
        'GET secret/subkeys/app/db 200',
        'POST secret/metadata/app/db 200',
        'GET secret/data/other/x 403',
        'GET secret/config 403',
      ],
    ],
    [
      'lists by their folder',
      'path "secret/metadata/app/" { capabilities = ["list"] }',
      ['LIST secret/metadata/app 200', 'GET secret/metadata/app/db 403'],
    ],
    [
      'a deny beside what allows',
      'path "secret/data/*" { capabilities = ["read"] }\npath "secret/data/app/*" { capabilities = ["deny"] }',
      ['GET secret/data/other/x 200', 'GET secret/data/app/db 403'],
    ],
    [
      'the words of old',
      'path "secret/data/app/db" { policy = "write" }\npath "kv1/*" { policy = "read" }',
      ['GET secret/data/app/db 200', 'POST secret/data/app/db 200', 'GET kv1/x 404', 'POST kv1/x 403'],
    ],
    [
      'JSON, as some clients write it',
      '{"path":{"secret/data/app/*":{"capabilities":["read"]},"kv1/*":{"capabilities":["create","update"]}}}',
      ['GET secret/data/app/db 200', 'POST kv1/x 204', 'GET kv1/x 403'],
    ],
    [
      'the system, by names and by lists',
      'path "sys/policies/acl/team-*" { capabilities = ["read"] }\npath "sys/mounts" { capabilities = ["read"] }\npath "auth/userpass/users/+" { capabilities = ["read"] }',
      [
        'GET sys/policies/acl/team-none 404',
        'GET sys/policies/acl/admin 403',
        'GET sys/mounts 200',
        'GET auth/userpass/users/admin 200',
        'LIST auth/userpass/users 403',
      ],
    ],
    [
      'everything at once',
      'path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }',
      [
        'GET secret/data/other/x 200',
        'GET sys/policies/acl/admin 200',
        'LIST auth/token/accessors 200',
        'GET secret/config 200',
        'LIST transit/keys 404',
      ],
    ],
    [
      'what needs sudo beside the verb',
      'path "auth/token/accessors" { capabilities = ["list"] }\npath "sys/nothing" { capabilities = ["read"] }',
      ['LIST auth/token/accessors 403'],
    ],
  ])('allows %s', async (_, policy, outcomes) => {
    const token = await holding(policy);
    const asked = outcomes.map((line) => line.split(' ').slice(0, 2) as [string, string]);
    expect(await tried(token, ...asked)).toEqual(outcomes);
  });

  it.each<[string, string | RegExp]>([
    ['path "secret/data/a" { capabilities = ["reed"] }', 'path "secret/data/a": invalid capability "reed"'],
    [
      'path "secret/data/a" { capabilities = ["read"] allowed_parameters = { "a" = [] } }',
      /allowed_parameters is not enforced here/,
    ],
    [
      'path "secret/data/a" { capabilities = ["read"] min_wrapping_ttl = "1s" }',
      /min_wrapping_ttl is not enforced here/,
    ],
    ['path "secret/data/{{identity.entity.name}}/*" { capabilities = ["read"] }', /templates are not supported/],
    ['path "secret/data/+*" { capabilities = ["read"] }', /cannot use "\+\*"/],
    ['path "secret/da*ta/x" { capabilities = ["read"] }', /a segment is not of/],
    ['path "secret/data/a" { capabilities = ["update"] }', /one act here/],
    ['path "secret/data/a" { capabilities = ["patch"] }', /one act here/],
    [
      'path "secret/data/*" { capabilities = ["read","list"] }\npath "secret/data/a" { capabilities = ["delete"] }',
      /lies within "secret\/data\/\*" and grants less: name read/,
    ],
    [
      'path "secret/*" { capabilities = ["deny"] }\npath "secret/data/a" { capabilities = ["read"] }',
      /a deny always wins/,
    ],
    [
      'path "pki/issue/web" { capabilities = ["update"] }',
      'path "pki/issue/web": there is no mount pki/: mount it first',
    ],
    ['path "secret/data/a" { capabilities = ["read"]', /^failed to parse policy: a block does not end/],
    ['path "secret/data/a" { capabilities = read }', /^failed to parse policy: something is no value on line 1/],
    ['rule "x" {}', /only path/],
    ['{"path":', /begins like JSON/],
    ['', "'policy' parameter not supplied or empty"],
  ])('is refused where it would not be enforced: %s', async (policy, text) => {
    const answer = await v1('PUT', 'sys/policies/acl/refused', { policy });
    const expected = typeof text === 'string' ? text : expect.stringMatching(text);
    expect([policy, ...errors(answer)]).toEqual([policy, 400, [expected]]);
    expect((await v1('GET', 'sys/policies/acl/refused')).status).toBe(404);
  });

  it('of root and default is nobody’s to change', async () => {
    const policy = 'path "secret/data/a" { capabilities = ["read"] }';
    expect(errors(await v1('PUT', 'sys/policies/acl/root', { policy }))).toEqual([
      400,
      ['cannot update "root" policy'],
    ]);
    expect(errors(await v1('DELETE', 'sys/policies/acl/root'))).toEqual([400, ['cannot delete "root" policy']]);
    expect(errors(await v1('DELETE', 'sys/policies/acl/default'))).toEqual([400, ['cannot delete default policy']]);
    expect((await v1('PUT', 'sys/policies/acl/default', { policy })).status).toBe(400);
  });

  it('T-056 a policy that looks like root is a name like any other, and gives what it says', async () => {
    for (const name of ['ROOT', 'Root'])
      expect(
        (await v1('PUT', `sys/policies/acl/${name}`, { policy: 'path "secret/data/a" { capabilities = ["read"] }' }))
          .status,
      ).toBe(400);
    for (const name of ['root', 'ROOT'])
      expect((await v1('POST', 'auth/token/create', { policies: [name] })).status).toBe(400);
  });

  it('T-061 never reaches past its last segment', () => {
    const { rules } = translatePolicy('path "secret/data/prod/*" { capabilities = ["read"] }', [WHOLE_TREE]);
    expect(rules).toEqual([{ effect: 'allow', actions: ['secret.read'], resources: ['secret:prod/**'] }]);
    const exact = translatePolicy('path "secret/data/prod" { capabilities = ["read", "list"] }', [WHOLE_TREE]);
    expect(exact.rules).toEqual([{ effect: 'allow', actions: ['secret.read'], resources: ['secret:prod'] }]);
  });
});

describe('all that a token may do, as user interfaces ask it', () => {
  const acl = async (token: string) => (await v1('GET', 'sys/internal/ui/resultant-acl', undefined, token)).json.data;

  it('is in the paths that its policy has, with what is denied among them', async () => {
    const { root, exact_paths, glob_paths } = await acl(
      await holding(
        'path "secret/data/app/*" { capabilities = ["read"] }\npath "secret/data/app/secret" { capabilities = ["deny"] }\n' +
          'path "kv1/one" { capabilities = ["create", "update"] }\npath "transit/encrypt/web-*" { capabilities = ["update"] }\n' +
          'path "secret/data/+/db" { capabilities = ["read"] }\npath "sys/mounts" { capabilities = ["read"] }',
      ),
    );
    expect(root).toBe(false);
    expect(glob_paths).toMatchObject({
      'secret/data/app/': { capabilities: ['read'] },
      'transit/encrypt/web-': { capabilities: ['update'] },
      'cubbyhole/': { capabilities: ['create', 'delete', 'list', 'read', 'update'] },
    });
    expect(exact_paths).toMatchObject({
      'secret/data/app/secret': { capabilities: ['deny'] },
      'secret/data/+/db': { capabilities: ['read'] },
      'kv1/one': { capabilities: ['create', 'update'] },
      'sys/mounts': { capabilities: ['read'] },
      'auth/token/lookup-self': { capabilities: ['read', 'update'] },
    });
    expect(Object.keys(glob_paths)).not.toContain('secret/metadata/app/');
  });

  it('of the administrator is everything, and of a token that is bound what the bounds leave', async () => {
    const all = await acl(t.admin);
    expect([all.root, all.glob_paths['secret/data/'].capabilities]).toEqual([
      true,
      ['create', 'delete', 'patch', 'read', 'update'],
    ]);
    const bound = await acl(await holding('path "secret/data/app/*" { capabilities = ["read"] }'));
    expect([bound.root, bound.glob_paths['secret/data/']]).toEqual([false, undefined]);
    expect((await v1('GET', 'sys/internal/ui/resultant-acl', undefined, '')).status).toBe(403);
  });
});

describe('capabilities', () => {
  it('of a path that is called as a member of every answer stand in the data, and no name stands twice', async () => {
    for (const name of ['data', 'request_id', 'auth', 'mount_type']) {
      const { json, text } = await v1('POST', 'sys/capabilities-self', { paths: [name] });
      expect(json.data).toEqual({ [name]: ['deny'], capabilities: ['deny'] });
      expect(text.match(new RegExp(`[{,]"${name}":`, 'g'))).toHaveLength(2);
    }
  });

  it('are what a request would meet', async () => {
    const token = await holding(
      'path "secret/data/app/*" { capabilities = ["read", "create", "update"] }\npath "secret/metadata/app/*" { capabilities = ["list"] }\npath "secret/data/app/web/*" { capabilities = ["deny"] }',
    );
    const self = await v1(
      'POST',
      'sys/capabilities-self',
      {
        paths: [
          'secret/data/app/db',
          'secret/metadata/app/',
          'secret/data/app/web/key',
          'secret/data/other',
          'auth/token/lookup-self',
        ],
      },
      token,
    );
    expect(self.json.data).toEqual({
      'secret/data/app/db': ['create', 'patch', 'read', 'update'],
      'secret/metadata/app/': ['list'],
      'secret/data/app/web/key': ['deny'],
      'secret/data/other': ['deny'],
      'auth/token/lookup-self': ['read', 'update'],
    });
    expect(self.json['secret/data/other']).toEqual(['deny']);
    const one = await v1('POST', 'sys/capabilities', { token, path: 'secret/data/app/db' });
    expect(one.json.data).toEqual({
      'secret/data/app/db': ['create', 'patch', 'read', 'update'],
      capabilities: ['create', 'patch', 'read', 'update'],
    });
    // By its accessor, for whoever may look at it.
    const { accessor } = (await v1('GET', 'auth/token/lookup-self', undefined, token)).json.data;
    const paths = ['secret/data/app/db', 'secret/data/other'];
    const named = await v1('POST', 'sys/capabilities-accessor', { accessor, paths });
    expect(named.json.data).toEqual({
      'secret/data/app/db': ['create', 'patch', 'read', 'update'],
      'secret/data/other': ['deny'],
    });
    expect((await v1('POST', 'sys/capabilities-accessor', { accessor, paths }, token)).status).toBe(403);
    expect(errors(await v1('POST', 'sys/capabilities-self', {}))).toEqual([400, ['paths must be supplied']]);
    expect(errors(await v1('POST', 'sys/capabilities', { token: 'hvs.x', paths: ['a'] }))).toEqual([
      400,
      ['invalid token'],
    ]);
  });
});
