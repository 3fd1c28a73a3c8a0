/**
 * The environment, parsed once into a frozen Config.
 *
 * Every limit, time-to-live and size of the product has its name, unit and default here (those of the listener in
 * config-listener.ts), and nothing reads process.env but this file and, for the command line, config-client.ts. A value
 * that does not fit is refused at start with a sentence that names the variable.
 */
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { HOUR } from './config-duration.ts';
import { type HttpConfig, httpOf, LISTENER_SETTINGS, type TlsConfig, tlsOf } from './config-listener.ts';
import { count, duration, networks, parseListen } from './config-value.ts';
import { VaultError } from './errors.ts';
import type { Cidr } from './policy/cidr.ts';
import { SEAL_KINDS, type SealKind } from './seal/seal.ts';

export { parseDurationSeconds } from './config-duration.ts';

/** Of a file that whoever starts the vault has opened for it. */
const descriptor = z
  .string()
  .regex(/^\d{1,4}$/, 'expected the number of an open file descriptor, such as 3')
  .transform(Number)
  .optional();

const spareCores = Math.max(1, availableParallelism() - 1);

/** One row per setting: the variable, what it takes, its default. Documented for people in docs/configuration.md. */
const settings = z.object({
  ...LISTENER_SETTINGS,
  /** Processes that serve; with more than one, another one looks after them. */
  BULLA_WORKERS: count(1, 1, 64, 'expected a whole number from 1 to 64'),
  BULLA_DATA_DIR: z.string().min(1).default('./bulla-data'),
  BULLA_DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }).optional(),
  BULLA_DATABASE_OWNER_URL: z.url({ protocol: /^postgres(ql)?$/ }).optional(),
  BULLA_DATABASE_CONNECTIONS: count(8, 2, 200),
  /** What a new vault is sealed by; one that exists is opened by what it was sealed with. */
  BULLA_SEAL: z.enum(SEAL_KINDS).default('file'),
  BULLA_SEAL_FILE: z.string().min(1).optional(),
  BULLA_SEAL_KEY: z.string().min(1).optional(),
  BULLA_SEAL_PASSPHRASE_FD: descriptor,
  BULLA_SEAL_PASSPHRASE_MEMORY_KIB: count(262_144, 19_456, 2_097_152),
  BULLA_SEAL_PASSPHRASE_PASSES: count(4, 2, 32),
  BULLA_SEAL_SHAMIR_SHARES: count(5, 2, 32),
  BULLA_SEAL_SHAMIR_THRESHOLD: count(3, 2, 32),
  BULLA_SEAL_SHARES_FD: descriptor,
  BULLA_SEAL_KMS_KEY_ID: z.string().min(1).max(2048).optional(),
  BULLA_SEAL_KMS_ENDPOINT: z.url({ protocol: /^https?$/ }).optional(),
  BULLA_SEAL_KMS_REGION: z.string().min(1).max(64).optional(),
  BULLA_SEAL_TRANSIT_ADDR: z.url({ protocol: /^https?$/ }).optional(),
  BULLA_SEAL_TRANSIT_MOUNT: z.string().min(1).max(256).default('transit'),
  BULLA_SEAL_TRANSIT_KEY: z.string().min(1).max(256).optional(),
  BULLA_SEAL_TRANSIT_TOKEN_FILE: z.string().min(1).optional(),
  BULLA_ARGON2_MEMORY_KIB: count(65_536, 8, 4_194_304),
  BULLA_ARGON2_PASSES: count(3, 1, 100),
  BULLA_ARGON2_LANES: count(4, 1, 64),
  BULLA_HASH_CONCURRENCY: count(spareCores, 1, 64),
  BULLA_HASH_QUEUE_MAX: count(64, 0, 10_000),
  BULLA_TOKEN_TTL: duration('1h'),
  BULLA_TOKEN_MAX_TTL: duration('24h'),
  BULLA_CLIENT_SECRET_TTL: duration('90d'),
  BULLA_LOGIN_FAILURES_MAX: count(5, 1, 99),
  BULLA_LOGIN_LOCK: duration('15m'),
  BULLA_LOGIN_SOURCE_FAILURES_MAX: count(100, 10, 100_000),
  BULLA_ONE_TIME_PASSWORD_TTL: duration('3d'),
  BULLA_KEY_CACHE_TTL: duration('5m'),
  BULLA_SECRET_VERSIONS_KEPT: count(10, 1, 1000),
  BULLA_REQUEST_DEADLINE: duration('4s'),
  BULLA_CHECKPOINT_INTERVAL: duration('45s'),
  BULLA_LOG_KEY_OVERLAP: duration('30d'),
  BULLA_CHECKPOINT_DIR: z.string().min(1).optional(),
  BULLA_CHECKPOINT_WEBHOOK: z.url({ protocol: /^https?$/ }).optional(),
  BULLA_CHECKPOINT_PUT: z.url({ protocol: /^https?$/ }).optional(),
  BULLA_WITNESS_URL: z.url({ protocol: /^https?$/ }).optional(),
  BULLA_WITNESS_KEY: z.string().min(1).optional(),
  BULLA_AUDIT_MARK_FILE: z.string().min(1).optional(),
  BULLA_DATA_KEY_MAX_AGE: duration('90d'),
  BULLA_ROOT_KEY_MAX_AGE: duration('365d'),
  BULLA_LEASE_TTL: duration('1h'),
  BULLA_LEASE_MAX_TTL: duration('768h'),
  BULLA_LEASE_ACT_DEADLINE: duration('30s'),
  BULLA_LEASES_PER_TENANT_MAX: count(100_000, 1, 10_000_000),
  BULLA_LEASES_PER_ROLE_MAX: count(10_000, 1, 10_000_000),
  BULLA_LEASES_PER_ACTOR_MAX: count(1000, 1, 10_000_000),
  /** Networks beside the public ones in which webhooks and token issuers may be. */
  BULLA_OUTBOUND_NETWORKS: networks,
  BULLA_TRUSTED_PROXIES: networks,
  BULLA_SOURCE_REFUSALS_PER_MINUTE: count(300, 0, 1_000_000),
  BULLA_SOURCE_REQUESTS_PER_SECOND: count(0, 0, 1_000_000),
  BULLA_METRICS_TOKEN: z.string().min(16).optional(),
  BULLA_LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'silent']).default('info'),
});

export type Config = Readonly<{
  listen: { host: string; port: number };
  plainHttpBehindProxy: boolean;
  /** Absent: plain HTTP. */
  tls: TlsConfig | undefined;
  http: HttpConfig;
  /** Processes that serve the port. 1: this one. */
  workers: number;
  dataDir: string;
  /** Whether BULLA_DATA_DIR was given: only a default directory may be moved to /var/lib/bulla. */
  dataDirConfigured: boolean;
  /** The role that serves. Absent: the embedded PostgreSQL. */
  databaseUrl: string | undefined;
  /** The role that migrates. Absent with databaseUrl: that role does both, and serving sets role bulla_app. */
  databaseOwnerUrl: string | undefined;
  databaseConnections: number;
  /** What a new vault is sealed by. */
  seal: SealKind;
  sealFile: string | undefined;
  /** Base64 of 32 bytes. Handed to the env seal and not kept. */
  sealKey: string | undefined;
  /** A descriptor to read the passphrase from, once. */
  sealPassphraseFd: number | undefined;
  sealPassphraseCost: { memoryKib: number; passes: number; lanes: number };
  sealShamir: { shares: number; threshold: number };
  /** A descriptor to write the shares of a new vault to, once. */
  sealSharesFd: number | undefined;
  sealKms: { keyId: string | undefined; endpoint: string | undefined; region: string | undefined };
  sealTransit: { address: string | undefined; mount: string; key: string | undefined; tokenFile: string | undefined };
  argon2: { memoryKib: number; passes: number; lanes: number };
  hashConcurrency: number;
  hashQueueMax: number;
  tokenTtlSeconds: number;
  tokenMaxTtlSeconds: number;
  clientSecretTtlSeconds: number;
  loginFailuresMax: number;
  loginLockSeconds: number;
  /** Of one network within an hour, whoever it tried to be. */
  loginSourceFailuresMax: number;
  /** How long an administrator's one-time password waits for its first login. */
  oneTimePasswordTtlSeconds: number;
  keyCacheTtlSeconds: number;
  secretVersionsKept: number;
  requestDeadlineSeconds: number;
  /** A log with something new is signed at least this often; 60 at most. */
  checkpointIntervalSeconds: number;
  /** How long an old log key signs beside its successor. */
  logKeyOverlapSeconds: number;
  /** Where every checkpoint is sent to: files, a POST, a PUT under a prefix, a witness with its key. */
  checkpointTargets: Readonly<{
    dir: string | undefined;
    webhook: string | undefined;
    put: string | undefined;
    witness: { url: string; key: string } | undefined;
  }>;
  /** Where the last checkpoints are kept outside the database; audit-mark.jsonl in the data directory when absent. */
  auditMarkFile: string | undefined;
  /** Older active keys rotate by themselves; 0: never. */
  dataKeyMaxAgeSeconds: number;
  rootKeyMaxAgeSeconds: number;
  /** Of a lease for which neither request, role nor backend says one; and what none exceeds. */
  leaseTtlSeconds: number;
  leaseMaxTtlSeconds: number;
  /** What a target has for one act: from 1 s to 30 s. */
  leaseActDeadlineMs: number;
  /** How many leases are alive at once. */
  leasesMax: Readonly<{ tenant: number; role: number; actor: number }>;
  /** Networks beside the public ones that URLs which tenants configure may lead to. */
  outboundNetworks: readonly Cidr[];
  /** Peers whose X-Forwarded-For is believed. */
  trustedProxies: readonly Cidr[];
  /** Of one source, counted by each node for itself; 0: any number. */
  sourceRefusalsPerMinute: number;
  sourceRequestsPerSecond: number;
  metricsToken: string | undefined;
  logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'silent';
}>;

/** Limits that are part of the contract rather than of an installation. Bytes, counts and seconds as the names say. */
export const LIMITS = {
  secretBytesMax: 1024 * 1024,
  /** A body may be one secret in base64 or with escapes around it. */
  bodyBytesMax: 2 * 1024 * 1024 - 1,
  fetchSecretsMax: 500,
  fetchBytesMax: 32 * 1024 * 1024,
  pageDefault: 100,
  pageMax: 1000,
  metadataBytesMax: 16 * 1024,
  secretVersionsKeptMax: 1000,
  /** From so many failures in a row on, what is tried again and again is stuck. Indexes count on it. */
  stuckAttempts: 3,
  cubbyholeEntriesMax: 64,
  cubbyholeBytesMax: 256 * 1024,
  /** A wrapped answer: one secret with what is around it, or a list. */
  wrappedBytesMax: 2 * 1024 * 1024,
  readBatchMembersMax: 512,
  readBatchBytesMax: 8 * 1024 * 1024,
  /** Rows that a node keeps for reads while nobody else moves a tenant's log, with what they take beside their ciphertext. */
  knownRowsBytesMax: 8 * 1024 * 1024,
  readQueueMax: 10_000,
  /** Secrets that fetches read in one round; one fetch may ask for more. */
  fetchBatchSecretsMax: 128,
  fetchQueueMax: 1000,
  writesTogetherMax: 64,
  writeQueueMax: 1000,
  policiesPerUserMax: 50,
  groupsPerUserMax: 50,
  membersAtOnceMax: 500,
  approvalsOpenMax: 100,
  /** Of a new tenant, until its operators say otherwise. */
  quotaSecretsDefault: 100_000,
  quotaUsersDefault: 10_000,
  quotaMax: 2_000_000_000,
  ratePerSecondMax: 1_000_000,
  /** Tokens below a login: each is made from the one above. */
  tokenDepthMax: 8,
  tokenUsesMax: 1_000_000,
  tokenExplicitMaxTtlSecondsMax: 10 * 366 * 24 * 3600,
  tokenCidrsMax: 50,
  tokenMetadataBytesMax: 2048,
  clientSecretsPerServiceMax: 20,
  /** Of a service, those that programs make without naming them. */
  clientSecretsUnnamedMax: 2_000,
  jwtLengthMax: 16 * 1024,
  /** How long a login at an OpenID provider may take, and how many are under way: from one network, and of a tenant. */
  oidcLoginSeconds: 600,
  oidcLoginsPerSourceMax: 20,
  oidcLoginsPerTenantMax: 10_000,
  issuerKeysBytesMax: 64 * 1024,
  loginRulesMax: 50,
  loginRuleClaimsMax: 10,
  loginRulePatternsMax: 50,
  clientSecretTtlSecondsMax: 366 * 24 * 3600,
  headersBytesMax: 16 * 1024,
  auditTextCharsMax: 256,
  auditDetailsMax: 16,
  /** Of one backend on one node, and how many acts run on it at once. */
  backendConnectionsMax: 4,
  leaseActDeadlineSecondsMax: 30,
  leaseTtlSecondsMax: 768 * HOUR,
  versionMax: 2_147_483_646,
  /** Of one request of transit: items, and their cost as crypto/named-key.ts counts it. */
  transitCostMax: 1000,
  transitContextBytesMax: 4096,
  transitRandomBytesMax: 128 * 1024,
  transitVersionsShownMax: 1000,
  /** Nonces of 12 bytes under one key (SP 800-38D §8.3), and how many are reserved at once. */
  transitUsesMax: 2 ** 32,
  transitUsesBlock: 2 ** 16,
  /** RSA keys that are being made at once: each takes a processor for seconds. */
  transitKeysMadeMax: 2,
} as const;

function witnessOf(url: string | undefined, key: string | undefined): { url: string; key: string } | undefined {
  if (url === undefined && key === undefined) return undefined;
  if (url !== undefined && key !== undefined) return { url, key };
  throw new VaultError('invalid_request', 'BULLA_WITNESS_URL and BULLA_WITNESS_KEY are to be set together.');
}

/**
 * Reads the settings out of an environment; `options` are those of the command line and come first. Throws
 * `invalid_request` naming the variable, never its value.
 */
export function loadConfig(
  env: NodeJS.ProcessEnv = process.env,
  options: Readonly<Record<string, string>> = {},
): Config {
  const given = Object.fromEntries(Object.entries({ ...env, ...options }).filter(([, value]) => value !== ''));
  const parsed = settings.safeParse(given);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new VaultError('invalid_request', `${issue?.path.join('.')}: ${issue?.message}.`);
  }
  const s = parsed.data;
  return Object.freeze({
    listen: parseListen('BULLA_LISTEN', s.BULLA_LISTEN),
    plainHttpBehindProxy: s.BULLA_SERVE_PLAIN_HTTP_BEHIND_A_TLS_TERMINATING_PROXY,
    tls: tlsOf(s),
    http: httpOf(s),
    workers: s.BULLA_WORKERS,
    dataDir: s.BULLA_DATA_DIR,
    dataDirConfigured: given.BULLA_DATA_DIR !== undefined,
    databaseUrl: s.BULLA_DATABASE_URL,
    databaseOwnerUrl: s.BULLA_DATABASE_OWNER_URL,
    databaseConnections: s.BULLA_DATABASE_CONNECTIONS,
    seal: s.BULLA_SEAL,
    sealFile: s.BULLA_SEAL_FILE,
    sealKey: s.BULLA_SEAL_KEY,
    sealPassphraseFd: s.BULLA_SEAL_PASSPHRASE_FD,
    sealPassphraseCost: {
      memoryKib: s.BULLA_SEAL_PASSPHRASE_MEMORY_KIB,
      passes: s.BULLA_SEAL_PASSPHRASE_PASSES,
      lanes: 1,
    },
    sealShamir: { shares: s.BULLA_SEAL_SHAMIR_SHARES, threshold: s.BULLA_SEAL_SHAMIR_THRESHOLD },
    sealSharesFd: s.BULLA_SEAL_SHARES_FD,
    sealKms: {
      keyId: s.BULLA_SEAL_KMS_KEY_ID,
      endpoint: s.BULLA_SEAL_KMS_ENDPOINT,
      region: s.BULLA_SEAL_KMS_REGION,
    },
    sealTransit: {
      address: s.BULLA_SEAL_TRANSIT_ADDR,
      mount: s.BULLA_SEAL_TRANSIT_MOUNT,
      key: s.BULLA_SEAL_TRANSIT_KEY,
      tokenFile: s.BULLA_SEAL_TRANSIT_TOKEN_FILE,
    },
    argon2: { memoryKib: s.BULLA_ARGON2_MEMORY_KIB, passes: s.BULLA_ARGON2_PASSES, lanes: s.BULLA_ARGON2_LANES },
    hashConcurrency: s.BULLA_HASH_CONCURRENCY,
    hashQueueMax: s.BULLA_HASH_QUEUE_MAX,
    tokenTtlSeconds: s.BULLA_TOKEN_TTL,
    tokenMaxTtlSeconds: s.BULLA_TOKEN_MAX_TTL,
    clientSecretTtlSeconds: s.BULLA_CLIENT_SECRET_TTL,
    loginFailuresMax: s.BULLA_LOGIN_FAILURES_MAX,
    loginLockSeconds: s.BULLA_LOGIN_LOCK,
    loginSourceFailuresMax: s.BULLA_LOGIN_SOURCE_FAILURES_MAX,
    oneTimePasswordTtlSeconds: s.BULLA_ONE_TIME_PASSWORD_TTL,
    keyCacheTtlSeconds: s.BULLA_KEY_CACHE_TTL,
    secretVersionsKept: s.BULLA_SECRET_VERSIONS_KEPT,
    requestDeadlineSeconds: s.BULLA_REQUEST_DEADLINE,
    checkpointIntervalSeconds: Math.min(55, Math.max(1, s.BULLA_CHECKPOINT_INTERVAL)),
    logKeyOverlapSeconds: s.BULLA_LOG_KEY_OVERLAP,
    checkpointTargets: {
      dir: s.BULLA_CHECKPOINT_DIR,
      webhook: s.BULLA_CHECKPOINT_WEBHOOK,
      put: s.BULLA_CHECKPOINT_PUT,
      witness: witnessOf(s.BULLA_WITNESS_URL, s.BULLA_WITNESS_KEY),
    },
    auditMarkFile: s.BULLA_AUDIT_MARK_FILE,
    dataKeyMaxAgeSeconds: s.BULLA_DATA_KEY_MAX_AGE,
    rootKeyMaxAgeSeconds: s.BULLA_ROOT_KEY_MAX_AGE,
    leaseTtlSeconds: s.BULLA_LEASE_TTL,
    leaseMaxTtlSeconds: Math.min(s.BULLA_LEASE_MAX_TTL, LIMITS.leaseTtlSecondsMax),
    leaseActDeadlineMs: 1000 * Math.max(1, Math.min(s.BULLA_LEASE_ACT_DEADLINE, LIMITS.leaseActDeadlineSecondsMax)),
    leasesMax: {
      tenant: s.BULLA_LEASES_PER_TENANT_MAX,
      role: s.BULLA_LEASES_PER_ROLE_MAX,
      actor: s.BULLA_LEASES_PER_ACTOR_MAX,
    },
    outboundNetworks: s.BULLA_OUTBOUND_NETWORKS,
    trustedProxies: s.BULLA_TRUSTED_PROXIES,
    sourceRefusalsPerMinute: s.BULLA_SOURCE_REFUSALS_PER_MINUTE,
    sourceRequestsPerSecond: s.BULLA_SOURCE_REQUESTS_PER_SECOND,
    metricsToken: s.BULLA_METRICS_TOKEN,
    logLevel: s.BULLA_LOG_LEVEL,
  });
}

/** For a child that is told by its parent what it needs: whatever is set for the vault, as not set. */
export function withoutSettings(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const ours = Object.keys(env).filter((name) => name.startsWith('BULLA_'));
  return Object.fromEntries(ours.map((name) => [name, undefined]));
}
