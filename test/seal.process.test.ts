/**
 * Shares as people have them: shown once on a descriptor, brought back over the command line after a restart.
 * test/long/seal.process.test.ts has the seals of a host and passphrases.
 */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { directory, endAfterEach, loginAgain, loginFirst, operatorOf, start } from './sealed.ts';

endAfterEach();

it('T-019 a vault is born under shares, asks for them after a restart, and says whether they fit', async () => {
  const dataDir = directory();
  const env = { BULLA_SEAL: 'shamir', BULLA_SEAL_SHAMIR_SHARES: '3', BULLA_SEAL_SHAMIR_THRESHOLD: '2' };
  const file = join(dataDir, '..', 'shares');
  const descriptor = openSync(file, 'w', 0o600);
  const first = await start(dataDir, { ...env, BULLA_SEAL_SHARES_FD: '3' }, descriptor);
  closeSync(descriptor);
  const shares = readFileSync(file, 'utf8').trim().split('\n');
  expect(shares).toHaveLength(3);
  await loginFirst(operatorOf(first), dataDir);
  expect(first.output()).not.toContain('bulla-share');
  await first.end('SIGTERM');

  const second = await start(dataDir, env);
  expect(second.output()).toContain('waits for what opens its seal');
  const operator = operatorOf(second);
  expect((await operator('secret list')).code).toBe(7);
  const wrong = await operator('unseal', `${shares[0]}\nnot a share\n`);
  expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining('This is not a share')]);
  expect((await operator('seal status')).out).toMatch(/waits for what opens its seal[\s\S]*1 of 2/);
  expect((await operator('unseal', `${shares[1]}\n`)).out).toContain('This node is unsealed');
  await loginAgain(operator);
  const checked = await operator('seal check-shares', `${shares[0]}\n${shares[2]}\n`);
  expect([checked.code, checked.out]).toEqual([0, expect.stringContaining('Together they open the vault.')]);
});
