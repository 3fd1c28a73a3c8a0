/**
 * Where the embedded PostgreSQL may live, as far as it is decided before a server starts. test/long has what it starts
 * from, what it finds in a directory of an earlier vault, and other users.
 */
import { chmodSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { resolveDataDir } from '../src/db/embedded-directory.ts';
import { freshDir, isRoot, ownDirectories, refusal, root } from './fixtures/embedded.ts';

ownDirectories();

describe('a data directory', () => {
  it('that is a file, or below one, is refused', async () => {
    const file = freshDir();
    writeFileSync(file, '');
    for (const path of [file, join(file, 'deep')]) {
      expect(await refusal(path)).toMatch(/^VaultError unavailable: .* is not a directory: move it away, or set BULLA/);
    }
  });

  it('with other files that others may write to is refused and left as it was', async () => {
    const dataDir = freshDir();
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, 'letter'), '');
    chmodSync(dataDir, 0o1777);
    expect(await refusal(dataDir)).toMatch(/unavailable: .* set BULLA_DATA_DIR to a directory of its own/);
    expect(statSync(dataDir).mode & 0o7777).toBe(0o1777);
  });

  it.runIf(isRoot)('of root that its server cannot enter moves to /var/lib/bulla, unless it was asked for', () => {
    const closed = freshDir();
    mkdirSync(closed, { mode: 0o700 });
    const wanted = join(closed, 'bulla-data');
    expect(resolveDataDir(wanted, false)).toBe('/var/lib/bulla');
    expect(() => resolveDataDir(wanted, true)).toThrow(
      new RegExp(`cannot enter ${closed}: chmod o\\+x ${closed}, or set`),
    );
    mkdirSync(join(wanted, 'pg'), { recursive: true });
    expect(() => resolveDataDir(wanted, false)).toThrow('cannot enter');
    chmodSync(closed, 0o711);
    expect(resolveDataDir(wanted, true)).toBe(wanted);
  });

  it('is the real path of what was given, and never holds a control character', () => {
    const real = freshDir();
    mkdirSync(real);
    symlinkSync(real, freshDir('link'));
    expect(resolveDataDir(join(root, 'link', 'new', '..', 'data'), true)).toBe(join(real, 'data'));
    expect(() => resolveDataDir(`${real}\n1`, true)).toThrow('control character');
  });
});
