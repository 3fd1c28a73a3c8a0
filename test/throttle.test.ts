/** What guesses at passwords are slowed down by, and that no stranger can keep an owner out by guessing. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { login } from '../src/auth/login.ts';
import { createUser, readUser, unlockUser } from '../src/auth/user.ts';
import type { TenantId } from '../src/db/database.ts';
import { createApp } from '../src/http/app.ts';
import { listen } from '../src/http/listener.ts';
import { closeVault, type Vault } from '../src/vault.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { codeOf, tenantId } from './witness.ts';

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
const make = (username: string) =>
  createUser(t.vault, t.call(t.admin), { username, password: PASSWORD, policies: ['reader'] });
const counters = (username: string) => t.owner`
  SELECT c.* FROM login_counters c JOIN users u ON (c.tenant_id, c.subject) = (u.tenant_id, u.user_id)
  WHERE u.name = ${username} ORDER BY c.kind, c.source`;
const lockedSeconds = async (username: string) => {
  const { lockedUntil } = await readUser(t.vault, t.call(t.admin), username);
  return lockedUntil === null ? 0 : (Date.parse(lockedUntil) - Date.now()) / 1000;
};
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
