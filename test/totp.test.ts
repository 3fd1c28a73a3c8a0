/** Second factors: that a code counts once, that guesses share one budget, and that a stolen token changes nothing. */
import { Secret, TOTP } from 'otpauth';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createToken } from '../src/auth/child.ts';
import { login } from '../src/auth/login.ts';
import { changePassword } from '../src/auth/password.ts';
import {
  confirmFactor,
  elevate,
  enrolFactor,
  readFactor,
  removeFactor,
  renewRecoveryCodes,
  resetFactor,
} from '../src/auth/second-factor.ts';
import { endOtherSessions, endSession, listSessions } from '../src/auth/session.ts';
import { readSelf } from '../src/auth/token.ts';
import { createUser, deleteUser, readUser, unlockUser, updateUser } from '../src/auth/user.ts';
import { parseToken } from '../src/crypto/token.ts';
import type { TenantId } from '../src/db/database.ts';
import { readJob } from '../src/job/job.ts';
import { startJobs } from '../src/job/kinds.ts';
import { rotateKey } from '../src/job/reencrypt.ts';
import { deleteTenant } from '../src/job/tenant.ts';
import { putPolicy } from '../src/policy/store.ts';
import { updateTenant } from '../src/tenant/tenant.ts';
import { closeVault, type Vault } from '../src/vault.ts';
import { PASSWORD, type TestVault, testVault } from './harness.ts';
import { until } from './until.ts';
import { added, codeOf, entriesOf, errorOf, tenantId } from './witness.ts';

let t: TestVault;
let tenant: TenantId;
let other: Vault;

beforeAll(async () => {
  t = await testVault({ env: { BULLA_HASH_QUEUE_MAX: '1000', BULLA_LOGIN_SOURCE_FAILURES_MAX: '1000' } });
  tenant = await tenantId(t.owner, 'default');
  other = await t.node();
});
afterAll(async () => {
  await t.check();
  await t.close();
});

const wrong = '000000';
const HOME = '192.0.2.10';
const attempt = (username: string, totp?: string, at: { vault?: Vault; password?: string; source?: string } = {}) =>
  login(
    at.vault ?? t.vault,
    { ...t.call(), source: at.source ?? HOME },
    { tenant: 'default', username, password: at.password ?? PASSWORD, totp },
  );

/** What an authenticator shows: `steps` 30 seconds from now. */
const shows = (secret: string, steps = 0) =>
  new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + steps * 30_000 });

/** Lets a code of now be taken again, as if its user had waited. */
const wait = (username: string) => t.owner`
  UPDATE totp_factors SET last_step = 0 FROM users
  WHERE totp_factors.user_id = users.user_id AND users.name = ${username}`;

type Enrolled = { token: string; secret: string; recoveryCodes: readonly string[] };

/** A user with a second factor, logged in. */
async function enrolled(username: string, policies: string[] = ['reader']): Promise<Enrolled> {
  await createUser(t.vault, t.call(t.admin), { username, password: PASSWORD, policies });
  const { token } = await attempt(username);
  const { secret } = await enrolFactor(t.vault, t.call(token), { password: PASSWORD });
  const done = await confirmFactor(t.vault, t.call(token), shows(secret));
  await wait(username);
  return { token: done.token, secret, recoveryCodes: done.recoveryCodes };
}
const works = (token: string, vault = t.vault) => codeOf(readSelf(vault, t.call(token)));

describe('enrolment', () => {
  it('goes from a seed to a factor: the session becomes another one, the others end, and logins need a code', async () => {
    await createUser(t.vault, t.call(t.admin), { username: 'first', password: PASSWORD, policies: ['reader'] });
    const [one, two] = [await attempt('first'), await attempt('first')];
    expect([one.mfa, one.mfaRequired]).toEqual([false, false]);
    const seed = await enrolFactor(t.vault, t.call(one.token), { password: PASSWORD });
    expect(seed.uri).toMatch(/^otpauth:\/\/totp\/Bulla:first%40default\?/);
    expect(seed.secret).toMatch(/^[A-Z2-7]{32}$/);
    expect((await readFactor(t.vault, t.call(one.token))).state).toBe('pending');
    expect(await codeOf(attempt('first'))).toBe('ok');
    expect(await codeOf(confirmFactor(t.vault, t.call(one.token), wrong))).toBe('login_failed');
    const done = await confirmFactor(t.vault, t.call(one.token), shows(seed.secret));
    expect([await works(one.token), await works(two.token), await works(done.token)]).toEqual([
      ...['unauthenticated', 'unauthenticated', 'ok'],
    ]);
    expect(await works(two.token, other)).toBe('unauthenticated');
    expect(await readFactor(t.vault, t.call(done.token))).toEqual({
      ...{ state: 'active', required: false, recoveryCodesLeft: 10 },
    });
    expect((await readSelf(t.vault, t.call(done.token))).mfa).toBe(true);
    expect((await readUser(t.vault, t.call(t.admin), 'first')).totp).toBe(true);
    t.secrets.add(seed.secret).add(done.recoveryCodes[0]!).add(done.token);
    await wait('first');
    const again = await attempt('first', shows(seed.secret));
    expect([again.mfa, (await readSelf(t.vault, t.call(again.token))).mfa]).toEqual([true, true]);
  });

  it('T-047 a stolen token enrols nothing: the password is needed, and a code where there is a factor', async () => {
    const { token, secret } = await enrolled('robbed');
    const begin = (password: string, code?: string) =>
      codeOf(enrolFactor(t.vault, t.call(token), { password, ...(code === undefined ? {} : { code }) }));
    expect(await begin('not the right password')).toBe('login_failed');
    expect(await begin(PASSWORD)).toBe('totp_required');
    expect(await begin(PASSWORD, wrong)).toBe('login_failed');
    expect((await readFactor(t.vault, t.call(token))).state).toBe('active');
    expect(await begin(PASSWORD, shows(secret))).toBe('ok');
    // The old one holds until the new one is confirmed.
    await wait('robbed');
    expect(await codeOf(attempt('robbed', shows(secret)))).toBe('ok');
  });

  it('a seed waits for 15 minutes', async () => {
    await createUser(t.vault, t.call(t.admin), { username: 'slow', password: PASSWORD, policies: [] });
    const { token } = await attempt('slow');
    const { secret } = await enrolFactor(t.vault, t.call(token), { password: PASSWORD });
    const later = await t.node({ clockOffsetSeconds: 901 });
    expect(await codeOf(confirmFactor(later, t.call(token), shows(secret, 30)))).toBe('conflict');
    expect(await codeOf(confirmFactor(t.vault, t.call(token), shows(secret)))).toBe('ok');
    await closeVault(later);
  });
});

describe('logins', () => {
  it('T-042 nobody learns of a second factor before the password was right', async () => {
    const { secret } = await enrolled('hidden');
    await createUser(t.vault, t.call(t.admin), { username: 'plain', password: PASSWORD, policies: [] });
    const bad = { password: 'not the right password' };
    const errors = await Promise.all(
      [
        attempt('hidden', undefined, bad),
        attempt('hidden', shows(secret), bad),
        attempt('hidden', wrong, bad),
        attempt('plain', undefined, bad),
        attempt('plain', wrong, bad),
        attempt('nobody', wrong, bad),
        attempt('hidden', wrong),
      ].map(errorOf),
    );
    expect(new Set(errors.map((e) => JSON.stringify([e.code, e.message, e.details]))).size).toBe(1);
    expect(await codeOf(attempt('hidden'))).toBe('totp_required');
    expect(await codeOf(attempt('hidden', shows(secret)))).toBe('ok');
    expect(await codeOf(attempt('plain', wrong))).toBe('ok');
  });

  it('T-043 a code is taken once: not again, not in another spelling, not on another node, not after a restart', async () => {
    const { secret } = await enrolled('replayed');
    const code = shows(secret);
    expect(await codeOf(attempt('replayed', code))).toBe('ok');
    const restarted = await t.node();
    const wide = [...code].map((digit) => String.fromCharCode(digit.charCodeAt(0) + 0xfee0)).join('');
    const spellings = [
      code,
      ` ${code}`,
      `${code} `,
      `${code.slice(0, 3)} ${code.slice(3)}`,
      wide,
      `+${code}`,
      `0${code}`,
    ];
    for (const [i, spelling] of spellings.entries()) {
      const vault = [t.vault, other, restarted][i % 3]!;
      expect(await codeOf(attempt('replayed', spelling, { vault })), spelling).toBe('login_failed');
      await unlockUser(t.vault, t.call(t.admin), 'replayed');
    }
    // An earlier one is as good as used; a later one is not.
    expect(await codeOf(attempt('replayed', shows(secret, -1)))).toBe('login_failed');
    expect(await codeOf(attempt('replayed', shows(secret, 1)))).toBe('ok');
    await closeVault(restarted);
  });

  it('T-043 twelve logins at once with one code: one gets in', async () => {
    const { secret } = await enrolled('raced');
    const code = shows(secret);
    const codes = await Promise.all(
      Array.from({ length: 12 }, (_, i) => codeOf(attempt('raced', code, { vault: i % 2 ? t.vault : other }))),
    );
    expect(codes.filter((one) => one === 'ok')).toHaveLength(1);
  });

  it('T-045 the first login after a restart needs the code too, and codes from other times are none', async () => {
    const { secret } = await enrolled('restarted');
    const node = await t.node();
    expect(await codeOf(attempt('restarted', undefined, { vault: node }))).toBe('totp_required');
    expect(await codeOf(attempt('restarted', shows(secret, -3), { vault: node }))).toBe('login_failed');
    expect(await codeOf(attempt('restarted', shows(secret, 3), { vault: node }))).toBe('login_failed');
    expect(await codeOf(attempt('restarted', shows(secret), { vault: node }))).toBe('ok');
    await closeVault(node);
  });

  it('T-044 every endpoint and every spelling of a code draws on one budget', async () => {
    const { token, secret, recoveryCodes } = await enrolled('guessed');
    const call = t.call(token);
    // Failures beyond ten a minute from one address are counted, not told one by one.
    const FROM = '192.0.2.44';
    const guesses = [
      () => attempt('guessed', '12345 6', { source: FROM }),
      () => elevate(other, { ...call, source: FROM }, '１２３４５６'),
      () => removeFactor(t.vault, { ...call, source: FROM }, '+12345'),
      () => renewRecoveryCodes(t.vault, { ...call, source: FROM }, 'aaaaa-aaaaa-aaaaa-aaaaa-aaaaa'),
      () => enrolFactor(other, { ...call, source: FROM }, { password: PASSWORD, code: '123456' }),
    ];
    for (const guess of guesses) expect(await codeOf(guess())).toBe('login_failed');
    for (const guess of [
      () => attempt('guessed', shows(secret), { source: FROM }),
      () => attempt('guessed', recoveryCodes[0], { source: FROM }),
      () => elevate(t.vault, { ...call, source: FROM }, shows(secret)),
      () => removeFactor(other, { ...call, source: FROM }, shows(secret)),
    ]) {
      expect(await codeOf(guess())).toBe('login_failed');
    }
    const reasons = (await entriesOf(t.owner, tenant))
      .filter(({ resource, code }) => resource === 'user:guessed' && code === 'login_failed')
      .map(({ details }) => details?.reason);
    expect(reasons).toEqual(['wrong_code', 'code_locked', 'code_locked']);
    const within = (await entriesOf(t.owner, tenant)).filter(
      ({ actor, code }) => actor.kind === 'user' && actor.name === 'guessed' && code === 'login_failed',
    );
    expect(within.map(({ action, details }) => [action, details?.reason])).toEqual([
      ['auth.elevate', 'wrong_code'],
      ['auth.totp-remove', 'wrong_code'],
      ['auth.recovery-codes', 'wrong_code'],
      ['auth.totp-enrol', 'wrong_code'],
      ['auth.elevate', 'code_locked'],
      ['auth.totp-remove', 'code_locked'],
    ]);
    // The session that is there goes on, and the password's own count is untouched.
    expect(await works(token)).toBe('ok');
    await unlockUser(t.vault, t.call(t.admin), 'guessed');
    expect(await codeOf(attempt('guessed', shows(secret), { source: FROM }))).toBe('ok');
  });

  it('a recovery code works once, in capitals and without hyphens too, and is counted down', async () => {
    const { token, recoveryCodes } = await enrolled('recovering');
    expect(recoveryCodes).toHaveLength(10);
    const [one, two] = recoveryCodes as [string, string];
    expect(await codeOf(attempt('recovering', one.toUpperCase().replaceAll('-', '')))).toBe('ok');
    expect(await codeOf(attempt('recovering', one))).toBe('login_failed');
    const both = await Promise.all([codeOf(attempt('recovering', two)), codeOf(attempt('recovering', two))]);
    expect(both.sort()).toEqual(['login_failed', 'ok']);
    expect((await readFactor(t.vault, t.call(token))).recoveryCodesLeft).toBe(8);
    const fresh = await renewRecoveryCodes(t.vault, t.call(token), recoveryCodes[2]!);
    expect(await codeOf(attempt('recovering', recoveryCodes[3]))).toBe('login_failed');
    expect(await codeOf(attempt('recovering', fresh[9]))).toBe('ok');
  });

  it('one user’s recovery code and seed open nothing of another’s', async () => {
    const [a, b] = [await enrolled('swap-a'), await enrolled('swap-b')];
    expect(await codeOf(attempt('swap-b', a.recoveryCodes[0]))).toBe('login_failed');
    expect(await codeOf(attempt('swap-b', shows(a.secret)))).toBe('login_failed');
    const [seedA] =
      await t.owner`SELECT envelope FROM totp_factors JOIN users USING (tenant_id, user_id) WHERE name = 'swap-a'`;
    const rows = await t.owner`
      SELECT user_id, envelope FROM totp_factors JOIN users USING (tenant_id, user_id) WHERE name = 'swap-b'`;
    const put = (envelope: Buffer) =>
      t.owner`UPDATE totp_factors SET envelope = ${envelope} WHERE user_id = ${rows[0]!.user_id}`;
    await put(seedA!.envelope);
    expect(await codeOf(attempt('swap-b', shows(a.secret)))).toBe('integrity');
    await put(rows[0]!.envelope);
    expect(await codeOf(attempt('swap-b', shows(b.secret)))).toBe('ok');
  });
});

describe('the last factor', () => {
  it('T-047 is removed with a code of it only, on every way; all sessions end with it', async () => {
    const { token, secret } = await enrolled('removing', ['admin']);
    const call = t.call(token);
    expect(await codeOf(removeFactor(t.vault, call, wrong))).toBe('login_failed');
    expect(await codeOf(resetFactor(t.vault, call, 'removing'))).toBe('conflict');
    expect(await codeOf(updateUser(t.vault, call, 'removing', { password: 'another one of mine' }))).toBe('conflict');
    expect(await codeOf(updateUser(t.vault, call, 'removing', { resetPassword: true }))).toBe('conflict');
    const child = await createToken(t.vault, call, { ttlSeconds: 60 });
    expect(await codeOf(removeFactor(t.vault, t.call(child.token), shows(secret)))).toBe('forbidden');
    expect(await codeOf(removeFactor(t.vault, call, shows(secret)))).toBe('ok');
    expect([await works(token), await works(child.token, other)]).toEqual(['unauthenticated', 'unauthenticated']);
    expect((await attempt('removing')).mfa).toBe(false);
    const left = await t.owner`SELECT 1 FROM recovery_codes r JOIN users USING (user_id) WHERE name = 'removing'`;
    expect(left).toHaveLength(0);
  });

  it('a required one stays, and another may take its place', async () => {
    const { token, secret } = await enrolled('bound');
    await updateUser(t.vault, t.call(t.admin), 'bound', { mfaRequired: true });
    expect(await codeOf(removeFactor(t.vault, t.call(token), shows(secret)))).toBe('conflict');
    const next = await enrolFactor(t.vault, t.call(token), { password: PASSWORD, code: shows(secret) });
    const done = await confirmFactor(t.vault, t.call(token), shows(next.secret));
    await wait('bound');
    expect(await codeOf(attempt('bound', shows(secret)))).toBe('login_failed');
    expect(await codeOf(attempt('bound', shows(next.secret)))).toBe('ok');
    expect(await works(done.token)).toBe('ok');
  });

  it('an administrator takes a lost one away, which ends every session; a password of 8 characters is then to be changed', async () => {
    const { token, secret } = await enrolled('lost');
    expect(
      await codeOf(changePassword(t.vault, t.call(token), { currentPassword: PASSWORD, newPassword: '7 chars' })),
    ).toBe('invalid_request');
    const short = '8 chars!';
    await changePassword(t.vault, t.call(token), { currentPassword: PASSWORD, newPassword: short });
    const { token: next } = await attempt('lost', shows(secret), { password: short });
    await resetFactor(t.vault, t.call(t.admin), 'lost');
    expect(await works(next)).toBe('unauthenticated');
    const again = await attempt('lost', undefined, { password: short });
    expect([again.mfa, again.passwordChangeRequired]).toEqual([false, true]);
    const change = { currentPassword: short, newPassword: '9 chars !' };
    expect(await codeOf(changePassword(t.vault, t.call(again.token), change))).toBe('invalid_request');
    expect(await codeOf(updateUser(t.vault, t.call(t.admin), 'lost', { password: '9 chars !' }))).toBe(
      'invalid_request',
    );
  });

  it('an auditor’s policy does not take factors away', async () => {
    await enrolled('guarded');
    await putPolicy(t.vault, t.call(t.admin), 'desk', {
      rules: [{ effect: 'allow', actions: ['user.write', 'user.unlock'], resources: ['user:**'] }],
    });
    await createUser(t.vault, t.call(t.admin), { username: 'desk', password: PASSWORD, policies: ['desk'] });
    const { token } = await attempt('desk');
    expect(await codeOf(resetFactor(t.vault, t.call(token), 'guarded'))).toBe('forbidden');
  });
});

describe('a required factor', () => {
  it('of a user: the login opens nothing but enrolment, and from then on everything', async () => {
    await createUser(t.vault, t.call(t.admin), {
      ...{ username: 'obliged', password: PASSWORD, policies: ['admin'], mfaRequired: true },
    });
    const first = await attempt('obliged');
    expect([first.mfa, first.mfaRequired]).toEqual([false, true]);
    const call = t.call(first.token);
    const { entries } = await added(t.owner, tenant, async () => {
      expect(await codeOf(readUser(t.vault, call, 'obliged'))).toBe('mfa_required');
      expect(await codeOf(updateUser(t.vault, call, 'obliged', { mfaRequired: false }))).toBe('mfa_required');
      expect(await codeOf(createToken(t.vault, call, {}))).toBe('mfa_required');
    });
    expect(entries.map(({ outcome, code }) => [outcome, code])).toEqual(Array(3).fill(['denied', 'mfa_required']));
    expect(await works(first.token)).toBe('ok');
    const { secret } = await enrolFactor(t.vault, call, { password: PASSWORD });
    const done = await confirmFactor(t.vault, call, shows(secret));
    expect(await codeOf(readUser(t.vault, t.call(done.token), 'obliged'))).toBe('ok');
  });

  it('of a user: a session that is there is held up at once, on every node, until it shows one', async () => {
    await createUser(t.vault, t.call(t.admin), { username: 'caught', password: PASSWORD, policies: ['admin'] });
    const { token } = await attempt('caught');
    const child = await createToken(t.vault, t.call(token), { ttlSeconds: 60 });
    const reads = (held: string) => codeOf(readUser(other, t.call(held), 'caught'));
    expect([await reads(token), await reads(child.token)]).toEqual(['ok', 'ok']);
    await updateUser(t.vault, t.call(t.admin), 'caught', { mfaRequired: true });
    expect([await reads(token), await reads(child.token)]).toEqual(['mfa_required', 'mfa_required']);
  });

  it('of a rule: it allows what it does from the enrolment on, and to logins that showed the factor only', async () => {
    const rules = [
      { effect: 'allow', actions: ['user.read'], resources: ['user:*'], conditions: { mfa: true } },
      { effect: 'allow', actions: ['token.create'], resources: ['token:child'] },
    ] as const;
    await putPolicy(t.vault, t.call(t.admin), 'with-factor', { rules });
    await createUser(t.vault, t.call(t.admin), { username: 'ruled', password: PASSWORD, policies: ['with-factor'] });
    const reads = (token: string) => codeOf(readUser(t.vault, t.call(token), 'ruled'));
    const { token } = await attempt('ruled');
    expect(await reads(token)).toBe('forbidden');
    const { secret } = await enrolFactor(t.vault, t.call(token), { password: PASSWORD });
    const done = await confirmFactor(t.vault, t.call(token), shows(secret));
    const child = await createToken(t.vault, t.call(done.token), { ttlSeconds: 60 });
    expect([await reads(done.token), await reads(child.token)]).toEqual(['ok', 'ok']);
  });

  it('of a tenant: everybody’s, and the operators’ log and the tenant’s say so', async () => {
    const admin = await t.tenant('strict');
    const strict = await tenantId(t.owner, 'strict');
    const { entries } = await added(t.owner, strict, () =>
      updateTenant(t.vault, t.call(t.operator), 'strict', { mfaRequired: true }),
    );
    expect(entries).toMatchObject([{ action: 'tenant.update', details: { mfa_required: true } }]);
    expect(await codeOf(readUser(t.vault, t.call(admin), 'admin'))).toBe('mfa_required');
    const { secret } = await enrolFactor(t.vault, t.call(admin), { password: PASSWORD });
    const done = await confirmFactor(t.vault, t.call(admin), shows(secret));
    expect(await codeOf(removeFactor(t.vault, t.call(done.token), shows(secret, 1)))).toBe('conflict');
    expect(await codeOf(readUser(t.vault, t.call(done.token), 'admin'))).toBe('ok');
    await deleteTenant(t.vault, t.call(t.operator), 'strict');
    expect(await t.owner`SELECT 1 FROM totp_factors WHERE tenant_id = ${strict}`).toHaveLength(0);
    expect(await t.owner`SELECT 1 FROM recovery_codes WHERE tenant_id = ${strict}`).toHaveLength(0);
    expect(await t.owner`SELECT 1 FROM login_counters WHERE tenant_id = ${strict}`).toHaveLength(0);
  });
});

describe('sessions', () => {
  it('T-048 showing the factor again gives a new token and ends the old one, and all below it', async () => {
    const { token, secret } = await enrolled('stepping', ['admin']);
    const child = await createToken(t.vault, t.call(token), { ttlSeconds: 600 });
    const before = await readSelf(t.vault, t.call(token));
    const next = await elevate(t.vault, t.call(token), shows(secret));
    expect(next.token).not.toBe(token);
    expect([await works(token, other), await works(child.token, other)]).toEqual([
      'unauthenticated',
      'unauthenticated',
    ]);
    const after = await readSelf(t.vault, t.call(next.token));
    expect([after.expiresAt, after.maxExpiresAt, after.mfa]).toEqual([before.expiresAt, before.maxExpiresAt, true]);
    expect(await codeOf(elevate(t.vault, t.call(next.token), shows(secret)))).toBe('login_failed');
    expect(await codeOf(elevate(t.vault, t.call(t.admin), wrong))).toBe('conflict');
  });

  it('T-049 one’s own are listed and ended, at once on every node; another’s are not there', async () => {
    await createUser(t.vault, t.call(t.admin), { username: 'many', password: PASSWORD, policies: ['reader'] });
    const [one, two, three] = [await attempt('many'), await attempt('many'), await attempt('many')];
    const call = t.call(one.token);
    const { items } = await listSessions(t.vault, call, {});
    expect(items.map(({ accessor, current }) => [accessor, current])).toEqual(
      [one, two, three].map(({ accessor }) => [accessor, accessor === one.accessor] as const).sort(),
    );
    await endSession(t.vault, call, two.accessor);
    expect([await works(two.token, other), await works(three.token, other)]).toEqual(['unauthenticated', 'ok']);
    const theirs = parseToken(t.admin)!.tokenId;
    expect(await codeOf(endSession(t.vault, call, theirs))).toBe('not_found');
    expect(await codeOf(endSession(t.vault, call, 'a'.repeat(16)))).toBe('not_found');
    expect(await endOtherSessions(t.vault, call)).toBe(1);
    expect([await works(three.token, other), await works(one.token, other)]).toEqual(['unauthenticated', 'ok']);
    expect((await listSessions(t.vault, call, {})).items).toHaveLength(1);
    const child = await createToken(t.vault, t.call(t.admin), { ttlSeconds: 60 });
    expect(await codeOf(listSessions(t.vault, t.call(child.token), {}))).toBe('forbidden');
    expect(await codeOf(endOtherSessions(t.vault, t.call(child.token)))).toBe('forbidden');
  });
});

describe('keys and deletion', () => {
  it('a re-encryption moves the seeds, and the old key goes', async () => {
    const { secret } = await enrolled('rotated');
    const jobs = startJobs(t.vault);
    const { key, job } = await rotateKey(t.vault, t.call(t.admin), { reencrypt: true });
    await until('the job is done', async () => (await readJob(t.vault, t.call(t.admin), job!.id)).state === 'done');
    await jobs.stop();
    const rows = await t.owner`SELECT DISTINCT key_version FROM totp_factors WHERE tenant_id = ${tenant}`;
    expect(rows.map(({ key_version: version }) => version)).toEqual([key.version]);
    expect(await codeOf(attempt('rotated', shows(secret)))).toBe('ok');
  });

  it('a deleted user’s factor goes with it, and a new user of the name has none', async () => {
    const { secret } = await enrolled('reborn');
    await deleteUser(t.vault, t.call(t.admin), 'reborn');
    await createUser(t.vault, t.call(t.admin), { username: 'reborn', password: PASSWORD, policies: [] });
    expect((await attempt('reborn', shows(secret))).mfa).toBe(false);
  });
});
