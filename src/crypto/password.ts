/**
 * Passwords: Argon2id (RFC 9106) with a pepper as its secret parameter, run in a child process of low priority.
 *
 * Invariant: never more than `concurrency` hashes run at once and never more than `queueMax` wait, so logins can take
 * neither the memory nor the processor of everything else; what comes beyond is told when to come back. Verifying an
 * unknown user's password takes the same way and the same time as a known one's.
 * The child starts with the first hash and ends when idle; when it dies, its hashes fail as `unavailable` and the next
 * one starts another. Where hashes follow one another, the child gives way to everything else (Linux: SCHED_IDLE), which
 * keeps others' p99 below twice what it is without logins; a low priority alone does not. A process cannot come back from
 * there by itself, so where a hash then starves, the child is killed and replaced by one that gives way less.
 * This file must never log, keep or return a password or a pepper, and wipes the copies it makes.
 */
import { type ChildProcess, execFile, fork } from 'node:child_process';
import { randomFillSync, timingSafeEqual } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { assert, VaultError } from '../errors.ts';
import { LABEL } from './context.ts';
import type { SecretBytes } from './keys.ts';
import type { HashAnswer, HashRequest } from './password-child.ts';
import {
  type Argon2Cost,
  checkFloor,
  formatPasswordHash,
  PASSWORD_HASH_BYTES,
  parsePasswordHash,
  SALT_BYTES,
} from './phc.ts';

export type PasswordHasherOptions = Argon2Cost & {
  /** Hashes at once; by default one less than there are processors, and at least one. */
  readonly concurrency?: number | undefined;
  /** Hashes that may wait for their turn. */
  readonly queueMax: number;
  /** After this long without work the child ends. */
  readonly idleMs?: number;
  /** After this long without an answer the child is taken for hung and killed. */
  readonly deadlineMs?: number;
  /** The program of util-linux by which the child gives way. */
  readonly chrt?: string;
};

const PASSWORD_BYTES_MAX = 1024;
/** Bounds the work of normalising; no text longer than this comes out at 1,024 bytes. */
const PASSWORD_CHARACTERS_MAX = 4 * PASSWORD_BYTES_MAX;

/**
 * The bytes of a password as a person types it: UTF-8 of its NFC form (NIST SP 800-63B-4 §3.1.1.2), so that keyboards
 * that compose differently make one password. Nothing is trimmed, folded or cut off, and NUL is a character like others.
 */
export function normalisePassword(text: string): Uint8Array {
  if (text.length > PASSWORD_CHARACTERS_MAX) throw tooLong();
  if (/\p{Surrogate}/u.test(text)) {
    throw new VaultError(
      'invalid_request',
      'A password is to be well-formed Unicode; this one holds half a character.',
    );
  }
  const bytes = Buffer.from(text.normalize('NFC'), 'utf8');
  if (bytes.length <= PASSWORD_BYTES_MAX) return bytes;
  bytes.fill(0);
  throw tooLong();
}

type Job = {
  readonly request: HashRequest;
  readonly resolve: (hash: Uint8Array) => void;
  readonly reject: (error: VaultError) => void;
  deadline?: NodeJS.Timeout;
  patience?: NodeJS.Timeout;
  startedAt?: number;
};

type Child = {
  readonly process: ChildProcess;
  readonly jobs: Map<number, Job>;
  /** Whether it runs only when nothing else wants to; `cannot` once that was tried in vain. */
  yielding: 'no' | 'yes' | 'cannot';
};

/** Logins that go on for so long without a pause of as long are many. */
const MANY_MS = 1_000;
/** A hash starves when it takes so many times as long as others, within these bounds. */
const STARVING = { times: 5, leastMs: 1_000, mostMs: 5_000 } as const;
/** For so long after one has starved, no child gives way. */
const HURRIED_MS = 60_000;

/** A password as text is normalised here; as bytes it is taken as it is. */
type Password = string | Uint8Array;

export class PasswordHasher {
  readonly #cost: Argon2Cost;
  readonly #concurrency: number;
  readonly #queueMax: number;
  readonly #idleMs: number;
  readonly #deadlineMs: number;
  readonly #chrt: string;
  readonly #decoy: string;
  readonly #queue: Job[] = [];
  #child: Child | undefined;
  #idle: NodeJS.Timeout | undefined;
  #admitted = 0;
  #nextId = 0;
  #meanMs = 300;
  /** Since when hashes follow one another, when the last one ended, and until when none may be made to wait. */
  #manySince = 0;
  #lastEnd = Number.NEGATIVE_INFINITY;
  #hurriedUntil = 0;
  #closed = false;

  constructor(options: PasswordHasherOptions) {
    const { memoryKib, passes, lanes } = options;
    checkFloor({ memoryKib, passes, lanes });
    this.#cost = { memoryKib, passes, lanes };
    this.#concurrency = options.concurrency ?? Math.max(1, availableParallelism() - 1);
    this.#queueMax = options.queueMax;
    this.#idleMs = options.idleMs ?? 60_000;
    this.#deadlineMs = options.deadlineMs ?? 30_000;
    this.#chrt = options.chrt ?? 'chrt';
    assert(this.#concurrency >= 1 && this.#queueMax >= 0, 'at least one hash runs at once');
    this.#decoy = formatPasswordHash({ ...this.#cost, salt: random(SALT_BYTES), hash: random(PASSWORD_HASH_BYTES) });
  }

  /**
   * Runs work that comes to a hash, when there will be room for it: of many at once, those that would be turned away are
   * `busy` at once, before anything else has been done for them.
   */
  async admit<T>(work: () => Promise<T>): Promise<T> {
    if (this.#admitted >= this.#concurrency + this.#queueMax) throw this.#busy();
    this.#admitted += 1;
    try {
      return await work();
    } finally {
      this.#admitted -= 1;
    }
  }

  /** Returns the PHC string to store. */
  async hash(password: Password, pepper: SecretBytes): Promise<string> {
    const salt = random(SALT_BYTES);
    const hash = await this.#run(this.#cost, password, pepper, salt, PASSWORD_HASH_BYTES);
    return formatPasswordHash({ ...this.#cost, salt, hash });
  }

  /** Throws `integrity` for a stored string that this vault never wrote, before any memory is taken for it. */
  async verify(phc: string, password: Password, pepper: SecretBytes): Promise<boolean> {
    const stored = parsePasswordHash(phc, this.#cost);
    const hash = await this.#run(stored, password, pepper, stored.salt, stored.hash.length);
    return timingSafeEqual(hash, stored.hash);
  }

  /** What verifying costs when there is nothing to verify against: always false. */
  async verifyDecoy(password: Password, pepper: SecretBytes): Promise<false> {
    await this.verify(this.#decoy, password, pepper);
    return false;
  }

  /** Whether a stored string has other parameters than today's; ask when the password is at hand. */
  needsRehash(phc: string): boolean {
    const stored = parsePasswordHash(phc, this.#cost);
    return (
      stored.memoryKib !== this.#cost.memoryKib ||
      stored.passes !== this.#cost.passes ||
      stored.lanes !== this.#cost.lanes ||
      stored.salt.length !== SALT_BYTES ||
      stored.hash.length !== PASSWORD_HASH_BYTES
    );
  }

  /** 32 bytes of key from a passphrase. The caller wipes them, and has bounded a cost that it has from outside. */
  async deriveKey(passphrase: string, salt: Uint8Array, { memoryKib, passes, lanes }: Argon2Cost): Promise<Uint8Array> {
    return this.#submit({
      password: normalisePassword(passphrase),
      pepper: new Uint8Array(0),
      salt,
      associatedData: Buffer.from(LABEL.sealPassphrase),
      memoryKib,
      passes,
      lanes,
      hashBytes: PASSWORD_HASH_BYTES,
    });
  }

  /** Hashes RFC 9106's own example, and one pass in the configured memory: a binary or a limit that fails is a sentence. */
  async selfTest(): Promise<void> {
    const tag = await this.#submit({ ...RFC_9106_EXAMPLE, password: Buffer.alloc(32, 1), pepper: Buffer.alloc(8, 3) });
    if (Buffer.from(tag).toString('hex') !== RFC_9106_TAG) {
      throw new VaultError('internal', 'Argon2id computes wrong hashes on this machine. Reinstall the argon2 package.');
    }
    await this.#submit({
      ...this.#cost,
      passes: 1,
      password: random(SALT_BYTES),
      pepper: random(SALT_BYTES),
      salt: random(SALT_BYTES),
      associatedData: EMPTY,
      hashBytes: PASSWORD_HASH_BYTES,
    });
  }

  /** Fails what waits and runs as `unavailable`, and resolves when the child has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idle);
    for (const job of this.#queue.splice(0)) discard(job, unavailable('The vault is closing.'));
    const child = this.#child?.process;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.ref();
    child.kill('SIGKILL');
    await ended;
  }

  async #run(cost: Argon2Cost, password: Password, pepper: SecretBytes, salt: Uint8Array, hashBytes: number) {
    if (typeof password !== 'string' && password.length > PASSWORD_BYTES_MAX) throw tooLong();
    const { memoryKib, passes, lanes } = cost;
    return this.#submit({
      password: typeof password === 'string' ? normalisePassword(password) : Uint8Array.from(password),
      pepper: pepper.use((bytes) => Uint8Array.from(bytes)),
      salt,
      associatedData: EMPTY,
      memoryKib,
      passes,
      lanes,
      hashBytes,
    });
  }

  /** Takes password and pepper over: they are wiped once the hash is there or has failed. */
  #submit(request: Omit<HashRequest, 'id'>): Promise<Uint8Array> {
    this.#nextId += 1;
    const id = this.#nextId;
    return new Promise((resolve, reject) => {
      const job: Job = { request: { ...request, id }, resolve, reject };
      if (this.#closed) return discard(job, unavailable('The vault is closing.'));
      if ((this.#child?.jobs.size ?? 0) >= this.#concurrency && this.#queue.length >= this.#queueMax) {
        return discard(job, this.#busy());
      }
      this.#queue.push(job);
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#queue.length > 0 && (this.#child?.jobs.size ?? 0) < this.#concurrency) {
      this.#send(this.#queue.shift()!);
    }
    const child = this.#child;
    if (child === undefined || child.jobs.size > 0) return;
    // Nothing runs: the child keeps neither this process alive nor itself for long.
    child.process.unref();
    child.process.channel?.unref();
    this.#idle ??= setTimeout(() => this.#endIdle(), this.#idleMs).unref();
  }

  #send(job: Job): void {
    clearTimeout(this.#idle);
    this.#idle = undefined;
    if (this.#child?.process.connected !== true) this.#child = this.#start();
    const child = this.#child;
    child.process.ref();
    child.process.channel?.ref();
    child.jobs.set(job.request.id, job);
    job.startedAt = performance.now();
    if (job.startedAt - this.#lastEnd > MANY_MS) this.#manySince = job.startedAt;
    if (job.startedAt - this.#manySince > MANY_MS && job.startedAt > this.#hurriedUntil) giveWay(child, this.#chrt);
    job.deadline = setTimeout(() => child.process.kill('SIGKILL'), this.#deadlineMs);
    job.patience = setTimeout(() => child.yielding === 'yes' && this.#hurry(child), patienceMs(this.#meanMs));
    // A failure to write it ends the child, which fails its jobs.
    child.process.send(job.request, (error) => error && child.process.kill('SIGKILL'));
  }

  #start(): Child {
    const file = fileURLToPath(new URL('./password-child.js', import.meta.url));
    const child: Child = {
      process: fork(file, [], {
        env: { UV_THREADPOOL_SIZE: String(this.#concurrency) },
        execArgv: [],
        serialization: 'advanced',
        stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      }),
      jobs: new Map(),
      yielding: 'no',
    };
    child.process.on('message', (answer) => this.#finish(child, answer as HashAnswer));
    child.process.on('exit', (code, signal) => this.#ended(child, `it ended with ${signal ?? `exit code ${code}`}`));
    child.process.on('error', () => {
      child.process.kill('SIGKILL');
      this.#ended(child, 'it could not be started or spoken to');
    });
    return child;
  }

  #finish(child: Child, { id, hash }: HashAnswer): void {
    const job = child.jobs.get(id);
    if (job === undefined) return;
    child.jobs.delete(id);
    settle(job);
    this.#lastEnd = performance.now();
    this.#meanMs += (this.#lastEnd - job.startedAt! - this.#meanMs) / 8;
    if (hash === undefined) {
      job.reject(unavailable(`Argon2 could not run with ${job.request.memoryKib} KiB of memory. Give the vault more.`));
    } else {
      job.resolve(hash);
    }
    this.#pump();
  }

  #ended(child: Child, how: string): void {
    if (this.#child === child) this.#child = undefined;
    for (const job of child.jobs.values()) {
      settle(job);
      job.reject(
        unavailable(
          `The process that hashes passwords failed: ${how}. Try again; if it stays so, reinstall the argon2 package.`,
        ),
      );
    }
    child.jobs.clear();
    this.#pump();
  }

  /** Another child does what this one does not come to. */
  #hurry(child: Child): void {
    // What close() has ended fails as it does.
    if (this.#closed) return;
    this.#hurriedUntil = performance.now() + HURRIED_MS;
    const jobs = [...child.jobs.values()];
    child.jobs.clear();
    child.process.kill('SIGKILL');
    if (this.#child === child) this.#child = undefined;
    for (const { deadline, patience } of jobs) {
      clearTimeout(deadline);
      clearTimeout(patience);
    }
    this.#queue.unshift(...jobs);
    this.#pump();
  }

  #endIdle(): void {
    this.#idle = undefined;
    if (this.#child?.process.connected) this.#child.process.disconnect();
    this.#child = undefined;
  }

  #busy(): VaultError {
    const before = Math.max(this.#queue.length, this.#admitted - this.#concurrency);
    const waitMs = (this.#meanMs * (before + 1)) / this.#concurrency;
    return new VaultError('busy', 'Too many logins at once. Try again a little later.', {
      retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1000)),
    });
  }
}

const EMPTY = new Uint8Array(0);

/** RFC 9106 §5.3. */
const RFC_9106_EXAMPLE = {
  salt: new Uint8Array(16).fill(2),
  associatedData: new Uint8Array(12).fill(4),
  memoryKib: 32,
  passes: 3,
  lanes: 4,
  hashBytes: 32,
} as const;
const RFC_9106_TAG = '0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659';

function discard(job: Job, error: VaultError): void {
  settle(job);
  job.reject(error);
}

/** Nothing is left of a job that is over. */
function settle({ request, deadline, patience }: Job): void {
  clearTimeout(deadline);
  clearTimeout(patience);
  request.password.fill(0);
  request.pepper.fill(0);
}

/** Every thread of the child gives way. Where there is no chrt (util-linux), its low priority has to do. */
function giveWay(child: Child, chrt: string): void {
  if (child.yielding !== 'no') return;
  child.yielding = 'yes';
  // The vault's environment may hold the key of its seal: this gets none, and is looked for where systems keep it.
  execFile(chrt, ['-a', '-i', '-p', '0', String(child.process.pid)], { env: {} }, (error) => {
    if (error?.code === 'ENOENT') child.yielding = 'cannot';
  });
}

function patienceMs(meanMs: number): number {
  return Math.min(Math.max(meanMs * STARVING.times, STARVING.leastMs), STARVING.mostMs);
}

function random(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  randomFillSync(bytes);
  assert(!bytes.every((byte) => byte === 0), 'the random number generator gives random bytes');
  return bytes;
}

function tooLong(): VaultError {
  return new VaultError(
    'invalid_request',
    `A password is to have at most ${PASSWORD_BYTES_MAX} bytes; this one has more.`,
  );
}

function unavailable(message: string): VaultError {
  return new VaultError('unavailable', message);
}
