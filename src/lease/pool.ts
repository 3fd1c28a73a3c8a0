/**
 * The backends that this node is connected to, and how much it asks of each.
 *
 * A connected backend is kept by its revision, which changes with its configuration. At most
 * LIMITS.backendConnectionsMax acts run on one at a time. A target that fails is left alone for a while, longer each time
 * up to a minute, and is then tried by one act: whoever else waits for it costs neither it nor us anything, and no other
 * target waits for it.
 */
import { LIMITS } from '../config.ts';
import { open } from '../crypto/envelope.ts';
import type { TenantId, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { dataKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { type Backend, type BackendMember, backendFailed, effectOf } from './backend.ts';
import { BACKENDS } from './backends/index.ts';

export type Connected = {
  readonly tenant: TenantId;
  readonly id: string;
  readonly kind: string;
  readonly member: BackendMember;
  readonly revision: number;
  readonly backend: Backend<unknown>;
};

/** What this node has lately met at a target. */
type Health = { running: number; failures: number; pausedUntilMs: number };

type Pool = { readonly connected: Map<string, Connected>; readonly health: Map<string, Health> };
const pools = new WeakMap<Vault, Pool>();

function poolOf(vault: Vault): Pool {
  const pool = pools.get(vault) ?? { connected: new Map(), health: new Map() };
  pools.set(vault, pool);
  return pool;
}

const CONNECTED_MAX = 500;
const keyOf = (tenant: TenantId, backendId: string) => `${tenant}/${backendId}`;

/** The backend of an id, as it is configured now. Connects to nothing yet. */
export async function connected(vault: Vault, tx: Tx, tenant: TenantId, backendId: string): Promise<Connected> {
  const pool = poolOf(vault);
  const key = keyOf(tenant, backendId);
  const [row] = await tx<{ kind: string; revision: number; keyVersion: number; envelope: Uint8Array }[]>`
    SELECT kind, revision, key_version AS "keyVersion", envelope FROM backends
    WHERE tenant_id = ${tenant} AND backend_id = ${backendId}`;
  if (!row) throw new VaultError('not_found', 'The backend is gone.');
  const known = pool.connected.get(key);
  if (known?.revision === row.revision) {
    pool.connected.delete(key);
    pool.connected.set(key, known);
    return known;
  }
  const config = openConfig(await dataKey(vault, tx, tenant, row.keyVersion), tenant, backendId, row.envelope);
  const member = memberOf(row.kind);
  const backend = member.connect(config, { tenant, backendId, outbound: vault.config.outboundNetworks });
  const made: Connected = { tenant, id: backendId, kind: row.kind, member, revision: row.revision, backend };
  if (known) void known.backend.close();
  pool.connected.set(key, made);
  await closeOldest(pool);
  return made;
}

export type WithNext = {
  readonly config: Readonly<Record<string, unknown>>;
  /** The password that follows, while the change is under way: the target may have either. */
  readonly next: string | undefined;
};

export function openWithNext(
  key: Parameters<typeof open>[0],
  tenant: TenantId,
  backend: string,
  envelope: Uint8Array,
): WithNext {
  const opened = open(key, { label: 'backend-config', tenant, backend }, envelope);
  const { next_password: next, ...config } = JSON.parse(Buffer.from(opened).toString('utf8'));
  return { config, next };
}

export const openConfig = (...stored: Parameters<typeof openWithNext>): WithNext['config'] =>
  openWithNext(...stored).config;

/** A kind that this release does not know is another release's: its leases wait for a node that does. */
export function memberOf(kind: string): BackendMember {
  const member = Object.hasOwn(BACKENDS, kind) ? BACKENDS[kind] : undefined;
  if (!member) {
    throw new VaultError('invalid_request', `kind: expected one of ${Object.keys(BACKENDS).join(', ')}.`);
  }
  return member;
}

async function closeOldest(pool: Pool): Promise<void> {
  for (const [key, { backend }] of pool.connected) {
    if (pool.connected.size <= CONNECTED_MAX) return;
    if ((pool.health.get(key)?.running ?? 0) > 0) continue;
    pool.connected.delete(key);
    await backend.close();
  }
}

/** Ends the connections to one backend. */
export function disconnect(vault: Vault, tenant: TenantId, backendId: string): void {
  const pool = poolOf(vault);
  const key = keyOf(tenant, backendId);
  void pool.connected.get(key)?.backend.close();
  pool.connected.delete(key);
  pool.health.delete(key);
}

/** Ends every connection of this node; acts under way fail. */
export async function closeBackends(vault: Vault): Promise<void> {
  const pool = poolOf(vault);
  const all = [...pool.connected.values()];
  pool.connected.clear();
  await Promise.all(all.map(({ backend }) => backend.close()));
}

// ---- acts ---------------------------------------------------------------------------------------------------------

const PAUSE_MS_MIN = 500;
const PAUSE_MS_MAX = 60_000;

function healthOf(vault: Vault, key: string): Health {
  const { health } = poolOf(vault);
  const known = health.get(key) ?? { running: 0, failures: 0, pausedUntilMs: Number.NEGATIVE_INFINITY };
  health.set(key, known);
  return known;
}

/** How many acts a sweeper may begin there now. */
export function freeAt(vault: Vault, tenant: TenantId, backendId: string): number {
  const { running, failures, pausedUntilMs } = healthOf(vault, keyOf(tenant, backendId));
  if (vault.clock.monotonicMs() < pausedUntilMs) return 0;
  return Math.max(0, (failures > 0 ? 1 : LIMITS.backendConnectionsMax) - running);
}

/** The backends where a sweeper would begin nothing now, and in how many milliseconds the first of them may be tried. */
export function pausedBackends(vault: Vault): { ids: string[]; againMs: number } {
  const nowMs = vault.clock.monotonicMs();
  const ids: string[] = [];
  let againMs = Number.POSITIVE_INFINITY;
  for (const [key, { running, failures, pausedUntilMs }] of poolOf(vault).health) {
    if (pausedUntilMs > nowMs) againMs = Math.min(againMs, pausedUntilMs - nowMs);
    else if (running < (failures > 0 ? 1 : LIMITS.backendConnectionsMax)) continue;
    ids.push(key.slice(key.indexOf('/') + 1));
  }
  return { ids, againMs };
}

/** Whether the target's last answer was none: its other leases need not be tried one by one. */
export function isFailing(vault: Vault, tenant: TenantId, backendId: string): boolean {
  return healthOf(vault, keyOf(tenant, backendId)).failures > 0;
}

/** Runs one act on the target with a deadline, and remembers how it went. Throws VaultErrors only. */
export async function onTarget<T>(
  vault: Vault,
  { tenant, id }: Pick<Connected, 'tenant' | 'id'>,
  deadlineMs: number,
  act: (limits: { signal: AbortSignal; deadlineMs: number }) => Promise<T>,
): Promise<T> {
  const health = healthOf(vault, keyOf(tenant, id));
  health.running += 1;
  const signal = AbortSignal.timeout(Math.max(1, Math.floor(deadlineMs)));
  try {
    const value = await orDeadline(act({ signal, deadlineMs }), signal);
    health.failures = 0;
    health.pausedUntilMs = Number.NEGATIVE_INFINITY;
    return value;
  } catch (error) {
    if (!hasAnswered(error)) {
      health.failures += 1;
      const most = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** Math.min(health.failures, 10));
      health.pausedUntilMs = vault.clock.monotonicMs() + most * (0.5 + jitter() / 2);
    }
    if (error instanceof VaultError) throw error;
    vault.log.error({ err: error }, 'a backend failed in a way that it does not name');
    throw backendFailed('The backend failed.', 'unknown', error);
  } finally {
    health.running -= 1;
  }
}

/** A refusal answers one act; a target that cannot be reached answers none. */
function hasAnswered(error: unknown): boolean {
  return error instanceof VaultError && (error.code !== 'backend_failed' || effectOf(error) === 'refused');
}

/** A member that does not mind its signal keeps nobody waiting. */
function orDeadline<T>(act: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = () => reject(backendFailed('The backend did not answer in time.', 'unknown'));
    signal.addEventListener('abort', late, { once: true });
    act.then(resolve, reject).finally(() => signal.removeEventListener('abort', late));
  });
}

const jitter = () => crypto.getRandomValues(new Uint32Array(1))[0]! / 2 ** 32;
