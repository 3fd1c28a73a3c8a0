/**
 * T-085, T-186: the disk under the log is full. Nobody waits longer than five seconds, no byte of a secret leaves without
 * its entry, nothing acknowledged is lost, and the vault serves again by itself.
 */
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { api, attempt, press, prove } from './disk.ts';
import { type Server, startServer, temporaryDirectory } from './process.ts';
import { until } from './until.ts';

test('T-085 T-186 a full disk: refused in time, nothing acknowledged is lost, and it heals when there is room', async (context) => {
  const directory = temporaryDirectory('full-disk');
  if (!attempt('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'tmpfs', directory.path])) {
    directory.remove();
    context.skip('a small disk cannot be made: this needs the right to mount a tmpfs');
  }
  chmodSync(directory.path, 0o711);
  let server: Server | undefined;
  try {
    server = await startServer(join(directory.path, 'data'));
    const { ask, start } = api(server);
    await start();
    const filler = join(directory.path, 'filler');
    expect(() => writeFileSync(filler, Buffer.alloc(256 * 1024 * 1024))).toThrow(/ENOSPC/);
    const { reads, writes, refused } = await press(ask, 'full', 60);
    expect(refused.length).toBeGreaterThan(0);
    for (const { status } of refused) expect([503, 504]).toContain(status);
    rmSync(filler);
    await until(
      'it serves again',
      async () => (await ask('PUT', '/secrets/after', { text: 'x' })).status === 201,
      20_000,
    );
    await prove(ask, reads, writes);
  } finally {
    await server?.end('SIGTERM');
    attempt('umount', [directory.path]);
    directory.remove();
  }
});
