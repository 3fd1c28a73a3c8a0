/**
 * A worker: a process that answers requests at the port that its first process (workers.ts) shares between several.
 *
 * It is a vault of its own on the same database, and leaves to the first process what is done once: migrations, the first
 * accounts, the marks outside the database, checkpoints, jobs, what is due, sweeping, and making certificates. It ends when
 * it is told to, and at once when the first process is gone.
 */
import type { Logger } from 'pino';
import { halt, onHalt } from '../audit/halt.ts';
import { assertKnownAnswers } from '../crypto/self-test.ts';
import { VaultError } from '../errors.ts';
import type { App } from '../http/app.ts';
import { startWorkerRounds } from '../job/audit-keeper.ts';
import { onWake as onWakeJobs } from '../job/job.ts';
import { closeBackends } from '../lease/pool.ts';
import { onWake as onWakeSweeper } from '../lease/wake.ts';
import { closeVault, openVault, type Vault } from '../vault.ts';
import { type Down, sentenceOf, takeDown, trapFaults } from './ending.ts';
import { listenHere, secure } from './listening.ts';
import { openLog } from './log.ts';
import { guardProcess } from './process-guard.ts';
import { type Begin, openChannel, type ToFirst, type ToWorker } from './worker-channel.ts';

trapFaults();
// A terminal sends these to every process of it; the first one says when to end and what to look at.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);

const down: Down = [];
let app: App | undefined;
let look: () => Promise<void> = async () => undefined;
let vault: Vault | undefined;
let log: Logger | undefined;

const first = openChannel<ToFirst, ToWorker>((message, done) => process.send?.(message, undefined, undefined, done), {
  metrics: async () => app?.registry.getMetricsAsJSON(),
});

process.on('message', (received) => {
  const message = first.hear(received);
  if (message?.kind === 'look') void look();
  else if (message?.kind === 'halt' && vault) halt(vault, message.reason);
  else if (message?.kind === 'stop') void stop();
});

void begin();

async function begin(): Promise<void> {
  const told = (await first.ask('begin')) as Begin;
  log = openLog(told.config, told.number);
  try {
    guardProcess(log);
    const address = await serve(told, log);
    await first.tell({ kind: 'ready', address });
  } catch (error) {
    await first.tell({ kind: 'failed', sentence: sentenceOf(error, log) });
    process.exit(1);
  }
}

async function serve({ config, target, setRole, dataDir, halted }: Begin, logger: Logger): Promise<string> {
  assertKnownAnswers();
  const opened = await openVault({ config, target, setRole, dataDir, log: logger });
  vault = opened;
  down.push(() => closeVault(opened));
  down.push(() => closeBackends(opened));
  if (halted !== undefined) halt(opened, halted);
  onHalt(opened, (reason) => void first.tell({ kind: 'halt', reason }));
  onWakeJobs(opened, () => void first.tell({ kind: 'wake', whom: 'jobs' }));
  onWakeSweeper(opened, (inMs) => void first.tell({ kind: 'wake', whom: 'sweeper', inMs }));
  // Nothing is served before the first process has compared the database with its marks.
  const proven = async () => void (await first.ask('opened'));
  if (opened.seal.sealed) opened.seal.whenOpened(proven);
  else await proven();
  const rounds = startWorkerRounds(opened, (checkpoints) => first.tell({ kind: 'signed', checkpoints }));
  down.push(() => rounds.stop());
  const { tls } = await secure(config, dataDir, logger, down, () => renewedElsewhere);
  if (tls) look = tls.look;
  const scrape = async () => String(await first.ask('metrics'));
  const served = await listenHere(opened, tls, down, scrape);
  app = served.app;
  return served.address;
}

/** The first process makes certificates; whether it could is known here too. */
async function renewedElsewhere(): Promise<void> {
  const alarm = await first.ask('renewal');
  if (typeof alarm === 'string') throw new VaultError('unavailable', alarm);
}

async function stop(): Promise<void> {
  if (log) await takeDown(down, log);
  process.exit(0);
}
