/**
 * Jobs: long work as rows. Owns the table jobs.
 *
 *     queued ─▶ running ─▶ done
 *        ▲         ├─────▶ failed ──┐
 *        │         └─────▶ cancelled ┤ resume
 *        └──────────────────────────┘
 *
 * A node works on a job while it holds its claim; whatever it writes to the row names the claim, so a node that was
 * overtaken (stopped for too long, cut off) changes nothing any more. The work itself must bear being done twice: what
 * a claim prevents is waste, never harm. Here are the verbs and the row; runner.ts does the work.
 */
import { randomId } from '../crypto/token.ts';
import { SYSTEM, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';

export type JobKind = 'reencrypt' | 'tenant-delete' | 'root-key-rotate';
export type JobState = 'queued' | 'running' | 'done' | 'failed' | 'cancelled';

/** JSON that counts and names; never a value of a secret. */
export type Report = Readonly<Record<string, unknown>>;

export type JobInfo = {
  readonly id: string;
  readonly kind: JobKind;
  /** What it is about: a key version, the id of a tenant. */
  readonly subject: string;
  readonly state: JobState;
  readonly total: number;
  readonly done: number;
  /** Items a second since the node that works on it took it; null when nobody does. */
  readonly ratePerSecond: number | null;
  readonly secondsLeft: number | null;
  readonly startedBy: string;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
  readonly finishedAt: Timestamp | null;
  /** The code of the error that ended it. */
  readonly error: string | null;
  readonly report: Report | null;
};

type Row = Omit<JobInfo, 'ratePerSecond' | 'secondsLeft' | 'report'> & {
  readonly doneBefore: number;
  readonly seconds: number | null;
  readonly report: string | null;
};

const COLUMNS = `job_id AS id, kind, subject, state, total, done, done_before AS "doneBefore", report, error,
  started_by AS "startedBy", created_at AS "createdAt", updated_at AS "updatedAt", finished_at AS "finishedAt",
  extract(epoch FROM updated_at - claimed_at)::double precision AS seconds`;

const ask = (action: Action, id: string) => ({ action, resource: `job:${id}` }) as const;

/** Newest first. */
export async function listJobs(vault: Vault, call: Call, page: PageAsk): Promise<Page<JobInfo>> {
  const wanted = { action: 'job.list', resource: 'job:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      async (after, rows) => (await readPage(tx, tenant, after, rows)).map(shape),
      (job) => `${job.createdAt} ${job.id}`,
      (job) => allows({ action: 'job.list', resource: `job:${job.id}` }),
    ),
  }));
}

async function readPage(tx: Tx, tenant: TenantId, after: string, rows: number): Promise<Row[]> {
  const [time = '', id = ''] = after.split(' ');
  const behind = /^\d{4}-[\d:.TZ-]+$/.test(time) ? tx`AND (created_at, job_id) < (${time}::timestamptz, ${id})` : tx``;
  return tx<Row[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM jobs WHERE tenant_id = ${tenant} ${behind}
    ORDER BY created_at DESC, job_id DESC LIMIT ${rows}`;
}

export async function readJob(vault: Vault, call: Call, id: string): Promise<JobInfo> {
  return permit(vault, call, ask('job.read', parseJobId(id)), async (tx, { tenant }) => ({
    value: await jobOf(tx, tenant, id),
  }));
}

/** The node that works on it stops within a second. What was done stays done. */
export async function cancelJob(vault: Vault, call: Call, id: string): Promise<JobInfo> {
  return permit(vault, call, ask('job.cancel', parseJobId(id)), async (tx, { tenant }) => {
    const job = await jobOf(tx, tenant, id);
    if (job.kind === 'tenant-delete') {
      throw new VaultError('conflict', 'The tenant’s keys are destroyed already: its deletion can only go on.');
    }
    const rows = await tx`
      UPDATE jobs SET state = 'cancelled', claim = NULL, updated_at = bulla.now(), finished_at = bulla.now()
      WHERE tenant_id = ${tenant} AND job_id = ${id} AND state IN ('queued', 'running') RETURNING 1`;
    if (rows.length === 0) throw new VaultError('conflict', `The job is ${job.state} already.`);
    return { value: await jobOf(tx, tenant, id), notes: [{ details: { kind: job.kind, subject: job.subject } }] };
  });
}

/** Goes on where it stopped. */
export async function resumeJob(vault: Vault, call: Call, id: string): Promise<JobInfo> {
  const job = await permit(vault, call, ask('job.resume', parseJobId(id)), async (tx, { tenant }) => {
    const { kind, subject, state } = await jobOf(tx, tenant, id);
    const rows = await oneAtATime(
      tx`
        UPDATE jobs SET state = 'queued', attempts = 0, error = NULL, finished_at = NULL, not_before = bulla.now(),
               updated_at = bulla.now()
        WHERE tenant_id = ${tenant} AND job_id = ${id} AND state IN ('cancelled', 'failed') RETURNING 1`,
    );
    if (rows.length === 0) throw new VaultError('conflict', `The job is ${state}: there is nothing to resume.`);
    return { value: await jobOf(tx, tenant, id), notes: [{ details: { kind, subject } }] };
  });
  wake(vault);
  return job;
}

async function jobOf(tx: Tx, tenant: TenantId, id: string): Promise<JobInfo> {
  const [row] = await tx<Row[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM jobs WHERE tenant_id = ${tenant} AND job_id = ${id}`;
  if (!row) throw new VaultError('not_found', 'There is no such job.');
  return shape(row);
}

function shape({ doneBefore, seconds, report, ...row }: Row): JobInfo {
  const running = row.state === 'running' && seconds !== null && seconds > 0;
  const rate = running ? (row.done - doneBefore) / seconds : null;
  return {
    ...row,
    ratePerSecond: rate === null ? null : Math.round(rate * 10) / 10,
    secondsLeft: rate === null || rate <= 0 ? null : Math.ceil((row.total - row.done) / rate),
    report: report === null ? null : (JSON.parse(report) as Report),
  };
}

const JOB_ID = /^[a-z2-7]{16}$/;

/** Anything that is no job's id is not there. */
function parseJobId(id: string): string {
  if (!JOB_ID.test(id)) throw new VaultError('not_found', 'There is no such job.');
  return id;
}

// ---- the row, for those who make and do jobs ----------------------------------------------------------------------

export type NewJob = {
  readonly tenant: TenantId;
  readonly kind: JobKind;
  readonly subject: string;
  /** The id of the user, or `vault`. */
  readonly startedBy: string;
};

/** Queues a job in the transaction of the act that wants it. Throws `conflict` when there is one already. */
export async function insertJob(tx: Tx, { tenant, kind, subject, startedBy }: NewJob): Promise<JobInfo> {
  const id = randomId();
  await oneAtATime(tx`
    INSERT INTO jobs (tenant_id, job_id, kind, subject, state, started_by, created_at, not_before, updated_at)
    SELECT ${tenant}, ${id}, ${kind}, ${subject}, 'queued', ${startedBy}, now, now, now
    FROM (SELECT bulla.now() AS now) AS clock`);
  return jobOf(tx, tenant, id);
}

/** The id of a job that is queued or running already. */
export async function openJob(tx: Tx, { tenant, kind, subject }: NewJob): Promise<string | undefined> {
  const [row] = await tx<{ id: string }[]>`
    SELECT job_id AS id FROM jobs
    WHERE tenant_id = ${tenant} AND kind = ${kind} AND subject = ${subject} AND state IN ('queued', 'running')`;
  return row?.id;
}

/** Removes the jobs of a tenant that is being deleted. */
export async function removeJobs(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM jobs WHERE tenant_id = ${tenant}`;
}

/** Records work that was done in one transaction as a job that is finished. */
export async function insertDoneJob(tx: Tx, job: NewJob, total: number, report: Report): Promise<JobInfo> {
  const { id } = await insertJob(tx, job);
  await tx`
    UPDATE jobs SET state = 'done', total = ${total}, done = ${total}, report = ${JSON.stringify(report)},
           finished_at = bulla.now(), updated_at = bulla.now()
    WHERE tenant_id = ${job.tenant} AND job_id = ${id}`;
  return jobOf(tx, job.tenant, id);
}

async function oneAtATime<T>(query: PromiseLike<T>): Promise<T> {
  try {
    return await query;
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new VaultError('conflict', 'A job of this kind is under way already: look at GET /jobs.');
  }
}

export type JobRef = { readonly tenant: TenantId; readonly id: string };

/** Jobs that wait for a node, oldest first. */
export async function dueJobs(vault: Vault, limit: number, stale: number): Promise<JobRef[]> {
  return transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<JobRef[]>`
      SELECT tenant_id AS tenant, job_id AS id FROM jobs
      WHERE state IN ('queued', 'running') AND (${isDue(tx, stale)}) ORDER BY not_before LIMIT ${limit}`,
  );
}

/**
 * Queued and its time has come, or its node has fallen silent. A heartbeat of the future is one before a clock was set
 * back.
 */
export function isDue(tx: Tx, staleSeconds: number) {
  return tx`
    state = 'queued' AND not_before <= bulla.now()
    OR state = 'running' AND heartbeat_at NOT BETWEEN bulla.now() - make_interval(secs => ${staleSeconds})
                                                 AND bulla.now() + make_interval(secs => ${staleSeconds})`;
}

// ---- waking -------------------------------------------------------------------------------------------------------

const wakers = new WeakMap<Vault, () => void>();

/** Lets this node's runner look for work now instead of at its next turn. */
export function wake(vault: Vault): void {
  wakers.get(vault)?.();
}

export function onWake(vault: Vault, waker: (() => void) | undefined): void {
  if (waker) wakers.set(vault, waker);
  else wakers.delete(vault);
}
