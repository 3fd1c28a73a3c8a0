/**
 * Where the embedded PostgreSQL lives, and as whom it runs.
 *
 *     <data dir>            0711 of root, or 0700 of the user who runs the vault
 *       pg/                 0700 of the server's user: the cluster
 *       socket/             0700 of the server's user: its unix socket
 *       lock/               0700 of the vault's user: see embedded-lock.ts
 *       pg-credentials.json 0600 of the vault's user
 *       pg_hba.conf         written at every start; no secret
 *       pg.log, pg.log.1    0600 of the vault's user
 *
 * PostgreSQL refuses to run as root, so a vault of root gives it another user, who must be able to traverse to `pg/`.
 * A vault of root never writes, follows links or deletes inside a directory of that user: what happens there is done
 * by processes that run as that user. A path of a socket may have 103 bytes, so `socket/` and `lock/` of a data
 * directory with a longer one move to a directory of ours under /run or /tmp, named by a hash of the data directory.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fchmodSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { VaultError } from '../errors.ts';

/** Whom the server runs as when the vault is root's. */
export type ServerUser = { readonly uid: number; readonly gid: number };

export type Place = {
  readonly dataDir: string;
  readonly pgDir: string;
  readonly socketDir: string;
  readonly lockDir: string;
  readonly credentialsFile: string;
  readonly hbaFile: string;
  readonly logFile: string;
};

/** Where root keeps what its server cannot reach in the checkout. */
export const SYSTEM_DIR = '/var/lib/bulla';

/** sun_path has 104 bytes on macOS and 108 on Linux, with the final NUL. */
const SOCKET_PATH_BYTES_MAX = 103;
const SOCKET_DIR_BYTES_MAX = SOCKET_PATH_BYTES_MAX - '/socket/.s.PGSQL.5432'.length;
/** PostgreSQL and postgres.js read commas and colons in a socket directory as lists and ports. */
const SOCKET_DIR = /^[A-Za-z0-9_@%+=./-]+$/;

/** A cluster has 47 MB, and writes before the first checkpoint. */
export const FREE_BYTES_MIN = 128 * 1024 * 1024;

const USERS = ['bulla', 'postgres', '_postgres'];
const NOBODY: ServerUser = { uid: 65_534, gid: 65_534 };

/**
 * The absolute directory to use for what BULLA_DATA_DIR said. `explicit` is false when nobody said anything: then, for
 * root in a directory that the server's user cannot traverse (such as /root), it is /var/lib/bulla. Creates nothing.
 */
export function resolveDataDir(configured: string, explicit: boolean): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: postmaster.pid holds the path in a line of text.
  if (/[\x00-\x1f\x7f]/.test(configured)) {
    throw new VaultError('invalid_request', 'BULLA_DATA_DIR holds a control character: choose another directory.');
  }
  const wanted = realPathOf(resolve(configured));
  if (currentUid() !== 0) return wanted;
  const user = existingUser(wanted) ?? NOBODY;
  if (canTraverse(dirname(wanted), user)) return wanted;
  if (explicit || existsSync(join(wanted, 'pg'))) throw cannotTraverse(wanted, user);
  return SYSTEM_DIR;
}

function cannotTraverse(dataDir: string, user: ServerUser): VaultError {
  const closed = ancestors(dirname(dataDir)).find((dir) => !mayEnter(dir, user)) ?? dirname(dataDir);
  return new VaultError(
    'unavailable',
    `PostgreSQL runs as uid ${user.uid}, which cannot enter ${closed}: chmod o+x ${closed}, or set BULLA_DATA_DIR to a directory such as ${SYSTEM_DIR}.`,
  );
}

/** Creates and checks the data directory, and the directory of the lock. Nothing of the server's user yet. */
export function openPlace(dataDir: string): Place {
  const uid = currentUid();
  makeDirectory(dataDir);
  restrict(dataDir, uid);
  const base = socketBase(dataDir, uid);
  const lockDir = join(base, 'lock');
  ownDirectory(lockDir, uid);
  return {
    dataDir,
    pgDir: join(dataDir, 'pg'),
    socketDir: join(base, 'socket'),
    lockDir,
    credentialsFile: join(dataDir, 'pg-credentials.json'),
    hbaFile: join(dataDir, 'pg_hba.conf'),
    logFile: join(dataDir, 'pg.log'),
  };
}

/**
 * Chooses the server's user and gives it its socket directory; undefined when the vault is not root's. Held under the
 * lock, because the first start of all may create the user.
 *
 * In order: the owner of an existing cluster; a user `bulla`; the `postgres` of the system; a new system user `bulla`,
 * so that nobody else's processes share its files; `nobody`, where no user can be created.
 */
export function settleUser(place: Place): ServerUser | undefined {
  const uid = currentUid();
  const user = uid === 0 ? (existingUser(place.dataDir) ?? createUser() ?? lookUp(['nobody']) ?? NOBODY) : undefined;
  if (user && !canTraverse(dirname(place.dataDir), user)) throw cannotTraverse(place.dataDir, user);
  ownDirectory(place.socketDir, user?.uid ?? uid, user);
  if (existsSync(place.pgDir)) {
    const owner = statSync(place.pgDir).uid;
    if (owner !== (user?.uid ?? uid)) throw wrongOwner(place.pgDir, owner, user?.uid ?? uid);
  }
  return user;
}

/** The uid of this process. Windows has none, and neither unix sockets that our roles could trust. */
function currentUid(): number {
  const uid = process.getuid?.();
  if (uid !== undefined) return uid;
  throw new VaultError('unavailable', 'The embedded PostgreSQL runs on Linux and macOS: set BULLA_DATABASE_URL.');
}

function wrongOwner(path: string, owner: number, expected: number): VaultError {
  return new VaultError(
    'unavailable',
    `${path} belongs to uid ${owner}, expected ${expected}: start Bulla as the user who owns it, chown it, or set BULLA_DATA_DIR.`,
  );
}

export function diskFull(path: string): VaultError {
  return new VaultError(
    'unavailable',
    `The disk that holds ${path} is full: free at least ${FREE_BYTES_MIN / 1024 / 1024} MB and start again, or set BULLA_DATA_DIR.`,
  );
}

export function notADirectory(path: string): VaultError {
  return new VaultError(
    'unavailable',
    `${path} is not a directory: move it away, or set BULLA_DATA_DIR to another path.`,
  );
}

// ---- directories --------------------------------------------------------------------------------------------------

/** The mode that directories of ours get: root's must let the server's user pass, and nobody lists any. */
const ourMode = () => (currentUid() === 0 ? 0o711 : 0o700);

/** `mkdir -p`, where what is created has our mode whatever the umask is. */
export function makeDirectory(path: string): void {
  const first = mkdirSync(path, { recursive: true, mode: ourMode() });
  if (first === undefined) return;
  for (let dir = path; dir.length >= first.length; dir = dirname(dir)) chmodSync(dir, ourMode());
}

/** Makes the data directory ours alone, and refuses one that others own or that is plainly not meant to be ours. */
function restrict(dataDir: string, uid: number): void {
  const stat = statSync(dataDir);
  if (!stat.isDirectory()) throw notADirectory(dataDir);
  if (stat.uid !== uid) throw wrongOwner(dataDir, stat.uid, uid);
  const names = readdirSync(dataDir);
  const ours = names.length === 0 || names.includes('pg') || names.includes('lock');
  if (ours) chmodSync(dataDir, ourMode());
  else if (stat.mode & 0o022) {
    throw new VaultError(
      'unavailable',
      `${dataDir} holds other files and other users may write to it: set BULLA_DATA_DIR to a directory of its own.`,
    );
  } else if (uid === 0) chmodSync(dataDir, (stat.mode & 0o755) | 0o111);
}

/** A 0700 directory of one user. One that somebody else put there is refused, link or not. */
function ownDirectory(path: string, uid: number, user?: ServerUser): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const stat = lstatSync(path);
  if (!stat.isDirectory()) throw notADirectory(path);
  // Created just now, or by a vault that was killed before it gave it away.
  if (user && stat.uid === currentUid()) chownSync(path, user.uid, user.gid);
  else if (stat.uid !== uid) throw wrongOwner(path, stat.uid, uid);
  if (stat.mode & 0o077) chmodSync(path, 0o700);
}

/** The directory that `socket/` and `lock/` are in: the data directory when its path can name a socket. */
function socketBase(dataDir: string, uid: number): string {
  if (Buffer.byteLength(dataDir) <= SOCKET_DIR_BYTES_MAX && SOCKET_DIR.test(dataDir)) return dataDir;
  const hash = createHash('sha256').update(dataDir).digest('hex').slice(0, 16);
  const runtime = uid === 0 ? '/run' : `/run/user/${uid}`;
  const parent = isOwnedBy(runtime, uid) ? runtime : '/tmp';
  const base = join(parent, `bulla-${uid}-${hash}`);
  mkdirSync(base, { recursive: true, mode: ourMode() });
  const stat = lstatSync(base);
  if (!stat.isDirectory() || stat.uid !== uid) throw wrongOwner(base, stat.uid, uid);
  chmodSync(base, ourMode());
  return base;
}

function isOwnedBy(path: string, uid: number): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat?.isDirectory() === true && stat.uid === uid && (stat.mode & 0o022) === 0;
}

/** The path without links, as far as it exists: what another user must be able to traverse. */
function realPathOf(path: string): string {
  if (existsSync(path) || path === dirname(path)) return realpathSync(path);
  return join(realPathOf(dirname(path)), basename(path));
}

function ancestors(path: string): string[] {
  return path === dirname(path) ? [path] : [...ancestors(dirname(path)), path];
}

/** Whether the user may enter every directory down to this one; those that do not exist yet will be ours. */
export function canTraverse(path: string, user: ServerUser): boolean {
  return ancestors(path).every((dir) => mayEnter(dir, user));
}

function mayEnter(dir: string, user: ServerUser): boolean {
  const stat = statSync(dir, { throwIfNoEntry: false });
  if (!stat) return true;
  const bit = stat.uid === user.uid ? 0o100 : stat.gid === user.gid ? 0o010 : 0o001;
  return (stat.mode & bit) !== 0;
}

// ---- files --------------------------------------------------------------------------------------------------------

export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Replaces a file so that after a crash it is either the old one or the new one, whole. For one writer at a time. */
export function writeDurably(path: string, text: string, mode: number): void {
  const temporary = `${path}.new`;
  const file = openSync(temporary, 'w', 0o600);
  writeFileSync(file, text);
  fchmodSync(file, mode);
  fsyncSync(file);
  closeSync(file);
  renameSync(temporary, path);
  syncDirectory(dirname(path));
}

export function syncDirectory(path: string): void {
  const directory = openSync(path, 'r');
  fsyncSync(directory);
  closeSync(directory);
}

// ---- users --------------------------------------------------------------------------------------------------------

function existingUser(dataDir: string): ServerUser | undefined {
  const cluster = statSync(join(dataDir, 'pg'), { throwIfNoEntry: false });
  if (cluster && cluster.uid !== 0) return { uid: cluster.uid, gid: cluster.gid };
  return lookUp(USERS);
}

function lookUp(names: readonly string[]): ServerUser | undefined {
  const rows = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  for (const name of names) {
    const row = rows.find((fields) => fields[0] === name);
    const [uid, gid] = [Number(row?.[2]), Number(row?.[3])];
    if (uid > 0 && gid > 0) return { uid, gid };
  }
  return undefined;
}

function createUser(): ServerUser | undefined {
  const options = ['--system', '--user-group', '--no-create-home', '--home-dir', '/nonexistent'];
  spawnSync('/usr/sbin/useradd', [...options, '--shell', '/usr/sbin/nologin', 'bulla'], { stdio: 'ignore' });
  return lookUp(['bulla']);
}
