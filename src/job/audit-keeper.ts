/**
 * What keeps every log proven while the vault runs: tiles are stored as they fill, logs that grew are signed at least
 * every minute, and each checkpoint is kept in the mark outside the database.
 *
 * Every node runs one; a log's row orders them. A round that fails is tried again in the next; one that finds a log
 * changed halts the node (audit/halt.ts), and the rounds end.
 */
import { dueLogs, fillLog, openLogKeys, type SignedCheckpoint, signLog } from '../audit/checkpoint.ts';
import { haltReason } from '../audit/halt.ts';
import { checkMark, keepInMark, type Mark, markOf } from '../audit/mark.ts';
import { hasNews } from '../audit/recorded.ts';
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
  await runRound(vault, mark, 0);
  let rounds = 0;
  let running: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    rounds += 1;
    const count = rounds;
    running = running.then(() => attempt(vault, mark, count));
  }, ROUND_MS);
  timer.unref();
  return {
    stop: async () => {
      clearInterval(timer);
      await running;
      await writeSummaries(vault);
      await recordLife(vault, 'vault.stop', node, { migrations: [] });
      if (!haltReason(vault) && !vault.seal.sealed) await runRound(vault, mark, 0);
    },
  };
}

/** That a node began or ended to serve, and what its start did to the schema. */
async function recordLife(
  vault: Vault,
  action: 'vault.start' | 'vault.stop',
  node: string,
  { migrations }: NodeFacts,
): Promise<void> {
  const call = { requestId: `node-${node}`, source: '', protocol: 'vault' };
  const said = { tenant: SYSTEM, actor: { kind: 'vault' }, outcome: 'ok' } as const;
  await withoutToken(vault, call, [SYSTEM], async () => ({
    value: undefined,
    records: [
      ...migrations.map((file) => ({ ...said, action: 'vault.migrate', details: { file } })),
      { ...said, action, details: { node, seal: vault.seal.kind } },
    ],
  }));
}

async function attempt(vault: Vault, mark: Mark, round: number): Promise<void> {
  if (haltReason(vault) || vault.seal.sealed) return;
  try {
    if (round % ROUNDS_BETWEEN_KEY_CHECKS === 0) await destroyRetiredLogKeys(vault);
    if (round % (hasNews(vault) ? ROUNDS_BETWEEN_SUMMARIES : ROUNDS_BETWEEN_QUIET_SUMMARIES) === 0) {
      await writeSummaries(vault);
    }
    await runRound(vault, mark, vault.config.checkpointIntervalSeconds);
  } catch (error) {
    const reason = error instanceof VaultError ? error.message : error;
    vault.log.error({ reason }, 'a log could not be signed; the next round tries again');
  }
}

/** One round over all logs. `intervalSeconds` 0 signs everything that is new. */
async function runRound(vault: Vault, mark: Mark, intervalSeconds: number): Promise<void> {
  const tenants = await allTenants(vault, 'deleted too');
  for (let at = 0; at < tenants.length; at += TENANTS_AT_ONCE) {
    const due = await dueLogs(vault, tenants.slice(at, at + TENANTS_AT_ONCE), intervalSeconds);
    if (due.length > 0) await serve(vault, mark, due);
  }
}

async function serve(vault: Vault, mark: Mark, due: readonly { tenant: TenantId; sign: boolean }[]): Promise<void> {
  const keys = await openLogKeys(vault);
  const signed: SignedCheckpoint[] = [];
  try {
    for (const { tenant, sign } of due) {
      if (!sign) await fillLog(vault, tenant);
      else signed.push(...[await signLog(vault, tenant, keys)].flatMap((checkpoint) => checkpoint ?? []));
    }
  } finally {
    keys.wipe();
    keepInMark(
      mark,
      signed.map((checkpoint) => markOf(vault, checkpoint)),
    );
  }
}
