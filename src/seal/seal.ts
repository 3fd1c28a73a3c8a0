/**
 * The contract of a seal: what protects the root key outside the database.
 *
 * A seal never stores anything in the database itself; it wraps a root key for the one row that holds it. Both methods
 * throw VaultError `sealed` with one sentence that says what to do when the seal cannot act, and never fall back to
 * anything weaker. Nothing is durable on return: the caller stores what `wrap` gives it.
 */
import type { Context } from '../crypto/context.ts';
import type { Key } from '../crypto/keys.ts';

export type SealKind = 'file' | 'env';

export type Seal = {
  readonly kind: SealKind;
  /** Of the seal's own key, where it has one: what the operator compares. */
  readonly fingerprint: string;
  wrap(context: Context, rootKey: Key): Promise<Uint8Array>;
  /** `version` is that of the root key inside. */
  unwrap(context: Context, wrapped: Uint8Array, version: number): Promise<Key>;
  /** Forgets the seal's key; the next use fails. */
  close(): void;
};

/** How a member is opened. `create` says that no root key exists yet, so a missing seal key may be made. */
export type SealOptions = {
  readonly file: string;
  readonly key: string | undefined;
  readonly create: boolean;
  /** Of the key that sealed what the database holds. Absent when nothing is sealed yet. */
  readonly expectedFingerprint: string | undefined;
};
