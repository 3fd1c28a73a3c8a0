/** For the tests of a vault with several workers: whom its requests fall to, and what its processes say. */
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { expect } from 'vitest';
import { workersOf } from './lifecycle.ts';
import { MAIN, run, type Server } from './process.ts';
import { until } from './until.ts';

export const TWO = { BULLA_WORKERS: '2', BULLA_LOG_LEVEL: 'debug' };

export const workersAt = (server: Server) => workersOf(server.child.pid!);

/** One request on a connection of its own, so that it falls to the next worker. */
export function get(
  address: string,
  path: string,
  token?: string,
  id = 'x',
): Promise<{ status: number; text: string }> {
  const headers = { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), 'x-request-id': id };
  return new Promise((resolve, reject) => {
    const sent = request(`${address}${path}`, { headers, agent: new Agent({ keepAlive: false }) }, (answer) => {
      let text = '';
      answer.on('data', (piece) => {
        text += piece;
      });
      answer.on('end', () => resolve({ status: answer.statusCode!, text }));
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** The statuses of so many at once, which all workers get some of. */
export const statuses = (address: string, token: string, path: string, count = 8) =>
  Promise.all(Array.from({ length: count }, async () => (await get(address, `/api/v1${path}`, token)).status));

/** How many of an agent's connections some process has accepted: those that wait for it have no inode yet. */
export function acceptedOf(agent: Agent): number {
  const ours = new Set(
    Object.values(agent.sockets).flatMap((sockets) => sockets?.map(({ localPort }) => localPort) ?? []),
  );
  const table = readFileSync('/proc/net/tcp', 'latin1').split('\n').slice(1, -1);
  const accepted = table.map((line) => line.trim().split(/\s+/)).filter((fields) => fields[9] !== '0');
  return accepted.filter(([, , remote]) => ours.has(Number.parseInt(remote!.split(':')[1]!, 16))).length;
}

type Line = { readonly worker?: number; readonly msg: string; readonly request?: string };

export const linesOf = (server: Server): Line[] =>
  server
    .output()
    .split('\n')
    .filter((line) => line.startsWith('{"level"'))
    .map((line) => JSON.parse(line));

/** Kills one, and waits until another one serves in its place. */
export async function killOne(server: Server): Promise<number> {
  const served = () => linesOf(server).filter(({ msg }) => msg === 'a worker serves again').length;
  const before = served();
  const [victim] = workersAt(server);
  process.kill(victim!, 'SIGKILL');
  await until('another one serves', async () => served() > before);
  return victim!;
}

/** A sum over all processes of a server. */
export async function countOf(server: Server, series: RegExp): Promise<number> {
  const { text } = await get(server.address, '/metrics');
  const lines = text.split('\n').filter((line) => series.test(line));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

/** The log of the token's tenant, which the offline verifier takes. */
export async function verifiedLog(
  { address }: Server,
  token: string,
  directory: string,
): Promise<readonly Record<string, unknown>[]> {
  const file = join(directory, 'log.ndjson');
  const env = { HOME: directory, BULLA_ADDR: address, BULLA_TOKEN: token };
  expect((await run(process.execPath, [MAIN, 'audit', 'export', file], { env })).code).toBe(0);
  expect((await run(process.execPath, [MAIN, 'audit', 'verify', file], { env })).code).toBe(0);
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.filter((line) => line.startsWith('{"action"')).map((line) => JSON.parse(line));
}
