/**
 * The runner of a node: takes jobs that nobody works on and does them, a few at a time.
 *
 * Taking a job is one conditional UPDATE, so one node has it; while it works its heartbeat says so. A job whose node
 * has been silent for STALE_SECONDS is taken by the next node that looks, which is never more than POLL_MS later: an
 * interrupted job goes on within 30 s of the next start. Taking, ending and failing are entries of the tenant's log.
 * Stopping gives every job back, so that the next start need not wait for the silence.
 */
import { VAULT_ACTOR } from '../audit/entry.ts';
import { randomId } from '../crypto/token.ts';
import { type TenantId, type Tx, transaction } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { VaultError } from '../errors.ts';
import { type Record as LogRecord, withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { dueJobs, isDue, type JobKind, type JobRef, onWake, type Report } from './job.ts';

const STALE_SECONDS = 12;
const POLL_MS = 2_000;
const HEARTBEAT_MS = 3_000;
const JOBS_AT_ONCE = 2;
const WAIT_SECONDS_MAX = 60;
/** The last act of a job may look at everything that it moved. */
const FINISH_DEADLINE_MS = 120_000;

/** A job in the hands of this node. */
export type Work = {
  readonly vault: Vault;
  readonly tenant: TenantId;
  readonly id: string;
  readonly subject: string;
  readonly total: number;
  readonly done: number;
  /** What `progress` kept last. */
  readonly cursor: string | null;
  /** Keeps how far the work has come. Throws Stopped when the job was cancelled, taken over, or the node stops. */
  readonly progress: (done: number, total: number, cursor: string | null) => Promise<void>;
  /** Whether to stop, asked of memory only. */
  readonly stopped: () => boolean;
  /** Ends the job in the transaction of its last act. */
  readonly finish: (
    tenants: readonly TenantId[],
    act: (tx: Tx) => Promise<{ report: Report; records?: readonly LogRecord[] }>,
  ) => Promise<void>;
};

/** What a kind of job does. It may be run again from any point, and by two nodes at once. */
export type Doing = (work: Work) => Promise<void>;

/** Thrown when the job is no longer this node's. */
export class Stopped extends Error {
  override readonly name = 'Stopped';
}

/** Ends a job as failed, with what to tell. */
export class Unfinished extends Error {
  override readonly name = 'Unfinished';
  readonly code: VaultError['code'];
  readonly report: Report;
  constructor(code: VaultError['code'], report: Report) {
    super('a job cannot be finished');
    this.code = code;
    this.report = report;
  }
}

export type Runner = {
  /** Gives back what is under way and takes nothing more. */
  readonly stop: () => Promise<void>;
};

export function startRunner(vault: Vault, kinds: Readonly<Partial<Record<JobKind, Doing>>>): Runner {
  const running = new Map<string, Promise<void>>();
  let stopping = false;
  let timer: NodeJS.Timeout | undefined;
  let looking: Promise<void> = Promise.resolve();
  const look = async () => {
    const free = JOBS_AT_ONCE - running.size;
    if (stopping || free <= 0 || vault.seal.sealed) return;
    for (const ref of await dueJobs(vault, free, STALE_SECONDS)) {
      if (stopping || running.has(ref.id)) continue;
      const ended = runJob(vault, ref, kinds, () => stopping).finally(() => {
        running.delete(ref.id);
        soon();
      });
      running.set(ref.id, ended);
    }
  };
  const turn = () => {
    clearTimeout(timer);
    looking = looking.then(look).catch((error) => note(vault, error, 'looking for jobs'));
    if (!stopping) timer = setTimeout(turn, POLL_MS).unref();
  };
  const soon = () => {
    if (!stopping) setImmediate(turn);
  };
  onWake(vault, soon);
  turn();
  return {
    stop: async () => {
      stopping = true;
      onWake(vault, undefined);
      clearTimeout(timer);
      await looking;
      await Promise.all(running.values());
    },
  };
}

function note(vault: Vault, error: unknown, doing: string): void {
  const fields = error instanceof VaultError ? { code: error.code } : { err: error };
  vault.log.warn(fields, doing);
}

/** Takes a job and does it, if it is to be had. Never throws: what goes wrong is in the row and in the log. */
export async function runJob(
  vault: Vault,
  ref: JobRef,
  kinds: Readonly<Partial<Record<JobKind, Doing>>>,
  isStopping: () => boolean = () => false,
): Promise<void> {
  let taken: Taken | undefined;
  try {
    taken = await take(vault, ref);
    const doing = taken && kinds[taken.kind];
    if (!taken || !doing) return;
    await whileBeating(vault, taken, isStopping, doing);
  } catch (error) {
    if (!(error instanceof Stopped)) note(vault, error, 'a job stopped');
    if (taken) await giveUp(vault, taken, error).catch((again) => note(vault, again, 'giving a job back'));
  }
}

type Taken = JobRef & {
  readonly kind: JobKind;
  readonly subject: string;
  readonly claim: string;
  readonly attempts: number;
  readonly total: number;
  readonly done: number;
  readonly cursor: string | null;
};

const originOf = (id: string) => ({ requestId: `job-${id}`, source: '', protocol: 'vault' });
const jobRecord = (job: JobRef & { kind: JobKind; subject: string }, action: string) => ({
  ...{ tenant: job.tenant, actor: VAULT_ACTOR, action, resource: `job:${job.id}` },
  details: { kind: job.kind, subject: job.subject },
});

async function take(vault: Vault, { tenant, id }: JobRef): Promise<Taken | undefined> {
  const claim = randomId();
  const taken = await withoutToken(vault, originOf(id), [tenant], async (tx) => {
    const [row] = await tx<Omit<Taken, 'tenant' | 'id' | 'claim'>[]>`
      UPDATE jobs SET state = 'running', claim = ${claim}, attempts = attempts + 1, done_before = done,
             claimed_at = bulla.now(), heartbeat_at = bulla.now(), updated_at = bulla.now()
      WHERE tenant_id = ${tenant} AND job_id = ${id} AND (${isDue(tx, STALE_SECONDS)})
      RETURNING kind, subject, attempts, total, done, cursor`;
    if (!row) return { value: undefined, records: [] };
    const value = { tenant, id, claim, ...row };
    const record = jobRecord(value, row.attempts === 1 ? 'job.start' : 'job.continue');
    return { value, records: [{ ...record, outcome: 'ok' as const }] };
  });
  if (taken?.kind === 'reencrypt') killpoint('reencrypt.claimed');
  return taken;
}

async function whileBeating(vault: Vault, taken: Taken, isStopping: () => boolean, doing: Doing): Promise<void> {
  let lost = false;
  const beat = setInterval(() => {
    save(vault, taken, undefined).catch((error) => {
      if (error instanceof Stopped) lost = true;
    });
  }, HEARTBEAT_MS).unref();
  const stopped = () => lost || isStopping();
  const { tenant, id, subject, total, done, cursor } = taken;
  try {
    await doing({
      ...{ vault, tenant, id, subject, total, done, cursor, stopped },
      progress: async (doneNow, totalNow, cursorNow) => {
        await save(vault, taken, { done: doneNow, total: totalNow, cursor: cursorNow });
        if (taken.kind === 'reencrypt') killpoint('reencrypt.progressed');
        if (stopped()) throw new Stopped();
      },
      finish: (tenants, act) => finish(vault, taken, tenants, act),
    });
  } finally {
    clearInterval(beat);
  }
}

type Progress = { readonly done: number; readonly total: number; readonly cursor: string | null };

/** Progress never goes backwards, whoever counted it. */
async function save(vault: Vault, { tenant, id, claim }: Taken, progress: Progress | undefined): Promise<void> {
  const { done = 0, total = 0, cursor = null } = progress ?? {};
  const rows = await transaction(
    vault.db,
    [tenant],
    (tx) => tx`
      UPDATE jobs SET heartbeat_at = bulla.now(), updated_at = bulla.now(), done = greatest(done, ${done}::bigint),
             total = greatest(total, done, ${total}::bigint, ${done}::bigint),
             cursor = ${progress ? tx`${cursor}` : tx`cursor`}
      WHERE tenant_id = ${tenant} AND job_id = ${id} AND claim = ${claim} AND state = 'running' RETURNING 1`,
  );
  if (rows.length === 0) throw new Stopped();
}

async function finish(
  vault: Vault,
  taken: Taken,
  tenants: readonly TenantId[],
  act: (tx: Tx) => Promise<{ report: Report; records?: readonly LogRecord[] }>,
): Promise<void> {
  const { tenant, id, claim } = taken;
  const all = [...new Set([tenant, ...tenants])];
  await withoutToken(
    vault,
    originOf(id),
    all,
    async (tx) => {
      const { report, records = [] } = await act(tx);
      const rows = await tx`
      UPDATE jobs SET state = 'done', claim = NULL, cursor = NULL, done = total, report = ${JSON.stringify(report)},
             error = NULL, updated_at = bulla.now(), finished_at = bulla.now()
      WHERE tenant_id = ${tenant} AND job_id = ${id} AND claim = ${claim} AND state = 'running' RETURNING 1`;
      if (rows.length === 0) throw new Stopped();
      if (taken.kind === 'reencrypt') killpoint('reencrypt.concluded');
      return { value: undefined, records: [...records, { ...jobRecord(taken, 'job.finish'), outcome: 'ok' }] };
    },
    { deadlineMs: FINISH_DEADLINE_MS },
  );
  killpoint(taken.kind === 'reencrypt' ? 'reencrypt.finished' : 'tenant-delete.finished');
}

/** Faults of the outside pass: the job waits and is tried again. Anything else needs a person. */
const PASSING: ReadonlySet<string> = new Set(['unavailable', 'outcome_unknown', 'busy', 'sealed']);

async function giveUp(vault: Vault, taken: Taken, error: unknown): Promise<void> {
  const { tenant, id, claim, attempts } = taken;
  const stopped = error instanceof Stopped;
  const passing = stopped || (error instanceof VaultError && PASSING.has(error.code));
  if (passing) {
    const wait = stopped ? 0 : Math.min(WAIT_SECONDS_MAX, 2 ** Math.min(attempts, 6));
    await transaction(
      vault.db,
      [tenant],
      (tx) => tx`
        UPDATE jobs SET state = 'queued', claim = NULL, updated_at = bulla.now(),
               not_before = bulla.now() + make_interval(secs => ${wait})
        WHERE tenant_id = ${tenant} AND job_id = ${id} AND claim = ${claim} AND state = 'running'`,
    );
    return;
  }
  const code = error instanceof Unfinished || error instanceof VaultError ? error.code : 'internal';
  const report = error instanceof Unfinished ? JSON.stringify(error.report) : null;
  await withoutToken(vault, originOf(id), [tenant], async (tx) => {
    const rows = await tx`
      UPDATE jobs SET state = 'failed', claim = NULL, error = ${code}, report = ${report}, updated_at = bulla.now(),
             finished_at = bulla.now()
      WHERE tenant_id = ${tenant} AND job_id = ${id} AND claim = ${claim} AND state = 'running' RETURNING 1`;
    const record = { ...jobRecord(taken, 'job.finish'), outcome: 'error' as const, code };
    return { value: undefined, records: rows.length === 0 ? [] : [record] };
  });
}
