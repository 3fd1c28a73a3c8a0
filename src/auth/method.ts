/**
 * The contract of a login method that is proven in one step: a client secret, a signed token, a certificate.
 *
 * A method says who somebody is and how, or why not; it neither decides what they may do, nor issues, nor records: that
 * is proven-login.ts's, the same for all. What a method refuses is told to the log only.
 */
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import type { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Vault } from '../vault.ts';

/** The tenant that the credentials speak of, as they give it: not believed, and perhaps not there. */
export type TenantRef = { readonly id: string } | { readonly name: string };

/** The client certificate that a token is bound to, by its SHA-256. */
export type ShownCertificate = { readonly thumbprint: Uint8Array; readonly expiresAt: Timestamp };
export type ShownSecret = { readonly id: string; readonly expiresAt: Timestamp };

/** What the token of a proven login is like, beside what its account says. */
export type ProvenToken = {
  readonly ttlSeconds?: number | undefined;
  readonly maxTtlSeconds?: number | undefined;
  readonly explicitMaxTtlSeconds?: number | undefined;
  readonly periodSeconds?: number | undefined;
  readonly uses?: number | undefined;
  readonly cidrs?: readonly string[] | undefined;
  readonly withoutDefault?: boolean | undefined;
  readonly policies?: readonly string[] | undefined;
  readonly mfa?: boolean | undefined;
  readonly certificate?: ShownCertificate | undefined;
  readonly loginRole?: string | undefined;
  /** What the login was by: names and labels that the token shows with its accessor. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly clientSecret?: ShownSecret | undefined;
};

/** One that is there, or one whose account is made at its first login, once nothing else stands against it. */
export type ProvenAccount =
  | { readonly userId: string }
  | {
      readonly issuerId: string;
      readonly issuerName: string;
      /** The claim that says who somebody is, and what it says. */
      readonly claim: string;
      readonly subject: string;
    }
  | { readonly findOrMake: (tx: Tx) => Promise<string> };

export type Proof =
  | {
      readonly account: ProvenAccount;
      readonly token: ProvenToken;
      /** Names of what was shown, for the log. */
      readonly details: Readonly<Record<string, string>>;
    }
  | {
      /** For the log: which of the things that the caller must not tell apart it was. */
      readonly refused: string;
      /** The account that was spoken of, where there is one. */
      readonly of?: { readonly id: string; readonly name: string } | undefined;
      /** What the caller hears in place of `login_failed`, because they have shown that they may. */
      readonly tell?: VaultError | undefined;
    };

export type LoginMethod<Credentials, Prepared = undefined> = {
  /** As in tokens and entries. */
  readonly name: 'service' | 'jwt' | 'oidc' | 'cert';
  readonly tenantOf: (credentials: Credentials) => TenantRef;
  /** Before the transaction, outside of any: what needs the network. `tenant` is undefined when there is none such. */
  readonly prepare: (vault: Vault, tenant: TenantId | undefined, credentials: Credentials) => Promise<Prepared>;
  /**
   * In the transaction of the login. Locks what the proof depends on, so that what takes it away waits, or is seen here.
   * Does the same statements whatever is wrong.
   */
  readonly prove: (
    tx: Tx,
    tenant: TenantId,
    credentials: Credentials,
    prepared: Prepared,
    call: Omit<Call, 'token'>,
  ) => Promise<Proof>;
};
