/** Logins, lockout, password changes and tokens, through the verbs and on two nodes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { login } from '../src/auth/login.ts';
import { changePassword } from '../src/auth/password.ts';
import { logout, readSelf, readToken, renewToken, revokeToken } from '../src/auth/token.ts';
import { createUser, deleteUser, readUser, unlockUser, updateUser } from '../src/auth/user.ts';
import { parseToken } from '../src/crypto/token.ts';
import type { TenantId } from '../src/db/database.ts';
import type { VaultError } from '../src/errors.ts';
import { readSecret } from '../src/policy/read.ts';
import { listPolicies } from '../src/policy/store.ts';
import { parsePath } from '../src/secret/path.ts';
import { putSecret } from '../src/secret/secret.ts';
import { updateTenant } from '../src/tenant/tenant.ts';
import { closeVault, type Vault } from '../src/vault.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { added, codeOf, errorOf, hold, rowsHash, tenantId, text, waiting } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let other: Vault;

beforeAll(async () => {
  t = await testVault({ env: { BULLA_HASH_QUEUE_MAX: '1000' } });
  tenant = await tenantId(t.owner, 'default');
  other = await t.node();
  await putSecret(t.vault, t.call(t.admin), parsePath('a/secret'), text('x'));
});
afterAll(() => t.close());

const wrong = 'a password that is not right';
/** Each from an address of its own: failures beyond ten a minute from one are counted, not told one by one. */
let sources = 0;
const attempt = (username: string, password = PASSWORD, where = 'default', vault = t.vault) => {
  sources += 1;
  const source = `127.1.${sources >> 8}.${sources & 255}`;
  return login(vault, { ...t.call(), source }, { tenant: where, username, password });
};
const make = (username: string, policies: string[] = ['reader']) =>
  createUser(t.vault, t.call(t.admin), { username, password: PASSWORD, policies });
const locked = (username: string) =>
  readUser(t.vault, t.call(t.admin), username).then((user) => user.lockedUntil !== null);
const works = (token: string, vault = t.vault) => codeOf(readSecret(vault, t.call(token), parsePath('a/secret'), 0));
/** In the account's own counter. */
const failures = async (name: string) =>
  (
    await t.owner`
      SELECT coalesce(sum(failures), 0)::int AS n FROM login_counters JOIN users USING (tenant_id)
      WHERE subject = user_id AND name = ${name} AND source = ''`
  )[0]!.n;
const userRow = async (name: string) =>
  (await t.owner`SELECT * FROM users WHERE tenant_id = ${tenant} AND name = ${name}`)[0]!;

describe('who may not log in', () => {
  it('T-041 unknown tenant and user, wrong password, locked, disabled: the same error to the last letter', async () => {
    for (const name of ['known', 'disabled', 'locked']) await make(name);
    await updateUser(t.vault, t.call(t.admin), 'disabled', { disabled: true });
    for (let i = 0; i < 5; i += 1) await codeOf(attempt('locked', wrong));
    expect(await locked('locked')).toBe(true);
    const errors = await Promise.all(
      [
        attempt('known', wrong),
        attempt('nobody', wrong),
        attempt('known', wrong, 'no-such-tenant'),
        attempt('disabled'),
        attempt('disabled', wrong),
        attempt('locked'),
        attempt('locked', wrong),
        attempt('known\0', PASSWORD),
        attempt('', PASSWORD),
        attempt('known', PASSWORD, ''),
        attempt('known', PASSWORD, 'def\0ault'),
        attempt('known', ''),
        attempt('x'.repeat(10_000), PASSWORD),
      ].map((act) => errorOf(act)),
    );
    const shown = errors.map(({ code, message, details, retryAfterSeconds, cause }) =>
      JSON.stringify([code, message, details, retryAfterSeconds, cause]),
    );
    expect(new Set(shown).size).toBe(1);
    expect(errors[0]!.code).toBe('login_failed');
  });

  it('T-041 the log tells them apart, and never holds a name that is nobody’s', async () => {
    const tried = 'hunter2-typed-into-the-name-field';
    const { entries } = await added(t.owner, tenant, async () => {
      await codeOf(attempt(tried, wrong));
      await codeOf(attempt('known', wrong));
      await codeOf(attempt('disabled'));
      await codeOf(attempt('locked'));
    });
    expect(entries.map(({ details }) => details!.reason)).toEqual([
      'unknown_user',
      'wrong_password',
      'disabled',
      'locked',
    ]);
    expect(JSON.stringify(entries)).not.toContain(tried);
    const system = await added(t.owner, 'system', () => codeOf(attempt('admin', PASSWORD, 'hunter2-tenant')));
    expect(system.entries).toMatchObject([
      { action: 'auth.login', outcome: 'denied', details: { reason: 'unknown_tenant' } },
    ]);
    expect(JSON.stringify(system.entries)).not.toContain('hunter2');
    await unlockUser(t.vault, t.call(t.admin), 'known');
  });

  it('T-037 no other spelling of a name is that user, and all spellings are guesses at the one that was meant', async () => {
    await make('spelled');
    const spellings = [
      ...['Spelled', 'SPELLED', ' spelled', 'spelled ', 'spelled\u00a0', 'spe\u200blled', 'ｓpelled', 'spelled%20'],
      ...['sp\u0065\u0301lled', 'spélled', '%73pelled', 'spelled\t', 'spel\u00adled', '𝓈pelled'],
    ];
    const { entries } = await added(t.owner, tenant, async () => {
      for (const name of spellings) expect(await codeOf(attempt(name)), JSON.stringify(name)).toBe('login_failed');
    });
    expect(entries.map(({ resource, details }) => [resource, details?.reason])).toEqual(
      spellings.map((_, i) => ['user:spelled', i < 5 ? 'wrong_password' : 'locked']),
    );
    expect(await codeOf(attempt('spelled'))).toBe('login_failed');
    await unlockUser(t.vault, t.call(t.admin), 'spelled');
    for (const where of ['Default', ' default', 'default ', tenant]) {
      expect(await codeOf(attempt('spelled', PASSWORD, where)), where).toBe('login_failed');
    }
    expect(await failures('spelled')).toBe(3);
    expect(await codeOf(attempt('spelled'))).toBe('ok');
  });

  it('T-035 the last character counts, and a password is cut nowhere', async () => {
    const long = 'p'.repeat(199);
    await createUser(t.vault, t.call(t.admin), { username: 'long', password: `${long}a`, policies: [] });
    expect(await codeOf(attempt('long', `${long}b`))).toBe('login_failed');
    expect(await codeOf(attempt('long', `${long}a\0`))).toBe('login_failed');
    expect(await codeOf(attempt('long', `${long}a`))).toBe('ok');
    expect(await codeOf(attempt('long', 'x'.repeat(1024 * 1024)))).toBe('invalid_request');
    expect(await codeOf(attempt('long', `\ud800${long}`))).toBe('invalid_request');
  });

  it('a suspended tenant is told to who knows the password only', async () => {
    await t.tenant('paused');
    await updateTenant(t.vault, t.call(t.operator), 'paused', { state: 'suspended' });
    expect(await codeOf(attempt('admin', PASSWORD, 'paused'))).toBe('tenant_suspended');
    expect(await codeOf(attempt('admin', wrong, 'paused'))).toBe('login_failed');
    expect(await codeOf(attempt('nobody', wrong, 'paused'))).toBe('login_failed');
  });
});

describe('stored passwords', () => {
  it('T-031 old parameters are re-hashed at the next login, once, and nobody is refused meanwhile', async () => {
    await make('rehashed');
    const before = (await userRow('rehashed')).password_hash as string;
    const node = await t.node({ env: { BULLA_ARGON2_PASSES: '4' } });
    const at = () => codeOf(attempt('rehashed', PASSWORD, 'default', node));
    expect(await Promise.all([at(), at(), at(), at()])).toEqual(['ok', 'ok', 'ok', 'ok']);
    const after = (await userRow('rehashed')).password_hash as string;
    expect(before).toMatch(/t=3,/);
    expect(after).toMatch(/t=4,/);
    expect(await at()).toBe('ok');
    expect((await userRow('rehashed')).password_hash).toBe(after);
    // The node with the other parameters still knows it, and brings it back to its own.
    expect(await codeOf(attempt('rehashed'))).toBe('ok');
  });

  it('T-031 a wrong password never re-hashes', async () => {
    await make('kept');
    const before = (await userRow('kept')).password_hash;
    const node = await t.node({ env: { BULLA_ARGON2_PASSES: '4' } });
    await codeOf(attempt('kept', wrong, 'default', node));
    expect((await userRow('kept')).password_hash).toBe(before);
  });

  it('T-032 the hash does not verify without the pepper', async () => {
    await make('peppered');
    const { verify } = await import('argon2');
    expect(await verify((await userRow('peppered')).password_hash, PASSWORD)).toBe(false);
  });

  it('T-032 the pepper lost: one sentence that says what to restore, and no account is harmed', async () => {
    await make('unpeppered');
    const before = await rowsHash(t.owner, tenant, ['audit_heads', 'audit_segments', 'audit_leaves']);
    const key = 'users_pepper_tenant_pepper_purpose_pepper_version_fkey';
    const columns = '(pepper_tenant, pepper_purpose, pepper_version)';
    await t.owner.unsafe(`ALTER TABLE users DROP CONSTRAINT ${key}`);
    const rows = await t.owner`DELETE FROM system_key_material WHERE purpose = 'pepper' RETURNING *`;
    try {
      const error = await errorOf(attempt('unpeppered'));
      expect(error.code).toBe('integrity');
      expect(error.message).toMatch(/pepper .*restore/i);
    } finally {
      await t.owner`INSERT INTO system_key_material ${t.owner(rows as unknown as Record<string, unknown>[])}`;
      await t.owner.unsafe(
        `ALTER TABLE users ADD CONSTRAINT ${key} FOREIGN KEY ${columns} REFERENCES system_key_material`,
      );
    }
    expect(await rowsHash(t.owner, tenant, ['audit_heads', 'audit_segments', 'audit_leaves'])).toBe(before);
    expect(await codeOf(attempt('unpeppered'))).toBe('ok');
  });

  it('T-033 a poisoned hash in the row is refused before it takes memory', async () => {
    await make('poisoned');
    const { password_hash: good } = await userRow('poisoned');
    const poisons = [
      good.replace(/m=\d+/, 'm=4194304'),
      good.replace(/t=\d+/, 't=1000000'),
      good.replace(/p=\d+/, 'p=255'),
      good.replace(/v=19/, 'v=16'),
      good.replace('argon2id', 'argon2i'),
      good.split('$').slice(0, 4).join('$').concat('$$', good.split('$')[5]),
      '',
      'x'.repeat(10_000),
    ];
    for (const poison of poisons) {
      await t.owner`UPDATE users SET password_hash = ${poison} WHERE tenant_id = ${tenant} AND name = 'poisoned'`;
      const started = performance.now();
      expect(await codeOf(attempt('poisoned')), poison.slice(0, 40)).toMatch(/^(integrity|login_failed)$/);
      expect(performance.now() - started).toBeLessThan(2_000);
    }
    await t.owner`UPDATE users SET password_hash = ${good} WHERE tenant_id = ${tenant} AND name = 'poisoned'`;
    expect(await codeOf(attempt('poisoned'))).toBe('ok');
  });

  it('T-034 fifteen characters at least, whatever they are; no other rule', async () => {
    const set = (password: string) => codeOf(updateUser(t.vault, t.call(t.admin), 'known', { password }));
    expect(await set('fourteen chars')).toBe('invalid_request');
    expect(await set('fifteen letters')).toBe('ok');
    expect(await set('               ')).toBe('ok');
    expect(await set('ääääääääääääääö')).toBe('ok');
    expect(await codeOf(attempt('known', 'ääääääääääääääö'))).toBe('ok');
    expect(await set(PASSWORD)).toBe('ok');
  });

  it('T-034 a common password, and one made of names only, is refused with the reason; a part of one is not looked for', async () => {
    const refused = async (password: string, username = 'known') =>
      (await errorOf(updateUser(t.vault, t.call(t.admin), username, { password }))).details;
    for (const common of ['passwordpassword', 'PassWordPassword', 'ｐasswordpassword', '1234567890987654321']) {
      expect(await refused(common), common).toEqual({ field: 'password', reason: 'common' });
    }
    for (const names of ['known known known', 'Known.Default.2026', 'bulla-bulla-bulla', 'ＢＵＬＬＡknown12345678']) {
      expect(await refused(names), names).toEqual({ field: 'password', reason: 'names' });
    }
    const own = { currentPassword: PASSWORD, newPassword: 'passwordpassword' };
    const { token } = await attempt('known');
    const error = await errorOf(changePassword(t.vault, t.call(token), own));
    expect([error.details, error.message]).toEqual([
      { field: 'new_password', reason: 'common' },
      'new_password: this one is on every list of common passwords; take another.',
    ]);
    expect(
      (await errorOf(createUser(t.vault, t.call(t.admin), { username: 'x', password: 'x'.repeat(15) }))).details,
    ).toEqual({ field: 'password', reason: 'names' });
    for (const password of ['passwordpassword!', 'it is known by default', '123456789012345', PASSWORD]) {
      expect(await codeOf(updateUser(t.vault, t.call(t.admin), 'known', { password })), password).toBe('ok');
    }
  });

  it('T-036 NFC and NFD spellings are one password, counted in NFC; half a character is none', async () => {
    const composed = 'Größenwahn é ü ß';
    await createUser(t.vault, t.call(t.admin), { username: 'unicode', password: composed });
    expect(await codeOf(attempt('unicode', composed.normalize('NFD')))).toBe('ok');
    expect(await codeOf(attempt('unicode', composed.normalize('NFC')))).toBe('ok');
    const create = (password: string) =>
      codeOf(createUser(t.vault, t.call(t.admin), { username: 'uncounted', password }));
    expect(await create('é'.repeat(14).normalize('NFD'))).toBe('invalid_request');
    expect(await create(`${'long enough without '}\udc00`)).toBe('invalid_request');
    expect(await create('\ud83d\ude00'.repeat(14))).toBe('invalid_request');
    expect(await create(`x${'é'.repeat(512)}`)).toBe('invalid_request');
    expect(await create('é'.repeat(512))).toBe('ok');
    expect(await codeOf(attempt('uncounted', 'é'.repeat(512)))).toBe('ok');
  });

  it('a one-time password that an administrator gave is no good after its time', async () => {
    const made = await createUser(t.vault, t.call(t.admin), { username: 'late' });
    const later = await t.node({ clockOffsetSeconds: 3 * 24 * 3600 + 5 });
    expect(await codeOf(attempt('late', made.oneTimePassword, 'default', later))).toBe('login_failed');
    await updateUser(t.vault, t.call(t.admin), 'late', { password: PASSWORD });
    expect(await codeOf(attempt('late', PASSWORD, 'default', later))).toBe('ok');
    await closeVault(later);
  });

  it('a one-time password opens nothing but its own change', async () => {
    const made = await createUser(t.vault, t.call(t.admin), { username: 'fresh', policies: ['admin'] });
    const first = await attempt('fresh', made.oneTimePassword!);
    expect(first.passwordChangeRequired).toBe(true);
    expect(await works(first.token)).toBe('password_change_required');
    expect(await codeOf(listPolicies(t.vault, t.call(first.token), {}))).toBe('password_change_required');
    expect(await codeOf(renewToken(t.vault, t.call(first.token)))).toBe('password_change_required');
    expect(await codeOf(readSelf(t.vault, t.call(first.token)))).toBe('ok');
    const change = { currentPassword: made.oneTimePassword!, newPassword: PASSWORD };
    const same = { currentPassword: made.oneTimePassword!, newPassword: made.oneTimePassword! };
    expect(await codeOf(changePassword(t.vault, t.call(first.token), same))).toBe('invalid_request');
    expect(await codeOf(changePassword(t.vault, t.call(first.token), change))).toBe('ok');
    expect(await works(first.token)).toBe('unauthenticated');
    expect(await works((await attempt('fresh')).token)).toBe('ok');
    expect(await codeOf(attempt('fresh', made.oneTimePassword!))).toBe('login_failed');
  });
});

describe('tokens', () => {
  it('T-048 only a hash is stored; a login makes a new one; every part of one counts', async () => {
    const one = await attempt('known');
    const two = await attempt('known');
    expect(one.token).not.toBe(two.token);
    expect(one.token).toMatch(/^bulla_[a-z2-7]{16}_[a-z2-7]{16}\.[A-Za-z0-9_-]{49}$/);
    const secret = one.token.split('.')[1]!.slice(0, 43);
    const rows = await t.owner`SELECT k::text AS row FROM tokens k WHERE token_id = ${one.accessor}`;
    expect(rows[0]!.row).not.toContain(secret);
    expect(rows[0]!.row).not.toContain(Buffer.from(secret, 'base64url').toString('hex'));
    for (let at = 0; at < one.token.length; at += 1) {
      const flipped = one.token.slice(0, at) + (one.token[at] === 'a' ? 'b' : 'a') + one.token.slice(at + 1);
      expect(parseToken(flipped), `character ${at}`).toBeUndefined();
    }
  });

  it.each([
    ['logout', (token: string) => logout(t.vault, t.call(token))],
    ['revocation by accessor', (token: string) => revokeToken(t.vault, t.call(t.admin), parseToken(token)!.tokenId)],
    [
      'a password change',
      (token: string) =>
        changePassword(t.vault, t.call(token), { currentPassword: PASSWORD, newPassword: 'quite another password' }),
    ],
    [
      'a password set by an admin',
      () => updateUser(t.vault, t.call(t.admin), 'ended', { password: 'quite another password' }),
    ],
    ['a password reset', () => updateUser(t.vault, t.call(t.admin), 'ended', { resetPassword: true })],
    ['disabling', () => updateUser(t.vault, t.call(t.admin), 'ended', { disabled: true })],
    ['deletion', () => deleteUser(t.vault, t.call(t.admin), 'ended')],
  ] as const)('T-049 %s ends tokens at once on another node, for reads and for renewals', async (_, end) => {
    await codeOf(deleteUser(t.vault, t.call(t.admin), 'ended'));
    await make('ended');
    const { token } = await attempt('ended');
    expect(await works(token, other)).toBe('ok');
    await end(token);
    expect(await works(token, other)).toBe('unauthenticated');
    expect(await codeOf(renewToken(other, t.call(token)))).toBe('unauthenticated');
    expect(await codeOf(readSelf(other, t.call(token)))).toBe('unauthenticated');
  });

  it('a user enabled again has no token of before', async () => {
    await make('twice');
    const { token } = await attempt('twice');
    await updateUser(t.vault, t.call(t.admin), 'twice', { disabled: true });
    await updateUser(t.vault, t.call(t.admin), 'twice', { disabled: false });
    expect(await works(token)).toBe('unauthenticated');
  });

  it('a login that is overtaken by the user’s disabling gives no token that works', async () => {
    await make('overtaken');
    const { user_id: id } = await userRow('overtaken');
    const release = await hold(t.owner, `SELECT 1 FROM users WHERE user_id = '${id}' FOR UPDATE`);
    const disabling = updateUser(t.vault, t.call(t.admin), 'overtaken', { disabled: true });
    await waiting(t.owner, 1);
    const late = attempt('overtaken').then(
      ({ token }) => works(token),
      (error: VaultError) => error.code,
    );
    await waiting(t.owner, 2).finally(release);
    await disabling;
    expect(['login_failed', 'unauthenticated']).toContain(await late);
    expect(await t.owner`SELECT 1 FROM tokens WHERE user_id = ${id}`).toHaveLength(0);
  });

  it('an expired token is told as one that never was; its use is recorded', async () => {
    const { token, accessor } = await attempt('known');
    const later = await t.node({ clockOffsetSeconds: 3601 });
    const { value, entries } = await added(t.owner, tenant, () => errorOf(readSelf(later, t.call(token))));
    const never = await errorOf(readSelf(later, t.call()));
    expect([value.code, value.message]).toEqual([never.code, never.message]);
    expect(entries).toMatchObject([
      { action: 'auth.self', outcome: 'denied', code: 'unauthenticated', actor: { accessor } },
    ]);
    expect(await works(token, later)).toBe('unauthenticated');
    expect(await codeOf(renewToken(later, t.call(token)))).toBe('unauthenticated');
    expect(await codeOf(readToken(later, t.call(t.admin), accessor))).toBe('unauthenticated');
  });

  it('renewing counts from now and never passes the maximum, whatever is asked', async () => {
    const { token, maxExpiresAt } = await attempt('known');
    const late = await t.node({ clockOffsetSeconds: 3500 });
    const renewed = await renewToken(late, t.call(token));
    expect(Date.parse(renewed.expiresAt) - Date.now()).toBeGreaterThan(7_000_000);
    let last = renewed;
    for (let hours = 2; hours <= 24; hours += 4) {
      const node = await t.node({ clockOffsetSeconds: hours * 3600 - 200 });
      last = await renewToken(node, t.call(token), 24 * 3600);
      await closeVault(node);
      expect(last.expiresAt <= maxExpiresAt!).toBe(true);
      expect(last.maxExpiresAt).toBe(maxExpiresAt);
    }
    expect(last.expiresAt).toBe(maxExpiresAt);
    const after = await t.node({ clockOffsetSeconds: 24 * 3600 + 5 });
    expect(await codeOf(renewToken(after, t.call(token), 1))).toBe('unauthenticated');
  });

  it('a configured ttl above the maximum gives the maximum, at login and at renewal', async () => {
    const node = await t.node({ env: { BULLA_TOKEN_TTL: '2h', BULLA_TOKEN_MAX_TTL: '1h' } });
    const { token, expiresAt, maxExpiresAt } = await attempt('known', PASSWORD, 'default', node);
    expect(expiresAt).toBe(maxExpiresAt);
    expect((await renewToken(node, t.call(token))).expiresAt).toBe(maxExpiresAt);
  });

  it('T-052 no error of a route of auth leaves a token or changes a user', async () => {
    const { token } = await attempt('known');
    const count = async () => [
      await t.owner`SELECT count(*) AS n FROM tokens`,
      await t.owner`SELECT user_id, name, password_hash, policies, disabled, must_change_password FROM users ORDER BY 1`,
    ];
    const before = JSON.stringify(await count());
    const acts = [
      attempt('nobody'),
      attempt('known', wrong),
      attempt('disabled'),
      attempt('locked'),
      attempt('known', PASSWORD, 'nowhere'),
      attempt('known', '\ud800'),
      renewToken(t.vault, t.call(token), 10 ** 9),
      renewToken(t.vault, t.call()),
      revokeToken(t.vault, t.call(token), parseToken(t.admin)!.tokenId),
      revokeToken(t.vault, t.call(t.admin), 'aaaaaaaaaaaaaaaa'),
      revokeToken(t.vault, t.call(t.admin), '../users'),
      changePassword(t.vault, t.call(token), { currentPassword: wrong, newPassword: PASSWORD }),
      changePassword(t.vault, t.call(token), { currentPassword: PASSWORD, newPassword: 'short' }),
      createUser(t.vault, t.call(t.admin), { username: 'known', password: PASSWORD }),
      createUser(t.vault, t.call(t.admin), { username: 'Bad Name', password: PASSWORD }),
      createUser(t.vault, t.call(t.admin), { username: 'held', password: PASSWORD, policies: ['no-such'] }),
      createUser(t.vault, t.call(token), { username: 'mine', password: PASSWORD, policies: ['admin'] }),
      updateUser(t.vault, t.call(t.admin), 'known', { password: 'short', disabled: true }),
      updateUser(t.vault, t.call(t.admin), 'known', { policies: ['reader', 'no-such'], disabled: true }),
      updateUser(t.vault, t.call(token), 'known', { policies: ['admin'] }),
      deleteUser(t.vault, t.call(t.admin), 'admin'),
      deleteUser(t.vault, t.call(t.admin), 'nobody'),
    ];
    const codes = await Promise.all(acts.map(codeOf));
    expect(codes).not.toContain('ok');
    expect(JSON.stringify(await count())).toBe(before);
    await unlockUser(t.vault, t.call(t.admin), 'known');
  });

  it('T-056 no spelling of a built-in policy’s name is that policy', async () => {
    for (const name of ['ADMIN', ' admin', 'admin ', 'admin/', 'аdmin', 'admin\0', 'root']) {
      const act = createUser(t.vault, t.call(t.admin), { username: 'climber', password: PASSWORD, policies: [name] });
      expect(await codeOf(act), JSON.stringify(name)).toBe('invalid_request');
    }
  });

  it('the log holds no password and no token, and proves', async () => {
    t.secrets.add('quite another password').add(t.admin).add(t.admin.split('.')[1]!.slice(0, 43));
    await t.check();
  });
});
