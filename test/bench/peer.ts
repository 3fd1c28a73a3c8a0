/**
 * Against OpenBao or HashiCorp Vault (`--peer PATH` names the binary), both driven by the same load over the same Vault-compatible routes, in
 * turn. It runs as in production on one machine: raft storage, a file audit device on the same disk, a narrow policy and
 * its token, nothing of `-dev` mode; without TLS, as ours. It does not fsync its audit file; ours is durable first.
 */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../port.ts';
import { warmUp } from './read.ts';
import { ended, type Login, load, PASSWORD, post, type Stage, startBeside } from './stage.ts';
import { type Row, round } from './table.ts';

const SECRETS = 200;
const START_MS_MAX = 30_000;
const BODY = { data: { url: `postgres://app:${'x'.repeat(120)}@db/app` } };

type Side = { readonly port: number; readonly token: string };
/** `name`: as its binary calls itself. */
type Peer = Side & { readonly name: string };

export async function benchPeer(stage: Stage, binary: string, rounds: number, seconds: number): Promise<Row[]> {
  const peer = await startPeer(binary);
  try {
    const ours = { port: stage.port, token: await narrowToken(stage) };
    for (const side of [ours, peer.side]) {
      for (let i = 0; i < SECRETS; i += 1) await v1(side, 'POST', `secret/data/bench/s${i}`, BODY);
    }
    for (const side of [ours, peer.side]) await warmUp(side.port, readsAt(side), seconds * 1.5);
    return [
      ...(await compare('audited read over /v1', ours, peer.side, [1, 16, 64, 256], rounds, seconds, readsAt)),
      ...(await compare('durable write over /v1', ours, peer.side, [1, 16, 64], rounds, seconds, writesAt)),
      await compareStart(stage, ours, peer.side, rounds, seconds),
    ];
  } finally {
    await peer.end();
  }
}

async function compare(
  name: string,
  ours: Side,
  theirs: Peer,
  connections: readonly number[],
  rounds: number,
  seconds: number,
  requestsAt: (side: Side) => string[],
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const count of connections) {
    const at = (side: Side) => () =>
      load({ port: side.port, connections: count, seconds, warmupSeconds: 0.3, requests: requestsAt(side) });
    const sides = { ours: at(ours), reference: at(theirs) };
    rows.push({ ...(await round(`${name}, ${count} connections`, theirs.name, rounds, sides)), goal: '3' });
  }
  return rows;
}

/** 100 secrets at start-up: our one request against what a client of theirs has to do. */
async function compareStart(stage: Stage, ours: Side, theirs: Peer, rounds: number, seconds: number): Promise<Row> {
  const paths = Array.from({ length: 100 }, (_, i) => `bench/s${i}`);
  const fetch = [post(stage.port, '/fetch', ours.token, { paths })];
  const singles = readsAt(theirs).slice(0, paths.length);
  const row = await round('start-up of 100 secrets, one fetch', `${theirs.name}, 100 reads`, rounds, {
    ours: () => load({ port: ours.port, connections: 1, seconds, warmupSeconds: 0.3, requests: fetch }),
    reference: async () => {
      const single = await load({ port: theirs.port, connections: 1, seconds, warmupSeconds: 0.3, requests: singles });
      const { perSecond, p50Ms, p99Ms } = single;
      return { ...single, perSecond: perSecond / 100, p50Ms: p50Ms * 100, p99Ms: p99Ms * 100 };
    },
  });
  return { ...row, goal: '10' };
}

const readsAt = (side: Side) =>
  Array.from({ length: SECRETS }, (_, i) => raw(side, 'GET', `secret/data/bench/s${i}`, undefined));
const writesAt = (side: Side) =>
  Array.from({ length: SECRETS }, (_, i) => raw(side, 'POST', `secret/data/bench/w${i}`, BODY));

function raw({ port, token }: Side, method: string, path: string, body: unknown): string {
  const text = body === undefined ? '' : JSON.stringify(body);
  const typed = text === '' ? '' : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n`;
  return `${method} /v1/${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nX-Vault-Token: ${token}\r\n${typed}\r\n${text}`;
}

async function narrowToken(stage: Stage): Promise<string> {
  const rules = [{ effect: 'allow', actions: ['secret.read', 'secret.write'], resources: ['secret:bench/**'] }];
  await stage.ask('PUT', '/policies/bench', { rules }, stage.admin);
  const username = 'bench';
  await stage.ask('POST', '/users', { username, password: PASSWORD, policies: ['bench'] }, stage.admin);
  const { token } = await stage.ask<Login>('POST', '/auth/login', { tenant: 'default', username, password: PASSWORD });
  return token;
}

// ---- the peer -----------------------------------------------------------------------------------------------------

async function startPeer(binary: string): Promise<{ side: Peer; end: () => Promise<void> }> {
  const directory = mkdtempSync(join(tmpdir(), 'bulla-bench-peer-'));
  mkdirSync(join(directory, 'raft'));
  const port = await freePort();
  const config = {
    ui: false,
    disable_mlock: true,
    api_addr: `http://127.0.0.1:${port}`,
    cluster_addr: `https://127.0.0.1:${await freePort()}`,
    storage: { raft: { path: join(directory, 'raft'), node_id: 'bench' } },
    listener: [{ tcp: { address: `127.0.0.1:${port}`, tls_disable: true } }],
    // Newer releases take audit devices over the API only where this allows it.
    unsafe_allow_api_audit_creation: true,
  };
  const file = join(directory, 'config.json');
  writeFileSync(file, JSON.stringify(config));
  const child = startBeside(binary, ['server', `-config=${file}`, '-log-level=error']);
  const end = async () => {
    await ended(child);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    return { side: { ...(await prepare(child, port, join(directory, 'audit.log'))), name: nameOf(binary) }, end };
  } catch (error) {
    await end();
    throw error;
  }
}

/** `Vault v1.21.4`, of `Vault v1.21.4, built …`. */
function nameOf(binary: string): string {
  const { stdout } = spawnSync(binary, ['version'], { encoding: 'utf8' });
  return /^\w+ v[\w.-]+/.exec(stdout)?.[0] ?? binary;
}

type Initialised = { readonly root_token: string; readonly keys_base64: readonly string[] };
type Issued = { readonly auth: { readonly client_token: string } };

/** Initialised, unsealed, audited, with KV of version 2 at `secret/` and a token that may read and write there. */
async function prepare(child: ChildProcess, port: number, auditFile: string): Promise<Side> {
  child.stdout!.resume();
  const nobody = { port, token: '' };
  await until(child, () => v1(nobody, 'GET', 'sys/seal-status'));
  const made = await v1<Initialised>(nobody, 'PUT', 'sys/init', { secret_shares: 1, secret_threshold: 1 });
  const root = { port, token: made.root_token };
  await v1(nobody, 'PUT', 'sys/unseal', { key: made.keys_base64[0] });
  await until(child, () => v1(root, 'GET', 'sys/health'));
  await v1(root, 'PUT', 'sys/audit/file', { type: 'file', options: { file_path: auditFile } });
  await v1(root, 'POST', 'sys/mounts/secret', { type: 'kv', options: { version: '2' } });
  const policy = 'path "secret/data/bench/*" { capabilities = ["create", "update", "read"] }';
  await v1(root, 'PUT', 'sys/policies/acl/bench', { policy });
  const { auth } = await v1<Issued>(root, 'POST', 'auth/token/create', {
    policies: ['bench'],
    no_default_policy: true,
    ttl: '1h',
  });
  const side = { port, token: auth.client_token };
  // A mount of version 2 refuses until it has been upgraded to it.
  await until(child, () => v1(side, 'POST', 'secret/data/bench/s0', BODY));
  return side;
}

async function until<T>(child: ChildProcess, ask: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + START_MS_MAX;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (child.exitCode !== null || performance.now() > deadline) throw error;
      await sleep(100);
    }
  }
}

async function v1<T>({ port, token }: Side, method: string, path: string, body?: unknown): Promise<T> {
  const answer = await fetch(`http://127.0.0.1:${port}/v1/${path}`, {
    method,
    headers: token === '' ? {} : { 'x-vault-token': token },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} /v1/${path}: ${answer.status} ${text}`);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}
