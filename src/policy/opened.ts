/**
 * Opening what a row of a secret holds: its version and its metadata. Both reads, the batched one and that of many
 * secrets at once, open rows here; each has decided before, and records what it gave.
 */
import { open } from '../crypto/envelope.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { dataKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';

/** One secret version, opened. `body` is the plaintext: JSON text, text, or bytes, as `kind` says. */
export type OpenedVersion = {
  readonly path: string;
  readonly version: number;
  readonly kind: 'data' | 'text' | 'bytes';
  readonly contentType: string | null;
  readonly body: Uint8Array;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp | null;
  /** The custom metadata's JSON text, or undefined where there is none. */
  readonly metadata: Uint8Array | undefined;
};

export type VersionRow = {
  readonly secretId: string;
  readonly version: number;
  readonly keyVersion: number;
  readonly kind: 'data' | 'text' | 'bytes';
  readonly contentType: string | null;
  /** Null where it is too large for a round of many, or larger than any that we make. */
  readonly envelope: Uint8Array | null;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp | null;
  readonly metadataKeyVersion: number | null;
  readonly metadataEnvelope: Uint8Array | null;
};

/** Opens what a row holds. Throws `not_found` or `integrity`. */
export async function openVersion(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  path: string,
  row: VersionRow | undefined,
): Promise<OpenedVersion> {
  if (!row) {
    throw new VaultError(
      'not_found',
      `There is no readable version of ${path}: it was never written, deleted, destroyed or has expired.`,
    );
  }
  const { secretId, version, envelope } = row;
  if (!envelope) {
    throw new VaultError('integrity', `What is stored of ${path} is larger than any secret: its row was damaged.`);
  }
  const key = await dataKey(vault, tx, tenant, row.keyVersion);
  const body = naming(path, () => open(key, { label: 'secret', tenant, secret: secretId, version }, envelope));
  let metadata: Uint8Array | undefined;
  if (row.metadataEnvelope) {
    const metadataKey = await dataKey(vault, tx, tenant, row.metadataKeyVersion!);
    const sealed = row.metadataEnvelope;
    metadata = naming(path, () => open(metadataKey, { label: 'secret-metadata', tenant, secret: secretId }, sealed));
  }
  const { kind, contentType, createdAt, expiresAt } = row;
  return { path, version, kind, contentType, body, createdAt, expiresAt, metadata };
}

/** A row that does not open is told by the name of its secret, which the envelope does not know. */
function naming<T>(path: string, openRow: () => T): T {
  try {
    return openRow();
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    throw new VaultError(error.code, `${path}: ${error.message}`);
  }
}
