/**
 * Several workers (worker.ts) at one port, from the process that owns all that there is once: started, looked after, ended.
 *
 *     this process   data directory's lock, embedded PostgreSQL, migrations, first accounts, marks, checkpoints, jobs,
 *        │           what is due, sweeper, certificates, counts of rates, sums of metrics; accepts connections
 *        ├── worker 1 ─┐
 *        └── worker n ─┴─ vaults of their own: requests, each connection by the worker that it fell to
 *
 * Connections are handed out in turn by node:cluster. A worker that dies takes its own connections with it, those on the way
 * to it too (worker-handing.ts), and is started again; all end when this process does, however it ends.
 */
import cluster, { type Worker } from 'node:cluster';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { meetCheckpoint } from '../audit/checkpoint.ts';
import { halt, haltReason, onHalt } from '../audit/halt.ts';
import { withoutSettings } from '../config.ts';
import { shareOfWorker } from '../config-share.ts';
import { VaultError } from '../errors.ts';
import type { Tls } from '../http/tls.ts';
import { type Counted, countTogether } from '../http/together.ts';
import { wake } from '../job/job.ts';
import { wakeSweeper } from '../lease/wake.ts';
import { countForWorkers } from '../rate-limiter.ts';
import type { Vault } from '../vault.ts';
import { type Begin, type Channel, openChannel, type ToFirst, type ToWorker } from './worker-channel.ts';
import { closeUntaken } from './worker-handing.ts';

export type Workers = {
  /** Where they serve: once all do. Rejects with why one cannot. */
  readonly served: Promise<string>;
  /** Lets each look at its certificate. */
  readonly look: () => void;
  /** Ends them, with running requests answered. None is left on return. */
  readonly stop: () => Promise<void>;
};

const FILE = fileURLToPath(new URL('./worker.js', import.meta.url));
const BACKOFF_MS_MAX = 10_000;
/** A worker that lived this long had not failed because of how it was started. */
const SETTLED_MS = 30_000;
const METRICS_MS_MAX = 2_000;
/** What a worker has to end in, beyond the running requests. */
const END_MS_MAX = 10_000;

type Running = { readonly worker: Worker; readonly channel: Channel<ToWorker, ToFirst>; serving: boolean };

/** `reach` says how they come to the database. `vault` is this process's own, and its configuration the whole one. */
export function startWorkers(
  vault: Vault,
  reach: Pick<Begin, 'config' | 'target' | 'setRole' | 'dataDir'>,
  tls: Tls | undefined,
): Workers {
  const { workers: count, http } = reach.config;
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({
    exec: FILE,
    args: [],
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  countForWorkers();
  const told = { ...reach, config: shareOfWorker(reach.config) };
  const running = new Map<number, Running>();
  const ending = new AbortController();
  const together = countTogether(vault, () => [...running.values()].filter(({ serving }) => serving).length);
  const tellAll = (message: ToWorker) => {
    for (const { channel } of running.values()) void channel.tell(message);
  };
  onHalt(vault, (reason) => tellAll({ kind: 'halt', reason }));
  const answers = {
    opened: async () => {
      await vault.seal.follow();
      if (vault.seal.sealed) throw vault.seal.error;
    },
    renewal: async () => tls?.renewalAlarm(),
    metrics: () => {
      const serving = [...running].filter(([, one]) => one.serving);
      const ask = ({ channel }: Running) => channel.ask('metrics', METRICS_MS_MAX) as Promise<Counted>;
      return together.scrape(new Map(serving.map(([number, one]) => [number, () => ask(one)])));
    },
  };
  const fork = (number: number) => {
    const worker = cluster.fork(withoutSettings());
    closeUntaken(worker, ending.signal);
    // What is sent to one that has just died; its end is seen by itself.
    worker.on('error', () => undefined);
    const begin = async (): Promise<Begin> => {
      // It did not hear that before it asked.
      if (ending.signal.aborted) void channel.tell({ kind: 'stop' });
      return { ...told, number, halted: haltReason(vault) };
    };
    const send = (message: unknown, done: (error: Error | null) => void) =>
      worker.process.send(message as object, done);
    const channel: Channel<ToWorker, ToFirst> = openChannel(send, { ...answers, begin });
    const one: Running = { worker, channel, serving: false };
    running.set(number, one);
    const served = new Promise<string>((resolve, reject) => {
      worker.on('message', (received) => {
        const message = channel.hear(received);
        if (message?.kind === 'ready') {
          one.serving = true;
          resolve(message.address);
        } else if (message?.kind === 'failed') reject(new VaultError('unavailable', message.sentence));
        else if (message) act(vault, message);
      });
      worker.once('exit', () => reject(new VaultError('unavailable', `Worker ${number} ended before it served.`)));
    });
    const ended = new Promise<string>((resolve) => {
      worker.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    }).finally(() => {
      running.delete(number);
      together.forget(number);
    });
    return { worker, served, ended };
  };
  const slots = Array.from({ length: count }, (_, i) => keepRunning(vault, i + 1, fork, ending.signal));
  return {
    served: Promise.all(slots.map(({ served }) => served)).then(([address]) => address!),
    look: () => tellAll({ kind: 'look' }),
    stop: async () => {
      ending.abort();
      tellAll({ kind: 'stop' });
      const late = setTimeout(
        () => {
          for (const { worker } of running.values()) worker.process.kill('SIGKILL');
        },
        http.drainDeadlineSeconds * 1000 + END_MS_MAX,
      );
      await Promise.all(slots.map(({ ended }) => ended));
      clearTimeout(late);
    },
  };
}

/** What a worker cannot do by itself. */
function act(vault: Vault, message: ToFirst): void {
  if (message.kind === 'halt') halt(vault, message.reason);
  else if (message.kind === 'signed') for (const signed of message.checkpoints) meetCheckpoint(vault, signed);
  else if (message.kind === 'wake' && message.whom === 'jobs') wake(vault);
  else if (message.kind === 'wake' && message.whom === 'sweeper') wakeSweeper(vault, message.inMs);
}

type Forked = { readonly worker: Worker; readonly served: Promise<string>; readonly ended: Promise<string> };
type Slot = { readonly served: Promise<string>; readonly ended: Promise<void> };

/** Starts a worker again whenever it ends, until the signal. `served` is about the first one; `ended` is the last's end. */
function keepRunning(vault: Vault, number: number, fork: (number: number) => Forked, ending: AbortSignal): Slot {
  const first = fork(number);
  const follow = async (): Promise<void> => {
    // One that cannot serve at the start of the server is why that fails.
    const began = await first.served.then(() => true).catch(() => false);
    for (let current = first, delayMs = 0; ; ) {
      const sinceMs = performance.now();
      const how = await current.ended;
      if (ending.aborted || !began) return;
      delayMs = performance.now() - sinceMs > SETTLED_MS ? 0 : nextDelay(delayMs);
      const { pid } = current.worker.process;
      vault.log.error({ worker: number, pid, ended: how, delayMs }, 'a worker ended and is started again');
      await sleep(delayMs, undefined, { signal: ending }).catch(() => undefined);
      if (ending.aborted) return;
      current = fork(number);
      const fields = { worker: number, pid: current.worker.process.pid };
      current.served.then(
        () => vault.log.warn(fields, 'a worker serves again'),
        (error: Error) => vault.log.error({ ...fields, reason: error.message }, 'a worker cannot serve'),
      );
    }
  };
  return { served: first.served, ended: follow() };
}

const nextDelay = (delayMs: number) => (delayMs === 0 ? 50 : Math.min(delayMs * 2, BACKOFF_MS_MAX));
