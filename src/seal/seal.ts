/**
 * The contract of a seal: what protects the root keys outside the database.
 *
 * A seal wraps root keys for the rows that hold them and stores nothing itself. Its parameters (salt, cost, names of
 * keys, hashes of shares) lie in the database beside what it wraps; its secret never does. What comes from the database
 * is believed only after it opened something: an edited parameter can keep a vault shut, and nothing more.
 *
 * Every method throws VaultError `sealed` with one sentence that says what to do when the seal cannot act, and never
 * falls back to anything weaker. Nothing is durable on return but a key file that `create` made: the caller stores the
 * rest.
 */
import type { Context } from '../crypto/context.ts';
import type { SecretBytes } from '../crypto/keys.ts';

export const SEAL_KINDS = ['file', 'env', 'passphrase', 'shamir', 'aws-kms', 'transit'] as const;
export type SealKind = (typeof SEAL_KINDS)[number];

/** An open seal. */
export type Seal = {
  readonly kind: SealKind;
  /** Of the seal's own key where it is at hand, otherwise of the name of the key: what the operator compares. */
  readonly fingerprint: string;
  wrap(context: Context, rootKey: SecretBytes): Promise<Uint8Array>;
  unwrap(context: Context, wrapped: Uint8Array): Promise<SecretBytes>;
  /** Forgets the seal's key; the next use fails. */
  close(): void;
};

/** What lies beside the wrapped root keys. */
export type SealParameters = Readonly<Record<string, unknown>>;

/** A seal as the database describes it. */
export type StoredSeal = {
  readonly id: string;
  readonly kind: SealKind;
  readonly parameters: SealParameters;
  /** Of the newest root key: what opening the seal is tried on. */
  readonly wrapped: Uint8Array;
};

/** A seal that nothing is wrapped by yet. `shares` are to be shown once, before anything depends on them. */
export type NewSeal = {
  readonly seal: Seal;
  readonly parameters: SealParameters;
  readonly shares?: readonly string[];
};

/** What this machine has to open seals with, and what a new seal is to be like. Each member takes its own. */
export type SealMeans = {
  readonly file: string;
  readonly key: string | undefined;
  /** Asks once for the passphrase, where there is a terminal or a descriptor; undefined where nobody answers. */
  readonly passphrase: ((purpose: 'new' | 'open') => Promise<string | undefined>) | undefined;
  readonly deriveKey: DeriveKey;
  readonly passphraseCost: { readonly memoryKib: number; readonly passes: number; readonly lanes: number };
  readonly shamir: { readonly shares: number; readonly threshold: number };
  readonly kms: {
    readonly keyId: string | undefined;
    readonly endpoint: string | undefined;
    readonly region: string | undefined;
  };
  readonly transit: {
    readonly address: string | undefined;
    readonly mount: string;
    readonly key: string | undefined;
    readonly tokenFile: string | undefined;
  };
  readonly log: (message: string) => void;
};

/** Argon2id in the child process of passwords. */
export type DeriveKey = (
  passphrase: string,
  salt: Uint8Array,
  cost: { readonly memoryKib: number; readonly passes: number; readonly lanes: number },
) => Promise<Uint8Array>;

/** What became of something that a person offered to a seal that cannot open by itself. */
export type Offer =
  | { readonly state: 'open'; readonly seal: Seal }
  /** It fits, and more are needed. `already` says that it had been given before. */
  | { readonly state: 'kept'; readonly already: boolean }
  /** It does not fit; `why` is a sentence without anything that was offered. Nothing kept was lost. */
  | { readonly state: 'refused'; readonly reason: string; readonly why: string };

export type Progress = { readonly given: number; readonly threshold: number; readonly shares: number };

/** Takes what people bring, one thing at a time, and keeps what fits in memory until it is enough. */
export type Unsealer = {
  readonly takes: 'share' | 'passphrase';
  /** Shares only. */
  readonly progress: () => Progress | undefined;
  offer(text: string): Promise<Offer>;
  /** Forgets what was kept. */
  close(): void;
};

/** A member of the open set. */
export type SealMember = {
  /** Makes what root keys are to be wrapped by. Throws `sealed` when this machine has not what it takes. */
  create(means: SealMeans): Promise<NewSeal>;
  /**
   * Opens a seal with what is at hand here; undefined when people have to bring it. Remote members only find out that
   * the other side refuses when something is unwrapped.
   */
  open(means: SealMeans, stored: StoredSeal): Promise<Seal | undefined>;
  /** Absent on members that open by themselves. */
  readonly unsealer?: (means: SealMeans, stored: StoredSeal) => Unsealer;
};
