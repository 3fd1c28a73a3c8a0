/**
 * A tenant's life where it touches what every folder owns: made whole in one commit, deleted in an order that a crash
 * cannot harm. This file says only the order; each owner does its own part.
 */
import { createLog } from '../audit/append.ts';
import { hashPassword, oneTimePassword, type PasswordHash } from '../auth/password.ts';
import { removeTokens } from '../auth/token.ts';
import { insertUser, removeUsers } from '../auth/user.ts';
import type { Key } from '../crypto/keys.ts';
import { randomId } from '../crypto/token.ts';
import { asTenantId, SYSTEM, type TenantId, type Tx, transaction } from '../db/database.ts';
import { type Name, parseName } from '../db/name.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck } from '../policy/permit.ts';
import { insertBuiltInPolicies, removePolicies } from '../policy/store.ts';
import { removeSecrets } from '../secret/secret.ts';
import { activeRootKey, forgetDataKeys, rootKey } from '../tenant/keyring.ts';
import { destroyDataKeys, insertDataKey, removeDataKeyMaterial } from '../tenant/rotation.ts';
import { findTenant, insertTenant, markDeleted, markDeleting, type TenantInfo, tenantNamed } from '../tenant/tenant.ts';
import type { Vault } from '../vault.ts';

export type NewTenant = TenantInfo & {
  readonly admin: { readonly username: string; readonly oneTimePassword: string };
};

/** Makes a tenant with its data key, its log, the built-in policies and an administrator with a one-time password. */
export async function createTenant(
  vault: Vault,
  call: Call,
  { name, adminUsername = 'admin' }: { name: string; adminUsername?: string | undefined },
): Promise<NewTenant> {
  const tenantName = parseName(name, 'name');
  const admin = parseName(adminUsername, 'admin_username');
  const ask = { action: 'tenant.create', resource: `tenant:${tenantName}` } as const;
  await precheck(vault, call, ask);
  const password = oneTimePassword();
  const hash = await hashPassword(vault, password);
  const { version: root } = await activeRootKey(vault);
  const id = asTenantId(randomId());
  const tenant = await permit(
    vault,
    call,
    ask,
    async (tx) => {
      const wrapper = await rootKey(vault, root);
      const value = await insertWholeTenant(tx, id, tenantName, wrapper, { name: admin, hash, mustChange: true });
      const note = { details: { tenant_id: id, name: tenantName, admin } };
      return { value, notes: [note], elsewhere: [{ tenant: id, note }] };
    },
    { tenants: [id] },
  );
  return { ...tenant, admin: { username: admin, oneTimePassword: password } };
}

/** Everything that a tenant has from its first moment. */
export async function insertWholeTenant(
  tx: Tx,
  id: TenantId,
  name: Name,
  wrapper: Key,
  admin: { name: Name; hash: PasswordHash; mustChange: boolean },
): Promise<TenantInfo> {
  const tenant = await insertTenant(tx, id, name);
  await createLog(tx, id);
  await insertDataKey(tx, id, 1, wrapper);
  await insertBuiltInPolicies(tx, id);
  await insertUser(tx, id, { ...admin, policies: ['admin'] });
  return tenant;
}

const REMOVED_AT_ONCE = 500;

/**
 * Deletes a tenant. The first commit destroys its data keys and ends its tokens, so that nothing of it can be read or
 * done from there on; its rows follow in batches. Stopped half-way, the same call goes on. Its audit log stays.
 */
export async function deleteTenant(vault: Vault, call: Call, name: string): Promise<void> {
  const ask = { action: 'tenant.delete', resource: `tenant:${parseName(name, 'name')}` } as const;
  const found = await findTenant(vault, name);
  const id = await permit(
    vault,
    call,
    ask,
    async (tx) => {
      const tenant = await tenantNamed(tx, name);
      if (tenant.id === SYSTEM) throw new VaultError('conflict', 'The system tenant cannot be deleted.');
      await markDeleting(tx, tenant.id);
      const keys = await destroyDataKeys(tx, tenant.id);
      const tokens = await removeTokens(tx, tenant.id);
      const note = { details: { tenant_id: tenant.id, data_keys_destroyed: keys, tokens_ended: tokens } };
      return { value: tenant.id, notes: [note], elsewhere: [{ tenant: tenant.id, note, revokes: true }] };
    },
    { tenants: found ? [found] : [] },
  );
  forgetDataKeys(vault, id);
  await removeRows(vault, id);
}

async function removeRows(vault: Vault, id: TenantId): Promise<void> {
  let removed: number;
  do {
    removed = await transaction(vault.db, [id], (tx) => removeSecrets(tx, id, REMOVED_AT_ONCE));
  } while (removed > 0);
  await transaction(vault.db, [id], async (tx) => {
    await removeUsers(tx, id);
    await removePolicies(tx, id);
    await removeDataKeyMaterial(tx, id);
    await markDeleted(tx, id);
  });
}
