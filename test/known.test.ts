/** What reads know of a tenant: nothing is read twice while nothing has changed, and nothing is known once something has. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LIMITS } from '../src/config.ts';
import type { TenantId } from '../src/db/database.ts';
import { laterBy } from '../src/db/timestamp.ts';
import type { VaultError } from '../src/errors.ts';
import type { AccessRow } from '../src/policy/access.ts';
import { createKnownTenants } from '../src/policy/known.ts';
import type { VersionRow } from '../src/policy/opened.ts';
import { readSecret } from '../src/policy/read.ts';
import { parsePath } from '../src/secret/path.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';
import { added, hold, tenantId, textOf, waiting } from './witness.ts';

let t: TestVault;
/** The node that reads; whatever is changed over HTTP is changed by another one. */
let reader: Vault;
let tenant: TenantId;

beforeAll(async () => {
  t = await testVault();
  reader = await t.node();
  tenant = await tenantId(t.owner, 'default');
});
afterAll(() => t.close());

const READ_ALL = [{ effect: 'allow', actions: ['secret.read'], resources: ['secret:**'] }];

const read = (token: string, path: string) =>
  readSecret(reader, t.call(token), parsePath(path), 0).then(textOf, (error: VaultError) => error.code);

async function ask(method: string, path: string, body?: unknown, token = t.admin) {
  const answer = await t.request(method, `/api/v1/${path}`, { token, ...(body === undefined ? {} : { body }) });
  expect([200, 201, 204], `${method} ${path}: ${answer.text}`).toContain(answer.status);
}
const put = (path: string, text: string) => ask('PUT', `secrets/${path}`, { text });

/** As often as a head goes unguessed when others have moved it for long, and then some. */
const READS_UNTIL_KNOWN = 70;

/** Reads until all of it is known, and shows that it is: the rows cannot be read any more. */
async function know(token: string, path: string): Promise<void> {
  const value = await read(token, path);
  for (let i = 0; i < READS_UNTIL_KNOWN; i += 1) expect(await read(token, path)).toBe(value);
  const release = await hold(t.owner, 'LOCK TABLE tokens, users, policies, secrets, secret_versions, secret_metadata');
  try {
    expect(await read(token, path)).toBe(value);
  } finally {
    await release();
  }
}

describe('while nothing changes', () => {
  it('nothing is read again, each read has its entry, and what is not known yet is read', async () => {
    await put('still/known', 'x');
    await put('still/unknown', 'y');
    await know(t.admin, 'still/known');
    const release = await hold(t.owner, 'LOCK TABLE secret_versions');
    let unknown: Promise<string>;
    try {
      const { value, entries } = await added(t.owner, tenant, () =>
        Promise.all(Array.from({ length: 5 }, () => read(t.admin, 'still/known'))),
      );
      expect(value).toEqual(['x', 'x', 'x', 'x', 'x']);
      expect(entries.map(({ action, resource, version }) => `${action} ${resource} ${version}`)).toEqual(
        value.map(() => 'secret.read secret:still/known 1'),
      );
      unknown = read(t.admin, 'still/unknown');
      await waiting(t.owner, 1);
    } finally {
      await release();
    }
    expect(await unknown).toBe('y');
    await t.check();
  });

  it('another token, or a wrong one of the same name, is not believed for it', async () => {
    await put('still/mine', 'x');
    await know(t.admin, 'still/mine');
    const stranger = await t.user('still-stranger', []);
    expect(await read(stranger, 'still/mine')).toBe('forbidden');
    const wrong = `${t.admin.slice(0, -1)}${t.admin.endsWith('A') ? 'B' : 'A'}`;
    expect(await read(wrong, 'still/mine')).toBe('unauthenticated');
    expect(await read(t.admin, 'still/mine')).toBe('x');
  });
});

describe('what another node changes is seen by the next read', () => {
  const changes: Record<
    string,
    { change: (name: string) => Promise<void>; heard: string; undo?: () => Promise<void> }
  > = {
    'a new version': { change: (name) => put(`next/${name}`, 'second'), heard: 'second' },
    'a deleted version': { change: (name) => ask('DELETE', `secrets/next/${name}`), heard: 'not_found' },
    'a secret that moved away': {
      change: (name) => ask('POST', 'move', { from: `next/${name}`, to: `gone/${name}` }),
      heard: 'not_found',
    },
    'a token that has ended': {
      change: async (name) => ask('POST', 'auth/logout', undefined, tokens.get(name)),
      heard: 'unauthenticated',
    },
    'an account that is disabled': {
      change: (name) => ask('PATCH', `users/${name}`, { disabled: true }),
      heard: 'unauthenticated',
    },
    'a policy that changed': { change: (name) => ask('PUT', `policies/${name}`, { rules: [] }), heard: 'forbidden' },
    'a policy taken away': { change: (name) => ask('PATCH', `users/${name}`, { policies: [] }), heard: 'forbidden' },
    'a suspended tenant': {
      change: () => ask('PATCH', 'tenants/default', { state: 'suspended' }, t.operator),
      heard: 'tenant_suspended',
      undo: () => ask('PATCH', 'tenants/default', { state: 'active' }, t.operator),
    },
    'a second factor that is required': {
      change: (name) => ask('PATCH', `users/${name}`, { mfa_required: true }),
      heard: 'mfa_required',
    },
    'a sealed vault': {
      change: async () => void (await t.owner`UPDATE seals SET sealed_at = now()`),
      heard: 'sealed',
      undo: async () => void (await t.owner`UPDATE seals SET sealed_at = NULL`),
    },
  };
  const tokens = new Map<string, string>();

  it.each(Object.keys(changes))('%s', async (what) => {
    const name = what.replaceAll(' ', '-');
    const { change, heard, undo } = changes[what]!;
    await put(`next/${name}`, 'first');
    tokens.set(name, await t.user(name, [], READ_ALL));
    await know(tokens.get(name)!, `next/${name}`);
    await change(name);
    try {
      expect(await read(tokens.get(name)!, `next/${name}`)).toBe(heard);
    } finally {
      await undo?.();
    }
  });

  it('a rate, and that it was lifted', async () => {
    await put('next/rate', 'x');
    const token = await t.user('rated', [], READ_ALL);
    await know(token, 'next/rate');
    await ask('PATCH', 'tenants/default', { quotas: { account_requests_per_second: 1 } }, t.operator);
    const answers = await Promise.all(Array.from({ length: 6 }, () => read(token, 'next/rate')));
    expect(new Set(answers)).toEqual(new Set(['x', 'too_many_requests']));
    await ask('PATCH', 'tenants/default', { quotas: { account_requests_per_second: null } }, t.operator);
    expect(await read(token, 'next/rate')).toBe('x');
  });

  it('no read that begins after a write was answered is of before, on either of two nodes, however many read', async () => {
    const path = 'next/race';
    let written = 0;
    await put(path, '0');
    let isOver = false;
    const stale: string[] = [];
    const readers = [reader, t.vault].flatMap((vault) =>
      Array.from({ length: 6 }, async () => {
        while (!isOver) {
          const least = written;
          const got = Number(textOf(await readSecret(vault, t.call(t.admin), parsePath(path), 0)));
          if (got < least) stale.push(`${got} after ${least}`);
        }
      }),
    );
    for (let i = 1; i <= 150; i += 1) {
      await put(path, String(i));
      written = i;
    }
    isOver = true;
    await Promise.all(readers);
    expect(stale).toEqual([]);
  });
});

describe('what is changed by hand, in SQL, is seen by the next read', () => {
  const of = (name: string) =>
    `tenant_id = '${tenant}' AND user_id = (SELECT user_id FROM users WHERE name = '${name}')`;
  const versionOf = (name: string) =>
    `tenant_id = '${tenant}' AND secret_id = (SELECT secret_id FROM secrets WHERE path = 'hand/${name}')`;
  const changes: Record<string, readonly [sql: (name: string) => string, heard: string]> = {
    tokens: [(name) => `DELETE FROM tokens WHERE ${of(name)}`, 'unauthenticated'],
    users: [(name) => `UPDATE users SET disabled = true WHERE ${of(name)}`, 'unauthenticated'],
    policies: [(name) => `DELETE FROM policies WHERE tenant_id = '${tenant}' AND name = '${name}'`, 'forbidden'],
    secrets: [(name) => `UPDATE secrets SET path = 'hand/away' WHERE path = 'hand/${name}'`, 'not_found'],
    secret_versions: [
      (name) => `UPDATE secret_versions SET envelope = set_byte(envelope, 70, get_byte(envelope, 70) # 1)
                 WHERE ${versionOf(name)}`,
      'integrity',
    ],
    secret_metadata: [
      (name) => `INSERT INTO secret_metadata (tenant_id, secret_id, key_version, envelope, updated_at)
                 SELECT tenant_id, secret_id, key_version, envelope, now() FROM secret_versions WHERE ${versionOf(name)}`,
      'integrity',
    ],
  };

  it.each(Object.keys(changes))('%s', async (table) => {
    const name = `hand-${table.replace('_', '-')}`;
    const [sql, heard] = changes[table]!;
    await put(`hand/${name}`, 'x');
    const token = await t.user(name, [], READ_ALL);
    await know(token, `hand/${name}`);
    await t.owner.unsafe(sql(name));
    expect(await read(token, `hand/${name}`)).toBe(heard);
    await t.owner`DELETE FROM secrets WHERE path = ${`hand/${name}`}`;
  });

  it('group_members and groups', async () => {
    await put('hand/group', 'x');
    await ask('PUT', 'policies/by-group', { rules: READ_ALL });
    const token = await t.user('hand-member', []);
    await ask('POST', 'groups', { name: 'hand', policies: ['by-group'], members: ['hand-member'] });
    await know(token, 'hand/group');
    await t.owner.unsafe(`UPDATE groups SET policies = '{}' WHERE name = 'hand'`);
    expect(await read(token, 'hand/group')).toBe('forbidden');
    await t.owner.unsafe(`UPDATE groups SET policies = '{by-group}' WHERE name = 'hand'`);
    await know(token, 'hand/group');
    await t.owner.unsafe(`DELETE FROM group_members WHERE ${of('hand-member')}`);
    expect(await read(token, 'hand/group')).toBe('forbidden');
  });

  it('tenants, and a change that is taken back is none', async () => {
    await put('hand/tenant', 'x');
    const token = await t.user('hand-tenant', [], READ_ALL);
    await know(token, 'hand/tenant');
    const rollBack = await hold(t.owner, `DELETE FROM tokens WHERE ${of('hand-tenant')}`);
    await rollBack();
    expect(await read(token, 'hand/tenant')).toBe('x');
    await t.owner.unsafe(`UPDATE tenants SET state = 'suspended' WHERE tenant_id = '${tenant}'`);
    try {
      expect(await read(token, 'hand/tenant')).toBe('tenant_suspended');
    } finally {
      await t.owner.unsafe(`UPDATE tenants SET state = 'active' WHERE tenant_id = '${tenant}'`);
    }
  });
});

describe('time', () => {
  const jump = (seconds: number) =>
    Promise.all(reader.db.idle.map((lane) => lane.sql.unsafe(`SET bulla.clock_offset_seconds = '${seconds}'`)));

  it('a version that is known expires', async () => {
    await ask('PUT', 'secrets/time/short', { text: 'x', ttl: 1 });
    await know(t.admin, 'time/short');
    await expect.poll(() => read(t.admin, 'time/short'), { timeout: 20_000 }).toBe('not_found');
  });

  it('T-200 a clock that jumps is noticed: nothing is decided or recorded by the old one', async () => {
    await put('time/jump', 'x');
    const token = await t.user('time-jump', [], READ_ALL);
    await know(token, 'time/jump');
    await jump(86_400 * 365);
    try {
      expect(await read(token, 'time/jump')).toBe('unauthenticated');
      await jump(60);
      const { value, entries } = await added(t.owner, tenant, () => read(t.admin, 'time/jump'));
      expect(value).toBe('x');
      // Never before the entry of a year ahead.
      expect(Date.parse(entries[0]!.time) - Date.now()).toBeGreaterThan(86_400_000 * 364);
    } finally {
      await jump(0);
    }
    await t.check();
  });

  it('laterBy carries microseconds, over seconds and years', () => {
    expect(laterBy('2026-12-31T23:59:59.999750Z', 0.25)).toBe('2027-01-01T00:00:00.000000Z');
    expect(laterBy('2026-01-02T03:04:05.000001Z', 1234.5678)).toBe('2026-01-02T03:04:06.234569Z');
    expect(laterBy('2026-01-02T03:04:05.000001Z', 0)).toBe('2026-01-02T03:04:05.000001Z');
  });
});

describe('what is kept', () => {
  const headAt = (size: number, changes = 3) => {
    const time = '2026-01-02T03:04:05.000000Z';
    return {
      tenant,
      size,
      frontier: new Uint8Array(),
      aclRevision: 0,
      changes,
      lastTime: time,
      now: time,
      sealed: false,
    };
  };
  const version = (bytes: number) => ({ envelope: new Uint8Array(bytes), metadataEnvelope: null }) as VersionRow;

  it('only what was read under the count that stands, whoever else moves the head', () => {
    const tenants = createKnownTenants(reader);
    tenants.set(headAt(5), reader.db.made);
    const known = tenants.get(tenant)!;
    known.keepVersion('before', version(1), 2);
    known.keepToken('before', {} as AccessRow, 2);
    known.keepVersion('good', version(1), 3);
    tenants.wasRight(known, known.head!, headAt(9), 0);
    expect(known.head!.size).toBe(9);
    tenants.wasWrong(known, known.head!);
    expect(known.head).toBeUndefined();
    tenants.set(headAt(20), reader.db.made);
    known.keepVersion('later', version(1), 3);
    expect(tenants.get(tenant)).toBe(known);
    expect(['before', 'good', 'later'].map((name) => known.version(name) !== undefined)).toEqual([false, true, true]);
    expect(known.token('before')).toBeUndefined();
    // Something has changed: a row says it, or a head.
    known.keepVersion('after', version(1), 4);
    expect(tenants.get(tenant)).toBeUndefined();
    tenants.set(headAt(21, 4), reader.db.made);
    expect(tenants.get(tenant)!.version('good')).toBeUndefined();
    tenants.get(tenant)!.keepVersion('new', version(1), 4);
    tenants.set(headAt(22, 5), reader.db.made);
    expect(tenants.get(tenant)!.version('new')).toBeUndefined();
  });

  it('a head of before in no place of a later one, and a guess that another act has overtaken is no wrong one', () => {
    const tenants = createKnownTenants(reader);
    tenants.set(headAt(5), reader.db.made);
    const known = tenants.get(tenant)!;
    const guess = known.head!;
    tenants.set(headAt(9), reader.db.made);
    tenants.set(headAt(7), reader.db.made);
    tenants.wasWrong(known, guess);
    tenants.wasRight(known, guess, headAt(6), 0);
    expect(known.head!.size).toBe(9);
    tenants.set(headAt(11, 2), reader.db.made);
    expect(tenants.get(tenant)).toBe(known);
    expect(known.head!.size).toBe(9);
  });

  it('nothing of before a connection was made, or of a tenant that was forgotten', () => {
    const tenants = createKnownTenants(reader);
    tenants.set(headAt(5), reader.db.made);
    const known = tenants.get(tenant)!;
    tenants.forget(tenant);
    known.keepVersion('late', version(1), 3);
    expect(known.version('late')).toBeUndefined();
    tenants.set(headAt(5), reader.db.made - 1);
    expect(tenants.get(tenant)).toBeUndefined();
    const db = { ...reader.db };
    const before = createKnownTenants({ clock: reader.clock, db });
    before.set(headAt(5), db.made);
    expect(before.get(tenant)).toBeDefined();
    db.made += 1;
    expect(before.get(tenant)).toBeUndefined();
  });

  it('no more than a few megabytes, of copies', () => {
    const tenants = createKnownTenants(reader);
    const names = Array.from({ length: 2_000 }, (_, i) => String(i));
    let most = 0;
    for (const name of names) {
      if (!tenants.get(tenant)) tenants.set(headAt(5), reader.db.made);
      const known = tenants.get(tenant)!;
      const row = version(16_000);
      known.keepVersion(name, row, 3);
      expect(known.version(name)?.envelope?.buffer).not.toBe(row.envelope!.buffer);
      most = Math.max(most, names.filter((one) => known.version(one)).length);
    }
    expect(most * 16_000).toBeLessThanOrEqual(LIMITS.knownRowsBytesMax);
    expect(most).toBeGreaterThan(400);
  });
});

describe('a transaction of ours that changes what reads rest on', () => {
  const run = (tail: string) => {
    const [connection] = reader.db.idle;
    return connection!.sql
      .unsafe(
        `BEGIN; SET LOCAL bulla.tenants = ',${tenant},';
         UPDATE users SET disabled = disabled WHERE tenant_id = '${tenant}'; ${tail} COMMIT`,
      )
      .catch(async (error: Error) => {
        await connection!.sql.unsafe('ROLLBACK');
        return error.message;
      });
  };
  const count = async () =>
    Number((await t.owner`SELECT changes FROM audit_heads WHERE tenant_id = ${tenant}`)[0]!.changes);

  it('is refused by the database of the tests when it does not count it', async () => {
    expect(await run('')).toContain('the log of');
    expect(await run(`UPDATE audit_heads SET changes = changes + 1 WHERE tenant_id = '${tenant}';`)).not.toContain(
      'the log',
    );
  });

  it('is counted by its entry, and what changes nothing is not', async () => {
    await put('count/x', 'x');
    const before = await count();
    await read(t.admin, 'count/x');
    await t.login('default', 'admin');
    await ask('GET', 'users');
    expect(await count()).toBe(before);
    await put('count/x', 'y');
    expect(await count()).toBe(before + 1);
    await ask('PATCH', 'metadata/count/x', { metadata: { of: 'x' } });
    expect(await count()).toBe(before + 2);
  });
});
