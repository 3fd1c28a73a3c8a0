/**
 * Keys and other secret bytes that act and never hand themselves out.
 *
 * Invariant: what an object here hides leaves it only inside an envelope; printing, inspecting and serialising show a
 * version and a fingerprint at most. Every copy that this file makes is wiped when it is no longer needed; what the
 * JavaScript engine or the garbage collector copied before cannot be (SECURITY.md).
 * All operations are synchronous, so a key is never wiped under a running one. A caller that waits for the outside must
 * ask the cache again afterwards instead of holding a key over the await.
 */
import { randomFillSync } from 'node:crypto';
import { inspect } from 'node:util';
import { assert, VaultError } from '../errors.ts';
import type { Context } from './context.ts';
import { open, SealingKey, seal } from './envelope.ts';

const KEY_BYTES = 32;

/** 256 bits of the chain: seal key, root key or data key. `seal` and `open` of envelope.ts take it. */
export class Key extends SealingKey {
  /** Held by a generated key until it has been wrapped once; nobody else needs it. */
  #bytes: Uint8Array | undefined;

  private constructor(version: number, bytes: Uint8Array, keep: boolean) {
    super(version, bytes);
    this.#bytes = keep ? bytes : undefined;
  }

  /** A new random key, which is to be wrapped once before anything is sealed with it. */
  static generate(version: number): Key {
    return new Key(version, randomSecret(KEY_BYTES), true);
  }

  /** A key from bytes that come from outside (a key file, shares). They are not kept; the caller wipes its own. */
  static fromBytes(version: number, bytes: Uint8Array): Key {
    return new Key(version, bytes, false);
  }

  /** Seals a generated key under this one. It forgets its own bytes by that: later `rewrap` moves the envelope. */
  wrap(context: Context, keyToWrap: Key): Uint8Array {
    const bytes = keyToWrap.#bytes;
    assert(bytes !== undefined, 'a generated key is wrapped once; afterwards its envelope is re-wrapped');
    const envelope = seal(this, context, bytes);
    keyToWrap.#forgetBytes();
    return envelope;
  }

  /** Opens what `wrap` made. `version` is that of the key inside. */
  unwrap(context: Context, envelope: Uint8Array, version: number): Key {
    const bytes = open(this, context, envelope);
    try {
      if (bytes.length !== KEY_BYTES) throw notAKey();
      return Key.fromBytes(version, bytes);
    } finally {
      bytes.fill(0);
    }
  }

  /** Seals other secret bytes (a pepper, a signing seed) under this key. */
  wrapSecret(context: Context, secret: SecretBytes): Uint8Array {
    return secret.use((bytes) => seal(this, context, bytes));
  }

  /** Opens what `wrapSecret` made. */
  unwrapSecret(context: Context, envelope: Uint8Array): SecretBytes {
    const bytes = open(this, context, envelope);
    try {
      return SecretBytes.fromBytes(bytes);
    } finally {
      bytes.fill(0);
    }
  }

  override wipe(): void {
    this.#forgetBytes();
    super.wipe();
  }

  #forgetBytes(): void {
    this.#bytes?.fill(0);
    this.#bytes = undefined;
  }
}

/** Moves a wrapped key or wrapped secret from one wrapper to another; what is inside is in memory only for the moment. */
export function rewrap(oldWrapper: Key, newWrapper: Key, context: Context, envelope: Uint8Array): Uint8Array {
  const bytes = open(oldWrapper, context, envelope);
  try {
    return seal(newWrapper, context, bytes);
  } finally {
    bytes.fill(0);
  }
}

/** Secret bytes that are no key of the chain: a pepper, a signing seed. */
export class SecretBytes {
  readonly #bytes: Uint8Array;
  #wiped = false;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  static generate(length: number): SecretBytes {
    return new SecretBytes(randomSecret(length));
  }

  /** Copies; the caller wipes its own. */
  static fromBytes(bytes: Uint8Array): SecretBytes {
    return new SecretBytes(Uint8Array.from(bytes));
  }

  get length(): number {
    return this.#bytes.length;
  }

  get wiped(): boolean {
    return this.#wiped;
  }

  /** Lends the bytes to a synchronous function, which must neither keep nor return them. */
  use<T>(borrow: (bytes: Uint8Array) => T): T {
    assert(!this.#wiped, 'wiped secret bytes are not used');
    return borrow(this.#bytes);
  }

  wipe(): void {
    this.#wiped = true;
    this.#bytes.fill(0);
  }

  toString(): string {
    return `[SecretBytes ${this.#bytes.length}]`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

const CACHE_COUNT_MAX = 10_000;

/** What a cache holds: something that can be made useless. */
export type Wipeable = { readonly wiped: boolean; wipe(): void };

/**
 * Unwrapped keys for a bounded time and of a bounded number. A key lives `ttlMs` from when it was set, however often it
 * is used. A timer that keeps no process alive drops expired keys that nobody asks for.
 *
 * Whatever leaves the cache is wiped once the promises now settling have run: a key handed through an async function
 * still works when its caller goes on, though another continuation dropped or replaced it in between. `clear` wipes at
 * once, for sealing and for the end.
 */
export class KeyCache<K extends Wipeable = Key> {
  readonly #ttlMs: number;
  readonly #now: () => number;
  readonly #countMax: number;
  /** In the order of expiry, since every key lives equally long: the first is the next to go. */
  readonly #entries = new Map<string, { readonly key: K; readonly expiresAt: number }>();
  #timer: NodeJS.Timeout | undefined;
  /** Dropped, to be wiped by `#wiping`. */
  readonly #dropped = new Set<K>();
  #wiping: NodeJS.Immediate | undefined;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(ttlMs: number, now: () => number, countMax: number = CACHE_COUNT_MAX) {
    assert(ttlMs > 0 && countMax >= 1, 'a key cache has a time to live and holds at least one key');
    this.#ttlMs = ttlMs;
    this.#now = now;
    this.#countMax = countMax;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(id: string): K | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    if (this.#now() < entry.expiresAt && !entry.key.wiped) return entry.key;
    this.drop(id);
    return undefined;
  }

  /** Takes the key over: the cache wipes it when it goes. */
  set(id: string, key: K): void {
    const previous = this.#entries.get(id);
    if (previous !== undefined && previous.key !== key) this.#wipeSoon(previous.key);
    this.#dropped.delete(key);
    this.#entries.delete(id);
    this.#entries.set(id, { key, expiresAt: this.#now() + this.#ttlMs });
    if (this.#entries.size > this.#countMax) this.drop(this.#entries.keys().next().value!);
    this.#timer ??= setTimeout(() => this.#sweep(), this.#ttlMs).unref();
  }

  drop(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#wipeSoon(entry.key);
    this.#entries.delete(id);
  }

  dropPrefix(prefix: string): void {
    for (const id of [...this.#entries.keys()]) if (id.startsWith(prefix)) this.drop(id);
  }

  clear(): void {
    for (const { key } of this.#entries.values()) key.wipe();
    this.#entries.clear();
    this.#wipeDropped();
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #wipeSoon(key: K): void {
    this.#dropped.add(key);
    this.#wiping ??= setImmediate(() => this.#wipeDropped());
  }

  #wipeDropped(): void {
    for (const key of this.#dropped) key.wipe();
    this.#dropped.clear();
    clearImmediate(this.#wiping);
    this.#wiping = undefined;
  }

  #sweep(): void {
    this.#timer = undefined;
    const now = this.#now();
    for (const [id, { expiresAt }] of this.#entries) {
      if (now < expiresAt) {
        this.#timer = setTimeout(() => this.#sweep(), Math.max(1, expiresAt - now)).unref();
        return;
      }
      this.drop(id);
    }
  }
}

function randomSecret(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  randomFillSync(bytes);
  assert(length > 0 && !bytes.every((byte) => byte === 0), 'the random number generator gives random bytes');
  return bytes;
}

function notAKey(): VaultError {
  return new VaultError(
    'integrity',
    `A wrapped key does not hold ${KEY_BYTES} bytes: its row was edited or damaged. Restore it from a backup.`,
  );
}
