/**
 * What `bulla server` does with an opened vault, until it answers.
 *
 *     first start → audit log checked and signed → jobs, schedule, sweeper → listener, or workers that have one
 */
import { dirname, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { isAcknowledged } from '../audit/mark.ts';
import type { Config } from '../config.ts';
import type { Migrated } from '../db/migrate.ts';
import type { Tls } from '../http/tls.ts';
import { startAuditKeeper } from '../job/audit-keeper.ts';
import { type FirstAccount, initialise } from '../job/initialise.ts';
import { startJobs } from '../job/kinds.ts';
import { startSchedule } from '../job/schedule.ts';
import { startSweeper } from '../lease/sweeper.ts';
import { assertOneProcess } from '../tenant/seal.ts';
import { checkRootMark, proveKeys } from '../tenant/self-test.ts';
import type { Vault } from '../vault.ts';
import type { Down } from './ending.ts';
import {
  credentialsFile,
  discardCredentials,
  forgetWhenChanged,
  keepAddress,
  keepCredentials,
  unchangedAccounts,
} from './first-credentials.ts';
import { showShares } from './host-seal.ts';
import { listenHere, secure } from './listening.ts';
import type { ServerIo } from './server.ts';
import type { Reach } from './worker-channel.ts';
import type { Workers } from './workers.ts';

export type Start = {
  readonly io: ServerIo;
  /** The whole; the vault may have a share of it. */
  readonly config: Config;
  readonly reach: Reach;
  readonly dataDir: string;
  readonly migrated: Migrated;
  /** Argon2's self-test. */
  readonly tried: Promise<void>;
  readonly startedMs: number;
  /** Takes the steps that undo this, in order; they are run in the reverse one. */
  readonly down: Down;
};

/** Answers requests on return. */
export async function serveVault(
  vault: Vault,
  { io, config, reach, dataDir, migrated, tried, startedMs, down }: Start,
): Promise<void> {
  const { log } = vault;
  assertOneProcess(vault, vault.seal.kind);
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
  let workers: Workers | undefined;
  // What is made is looked at by the workers, and so is why it could not be.
  const renewal = (renew: () => Promise<void>) => () => renew().finally(() => workers?.look());
  const { tls, authorityFile } = await secure(config, dataDir, log, down, renewal);
  if (tls) down.push(onHangup(() => tls.look().then(() => workers?.look())));
  if (config.workers > 1) {
    const { startWorkers } = await import('./workers.ts');
    workers = startWorkers(vault, { config, ...reach, dataDir }, tls);
    down.push(workers.stop);
  }
  const address = workers ? await workers.served : (await listenHere(vault, tls, down)).address;
  if (first.length > 0) keepAddress(dataDir, address);
  // The one line of a start: what it did before goes here, so that a start that fails says nothing but why.
  log.info(
    {
      ms: Math.round(performance.now() - startedMs),
      address,
      ...(config.workers > 1 ? { workers: config.workers } : {}),
      postgres: migrated.serverVersion,
      migrated: migrated.applied,
      dataDir,
    },
    'started',
  );
  down.push(forgetWhenChanged(vault, dataDir));
  const trust = tls && trustIn(tls, authorityFile);
  announce(io, address, dataDir, first, vault.seal.sealed ? vault.seal.error.message : undefined, trust);
}

/** A certificate that was changed is looked at now. Gives how to listen for it no more. */
function onHangup(look: () => Promise<void>): () => Promise<void> {
  const listener = () => void look();
  process.on('SIGHUP', listener);
  return async () => void process.off('SIGHUP', listener);
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
  address: string,
  dataDir: string,
  first: readonly FirstAccount[],
  sealed: string | undefined,
  trust: Trust = { lines: [], environment: '' },
): void {
  const lines = [`Bulla is running at ${address}`, ...trust.lines, ''];
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
  const elsewhere = address === DEFAULT_ADDRESS ? '' : `BULLA_ADDR=${address} `;
  const where = `${elsewhere}${trust.environment}`;
  lines.push('Try next, in another terminal:');
  lines.push(`  ${where}./bulla login default admin`);
  lines.push(`  echo 'postgres://app:secret@db/app' | ${where}./bulla secret put prod/web/db --text`);
  lines.push(`  ${where}./bulla secret get prod/web/db`, '');
  io.stdout.write(lines.join('\n'));
}

const DEFAULT_ADDRESS = 'http://127.0.0.1:8200';
