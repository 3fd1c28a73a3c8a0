/**
 * The contract of a backend: what makes and ends credentials at a target outside of the vault.
 *
 * The order is what keeps every credential below a row. `prepare` says, without touching the outside, what the
 * credential will be called and what the holder will get; that is committed as a pending lease; only then is `issue`
 * called; only after its return is the lease active and told to anybody. A process may die between any two of these.
 *
 * Who quotes: the member, everything, always. Role settings, names of holders and names of roles come from people and
 * reach it as they are, with quotes, Unicode and line feeds in them; no caller has escaped anything. A template of
 * somebody's statements is filled in by the member, each value quoted for its place; what would be read in another way
 * (a placeholder inside of quotes, a name longer than the target keeps) is refused by the schema of the role.
 *
 * What may throw: every act may throw a VaultError `backend_failed`, made by `backendFailed` below, which says what has
 * become of the act. `refused`: the target said no, and nothing is there. `unreached`: nothing was sent that could have an
 * effect. `unknown`: the connection broke or the deadline passed after something was sent, and it may still take effect.
 * Anything else that is thrown counts as unknown and goes to the log. After `unreached` and `unknown` the target is left
 * alone for a while. The message of an error is shown to people and kept in the row: it names a code of the target and
 * never repeats what the target said, which may quote a statement with a password in it.
 *
 * What is durable: on return of `issue`, `renew` and `revoke`, their effect at the target is. None keeps anything in
 * memory that another node would need.
 *
 * Deadlines: every act gets an AbortSignal that fires at its deadline (30 s for `issue` and `renew`) and must have ended
 * soon after; it also bounds what the target does, where the target can (`statement_timeout`), by `deadlineMs`, so that
 * a statement under way there ends with us. The sweeper does not touch a pending lease before that deadline has passed.
 */
import type { z } from 'zod';
import type { TenantId, Timestamp } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Cidr } from '../policy/cidr.ts';

/** What the holder gets: names and values of a flat JSON object. Kept in an envelope, and never in an entry or a log. */
export type Credential = Readonly<Record<string, string | number>>;

/** What a credential is asked for. */
export type CredentialAsk<Role> = {
  readonly role: Role;
  /** Of the role, as people call it. */
  readonly roleName: string;
  /** Who asks: a name of the tenant. */
  readonly holder: string;
  /** Unique for ever, 16 characters of [a-z2-7]: put it into the handle. */
  readonly leaseId: string;
  /** What the request brought for this kind of backend, parsed by `parameters`: a public key to be signed, say. */
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly issuedAt: Timestamp;
  readonly expiresAt: Timestamp;
};

/** What is committed before the outside act. */
export type Prepared = {
  /**
   * Names the outside credential, is no secret, is shown to people and is all (with the role's settings of the day)
   * that `renew` and `revoke` get. At most 512 bytes.
   */
  readonly handle: string;
  /** What is known of the credential beforehand. `issue` may add to it. */
  readonly credential: Credential;
};

export type Act<Role> = {
  readonly handle: string;
  readonly role: Role;
  readonly signal: AbortSignal;
  /** Milliseconds that the target may take, for its own timeouts: what `signal` gives. */
  readonly deadlineMs: number;
};

/**
 * A backend as it is configured, with its connections: opened when first used, pooled, at most
 * LIMITS.backendConnectionsMax at once on this node. The caller bounds how many acts run at once; a member queues what is
 * more.
 */
export type Backend<Role> = {
  /**
   * Tries the configuration on the real target before it is stored: address, credentials, and the rights that issuing
   * takes. Changes nothing there. Throws `invalid_request` when the target refuses the credentials or their rights do
   * not suffice, `backend_failed` when it cannot be reached.
   */
  check(act: Pick<Act<Role>, 'signal' | 'deadlineMs'>): Promise<void>;
  /** Makes the credential, to end at `expiresAt` by itself where the target can do that. Gives the whole credential. */
  issue(act: Act<Role> & { readonly prepared: Prepared; readonly expiresAt: Timestamp }): Promise<Credential>;
  /** Lets the target keep it until `expiresAt`. */
  renew(act: Act<Role> & { readonly expiresAt: Timestamp }): Promise<void>;
  /**
   * Ends the credential and whoever is logged in with it, and returns only when neither works any more. Idempotent:
   * what is gone already, or was never made, is success. It may be called while an `issue` of the same handle, whose
   * process was cut off, is still to arrive; it is then called again an hour later.
   */
  revoke(act: Act<Role>): Promise<void>;
  /** What it takes for static accounts; absent where there are none. */
  readonly accounts?: Accounts;
  /** Ends the connections; acts under way fail. */
  close(): Promise<void>;
};

/** `username` is as the member's `account` gave it. */
export type AccountAct = Pick<Act<unknown>, 'signal' | 'deadlineMs'> & { readonly username: string };

/** Accounts that are at the target already, and whose password the vault changes. */
export type Accounts = {
  /** The account that the backend itself logs in with: another password would lock the vault out. */
  isOwn(username: string): boolean;
  /** The same as these acts take it, where the vault may change its password too: at its target that then lasts. */
  readonly own?: string;
  /** What somebody logs in with, in the shape that `issue` gives. */
  credentialOf(username: string, password: string): Credential;
  /** Gives the account this password in place of any other. After `refused` the account is as it was. Idempotent. */
  setPassword(act: AccountAct & { readonly password: string }): Promise<void>;
  /** Whether the target lets the account in with it, by a login over a connection of its own that nobody else uses. */
  provePassword(act: AccountAct & { readonly password: string }): Promise<boolean>;
  /** Ends who is logged in with the account, and returns only when nobody is. */
  endSessions(act: AccountAct): Promise<void>;
};

/** What a member may need beside its configuration. */
export type About = {
  readonly tenant: TenantId;
  readonly backendId: string;
  /** Networks beside the public ones that URLs may lead to: see outbound.ts. */
  readonly outbound: readonly Cidr[];
};

/** A member of the open set. */
export type BackendMember<Config = unknown, Role = unknown> = {
  /** The configuration, whole. It is stored in an envelope; what is shown of it leaves out `secretFields`. */
  readonly config: z.ZodType<Config>;
  /**
   * Top-level names in `config` that hold secrets. A change that leaves them out keeps those that are stored, unless it
   * leads elsewhere.
   */
  readonly secretFields: readonly (keyof Config & string)[];
  /** The settings of a role. They hold no secret. */
  readonly role: z.ZodType<Role>;
  /** What a request may bring beside role and time; absent: nothing. */
  readonly parameters?: z.ZodType<Readonly<Record<string, unknown>>>;
  /** The name of an account as the target writes it, made canonical; absent: this kind has no static accounts. */
  readonly account?: z.ZodType<string>;
  /**
   * The target cannot end a credential before its time (a signed certificate): an early revocation is recorded as wanted,
   * and the lease ends when it expires. `renew` is then never called and such leases are not renewable.
   */
  readonly endsOnlyByExpiry?: true;
  /** Pure but for randomness: makes names and passwords. */
  prepare(ask: CredentialAsk<Role>): Prepared;
  /** Opens nothing yet. */
  connect(config: Config, about: About): Backend<Role>;
};

export type Effect = 'refused' | 'unreached' | 'unknown';

/** `what` is a sentence of ours that names a code of the target at most. */
export function backendFailed(what: string, effect: Effect, cause?: unknown): VaultError {
  return new VaultError('backend_failed', what, { details: { effect }, ...(cause === undefined ? {} : { cause }) });
}

/** What has become of an act that threw. */
export function effectOf(error: unknown): Effect {
  const effect = error instanceof VaultError ? error.details?.effect : undefined;
  return effect === 'refused' || effect === 'unreached' ? effect : 'unknown';
}
