/** Tenants and keys through the verbs: states, names used again, rotations at once, damaged and wrong keys. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { login } from '../src/auth/login.ts';
import { createUser } from '../src/auth/user.ts';
import { loadConfig } from '../src/config.ts';
import { asTenantId, type Endpoint, type TenantId } from '../src/db/database.ts';
import { migrate } from '../src/db/migrate.ts';
import { type FirstCredentials, initialise } from '../src/job/initialise.ts';
import { ENVELOPE_TABLES, rotateKey, rotateRoot } from '../src/job/reencrypt.ts';
import { createTenant, deleteTenant } from '../src/job/tenant.ts';
import { readSecret } from '../src/policy/read.ts';
import { putPolicy } from '../src/policy/store.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { listRootKeys } from '../src/tenant/root-key.ts';
import { listDataKeys } from '../src/tenant/rotation.ts';
import { listTenants, readTenant, updateTenant } from '../src/tenant/tenant.ts';
import { closeVault, openVault, type Vault } from '../src/vault.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { CHEAP_ARGON2 } from './setup.ts';
import { codeOf, entriesOf, errorOf, hold, rowsHash, tenantId, text, textOf, waiting } from './witness.ts';

let t: TestVault;
let tenant: TenantId;

beforeAll(async () => {
  t = await testVault({ env: { BULLA_HASH_QUEUE_MAX: '500' } });
  tenant = await tenantId(t.owner, 'default');
});
afterAll(() => t.close());

const op = () => t.call(t.operator);
const create = (name: string) => createTenant(t.vault, op(), { name });
const put = (token: string, path: string, body: string, vault = t.vault) =>
  putSecret(vault, t.call(token), parsePath(path), text(body));
const value = (token: string, path: string, vault = t.vault) =>
  readSecret(vault, t.call(token), parsePath(path), 0).then(textOf, (error: { code: string }) => error.code);
const state = (name: string) =>
  readTenant(t.vault, op(), name).then(
    (found) => found.state,
    (error: { code: string }) => error.code,
  );

describe('a tenant’s life', () => {
  it('is made whole, with a one-time password; its name is taken while it is there', async () => {
    const made = await create('made');
    expect(made.admin.oneTimePassword).toMatch(/^[a-z2-7]{5}(-[a-z2-7]{5}){4}$/);
    expect(await codeOf(create('made'))).toBe('conflict');
    expect(await codeOf(create('system'))).toBe('conflict');
    for (const name of ['', 'Made', 'a b', '../x', 'x'.repeat(64), 'ünï', '-a', 'a\0']) {
      expect(await codeOf(create(name)), name).toBe('invalid_request');
    }
    expect((await Promise.all([create('race'), create('race'), create('race')].map(codeOf))).sort()).toEqual([
      'conflict',
      'conflict',
      'ok',
    ]);
    expect((await listTenants(t.vault, op(), {})).items.filter(({ name }) => name === 'race')).toHaveLength(1);
    const [log] = await entriesOf(t.owner, made.id);
    expect(log).toMatchObject({ seq: 0, action: 'tenant.create', actor: { name: 'operator' }, outcome: 'ok' });
  });

  it('T-072 is the operators’ alone, whatever a tenant’s policies say', async () => {
    const user = await t.user('ambitious', ['admin'], [{ effect: 'allow', actions: ['*'], resources: ['**'] }]);
    const call = t.call(user);
    const before = await rowsHash(t.owner, 'system', []);
    const acts = [
      createTenant(t.vault, call, { name: 'mine' }),
      listTenants(t.vault, call, {}),
      readTenant(t.vault, call, 'default'),
      readTenant(t.vault, call, 'no-such'),
      updateTenant(t.vault, call, 'default', { state: 'suspended' }),
      deleteTenant(t.vault, call, 'default'),
      rotateRoot(t.vault, call),
      listRootKeys(t.vault, call, {}),
    ];
    expect(new Set(await Promise.all(acts.map(codeOf)))).toEqual(new Set(['forbidden']));
    expect(await rowsHash(t.owner, 'system', [])).toBe(before);
  });

  it('suspended it answers nothing, resumed everything again; the system tenant never is', async () => {
    const admin = await t.tenant('pausing');
    await put(admin, 'a', 'x');
    await updateTenant(t.vault, op(), 'pausing', { state: 'suspended' });
    const acts = [
      put(admin, 'a', 'y'),
      readSecret(t.vault, t.call(admin), parsePath('a'), 0),
      listDataKeys(t.vault, t.call(admin), {}, ENVELOPE_TABLES),
    ];
    expect(new Set(await Promise.all(acts.map(codeOf)))).toEqual(new Set(['tenant_suspended']));
    await updateTenant(t.vault, op(), 'pausing', { state: 'active' });
    expect(await value(admin, 'a')).toBe('x');
    expect(await codeOf(updateTenant(t.vault, op(), 'system', { state: 'suspended' }))).toBe('conflict');
    expect(await codeOf(deleteTenant(t.vault, op(), 'system'))).toBe('conflict');
    expect(await codeOf(updateTenant(t.vault, op(), 'no-such', { state: 'active' }))).toBe('not_found');
    expect(await codeOf(deleteTenant(t.vault, op(), 'no-such'))).toBe('not_found');
  });

  it('T-077 deleted it is gone for every route, its name shows nothing old, and its log stays', async () => {
    const admin = await t.tenant('short-lived');
    const old = await tenantId(t.owner, 'short-lived');
    await put(admin, 'old/secret', 'of the old tenant');
    await createUser(t.vault, t.call(admin), { username: 'old-user', password: PASSWORD });
    await putPolicy(t.vault, t.call(admin), 'old-policy', { rules: [] });
    await deleteTenant(t.vault, op(), 'short-lived');
    expect(await value(admin, 'old/secret')).toBe('unauthenticated');
    expect(await state('short-lived')).toBe('not_found');
    for (const table of ['users', 'tokens', 'policies', 'secrets', 'secret_versions', 'data_key_material']) {
      expect(await t.owner`SELECT 1 FROM ${t.owner(table)} WHERE tenant_id = ${old}`, table).toHaveLength(0);
    }
    expect((await entriesOf(t.owner, old)).length).toBeGreaterThan(3);
    const again = await t.tenant('short-lived');
    expect(await tenantId(t.owner, 'short-lived')).not.toBe(old);
    expect(await value(again, 'old/secret')).toBe('not_found');
    expect(await codeOf(t.login('short-lived', 'old-user'))).toBe('login_failed');
    expect(await value(admin, 'old/secret')).toBe('unauthenticated');
    await t.check();
  });

  it('a suspension or resumption that a deletion overtakes never brings it back', async () => {
    await t.tenant('contested');
    const id = await tenantId(t.owner, 'contested');
    // The operator's resumption has read the directory and waits for the row; the deletion commits first.
    const release = await hold(t.owner, `SELECT 1 FROM tenants WHERE tenant_id = '${id}' FOR UPDATE`);
    const deletion = codeOf(deleteTenant(t.vault, op(), 'contested'));
    await waiting(t.owner, 1);
    const resumption = codeOf(updateTenant(t.vault, op(), 'contested', { state: 'active' }));
    await waiting(t.owner, 2).finally(release);
    expect(await deletion).toBe('ok');
    expect(['conflict', 'not_found']).toContain(await resumption);
    expect((await t.owner`SELECT state FROM tenants WHERE tenant_id = ${id}`)[0]!.state).not.toBe('active');
  });
});

describe('rotation', () => {
  it('a new data key serves new writes, the old one opens what it sealed; only the root key of now wraps', async () => {
    await put(t.admin, 'r/old', 'under one');
    await rotateKey(t.vault, t.call(t.admin), { reencrypt: false });
    await put(t.admin, 'r/new', 'under two');
    const other = await t.node();
    const rotation = await rotateRoot(other, op());
    const fresh = await t.node();
    for (const node of [t.vault, other, fresh]) {
      expect([await value(t.admin, 'r/old', node), await value(t.admin, 'r/new', node)]).toEqual([
        'under one',
        'under two',
      ]);
      await put(t.admin, 'r/again', 'x', node);
    }
    const keys = (await listDataKeys(t.vault, t.call(t.admin), {}, ENVELOPE_TABLES)).items;
    expect(keys.map(({ version, state, rootVersion }) => [version, state, rootVersion])).toEqual([
      [2, 'active', rotation.version],
      [1, 'decrypt_only', rotation.version],
    ]);
    expect(await t.owner`SELECT version FROM root_key_material`).toEqual([{ version: rotation.version }]);
    expect((await listRootKeys(t.vault, op(), {})).items.map(({ state }) => state)).toEqual(['active', 'destroyed']);
    await t.check();
  });

  it('T-192 many rotations at once: one wins at a time, no orphan, one active key, and all else goes on', async () => {
    const busy = await t.node({ env: { BULLA_KEY_CACHE_TTL: '1s' } });
    const admin = await t.tenant('turning');
    const id = await tenantId(t.owner, 'turning');
    await put(admin, 'a', 'still there');
    const roots = Array.from({ length: 4 }, (_, i) => codeOf(rotateRoot(i % 2 ? t.vault : busy, op())));
    const keys = Array.from({ length: 8 }, (_, i) =>
      codeOf(rotateKey(i % 2 ? t.vault : busy, t.call(admin), { reencrypt: false })),
    );
    const made = Array.from({ length: 4 }, (_, i) =>
      codeOf(createTenant(i % 2 ? t.vault : busy, op(), { name: `turn-${i}` })),
    );
    const work = Array.from({ length: 30 }, (_, i) =>
      i % 3 ? value(admin, 'a', busy) : put(admin, `w/${i}`, 'x', busy).then(() => 'written'),
    );
    const logins = Array.from({ length: 4 }, () => codeOf(t.login('turning', 'admin')));
    const rotated = await Promise.all(roots);
    // On a slow machine one may have waited for the others until its deadline.
    for (const code of rotated) expect(['ok', 'conflict', 'unavailable']).toContain(code);
    expect(rotated).toContain('ok');
    for (const code of await Promise.all(keys)) expect(['ok', 'conflict']).toContain(code);
    for (const [i, code] of (await Promise.all(made)).entries()) {
      // Whoever waited too long is told so, and nothing of the tenant is there.
      expect(['ok', 'unavailable']).toContain(code);
      if (code !== 'ok') expect(await codeOf(createTenant(t.vault, op(), { name: `turn-${i}` }))).toBe('ok');
    }
    expect(new Set(await Promise.all(work))).toEqual(new Set(['still there', 'written']));
    expect(await Promise.all(logins)).toEqual(['ok', 'ok', 'ok', 'ok']);
    const active = await t.owner`SELECT tenant_id, count(*)::int AS n FROM data_keys WHERE state = 'active' GROUP BY 1`;
    expect(new Set(active.map(({ n }) => n))).toEqual(new Set([1]));
    const versions =
      await t.owner`SELECT count(*)::int AS keys, max(version) AS newest FROM data_keys WHERE tenant_id = ${id}`;
    expect(versions[0]!.keys).toBe(versions[0]!.newest);
    expect(await t.owner`SELECT 1 FROM root_keys WHERE state = 'active'`).toHaveLength(1);
    expect(await t.owner`SELECT 1 FROM root_key_material`).toHaveLength(1);
    const fresh = await t.node();
    expect(await value(admin, 'a', fresh)).toBe('still there');
    await t.check();
  });

  it('a tenant that is half deleted does not stand in the way of a root rotation', async () => {
    await t.tenant('half');
    const id = await tenantId(t.owner, 'half');
    await t.owner`UPDATE tenants SET state = 'deleting' WHERE tenant_id = ${id}`;
    await t.owner`UPDATE data_key_material SET wrapped = NULL WHERE tenant_id = ${id}`;
    expect(await codeOf(rotateRoot(t.vault, op()))).toBe('ok');
    expect(await codeOf(deleteTenant(t.vault, op(), 'half'))).toBe('ok');
  });

  it('a rotation that fails leaves the keys as they were', async () => {
    const before = await rowsHash(t.owner, 'system', ['audit_heads', 'audit_segments', 'audit_leaves', 'tokens']);
    const [kept] = await t.owner`SELECT wrapped FROM data_key_material WHERE tenant_id = ${tenant} AND version = 1`;
    await t.owner`UPDATE data_key_material SET wrapped = set_byte(wrapped, 80, get_byte(wrapped, 80) # 1) WHERE tenant_id = ${tenant} AND version = 1`;
    expect(await codeOf(rotateRoot(t.vault, op()))).toBe('integrity');
    expect(await rowsHash(t.owner, 'system', ['audit_heads', 'audit_segments', 'audit_leaves', 'tokens'])).toBe(before);
    await t.owner`UPDATE data_key_material SET wrapped = ${kept!.wrapped} WHERE tenant_id = ${tenant} AND version = 1`;
    expect(await codeOf(rotateRoot(t.vault, op()))).toBe('ok');
  });
});

describe('keys that were touched', () => {
  it('T-008 no wrapped key unwraps in the place of another: tenant, version, kind', async () => {
    const acme = await t.tenant('acme');
    const ids = { acme: await tenantId(t.owner, 'acme') };
    await rotateKey(t.vault, t.call(acme), { reencrypt: false });
    await put(acme, 'a', 'of acme');
    await put(t.admin, 'k/a', 'of default');
    const rows =
      await t.owner`SELECT tenant_id, version, wrapped FROM data_key_material WHERE tenant_id IN (${tenant}, ${ids.acme})`;
    const [pepper] = await t.owner`SELECT wrapped FROM system_key_material WHERE purpose = 'pepper'`;
    const [root] = await t.owner`SELECT wrapped FROM root_key_material`;
    const active = async (of: string) =>
      (await t.owner`SELECT version FROM data_keys WHERE tenant_id = ${of} AND state = 'active'`)[0]!.version;
    for (const [of, token, path] of [
      [tenant, t.admin, 'k/a'],
      [ids.acme, acme, 'a'],
    ] as const) {
      const here = rows.find((row) => row.tenant_id === of)!;
      const own = rows.find((row) => row.tenant_id === of && row.version === here.version)!;
      const version = await active(of);
      const [right] =
        await t.owner`SELECT wrapped FROM data_key_material WHERE tenant_id = ${of} AND version = ${version}`;
      const wrong = rows
        .filter((row) => row.tenant_id !== of || row.version !== version)
        .map(({ wrapped }) => wrapped as Buffer);
      for (const wrapped of [
        ...wrong,
        pepper!.wrapped,
        root!.wrapped,
        Buffer.alloc(0),
        randomBytes(own.wrapped.length),
      ]) {
        await t.owner`UPDATE data_key_material SET wrapped = ${wrapped} WHERE tenant_id = ${of} AND version = ${version}`;
        const node = await t.node();
        expect(await value(token, path, node)).toBe('integrity');
        expect(await codeOf(put(token, path, 'x', node))).toBe('integrity');
        await closeVault(node);
      }
      await t.owner`UPDATE data_key_material SET wrapped = ${right!.wrapped} WHERE tenant_id = ${of} AND version = ${version}`;
    }
    await t.check();
  });

  it('T-025 a wrong seal key is refused with both fingerprints; a missing one names the one that is expected', async () => {
    const dir = join(t.dataDir, 'elsewhere');
    mkdirSync(dir, { mode: 0o700 });
    const open = () =>
      openVault({
        config: loadConfig(CHEAP_ARGON2),
        target: t.app,
        setRole: false,
        dataDir: dir,
        log: pino({ level: 'silent' }),
      });
    const missing = await errorOf(open());
    expect(missing.code).toBe('sealed');
    expect(missing.message).toMatch(/ENOENT.*[0-9a-f]{16}/s);
    const key = randomBytes(32).toString('base64');
    writeFileSync(join(dir, 'seal.key'), `bulla-seal-key-v1:${key}\n`, { mode: 0o600 });
    const wrong = await errorOf(open());
    expect(wrong.code).toBe('sealed');
    expect(wrong.message.match(/[0-9a-f]{16}/g)).toHaveLength(2);
    expect(wrong.message).not.toContain(key);
    rmSync(dir, { recursive: true });
  });
});

describe('the first start', () => {
  it('T-054 two at once on one fresh database: one vault, one set of credentials, and they work', async () => {
    const { owner, app, directory, sealFile } = inject('server');
    const database = `f_${randomBytes(5).toString('hex')}`;
    const sql = postgres({ ...owner, max: 1, onnotice: () => undefined });
    await sql.unsafe(`CREATE DATABASE ${database}`);
    const target: Endpoint = { ...app, database };
    await Promise.all([migrate({ ...owner, database }), migrate({ ...owner, database })]);
    const config = loadConfig({ ...CHEAP_ARGON2, BULLA_SEAL_FILE: sealFile });
    const vaults: Vault[] = [];
    try {
      const kept: string[] = [];
      const start = async () => {
        const vault = await openVault({
          config,
          target,
          setRole: false,
          dataDir: directory,
          log: pino({ level: 'silent' }),
        });
        vaults.push(vault);
        return initialise(
          vault,
          () => void kept.push('kept'),
          () => void kept.push('discarded'),
        );
      };
      const made = (await Promise.all([start(), start(), start()])).filter(
        (one) => one !== undefined,
      ) as FirstCredentials[];
      expect(made).toHaveLength(1);
      // Whoever was not first has thrown its credentials away again.
      const times = (what: string) => kept.filter((one) => one === what).length;
      expect(times('kept') - times('discarded')).toBe(1);
      const passwords = [made[0]!.system.password, made[0]!.default.password];
      expect(new Set(passwords).size).toBe(2);
      for (const vault of vaults) expect(await initialise(vault, () => undefined)).toBeUndefined();
      for (const vault of vaults) {
        for (const account of [made[0]!.system, made[0]!.default]) {
          expect((await login(vault, t.call(), account)).passwordChangeRequired).toBe(true);
        }
      }
      expect(new Set(vaults.map(({ deploymentId }) => deploymentId)).size).toBe(1);
    } finally {
      await Promise.all(vaults.map(closeVault));
      await sql.unsafe(`DROP DATABASE ${database} WITH (FORCE)`);
      await sql.end();
    }
  });

  it('an id is checked wherever it could reach a statement', () => {
    for (const id of ['', 'System', "system'; --", 'a'.repeat(17), 'AAAAAAAAAAAAAAAA'])
      expect(() => asTenantId(id)).toThrow();
  });
});
