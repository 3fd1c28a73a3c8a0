/**
 * `import { Bulla } from 'bulla/client'`: everything an application needs, and no dependency.
 *
 *     const bulla = new Bulla({ address: 'https://vault.example:8200', token });
 *     const { data } = await bulla.secrets.get('prod/web/database');
 *     const watch = bulla.watch('prod/web', ({ secrets }) => reconfigure(secrets));
 *
 * The environment is not read here: the caller says where the server is and which token to use. The token never shows
 * in an inspection, in JSON or in an error.
 */
import { API, sendForJson } from './answer.ts';
import { type Approvals, createApprovals } from './approval.ts';
import { type Audit, createAudit } from './audit.ts';
import { type Auth, createAuth } from './auth.ts';
import { type Authorities, type CertificateRoles, createAuthorities, createCertificateRoles } from './certificate.ts';
import { type CallOptions, type Connection, createConnection } from './connection.ts';
import { BullaError } from './error.ts';
import { createGroups, type Groups } from './group.ts';
import { createIssuers, createLoginRoles, type Issuers, type LoginRoles } from './issuer.ts';
import { createJobs, type Jobs } from './job.ts';
import { type KeepOptions, type KeptLease, keepLease, type OnCredential } from './kept-lease.ts';
import { createKeys, createRootKeys, type Keys, type RootKeys } from './key.ts';
import {
  type Accounts,
  type Backends,
  createAccounts,
  createBackends,
  createLeases,
  createRoles,
  type Leases,
  type Roles,
} from './lease.ts';
import { createMounts, type Mounts } from './mount.ts';
import { createPeppers, type Peppers } from './pepper.ts';
import { createPolicies, type Policies } from './policy.ts';
import { createRotators, type Rotators } from './rotator.ts';
import { createSeal, type SealClient } from './seal.ts';
import { createSecondFactor, createSessions, type SecondFactor, type Sessions } from './second-factor.ts';
import { createSecrets, type Secrets } from './secret.ts';
import { createServices, type Services } from './service.ts';
import { createTenants, type Tenants } from './tenant.ts';
import { createTokens, type Tokens } from './token.ts';
import { createTransit, type Transit } from './transit.ts';
import { checkPins } from './trust.ts';
import type { CreateLeaseBody, Status } from './types.ts';
import { createUsers, type Users } from './user.ts';
import { type OnChange, startWatch, type Watch, type WatchOptions } from './watch.ts';

export { type Finding, type VerifyReport, verifyExport } from '../audit/verify.ts';
export { type LogReport, type VerifyLogOptions, verifyLog } from '../audit/verify-log.ts';
export type { Audit, AuditFilter } from './audit.ts';
export type { CallOptions } from './connection.ts';
export { BullaError, type ClientErrorCode } from './error.ts';
export type { KeepOptions, KeptLease, OnCredential } from './kept-lease.ts';
export type { LeaseListing } from './lease.ts';
export type { Secret, SecretInput, SecretPatchInput, Selection } from './secret.ts';
export type {
  BatchItem,
  Bound,
  Bytes,
  Ciphertext,
  NamedKeyChange,
  NamedKeyInput,
  SignatureOptions,
} from './transit.ts';
export type * from './types.ts';
export type { Change, OnChange, Watch, WatchOptions } from './watch.ts';

export type BullaOptions = {
  /** Where the server is, such as `http://127.0.0.1:8200`. */
  readonly address: string;
  /** Without one only `auth.login` and `ready` work; `auth.login` sets it. */
  readonly token?: string | undefined;
  /** Certificates to trust, as PEM, in place of the system's. */
  readonly ca?: string | undefined;
  /** Keys of the server or of authorities above it, `sha256/…`: one of them must be in its chain, too. */
  readonly pins?: readonly string[] | undefined;
  /** A certificate of your own with its chain, and its key, both as PEM: for `auth.certificate`. */
  readonly certificate?: { readonly cert: string; readonly key: string } | undefined;
  /** For each answer, 30 s by default; of a stream, between two pieces. */
  readonly timeoutMs?: number | undefined;
  /** How often a call may be sent again, 3 by default. */
  readonly retries?: number | undefined;
  /** Plain HTTP to anything but this machine shows every token and secret to the network, so it is refused without this. */
  readonly sendTokensOverPlainHttp?: boolean | undefined;
};

const TIMEOUT_MS_DEFAULT = 30_000;
const RETRIES_DEFAULT = 3;

export class Bulla {
  readonly address: string;
  readonly auth: Auth;
  readonly secondFactor: SecondFactor;
  readonly sessions: Sessions;
  readonly secrets: Secrets;
  readonly users: Users;
  readonly services: Services;
  readonly issuers: Issuers;
  readonly loginRoles: LoginRoles;
  readonly tokens: Tokens;
  readonly authorities: Authorities;
  readonly certificateRoles: CertificateRoles;
  readonly mounts: Mounts;
  readonly approvals: Approvals;
  readonly groups: Groups;
  readonly policies: Policies;
  readonly tenants: Tenants;
  readonly leases: Leases;
  readonly backends: Backends;
  readonly roles: Roles;
  readonly accounts: Accounts;
  readonly rotators: Rotators;
  readonly keys: Keys;
  readonly rootKeys: RootKeys;
  readonly jobs: Jobs;
  readonly transit: Transit;
  readonly peppers: Peppers;
  readonly seal: SealClient;
  readonly audit: Audit;
  readonly #connection: Connection;

  constructor(options: BullaOptions) {
    const base = parseAddress(options.address, options.sendTokensOverPlainHttp ?? false);
    const connection = createConnection({
      base,
      trust: { ca: options.ca, pins: checkPins(options.pins), certificate: options.certificate },
      token: checkedToken(options.token),
      timeoutMs: options.timeoutMs ?? TIMEOUT_MS_DEFAULT,
      retries: options.retries ?? RETRIES_DEFAULT,
    });
    this.#connection = connection;
    this.address = base.href.replace(/\/$/, '');
    this.auth = createAuth(connection);
    this.secondFactor = createSecondFactor(connection);
    this.sessions = createSessions(connection);
    this.secrets = createSecrets(connection);
    this.users = createUsers(connection);
    this.services = createServices(connection);
    this.issuers = createIssuers(connection);
    this.loginRoles = createLoginRoles(connection);
    this.tokens = createTokens(connection);
    this.authorities = createAuthorities(connection);
    this.certificateRoles = createCertificateRoles(connection);
    this.mounts = createMounts(connection);
    this.approvals = createApprovals(connection);
    this.groups = createGroups(connection);
    this.policies = createPolicies(connection);
    this.tenants = createTenants(connection);
    this.leases = createLeases(connection);
    this.backends = createBackends(connection);
    this.roles = createRoles(connection);
    this.accounts = createAccounts(connection);
    this.rotators = createRotators(connection);
    this.keys = createKeys(connection);
    this.rootKeys = createRootKeys(connection);
    this.jobs = createJobs(connection);
    this.transit = createTransit(connection);
    this.peppers = createPeppers(connection);
    this.seal = createSeal(connection);
    this.audit = createAudit(connection);
  }

  /** The token for all calls from now on. */
  useToken(token: string | undefined): void {
    this.#connection.setToken(checkedToken(token));
  }

  /** What the server is, for whoever holds a token. */
  status(options: CallOptions = {}): Promise<Status> {
    return sendForJson(this.#connection, { method: 'GET', path: `${API}/status`, effect: 'none', ...options });
  }

  /** Resolves when the server can serve; needs no token. */
  async ready(options: CallOptions = {}): Promise<void> {
    await this.#connection.send({ method: 'GET', path: '/readyz', effect: 'none', anonymous: true, ...options });
  }

  /** Calls back with all secrets under a prefix and then with every change of them, until closed. */
  watch(prefix: string, onChange: OnChange, options: WatchOptions = {}): Watch {
    return startWatch(this.#connection, prefix, onChange, options);
  }

  /**
   * Takes a lease and keeps it: renewed with its token, and followed by the next one before its maximum. The callback gets
   * each credential, and the lease before is revoked when it has returned.
   */
  keepLease(wanted: CreateLeaseBody, onCredential: OnCredential, options: KeepOptions = {}): Promise<KeptLease> {
    return keepLease(this.leases, this.auth, wanted, onCredential, options);
  }

  /** Ends idle connections. */
  close(): void {
    this.#connection.close();
  }
}

function parseAddress(address: string, plainHttpAllowed: boolean): URL {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  const plain = url?.protocol === 'http:';
  if (
    url === undefined ||
    !(plain || url.protocol === 'https:') ||
    url.username ||
    url.password ||
    url.search ||
    url.hash
  ) {
    throw new BullaError(
      'invalid_request',
      'The address of the server is a URL such as https://vault.example:8200, without user, query and fragment.',
    );
  }
  if (plain && !plainHttpAllowed && !isThisMachine(url.hostname)) {
    throw new BullaError(
      'invalid_request',
      `${url.origin} is plain HTTP to another machine, which shows tokens and secrets to the network: use https.`,
    );
  }
  return url;
}

function isThisMachine(hostname: string): boolean {
  return (
    hostname === 'localhost' ||
    hostname.endsWith('.localhost') ||
    hostname === '[::1]' ||
    /^127\.[\d.]+$/.test(hostname)
  );
}

/** A token with a stray line feed would be refused by Node's headers in words that help nobody. */
function checkedToken(token: string | undefined): string | undefined {
  if (token === undefined || /^[\x21-\x7e]{1,1000}$/.test(token)) return token;
  throw new BullaError('invalid_request', 'The token has blanks or other characters that no token has; is it whole?');
}
