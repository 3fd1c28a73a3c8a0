/** T-126, T-227: an hour (SOAK_MINUTES says otherwise) of everything at once: memory and descriptors stay what they were. */
import { expect, it } from 'vitest';
import { PATIENT } from '../setup.ts';
import { soak } from '../soak.ts';
import { vaults } from '../vaults.ts';

const { start } = vaults('soak');
const MINUTES = Number(process.env.SOAK_MINUTES ?? 60);

it(
  'T-126 T-227 RSS grows by less than a tenth, descriptors do not, nothing is swapped out',
  async () => {
    const server = await start('one', {
      ...PATIENT,
      // One login for all of it.
      BULLA_TOKEN_TTL: '12h',
      BULLA_LOG_LEVEL: 'error',
      NODE_OPTIONS: '--max-old-space-size=128',
    });
    const until = performance.now() + MINUTES * 60_000;
    const samples = await soak(server, 400, (samples) => {
      // What was measured is seen also when something breaks off.
      process.stderr.write(`${JSON.stringify(samples.at(-1) ?? {})}\n`);
      return samples.length >= 8 && performance.now() > until;
    });
    // What it comes down to when it collects: in the second quarter, when all is warm, and in the last one.
    const quarter = Math.floor(samples.length / 4);
    const [early, late] = [samples.slice(quarter, 2 * quarter), samples.slice(3 * quarter)];
    const least = (some: typeof samples, field: 'residentKib' | 'descriptors') =>
      Math.min(...some.map((one) => one[field]));
    process.stderr.write(
      `${samples.length} stretches in ${MINUTES} minutes: at least ${least(early, 'residentKib')} and then ` +
        `${least(late, 'residentKib')} KiB, ${least(early, 'descriptors')} and then ${least(late, 'descriptors')} descriptors\n`,
    );
    expect(least(late, 'residentKib')).toBeLessThan(1.1 * least(early, 'residentKib'));
    expect(least(late, 'descriptors')).toBeLessThanOrEqual(least(early, 'descriptors') + 4);
    expect(Math.max(...samples.map(({ swapKib }) => swapKib))).toBe(0);
  },
  2 * MINUTES * 60_000 + 600_000,
);
