/**
 * Opening what a row of a secret holds: its version and its metadata. Both reads, the batched one and that of many
 * secrets at once, open rows here; each has decided before, and records what it gave.
 */
import type { Redeemed } from '../approval/redeem.ts';
import type { Context } from '../crypto/context.ts';
import { open } from '../crypto/envelope.ts';
import type { Key } from '../crypto/keys.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { bytea, int4, nextRow, packed, text, timestamptz } from '../db/packed.ts';
import { VaultError } from '../errors.ts';
import { cachedDataKey, dataKey } from '../tenant/keyring.ts';
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

const PACKED_FIELDS = 11;

/**
 * The rows of `string_agg(record_send(ROW(n, secret_id, version, key_version, kind, content_type, envelope, created_at,
 * expires_at, metadata's key_version, its envelope)), '')`, where n is the place of the row in the answer, from 1.
 */
export function unpackVersions(value: Uint8Array | null, count: number): (VersionRow | undefined)[] {
  const rows: (VersionRow | undefined)[] = new Array(count).fill(undefined);
  const from = packed(value);
  while (nextRow(from, PACKED_FIELDS)) {
    const place = int4(from)! - 1;
    rows[place] = {
      secretId: text(from)!,
      version: int4(from)!,
      keyVersion: int4(from)!,
      kind: text(from) as VersionRow['kind'],
      contentType: text(from),
      envelope: bytea(from),
      createdAt: timestamptz(from)!,
      expiresAt: timestamptz(from),
      metadataKeyVersion: int4(from),
      metadataEnvelope: bytea(from),
    };
  }
  return rows;
}

/** Opens what a row holds. Throws `not_found` or `integrity`. */
export async function openVersion(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  path: string,
  row: VersionRow | undefined,
): Promise<OpenedVersion> {
  const opened = openVersionAtOnce(vault, tenant, path, row);
  if (opened) return opened;
  const there = row!;
  const body = openBody(await dataKey(vault, tx, tenant, there.keyVersion), tenant, path, there);
  if (there.metadataKeyVersion === null) return openedOf(path, there, body, undefined);
  const metadataKey = await dataKey(vault, tx, tenant, there.metadataKeyVersion);
  return openedOf(path, there, body, openMetadata(metadataKey, tenant, path, there));
}

/** The same where the keys are in memory, and undefined where they are not. */
export function openVersionAtOnce(
  vault: Vault,
  tenant: TenantId,
  path: string,
  row: VersionRow | undefined,
): OpenedVersion | undefined {
  if (!row) {
    throw new VaultError(
      'not_found',
      `There is no readable version of ${path}: it was never written, deleted, destroyed or has expired.`,
    );
  }
  if (!row.envelope) {
    throw new VaultError('integrity', `What is stored of ${path} is larger than any secret: its row was damaged.`);
  }
  const key = cachedDataKey(vault, tenant, row.keyVersion);
  if (!key) return undefined;
  if (row.metadataKeyVersion === null) return openedOf(path, row, openBody(key, tenant, path, row), undefined);
  const metadataKey = cachedDataKey(vault, tenant, row.metadataKeyVersion);
  if (!metadataKey) return undefined;
  return openedOf(path, row, openBody(key, tenant, path, row), openMetadata(metadataKey, tenant, path, row));
}

function openedOf(path: string, row: VersionRow, body: Uint8Array, metadata: Uint8Array | undefined): OpenedVersion {
  const { version, kind, contentType, createdAt, expiresAt } = row;
  return { path, version, kind, contentType, body, createdAt, expiresAt, metadata };
}

function openBody(key: Key, tenant: TenantId, path: string, { secretId, version, envelope }: VersionRow): Uint8Array {
  return openNamed(key, { label: 'secret', tenant, secret: secretId, version }, envelope!, path);
}

function openMetadata(
  key: Key,
  tenant: TenantId,
  path: string,
  { secretId, metadataEnvelope }: VersionRow,
): Uint8Array {
  return openNamed(key, { label: 'secret-metadata', tenant, secret: secretId }, metadataEnvelope!, path);
}

/** A row that does not open is told by the name of its secret, which the envelope does not know. */
function openNamed(key: Key, context: Context, envelope: Uint8Array, path: string): Uint8Array {
  try {
    return open(key, context, envelope);
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    throw new VaultError(error.code, `${path}: ${error.message}`);
  }
}

/** An approval is for one version: what became current since needs another. */
export function checkApproved(approved: ReadonlyMap<string, Redeemed>, { path, version }: OpenedVersion): void {
  const approval = approved.get(`secret:${path}`);
  if (approval === undefined || approval.subject === String(version)) return;
  throw new VaultError(
    'approval_required',
    `Version ${approval.subject} of ${path} was approved, and the current one is ${version}: ask with its number, or for an approval of this one.`,
    { details: { action: 'secret.read', resource: `secret:${path}` } },
  );
}
