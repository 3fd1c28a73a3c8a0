/** What guesses at passwords are slowed down by, and that no stranger can keep an owner out by guessing. */
import { Secret, TOTP } from 'otpauth';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { login } from '../src/auth/login.ts';
import { changePassword } from '../src/auth/password.ts';
import { confirmFactor, enrolFactor } from '../src/auth/second-factor.ts';
import { type Attempt, countFailure, readCounter, unknownSubject } from '../src/auth/throttle.ts';
import { readSelf } from '../src/auth/token.ts';
import { createUser, readUser, unlockUser } from '../src/auth/user.ts';
import { type TenantId, type Tx, transaction } from '../src/db/database.ts';
import { createApp } from '../src/http/app.ts';
import { listen } from '../src/http/listener.ts';
import { unlockOperatorOnHost, unlockTenantAdmin } from '../src/job/unlock.ts';
import { createGroup } from '../src/policy/group.ts';
import { closeVault, type Vault } from '../src/vault.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { added, codeOf, entriesOf, tenantId } from './witness.ts';

let t: TestVault;
let tenant: TenantId;

beforeAll(async () => {
  t = await testVault({ env: { BULLA_LOGIN_SOURCE_FAILURES_MAX: '10', BULLA_HASH_QUEUE_MAX: '1000' } });
  tenant = await tenantId(t.owner, 'default');
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const wrong = 'a password that is not right';
const HOME = '192.0.2.10';
let strangers = 0;
/** An address that nobody else uses. */
const stranger = () => {
  strangers += 1;
  return `198.51.${strangers >> 8}.${strangers & 255}`;
};
const attempt = (username: string, password: string, source: string, vault: Vault = t.vault) =>
  codeOf(login(vault, { ...t.call(), source }, { tenant: 'default', username, password }));
/** The session of somebody who was let in. */
const enter = (username: string) =>
  login(t.vault, { ...t.call(), source: stranger() }, { tenant: 'default', username, password: PASSWORD });
const make = (username: string) =>
  createUser(t.vault, t.call(t.admin), { username, password: PASSWORD, policies: ['reader'] });
const counters = (username: string) => t.owner`
  SELECT c.* FROM login_counters c JOIN users u ON (c.tenant_id, c.subject) = (u.tenant_id, u.user_id)
  WHERE u.name = ${username} ORDER BY c.kind, c.source`;
const lockedSeconds = async (username: string) => {
  const { lockedUntil } = await readUser(t.vault, t.call(t.admin), username);
  return lockedUntil === null ? 0 : (Date.parse(lockedUntil) - Date.now()) / 1000;
};
const isLocked = async (username: string) => (await lockedSeconds(username)) > 0;
/** What an authenticator shows: `steps` 30 seconds from now. */
const shows = (secret: string, steps = 0) =>
  new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + steps * 30_000 });
const endLocks = (username: string) => t.owner`
  UPDATE login_counters c SET locked_until = bulla.now() FROM users u
  WHERE (c.tenant_id, c.subject) = (u.tenant_id, u.user_id) AND u.name = ${username} AND c.locked_until IS NOT NULL`;
const fail = async (username: string, times: number, source?: string, vault?: Vault) => {
  for (let i = 0; i < times; i += 1) {
    expect(await attempt(username, wrong, source ?? stranger(), vault)).toBe('login_failed');
  }
};

describe('an account', () => {
  it('T-040 a stranger who fails on its name does not keep its owner out, who has logged in from there before', async () => {
    await make('owner');
    expect(await attempt('owner', PASSWORD, HOME)).toBe('ok');
    await fail('owner', 6);
    expect(await lockedSeconds('owner')).toBeGreaterThan(890);
    expect(await attempt('owner', PASSWORD, stranger())).toBe('login_failed');
    expect(await attempt('owner', PASSWORD, HOME)).toBe('ok');
    // The owner's login from home is no reason to let strangers guess on.
    expect(await attempt('owner', PASSWORD, stranger())).toBe('login_failed');
  });

  it('T-040 the owner’s own network has a lock of its own, and the others are not held up by it', async () => {
    await make('clumsy');
    expect(await attempt('clumsy', PASSWORD, HOME)).toBe('ok');
    await fail('clumsy', 5, HOME);
    expect(await attempt('clumsy', PASSWORD, HOME)).toBe('login_failed');
    expect(await attempt('clumsy', PASSWORD, '192.0.2.11')).toBe('ok');
  });

  it('T-039 a network is the owner’s own for 30 days, on every node', async () => {
    await make('seldom');
    expect(await attempt('seldom', PASSWORD, HOME)).toBe('ok');
    await fail('seldom', 5);
    await t.owner`
      UPDATE login_counters c SET locked_until = bulla.now() + interval '60 days' FROM users u
      WHERE subject = user_id AND name = 'seldom' AND source = ''`;
    const nearly = await t.node({ clockOffsetSeconds: 30 * 24 * 3600 - 60 });
    const later = await t.node({ clockOffsetSeconds: 30 * 24 * 3600 + 60 });
    expect(await attempt('seldom', PASSWORD, HOME, later)).toBe('login_failed');
    expect(await attempt('seldom', PASSWORD, HOME, nearly)).toBe('ok');
    expect(await attempt('seldom', PASSWORD, HOME, later)).toBe('ok');
    await Promise.all([closeVault(nearly), closeVault(later)]);
  });

  it('T-040 each lock is twice as long as the one before, up to a day; at 99 in a row only an unlock helps', async () => {
    await make('target');
    const lengths: number[] = [];
    for (let lock = 0; lock < 3; lock += 1) {
      await fail('target', 5);
      lengths.push(Math.round((await lockedSeconds('target')) / 60));
      await endLocks('target');
    }
    expect(lengths).toEqual([15, 30, 60]);
    const at = (failures: number) => t.owner`
      UPDATE login_counters SET failures = ${failures} FROM users WHERE subject = user_id AND name = 'target'`;
    await at(94);
    await fail('target', 1);
    expect(Math.round((await lockedSeconds('target')) / 3600)).toBe(24);
    await endLocks('target');
    await fail('target', 4);
    expect(await lockedSeconds('target')).toBeGreaterThan(100 * 365 * 24 * 3600);
    const muchLater = await t.node({ clockOffsetSeconds: 3 * 365 * 24 * 3600 });
    expect(await attempt('target', PASSWORD, stranger(), muchLater)).toBe('login_failed');
    await closeVault(muchLater);
    expect((await unlockUser(t.vault, t.call(t.admin), 'target')).lockedUntil).toBeNull();
    expect(await attempt('target', PASSWORD, stranger())).toBe('ok');
  });

  it('T-039 a restart, another node and guesses at once do not begin the count anew', async () => {
    await make('counted');
    const node = await t.node();
    await Promise.all([fail('counted', 2), fail('counted', 2, undefined, node)]);
    await closeVault(node);
    const restarted = await t.node();
    await fail('counted', 1, undefined, restarted);
    expect(await attempt('counted', PASSWORD, stranger(), restarted)).toBe('login_failed');
    expect((await counters('counted')).map(({ source, failures }) => [source, failures])).toEqual([['', 5]]);
    await closeVault(restarted);
  });

  it('an unlock clears every counter, and the account’s networks stay its own', async () => {
    await make('both');
    expect(await attempt('both', PASSWORD, HOME)).toBe('ok');
    await fail('both', 5, HOME);
    await fail('both', 5);
    await unlockUser(t.vault, t.call(t.admin), 'both');
    expect((await counters('both')).map(({ failures, locked_until: until }) => [failures, until])).toEqual([
      [0, null],
      [0, null],
    ]);
    await fail('both', 5);
    expect(await attempt('both', PASSWORD, HOME)).toBe('ok');
  });

  it('a deleted user’s counters go with it', async () => {
    await make('gone');
    const { user_id: id } = (await t.owner`SELECT user_id FROM users WHERE name = 'gone'`)[0]!;
    await fail('gone', 2);
    await t.request('DELETE', '/api/v1/users/gone', { token: t.admin });
    expect(await t.owner`SELECT 1 FROM login_counters WHERE subject = ${id}`).toHaveLength(0);
  });
});

describe('a network', () => {
  it('T-108 one that fails on many names is held up, and from it only accounts that know it may log in', async () => {
    const source = '203.0.113.7';
    await make('resident');
    await make('visitor');
    expect(await attempt('resident', PASSWORD, source)).toBe('ok');
    for (let i = 0; i < 10; i += 1) await attempt(`nobody-${i}`, wrong, source);
    expect(await attempt('visitor', PASSWORD, source)).toBe('login_failed');
    expect(await attempt('resident', PASSWORD, source)).toBe('ok');
    expect(await attempt('visitor', PASSWORD, stranger())).toBe('ok');
  });

  it('T-108 every address of an IPv6 /64 is one network, in every spelling', async () => {
    await make('hopped');
    for (let i = 0; i < 10; i += 1) await attempt(`nobody-${i}`, wrong, `2001:db8:0:7:${i}::${i}`);
    expect(await attempt('hopped', PASSWORD, '2001:DB8::7:ffff:0:0:1')).toBe('login_failed');
    expect(await attempt('hopped', PASSWORD, '2001:db8:0:8::1')).toBe('ok');
    const rows = await t.owner`SELECT source FROM login_counters WHERE kind = 'source' AND source LIKE '2001%'`;
    expect(rows.map(({ source }) => source)).toEqual(['2001:db8:0:7::/64']);
  });

  it('T-041 names that are nobody’s are counted alike, and neither they nor old networks make the table grow', async () => {
    const rows = async () => Number((await t.owner`SELECT count(*) AS n FROM login_counters`)[0]!.n);
    await t.owner`
      INSERT INTO login_counters (tenant_id, subject, kind, source, failures, updated_at)
      SELECT ${tenant}, 'unknown-' || n, 'password', '', 1, bulla.now() FROM generate_series(0, 255) n
      ON CONFLICT DO NOTHING`;
    await t.owner`
      INSERT INTO login_counters (tenant_id, subject, kind, source, failures, updated_at)
      SELECT ${tenant}, '', 'source', 'old-' || n, 1, bulla.now() - interval '2 hours' FROM generate_series(1, 16) n`;
    const before = await rows();
    for (let i = 0; i < 4; i += 1) await attempt(`made-up-${i}`, wrong, '203.0.113.99');
    expect(await rows()).toBe(before - 16 + 1);
  });

  it('T-041 one failure reads as few rows where thousands of networks have failed, before there are statistics too', async () => {
    await t.owner`
      INSERT INTO login_counters (tenant_id, subject, kind, source, failures, updated_at)
      SELECT ${tenant}, '', 'source', 'many-' || n, 1, bulla.now() FROM generate_series(1, 3000) n`;
    const [{ analysed }] = (await t.owner`
      SELECT reltuples >= 0 AS analysed FROM pg_class WHERE oid = 'login_counters'::regclass`) as [
      { analysed: boolean },
    ];
    expect(analysed).toBe(false);
    // What this connection has read and not yet reported.
    const rowsRead = async (tx: Tx) =>
      (
        await tx<{ rows: number }[]>`
          SELECT (seq_tup_read + idx_tup_fetch)::int AS rows FROM pg_stat_xact_user_tables WHERE relname = 'login_counters'`
      )[0]!.rows;
    const read = await transaction(t.vault.db, [tenant], async (tx) => {
      const before = await rowsRead(tx);
      const guess: Attempt = { tenant, subject: unknownSubject('anybody'), kind: 'password', source: stranger() };
      await countFailure(t.vault, tx, guess, await readCounter(tx, guess));
      return (await rowsRead(tx)) - before;
    });
    expect(read).toBeLessThan(20);
    await t.owner`DELETE FROM login_counters WHERE source LIKE 'many-%'`;
  });
});

describe('lockout', () => {
  it('T-039 guesses made at once get no more tries than guesses in a row, on two nodes', async () => {
    await make('guessed');
    const other = await t.node();
    const guesses = Array.from({ length: 24 }, (_, i) =>
      attempt('guessed', wrong, stranger(), i % 2 ? t.vault : other),
    );
    await Promise.all(guesses);
    // A machine under load may have turned some away; whoever goes on guessing has the tries that are left, and no more.
    for (let i = 0; i < 20 && !(await isLocked('guessed')); i += 1) await attempt('guessed', wrong, stranger());
    const reasons = (await entriesOf(t.owner, tenant))
      .filter(({ resource, action }) => action === 'auth.login' && resource === 'user:guessed')
      .map(({ details }) => details?.reason);
    expect(reasons.filter((reason) => reason === 'wrong_password')).toHaveLength(5);
    expect(reasons.every((reason) => reason === 'wrong_password' || reason === 'locked')).toBe(true);
    expect(await attempt('guessed', PASSWORD, stranger())).toBe('login_failed');
    expect(await attempt('guessed', PASSWORD, stranger(), other)).toBe('login_failed');
  });

  it('T-040 a locked user’s session goes on, and the lock ends by itself', async () => {
    await make('victim');
    const { token } = await enter('victim');
    for (let i = 0; i < 6; i += 1) await attempt('victim', wrong, stranger());
    expect(await isLocked('victim')).toBe(true);
    expect(await codeOf(readSelf(t.vault, t.call(token)))).toBe('ok');
    const later = await t.node({ clockOffsetSeconds: 15 * 60 + 5 });
    expect(await attempt('victim', PASSWORD, stranger(), later)).toBe('ok');
    expect((await counters('victim')).every(({ failures }) => failures === 0)).toBe(true);
  });

  it('wrong, right, wrong: the right one starts the count again; four wrong ones do not lock', async () => {
    await make('forgetful');
    for (let round = 0; round < 3; round += 1) {
      for (let i = 0; i < 4; i += 1) await attempt('forgetful', wrong, stranger());
      expect(await attempt('forgetful', PASSWORD, stranger())).toBe('ok');
    }
  });

  it('after a lock has run out the count starts again, and locks again', async () => {
    await make('again');
    const later = await t.node({ clockOffsetSeconds: 15 * 60 + 5 });
    for (let i = 0; i < 5; i += 1) await attempt('again', wrong, stranger());
    for (let i = 0; i < 5; i += 1) await attempt('again', wrong, stranger(), later);
    expect(await attempt('again', PASSWORD, stranger(), later)).toBe('login_failed');
    expect((await unlockUser(t.vault, t.call(t.admin), 'again')).lockedUntil).toBeNull();
    expect(await attempt('again', PASSWORD, stranger())).toBe('ok');
  });

  it('T-039 guesses at the current password through a stolen token count too', async () => {
    await make('stolen');
    const { token } = await enter('stolen');
    const guess = () =>
      codeOf(changePassword(t.vault, t.call(token), { currentPassword: wrong, newPassword: `${wrong} 2` }));
    for (let i = 0; i < 5; i += 1) expect(await guess()).toBe('login_failed');
    expect(await isLocked('stolen')).toBe(true);
    const right = { currentPassword: PASSWORD, newPassword: 'a new one for the thief' };
    expect(await codeOf(changePassword(t.vault, t.call(token), right))).toBe('login_failed');
    const denied = (await entriesOf(t.owner, tenant)).filter(
      ({ action, actor }) => action === 'auth.password' && actor.name === 'stolen',
    );
    expect(denied.map(({ outcome }) => outcome)).not.toContain('ok');
    expect(denied).toHaveLength(6);
  });
});

describe('whoever can be let in by nobody of their own', () => {
  it('T-040 operators unlock the last administrator of a tenant, and nobody else', async () => {
    const admin = await t.tenant('shut');
    const shut = await tenantId(t.owner, 'shut');
    const inside = (username: string, totp?: string) =>
      codeOf(login(t.vault, { ...t.call(), source: HOME }, { tenant: 'shut', username, password: PASSWORD, totp }));
    const lock = (username: string) => t.owner`
      INSERT INTO login_counters (tenant_id, subject, kind, source, failures, locked_until, updated_at)
      SELECT tenant_id, user_id, 'password', '', 99, '9999-12-31', now() FROM users WHERE tenant_id = ${shut} AND name = ${username}`;
    const unlock = (username: string, removeTotp?: boolean) =>
      codeOf(unlockTenantAdmin(t.vault, t.call(t.operator), 'shut', { username, removeTotp }));
    await createUser(t.vault, t.call(admin), { username: 'second', password: PASSWORD, policies: [] });
    // Whoever is an administrator by a group is one.
    await createGroup(t.vault, t.call(admin), { name: 'admins', policies: ['admin'], members: ['second'] });
    await createUser(t.vault, t.call(admin), { username: 'reader', password: PASSWORD, policies: ['reader'] });
    const { secret } = await enrolFactor(t.vault, t.call(admin), { password: PASSWORD });
    await confirmFactor(t.vault, t.call(admin), shows(secret));
    await lock('admin');
    expect(await unlock('admin')).toBe('conflict');
    await lock('second');
    expect(await unlock('reader')).toBe('not_found');
    expect(await codeOf(unlockTenantAdmin(t.vault, t.call(admin), 'shut', { username: 'admin' }))).toBe(
      'unauthenticated',
    );
    expect(await inside('admin', shows(secret, 1))).toBe('login_failed');
    expect(await unlock('admin')).toBe('ok');
    expect(await inside('admin')).toBe('totp_required');
    await lock('admin').catch(
      () => t.owner`UPDATE login_counters SET locked_until = '9999-12-31' WHERE tenant_id = ${shut}`,
    );
    const { entries } = await added(t.owner, shut, () => unlock('admin', true));
    expect(entries).toMatchObject([
      { action: 'tenant.unlock', outcome: 'ok', details: { username: 'admin', totp_removed: true } },
    ]);
    expect(await inside('admin')).toBe('ok');
    expect(await codeOf(unlockTenantAdmin(t.vault, t.call(t.operator), 'system', { username: 'operator' }))).toBe(
      'conflict',
    );
  });

  it('whoever holds the host unlocks the last operator', async () => {
    await t.owner`
      INSERT INTO login_counters (tenant_id, subject, kind, source, failures, locked_until, updated_at)
      SELECT tenant_id, user_id, 'password', '', 99, '9999-12-31', now() FROM users WHERE name = 'operator'`;
    const inside = () =>
      codeOf(
        login(t.vault, { ...t.call(), source: HOME }, { tenant: 'system', username: 'operator', password: PASSWORD }),
      );
    expect(await inside()).toBe('login_failed');
    const { entries } = await added(t.owner, 'system', () => unlockOperatorOnHost(t.vault, { username: 'operator' }));
    expect(entries).toMatchObject([
      { action: 'user.unlock', actor: { kind: 'vault' }, resource: 'user:operator', details: { on_host: true } },
    ]);
    expect(await inside()).toBe('ok');
    expect(await codeOf(unlockOperatorOnHost(t.vault, { username: 'nobody' }))).toBe('not_found');
  });
});

it('T-107 forty logins at once: one hash runs, four wait, the rest is told when to come back, and others are served', async () => {
  const node = await t.node({ env: { BULLA_HASH_CONCURRENCY: '1', BULLA_HASH_QUEUE_MAX: '4' } });
  const listener = await listen(node, createApp(node), node.config);
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ tenant: 'default', username: 'nobody-stormed', password: wrong });
  const storm = Array.from({ length: 40 }, () =>
    fetch(`${listener.address}/api/v1/auth/login`, { method: 'POST', headers, body }),
  );
  const self = await fetch(`${listener.address}/api/v1/auth/self`, { headers: { authorization: `Bearer ${t.admin}` } });
  expect(self.status).toBe(200);
  const answers = await Promise.all(storm);
  const turned = answers.filter(({ status }) => status === 503);
  expect(answers.every(({ status }) => status === 401 || status === 503)).toBe(true);
  expect(turned.length).toBeGreaterThan(0);
  expect(answers.length - turned.length).toBeGreaterThanOrEqual(5);
  for (const answer of turned) {
    expect(await answer.json()).toMatchObject({ code: 'busy' });
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  }
  await listener.close();
});
