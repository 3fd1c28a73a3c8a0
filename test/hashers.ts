/** Password hashers that are ended after each test, and what /proc says of their child processes. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { SecretBytes } from '../src/crypto/keys.ts';
import { PasswordHasher, type PasswordHasherOptions } from '../src/crypto/password.ts';
import { VaultError } from '../src/errors.ts';

/** The cheapest that the floor allows: some tens of milliseconds. */
export const COST = { memoryKib: 12_288, passes: 3, lanes: 1 } as const;
export const pepper = SecretBytes.fromBytes(new Uint8Array(32).fill(9));

const open: PasswordHasher[] = [];
export function hasher(options: Partial<PasswordHasherOptions> = {}): PasswordHasher {
  const made = new PasswordHasher({ ...COST, concurrency: 1, queueMax: 10, ...options });
  open.push(made);
  return made;
}

/** Ends all that `hasher` has made. */
export async function closeHashers(): Promise<void> {
  await Promise.all(open.splice(0).map((made) => made.close()));
}

/** The password processes whose parent is `parent`. */
export function children(parent = process.pid): number[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        const [state, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return (
          Number(ppid) === parent &&
          state !== 'Z' &&
          readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('password-child')
        );
      } catch {
        return false; // It ended while we looked.
      }
    });
}

/** A field of proc(5)'s `stat` of each thread, counted from `state` as 0. */
function ofThreads(pid: number, field: number): number[] {
  return readdirSync(`/proc/${pid}/task`).map((task) => {
    const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[field]);
  });
}

export const prioritiesOf = (pid: number) => new Set(ofThreads(pid, 16));
export const SCHED_IDLE = 5;
export const policiesOf = (pid: number) => new Set(ofThreads(pid, 38));

/** Hashes until the child gives way; for a second and a little more. */
export async function untilYielding(passwords: PasswordHasher): Promise<number> {
  for (;;) {
    await passwords.verifyDecoy('x', pepper);
    const [pid] = children();
    if (!policiesOf(pid!).has(0)) return pid!;
  }
}

export async function failure(promise: Promise<unknown>): Promise<VaultError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(VaultError);
  return error as VaultError;
}
