/** T-107: five hundred logins at once, at the real cost of a password, against people who are in already. */
import { Agent, get } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { api } from '../disk.ts';
import { hasherOf, statusOf } from '../lifecycle.ts';
import { run, type Server, startServer, temporaryDirectory } from '../process.ts';

const STORM = fileURLToPath(new URL('../fixtures/login-storm.mjs', import.meta.url));
const LOGINS = 500;
const QUEUE = 16;
const ARGON2_KIB = 64 * 1024;
const READERS = 4;
const ROUNDS = 7;
const SECONDS = 4;

const directory = temporaryDirectory('storm');
let server: Server;
let token: string;

beforeAll(async () => {
  server = await startServer(join(directory.path, 'data'), {
    ...{ BULLA_ARGON2_MEMORY_KIB: String(ARGON2_KIB), BULLA_HASH_CONCURRENCY: '1' },
    BULLA_HASH_QUEUE_MAX: String(QUEUE),
  });
  const { start, bearer } = api(server);
  await start();
  token = bearer();
});
afterAll(async () => {
  await server?.end('SIGTERM');
  directory.remove();
});

/** Reads one after another on each of a few connections, for so long; the times of all, sorted. */
async function reads(seconds: number): Promise<number[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: READERS });
  const times: number[] = [];
  const until = performance.now() + seconds * 1000;
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const started = performance.now();
      const headers = { authorization: `Bearer ${token}` };
      get(`${server.address}/api/v1/secrets/prod/db`, { agent, headers }, (answer) => {
        if (answer.statusCode !== 200) reject(new Error(`a read was answered ${answer.statusCode}`));
        answer.resume().once('end', () => {
          times.push(performance.now() - started);
          resolve();
        });
      }).once('error', reject);
    });
  const reader = async () => {
    while (performance.now() < until) await one();
  };
  await Promise.all(Array.from({ length: READERS }, reader));
  agent.destroy();
  return times.sort((a, b) => a - b);
}

type Storm = { readonly statuses: Record<string, number>; readonly turnedAtFirst: number; readonly silent: number };

async function storm(): Promise<Storm> {
  const body = JSON.stringify({ tenant: 'default', username: 'nobody', password: 'a password that is not right' });
  const port = new URL(server.address).port;
  return JSON.parse(
    (await run(process.execPath, [STORM, port, String(LOGINS), String(SECONDS), body])).stdout.toString(),
  );
}

const kibOf = (pid: number, field: string) => Number(statusOf(pid, field));

test('T-107 500 logins at once: one hash runs, 16 wait, the rest hears when to come back, and reads go on as before', {
  timeout: 300_000,
}, async () => {
  const at = (times: number[], share: number) => times[Math.floor(times.length * share)]!;
  const ratios: number[] = [];
  const seen: string[] = [];
  await reads(SECONDS);
  const before = kibOf(server.child.pid!, 'VmHWM');
  for (let round = 0; round < ROUNDS; round += 1) {
    const calm = await reads(SECONDS);
    const [during, said] = await Promise.all([reads(SECONDS), storm()]);
    ratios.push(at(during, 0.99) / at(calm, 0.99));
    seen.push(`${at(calm, 0.99).toFixed(1)} → ${at(during, 0.99).toFixed(1)} ms, ${JSON.stringify(said.statuses)}`);
    // Nobody is left without an answer, and most are turned away at once.
    expect(Object.keys(said.statuses).filter((status) => status !== '401' && status !== '503')).toEqual([]);
    expect(said.silent).toBe(0);
    expect(said.turnedAtFirst).toBeGreaterThan(LOGINS * 0.8);
    expect(said.statuses[401]).toBeGreaterThan(QUEUE);
  }
  process.stdout.write(`p99 of reads before → during: ${seen.join('; ')}\n`);
  // What Node takes, and one hash: two at once would be 64 MiB more.
  expect(kibOf(hasherOf(server.child.pid!)!, 'VmHWM')).toBeLessThan(ARGON2_KIB + 80 * 1024);
  // What Node puts off collecting while it reads; 500 hashes at once would be 31 GiB.
  expect(kibOf(server.child.pid!, 'VmHWM') - before).toBeLessThan(160 * 1024);
  expect(ratios.sort((a, b) => a - b)[ROUNDS >> 1], seen.join('; ')).toBeLessThan(2);
});
