/**
 * One vault per data directory, by a lock that the kernel lets go of when its holder dies, however it dies.
 *
 * The lock is a unix socket somebody listens on. Sockets are numbered: the highest number is the lock, it is held
 * while a connection to it is accepted, and it is taken by linking an already listening socket to the next number,
 * which one of several contenders can do. Three rules make that safe without any wait:
 *
 *     1. the highest number is never removed, not even by its holder, so a number is the lock at most once;
 *     2. a socket listens before it is linked, so a number that refuses connections has no holder any more;
 *     3. whoever linked a number looks again, and withdraws when there is a higher one.
 *
 * A pid file could not do this: pids are used again, and in another container they mean another process. Never remove
 * the highest socket, and never put the directory where strangers can write.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, linkSync, readdirSync, rmSync, utimesSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { VaultError } from '../errors.ts';

export type DirectoryLock = { release(): Promise<void> };

type Holder = { readonly state: 'dead' | 'removed' } | { readonly state: 'alive'; readonly pid: number | undefined };

const TRIES = 50;
const ANSWER_MS = 500;
const FRESH_MS = 3_600_000;

/** Takes the lock or throws `conflict`, naming the process that holds it. `lockDir` must exist and be ours alone. */
export async function acquireDirectoryLock(lockDir: string, dataDir: string): Promise<DirectoryLock> {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const top = highest(lockDir);
    if (top > 0) {
      const holder = await askHolder(join(lockDir, String(top)));
      if (holder.state === 'alive') throw held(dataDir, holder.pid);
      if (holder.state === 'removed') continue;
    }
    const server = await take(lockDir, top + 1);
    if (server) return { release: () => new Promise((resolve) => server.close(() => resolve())) };
  }
  throw held(dataDir, undefined);
}

function held(dataDir: string, pid: number | undefined): VaultError {
  const who = pid === undefined ? 'another Bulla' : `another Bulla (pid ${pid})`;
  return new VaultError('conflict', `${who} is running on ${dataDir}; stop it or set BULLA_DATA_DIR.`);
}

/** Listens, then links. Undefined when another contender was faster. */
async function take(lockDir: string, number: number): Promise<Server | undefined> {
  const candidate = join(lockDir, `new-${randomBytes(6).toString('hex')}`);
  const mine = join(lockDir, String(number));
  const server = await listen(candidate);
  let won = false;
  try {
    won = link(candidate, mine) && highest(lockDir) === number;
  } finally {
    rmSync(candidate, { force: true });
    // What was linked and is not the highest any more is swept by the next holder: nobody listens there.
    if (!won) await new Promise((resolve) => server.close(resolve));
  }
  if (!won) return undefined;
  sweep(lockDir, number);
  const fresh = keepFresh(mine);
  server.once('close', () => clearInterval(fresh));
  return server;
}

async function listen(path: string): Promise<Server> {
  const server = createServer((client) => {
    client.on('error', () => undefined);
    client.end(String(process.pid), () => client.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  return server.unref();
}

/** Cleaners of /tmp remove what looks forgotten. */
function keepFresh(path: string): NodeJS.Timeout {
  const touch = () => {
    const now = new Date();
    if (existsSync(path)) utimesSync(path, now, now);
  };
  return setInterval(touch, FRESH_MS).unref();
}

function link(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    // ENOENT: the winner of this moment has swept our candidate away.
    if (code === 'EEXIST' || code === 'ENOENT') return false;
    throw error;
  }
}

/** Removes what killed or beaten contenders left behind: lower numbers and unlinked candidates. */
function sweep(lockDir: string, mine: number): void {
  for (const name of readdirSync(lockDir)) {
    if (name.startsWith('new-') || Number(name) < mine) rmSync(join(lockDir, name), { force: true });
  }
}

function highest(lockDir: string): number {
  const numbers = readdirSync(lockDir).filter((name) => /^[1-9]\d{0,14}$/.test(name));
  return Math.max(0, ...numbers.map(Number));
}

/** Asks a numbered socket who listens. A stopped process accepts without answering: alive, pid unknown. */
function askHolder(path: string): Promise<Holder> {
  return new Promise((resolve) => {
    const socket = connect(path);
    let text = '';
    const done = (holder: Holder) => {
      socket.destroy();
      resolve(holder);
    };
    const alive = () => done({ state: 'alive', pid: /^\d+$/.test(text) ? Number(text) : undefined });
    socket.setTimeout(ANSWER_MS, alive);
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
    });
    socket.on('end', alive);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') done({ state: 'dead' });
      else if (error.code === 'ENOENT') done({ state: 'removed' });
      else alive();
    });
  });
}
