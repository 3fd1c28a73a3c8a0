/**
 * One running embedded server: found or started, waited for, watched, stopped.
 *
 * Whether a server runs is read from its postmaster.pid and checked against the process: the pid must belong to the
 * server's user and have been started for this directory, because pids are used again. PostgreSQL keeps two servers
 * off one directory itself (postmaster.pid, shared memory); nothing here weakens that, except that a pid file is removed
 * when its pid belongs to somebody else's process now, which PostgreSQL cannot tell.
 */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VaultError } from '../errors.ts';
import type { Binaries } from './embedded-binaries.ts';
import { type Place, readIfThere, type ServerUser, writeDurably } from './embedded-directory.ts';
import { lastFailure, spawnServer } from './embedded-process.ts';

export type Postmaster = {
  readonly pid: number;
  /** Found running, not started here. */
  readonly adopted: boolean;
  readonly isRunning: () => boolean;
  /** Settles when the process has ended, for whatever reason. Never rejects. */
  readonly ended: Promise<void>;
};

export const PORT = 5432;

const SOCKET = `.s.PGSQL.${PORT}`;

const READY_POLL_MS = 10;
const WATCH_POLL_MS = 250;
/** Recovery replays at most max_wal_size; a slow disk may need minutes for that. */
const READY_MS_MAX = 600_000;
/** Backends notice within moments that their postmaster is gone, unless they are in a statement. */
const STRAY_BACKENDS_MS_MAX = 15_000;
/** Killed processes end within moments; kernel threads look like one that ends, and do not. */
const ENDING_MS_MAX = 2_000;
const FAST_STOP_MS_MAX = 60_000;
const IMMEDIATE_STOP_MS_MAX = 10_000;
const LOG_BYTES_MAX = 1024 * 1024;

type Found = { readonly pid: number; readonly socketDir: string; readonly status: string };

/** The running server of this place, adopted or started. Rejects with `unavailable` and PostgreSQL's reason. */
export async function ensurePostmaster(
  place: Place,
  binaries: Binaries,
  user: ServerUser | undefined,
): Promise<Postmaster> {
  const deadline = Date.now() + STRAY_BACKENDS_MS_MAX;
  for (;;) {
    const found = readPidFile(place);
    if (found && whoIs(found.pid, place, user) === 'ours') {
      const adopted = await adopt(found, place, user);
      if (adopted) return adopted;
      continue;
    }
    if (found) await removeLeftPid(found.pid, place, user);
    const started = await start(place, binaries, user);
    if (started) return started;
    // Only a server that was not stopped cleanly can leave something behind that goes away by itself.
    const unclean = found ?? readPidFile(place);
    if (!unclean || Date.now() > deadline) throw didNotStart(place);
    await sleep(READY_POLL_MS * 5);
  }
}

/** Lets PostgreSQL start although the pid that its last server left in its files is in use: it cannot tell by whom. */
async function removeLeftPid(pid: number, place: Place, user: ServerUser | undefined): Promise<void> {
  const isEnding = () => whoIs(pid, place, user) === 'ending';
  for (const until = Date.now() + ENDING_MS_MAX; isEnding() && Date.now() < until; ) await sleep(READY_POLL_MS);
  if (!isAlive(pid)) return;
  rmSync(join(place.socketDir, `${SOCKET}.lock`), { force: true });
  rmSync(join(place.pgDir, 'postmaster.pid'), { force: true });
}

function didNotStart(place: Place): VaultError {
  const why = lastFailure(readIfThere(place.logFile)?.slice(-4_000) ?? '') ?? 'it ended without a reason';
  return new VaultError('unavailable', `The embedded PostgreSQL did not start: ${why}. Its log is ${place.logFile}.`);
}

// ---- starting -----------------------------------------------------------------------------------------------------

/** Starts the server and waits until it takes connections. Undefined when it ended before that. */
async function start(place: Place, binaries: Binaries, user: ServerUser | undefined): Promise<Postmaster | undefined> {
  // No superuser, no TCP, no database but for our two roles, always a password. Root's file must be readable to the server.
  writeDurably(place.hbaFile, 'local all bulla_owner,bulla_app scram-sha-256\n', user ? 0o644 : 0o600);
  const log = openLog(place);
  let child: ChildProcess;
  try {
    child = await spawnServer(binaries.postgres, serverArguments(place), user, log);
  } finally {
    closeSync(log);
  }
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const isRunning = () => child.exitCode === null && child.signalCode === null;
  const postmaster = { pid: child.pid ?? 0, adopted: false, isRunning, ended };
  return (await isReady(place, postmaster)) ? postmaster : undefined;
}

/**
 * What the promises stand on: on the command line, so that postgresql.conf cannot change it.
 *
 * PostgreSQL writes values into its messages ("Failing row contains", "invalid input syntax for type json"). At level
 * `log` it writes no message about any statement at all, only about itself; that also bounds the log.
 */
function serverArguments(place: Place): string[] {
  const settings: Readonly<Record<string, string>> = {
    listen_addresses: '',
    port: String(PORT),
    unix_socket_directories: place.socketDir,
    unix_socket_permissions: '0700',
    hba_file: place.hbaFile,
    password_encryption: 'scram-sha-256',
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    restart_after_crash: 'on',
    update_process_title: 'off',
    logging_collector: 'off',
    log_destination: 'stderr',
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    log_error_verbosity: 'terse',
    log_parameter_max_length: '0',
    log_parameter_max_length_on_error: '0',
    log_statement: 'none',
    log_min_duration_statement: '-1',
    log_checkpoints: 'off',
    log_autovacuum_min_duration: '-1',
  };
  return ['-D', place.pgDir, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
}

/** The log, appended to. It is turned over at a start; between two starts the server has next to nothing to say. */
function openLog(place: Place): number {
  const size = statSync(place.logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (size > LOG_BYTES_MAX) renameSync(place.logFile, `${place.logFile}.1`);
  return openSync(place.logFile, 'a', 0o600);
}

/** Waits until the server says in postmaster.pid that it is ready; false when it ended first. */
async function isReady(place: Place, postmaster: Postmaster): Promise<boolean> {
  const deadline = Date.now() + READY_MS_MAX;
  while (postmaster.isRunning()) {
    const found = readPidFile(place);
    if (found?.pid === postmaster.pid && found.status === 'ready') return true;
    if (Date.now() > deadline) {
      throw new VaultError(
        'unavailable',
        `The embedded PostgreSQL (pid ${postmaster.pid}) is not ready after ${READY_MS_MAX / 60_000} minutes: see ${place.logFile}; end it with kill -INT ${postmaster.pid} to begin anew.`,
      );
    }
    await sleep(READY_POLL_MS);
  }
  return false;
}

// ---- adopting -----------------------------------------------------------------------------------------------------

/** Takes over a server that a killed vault left. Undefined when it ended, was ending, or had lost its socket. */
async function adopt(found: Found, place: Place, user: ServerUser | undefined): Promise<Postmaster | undefined> {
  const isRunning = () => whoIs(found.pid, place, user) === 'ours';
  const postmaster = { pid: found.pid, adopted: true, isRunning, ended: watch(isRunning) };
  const hasSocket = () => found.socketDir === place.socketDir && existsSync(join(place.socketDir, SOCKET));
  if (found.status !== 'stopping' && (await isReady(place, postmaster)) && hasSocket()) return postmaster;
  await stopPostmaster(postmaster);
  return undefined;
}

async function watch(isRunning: () => boolean): Promise<void> {
  while (isRunning()) await sleep(WATCH_POLL_MS, undefined, { ref: false });
}

/** Its lines: pid, directory, start time, port, socket directory, address, shared memory, status. */
function readPidFile(place: Place): Found | undefined {
  const lines = readIfThere(join(place.pgDir, 'postmaster.pid'))?.split('\n') ?? [];
  const pid = Number(lines[0]);
  if (!Number.isSafeInteger(pid) || pid <= 1) return undefined;
  return { pid, socketDir: lines[4] ?? '', status: lines[7]?.trim() ?? '' };
}

type Process = 'ours' | 'ending' | 'stranger' | 'gone';

/** What a pid is now: a server of this directory and user, one that is on its way out, or who got its number later. */
function whoIs(pid: number, place: Place, user: ServerUser | undefined): Process {
  if (!isAlive(pid)) return 'gone';
  const expected = user?.uid ?? process.getuid?.();
  if (!existsSync('/proc/self/cmdline')) {
    const ps = spawnSync('/bin/ps', ['-o', 'uid=,command=', '-p', String(pid)], { encoding: 'utf8' });
    return Number.parseInt(ps.stdout, 10) === expected && ps.stdout.includes(`-D ${place.pgDir} `)
      ? 'ours'
      : 'stranger';
  }
  try {
    const owner = statSync(`/proc/${pid}`).uid;
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    // Without its memory a process has no words. A zombie can stay for ever where nobody reaps, and holds nothing.
    if (words[0] === '') return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')) ? 'stranger' : 'ending';
    return owner === expected && words[words.indexOf('-D') + 1] === place.pgDir ? 'ours' : 'stranger';
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ESRCH') return 'gone';
    if (code === 'EACCES' || code === 'EPERM') return 'stranger';
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

// ---- stopping -----------------------------------------------------------------------------------------------------

/**
 * Fast shutdown: sessions end, everything is written, the next start has nothing to recover. A server that takes too
 * long is ended harder each time, which loses nothing either but leaves recovery to the next start. Down on return.
 */
export async function stopPostmaster(postmaster: Postmaster): Promise<void> {
  const steps = [
    { signal: 'SIGINT', ms: FAST_STOP_MS_MAX },
    { signal: 'SIGQUIT', ms: IMMEDIATE_STOP_MS_MAX },
    { signal: 'SIGKILL', ms: IMMEDIATE_STOP_MS_MAX },
  ] as const;
  for (const { signal, ms } of steps) {
    if (!postmaster.isRunning()) return;
    send(postmaster.pid, signal);
    for (const until = Date.now() + ms; Date.now() < until; ) {
      if (!postmaster.isRunning()) return;
      await sleep(READY_POLL_MS);
    }
  }
  throw new Error(`PostgreSQL (pid ${postmaster.pid}) cannot be killed`);
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It has just ended by itself.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
