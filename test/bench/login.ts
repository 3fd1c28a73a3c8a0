/** Logins against raw Argon2id at the same cost, and what a storm of them does to reads. */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../../src/config.ts';
import type { Load } from './load.ts';
import { get, load, PASSWORD, post, type Stage, startBeside } from './stage.ts';
import { figure, median, type Row, round } from './table.ts';

const ARGON2 = fileURLToPath(new URL('./argon2.js', import.meta.url));

export async function benchLogins(stage: Stage, rounds: number, seconds: number): Promise<Row[]> {
  const { argon2, hashConcurrency = Math.max(1, availableParallelism() - 1) } = loadConfig({});
  const login = post(stage.port, '/auth/login', undefined, {
    tenant: 'default',
    username: 'admin',
    password: PASSWORD,
  });
  // One more than are hashed at once waits, so that the hashes follow one another without a pause.
  const logins = () =>
    load({ port: stage.port, connections: hashConcurrency + 1, seconds, warmupSeconds: 0.3, requests: [login] });
  const raw = () => rawArgon2(argon2, hashConcurrency, seconds);
  const name = `login with a password (${argon2.memoryKib / 1024} MiB, ${argon2.passes} passes)`;
  const row = await round(name, 'Argon2id alone', rounds, { ours: logins, reference: raw });
  const services = await benchServiceLogins(stage, rounds, seconds);
  return [{ ...row, goal: '0.95' }, services, await benchStorm(stage, rounds, seconds, logins)];
}

type ClientSecret = { readonly client_id: string; readonly client_secret: string };

/** A client secret has entropy enough to be hashed cheaply, so what counts here is the log: one entry and one commit each. */
async function benchServiceLogins(stage: Stage, rounds: number, seconds: number): Promise<Row> {
  await stage.ask('POST', '/services', { name: 'bench', policies: ['reader'] }, stage.admin);
  const made = await stage.ask<ClientSecret>('POST', '/services/bench/secrets', { name: 'one' }, stage.admin);
  const { client_id, client_secret } = made;
  const requests = [post(stage.port, '/auth/service', undefined, { client_id, client_secret })];
  const at = (connections: number) => () =>
    load({ port: stage.port, connections, seconds, warmupSeconds: 0.3, requests });
  const sides = { ours: at(16), reference: at(1), used: stage.used };
  return round('login of a service, 16 connections', '1 connection', rounds, sides);
}

async function rawArgon2(cost: object, atOnce: number, seconds: number): Promise<Load> {
  const child = startBeside(process.execPath, [ARGON2, JSON.stringify(cost), String(atOnce), String(seconds)], {
    UV_THREADPOOL_SIZE: String(atOnce),
  });
  let output = '';
  child.stdout!.on('data', (chunk) => {
    output += chunk;
  });
  await once(child, 'close');
  const perSecond = Number(output);
  const ms = (1000 * atOnce) / perSecond;
  return { perSecond, p50Ms: ms, p99Ms: ms, answers: Math.round(perSecond * seconds), failed: 0 };
}

/** The p99 of a few readers, in turn without logins and while logins saturate. */
async function benchStorm(stage: Stage, rounds: number, seconds: number, logins: () => Promise<Load>): Promise<Row> {
  const requests = Array.from({ length: 200 }, (_, i) => get(stage.port, `/secrets/prod/app/s${i}`, stage.admin));
  const reads = () => load({ port: stage.port, connections: 4, seconds, warmupSeconds: 0.3, requests });
  const calm: number[] = [];
  const during: number[] = [];
  for (let i = 0; i < rounds; i += 1) {
    calm.push((await reads()).p99Ms);
    const [read] = await Promise.all([reads(), logins()]);
    during.push(read.p99Ms);
  }
  const ratio = median(during.map((ms, i) => ms / calm[i]!));
  const text = `${median(calm).toFixed(1)} → ${median(during).toFixed(1)} ms, ratio ${ratio.toFixed(2)}`;
  return figure('p99 of 4 readers while logins saturate', text, '2');
}
