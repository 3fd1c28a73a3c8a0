/** A server killed at every named point, one life each: `npm run test:long`. */
import { inject, test } from 'vitest';
import { KILLPOINTS } from '../../src/db/killpoint.ts';
import { killAndProve, proveFirstStart } from '../kill.ts';
import { KILL_CASES } from '../kill-cases.ts';

for (const point of KILLPOINTS) {
  const { case: number, scenario } = KILL_CASES[point];
  test(`${number} T-170 SIGKILL at ${point} loses nothing`, { timeout: 300_000 }, () => {
    const { owner, app } = inject('server');
    return scenario ? killAndProve(point, scenario, owner) : proveFirstStart(point, owner, app);
  });
}
