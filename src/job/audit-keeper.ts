/**
 * What keeps every log proven while the vault runs: tiles are stored as they fill, logs that grew are signed at least
 * every minute, and each checkpoint is kept in the mark outside the database.
 *
 * Every node runs one; a log's row orders them. A round that fails is tried again in the next; one that finds a log
 * changed halts the node (audit/halt.ts), and the rounds end. Of a node whose port is served by workers the first process
 * runs it; each worker writes the summaries of what it counted, and hands over what it signed on demand.
 */
import {
  dueLogs,
  fillLog,
  openLogKeys,
  type SignedCheckpoint,
  signLog,
  takeFreshCheckpoints,
} from '../audit/checkpoint.ts';
import { deliver, targetsOf } from '../audit/delivery.ts';
import { VAULT_ACTOR } from '../audit/entry.ts';
import { haltReason } from '../audit/halt.ts';
import { checkMark, keepInMark, type Mark, markOf } from '../audit/mark.ts';
import { hasNews } from '../audit/recorded.ts';
import { limitedLogs, removeOldLines } from '../audit/retention.ts';
import { writeSummaries } from '../audit/summary.ts';
import { randomId } from '../crypto/token.ts';
import { SYSTEM, type TenantId } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { withoutToken } from '../policy/permit.ts';
import { destroyRetiredLogKeys, ensureLogKey } from '../tenant/log-key.ts';
import { allTenants } from '../tenant/tenant.ts';
import type { Vault } from '../vault.ts';

export type AuditKeeper = {
  /** Signs everything that is new and stops. */
  readonly stop: () => Promise<void>;
};

export type NodeFacts = {
  /** The files of sql/ that this start applied. */
  readonly migrations: readonly string[];
};

const ROUND_MS = 5_000;
const ROUNDS_BETWEEN_SUMMARIES = 12;
/** Answered probes alone wait this long, so that an idle log does not grow by them every minute. */
const ROUNDS_BETWEEN_QUIET_SUMMARIES = 720;
const ROUNDS_BETWEEN_REMOVALS = 360;
const TENANTS_AT_ONCE = 500;
const ROUNDS_BETWEEN_KEY_CHECKS = 100;

/**
 * Compares the database with the mark, signs what is new, and goes on doing so. Throws `integrity` when the database is
 * not the one that was marked.
 */
export async function startAuditKeeper(
  vault: Vault,
  markFile: string,
  facts: NodeFacts = { migrations: [] },
): Promise<AuditKeeper> {
  await ensureLogKey(vault);
  const keys = await openLogKeys(vault);
  let mark: Mark;
  try {
    mark = await checkMark(vault, keys, markFile);
  } finally {
    keys.wipe();
  }
  const node = randomId();
  await recordLife(vault, 'vault.start', node, facts);
  const rounds = roundsOf(vault, mark, new Set(await allTenants(vault, 'deleted too')));
  await rounds.run(0);
  const timer = setInterval(rounds.next, ROUND_MS);
  timer.unref();
  return {
    stop: async () => {
      clearInterval(timer);
      await rounds.idle();
      await writeSummaries(vault);
      await recordLife(vault, 'vault.stop', node, { migrations: [] });
      if (!haltReason(vault) && !vault.seal.sealed) await rounds.run(0);
    },
  };
}

/** What a worker does of it. `handOver` takes checkpoints to the process that keeps the mark. */
export function startWorkerRounds(
  vault: Vault,
  handOver: (checkpoints: readonly SignedCheckpoint[]) => Promise<void>,
): AuditKeeper {
  takeFreshCheckpoints(vault);
  const give = async () => {
    const checkpoints = takeFreshCheckpoints(vault);
    if (checkpoints.length > 0) await handOver(checkpoints);
  };
  let count = 0;
  let running: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    count += 1;
    const round = count;
    running = running.then(() => attempt(vault, round, give, 'summaries only'));
  }, ROUND_MS);
  timer.unref();
  return {
    stop: async () => {
      clearInterval(timer);
      await running;
      await writeSummaries(vault).finally(give);
    },
  };
}

/** The rounds of a node, one after the other. What is sent outside runs beside them, because it may take long. */
function roundsOf(vault: Vault, mark: Mark, undelivered: Set<TenantId>) {
  const targets = targetsOf(vault);
  let count = 0;
  let running: Promise<void> = Promise.resolve();
  let sending: Promise<void> | undefined;
  const send = async () => {
    const tenants = [...undelivered];
    undelivered.clear();
    if (!(await deliver(vault, targets, tenants))) for (const tenant of tenants) undelivered.add(tenant);
    sending = undefined;
  };
  const run = async (intervalSeconds: number) => {
    takeAway(vault, mark, undelivered);
    await runRound(vault, intervalSeconds).finally(() => takeAway(vault, mark, undelivered));
    if (targets.length > 0 && undelivered.size > 0) sending ??= send();
  };
  return {
    run,
    next: () => {
      count += 1;
      const round = count;
      running = running.then(() => attempt(vault, round, run));
    },
    idle: async () => {
      await running;
      await sending;
    },
  };
}

/** Keeps what was signed outside the database. */
function takeAway(vault: Vault, mark: Mark, undelivered: Set<TenantId>): void {
  const checkpoints = takeFreshCheckpoints(vault);
  for (const { tenant } of checkpoints) undelivered.add(tenant);
  keepInMark(
    mark,
    checkpoints.map((checkpoint) => markOf(vault, checkpoint)),
  );
}

/** That a node began or ended to serve, and what its start did to the schema. */
async function recordLife(
  vault: Vault,
  action: 'vault.start' | 'vault.stop',
  node: string,
  { migrations }: NodeFacts,
): Promise<void> {
  const { workers } = vault.config;
  const call = { requestId: `node-${node}`, source: '', protocol: 'vault' };
  const said = { tenant: SYSTEM, actor: VAULT_ACTOR, outcome: 'ok' } as const;
  await withoutToken(vault, call, [SYSTEM], async () => ({
    value: undefined,
    records: [
      ...migrations.map((file) => ({ ...said, action: 'vault.migrate', details: { file } })),
      { ...said, action, details: { node, seal: vault.seal.kind, ...(workers > 1 ? { workers } : {}) } },
    ],
  }));
}

async function attempt(
  vault: Vault,
  round: number,
  run: (intervalSeconds: number) => Promise<void>,
  extent?: 'summaries only',
): Promise<void> {
  if (haltReason(vault) || vault.seal.sealed) return;
  try {
    if (!extent && round % ROUNDS_BETWEEN_KEY_CHECKS === 0) await destroyRetiredLogKeys(vault);
    if (round % (hasNews(vault) ? ROUNDS_BETWEEN_SUMMARIES : ROUNDS_BETWEEN_QUIET_SUMMARIES) === 0) {
      await writeSummaries(vault);
    }
    if (!extent && round % ROUNDS_BETWEEN_REMOVALS === 0) await removeLines(vault);
    await run(vault.config.checkpointIntervalSeconds);
  } catch (error) {
    const reason = error instanceof VaultError ? error.message : error;
    vault.log.error({ reason }, 'a log could not be signed; the next round tries again');
  }
}

/** Of every log, the lines that are older than it keeps them. */
async function removeLines(vault: Vault): Promise<void> {
  const tenants = await allTenants(vault, 'deleted too');
  for (let at = 0; at < tenants.length; at += TENANTS_AT_ONCE) {
    for (const tenant of await limitedLogs(vault, tenants.slice(at, at + TENANTS_AT_ONCE))) {
      await removeOldLines(vault, tenant);
    }
  }
}

/** One round over all logs. `intervalSeconds` 0 signs everything that is new. */
async function runRound(vault: Vault, intervalSeconds: number): Promise<void> {
  const tenants = await allTenants(vault, 'deleted too');
  for (let at = 0; at < tenants.length; at += TENANTS_AT_ONCE) {
    const due = await dueLogs(vault, tenants.slice(at, at + TENANTS_AT_ONCE), intervalSeconds);
    if (due.length > 0) await serve(vault, due);
  }
}

async function serve(vault: Vault, due: readonly { tenant: TenantId; sign: boolean }[]): Promise<void> {
  const keys = await openLogKeys(vault);
  try {
    for (const { tenant, sign } of due) await (sign ? signLog(vault, tenant, keys) : fillLog(vault, tenant));
  } finally {
    keys.wipe();
  }
}
