/** What is known of a secret beside its versions: custom metadata (sealed like a value) and settings; and removing it whole. */
import type { Timestamp } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { checkVersionsKept } from './insert.ts';
import { checkDeleteAfter } from './mount.ts';
import type { SecretPath } from './path.ts';
import {
  checkMetadata,
  findOrInsert,
  lockSecret,
  openMetadata,
  type SecretRow,
  secretAsk,
  secretAt,
  storeMetadata,
} from './row.ts';
import { type VersionInfo, versionsOf } from './version.ts';

export type Metadata = {
  readonly path: string;
  readonly currentVersion: number;
  readonly versionsKept: number;
  readonly casRequired: boolean;
  readonly deleteAfterSeconds: number | null;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
  readonly metadata: Readonly<Record<string, string>>;
};

export type MetadataChange = {
  /** A merge patch: a member is set, or removed by null. */
  readonly metadata?: Readonly<Record<string, string | null>> | undefined;
  /** Null: what the mount says. */
  readonly versionsKept?: number | null | undefined;
  readonly casRequired?: boolean | undefined;
  readonly deleteAfterSeconds?: number | null | undefined;
  /** `metadata` takes the place of what was there before. */
  readonly replace?: boolean | undefined;
  /** A secret that is not there is made, without a version. */
  readonly create?: true;
};

/** What was set for the secret itself, and each of its versions that is kept: one ask, one entry. */
export type Described = Metadata & {
  readonly own: Pick<SecretRow, 'versionsKept' | 'deleteAfterSeconds'>;
  readonly versions: readonly VersionInfo[];
};

export async function readMetadata(vault: Vault, call: Call, path: SecretPath): Promise<Metadata> {
  return permit(vault, call, secretAsk('secret.metadata-read', path), async (tx, { tenant }) => {
    const secret = await secretAt(tx, tenant, path);
    return { value: describe(vault, path, secret, await openMetadata(vault, tx, tenant, secret.secretId)) };
  });
}

/** Metadata and history together. */
export async function describeSecret(vault: Vault, call: Call, path: SecretPath): Promise<Described> {
  const asks = [secretAsk('secret.metadata-read', path), secretAsk('secret.history', path)];
  return permit(vault, call, asks, async (tx, { tenant }) => {
    const secret = await secretAt(tx, tenant, path);
    const metadata = await openMetadata(vault, tx, tenant, secret.secretId);
    const versions = await versionsOf(tx, tenant, secret.secretId);
    return { value: { ...describe(vault, path, secret, metadata), own: secret, versions } };
  });
}

/**
 * What is known of one version without its value: for whoever may read it and finds that it cannot be read.
 * `version` 0 is the current one. Throws `not_found` when there is no such version.
 */
export async function describeVersion(
  vault: Vault,
  call: Call,
  path: SecretPath,
  version: number,
): Promise<VersionInfo & Pick<Metadata, 'metadata'>> {
  return permit(vault, call, secretAsk('secret.read', path), async (tx, { tenant }) => {
    const { secretId, currentVersion } = await secretAt(tx, tenant, path);
    const wanted = version === 0 ? currentVersion : version;
    const found = (await versionsOf(tx, tenant, secretId)).find((one) => one.version === wanted);
    if (!found) throw new VaultError('not_found', `${path} has no version ${wanted}.`);
    const metadata = await openMetadata(vault, tx, tenant, secretId);
    return { value: { ...found, metadata }, notes: [{ action: 'secret.history', version: wanted }] };
  });
}

export async function patchMetadata(
  vault: Vault,
  call: Call,
  path: SecretPath,
  change: MetadataChange,
): Promise<Metadata> {
  if (change.versionsKept != null) checkVersionsKept(change.versionsKept);
  if (change.deleteAfterSeconds != null) checkDeleteAfter(change.deleteAfterSeconds);
  return permit(vault, call, secretAsk('secret.metadata-write', path), async (tx, { tenant }) => {
    const secret = await (change.create ? findOrInsert : lockSecret)(tx, tenant, path);
    const before = change.replace ? {} : await openMetadata(vault, tx, tenant, secret.secretId);
    const merged = Object.fromEntries(
      Object.entries({ ...before, ...change.metadata }).filter(
        (member): member is [string, string] => member[1] !== null,
      ),
    );
    checkMetadata(merged);
    if (change.metadata) await storeMetadata(vault, tx, tenant, secret.secretId, merged);
    const after: SecretRow = { ...secret, ...settingsIn(change) };
    const [row] = await tx<{ updatedAt: Timestamp }[]>`
      UPDATE secrets SET versions_kept = ${after.versionsKept}, cas_required = ${after.casRequired},
        delete_after_seconds = ${after.deleteAfterSeconds}, updated_at = bulla.now()
      WHERE tenant_id = ${tenant} AND secret_id = ${secret.secretId} RETURNING updated_at AS "updatedAt"`;
    return { value: describe(vault, path, { ...after, ...row! }, merged) };
  });
}

/** The settings that a change names; null unsets. */
function settingsIn({ versionsKept, casRequired, deleteAfterSeconds }: MetadataChange): Partial<SecretRow> {
  return {
    ...(versionsKept === undefined ? {} : { versionsKept }),
    ...(casRequired === undefined ? {} : { casRequired }),
    ...(deleteAfterSeconds === undefined ? {} : { deleteAfterSeconds }),
  };
}

/** The secret, all its versions and its metadata are gone for good; only the audit log still names it. */
export async function removeSecret(vault: Vault, call: Call, path: SecretPath): Promise<void> {
  await permit(vault, call, { ...secretAsk('secret.destroy', path), subject: 'all' }, async (tx, { tenant }) => {
    const { secretId, currentVersion } = await lockSecret(tx, tenant, path);
    await tx`DELETE FROM secrets WHERE tenant_id = ${tenant} AND secret_id = ${secretId}`;
    return { value: undefined, notes: [{ details: { all_versions: true, current_version: currentVersion } }] };
  });
}

function describe(vault: Vault, path: string, secret: SecretRow, metadata: Record<string, string>): Metadata {
  const { currentVersion, casRequired, deleteAfterSeconds, createdAt, updatedAt } = secret;
  const versionsKept = secret.versionsKept ?? vault.config.secretVersionsKept;
  return { path, currentVersion, versionsKept, casRequired, deleteAfterSeconds, createdAt, updatedAt, metadata };
}
