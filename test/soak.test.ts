/** T-126, for seconds: nothing is left open by what was asked. test/long/soak.test.ts is an hour of it, with the memory. */
import { expect, it } from 'vitest';
import { soak } from './soak.ts';
import { vaults } from './vaults.ts';

const { start } = vaults('soak-short');

it('T-126 a vault that was asked everything has no more descriptors open than before', async () => {
  const server = await start('one', { BULLA_LOG_LEVEL: 'error' });
  const samples = await soak(server, 20, (samples) => samples.length === 4);
  const [first, ...rest] = samples.map(({ descriptors }) => descriptors);
  // Connections of clients that have just gone, and those of the pool that the next one opens.
  for (const later of rest) expect(later).toBeLessThanOrEqual(first! + 12);
});
