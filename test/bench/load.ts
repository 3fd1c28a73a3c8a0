/**
 * The load: a process of its own that keeps N connections busy with one request after another, over plain sockets so that
 * it takes as little of the machine as it can. Bounded in time by its plan.
 *
 * Reads a plan as JSON from standard input, writes the result as JSON to standard output.
 */
import { connect, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';

export type Plan = {
  readonly port: number;
  readonly connections: number;
  readonly seconds: number;
  readonly warmupSeconds: number;
  /** Whole requests, taken in turn. */
  readonly requests: readonly string[];
};

export type Load = {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly answers: number;
  /** Answers that were not 2xx. */
  readonly failed: number;
};

type Counter = { counting: boolean; times: number[]; failed: number };

/** One connection: sends, waits for the whole answer, sends the next, until `stop` says so. */
function client(plan: Plan, offset: number, counter: Counter, stop: () => boolean): Promise<void> {
  const requests = plan.requests.map((request) => Buffer.from(request));
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(plan.port, '127.0.0.1');
    socket.setNoDelay(true);
    let turn = offset;
    let started = 0;
    let left = -1;
    let head = '';
    const next = () => {
      if (stop()) {
        socket.end();
        resolve();
        return;
      }
      started = performance.now();
      socket.write(requests[turn++ % requests.length]!);
    };
    socket.on('connect', next);
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      if (left < 0) {
        head += chunk.toString('latin1');
        const end = head.indexOf('\r\n\r\n');
        if (end < 0) return;
        const length = Number(/content-length: (\d+)/i.exec(head.slice(0, end))?.[1]);
        if (Number.isNaN(length)) return reject(new Error(`no Content-Length in: ${head.slice(0, end)}`));
        left = length - (head.length - end - 4);
        if (counter.counting && !head.startsWith('HTTP/1.1 2')) counter.failed += 1;
      } else {
        left -= chunk.length;
      }
      if (left > 0) return;
      left = -1;
      head = '';
      if (counter.counting) counter.times.push(performance.now() - started);
      next();
    });
  });
}

async function run(plan: Plan): Promise<Load> {
  const counter: Counter = { counting: false, times: [], failed: 0 };
  const begin = performance.now() + plan.warmupSeconds * 1000;
  const end = begin + plan.seconds * 1000;
  setTimeout(() => {
    counter.counting = true;
  }, plan.warmupSeconds * 1000);
  const over = () => performance.now() >= end;
  await Promise.all(Array.from({ length: plan.connections }, (_, i) => client(plan, i * 7, counter, over)));
  const times = counter.times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN;
  return {
    perSecond: times.length / ((performance.now() - begin) / 1000),
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    answers: times.length,
    failed: counter.failed,
  };
}

let input = '';
process.stdin.on('data', (chunk) => {
  input += chunk;
});
process.stdin.on('end', async () => {
  process.stdout.write(JSON.stringify(await run(JSON.parse(input) as Plan)));
});
