/**
 * Where the embedded PostgreSQL may live and what it runs from: refused and moved directories, another user's vault,
 * packages whose install script did not run. Linux.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findPackage, prepareBinaries } from '../../src/db/embedded-binaries.ts';
import {
  type Answer,
  answers,
  canBeNobody,
  FIXTURE,
  freshDir,
  isRoot,
  isServer,
  kill,
  mode,
  NOBODY,
  ownDirectories,
  refusal,
  serverPid,
  spawnAnswering,
  spawnVault,
  start,
  stop,
  type User,
  usedDir,
} from '../fixtures/embedded.ts';

ownDirectories();

const canMount = isRoot && spawnSync('unshare', ['-m', 'true']).status === 0;

// ---- places -------------------------------------------------------------------------------------------------------

describe('a data directory', () => {
  it.each([
    ['too long for a socket', 'x'.repeat(120)],
    ['with characters that lists are made of', 'a b,c:d'],
  ])('%s works, and is still for one vault', async (_, name) => {
    const dataDir = freshDir(name);
    const { app, stop } = await start(dataDir);
    expect(app.host.startsWith(dataDir)).toBe(false);
    expect(mode(app.host)).toBe('700');
    expect(await answers(app)).toBe(true);
    expect(await refusal(dataDir)).toContain('conflict');
    await stop();
    rmSync(join(app.host, '..'), { recursive: true });
  });

  it('whose cluster is not ours, of another version, or without its passwords is refused and left alone', async () => {
    const dataDir = await usedDir();
    const credentials = join(dataDir, 'pg-credentials.json');
    const good = readFileSync(credentials, 'utf8');
    rmSync(credentials);
    expect(await refusal(dataDir)).toContain('is missing, and without it');
    writeFileSync(credentials, '{"bulla_owner":');
    expect(await refusal(dataDir)).toContain('is damaged, and without it');
    writeFileSync(credentials, good.replace(/"bulla_app": "..../, '"bulla_app": "AAAA'));
    expect(await refusal(dataDir)).toContain('does not belong to the PostgreSQL beside it');
    expect(serverPid(dataDir)).toBeUndefined();
    writeFileSync(credentials, good);

    const version = join(dataDir, 'pg', 'PG_VERSION');
    const major = readFileSync(version, 'utf8');
    writeFileSync(version, '9\n');
    expect(await refusal(dataDir)).toMatch(/was written by PostgreSQL 9, and this Bulla brings PostgreSQL \d+: start/);
    rmSync(version);
    expect(await refusal(dataDir)).toContain('is not empty and not a PostgreSQL cluster');
    writeFileSync(version, major);
    chownSync(version, statSync(join(dataDir, 'pg')).uid, statSync(join(dataDir, 'pg')).gid);
    expect(await answers((await start(dataDir)).app)).toBe(true);
  });

  it('with a configuration that PostgreSQL refuses ends with its reason', async () => {
    const dataDir = await usedDir();
    writeFileSync(join(dataDir, 'pg', 'postgresql.conf'), 'shared_buffers = lots\n');
    expect(await refusal(dataDir)).toMatch(/unavailable: The embedded PostgreSQL did not start: FATAL: .*Its log is/);
  });

  it.runIf(canMount)('on a full disk ends with a sentence, and works again when there is room', async () => {
    const disk = freshDir();
    mkdirSync(disk);
    const sh = ['-m', 'sh', '-c', `mount -t tmpfs -o size=$1 none ${disk} && shift && exec "$@"`, 'sh'];
    const small = spawnAnswering('unshare', [...sh, '64m', process.execPath, FIXTURE, join(disk, 'd')]);
    expect(await small.answer).toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('is full: free'),
    });

    const vault = `echo | ${process.execPath} ${FIXTURE} ${disk}/d`;
    const fill = `dd if=/dev/zero of=${disk}/ballast bs=64k 2>/dev/null`;
    const thrice = `${vault}; ${fill}; ${vault}; rm ${disk}/ballast; ${vault}`;
    const full = spawnSync('unshare', [...sh, '200m', 'sh', '-c', thrice], { encoding: 'utf8' });
    const lines = full.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Answer);
    expect(lines[0]).toMatchObject({ adopted: false });
    expect(lines[1]).toMatchObject({ code: 'unavailable', message: expect.stringMatching(/full|No space left/) });
    expect(lines[2]).toMatchObject({ adopted: false });
  });
});

// ---- another user -------------------------------------------------------------------------------------------------

describe.runIf(canBeNobody)('a vault that is not root’s', () => {
  function dirOfNobody(name?: string): string {
    const path = freshDir(name);
    mkdirSync(path, { mode: 0o700 });
    chownSync(path, NOBODY.uid, NOBODY.gid);
    return path;
  }

  it('starts, is killed, adopts and stops', async () => {
    const dataDir = freshDir(join(basename(dirOfNobody()), 'data'));
    const first = spawnVault(dataDir, NOBODY);
    expect(await first.answer).toMatchObject({ adopted: false });
    expect([mode(dataDir), mode(join(dataDir, 'pg')), mode(join(dataDir, 'pg_hba.conf'))]).toEqual([
      '700',
      '700',
      '600',
    ]);
    const pid = serverPid(dataDir) ?? 0;
    expect(statSync(`/proc/${pid}`).uid).toBe(NOBODY.uid);
    await kill(first);
    const second = spawnVault(dataDir, NOBODY);
    expect(await second.answer).toMatchObject({ adopted: true });
    await stop(second);
    expect(isServer(pid, dataDir)).toBe(false);
    expect(await refusal(dataDir)).toMatch(/belongs to uid 65534, expected 0: start Bulla as the user who owns it/);
  });

  it('is refused a directory that it cannot write to, or that is somebody else’s', async () => {
    const parent = freshDir();
    mkdirSync(join(parent, 'owned'), { recursive: true });
    const unwritable = spawnVault(join(parent, 'data'), NOBODY);
    expect(await unwritable.answer).toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(
        /cannot be written by uid 65534 \(EACCES\): give it to that user \(chown\), or set BULLA/,
      ),
    });
    const foreign = spawnVault(join(parent, 'owned'), NOBODY);
    expect(await foreign.answer).toMatchObject({
      message: expect.stringContaining('belongs to uid 0, expected 65534'),
    });
  });

  it('refuses a socket directory that somebody planted under /tmp', async () => {
    const dataDir = dirOfNobody('y'.repeat(120));
    const before = new Set(readdirSync('/tmp'));
    const first = spawnVault(dataDir, NOBODY);
    expect(await first.answer).toMatchObject({ adopted: false });
    await stop(first);
    const base = join(
      '/tmp',
      readdirSync('/tmp').find((name) => name.startsWith('bulla-65534-') && !before.has(name)) ?? '?',
    );
    expect(mode(base)).toBe('700');
    chownSync(base, 1, 1);
    const second = spawnVault(dataDir, NOBODY);
    expect(await second.answer).toMatchObject({ message: expect.stringContaining(`${base} belongs to uid 1`) });
    rmSync(base, { recursive: true });
  });
});

// ---- programs -----------------------------------------------------------------------------------------------------

describe('the programs', () => {
  /** The package as npm unpacks it, before its install script. */
  function packageWithoutLinks(): string {
    const home = freshDir();
    const native = findPackage();
    cpSync(native, join(home, 'native'), { recursive: true, verbatimSymlinks: true });
    cpSync(join(native, '..', 'package.json'), join(home, 'package.json'));
    const links = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as { target: string }[];
    for (const { target } of links) rmSync(join(home, target), { force: true });
    return join(home, 'native');
  }

  const versionOf = (postgresPath: string, user?: User) =>
    execFileSync(postgresPath, ['--version'], { ...user, cwd: '/', encoding: 'utf8' }).trim();

  it('get the links of their libraries where the install script did not run', () => {
    const native = packageWithoutLinks();
    expect(() => execFileSync(join(native, 'bin', 'postgres'), ['--version'], { stdio: 'pipe' })).toThrow('libicu');
    const binaries = prepareBinaries(native, undefined, freshDir());
    expect(binaries.postgres).toBe(join(native, 'bin', 'postgres'));
    expect(versionOf(binaries.postgres)).toMatch(new RegExp(`^postgres \\(PostgreSQL\\) ${binaries.major}\\.`));
  });

  it.runIf(isRoot)('are copied once, whole and with their links, to where the server’s user can run them', () => {
    const native = packageWithoutLinks();
    chmodSync(join(native, '..'), 0o700);
    const copies = freshDir();
    const binaries = prepareBinaries(native, NOBODY, copies);
    expect(binaries.postgres).toBe(join(copies, `postgres-${binaries.version}`, 'native', 'bin', 'postgres'));
    expect(versionOf(binaries.postgres, NOBODY)).toContain('PostgreSQL');
    const made = statSync(binaries.postgres).ino;
    expect(prepareBinaries(native, NOBODY, copies).postgres).toBe(binaries.postgres);
    expect(statSync(binaries.postgres).ino).toBe(made);
    expect(readdirSync(copies)).toHaveLength(1);
  });

  it.runIf(canBeNobody)('are copied by a vault that may not write the links where the package is', () => {
    const native = packageWithoutLinks();
    const copies = freshDir();
    mkdirSync(copies, { mode: 0o700 });
    chownSync(copies, NOBODY.uid, NOBODY.gid);
    const module = new URL('../../dist/db/embedded-binaries.js', import.meta.url).href;
    const code = `import { prepareBinaries } from ${JSON.stringify(module)};
      process.stdout.write(prepareBinaries(${JSON.stringify(native)}, undefined, ${JSON.stringify(copies)}).postgres);`;
    const args = ['--input-type=module', '-e', code];
    const path = execFileSync(process.execPath, args, { ...NOBODY, cwd: '/', encoding: 'utf8' });
    expect(path.startsWith(copies)).toBe(true);
    expect(versionOf(path, NOBODY)).toContain('PostgreSQL');
  });
});
