/** A server killed at a few of the named points; test/long/kill.test.ts goes through all of them. */
import { inject, test } from 'vitest';
import { killAndProve } from './kill.ts';
import { KILL_CASES } from './kill-cases.ts';

/** One of each kind, and of those the one with the most half done. */
const HERE = ['reencrypt.committed', 'root-key.destroyed', 'account.changed', 'audit.written'] as const;

for (const point of HERE) {
  const { case: number, scenario } = KILL_CASES[point];
  test(`${number} T-170 SIGKILL at ${point} loses nothing`, () =>
    killAndProve(point, scenario!, inject('server').owner));
}
