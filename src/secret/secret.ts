/**
 * Writing secrets: new versions, merge patches, soft deletion. Owns the tables secrets, secret_versions,
 * destroyed_versions and secret_metadata together with the other files of this folder.
 *
 * A secret is a row with an id that never changes; its ciphertexts are bound to that id, so moving a secret is renaming
 * a row. Puts of one tenant that come together are stored together (policy/together.ts); how, insert.ts says.
 */
import { open } from '../crypto/envelope.ts';
import type { TenantId, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Note, permit } from '../policy/permit.ts';
import { type Permitted, together } from '../policy/together.ts';
import { dataKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { mergePatch } from './document.ts';
import {
  checkVersion,
  groundOf,
  insertVersion,
  insertVersions,
  type NewVersion,
  type SecretKind,
  versionMismatch,
  type Written,
} from './insert.ts';
import type { SecretPath } from './path.ts';
import { findOrInsert, findOrInsertAll, lockSecret, type SecretRow, secretAsk } from './row.ts';

type Put = { readonly path: SecretPath; readonly version: NewVersion };

/** Stores a new version. Throws `version_mismatch`, `too_large`, `invalid_request` beside what the gate throws. */
export async function putSecret(vault: Vault, call: Call, path: SecretPath, version: NewVersion): Promise<Written> {
  checkVersion(version);
  const isShared = !changesMetadata(version) && version.body.length <= SHARED_BODY_BYTES_MAX;
  return (isShared ? putTogether : putAlone)(vault, call, { path, version });
}

const changesMetadata = ({ metadata, versionsKept }: NewVersion) =>
  metadata !== undefined || versionsKept !== undefined;

/** What is larger is put by itself, which bounds what a round holds in memory. */
const SHARED_BODY_BYTES_MAX = 16 * 1024;

async function putAlone(vault: Vault, call: Call, { path, version }: Put): Promise<Written> {
  const also = changesMetadata(version) ? [secretAsk('secret.metadata-write', path)] : [];
  return permit(vault, call, [secretAsk('secret.write', path), ...also], async (tx, writer) => {
    const secret = await findOrInsert(tx, writer.tenant, path);
    const written = await insertVersion(vault, tx, writer.tenant, { writer, path, secret, asked: version });
    return { value: written, notes: [{ version: written.version }] };
  });
}

const putTogether = together<Put, Written>({
  ask: ({ path }) => secretAsk('secret.write', path),
  key: ({ path }) => path,
  act: putAll,
  alone: putAlone,
});

/** Who may not put this version, or whose secret comes and goes, is left out, and hears of it when they put it alone. */
async function putAll(vault: Vault, tx: Tx, members: readonly Permitted<Put>[]) {
  const { tenant } = members[0]!.permit;
  const paths = members.map(({ item }) => item.path);
  const [secrets, ground] = await Promise.all([findOrInsertAll(tx, tenant, paths), groundOf(vault, tx, tenant, paths)]);
  const insertions = members.flatMap(({ permit: writer, item: { path, version: asked } }) => {
    const secret = secrets.get(path);
    return secret ? [{ writer, path, secret, asked }] : [];
  });
  const written = await insertVersions(vault, tx, tenant, ground, insertions);
  const stored = new Map(written.flatMap((one) => (one instanceof VaultError ? [] : [[one.path, one] as const])));
  return paths.map((path) => {
    const value = stored.get(path);
    return value && { value, notes: [{ version: value.version }] };
  });
}

/** Applies an RFC 7396 merge patch (JSON text) to the current `data` and stores the result as a new version. */
export async function patchSecret(
  vault: Vault,
  call: Call,
  path: SecretPath,
  { patch, ...asked }: { patch: string } & Pick<NewVersion, 'expect' | 'tellMetadata'>,
): Promise<Written> {
  return permit(vault, call, secretAsk('secret.write', path), async (tx, writer) => {
    const { tenant } = writer;
    const secret = await lockSecret(tx, tenant, path);
    // Said before whether there is anything to patch: what came first is what was wrong.
    const mismatch = versionMismatch(path, secret.currentVersion, asked.expect);
    if (mismatch) throw mismatch;
    const text = await currentData(vault, tx, tenant, path, secret);
    const version: NewVersion = { kind: 'data', body: Buffer.from(mergePatch(text, patch)), ...asked };
    checkVersion(version);
    const written = await insertVersion(vault, tx, tenant, { writer, path, secret, asked: version });
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
