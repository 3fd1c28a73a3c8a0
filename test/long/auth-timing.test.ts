/** How long logins take that fail for different reasons: nobody may learn from it which of them it was. */
import { Secret, TOTP } from 'otpauth';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { login } from '../../src/auth/login.ts';
import { confirmFactor, enrolFactor } from '../../src/auth/second-factor.ts';
import { createUser, updateUser } from '../../src/auth/user.ts';
import { PASSWORD, type TestVault, testVault } from '../harness.ts';
import { codeOf } from '../witness.ts';

let t: TestVault;
let sources = 0;
const wrong = 'a password that is not right';
const attempt = (username: string, password = PASSWORD, tenant = 'default') => {
  sources += 1;
  const source = `127.1.${sources >> 8}.${sources & 255}`;
  return login(t.vault, { ...t.call(), source }, { tenant, username, password });
};

beforeAll(async () => {
  t = await testVault();
  for (const username of ['known', 'locked', 'disabled', 'careful', 'passwordless']) {
    await createUser(t.vault, t.call(t.admin), { username, password: PASSWORD, policies: ['reader'] });
  }
  await updateUser(t.vault, t.call(t.admin), 'disabled', { disabled: true });
  await t.owner`UPDATE users SET password_hash = '!' WHERE name = 'passwordless'`;
  const careful = t.call(await t.login('default', 'careful'));
  const { secret } = await enrolFactor(t.vault, careful, { password: PASSWORD });
  await confirmFactor(t.vault, careful, new TOTP({ secret: Secret.fromBase32(secret) }).generate());
  for (let i = 0; i < 5; i += 1) await codeOf(attempt('locked', wrong));
});
afterAll(() => t.close());

describe('failed logins', () => {
  it('T-041 T-042 each costs one hash: the times of the kinds lie together', async () => {
    const kinds: Record<string, () => Promise<unknown>> = {
      wrong: () => attempt('known', wrong),
      nobody: () => attempt('nobody', wrong),
      locked: () => attempt('locked'),
      disabled: () => attempt('disabled'),
      'of a second factor': () => attempt('careful', wrong),
      passwordless: () => attempt('passwordless', wrong),
      'of an unknown tenant': () => attempt('known', wrong, 'nowhere'),
    };
    const times: Record<string, number[]> = {};
    for (let i = 0; i < 60; i += 1) {
      for (const [kind, act] of Object.entries(kinds)) {
        const started = performance.now();
        await codeOf(act());
        times[kind] = [...(times[kind] ?? []), performance.now() - started];
      }
      await t.owner`
        UPDATE login_counters SET failures = 0, locked_until = NULL
        WHERE kind <> 'source' AND failures > 0 AND subject NOT IN (SELECT user_id FROM users WHERE name = 'locked')`;
    }
    const median = (of: number[]) => of.sort((a, b) => a - b)[of.length >> 1]!;
    const medians = Object.values(times).map(median);
    expect(
      Math.max(...medians) / Math.min(...medians),
      JSON.stringify(Object.keys(times).map((kind, i) => [kind, Math.round(medians[i]!)])),
    ).toBeLessThan(1.1);
  }, 300_000);
});
