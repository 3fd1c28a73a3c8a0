/**
 * What `bulla server` does with an opened vault, until it answers.
 *
 *     first start → audit log checked and signed → jobs, schedule, sweeper → listener
 */
import { dirname, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import { isAcknowledged } from '../audit/mark.ts';
import { endTails } from '../audit/tail.ts';
import type { Config } from '../config.ts';
import type { Migrated } from '../db/migrate.ts';
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
import type { Vault } from '../vault.ts';
import {
  credentialsFile,
  discardCredentials,
  forgetWhenChanged,
  keepAddress,
  keepCredentials,
  unchangedAccounts,
} from './first-credentials.ts';
import { showShares } from './host-seal.ts';
import type { ServerIo } from './server.ts';

export type Start = {
  readonly io: ServerIo;
  readonly dataDir: string;
  readonly migrated: Migrated;
  /** Argon2's self-test. */
  readonly tried: Promise<void>;
  readonly startedMs: number;
  /** Takes the steps that undo this, in order; they are run in the reverse one. */
  readonly down: (() => Promise<void>)[];
};

/** Answers requests on return. */
export async function serveVault(
  vault: Vault,
  { io, dataDir, migrated, tried, startedMs, down }: Start,
): Promise<void> {
  const { config, log } = vault;
  const [first] = await Promise.all([start(vault, config, io, dataDir), tried]);
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
      ms: Math.round(performance.now() - startedMs),
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
