/** Background jobs: how far they are, ending them early, going on with them, and what they report at the end. */
import { z } from '@hono/zod-openapi';
import { cancelJob, type JobInfo, listJobs, readJob, resumeJob } from '../../job/job.ts';
import { endpoint, json, page } from './endpoint.ts';
import { listOf, pageQuery, time } from './schema.ts';

export const job = z
  .object({
    id: z.string(),
    kind: z.enum(['reencrypt', 'tenant-delete', 'root-key-rotate']),
    subject: z.string().openapi({ description: 'What it is about: a key version, or the id of a tenant.' }),
    state: z.enum(['queued', 'running', 'done', 'failed', 'cancelled']),
    total: z.int(),
    done: z.int(),
    rate: z.number().nullable().openapi({ description: 'Items a second; null when no node works on it.' }),
    seconds_left: z.int().nullable(),
    started_by: z.string().openapi({ description: 'The id of a user, or vault.' }),
    created_at: time,
    updated_at: time,
    finished_at: time.nullable(),
    error: z.string().nullable().openapi({ description: 'The code of the error that ended it.' }),
    report: z.looseObject({}).nullable().openapi({ description: 'What was done, once it has ended.' }),
  })
  .openapi('Job');

export const JOB = {
  id: 'p7q2xk4mz3nb5cde',
  kind: 'reencrypt',
  subject: '2',
  state: 'running',
  total: 100000,
  done: 42000,
  rate: 15320.5,
  seconds_left: 4,
  started_by: 'p7q2xk4mz3nb5cde',
  created_at: '2026-01-02T03:04:05.678901Z',
  updated_at: '2026-01-02T03:04:08.678901Z',
  finished_at: null,
  error: null,
  report: null,
};

export const shapeJob = (info: JobInfo) => ({
  id: info.id,
  kind: info.kind,
  subject: info.subject,
  state: info.state,
  total: info.total,
  done: info.done,
  rate: info.ratePerSecond,
  seconds_left: info.secondsLeft,
  started_by: info.startedBy,
  created_at: info.createdAt,
  updated_at: info.updatedAt,
  finished_at: info.finishedAt,
  error: info.error,
  report: info.report,
});

const common = { tag: 'jobs' } as const;
const one = (about: string) => ({ 200: { about, schema: job, example: JOB } });

export const list = endpoint(
  {
    ...common,
    method: 'get',
    path: '/jobs',
    id: 'listJobs',
    summary: 'List the tenant’s background jobs',
    query: pageQuery,
    answers: { 200: { about: 'Newest first.', schema: listOf(job), example: { items: [JOB], next_cursor: null } } },
    errors: [],
  },
  async ({ vault, call, query }) => page(await listJobs(vault, call, query), shapeJob),
);

export const read = endpoint(
  {
    ...common,
    method: 'get',
    path: '/jobs/{id}',
    id: 'readJob',
    summary: 'Read the progress or the report of a job',
    answers: one('The job.'),
    errors: ['not_found'],
  },
  async ({ vault, call, param }) => json(200, shapeJob(await readJob(vault, call, param))),
);

export const cancel = endpoint(
  {
    ...common,
    method: 'post',
    path: '/jobs/{id}/cancel',
    id: 'cancelJob',
    summary: 'End a job early',
    description: 'What it did stays done; it can be resumed. The deletion of a tenant cannot be cancelled.',
    answers: one('The job, cancelled.'),
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => json(200, shapeJob(await cancelJob(vault, call, param))),
);

export const resume = endpoint(
  {
    ...common,
    method: 'post',
    path: '/jobs/{id}/resume',
    id: 'resumeJob',
    summary: 'Go on with a job that was cancelled or failed',
    answers: one('The job, queued.'),
    errors: ['not_found', 'conflict'],
  },
  async ({ vault, call, param }) => json(200, shapeJob(await resumeJob(vault, call, param))),
);
