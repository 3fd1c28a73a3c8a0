/** T-126: what a vault in use takes of memory and descriptors, measured over and over while everything is asked of it. */
import { readdirSync, readFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { ask, call, logIn, statusOf } from './lifecycle.ts';
import type { Server } from './process.ts';
import { ADMIN } from './vaults.ts';

export type Sample = { readonly residentKib: number; readonly swapKib: number; readonly descriptors: number };

const CLIENTS = 4;
const PATHS = 500;

function sampleOf(pid: number): Sample {
  const kib = (field: string) => Number(statusOf(pid, field));
  return {
    ...{ residentKib: kib('VmRSS'), swapKib: kib('VmSwap') },
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
  };
}

/** One round of a client: writes, reads, lists, fetches, leases, tokens that begin and end, logins, and what is refused. */
async function round(address: string, token: string, agent: Agent, number: number): Promise<void> {
  const path = `soak/${number % PATHS}`;
  const asked = { token, agent };
  await call(address, 'PUT', `/secrets/${path}`, { ...asked, body: { data: { number, text: 'x'.repeat(2_000) } } });
  for (let i = 0; i < 5; i += 1) await call(address, 'GET', `/secrets/${path}`, asked);
  await call(address, 'GET', '/secrets?prefix=soak&limit=100', asked);
  await call(address, 'POST', '/fetch', { ...asked, body: { prefixes: [`soak/${number % PATHS}`] } });
  await call(address, 'POST', '/leases', { ...asked, body: { secret: path, ttl: '1s' } });
  const child = (await call(address, 'POST', '/tokens', { ...asked, body: { ttl: '5m' } })).token;
  await call(address, 'POST', '/auth/logout', { token: child, agent });
  for (const refused of ['/secrets/nowhere/at-all', '/secrets/a%2fb', '/nothing'])
    await ask(address, 'GET', `/api/v1${refused}`, asked);
  await ask(address, 'GET', '/api/v1/auth/self', { token: child, agent });
  if (number % 20 === 0) {
    const body = { tenant: 'default', username: 'admin', password: ADMIN };
    const again = await call(address, 'POST', '/auth/login', { agent, body });
    await call(address, 'POST', '/auth/logout', { token: again.token, agent });
  }
}

/** Asks until `over`, and gives what was measured after each stretch of rounds, with nobody asking meanwhile. */
export async function soak(
  server: Server,
  rounds: number,
  over: (samples: readonly Sample[]) => boolean,
): Promise<Sample[]> {
  const first = JSON.parse(readFileSync(join(server.dataDir, 'first-credentials.json'), 'utf8'));
  const token = await logIn(server.address, first.default, ADMIN);
  const samples: Sample[] = [];
  let number = 0;
  while (!over(samples)) {
    const agents = Array.from({ length: CLIENTS }, () => new Agent({ keepAlive: true, maxSockets: 1 }));
    const end = number + rounds;
    await Promise.all(
      agents.map(async (agent) => {
        while (number < end) await round(server.address, token, agent, number++);
        agent.destroy();
      }),
    );
    samples.push(sampleOf(server.child.pid!));
  }
  return samples;
}
