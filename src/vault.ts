/**
 * The Vault value that everything takes first, and openVault(), where all of our injection happens.
 *
 * A Vault is open: its database is reached and its seal is at hand. It holds no secret in a readable form; unwrapped
 * keys are in `keys`, for a bounded time.
 */
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import type { Config } from './config.ts';
import { envelopeFingerprint } from './crypto/envelope.ts';
import { KeyCache } from './crypto/keys.ts';
import { PasswordHasher } from './crypto/password.ts';
import { randomId } from './crypto/token.ts';
import {
  closeDatabase,
  type Database,
  type Endpoint,
  openDatabase,
  SYSTEM,
  type Timestamp,
  transaction,
} from './db/database.ts';
import { VaultError } from './errors.ts';
import { SEALS } from './seal/index.ts';
import type { Seal } from './seal/seal.ts';

export type Vault = {
  readonly config: Config;
  /** Lanes for the verbs. */
  readonly db: Database;
  /** One lane for loading keys of the deployment, so that loading one inside a transaction cannot starve the pool. */
  readonly keyDb: Database;
  readonly seal: Seal;
  readonly keys: KeyCache;
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
  /** Shifts every decision on time. For tests only; nothing of the environment sets it. */
  readonly clockOffsetSeconds?: number;
};

/** The root key row must be openable before anything is served; a vault that has none yet is new. */
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
  try {
    const deployment = await readDeployment(keyDb);
    const seal = openSeal(options, deployment.root);
    return {
      config,
      db: openDatabase(databaseOptions),
      keyDb,
      seal,
      keys: new KeyCache(config.keyCacheTtlSeconds * 1000, monotonicMs),
      hasher: new PasswordHasher({
        ...config.argon2,
        concurrency: config.hashConcurrency,
        queueMax: config.hashQueueMax,
      }),
      log,
      deploymentId: deployment.id,
      clock: { monotonicMs },
    };
  } catch (error) {
    await closeDatabase(keyDb);
    throw error;
  }
}

/** Wipes the keys and ends the connections. Requests still running fail as `unavailable`. */
export async function closeVault(vault: Vault): Promise<void> {
  await Promise.all([closeDatabase(vault.db), closeDatabase(vault.keyDb), vault.hasher.close()]);
  vault.keys.clear();
  vault.seal.close();
}

type Root = { readonly seal: string; readonly wrapped: Uint8Array } | undefined;

async function readDeployment(db: Database): Promise<{ id: string; root: Root }> {
  return transaction(db, [SYSTEM], async (tx) => {
    await tx`
      INSERT INTO deployments (deployment_id, created_at) VALUES (${randomId()}, bulla.now())
      ON CONFLICT (tenant_id) DO NOTHING`;
    const [deployment] = await tx<{ deploymentId: string; createdAt: Timestamp }[]>`
      SELECT deployment_id AS "deploymentId", created_at AS "createdAt" FROM deployments`;
    const [root] = await tx<{ seal: string; wrapped: Uint8Array }[]>`
      SELECT seal, wrapped FROM root_key_material JOIN root_keys USING (tenant_id, version) WHERE state = 'active'`;
    return { id: deployment!.deploymentId, root };
  });
}

function openSeal({ config, dataDir }: VaultOptions, root: Root): Seal {
  if (root && root.seal !== config.seal) {
    throw new VaultError(
      'sealed',
      `This vault was sealed by the ${root.seal} seal, not by ${config.seal}: set BULLA_SEAL=${root.seal}.`,
    );
  }
  return SEALS[config.seal]({
    file: config.sealFile ?? join(dataDir, 'seal.key'),
    key: config.sealKey,
    create: root === undefined,
    expectedFingerprint: root && envelopeFingerprint(root.wrapped),
  });
}
