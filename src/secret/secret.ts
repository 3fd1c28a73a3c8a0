/**
 * Writing secrets: new versions, merge patches, soft deletion. Owns the tables secrets, secret_versions,
 * destroyed_versions and secret_metadata together with the other files of this folder.
 *
 * A secret is a row with an id that never changes; its ciphertexts are bound to that id, so moving a secret is renaming
 * a row. current_version only grows. What is encrypted names the data key version that opens it by a foreign key: a
 * writer that was overtaken by that key's destruction is refused by the database and runs again under the new one.
 */
import { LIMITS } from '../config.ts';
import { open, seal } from '../crypto/envelope.ts';
import { randomId } from '../crypto/token.ts';
import { RetryTransaction, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { type Note, type Permit, permit } from '../policy/permit.ts';
import { activeDataKey, dataKey, underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { mergePatch } from './document.ts';
import { settingsAt } from './mount.ts';
import type { SecretPath } from './path.ts';

export type SecretKind = 'data' | 'text' | 'bytes';

export type NewVersion = {
  readonly kind: SecretKind;
  /** JSON text of an object, UTF-8 text, or bytes, as `kind` says. At most LIMITS.secretBytesMax. */
  readonly body: Uint8Array;
  readonly contentType?: string | undefined;
  /** The version that must be the current one; 0: there must be none. */
  readonly expect?: number | undefined;
  readonly ttlSeconds?: number | undefined;
  readonly expiresAt?: Timestamp | undefined;
  /** Replaces the custom metadata. Like `versionsKept`, it is changed by who may change it, written with a version or not. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly versionsKept?: number | undefined;
  /** It is the only version that is kept: where it was written, secrets have no others. */
  readonly alone?: true | undefined;
  /** So many versions are kept at least, whatever is set. */
  readonly keptAtLeast?: number | undefined;
  /** The answer is to say the custom metadata, to whoever may read it. */
  readonly tellMetadata?: true | undefined;
};

export type Written = {
  readonly created: boolean;
  readonly path: string;
  readonly version: number;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp | null;
  /** Of the secret, as it is now, where `tellMetadata` asked for it. */
  readonly metadata?: Readonly<Record<string, string>>;
};

export type SecretRow = {
  readonly secretId: string;
  readonly currentVersion: number;
  readonly versionsKept: number | null;
  readonly casRequired: boolean;
  readonly deleteAfterSeconds: number | null;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export const secretAsk = (action: Action, path: SecretPath) => ({ action, resource: `secret:${path}` }) as const;

/** Stores a new version. Throws `version_mismatch`, `too_large`, `invalid_request` beside what the gate throws. */
export async function putSecret(vault: Vault, call: Call, path: SecretPath, version: NewVersion): Promise<Written> {
  checkVersion(version);
  const changes = version.metadata !== undefined || version.versionsKept !== undefined;
  const asks = [secretAsk('secret.write', path), ...(changes ? [secretAsk('secret.metadata-write', path)] : [])];
  return permit(vault, call, asks, async (tx, granted) => {
    const secret = await findOrInsert(tx, granted.tenant, path);
    const written = await insertVersion(vault, tx, granted, path, secret, version);
    return { value: written, notes: [{ version: written.version }] };
  });
}

/** Applies an RFC 7396 merge patch (JSON text) to the current `data` and stores the result as a new version. */
export async function patchSecret(
  vault: Vault,
  call: Call,
  path: SecretPath,
  { patch, ...asked }: { patch: string } & Pick<NewVersion, 'expect' | 'tellMetadata'>,
): Promise<Written> {
  return permit(vault, call, secretAsk('secret.write', path), async (tx, granted) => {
    const secret = await lockSecret(tx, granted.tenant, path);
    // Said before whether there is anything to patch: what came first is what was wrong.
    expectVersion(path, secret.currentVersion, asked.expect);
    const text = await currentData(vault, tx, granted.tenant, path, secret);
    const version: NewVersion = { kind: 'data', body: Buffer.from(mergePatch(text, patch)), ...asked };
    checkVersion(version);
    const written = await insertVersion(vault, tx, granted, path, secret, version);
    return { value: written, notes: [{ version: written.version, details: { patch: true } }] };
  });
}

/** What an act on versions does with those that are not there: refuses the whole act, or leaves them out. */
export type Missing = 'refuse' | 'skip';

/** Soft deletion: the versions can be undeleted. Without `versions`, the current one. */
export async function deleteVersions(
  vault: Vault,
  call: Call,
  path: SecretPath,
  versions: readonly number[] | undefined,
  missing: Missing = 'refuse',
): Promise<void> {
  const named = versions && checkVersions(versions);
  await permit(vault, call, secretAsk('secret.delete', path), async (tx, { tenant }) => {
    const secret = await lockSecret(tx, tenant, path);
    const wanted = named ?? [secret.currentVersion];
    const rows = await tx<{ version: number }[]>`
      UPDATE secret_versions SET deleted_at = coalesce(deleted_at, bulla.now())
      WHERE tenant_id = ${tenant} AND secret_id = ${secret.secretId} AND version = ANY (${[...wanted]}::int[])
      RETURNING version`;
    return { value: undefined, notes: notesOf(path, wanted, rows, missing) };
  });
}

/** One entry a version that was there. With `refuse`, every version that was named must be: all or nothing. */
export function notesOf(
  path: string,
  wanted: readonly number[],
  rows: readonly { version: number }[],
  missing: Missing,
): Note[] {
  if (missing === 'refuse') requireAll(path, wanted, rows);
  const there = wanted.filter((version) => rows.some((row) => row.version === version));
  return there.length > 0 ? there.map((version) => ({ version })) : [{ details: { versions: 0 } }];
}

/** The versions of a request, each once. An act on none would leave no entry: it is refused. */
export function checkVersions(versions: readonly number[]): number[] {
  if (versions.length > 0) return [...new Set(versions)];
  throw new VaultError('invalid_request', 'versions: expected at least one version number.');
}

function requireAll(path: string, wanted: readonly number[], rows: readonly { version: number }[]): void {
  const missing = wanted.filter((version) => !rows.some((row) => row.version === version));
  if (missing.length > 0) throw new VaultError('not_found', `${path} has no version ${missing.join(', ')}.`);
}

/** The secret's row, locked until the commit. Throws `not_found`. */
export async function lockSecret(tx: Tx, tenant: TenantId, path: SecretPath): Promise<SecretRow> {
  return (await findSecret(tx, tenant, path, 'lock')) ?? fail(noSecret(path));
}

/** The secret's row, to look at. Throws `not_found`. */
export async function secretAt(tx: Tx, tenant: TenantId, path: SecretPath): Promise<SecretRow> {
  return (await findSecret(tx, tenant, path)) ?? fail(noSecret(path));
}

const noSecret = (path: string) => new VaultError('not_found', `There is no secret ${path}.`);

const SECRET_COLUMNS = `secret_id AS "secretId", current_version AS "currentVersion", versions_kept AS "versionsKept",
  cas_required AS "casRequired", delete_after_seconds AS "deleteAfterSeconds", created_at AS "createdAt",
  updated_at AS "updatedAt"`;

async function findSecret(tx: Tx, tenant: TenantId, path: SecretPath, lock?: 'lock'): Promise<SecretRow | undefined> {
  const [row] = await tx<SecretRow[]>`
    SELECT ${tx.unsafe(SECRET_COLUMNS)} FROM secrets WHERE tenant_id = ${tenant} AND path = ${path} ${lock ? tx`FOR UPDATE` : tx``}`;
  return row;
}

/** The secret's row, locked; made when it is not there, without a version. */
export async function findOrInsert(tx: Tx, tenant: TenantId, path: SecretPath): Promise<SecretRow> {
  const found = await findSecret(tx, tenant, path, 'lock');
  if (found) return found;
  const [row] = await tx<SecretRow[]>`
    INSERT INTO secrets (tenant_id, secret_id, path, current_version, created_at, updated_at)
    VALUES (${tenant}, ${randomId()}, ${path}, 0, bulla.now(), bulla.now()) ON CONFLICT (tenant_id, path) DO NOTHING
    RETURNING ${tx.unsafe(SECRET_COLUMNS)}`;
  // Somebody else made it meanwhile and has committed: it is there to be locked, unless it was removed again.
  return row ?? (await findSecret(tx, tenant, path, 'lock')) ?? fail(new RetryTransaction());
}

function fail(error: Error): never {
  throw error;
}

function expectVersion(path: string, current: number, expect: number | undefined): void {
  if (expect === undefined || expect === current) return;
  throw new VaultError(
    'version_mismatch',
    `${path} is at version ${current}, not ${expect}: read it again and repeat the change.`,
    {
      details: { current_version: current },
    },
  );
}

function casRequired(path: string): VaultError {
  return new VaultError(
    'invalid_request',
    `cas: ${path} is only written by who says which version is current: read it and send its version, or 0 for a new one.`,
    { details: { reason: 'cas_required' } },
  );
}

const shorter = (a: number | null, b: number | null) => (a === null || b === null ? (a ?? b) : Math.min(a, b));

export function checkVersion({ body, ttlSeconds, expiresAt, metadata, versionsKept }: NewVersion): void {
  if (body.length > LIMITS.secretBytesMax) {
    throw new VaultError(
      'too_large',
      `A secret holds at most ${LIMITS.secretBytesMax} bytes; this one has ${body.length}.`,
    );
  }
  if (ttlSeconds !== undefined && expiresAt !== undefined) {
    throw new VaultError('invalid_request', 'Give either ttl or expires_at, not both.');
  }
  if (metadata) checkMetadata(metadata);
  if (versionsKept !== undefined) checkVersionsKept(versionsKept);
}

export function checkVersionsKept(count: number): void {
  if (!Number.isInteger(count) || count < 1 || count > LIMITS.secretVersionsKeptMax) {
    throw new VaultError(
      'invalid_request',
      `versions_kept: expected a whole number from 1 to ${LIMITS.secretVersionsKeptMax}.`,
    );
  }
}

export function checkMetadata(metadata: Readonly<Record<string, string>>): void {
  if (Buffer.byteLength(JSON.stringify(metadata)) > LIMITS.metadataBytesMax) {
    throw new VaultError('too_large', `metadata: expected at most ${LIMITS.metadataBytesMax} bytes of JSON.`);
  }
}

/** Who writes: somebody with leave to, or the vault itself. */
export type Writer = Pick<Permit, 'tenant' | 'userId' | 'allows'>;

/** `secret` is locked. */
export async function insertVersion(
  vault: Vault,
  tx: Tx,
  granted: Writer,
  path: SecretPath,
  secret: SecretRow,
  asked: NewVersion,
): Promise<Written> {
  const { kind, body, contentType, expect, ttlSeconds, expiresAt, metadata, versionsKept, alone, tellMetadata } = asked;
  const { tenant, userId } = granted;
  const [settings, key] = await Promise.all([settingsAt(tx, tenant, path), activeDataKey(vault, tx, tenant)]);
  if (expect === undefined && (secret.casRequired || settings.casRequired)) throw casRequired(path);
  expectVersion(path, secret.currentVersion, expect);
  const version = secret.currentVersion + 1;
  if (version > LIMITS.versionMax)
    throw new VaultError('conflict', `${path} has had as many versions as can be counted.`);
  const envelope = seal(key, { label: 'secret', tenant, secret: secret.secretId, version }, body);
  const kept = alone ? 1 : (versionsKept ?? secret.versionsKept);
  const deleteAfter = shorter(secret.deleteAfterSeconds, settings.deleteAfterSeconds);
  const [row] = await underActiveKey(
    tx<{ createdAt: Timestamp; expiresAt: Timestamp | null }[]>`
      WITH clock AS MATERIALIZED (SELECT bulla.now() AS now), parent AS (
        UPDATE secrets SET current_version = ${version}, versions_kept = ${kept}, updated_at = now
        FROM clock WHERE tenant_id = ${tenant} AND secret_id = ${secret.secretId}
      )
      INSERT INTO secret_versions
        (tenant_id, secret_id, version, key_version, kind, content_type, envelope, created_at, created_by, expires_at)
      SELECT ${tenant}, ${secret.secretId}, ${version}, ${key.version}, ${kind}, ${contentType ?? null}, ${envelope}, now,
             ${userId}, least(${expiresAt ?? null}::timestamptz, now + make_interval(secs => ${ttlSeconds ?? null}),
                              now + make_interval(secs => ${deleteAfter}))
      FROM clock RETURNING created_at AS "createdAt", expires_at AS "expiresAt"`,
  );
  const most = kept ?? settings.versionsKept ?? vault.config.secretVersionsKept;
  await prune(tx, tenant, secret.secretId, version - Math.max(most, asked.keptAtLeast ?? 1));
  if (metadata) await storeMetadata(vault, tx, tenant, secret.secretId, metadata);
  const told =
    tellMetadata && granted.allows(secretAsk('secret.metadata-read', path))
      ? { metadata: await openMetadata(vault, tx, tenant, secret.secretId) }
      : {};
  return { created: version === 1, path, version, ...row!, ...told };
}

async function prune(tx: Tx, tenant: TenantId, secretId: string, upTo: number): Promise<void> {
  if (upTo < 1) return;
  await Promise.all([
    tx`DELETE FROM secret_versions WHERE tenant_id = ${tenant} AND secret_id = ${secretId} AND version <= ${upTo}`,
    tx`DELETE FROM destroyed_versions WHERE tenant_id = ${tenant} AND secret_id = ${secretId} AND version <= ${upTo}`,
  ]);
}

/** Seals and stores the custom metadata of a secret. */
export async function storeMetadata(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  secretId: string,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const key = await activeDataKey(vault, tx, tenant);
  const envelope = seal(
    key,
    { label: 'secret-metadata', tenant, secret: secretId },
    Buffer.from(JSON.stringify(metadata)),
  );
  await underActiveKey(tx`
    INSERT INTO secret_metadata (tenant_id, secret_id, key_version, envelope, updated_at)
    VALUES (${tenant}, ${secretId}, ${key.version}, ${envelope}, bulla.now())
    ON CONFLICT (tenant_id, secret_id) DO UPDATE
      SET key_version = excluded.key_version, envelope = excluded.envelope, updated_at = excluded.updated_at`);
}

/** The custom metadata of a secret; none is an empty object. */
export async function openMetadata(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  secret: string,
): Promise<Record<string, string>> {
  const [row] = await tx<{ keyVersion: number; envelope: Uint8Array }[]>`
    SELECT key_version AS "keyVersion", envelope FROM secret_metadata
    WHERE tenant_id = ${tenant} AND secret_id = ${secret}`;
  if (!row) return {};
  const key = await dataKey(vault, tx, tenant, row.keyVersion);
  return JSON.parse(
    Buffer.from(open(key, { label: 'secret-metadata', tenant, secret }, row.envelope)).toString('utf8'),
  );
}

/** Throws `not_found` and `conflict` where there is no JSON object to change. */
export async function currentData(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  path: SecretPath,
  secret: SecretRow,
): Promise<string> {
  const [row] = await tx<{ keyVersion: number; kind: SecretKind; envelope: Uint8Array }[]>`
    SELECT key_version AS "keyVersion", kind, envelope FROM secret_versions
    WHERE tenant_id = ${tenant} AND secret_id = ${secret.secretId} AND version = ${secret.currentVersion}
      AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > bulla.now())`;
  if (!row) throw new VaultError('not_found', `${path} has no readable current version to patch: put a new one.`);
  if (row.kind !== 'data')
    throw new VaultError('conflict', `${path} holds ${row.kind}: only a JSON object can be patched.`);
  const key = await dataKey(vault, tx, tenant, row.keyVersion);
  const context = { label: 'secret', tenant, secret: secret.secretId, version: secret.currentVersion } as const;
  return Buffer.from(open(key, context, row.envelope)).toString('utf8');
}

/** Removes every secret of a tenant that is being deleted, a batch at a time. Returns how many went. */
export async function removeSecrets(tx: Tx, tenant: TenantId, limit: number): Promise<number> {
  const rows = await tx`
    DELETE FROM secrets WHERE tenant_id = ${tenant} AND secret_id IN (
      SELECT secret_id FROM secrets WHERE tenant_id = ${tenant} LIMIT ${limit}) RETURNING secret_id`;
  return rows.length;
}

export async function countSecrets(tx: Tx, tenant: TenantId): Promise<number> {
  const [row] = await tx<{ count: number }[]>`SELECT count(*) FROM secrets WHERE tenant_id = ${tenant}`;
  return row!.count;
}
