/**
 * Seals as an operator has them, over restarts: what the host has, a passphrase, and a birth that nobody would see.
 * test/seal.process.test.ts has the life of a vault under shares.
 */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { directory, endAfterEach, loginAgain, loginFirst, operatorOf, PASSPHRASE, start } from '../sealed.ts';

endAfterEach();

it('a vault is not born under shares that nobody would be shown', async () => {
  await expect(start(directory(), { BULLA_SEAL: 'shamir' })).rejects.toThrow(/shows its shares once/);
});

it('an operator seals, and the host’s own seal opens it again: `bulla unseal` over the database', async () => {
  const dataDir = directory();
  const server = await start(dataDir);
  const operator = operatorOf(server);
  await loginFirst(operator, dataDir);
  expect((await operator('unseal')).out).toContain('is not sealed');
  expect((await operator('seal now --yes')).code).toBe(0);
  expect((await operator('root-key list')).code).toBe(7);
  await server.end('SIGTERM');
  const again = await start(dataDir);
  const later = operatorOf(again);
  expect(again.output()).toContain('an operator sealed it');
  const elsewhere = await operatorOf(again, { BULLA_SEAL_FILE: join(dataDir, 'nowhere') })('unseal');
  expect([elsewhere.code, elsewhere.err]).toEqual([7, expect.stringContaining('cannot be read (ENOENT)')]);
  expect((await later('unseal')).code).toBe(0);
  for (let tries = 0; (await later('seal status --json')).out.includes('true'); tries += 1)
    expect(tries).toBeLessThan(5);
  await loginAgain(later);
  await loginAgain(later);
});

it('a vault moves to a passphrase over the command line, and a descriptor opens it at the next start', async () => {
  const dataDir = directory();
  const server = await start(dataDir);
  const operator = operatorOf(server);
  await loginFirst(operator, dataDir);
  const moved = await operator('seal migrate --to passphrase', `${PASSPHRASE}\n`);
  expect([moved.code, moved.out]).toEqual([
    0,
    expect.stringMatching(/sealed by passphrase, no more by file[\s\S]*--reencrypt/),
  ]);
  await server.end('SIGTERM');
  const file = join(dataDir, '..', 'passphrase');
  writeFileSync(file, `${PASSPHRASE}\n`, { mode: 0o600 });
  const descriptor = openSync(file, 'r');
  const again = await start(dataDir, { BULLA_SEAL_PASSPHRASE_FD: '3' }, descriptor);
  closeSync(descriptor);
  await loginAgain(operatorOf(again));
  expect((await operatorOf(again)('root-key list')).out).toMatch(/2 +active .* passphrase/);
  await again.end('SIGTERM');
  const shut = await start(dataDir);
  const later = operatorOf(shut);
  expect((await later('unseal', 'another passphrase altogether\n')).code).toBe(2);
  expect((await later('unseal', `${PASSPHRASE}\n`)).code).toBe(0);
  await loginAgain(later);
});
