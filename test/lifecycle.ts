/**
 * For the tests of a vault's life: its processes as the system sees them, and clients that keep a ledger of what they
 * were promised, while the vault under them is stopped and killed.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { Agent, type IncomingMessage, request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

// ---- processes ----------------------------------------------------------------------------------------------------

/** Every PostgreSQL process of a data directory: all of them work in the cluster's. */
export function postgresOf(dataDir: string): number[] {
  return processes().filter((pid) => directoryOf(pid) === `${dataDir}/pg`);
}

export function postmasterOf(dataDir: string): number {
  return Number(readFileSync(`${dataDir}/pg/postmaster.pid`, 'utf8').split('\n')[0]);
}

/** The process that hashes passwords for this vault, while there is one. */
export function hasherOf(vaultPid: number): number | undefined {
  return processes().find(
    (pid) => statusOf(pid, 'PPid') === String(vaultPid) && fileOf(pid, 'cmdline').includes('password-child.js'),
  );
}

/** The workers of a vault that has several. */
export function workersOf(vaultPid: number): number[] {
  return processes().filter(
    (pid) => statusOf(pid, 'PPid') === String(vaultPid) && fileOf(pid, 'cmdline').includes('/worker.js'),
  );
}

export function statusOf(pid: number, field: string): string | undefined {
  return new RegExp(`^${field}:\\s*(\\S+)`, 'm').exec(fileOf(pid, 'status'))?.[1];
}

/** A file of /proc/<pid>, empty when the process is gone. */
export function fileOf(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch {
    return '';
  }
}

function directoryOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

function processes(): number[] {
  const names = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return names.map(Number);
}

// ---- requests -----------------------------------------------------------------------------------------------------

/** The fields of answers that these tests read. */
export type Fields = {
  readonly code?: string;
  readonly token: string;
  readonly password_change_required: boolean;
  readonly text: string;
  readonly items: readonly { readonly path: string; readonly text: string }[];
  readonly one_time_password: string;
};

/** An answer whole, none at all (the connection ended before its first byte), or half of one, which must not be. */
export type Outcome =
  | { readonly kind: 'answer'; readonly status: number; readonly json: Fields | undefined; readonly ms: number }
  | { readonly kind: 'none' | 'half'; readonly ms: number };

export type Asked = { readonly token?: string; readonly body?: unknown; readonly agent?: Agent };

export function ask(
  address: string,
  method: string,
  path: string,
  { token, body, agent }: Asked = {},
): Promise<Outcome> {
  const began = performance.now();
  const text = body === undefined ? undefined : JSON.stringify(body);
  const headers = {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
  };
  return new Promise((resolve) => {
    const ms = () => performance.now() - began;
    const sent = request(`${address}${path}`, { method, headers, ...(agent ? { agent } : {}) });
    sent.on('response', (answer) => void collect(answer).then((read) => resolve({ ...read, ms: ms() })));
    // Node calls bytes that are not HTTP a parser's error; a connection that ends says ECONNRESET or ECONNREFUSED.
    sent.on('error', (error: NodeJS.ErrnoException) =>
      resolve({ kind: error.code?.startsWith('HPE') ? 'half' : 'none', ms: ms() }),
    );
    sent.end(text);
  });
}

async function collect(
  answer: IncomingMessage,
): Promise<{ kind: 'half' } | { kind: 'answer'; status: number; json: Fields | undefined }> {
  const pieces: Buffer[] = [];
  try {
    for await (const piece of answer) pieces.push(piece as Buffer);
    const text = Buffer.concat(pieces).toString();
    return { kind: 'answer', status: answer.statusCode ?? 0, json: text === '' ? undefined : JSON.parse(text) };
  } catch {
    return { kind: 'half' };
  }
}

/** What must be answered with a 2xx. */
export async function call(address: string, method: string, path: string, asked: Asked = {}): Promise<Fields> {
  const outcome = await ask(address, method, `/api/v1${path}`, asked);
  if (outcome.kind === 'answer' && outcome.status < 300) return outcome.json as Fields;
  throw new Error(`${method} ${path}: ${JSON.stringify(outcome)}`);
}

export type Account = { readonly tenant: string; readonly username: string; readonly password: string };

/** Logs in and gives the token; an account that must choose a password gets `chosen` first. */
export async function logIn(address: string, account: Account, chosen: string): Promise<string> {
  const { tenant, username, password } = account;
  const first = await call(address, 'POST', '/auth/login', { body: { tenant, username, password } });
  if (!first.password_change_required) return first.token;
  const body = { current_password: password, new_password: chosen };
  await call(address, 'POST', '/auth/password', { token: first.token, body });
  return logIn(address, { tenant, username, password: chosen }, chosen);
}

// ---- load ---------------------------------------------------------------------------------------------------------

export type Ledger = {
  /** Path to value, of writes that were acknowledged. */
  readonly kept: Map<string, string>;
  /** Paths of writes that were answered with `unavailable`, which says that nothing was changed. */
  readonly refused: Set<string>;
  readonly outcomes: { readonly method: string; readonly outcome: Outcome }[];
};

export type Load = { readonly ledger: Ledger; readonly stop: () => Promise<Ledger> };

const WRITERS = 3;
const AFTER_A_FAILURE_MS = 20;

/** Clients that write to paths never used before, and read back what they were promised, until they are stopped. */
export function startLoad(address: string, token: string, name: string): Load {
  const ledger: Ledger = { kept: new Map(), refused: new Set(), outcomes: [] };
  const agent = new Agent({ keepAlive: true, maxSockets: WRITERS });
  let stopped = false;
  const writer = async (number: number) => {
    for (let count = 0; !stopped; count += 1) {
      const path = `load/${name}/${number}/${count}`;
      const value = `value ${number} of ${path}`;
      const outcome = await ask(address, 'PUT', `/api/v1/secrets/${path}`, { token, agent, body: { text: value } });
      ledger.outcomes.push({ method: 'PUT', outcome });
      if (outcome.kind === 'answer' && outcome.status === 201) ledger.kept.set(path, value);
      else if (outcome.kind === 'answer' && outcome.json?.code === 'unavailable') ledger.refused.add(path);
      if (outcome.kind === 'answer' && outcome.status === 201) {
        const read = await ask(address, 'GET', `/api/v1/secrets/${path}`, { token, agent });
        ledger.outcomes.push({ method: 'GET', outcome: read });
      } else await pause(AFTER_A_FAILURE_MS);
    }
  };
  const running = Promise.all(Array.from({ length: WRITERS }, (_, number) => writer(number)));
  return {
    ledger,
    stop: async () => {
      stopped = true;
      await running;
      agent.destroy();
      return ledger;
    },
  };
}

const PATHS_AT_ONCE = 200;

/** What the vault's answers were worth: acknowledged writes that are gone or changed, and refused ones that are there. */
export async function settle(
  address: string,
  token: string,
  ledger: Ledger,
): Promise<{ lost: string[]; undead: string[] }> {
  const lost: string[] = [];
  const paths = [...ledger.kept.keys()];
  for (let at = 0; at < paths.length; at += PATHS_AT_ONCE) {
    const wanted = paths.slice(at, at + PATHS_AT_ONCE);
    const { items } = await call(address, 'POST', '/fetch', { token, body: { paths: wanted } });
    const found = new Map<string, string>(items.map((item) => [item.path, item.text]));
    lost.push(...wanted.filter((path) => found.get(path) !== ledger.kept.get(path)));
  }
  const undead: string[] = [];
  for (const path of ledger.refused) {
    const outcome = await ask(address, 'GET', `/api/v1/secrets/${path}`, { token });
    if (outcome.kind !== 'answer' || outcome.status !== 404) undead.push(path);
  }
  return { lost, undead };
}

/** Repeats a request until it is answered as wanted; the test's own time limit ends it. */
export async function untilAnswered(address: string, path: string, status: number): Promise<void> {
  for (;;) {
    const outcome = await ask(address, 'GET', path);
    if (outcome.kind === 'answer' && outcome.status === status) return;
    await pause(50);
  }
}
