/**
 * The child process that runs Argon2id: started by password.ts, spoken to over the IPC channel only.
 *
 * It exists so that hashing has a priority of its own and a thread pool of its own, and so that a broken binary of the
 * argon2 package ends this process and not the vault. It computes and compares nothing: bytes in, hash out.
 * It ends when the channel closes, however its parent ended. It must never write anything anywhere.
 */
import { existsSync, readdirSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { argon2id, hash } from 'argon2';

export type HashRequest = {
  readonly id: number;
  readonly password: Uint8Array;
  readonly pepper: Uint8Array;
  readonly salt: Uint8Array;
  /** Of the self-test, and of keys made from passphrases. */
  readonly associatedData: Uint8Array;
  readonly memoryKib: number;
  readonly passes: number;
  readonly lanes: number;
  readonly hashBytes: number;
};

/** Without a hash when Argon2 could not run, which is when memory is short. */
export type HashAnswer = { readonly id: number; readonly hash: Uint8Array | undefined };

/**
 * Measured on two busy cores, the p99 of everything else is 17 ms at priority 0, 7 ms at 10 and 6 ms at 19; but at 19
 * a hash can starve. Alone on the machine, priority costs nothing.
 */
const PRIORITY = constants.priority.PRIORITY_BELOW_NORMAL;

// Ctrl-C reaches the whole process group, and the parent drains before it ends; SIGUSR1 would open the debugger.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const) process.on(signal, () => {});
lowerPriority();
process.on('disconnect', () => process.exit(0));
process.on('message', (request) => void answer(request as HashRequest));

/** Linux keeps a priority for each thread, and loading this file has started the threads that will hash. */
function lowerPriority(): void {
  const threads = existsSync('/proc/self/task') ? readdirSync('/proc/self/task') : [process.pid];
  for (const thread of threads) setPriority(Number(thread), PRIORITY);
}

async function answer(request: HashRequest): Promise<void> {
  const result = await compute(request);
  request.password.fill(0);
  request.pepper.fill(0);
  if (process.connected) process.send?.({ id: request.id, hash: result } satisfies HashAnswer);
}

async function compute(request: HashRequest): Promise<Uint8Array | undefined> {
  const password = view(request.password);
  try {
    return await hash(password, {
      raw: true,
      type: argon2id,
      version: 0x13,
      salt: view(request.salt),
      secret: view(request.pepper),
      associatedData: view(request.associatedData),
      memoryCost: request.memoryKib,
      timeCost: request.passes,
      parallelism: request.lanes,
      hashLength: request.hashBytes,
    });
  } catch {
    // The parameters were checked by the parent, so what is left is memory that could not be had; the parent says so.
    return undefined;
  }
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
