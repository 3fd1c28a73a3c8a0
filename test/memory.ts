/**
 * Where `npm test` keeps its files: in memory, where the machine has room there.
 *
 * PostgreSQL syncs every commit, and that on a real disk is half of what the tests would cost, with nothing proven by it:
 * what a killed process loses is the same on both. What a lost machine loses is test/long's, which stays on the disk
 * (disk.test.ts), as does everything when TMPDIR is set.
 */
import { chmodSync, mkdirSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MEMORY = '/dev/shm';
const OURS = /^bulla-run-(\d+)$/;
/** Three times the most that was ever seen there. */
const ROOM_BYTES_MIN = 1.5 * 1024 ** 3;

/** Sets TMPDIR for this process and those that it starts. */
export function useMemory(): void {
  if (process.env.TMPDIR !== undefined || room() < ROOM_BYTES_MIN) return;
  removeLeft();
  const directory = join(MEMORY, `bulla-run-${process.pid}`);
  mkdirSync(directory);
  // As /tmp is: the servers of the tests run as several users.
  chmodSync(directory, 0o1777);
  process.env.TMPDIR = directory;
}

/** When the run is over. */
export function leaveMemory(): void {
  if (tmpdir() === join(MEMORY, `bulla-run-${process.pid}`)) rmSync(tmpdir(), { recursive: true, force: true });
}

function room(): number {
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    return bavail * bsize;
  } catch {
    return 0;
  }
}

/** What runs that were killed have left. */
function removeLeft(): void {
  for (const name of readdirSync(MEMORY)) {
    const pid = OURS.exec(name)?.[1];
    if (pid !== undefined && !isRunning(Number(pid))) rmSync(join(MEMORY, name), { recursive: true, force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
