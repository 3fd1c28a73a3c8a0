/**
 * Using a named key: one permit, one look at the key's rows, then every item of the call.
 *
 * Whether a version may be used is asked of the rows in every call: what is in memory is only what a row that is there
 * opened to. A call makes one entry with how many items it had and how many failed; a call of which every item failed is
 * undone and recorded as `error`, as any failure is. All of it is computed before the commit and leaves after it.
 */
import { LIMITS } from '../config.ts';
import { AEADS, type AeadName } from '../crypto/aead.ts';
import { KEY_TYPES, type KeyFacts, type KeyType, NamedKey } from '../crypto/named-key.ts';
import type { TenantId, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { type Act, permit } from '../policy/permit.ts';
import { dataKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { versionContext } from './envelopes.ts';
import { type Fault, fault, faultError, isFault } from './fault.ts';
import { noKey } from './key.ts';
import { type KeyName, keyAsk } from './name.ts';
import { rotateByItself } from './rotate.ts';
import { takeUses } from './uses.ts';

/** An item, or the place of one that the protocol could not read. */
export type Item<I> = (I | { readonly rejected: string }) & { readonly reference?: string | undefined };

/** In the order of the items. */
export type Result<T> = ({ readonly ok: T } | { readonly fault: Fault }) & { readonly reference?: string | undefined };

/** A key as its rows say it is now, with the versions that the call may need. */
export type UsableKey = {
  readonly id: string;
  readonly type: KeyType;
  readonly facts: KeyFacts;
  readonly derived: boolean;
  readonly convergent: boolean;
  readonly exportable: boolean;
  readonly latestVersion: number;
  readonly minAvailableVersion: number;
  readonly minDecryptionVersion: number;
  readonly minEncryptionVersion: number;
  /** Never to be kept over an await: the cache may wipe it. `version` is one that was loaded. */
  readonly open: (version: number) => Promise<NamedKey>;
  readonly has: (version: number) => boolean;
};

type Row = Omit<UsableKey, 'facts' | 'open' | 'has'> & {
  readonly version: number | null;
  readonly keyVersion: number;
  readonly envelope: Uint8Array;
};

/** The latest version, and of `wanted` those that are there; `all`: every one. Throws `not_found`. */
export async function loadKey(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  name: KeyName,
  wanted: readonly number[] | 'all',
): Promise<UsableKey> {
  const which =
    wanted === 'all' ? tx`true` : tx`(v.version = k.latest_version OR v.version = ANY (${[...wanted]}::bigint[]))`;
  const rows = await tx<Row[]>`
    SELECT k.key_id AS id, k.type, k.derived, k.convergent, k.exportable, k.latest_version AS "latestVersion",
           k.min_available_version AS "minAvailableVersion", k.min_decryption_version AS "minDecryptionVersion",
           k.min_encryption_version AS "minEncryptionVersion", v.version, v.key_version AS "keyVersion", v.envelope
    FROM transit_keys k
    LEFT JOIN transit_key_versions v ON v.tenant_id = k.tenant_id AND v.key_id = k.key_id AND ${which}
    WHERE k.tenant_id = ${tenant} AND k.name = ${name}`;
  const [first] = rows;
  if (!first) throw noKey();
  const { version: _version, keyVersion: _keyVersion, envelope: _envelope, ...key } = first;
  const versions = new Map(rows.flatMap((row) => (row.version === null ? [] : [[row.version, row]])));
  return {
    ...key,
    facts: KEY_TYPES[key.type],
    has: (version) => versions.has(version),
    open: (version) => openVersion(vault, tx, tenant, versions.get(version)!),
  };
}

async function openVersion(vault: Vault, tx: Tx, tenant: TenantId, row: Row): Promise<NamedKey> {
  const { id, type, keyVersion, envelope } = row;
  const cacheId = `${tenant}/${id}/${row.version}`;
  const cached = vault.namedKeys.get(cacheId);
  if (cached) return cached;
  const wrapper = await dataKey(vault, tx, tenant, keyVersion);
  const key = NamedKey.unwrap(wrapper, versionContext(tenant, id, row.version!), type, envelope);
  vault.namedKeys.set(cacheId, key);
  return key;
}

export type Use<I, T> = {
  readonly action: Action;
  /** Of the version that made what the item brings. */
  readonly madeBy?: (item: I) => number | undefined;
  /** Of the version that the item asks to encrypt or sign with, if not the latest. */
  readonly asksFor?: (item: I) => number | undefined;
  /** Throws `invalid_request` when the key is not one for this. */
  readonly check: (key: UsableKey) => void;
  /** A nonce is made with the latest version, or with the one that the item asks for. */
  readonly encrypts?: true;
  readonly act: (key: UsableKey, item: I) => Promise<T | Fault>;
};

/** A version that has encrypted as often as is safe, to be replaced before the call goes on. */
type Exhausted = { readonly tenant: TenantId; readonly version: number };

const ROTATIONS_MAX = 3;
const COST_PER_TURN = 32;

/** Throws `not_found`, `invalid_request`, `conflict` for what is wrong with the whole call, beside what the gate throws. */
export async function useKey<I extends object, T>(
  vault: Vault,
  call: Call,
  name: KeyName,
  items: readonly Item<I>[],
  use: Use<I, T>,
): Promise<Result<T>[]> {
  for (let rotations = 0; ; rotations += 1) {
    let failed: { readonly results: Result<T>[]; readonly error: VaultError } | undefined;
    try {
      const done = await permit(vault, call, keyAsk(use.action, name), async (tx, { tenant }) => {
        failed = undefined;
        const outcome = await useOnce(vault, tx, tenant, name, items, use);
        if ('exhausted' in outcome) return { value: outcome, notes: [] };
        const { results } = outcome;
        const faults = results.flatMap((result) => ('fault' in result ? [result.fault] : []));
        if (faults.length === results.length) {
          failed = { results, error: faultError(faults[0]!) };
          throw failed.error;
        }
        return said(outcome, faults.length);
      });
      if ('results' in done) return done.results;
      if (rotations === ROTATIONS_MAX)
        throw new VaultError('unavailable', 'The key is used up faster than it can be rotated.');
      await rotateExhausted(vault, name, done.exhausted);
    } catch (error) {
      if (failed !== undefined && error === failed.error) return failed.results;
      throw error;
    }
  }
}

type Done<T> = { readonly results: Result<T>[]; readonly key: UsableKey };
type Outcome<T> = Done<T> | { readonly exhausted: Exhausted };

function said<T>(outcome: Done<T>, failed: number): Act<Outcome<T>> {
  const { results, key } = outcome;
  const items = results.length === 1 ? {} : { items: results.length, ...(failed > 0 ? { failed } : {}) };
  return { value: outcome, notes: [{ version: key.latestVersion, details: { type: key.type, ...items } }] };
}

async function useOnce<I extends object, T>(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  name: KeyName,
  items: readonly Item<I>[],
  use: Use<I, T>,
): Promise<Outcome<T>> {
  const wanted = items.flatMap((item) =>
    'rejected' in item ? [] : [use.madeBy?.(item) ?? 0, use.asksFor?.(item) ?? 0],
  );
  const key = await loadKey(vault, tx, tenant, name, [...new Set(wanted)]);
  use.check(key);
  checkCost(key.facts.cost, items.length);
  const exhausted = use.encrypts && (await takeNonces(vault, tenant, key, items, use));
  if (exhausted) return { exhausted };
  const results: Result<T>[] = [];
  let cost = 0;
  for (const item of items) {
    cost += key.facts.cost;
    if (cost > COST_PER_TURN) {
      cost = 0;
      await new Promise(setImmediate);
    }
    results.push(await resultOf(key, item, use));
  }
  return { results, key };
}

function checkCost(cost: number, items: number): void {
  const most = Math.floor(LIMITS.transitCostMax / cost);
  if (items >= 1 && items <= most) return;
  throw new VaultError('invalid_request', `items: expected 1 to ${most} for a key of this type.`, {
    details: { reason: items === 0 ? 'no_items' : 'too_many_items' },
  });
}

async function resultOf<I extends object, T>(key: UsableKey, item: Item<I>, use: Use<I, T>): Promise<Result<T>> {
  const named = item.reference === undefined ? {} : { reference: item.reference };
  if ('rejected' in item) return { fault: { reason: 'rejected', message: item.rejected }, ...named };
  const outcome = await use.act(key, item);
  const isWrong = typeof outcome === 'object' && outcome !== null && isFault(outcome);
  return isWrong ? { fault: outcome, ...named } : { ok: outcome as T, ...named };
}

/** The version that has not enough nonces left for the call, where it can be replaced. */
async function takeNonces<I extends object, T>(
  vault: Vault,
  tenant: TenantId,
  key: UsableKey,
  items: readonly Item<I>[],
  use: Use<I, T>,
): Promise<Exhausted | undefined> {
  if (key.facts.family !== 'aead' || !AEADS[key.type as AeadName].counted) return undefined;
  const counts = new Map<number, number>();
  for (const item of items) {
    if ('rejected' in item) continue;
    const version = encryptionVersion(key, use.asksFor?.(item));
    if (typeof version === 'number') counts.set(version, (counts.get(version) ?? 0) + 1);
  }
  for (const [version, count] of counts) {
    if (await takeUses(vault, tenant, key.id, version, count)) continue;
    if (version === key.latestVersion) return { tenant, version };
    throw new VaultError(
      'conflict',
      `Version ${version} of the key has encrypted as often as is safe: leave key_version out, so that it is the latest.`,
    );
  }
  return undefined;
}

/** The version to encrypt or sign with, or why it cannot be the one that was asked for. */
export function encryptionVersion(key: UsableKey, wanted: number | undefined): number | Fault {
  const { latestVersion, minEncryptionVersion, minDecryptionVersion } = key;
  const least = minEncryptionVersion === 0 ? minDecryptionVersion : minEncryptionVersion;
  if (wanted === undefined || wanted === 0 || wanted === latestVersion) return latestVersion;
  return key.has(wanted) && wanted >= least ? wanted : fault('version_refused');
}

/** Why a version that made something cannot be used to open or verify it. */
export function openingFault(key: UsableKey, version: number): Fault | undefined {
  if (!key.has(version)) return fault('version_unknown');
  return version < key.minDecryptionVersion ? fault('version_too_old') : undefined;
}

/** What the context of an item must be for this key. */
export function contextFault(key: UsableKey, context: Uint8Array | undefined): Fault | undefined {
  if (context !== undefined && context.length > LIMITS.transitContextBytesMax) return fault('context_too_long');
  if (key.derived) return context === undefined || context.length === 0 ? fault('context_missing') : undefined;
  return context !== undefined && key.facts.family !== 'hpke' ? fault('context_unexpected') : undefined;
}

/** Somebody else may have been first, or the key be gone: the call then finds that by itself. */
async function rotateExhausted(vault: Vault, name: KeyName, { tenant, version }: Exhausted): Promise<void> {
  try {
    await rotateByItself(vault, tenant, name, version, 'by_count');
  } catch (error) {
    if (!(error instanceof VaultError && (error.code === 'conflict' || error.code === 'not_found'))) throw error;
  }
}
