/**
 * `bulla server`: from a configuration to a vault that serves, and back down in the reverse order.
 *
 *     database (embedded or given) → migrations → vault opened under its seal → first start → audit log checked and signed → listener
 *
 * Everything that keeps it from serving ends it with one sentence on standard error. What it prints for people goes to
 * standard output, its log to standard error.
 */
import { mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import { isAcknowledged } from '../audit/mark.ts';
import { endTails } from '../audit/tail.ts';
import type { Config } from '../config.ts';
import { assertKnownAnswers } from '../crypto/self-test.ts';
import type { Endpoint } from '../db/database.ts';
import { type Embedded, startEmbedded } from '../db/embedded.ts';
import { resolveDataDir } from '../db/embedded-directory.ts';
import { migrate } from '../db/migrate.ts';
import { VaultError } from '../errors.ts';
import { createApp } from '../http/app.ts';
import { certificateSource } from '../http/certificate-source.ts';
import { type Listener, listen } from '../http/listener.ts';
import { openTls, type Tls } from '../http/tls.ts';
import { startAuditKeeper } from '../job/audit-keeper.ts';
import { type FirstAccount, initialise } from '../job/initialise.ts';
import { startJobs } from '../job/kinds.ts';
import { startSchedule } from '../job/schedule.ts';
import { startSweeper } from '../lease/sweeper.ts';
import { checkRootMark, proveKeys } from '../tenant/self-test.ts';
import { closeVault, openVault, type Vault } from '../vault.ts';
import {
  credentialsFile,
  discardCredentials,
  forgetWhenChanged,
  keepAddress,
  keepCredentials,
  unchangedAccounts,
} from './first-credentials.ts';
import { type AskPassphrase, passphraseSource, showShares } from './host-seal.ts';
import { openLog } from './log.ts';
import { guardProcess } from './process-guard.ts';

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
  const down: (() => Promise<void>)[] = [];
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
    io.stderr.write(`bulla: ${sentence(error)}\n`);
    if (!(error instanceof VaultError)) log.fatal({ err: error }, 'start failed');
    return 1;
  } finally {
    for (const step of down.reverse()) await step().catch((error) => log.error({ err: error }, 'while stopping'));
    signals.stop();
  }
}

function sentence(error: unknown): string {
  if (error instanceof VaultError) return error.message;
  return 'could not start because of an error of its own; it is in the log.';
}

async function serve(config: Config, io: ServerIo, log: Logger, down: (() => Promise<void>)[]): Promise<void> {
  const started = performance.now();
  const dataDir =
    config.databaseUrl === undefined
      ? resolveDataDir(config.dataDir, config.dataDirConfigured)
      : resolve(config.dataDir);
  assertKnownAnswers();
  const database = await openDatabaseServer(config, dataDir, log, down);
  const migrated = await migrate(database.owner);
  const vault = await openVault({
    config,
    target: database.app,
    setRole: database.setRole,
    dataDir,
    log,
    passphrase: passphraseSource(config, io.ask),
  });
  down.push(() => closeVault(vault));
  // Runs beside the first start's own hashing: a broken binary is a sentence, not a crash at the first login.
  const [first] = await Promise.all([start(vault, config, io, dataDir), vault.hasher.selfTest()]);
  const keep = async () => {
    const markFile = config.auditMarkFile ?? join(dataDir, 'audit-mark.jsonl');
    const rootMark = join(dirname(markFile), 'root-mark.json');
    await proveKeys(vault);
    await checkRootMark(vault, rootMark, isAcknowledged(markFile));
    const keeper = await startAuditKeeper(vault, markFile, { migrations: migrated.applied });
    down.push(() => keeper.stop());
    const jobs = startJobs(vault);
    down.push(() => jobs.stop());
    const schedule = startSchedule(vault, rootMark);
    down.push(() => schedule.stop());
    const sweeper = startSweeper(vault);
    down.push(() => sweeper.stop());
  };
  // All this needs keys: a vault that starts sealed checks its mark when it is unsealed, before it serves.
  if (vault.seal.sealed) vault.seal.whenOpened(keep);
  else await keep();
  const { tls, authorityFile } = await secure(config, dataDir, log, down);
  const listener = await listen(vault, createApp(vault, tls), config);
  down.push(() => listener.close());
  // A tail never ends by itself, and a clean end waits for running answers.
  down.push(async () => endTails(vault));
  if (first.length > 0) keepAddress(dataDir, listener.address);
  // The one line of a start: what it did before goes here, so that a start that fails says nothing but why.
  log.info(
    {
      ms: Math.round(performance.now() - started),
      address: listener.address,
      postgres: migrated.serverVersion,
      migrated: migrated.applied,
      dataDir,
    },
    'started',
  );
  down.push(forgetWhenChanged(vault, dataDir));
  const trust = tls && trustIn(tls, authorityFile);
  announce(io, listener, dataDir, first, vault.seal.sealed ? vault.seal.error.message : undefined, trust);
}

/** TLS as it is configured: certificates at hand and looked after until the end. */
async function secure(
  config: Config,
  dataDir: string,
  log: Logger,
  down: (() => Promise<void>)[],
): Promise<{ tls?: Tls; authorityFile?: string }> {
  if (!config.tls) return {};
  const source = certificateSource(config, config.tls, dataDir);
  const tls = await openTls(config.tls, source, log);
  const onHangup = () => void tls.look();
  process.on('SIGHUP', onHangup);
  down.push(async () => {
    process.off('SIGHUP', onHangup);
    tls.close();
  });
  return { tls, ...('authorityFile' in source ? { authorityFile: source.authorityFile } : {}) };
}

/** How clients come to trust this server, for people and for what they copy. */
type Trust = { readonly lines: readonly string[]; readonly environment: string };

function trustIn(tls: Tls, authorityFile: string | undefined): Trust {
  const { certificates, backupPin, alarms, faults } = tls.status();
  const pins = [...certificates.map(({ pin }) => pin), ...(backupPin === undefined ? [] : [backupPin])];
  const lines = [
    ...[...alarms, ...faults].map((alarm) => `Attention: ${alarm}`),
    `Its keys, for clients that pin them: ${pins.join(',')}`,
  ];
  if (authorityFile === undefined) return { lines, environment: '' };
  lines.unshift(`Clients trust it when they are given ${authorityFile}: BULLA_CACERT, or --cacert.`);
  return { lines, environment: `BULLA_CACERT=${authorityFile} ` };
}

type DatabaseServer = { owner: string | Endpoint; app: string | Endpoint; setRole: boolean };

async function openDatabaseServer(
  config: Config,
  dataDir: string,
  log: Logger,
  down: (() => Promise<void>)[],
): Promise<DatabaseServer> {
  const { databaseUrl, databaseOwnerUrl } = config;
  if (databaseUrl !== undefined) {
    makeDataDir(dataDir);
    return { owner: databaseOwnerUrl ?? databaseUrl, app: databaseUrl, setRole: databaseOwnerUrl === undefined };
  }
  let supervised = false;
  const embedded: Embedded = await startEmbedded({
    dataDir,
    // After the start it speaks up only when PostgreSQL has ended by itself.
    log: (message, fields) => log[supervised ? 'warn' : 'debug'](fields ?? {}, message),
  });
  supervised = true;
  down.push(() => embedded.stop());
  return { owner: embedded.owner, app: embedded.app, setRole: false };
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

/** The accounts that this or an earlier first start made, while they have the passwords that it gave them. */
async function start(vault: Vault, config: Config, io: ServerIo, dataDir: string): Promise<readonly FirstAccount[]> {
  const { host, port } = config.listen;
  const address = `${config.tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}`;
  const made = await initialise(
    vault,
    (credentials) => {
      showShares(vault, io);
      keepCredentials(dataDir, address, credentials);
    },
    () => discardCredentials(dataDir),
  );
  return made ? [made.system, made.default] : unchangedAccounts(vault, dataDir);
}

function announce(
  io: ServerIo,
  listener: Listener,
  dataDir: string,
  first: readonly FirstAccount[],
  sealed: string | undefined,
  trust: Trust = { lines: [], environment: '' },
): void {
  const lines = [`Bulla is running at ${listener.address}`, ...trust.lines, ''];
  if (sealed !== undefined) lines.push(sealed, '');
  if (first.length > 0) {
    const file = credentialsFile(dataDir);
    if (io.isTty) {
      lines.push('The first accounts, with passwords to be changed at the first login:');
      for (const account of first) {
        lines.push(
          `  tenant ${account.tenant.padEnd(8)} user ${account.username.padEnd(9)} password ${account.password}`,
        );
      }
      lines.push(`${file} holds them too, until both are changed.`, '');
    } else {
      lines.push(`Its first two accounts are in ${file} until both passwords are changed.`, '');
    }
  }
  const address = listener.address === DEFAULT_ADDRESS ? '' : `BULLA_ADDR=${listener.address} `;
  const where = `${address}${trust.environment}`;
  lines.push('Try next, in another terminal:');
  lines.push(`  ${where}./bulla login default admin`);
  lines.push(`  echo 'postgres://app:secret@db/app' | ${where}./bulla secret put prod/web/db --text`);
  lines.push(`  ${where}./bulla secret get prod/web/db`, '');
  io.stdout.write(lines.join('\n'));
}

const DEFAULT_ADDRESS = 'http://127.0.0.1:8200';

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
