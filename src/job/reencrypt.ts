/**
 * Rotating keys as jobs: the data key with re-encryption, and the root key.
 *
 * A re-encryption goes through every table that holds envelopes until no row is under a version older than its own, and
 * then destroys those versions. The foreign keys decide whether that is so, not a count: while a row is left, or comes,
 * the destruction is refused and another pass follows. The report proves the end by counting, in the transaction that
 * destroys.
 */

import { VAULT_ACTOR } from '../audit/entry.ts';
import { CUBBYHOLES } from '../auth/cubbyhole.ts';
import { ISSUER_SECRETS, TOTP_SEEDS } from '../auth/envelopes.ts';
import { SYSTEM, type TenantId, type Tx, transaction } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { VaultError } from '../errors.ts';
import { BACKEND_CONFIGS, LEASE_CREDENTIALS, STATIC_ACCOUNTS } from '../lease/envelopes.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import { ROTATORS, SECRET_METADATA, SECRET_VERSIONS } from '../secret/envelopes.ts';
import { forgetDataKeys } from '../tenant/keyring.ts';
import { countBelow, type EnvelopeTable, newPace, type Pace, type RowKey, reencryptPass } from '../tenant/reencrypt.ts';
import { type RootRotation, rotateRootKey } from '../tenant/root-key.ts';
import { type DataKeyInfo, destroyVersions, oldVersions, rotateDataKey } from '../tenant/rotation.ts';
import { TRANSIT_KEY_VERSIONS } from '../transit/envelopes.ts';
import type { Vault } from '../vault.ts';
import { insertDoneJob, insertJob, type JobInfo, type Report, wake } from './job.ts';
import { Stopped, Unfinished, type Work } from './runner.ts';

/** Every table with an envelope of a data key. A test finds any that is missing. */
export const ENVELOPE_TABLES: readonly EnvelopeTable[] = [
  SECRET_VERSIONS,
  SECRET_METADATA,
  BACKEND_CONFIGS,
  LEASE_CREDENTIALS,
  STATIC_ACCOUNTS,
  ROTATORS,
  TRANSIT_KEY_VERSIONS,
  TOTP_SEEDS,
  ISSUER_SECRETS,
  CUBBYHOLES,
];

export type KeyRotation = { readonly key: DataKeyInfo; readonly job: JobInfo | undefined };

/** Makes a new data key version and, when asked, queues the job that moves everything stored to it. */
export async function rotateKey(vault: Vault, call: Call, { reencrypt }: { reencrypt: boolean }): Promise<KeyRotation> {
  const rotation = await permit(
    vault,
    call,
    { action: 'key.rotate', resource: 'key:data', subject: '' },
    async (tx, granted) => {
      const { tenant, userId } = granted;
      const key = await rotateDataKey(vault, tx, tenant);
      const { version, fingerprint } = key;
      const wanted = { tenant, kind: 'reencrypt', subject: String(version), startedBy: userId } as const;
      const job = reencrypt ? await insertJob(tx, wanted) : undefined;
      const details = { fingerprint, ...(job ? { job: job.id } : {}) };
      return { value: { key, job }, notes: [{ version, details }] };
    },
  );
  killpoint('data-key.committed');
  wake(vault);
  return rotation;
}

/** Rotates the root key; what was moved stays to be read as a job that is done. */
export async function rotateRoot(vault: Vault, call: Call): Promise<RootRotation & { readonly job: string }> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      let job = '';
      const rotation = await rotateRootKey(vault, call, async (tx, made, startedBy) => {
        job = (await recordRootRotation(tx, made, startedBy)).job;
      });
      return { ...rotation, job };
    } catch (error) {
      // Undone whole: the key that was made meanwhile is seen by the next attempt.
      const met = error instanceof VaultError && error.details?.reason === 'key_made_meanwhile';
      if (!met || attempt === ROOT_ROTATIONS_MAX) throw error;
    }
  }
}

const ROOT_ROTATIONS_MAX = 5;

export async function recordRootRotation(
  tx: Tx,
  { version, rewrapped, destroyedVersion }: RootRotation,
  startedBy: string,
): Promise<{ job: string }> {
  const about = { tenant: SYSTEM, kind: 'root-key-rotate', subject: String(version), startedBy } as const;
  // The foreign keys let the old version go, so nothing is wrapped by it: no count could say it better.
  const report = { moved: { keys: rewrapped }, destroyed: [{ version: destroyedVersion }], left: { keys: 0 } };
  return { job: (await insertDoneJob(tx, about, rewrapped, report)).id };
}

const SAVE_MS = 500;
const UNOPENED_SHOWN_MAX = 100;
/** Counting goes through every index entry of an old version, dead ones too. */
const COUNT_DEADLINE_MS = 120_000;
/** After so many passes that met only rows which others hold, the job waits as if the database were away. */
const PASSES_MAX = 20;

export async function reencrypt(work: Work): Promise<void> {
  const { vault, tenant } = work;
  const below = Number(work.subject);
  const progress = await beginProgress(work, below);
  const pace = newPace(vault);
  for (let pass = 1; pass <= PASSES_MAX; pass += 1) {
    progress.unopened = [];
    await goThrough(work, below, progress, pace, pass === 1 ? 'skip' : 'wait');
    const unopened = progress.unopened.length;
    if (unopened > 0) {
      const left = sum(await countAll(vault, tenant, below));
      if (left === unopened) throw new Unfinished('integrity', await unopenedReport(work, progress));
      continue;
    }
    killpoint('reencrypt.passed');
    if (await conclude(work, below, progress)) return;
  }
  throw new VaultError('unavailable', 'Rows under the old data key are held by others for too long.');
}

/** One pass over every table, from where the pass before was interrupted. */
async function goThrough(
  work: Work,
  below: number,
  progress: Progress,
  pace: Pace,
  busy: 'skip' | 'wait',
): Promise<void> {
  const { vault, tenant } = work;
  const { at } = progress;
  const first = at ? ENVELOPE_TABLES.findIndex(({ table }) => table === at.table) : 0;
  for (const table of ENVELOPE_TABLES.slice(Math.max(first, 0))) {
    const after = table.table === at?.table ? at.after : undefined;
    await reencryptPass(vault, table, { tenant, below, after, busy }, pace, async (batch) => {
      progress.moved[table.table]! += batch.moved;
      progress.at = { table: table.table, after: batch.after };
      for (const key of batch.unopened) progress.unopened.push({ table, key });
      if (work.stopped()) throw new Stopped();
      if (vault.clock.monotonicMs() - progress.savedAtMs >= SAVE_MS) await save(work, progress);
    });
  }
  progress.at = undefined;
  await save(work, progress);
}

// ---- progress -----------------------------------------------------------------------------------------------------

type Counts = Record<string, number>;

/** What is kept between claims, but for `unopened` and `savedAtMs`: at most a few hundred rows ever fail to open. */
type Progress = {
  /** Rows by table: all that there were, and those moved. */
  readonly total: Counts;
  readonly moved: Counts;
  at: { readonly table: string; readonly after: RowKey } | undefined;
  unopened: { readonly table: EnvelopeTable; readonly key: RowKey }[];
  savedAtMs: number;
};

/** What an earlier claim moved but did not note is known from what is left. */
async function beginProgress(work: Work, below: number): Promise<Progress> {
  const left = await countAll(work.vault, work.tenant, below);
  const kept = work.cursor === null ? undefined : (JSON.parse(work.cursor) as Pick<Progress, 'total' | 'moved' | 'at'>);
  const total: Counts = {};
  const moved: Counts = {};
  for (const { table } of ENVELOPE_TABLES) {
    const rows = left[table]!;
    total[table] = Math.max(kept?.total[table] ?? 0, (kept?.moved[table] ?? 0) + rows);
    moved[table] = Math.max(kept?.moved[table] ?? 0, total[table] - rows);
  }
  const progress: Progress = { total, moved, at: kept?.at, unopened: [], savedAtMs: 0 };
  await save(work, progress);
  return progress;
}

async function save(work: Work, progress: Progress): Promise<void> {
  const { total, moved, at } = progress;
  progress.savedAtMs = work.vault.clock.monotonicMs();
  await work.progress(sum(moved), Math.max(sum(total), sum(moved)), JSON.stringify({ total, moved, at }));
}

async function countAll(vault: Vault, tenant: TenantId, below: number): Promise<Counts> {
  return transaction(vault.db, [tenant], (tx) => countTables(tx, tenant, below), { deadlineMs: COUNT_DEADLINE_MS });
}

async function countTables(tx: Tx, tenant: TenantId, below: number): Promise<Counts> {
  const counts: Counts = {};
  for (const table of ENVELOPE_TABLES) counts[table.table] = await countBelow(tx, table, tenant, below);
  return counts;
}

const sum = (counts: Counts) => Object.values(counts).reduce((total, count) => total + count, 0);

// ---- the end ------------------------------------------------------------------------------------------------------

/** Destroys the old versions and ends the job. False when a row is under one of them again: another pass is needed. */
async function conclude(work: Work, below: number, { moved }: Progress): Promise<boolean> {
  const { vault, tenant } = work;
  try {
    await work.finish([], async (tx) => {
      const destroyed = await oldVersions(tx, tenant, below);
      await destroyVersions(
        tx,
        tenant,
        destroyed.map(({ version }) => version),
      );
      const left = await countTables(tx, tenant, below);
      const records = destroyed.map(({ version, fingerprint }) => ({
        ...{ tenant, actor: VAULT_ACTOR, action: 'key.destroy', resource: 'key:data', version },
        ...{ outcome: 'ok' as const, details: { fingerprint, job: work.id } },
      }));
      return { report: { moved, destroyed, left }, records };
    });
  } catch (error) {
    if (error instanceof VaultError && error.code === 'conflict') return false;
    throw error;
  }
  for (let version = 1; version < below; version += 1) forgetDataKeys(vault, tenant, version);
  return true;
}

/** The old versions stay: what does not open may yet be restored from a backup, and destroyed if it cannot. */
async function unopenedReport({ vault, tenant }: Work, { moved, unopened }: Progress): Promise<Report> {
  const names = await transaction(vault.db, [tenant], async (tx) => {
    const found: string[] = [];
    for (const { table, key } of unopened.slice(0, UNOPENED_SHOWN_MAX)) found.push(await table.nameOf(tx, tenant, key));
    return found;
  });
  return { moved, unopened_count: unopened.length, unopened: names };
}
