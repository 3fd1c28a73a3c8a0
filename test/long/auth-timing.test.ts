/** How long logins take that fail for different reasons: nobody may learn from it which of them it was. */
import { randomInt } from 'node:crypto';
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

const ROUNDS = 200;
const KINDS: Record<string, () => Promise<unknown>> = {
  wrong: () => attempt('known', wrong),
  nobody: () => attempt('nobody', wrong),
  locked: () => attempt('locked'),
  disabled: () => attempt('disabled'),
  'of a second factor': () => attempt('careful', wrong),
  passwordless: () => attempt('passwordless', wrong),
  'of an unknown tenant': () => attempt('known', wrong, 'nowhere'),
};
const NAMES = Object.keys(KINDS);

/** In another order every round, so that none always follows the same one. */
function shuffled(names: readonly string[]): string[] {
  const left = [...names];
  return names.map(() => left.splice(randomInt(left.length), 1)[0]!);
}

async function timed(): Promise<Record<string, number>[]> {
  const rounds: Record<string, number>[] = [];
  for (let i = 0; i < ROUNDS; i += 1) {
    const round: Record<string, number> = {};
    for (const kind of shuffled(NAMES)) {
      const started = performance.now();
      await codeOf(KINDS[kind]!());
      round[kind] = performance.now() - started;
    }
    rounds.push(round);
    await t.owner`
      UPDATE login_counters SET failures = 0, locked_until = NULL
      WHERE kind <> 'source' AND failures > 0 AND subject NOT IN (SELECT user_id FROM users WHERE name = 'locked')`;
  }
  return rounds;
}

const median = (of: number[]) => of.sort((a, b) => a - b)[of.length >> 1]!;

/** Of a kind: the mean over all rounds of its place in the round, 1 for the quickest (Friedman's ranks). */
const meanRank = (rounds: readonly Record<string, number>[], kind: string) =>
  rounds.reduce((sum, round) => sum + 1 + NAMES.filter((other) => round[other]! < round[kind]!).length, 0) /
  rounds.length;

describe('failed logins', () => {
  it('T-041 T-042 each costs one hash: the times of the kinds lie together, and none tends to be slower', async () => {
    const rounds = await timed();
    const medians = NAMES.map((kind) => median(rounds.map((round) => round[kind]!)));
    const ranks = NAMES.map((kind) => meanRank(rounds, kind));
    const seen = NAMES.map((kind, i) => `${kind} ${medians[i]!.toFixed(1)} ms, rank ${ranks[i]!.toFixed(2)}`).join(
      '; ',
    );
    process.stdout.write(`${seen}\n`);
    expect(Math.max(...medians) / Math.min(...medians), seen).toBeLessThan(1.05);
    // Were all alike, every place would be as likely, and one of these seven would be off by so much once in 2,000 runs.
    const deviation = Math.sqrt((NAMES.length ** 2 - 1) / (12 * ROUNDS));
    const off = Math.max(...ranks.map((rank) => Math.abs(rank - (NAMES.length + 1) / 2)));
    expect(off / deviation, seen).toBeLessThan(4);
  }, 1_800_000);
});
