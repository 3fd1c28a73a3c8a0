/** What is known of a secret beside its versions: custom metadata (sealed like a value) and settings; and removing it whole. */
import { open } from '../crypto/envelope.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import { dataKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import type { SecretPath } from './path.ts';
import {
  checkMetadata,
  checkVersionsKept,
  lockSecret,
  type SecretRow,
  secretAsk,
  secretAt,
  storeMetadata,
} from './secret.ts';

export type Metadata = {
  readonly path: string;
  readonly currentVersion: number;
  readonly versionsKept: number;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
  readonly metadata: Readonly<Record<string, string>>;
};

export type MetadataChange = {
  /** A merge patch: a member is set, or removed by null. */
  readonly metadata?: Readonly<Record<string, string | null>> | undefined;
  readonly versionsKept?: number | undefined;
};

export async function readMetadata(vault: Vault, call: Call, path: SecretPath): Promise<Metadata> {
  return permit(vault, call, secretAsk('secret.metadata-read', path), async (tx, { tenant }) => {
    const secret = await secretAt(tx, tenant, path);
    return { value: describe(vault, path, secret, await openMetadata(vault, tx, tenant, secret.secretId)) };
  });
}

export async function patchMetadata(
  vault: Vault,
  call: Call,
  path: SecretPath,
  change: MetadataChange,
): Promise<Metadata> {
  if (change.versionsKept !== undefined) checkVersionsKept(change.versionsKept);
  return permit(vault, call, secretAsk('secret.metadata-write', path), async (tx, { tenant }) => {
    const secret = await lockSecret(tx, tenant, path);
    const before = await openMetadata(vault, tx, tenant, secret.secretId);
    const merged = Object.fromEntries(
      Object.entries({ ...before, ...change.metadata }).filter(
        (member): member is [string, string] => member[1] !== null,
      ),
    );
    checkMetadata(merged);
    if (change.metadata) await storeMetadata(vault, tx, tenant, secret.secretId, merged);
    const kept = change.versionsKept ?? secret.versionsKept;
    const [row] = await tx<{ updatedAt: Timestamp }[]>`
      UPDATE secrets SET versions_kept = ${kept}, updated_at = bulla.now()
      WHERE tenant_id = ${tenant} AND secret_id = ${secret.secretId} RETURNING updated_at AS "updatedAt"`;
    return { value: describe(vault, path, { ...secret, versionsKept: kept, ...row! }, merged) };
  });
}

/** The secret, all its versions and its metadata are gone for good; only the audit log still names it. */
export async function removeSecret(vault: Vault, call: Call, path: SecretPath): Promise<void> {
  await permit(vault, call, secretAsk('secret.destroy', path), async (tx, { tenant }) => {
    const { secretId, currentVersion } = await lockSecret(tx, tenant, path);
    await tx`DELETE FROM secrets WHERE tenant_id = ${tenant} AND secret_id = ${secretId}`;
    return { value: undefined, notes: [{ details: { all_versions: true, current_version: currentVersion } }] };
  });
}

async function openMetadata(vault: Vault, tx: Tx, tenant: TenantId, secret: string): Promise<Record<string, string>> {
  const [row] = await tx<{ keyVersion: number; envelope: Uint8Array }[]>`
    SELECT key_version AS "keyVersion", envelope FROM secret_metadata
    WHERE tenant_id = ${tenant} AND secret_id = ${secret}`;
  if (!row) return {};
  const key = await dataKey(vault, tx, tenant, row.keyVersion);
  return JSON.parse(
    Buffer.from(open(key, { label: 'secret-metadata', tenant, secret }, row.envelope)).toString('utf8'),
  );
}

function describe(vault: Vault, path: string, secret: SecretRow, metadata: Record<string, string>): Metadata {
  const { currentVersion, createdAt, updatedAt } = secret;
  const versionsKept = secret.versionsKept ?? vault.config.secretVersionsKept;
  return { path, currentVersion, versionsKept, createdAt, updatedAt, metadata };
}
