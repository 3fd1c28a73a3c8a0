/**
 * The Vault value that everything takes first, and openVault(), where all of our injection happens.
 *
 * A Vault reaches its database; its seal is open, or shut until somebody opens it. It holds no secret in a readable form;
 * unwrapped keys are in `keys` and `namedKeys`, for a bounded time.
 */
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import type { Config } from './config.ts';
import { KeyCache } from './crypto/keys.ts';
import type { NamedKey } from './crypto/named-key.ts';
import { PasswordHasher } from './crypto/password.ts';
import { randomId } from './crypto/token.ts';
import { closeDatabase, type Database, type Endpoint, openDatabase, SYSTEM, transaction } from './db/database.ts';
import { assertServingRole } from './db/serving-role.ts';
import { SealHolder } from './seal/holder.ts';
import type { SealMeans } from './seal/seal.ts';

export type Vault = {
  readonly config: Config;
  /** Lanes for the verbs. */
  readonly db: Database;
  /** One lane for loading keys of the deployment, so that loading one inside a transaction cannot starve the pool. */
  readonly keyDb: Database;
  /** Open or shut; everything but unsealing fails as `sealed` while it is shut. */
  readonly seal: SealHolder;
  readonly sealMeans: SealMeans;
  readonly keys: KeyCache;
  readonly namedKeys: KeyCache<NamedKey>;
  readonly hasher: PasswordHasher;
  readonly log: Logger;
  /** 16 characters of base32, for ever: the first half of every log's origin. */
  readonly deploymentId: string;
  readonly clock: { readonly monotonicMs: () => number };
};

export type VaultOptions = {
  readonly config: Config;
  readonly target: string | Endpoint;
  readonly setRole: boolean;
  /** Where the file seal's key lies unless BULLA_SEAL_FILE says otherwise. */
  readonly dataDir: string;
  readonly log: Logger;
  /** Asks once for the passphrase of a passphrase seal; undefined where nobody answers. */
  readonly passphrase?: (purpose: 'new' | 'open') => Promise<string | undefined>;
  /** One that was made before, by `hasherOf`; it is closed with the vault. */
  readonly hasher?: PasswordHasher;
  /** Shifts every decision on time. For tests only; nothing of the environment sets it. */
  readonly clockOffsetSeconds?: number;
};

/**
 * What seals the vault must be at hand, or of a kind that people or another machine bring later; a vault without one is
 * new.
 */
export async function openVault(options: VaultOptions): Promise<Vault> {
  const { config, log } = options;
  const databaseOptions = {
    target: options.target,
    setRole: options.setRole,
    connections: config.databaseConnections,
    deadlineMs: config.requestDeadlineSeconds * 1000,
    clockOffsetSeconds: options.clockOffsetSeconds ?? 0,
  };
  const keyDb = openDatabase({ ...databaseOptions, connections: 1 });
  const monotonicMs = () => performance.now();
  const hasher = options.hasher ?? hasherOf(config);
  const keys = new KeyCache(config.keyCacheTtlSeconds * 1000, monotonicMs);
  const namedKeys = new KeyCache<NamedKey>(config.keyCacheTtlSeconds * 1000, monotonicMs);
  const clear = () => {
    keys.clear();
    namedKeys.clear();
  };
  const sealMeans = meansOf(options, hasher);
  try {
    await assertServingRole(keyDb);
    const deploymentId = await readDeployment(keyDb);
    const seal = await SealHolder.start({
      ...{ db: keyDb, keys: { clear }, deploymentId, means: sealMeans, kind: config.seal },
      ...{ graceMs: config.keyCacheTtlSeconds * 1000, nowMs: monotonicMs },
    });
    const db = openDatabase(databaseOptions);
    return { config, db, keyDb, seal, sealMeans, keys, namedKeys, hasher, log, deploymentId, clock: { monotonicMs } };
  } catch (error) {
    await Promise.all([closeDatabase(keyDb), hasher.close()]);
    throw error;
  }
}

export function hasherOf({ argon2, hashConcurrency, hashQueueMax }: Config): PasswordHasher {
  return new PasswordHasher({ ...argon2, concurrency: hashConcurrency, queueMax: hashQueueMax });
}

function meansOf({ config, dataDir, log, passphrase }: VaultOptions, hasher: PasswordHasher): SealMeans {
  return {
    file: config.sealFile ?? join(dataDir, 'seal.key'),
    key: config.sealKey,
    passphrase,
    deriveKey: (text, salt, cost) => hasher.deriveKey(text, salt, cost),
    passphraseCost: config.sealPassphraseCost,
    shamir: config.sealShamir,
    kms: config.sealKms,
    transit: config.sealTransit,
    log: (message) => log.warn({}, message),
  };
}

/** Wipes the keys and ends the connections. Requests still running fail as `unavailable`. */
export async function closeVault(vault: Vault): Promise<void> {
  await Promise.all([closeDatabase(vault.db), closeDatabase(vault.keyDb), vault.hasher.close()]);
  vault.seal.close();
}

async function readDeployment(db: Database): Promise<string> {
  return transaction(db, [SYSTEM], async (tx) => {
    await tx`
      INSERT INTO deployments (deployment_id, created_at) VALUES (${randomId()}, bulla.now())
      ON CONFLICT (tenant_id) DO NOTHING`;
    const [deployment] = await tx<{ deploymentId: string }[]>`SELECT deployment_id AS "deploymentId" FROM deployments`;
    return deployment!.deploymentId;
  });
}
