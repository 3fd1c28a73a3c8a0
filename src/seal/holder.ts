/**
 * The seal as a running vault holds it: open, or shut for a reason, and always the one that the database says.
 *
 *     open ──operator──▶ shut ──shares, passphrase, `bulla unseal`──▶ open
 *
 * Every node looks at the database several times a second. When an operator has sealed the vault it wipes every key it
 * has; when the vault moved to another seal it opens that one. Progress of unsealing lives here, in memory, and nowhere
 * else. This file records nothing and asks nobody's leave: tenant/seal.ts does both before it calls.
 */
import type { Context } from '../crypto/context.ts';
import type { SecretBytes } from '../crypto/keys.ts';
import { randomId } from '../crypto/token.ts';
import { type Database, SYSTEM, type Tx, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { SEALS } from './index.ts';
import type { NewSeal, Offer, Progress, Seal, SealKind, SealMeans, Unsealer } from './seal.ts';
import { glance, insertSeal, readSeal, type SealGlance, type SealRow } from './store.ts';

/** `operator`: somebody sealed the vault. `waiting`: people must bring what opens it. `unreachable`: it cannot act now. */
export type ShutReason = 'operator' | 'waiting' | 'unreachable';

export type SealState = {
  readonly sealed: boolean;
  readonly reason: ShutReason | undefined;
  readonly kind: SealKind;
  readonly takes: 'share' | 'passphrase' | undefined;
  readonly progress: Progress | undefined;
};

export type HolderOptions = {
  readonly db: Database;
  /** Wipes every key that was opened through the seal. */
  readonly keys: { clear(): void };
  readonly deploymentId: string;
  readonly means: SealMeans;
  /** What a new vault is sealed by. */
  readonly kind: SealKind;
  /** How long a remote seal may be away before what it opened is forgotten. */
  readonly graceMs: number;
  readonly nowMs: () => number;
};

const LOOK_EVERY_MS = 250;
const RETRY_AFTER_MS = 2_000;
const REMOTE: ReadonlySet<SealKind> = new Set(['aws-kms', 'transit']);

type Open = { readonly id: string; readonly seal: Seal };
type Shut = { readonly reason: ShutReason; readonly error: VaultError };

export class SealHolder {
  readonly #options: HolderOptions;
  #open: Open | undefined;
  #shut: Shut | undefined;
  /** Of a vault that has no root key yet. */
  #new: { readonly id: string; readonly made: NewSeal } | undefined;
  #row: SealRow | undefined;
  #seen: SealGlance | undefined;
  #unsealer: { readonly id: string; readonly unsealer: Unsealer } | undefined;
  #following: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #looking = false;
  #retryAtMs = 0;
  #provenAtMs = 0;
  readonly #accepted = { turn: 0 };
  readonly #hooks: (() => Promise<void>)[] = [];
  /** The seal is open and the hooks are running. */
  #opening = false;

  private constructor(options: HolderOptions) {
    this.#options = options;
  }

  /**
   * Opens what the vault is sealed by, or makes a seal for a vault that is new. Throws `sealed` when this machine has not
   * what opens it; people and remote seals that may come later leave it shut instead.
   */
  static async start(options: HolderOptions): Promise<SealHolder> {
    const holder = new SealHolder(options);
    if (await holder.#read()) await holder.#follow('start');
    else holder.#new = { id: randomId(), made: await SEALS[options.kind].create(options.means) };
    if (holder.#new) holder.#open = { id: holder.#new.id, seal: holder.#new.made.seal };
    holder.#timer = setInterval(() => void holder.#look(), LOOK_EVERY_MS).unref();
    return holder;
  }

  get kind(): SealKind {
    return this.#open?.seal.kind ?? this.#row?.kind ?? this.#options.kind;
  }

  /** Empty while it is shut. */
  get fingerprint(): string {
    return this.#open?.seal.fingerprint ?? '';
  }

  /** Of the row that new root keys refer to. */
  get id(): string {
    return this.#assertOpen().id;
  }

  /** Whether this is the seal that was last read: another one is to be followed first. */
  knows(id: string): boolean {
    return (this.#open?.id ?? this.#row?.id) === id;
  }

  get sealed(): boolean {
    return this.#open === undefined || this.#opening;
  }

  /** To be shown once, before `store`: of a new vault under shares. */
  get newShares(): readonly string[] {
    return this.#new?.made.shares ?? [];
  }

  get state(): SealState {
    const unsealer = this.sealed ? this.#unsealer?.unsealer : undefined;
    return {
      sealed: this.sealed,
      reason: this.sealed ? (this.#shut?.reason ?? 'unreachable') : undefined,
      kind: this.kind,
      takes: unsealer?.takes,
      progress: unsealer?.progress(),
    };
  }

  /** What a caller hears while it is shut. */
  get error(): VaultError {
    return this.#shut?.error ?? shutError('unreachable');
  }

  async wrap(context: Context, rootKey: SecretBytes): Promise<Uint8Array> {
    return this.#assertOpen().seal.wrap(context, rootKey);
  }

  async unwrap(context: Context, wrapped: Uint8Array): Promise<SecretBytes> {
    return this.#assertOpen().seal.unwrap(context, wrapped);
  }

  /**
   * Stores the seal of a new vault, in the transaction that stores its first root key. `conflict` when this node has
   * noticed meanwhile that another one was first, and holds that one's seal.
   */
  async store(tx: Tx): Promise<void> {
    if (!this.#new) throw new VaultError('conflict', 'Another node has initialised this vault.');
    await insertSeal(tx, this.#new.id, this.#new.made);
  }

  /** Brings what is held in line with the database now: after a migration elsewhere, or a first start that lost a race. */
  async follow(): Promise<void> {
    // One that is under way may have read before what the caller knows of.
    await this.#following?.catch(() => undefined);
    this.#following ??= this.#follow('running').finally(() => {
      this.#following = undefined;
    });
    return this.#following;
  }

  /** Takes what somebody brought. On `open` the caller records it and then calls `accept`. */
  async offer(text: string): Promise<Offer & { readonly id: string }> {
    const unsealing = this.#unsealer;
    if (!unsealing) throw opensByItself();
    return { ...(await unsealing.unsealer.offer(text)), id: unsealing.id };
  }

  /** Opens with what is at hand on this machine, though an operator sealed the vault. Undefined where people are needed. */
  async openAtHand(): Promise<{ readonly id: string; readonly seal: Seal } | undefined> {
    const row = await this.#read();
    if (!row) return undefined;
    const seal = await SEALS[row.kind].open(this.#options.means, row);
    if (seal) await this.#prove(row, seal);
    return seal && { id: row.id, seal };
  }

  /** What has to be done once keys can be had, before anything is served. What it throws leaves the vault shut. */
  whenOpened(hook: () => Promise<void>): void {
    this.#hooks.push(hook);
  }

  /**
   * Holds an open seal from here on; a second one that came at the same time is closed. Resolves when the vault serves.
   * Rejects with what keeps it from serving.
   */
  async accept(id: string, seal: Seal): Promise<void> {
    this.#accepted.turn += 1;
    if (this.#open?.id === id) {
      seal.close();
      return;
    }
    this.#open?.seal.close();
    this.#open = { id, seal };
    this.#shut = undefined;
    this.#new = undefined;
    this.#provenAtMs = this.#options.nowMs();
    this.#endUnsealing();
    await this.#runHooks();
  }

  async #runHooks(): Promise<void> {
    if (this.#hooks.length === 0 || this.#opening) return;
    this.#opening = true;
    try {
      for (const hook of this.#hooks) await hook();
      this.#hooks.length = 0;
    } catch (error) {
      const reason = error instanceof VaultError ? error : shutError('unreachable');
      this.#options.means.log(`the seal is open, but the vault cannot serve: ${reason.message}`);
      this.shut('unreachable', reason);
      throw error;
    } finally {
      this.#opening = false;
    }
  }

  /** Wipes every key at once. */
  shut(reason: ShutReason, error: VaultError = shutError(reason)): void {
    this.#open?.seal.close();
    this.#open = undefined;
    this.#shut = { reason, error };
    this.#options.keys.clear();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#endUnsealing();
    this.shut('operator');
  }

  #assertOpen(): Open {
    if (this.#open) return this.#open;
    throw this.error;
  }

  #endUnsealing(): void {
    this.#unsealer?.unsealer.close();
    this.#unsealer = undefined;
  }

  // ---- following the database -----------------------------------------------------------------------------------

  async #read(): Promise<SealRow | undefined> {
    const [seen, row] = await transaction(this.#options.db, [SYSTEM], async (tx) => [
      await glance(tx),
      await readSeal(tx),
    ]);
    if (seen) this.#seen = seen;
    if (row) this.#row = row;
    return row;
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      const seen = await transaction(this.#options.db, [SYSTEM], glance);
      if (!seen) return;
      this.#seen = seen;
      if (this.#isBehind(seen)) await this.follow();
      else await this.#keepProven();
    } catch (error) {
      // The database is away: nothing can be read or written either, and the next look comes soon.
      if (!(error instanceof VaultError)) this.#options.means.log(`looking at the seal failed: ${String(error)}`);
    } finally {
      this.#looking = false;
    }
  }

  #isBehind({ id, sealedAt }: SealGlance): boolean {
    if (sealedAt !== null) return this.#shut?.reason !== 'operator' || this.#unsealerMissing(id);
    if (this.#open) return this.#open.id !== id;
    if (this.#row?.id !== id || this.#shut?.reason === 'operator') return true;
    return this.#shut?.reason === 'unreachable' && this.#options.nowMs() >= this.#retryAtMs;
  }

  #unsealerMissing(id: string): boolean {
    return this.#row?.id !== id || (SEALS[this.#row.kind].unsealer !== undefined && this.#unsealer?.id !== id);
  }

  async #follow(when: 'start' | 'running'): Promise<void> {
    const { turn } = this.#accepted;
    const row = await this.#read();
    // Somebody opened it while we read: what was read may be older.
    if (!row || turn !== this.#accepted.turn) return;
    // Stored by us or by another node that was first: nothing is new any more.
    this.#new = undefined;
    if (this.#unsealer?.id !== row.id) this.#endUnsealing();
    if (this.#seen?.sealedAt) {
      this.shut('operator');
      this.#awaitPeople(row);
    } else if (this.#open?.id !== row.id) {
      await this.#openRow(row, when);
    }
  }

  async #openRow(row: SealRow, when: 'start' | 'running'): Promise<void> {
    this.#retryAtMs = this.#options.nowMs() + RETRY_AFTER_MS;
    try {
      const seal = await SEALS[row.kind].open(this.#options.means, row);
      if (seal) {
        await this.#prove(row, seal);
        await this.accept(row.id, seal);
        return;
      }
      this.shut('waiting');
      this.#awaitPeople(row);
    } catch (error) {
      if (!(error instanceof VaultError) || (when === 'start' && !(REMOTE.has(row.kind) && error.code === 'sealed'))) {
        throw error;
      }
      if (this.#shut?.reason !== 'unreachable') this.#options.means.log(error.message);
      this.shut('unreachable', error);
    }
  }

  #awaitPeople(row: SealRow): void {
    const unsealer = SEALS[row.kind].unsealer?.(this.#options.means, row);
    if (unsealer && this.#unsealer?.id !== row.id) this.#unsealer = { id: row.id, unsealer };
  }

  /** Opens the active root key once: a seal that is open opens what the database holds. */
  async #prove(row: SealRow, seal: Seal): Promise<void> {
    const context: Context = {
      label: 'root-key',
      deployment: this.#options.deploymentId,
      version: row.rootVersion,
    };
    try {
      (await seal.unwrap(context, row.wrapped)).wipe();
    } catch (error) {
      seal.close();
      throw error;
    }
  }

  /** A remote seal may be taken away by its owner: what it opened is forgotten once it has been away for the grace. */
  async #keepProven(): Promise<void> {
    const open = this.#open;
    const { graceMs, nowMs, means } = this.#options;
    if (!open || !REMOTE.has(open.seal.kind) || nowMs() < Math.max(this.#provenAtMs + graceMs / 2, this.#retryAtMs))
      return;
    this.#retryAtMs = nowMs() + Math.min(RETRY_AFTER_MS, graceMs / 4);
    const row = await this.#read();
    if (row?.id !== open.id || this.#open !== open) return;
    try {
      const context: Context = { label: 'root-key', deployment: this.#options.deploymentId, version: row.rootVersion };
      (await open.seal.unwrap(context, row.wrapped)).wipe();
      this.#provenAtMs = nowMs();
    } catch (error) {
      if (!(error instanceof VaultError)) throw error;
      means.log(error.message);
      if (nowMs() >= this.#provenAtMs + graceMs && this.#open === open) this.shut('unreachable', error);
    }
  }
}

const WHY: Readonly<Record<ShutReason, string>> = {
  operator: 'The vault is sealed: an operator sealed it. Unseal it with `bulla unseal`.',
  waiting: 'The vault is sealed: it waits for what opens its seal. Bring it with `bulla unseal`.',
  unreachable: 'The vault is sealed: its seal cannot act now. See GET /seal and the log of the server.',
};

function shutError(reason: ShutReason): VaultError {
  return new VaultError('sealed', WHY[reason]);
}

function opensByItself(): VaultError {
  return new VaultError(
    'conflict',
    'This seal takes nothing from people: run `bulla unseal` on a machine that has what opens it.',
  );
}
