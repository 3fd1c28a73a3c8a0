/** Background jobs of the tenant, such as re-encryption: how far they are, ending them early, going on with them. */
import { API, listAll, part, sendForJson } from './answer.ts';
import type { CallOptions, Connection } from './connection.ts';
import type { Job } from './types.ts';

export type Jobs = ReturnType<typeof createJobs>;

export function createJobs(connection: Connection) {
  const change = (id: string, verb: 'cancel' | 'resume', options: CallOptions): Promise<Job> =>
    sendForJson(connection, { method: 'POST', path: `${API}/jobs/${part(id)}/${verb}`, effect: 'same', ...options });
  return {
    /** Newest first. */
    list: (options: CallOptions = {}): AsyncGenerator<Job, void, undefined> =>
      listAll(connection, `${API}/jobs`, {}, options),

    get: (id: string, options: CallOptions = {}): Promise<Job> =>
      sendForJson(connection, { method: 'GET', path: `${API}/jobs/${part(id)}`, effect: 'none', ...options }),

    /** What it did stays done. */
    cancel: (id: string, options: CallOptions = {}): Promise<Job> => change(id, 'cancel', options),

    /** For one that was cancelled or failed. */
    resume: (id: string, options: CallOptions = {}): Promise<Job> => change(id, 'resume', options),
  };
}
