/** database/ under /v1 as administrators of the other server set it up, on a real PostgreSQL. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { isAllowed } from '../src/lease/allowed-role.ts';
import type { TestVault } from './harness.ts';
import { connectWith, quote, type Target, works } from './lease-target.ts';
import { leaseVault } from './lease-vault.ts';
import { errors, v1Of } from './v1.ts';
import { added, tenantId } from './witness.ts';

let t: TestVault;
let target: Target;
let close: () => Promise<void>;
beforeAll(async () => {
  ({ t, target, close } = await leaseVault());
});
afterAll(() => close());

const v1 = v1Of(() => t);

/** As its users write it: the name and the password in fields, placeholders in the URL. */
function connection(more: Record<string, unknown> = {}) {
  const { host, port, database, username, password } = target.config;
  const connection_url = `postgresql://{{username}}:{{password}}@${host}:${port}/${encodeURIComponent(database)}?sslmode=disable`;
  return { plugin_name: 'postgresql-database-plugin', connection_url, username, password, allowed_roles: '*', ...more };
}
const configured = async (name: string, body: unknown) => {
  const answer = await v1('PUT', `database/config/${name}`, body);
  expect(answer.status, answer.text).toBe(204);
};

const CREATION =
  `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; ` +
  `GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";`;
const REVOCATION = `REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "{{name}}"; DROP ROLE IF EXISTS "{{name}}";`;

it('a connection and a role as the documentation has them give a credential that can do what its statements grant', async () => {
  const admin = quote(target.config.username);
  await target.sql.unsafe(`CREATE TABLE public.paid AS SELECT 7 AS n; ALTER TABLE public.paid OWNER TO ${admin}`);
  await configured('pg', connection());
  expect((await v1('LIST', 'database/config')).json.data.keys).toEqual(['pg']);
  const shown = await v1('GET', 'database/config/pg');
  expect(shown.json.data).toMatchObject({
    plugin_name: 'postgresql-database-plugin',
    allowed_roles: ['*'],
    connection_details: {
      username: target.config.username,
      connection_url: expect.stringMatching(
        /^postgresql:\/\/\{\{username\}\}:\{\{password\}\}@127\.0\.0\.1:\d+\/.+sslmode=disable$/,
      ),
    },
  });
  expect(shown.text).not.toContain(target.config.password);
  const role = {
    ...{ db_name: 'pg', creation_statements: CREATION, revocation_statements: [REVOCATION], default_ttl: '10m' },
    ...{ renew_statements: [`ALTER ROLE "{{name}}" VALID UNTIL '{{expiration}}';`], max_ttl: 1200 },
  };
  expect((await v1('POST', 'database/roles/app', role)).status).toBe(204);
  expect((await v1('GET', 'database/roles/app')).json).toMatchObject({
    warnings: null,
    data: {
      ...{ db_name: 'pg', default_ttl: 600, max_ttl: 1200, credential_type: 'password' },
      ...{ creation_statements: [CREATION], revocation_statements: [REVOCATION] },
    },
  });
  const taken = await v1('GET', 'database/creds/app');
  expect(taken.json, taken.text).toMatchObject({ lease_duration: 600, renewable: true });
  t.secrets.add(taken.json.data.password);
  const session = connectWith(target, taken.json.data);
  expect(await session`SELECT n FROM paid`).toEqual([{ n: 7 }]);
  await session.end();
  expect(
    (await v1('PUT', 'sys/leases/renew', { lease_id: taken.json.lease_id, increment: 3600 })).json.lease_duration,
  ).toBeLessThanOrEqual(1200);
  // A change that says one thing leaves the others.
  expect((await v1('POST', 'database/roles/app', { default_ttl: 300 })).status).toBe(204);
  expect((await v1('GET', 'database/roles/app')).json.data).toMatchObject({
    default_ttl: 300,
    max_ttl: 1200,
    creation_statements: [CREATION],
  });
  expect(errors(await v1('DELETE', 'database/config/pg'))[0]).toBe(400);
  expect((await v1('PUT', 'sys/leases/revoke', { lease_id: taken.json.lease_id })).status).toBe(204);
  expect(await works(target, taken.json.data)).toBe(false);
  expect(await target.roles()).toEqual([]);
  expect((await v1('DELETE', 'database/roles/app')).status).toBe(204);
  expect(errors(await v1('GET', 'database/roles/app'))).toEqual([404, []]);
  expect((await v1('DELETE', 'database/roles/app')).status).toBe(204);
  expect((await v1('DELETE', 'database/config/pg')).status).toBe(204);
  expect(errors(await v1('GET', 'database/config/pg'))).toEqual([404, []]);
});

it('a statement that the database refuses is a mistake of the role, and no reason to ask again', async () => {
  await configured('pg-refusing', connection());
  const creation_statements = `${CREATION} GRANT SELECT ON nowhere.nothing TO "{{name}}";`;
  const role = { db_name: 'pg-refusing', creation_statements, revocation_statements: [REVOCATION] };
  expect((await v1('POST', 'database/roles/refusing', role)).status).toBe(204);
  const refused = await v1('GET', 'database/creds/refusing');
  expect(errors(refused)).toEqual([400, [expect.stringMatching(/^The database refused to issue the role \(3F000/)]]);
});

it('a connection serves the roles that it allows, and no other, whoever asks', async () => {
  await configured('few', connection({ allowed_roles: ['few-*', 'one'], verify_connection: undefined }));
  const role = { db_name: 'few', creation_statements: [CREATION] };
  for (const name of ['few-read', 'one', 'other'])
    expect((await v1('POST', `database/roles/${name}`, role)).status).toBe(204);
  for (const name of ['few-read', 'one']) {
    const taken = await v1('GET', `database/creds/${name}`);
    t.secrets.add(taken.json.data.password);
    expect(await works(target, taken.json.data)).toBe(true);
    await v1('PUT', 'sys/leases/revoke', { lease_id: taken.json.lease_id });
  }
  expect(errors(await v1('GET', 'database/creds/other'))).toEqual([400, ['"other" is not an allowed role']]);
  expect((await t.request('POST', '/api/v1/leases', { token: t.admin, body: { role: 'few/other' } })).status).toBe(409);
  // What is not said stays; said to be none, it is none.
  await configured('few', { password: target.config.password });
  expect((await v1('GET', 'database/config/few')).json.data.allowed_roles).toEqual(['few-*', 'one']);
  expect((await t.request('GET', '/api/v1/backends/few', { token: t.admin })).json.allowed_roles).toEqual([
    'few-*',
    'one',
  ]);
  await configured('few', { allowed_roles: [] });
  expect(errors(await v1('GET', 'database/creds/one'))).toEqual([400, ['"one" is not an allowed role']]);
  await configured('none', connection({ allowed_roles: undefined }));
  expect((await v1('GET', 'database/config/none')).json.data.allowed_roles).toEqual([]);
});

it.each([
  ['a*c', 'abc', true],
  ['a*c', 'ac', true],
  ['ab*bc', 'abc', false],
  ['a*b*c', 'a-b-b-c', true],
  ['a*b*c', 'acb', false],
  ['*', 'x', true],
  ['x', 'xx', false],
])('%s allows %s: %s', (pattern, name, allowed) => {
  expect(isAllowed([pattern], name)).toBe(allowed);
});

it('a static role has its password changed by the vault, now and when asked', async () => {
  await configured('pg', connection({ allowed_roles: ['billing'] }));
  await target.sql.unsafe(
    `CREATE ROLE billing_app LOGIN PASSWORD 'first'; GRANT billing_app TO ${quote(target.config.username)} WITH ADMIN OPTION`,
  );
  const body = { db_name: 'pg', username: 'billing_app', rotation_period: '24h' };
  expect(errors(await v1('POST', 'database/static-roles/another', body))).toEqual([
    400,
    ['"another" is not an allowed role'],
  ]);
  const made = await v1('POST', 'database/static-roles/billing', body);
  expect(made.status, made.text).toBe(204);
  expect((await v1('LIST', 'database/static-roles')).json.data.keys).toEqual(['billing']);
  expect((await v1('GET', 'database/static-roles/billing')).json.data).toMatchObject({
    ...{
      db_name: 'pg',
      username: 'billing_app',
      rotation_period: 86_400,
      last_vault_rotation: expect.stringMatching(/Z$/),
    },
  });
  const first = (await v1('GET', 'database/static-creds/billing')).json;
  t.secrets.add(first.data.password);
  expect(first).toMatchObject({ lease_id: '', data: { username: 'billing_app', rotation_period: 86_400 } });
  expect(first.data.ttl).toBeGreaterThan(86_300);
  expect(first.data.ttl).toBeLessThanOrEqual(86_400);
  expect(await works(target, first.data)).toBe(true);
  expect((await v1('POST', 'database/rotate-role/billing')).status).toBe(204);
  const second = (await v1('GET', 'database/static-creds/billing')).json;
  t.secrets.add(second.data.password);
  expect(await works(target, first.data)).toBe(false);
  expect(await works(target, second.data)).toBe(true);
  expect(errors(await v1('GET', 'database/static-creds/absent'))).toEqual([400, ['unknown role: absent']]);
  expect(errors(await v1('POST', 'database/rotate-role/absent'))).toEqual([
    400,
    ['no static role found for role name'],
  ]);
  expect((await v1('DELETE', 'database/static-roles/billing')).status).toBe(204);
  expect((await v1('DELETE', 'database/static-roles/billing')).status).toBe(204);
  expect(await works(target, second.data)).toBe(true);
});

it('a reset leaves the connections of every node, and is the gate’s to allow', async () => {
  await configured('pg', connection());
  const before = (await t.owner`SELECT revision FROM backends WHERE name = 'pg'`)[0]!.revision;
  expect((await v1('PUT', 'database/reset/pg')).status).toBe(204);
  expect((await t.owner`SELECT revision FROM backends WHERE name = 'pg'`)[0]!.revision).toBe(Number(before) + 1);
  expect(errors(await v1('PUT', 'database/reset/absent'))).toEqual([400, ['no connection named "absent"']]);
  const policy =
    'path "database/creds/app" { capabilities = ["read"] } path "database/config/*" { capabilities = ["read", "list"] }';
  await v1('PUT', 'sys/policies/acl/db-app', { policy });
  const { client_token: token } = (await v1('POST', 'auth/token/create', { policies: ['db-app'] })).json.auth;
  expect((await v1('GET', 'database/config/pg', undefined, token)).status).toBe(200);
  for (const [method, path] of [
    ...[
      ['PUT', 'database/reset/pg'],
      ['PUT', 'database/config/pg'],
      ['DELETE', 'database/config/pg'],
    ],
    ...[
      ['PUT', 'database/roles/app'],
      ['DELETE', 'database/roles/app'],
      ['PUT', 'database/static-roles/app'],
    ],
    ...[
      ['GET', 'database/static-creds/app'],
      ['PUT', 'database/rotate-role/app'],
      ['GET', 'database/roles/app'],
    ],
  ] as const) {
    const about = path.startsWith('database/config')
      ? connection()
      : { db_name: 'pg', username: 'x', rotation_period: 3600, creation_statements: CREATION };
    const body = method === 'PUT' ? about : undefined;
    expect([path, ...errors(await v1(method!, path!, body, token))]).toEqual([
      path,
      403,
      [expect.stringContaining('permission denied')],
    ]);
  }
  const paths = ['database/config/pg', 'database/roles/app', 'database/creds/app', 'database/static-creds/app'];
  expect((await v1('POST', 'sys/capabilities-self', { paths }, token)).json.data).toMatchObject({
    'database/config/pg': ['read'],
    'database/roles/app': ['deny'],
    'database/creds/app': ['read'],
    'database/static-creds/app': ['deny'],
  });
});

it('who may write a connection or a role writes it, and a write that leaves something out keeps it', async () => {
  await configured('pg', connection({ allowed_roles: ['app'] }));
  const native = {
    kind: 'postgres',
    config: { ...target.config, password: undefined },
    allowed_roles: ['app'],
    max_ttl: '2h',
  };
  expect((await t.request('PUT', '/api/v1/backends/pg', { token: t.admin, body: native })).status).toBe(200);
  const policy = ['config', 'roles', 'static-roles'].map(
    (place) => `path "database/${place}/*" { capabilities = ["create", "update"] }`,
  );
  await v1('PUT', 'sys/policies/acl/db-writer', { policy: policy.join('\n') });
  const { client_token: token } = (await v1('POST', 'auth/token/create', { policies: ['db-writer'] })).json.auth;
  const changed = await v1(
    'PUT',
    'database/config/pg',
    { username: target.config.username, password: target.config.password },
    token,
  );
  expect([changed.status, changed.text]).toEqual([204, '']);
  expect((await t.request('GET', '/api/v1/backends/pg', { token: t.admin })).json).toMatchObject({
    allowed_roles: ['app'],
    max_ttl: 7200,
  });
  const role = { db_name: 'pg', creation_statements: CREATION, max_ttl: '1h' };
  expect((await v1('PUT', 'database/roles/app', role, token)).status).toBe(204);
  expect((await v1('PUT', 'database/roles/app', { default_ttl: '5m' }, token)).status).toBe(204);
  expect((await v1('GET', 'database/roles/app')).json.data).toMatchObject({ max_ttl: 3600, default_ttl: 300 });
  expect((await v1('GET', 'database/creds/app', undefined, token)).status).toBe(403);
  const long = { ...role, creation_statements: `${CREATION}${'/*'.repeat(9000)}` };
  expect(errors(await v1('PUT', 'database/roles/app', long))).toEqual([
    400,
    ['creation_statements: expected at most 16384 characters'],
  ]);
});

it('every act is the native one in the log, and says by which protocol it was asked for', async () => {
  const tenant = await tenantId(t.owner, 'default');
  const acts = async (...asked: [method: string, path: string, body?: unknown][]) => {
    const { entries } = await added(t.owner, tenant, async () => {
      for (const [method, path, body] of asked) {
        const answer = await v1(method, path, body);
        expect([method, path, answer.status < 300]).toEqual([method, path, true]);
        if (answer.json?.data?.password) t.secrets.add(answer.json.data.password);
      }
    });
    expect(entries).toEqual(entries.map(() => expect.objectContaining({ protocol: 'vault' })));
    return [...new Set(entries.map(({ action, resource }) => `${action} ${resource}`))];
  };
  expect(await acts(['PUT', 'database/config/pg', connection()], ['PUT', 'database/reset/pg'])).toEqual([
    ...['backend.read backend:pg', 'backend.write backend:pg'],
  ]);
  const role = { db_name: 'pg', creation_statements: CREATION };
  expect(await acts(['PUT', 'database/roles/app', role], ['GET', 'database/creds/app'])).toEqual([
    ...['role.read role:app', 'role.write role:app', 'lease.create lease:pg/app', 'lease.issue lease:pg/app'],
  ]);
  const fixed = { db_name: 'pg', username: 'billing_app', rotation_period: '24h' };
  const of = ['read', 'write', 'rotate', 'reveal'].map((verb) => `account.${verb} account:billing`);
  expect(await acts(['PUT', 'database/static-roles/billing', fixed], ['GET', 'database/static-creds/billing'])).toEqual(
    of,
  );
  expect(
    await acts(
      ['DELETE', 'database/static-roles/billing'],
      ['DELETE', 'database/roles/app?revoke=true'],
      ['DELETE', 'database/config/pg'],
    ),
  ).toEqual(
    expect.arrayContaining(['account.delete account:billing', 'role.delete role:app', 'backend.delete backend:pg']),
  );
});

it('what would not be done as it is asked is refused by its name, and a URL is never repeated', async () => {
  const of = async (body: unknown) => errors(await v1('PUT', 'database/config/bad', body));
  expect(await of({ plugin_name: 'mongodb-database-plugin' })).toEqual([
    400,
    [expect.stringMatching(/^plugin not found in the catalog/)],
  ]);
  expect(await of({})).toEqual([400, ['empty plugin name']]);
  for (const name of [
    'root_rotation_statements',
    'password_policy',
    'username_template',
    'tls_certificate',
    'private_key',
  ]) {
    expect(await of(connection({ [name]: 'x' }))).toEqual([400, [`${name} is not supported`]]);
  }
  for (const connection_url of [
    'postgresql://u:leaked@host/',
    'postgresql://u:leaked@host/db?sslrootcert=/etc/x',
    'host=h password=leaked',
    'postgresql://u:lea%GGked@host/db',
  ]) {
    const [status, texts] = await of(connection({ connection_url }));
    expect([status, texts[0]]).toEqual([400, expect.stringMatching(/^connection_url: expected postgresql:/)]);
    expect(texts[0]).not.toContain('leaked');
  }
  const warned = await v1(
    'PUT',
    'database/config/pg',
    connection({ verify_connection: false, max_open_connections: 4 }),
  );
  expect(warned.json.warnings).toEqual([
    expect.stringContaining('always tried'),
    'Endpoint ignored these unrecognized parameters: [max_open_connections]',
  ]);
  const role = async (body: Record<string, unknown>) =>
    errors(await v1('PUT', 'database/roles/bad', { db_name: 'pg', creation_statements: CREATION, ...body }));
  for (const body of [
    { creation_statements: `CREATE ROLE "{{name}}" WITH SUPERUSER LOGIN PASSWORD '{{password}}'` },
    { creation_statements: `CREATE ROLE "{{name}}" LOGIN` },
    { creation_statements: `GRANT x TO "{{name}}"` },
    { creation_statements: [] },
    { creation_statements: `${CREATION} SELECT pg_sleep(1) WHERE '{{name}}' = 'x'` },
    { creation_statements: `${CREATION} ALTER ROLE "{{name}}" PASSWORD '{{password}}'` },
    { rollback_statements: ['DROP ROLE "{{name}}"'] },
    { renew_statements: ['SELECT 1'] },
    { credential_type: 'rsa_private_key' },
    { credential_config: { password_policy: 'x' } },
  ]) {
    expect([body, (await role(body))[0]]).toEqual([body, 400]);
  }
  expect(await role({ db_name: 'absent' })).toEqual([400, ['db_name: there is no connection "absent"']]);
  const fixed = async (body: Record<string, unknown>) =>
    errors(
      await v1('PUT', 'database/static-roles/bad', {
        db_name: 'pg',
        username: 'billing_app',
        rotation_period: 3600,
        ...body,
      }),
    );
  expect((await fixed({ rotation_schedule: '0 0 * * 6' }))[1]).toEqual([
    'rotation_schedule is not supported: use rotation_period',
  ]);
  expect((await fixed({ rotation_period: 0 }))[1]).toEqual(['rotation_period is required to create static accounts']);
  expect((await fixed({ db_name: 'absent' }))[1]).toEqual(['db_name: there is no connection "absent"']);
  expect(errors(await v1('PUT', 'database/rotate-root/absent'))).toEqual([400, ['no connection named "absent"']]);
});
