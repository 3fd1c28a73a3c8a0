/** Every kind of job and what does it; the runner of a node with all of them. */
import type { Vault } from '../vault.ts';
import type { JobKind } from './job.ts';
import { reencrypt } from './reencrypt.ts';
import { type Doing, type Runner, startRunner } from './runner.ts';
import { removeTenant } from './tenant.ts';

/** `root-key-rotate` is recorded when it is done, in one commit: nobody ever takes it. */
const JOB_KINDS: Readonly<Partial<Record<JobKind, Doing>>> = {
  reencrypt,
  'tenant-delete': removeTenant,
};

export function startJobs(vault: Vault): Runner {
  return startRunner(vault, JOB_KINDS);
}
