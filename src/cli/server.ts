/**
 * `bulla server`: from a configuration to a vault that serves, and back down in the reverse order.
 *
 *     database (embedded or given) → migrations → vault opened under its seal → serving.ts
 *
 * With more than one worker (BULLA_WORKERS) this process does all but the listening (workers.ts).
 * Most of the program is what serves. It loads while the database starts and Argon2 is tried, so nothing here imports it.
 * Everything that keeps it from serving ends it with one sentence on standard error. What it prints for people goes to
 * standard output, its log to standard error.
 */
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { shareOfFirst } from '../config-share.ts';
import { assertKnownAnswers } from '../crypto/self-test.ts';
import type { Endpoint } from '../db/database.ts';
import { type Embedded, startEmbedded } from '../db/embedded.ts';
import { resolveDataDir } from '../db/embedded-directory.ts';
import { migrate } from '../db/migrate.ts';
import { VaultError } from '../errors.ts';
import { closeVault, hasherOf, openVault } from '../vault.ts';
import { type Down, exitSoon, sentenceOf, takeDown } from './ending.ts';
import { type AskPassphrase, passphraseSource } from './host-seal.ts';
import { openLog } from './log.ts';
import { guardProcess } from './process-guard.ts';
import type { Reach } from './worker-channel.ts';

export type ServerIo = {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  readonly isTty: boolean;
  /** Asks on the terminal, where there is one. */
  readonly ask?: AskPassphrase;
};

/** Resolves with the exit code when the vault has stopped: 0 after a signal, 1 when it could not serve. */
export async function runServer(config: Config, io: ServerIo): Promise<number> {
  const log = openLog(config);
  const down: Down = [];
  const signals = awaitSignal();
  try {
    guardProcess(log);
    const served = serve(config, io, log, down);
    const ended = await Promise.race([served.then(() => undefined), signals.first]);
    // A signal during the start waits for the step that is running, so that it can be undone.
    if (ended !== undefined) await served.catch(() => undefined);
    await (ended === undefined ? signals.first : ended);
    return 0;
  } catch (error) {
    io.stderr.write(`bulla: ${sentenceOf(error, log)}\n`);
    return 1;
  } finally {
    await takeDown(down, log, stepMsOf(config));
    signals.stop();
    exitSoon();
  }
}

/** Running requests have the drain's deadline; all else is quick, or waits for a database that does not answer. */
const stepMsOf = ({ http, requestDeadlineSeconds }: Config) =>
  (http.drainDeadlineSeconds + 2 * requestDeadlineSeconds + 10) * 1000;

async function serve(config: Config, io: ServerIo, log: Logger, down: Down): Promise<void> {
  const startedMs = performance.now();
  const dataDir =
    config.databaseUrl === undefined
      ? resolveDataDir(config.dataDir, config.dataDirConfigured)
      : resolve(config.dataDir);
  assertKnownAnswers();
  const hasher = hasherOf(config);
  down.push(() => hasher.close());
  // A broken binary is a sentence, not a crash at the first login.
  const tried = inBackground(hasher.selfTest());
  const loading = inBackground(import('./serving.ts'));
  const { owner, ...reach } = await openDatabaseServer(config, dataDir, log, down);
  const migrated = await migrate(owner);
  const vault = await openVault({
    config: shareOfFirst(config),
    ...reach,
    dataDir,
    log,
    hasher,
    passphrase: passphraseSource(config, io.ask),
  });
  down.push(() => closeVault(vault));
  const { serveVault } = await loading;
  await serveVault(vault, { io, config, reach, dataDir, migrated, tried, startedMs, down });
}

/** What is awaited later, after something else that may fail first. */
function inBackground<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}

type DatabaseServer = Reach & { readonly owner: string | Endpoint };

async function openDatabaseServer(config: Config, dataDir: string, log: Logger, down: Down): Promise<DatabaseServer> {
  const { databaseUrl, databaseOwnerUrl } = config;
  if (databaseUrl !== undefined) {
    makeDataDir(dataDir);
    return { owner: databaseOwnerUrl ?? databaseUrl, target: databaseUrl, setRole: databaseOwnerUrl === undefined };
  }
  let supervised = false;
  const embedded: Embedded = await startEmbedded({
    dataDir,
    // After the start it speaks up only when PostgreSQL has ended by itself.
    log: (message, fields) => log[supervised ? 'warn' : 'debug'](fields ?? {}, message),
  });
  supervised = true;
  down.push(() => embedded.stop());
  return { owner: embedded.owner, target: embedded.app, setRole: false };
}

function makeDataDir(dataDir: string): void {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new VaultError(
      'unavailable',
      `${dataDir} cannot be made (${code}): make it writable, or set BULLA_DATA_DIR.`,
    );
  }
}

/** npm sends a Ctrl-C on that the terminal has sent to us already: what comes this soon is the same one. */
const SAME_SIGNAL_MS = 500;

/** The first SIGINT or SIGTERM asks for a clean end; the second one ends at once. */
function awaitSignal(): { first: Promise<string>; stop: () => void } {
  let stop = () => {};
  const first = new Promise<string>((done) => {
    let askedMs: number | undefined;
    const onSignal = (signal: string) => {
      const nowMs = performance.now();
      if (askedMs !== undefined && nowMs - askedMs >= SAME_SIGNAL_MS) process.exit(130);
      askedMs ??= nowMs;
      done(signal);
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
    stop = () => {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
    };
  });
  return { first, stop };
}
