/** What reads know of a tenant: nothing is read twice while nothing has changed, and nothing is known once something has. */
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TenantId } from '../src/db/database.ts';
import { laterBy } from '../src/db/timestamp.ts';
import type { VaultError } from '../src/errors.ts';
import { readSecret } from '../src/policy/read.ts';
import { parsePath } from '../src/secret/path.ts';
import type { Vault } from '../src/vault.ts';
import { type TestVault, testVault } from './harness.ts';
import { added, hold, sizeOf, tenantId, textOf, waiting } from './witness.ts';

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
  readSecret(reader, t.call(token), parsePath(path), 0).then(
    ({ body, metadata }) => `${textOf({ body })}${metadata ? ` ${textOf({ body: metadata })}` : ''}`,
    (error: VaultError) => error.code,
  );

async function ask(method: string, path: string, body?: unknown, token = t.admin) {
  const answer = await t.request(method, `/api/v1/${path}`, { token, ...(body === undefined ? {} : { body }) });
  expect([200, 201, 204], `${method} ${path}: ${answer.text}`).toContain(answer.status);
}
const put = (path: string, text: string) => ask('PUT', `secrets/${path}`, { text });

/** The first leaves a head, the next reads under it, and more come beside what others do. */
const READS_UNTIL_KNOWN = 5;

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
    'other metadata': {
      change: async (name) => {
        await ask('PATCH', `metadata/next/${name}`, { metadata: { of: 'x' } });
        await know(tokens.get(name)!, `next/${name}`);
        await ask('PATCH', `metadata/next/${name}`, { metadata: { of: 'y' } });
      },
      heard: 'first {"of":"y"}',
    },
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
      undo: async () => {
        await t.owner`UPDATE seals SET sealed_at = NULL`;
        // A node that has looked meanwhile has shut.
        await Promise.all([t.vault, reader].map((vault) => vault.seal.follow()));
      },
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

  it.each(['tokens', 'group_members', 'secret_versions'])('%s, emptied at once', async (table) => {
    const own = await testVault();
    try {
      const { vault, admin, owner, call } = own;
      const ask = (path: string, body: object) =>
        own.request(path.startsWith('groups') ? 'POST' : 'PUT', `/api/v1/${path}`, { token: admin, body });
      await ask('secrets/emptied', { text: 'x' });
      await ask('policies/by-group', { rules: READ_ALL });
      const token = await own.user('member', []);
      await ask('groups', { name: 'emptied', policies: ['by-group'], members: ['member'] });
      const get = () => readSecret(vault, call(token), parsePath('emptied'), 0).then(textOf, (error) => error.code);
      for (let i = 0; i < READS_UNTIL_KNOWN; i += 1) expect(await get()).toBe('x');
      await owner.unsafe(`TRUNCATE ${table} CASCADE`);
      const then = { tokens: 'unauthenticated', group_members: 'forbidden', secret_versions: 'not_found' }[table];
      expect(await get()).toBe(then);
    } finally {
      await own.close();
    }
  });

  it('by a session that was opened for the tenant, as the role that serves sees nothing otherwise', async () => {
    await put('hand/serving', 'x');
    const token = await t.user('hand-serving', [], READ_ALL);
    await know(token, 'hand/serving');
    const serving = postgres({
      ...t.app,
      max: 1,
      connection: { search_path: 'bulla', 'bulla.tenants': `,${tenant},` },
    });
    try {
      expect(await serving.unsafe(`DELETE FROM tokens WHERE ${of('hand-serving')} RETURNING 1`)).toHaveLength(1);
    } finally {
      await serving.end();
    }
    expect(await read(token, 'hand/serving')).toBe('unauthenticated');
  });

  it('and nobody waits for whoever has not committed it yet', async () => {
    await put('hand/open', 'x');
    const token = await t.user('hand-open', [], READ_ALL);
    await know(token, 'hand/open');
    const connection = await t.owner.reserve();
    try {
      await connection.unsafe(`BEGIN; DELETE FROM tokens WHERE ${of('hand-open')}`);
      await connection.unsafe(`SET LOCAL statement_timeout = '5s'`);
      const { entries } = await added(t.owner, tenant, async () => expect(await read(token, 'hand/open')).toBe('x'));
      expect(entries).toHaveLength(1);
      await connection.unsafe('COMMIT');
    } finally {
      await connection.unsafe('ROLLBACK');
      connection.release();
    }
    expect(await read(token, 'hand/open')).toBe('unauthenticated');
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

describe('connections', () => {
  it('one that is refused beside a round under way stops none of those that come after', async () => {
    const node = await t.node();
    const get = () =>
      readSecret(node, t.call(t.admin), parsePath('connection/refused'), 0).then(
        textOf,
        (error: VaultError) => error.code,
      );
    await put('connection/refused', 'x');
    for (let i = 0; i < READS_UNTIL_KNOWN; i += 1) expect(await get()).toBe('x');
    expect(node.db.idle).toHaveLength(1);
    const release = await hold(t.owner, 'LOCK TABLE audit_segments');
    const first = get();
    try {
      await waiting(t.owner, 1);
      await t.owner.unsafe(`ALTER DATABASE ${t.app.database} CONNECTION LIMIT 1`);
      expect(await get()).toBe('unavailable');
    } finally {
      await t.owner.unsafe(`ALTER DATABASE ${t.app.database} CONNECTION LIMIT -1`);
      await release();
    }
    expect(await first).toBe('x');
    expect(await get()).toBe('x');
  });

  it('nothing is appended to another log that has come as far, such as of a server that was put in place of the first', async () => {
    const admin = await t.tenant('other-log');
    const other = await tenantId(t.owner, 'other-log');
    await ask('PUT', 'secrets/log', { text: 'x' }, admin);
    for (let i = 0; i < READS_UNTIL_KNOWN; i += 1) expect(await read(admin, 'log')).toBe('x');
    const size = await sizeOf(t.owner, other);
    // The largest subtree stays as it is until the log has twice its size.
    expect(Math.log2(size + 1) % 1).not.toBe(0);
    const flip = () => t.owner<{ largest: Buffer }[]>`
      UPDATE audit_heads SET frontier = set_byte(frontier, 0, get_byte(frontier, 0) # 1) WHERE tenant_id = ${other}
      RETURNING substr(frontier, 1, 32) AS largest`;
    const [there] = await flip();
    expect(await read(admin, 'log')).toBe('x');
    const [after] =
      await t.owner`SELECT substr(frontier, 1, 32) AS largest FROM audit_heads WHERE tenant_id = ${other}`;
    expect(after).toEqual(there);
    await flip();
    await t.check();
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
    await ask('PATCH', 'metadata/count/x', { metadata: { of: 'y' } });
    expect(await count()).toBe(before + 3);
  });
});
