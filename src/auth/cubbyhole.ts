/**
 * Cubbyholes: texts that belong to one token, are read by nobody else, and end with it. Owns the table cubbyholes.
 *
 * Whoever holds a token may keep something in its cubbyhole, whatever the policies say: it is reached by no other token,
 * the tenant's administrators included. What a wrapping token opens lies in its cubbyhole too.
 */
import { LIMITS } from '../config.ts';
import { open, seal } from '../crypto/envelope.ts';
import type { TenantId, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import { activeDataKey, dataKey, underActiveKey } from '../tenant/keyring.ts';
import type { EnvelopeTable } from '../tenant/reencrypt.ts';
import type { Vault } from '../vault.ts';

export const CUBBYHOLES: EnvelopeTable = {
  table: 'cubbyholes',
  key: [
    { column: 'token_id', type: 'text' },
    { column: 'path', type: 'text' },
  ],
  context: (tenant, [token, path]) => ({ label: 'cubbyhole', tenant, token: token as string, path: path as string }),
  nameOf: async (_tx, _tenant, [token]) => `cubbyhole of token:${token}`,
};

const ask = { action: 'auth.cubbyhole', resource: 'token:self' } as const;

/** `path` is canonical, `text` at most LIMITS.cubbyholeBytesMax. Throws `too_large`, `conflict` when there are too many. */
export async function writeCubbyhole(vault: Vault, call: Call, path: string, text: string): Promise<void> {
  if (Buffer.byteLength(text) > LIMITS.cubbyholeBytesMax) {
    throw new VaultError('too_large', `A cubbyhole takes at most ${LIMITS.cubbyholeBytesMax} bytes under a name.`);
  }
  await permit(vault, call, ask, async (tx, { tenant, tokenId }) => {
    const [row] = await tx<{ count: number }[]>`
      SELECT count(*)::int AS count FROM cubbyholes
      WHERE tenant_id = ${tenant} AND token_id = ${tokenId} AND path <> ${path}`;
    if (row!.count >= LIMITS.cubbyholeEntriesMax) {
      throw new VaultError('conflict', `A cubbyhole has at most ${LIMITS.cubbyholeEntriesMax} entries.`);
    }
    await storeText(vault, tx, tenant, tokenId, path, text);
    return { value: undefined, notes: [{ details: { did: 'write' } }] };
  });
}

export async function readCubbyhole(vault: Vault, call: Call, path: string): Promise<string> {
  return permit(vault, call, ask, async (tx, { tenant, tokenId }) => {
    const text = await readText(vault, tx, tenant, tokenId, path);
    if (text === undefined) throw new VaultError('not_found', 'There is nothing under this name.');
    return { value: text, notes: [{ details: { did: 'read' } }] };
  });
}

/** Every path, in order: they are few. */
export async function listCubbyhole(vault: Vault, call: Call): Promise<string[]> {
  return permit(vault, call, ask, async (tx, { tenant, tokenId }) => {
    const rows = await tx<{ path: string }[]>`
      SELECT path FROM cubbyholes WHERE tenant_id = ${tenant} AND token_id = ${tokenId} ORDER BY path`;
    return { value: rows.map(({ path }) => path), notes: [{ details: { did: 'list' } }] };
  });
}

/** Also when there is nothing. */
export async function removeCubbyhole(vault: Vault, call: Call, path: string): Promise<void> {
  await permit(vault, call, ask, async (tx, { tenant, tokenId }) => {
    await removeText(tx, tenant, tokenId, path);
    return { value: undefined, notes: [{ details: { did: 'remove' } }] };
  });
}

export async function storeText(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  token: string,
  path: string,
  text: string,
): Promise<void> {
  const key = await activeDataKey(vault, tx, tenant);
  const envelope = seal(key, { label: 'cubbyhole', tenant, token, path }, Buffer.from(text));
  await underActiveKey(tx`
    INSERT INTO cubbyholes (tenant_id, token_id, path, key_version, envelope, created_at)
    VALUES (${tenant}, ${token}, ${path}, ${key.version}, ${envelope}, bulla.now())
    ON CONFLICT (tenant_id, token_id, path) DO UPDATE
      SET key_version = excluded.key_version, envelope = excluded.envelope, created_at = excluded.created_at`);
}

export async function removeText(tx: Tx, tenant: TenantId, token: string, path: string): Promise<void> {
  await tx`DELETE FROM cubbyholes WHERE tenant_id = ${tenant} AND token_id = ${token} AND path = ${path}`;
}

export async function readText(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  token: string,
  path: string,
): Promise<string | undefined> {
  const [row] = await tx<{ keyVersion: number; envelope: Uint8Array }[]>`
    SELECT key_version AS "keyVersion", envelope FROM cubbyholes
    WHERE tenant_id = ${tenant} AND token_id = ${token} AND path = ${path}`;
  if (!row) return undefined;
  const key = await dataKey(vault, tx, tenant, row.keyVersion);
  return Buffer.from(open(key, { label: 'cubbyhole', tenant, token, path }, row.envelope)).toString('utf8');
}
