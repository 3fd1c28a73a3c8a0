/**
 * A tenant's life where it touches what every folder owns: made whole in one commit, deleted in an order that a crash
 * cannot harm. This file says only the order; each owner does its own part.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { removeApprovals } from '../approval/approval.ts';
import { createLog, readHead } from '../audit/append.ts';
import { VAULT_ACTOR } from '../audit/entry.ts';
import { removeAuthorities } from '../auth/authority.ts';
import { removeIssuers } from '../auth/issuer.ts';
import { hashOneTimePassword, type NewPassword, oneTimePassword } from '../auth/password.ts';
import { removeTokens } from '../auth/token.ts';
import { removeTokenRoles } from '../auth/token-role.ts';
import { insertUser, removeUsers } from '../auth/user.ts';
import type { Key } from '../crypto/keys.ts';
import { rootOf } from '../crypto/merkle.ts';
import { randomId } from '../crypto/token.ts';
import { asTenantId, SYSTEM, type TenantId, type Tx, transaction } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { type Name, parseName } from '../db/name.ts';
import { VaultError } from '../errors.ts';
import { condemnTenant, dropLeases, hasLeasesOutside, removeLeases } from '../lease/removal.ts';
import type { Call } from '../policy/access.ts';
import { removeGroups } from '../policy/group.ts';
import { type Act, permit, precheck } from '../policy/permit.ts';
import { insertBuiltInPolicies, removePolicies } from '../policy/store.ts';
import { removeMounts } from '../secret/mount.ts';
import { countSecrets, removeSecrets } from '../secret/row.ts';
import { activeRootKey, forgetDataKeys } from '../tenant/keyring.ts';
import { destroyDataKeys, insertDataKey, removeDataKeyMaterial } from '../tenant/rotation.ts';
import {
  findTenant,
  insertTenant,
  markDeleted,
  markDeleting,
  removeUsage,
  type TenantInfo,
  tenantNamed,
} from '../tenant/tenant.ts';
import { forgetNamedKeys, removeNamedKeys } from '../transit/key.ts';
import type { Vault } from '../vault.ts';
import { insertJob, openJob, removeJobs } from './job.ts';
import { runJob, type Work } from './runner.ts';

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
  const once = oneTimePassword();
  const password = await hashOneTimePassword(vault, once);
  const id = asTenantId(randomId());
  const tenant = await permit(
    vault,
    call,
    ask,
    async (tx) => {
      const wrapper = () => activeRootKey(vault);
      const value = await insertWholeTenant(tx, id, tenantName, wrapper, { name: admin, password });
      const note = { details: { tenant_id: id, name: tenantName, admin } };
      return { value, notes: [note], elsewhere: [{ tenant: id, note }] };
    },
    { tenants: [id] },
  );
  return { ...tenant, admin: { username: admin, oneTimePassword: once } };
}

/** Everything that a tenant has from its first moment. `wrapper` gives the root key when it is used at once. */
export async function insertWholeTenant(
  tx: Tx,
  id: TenantId,
  name: Name,
  wrapper: () => Promise<Key>,
  admin: { name: Name; password: NewPassword },
): Promise<TenantInfo> {
  const tenant = await insertTenant(tx, id, name);
  await createLog(tx, id);
  await insertDataKey(tx, id, 1, await wrapper());
  await insertBuiltInPolicies(tx, id);
  await insertUser(tx, id, { ...admin, policies: ['admin'] });
  return tenant;
}

const REMOVED_AT_ONCE = 500;
/** A small tenant is gone before the answer; a large one goes on as a job. */
const REMOVAL_AWAITED_MS = 2_000;

/**
 * Deletes a tenant. The first commit destroys its data keys, ends its tokens and queues the job that removes its rows:
 * nothing of it can be read or done from there on, and whatever stops the removal, any node goes on with it. While
 * credentials of its leases are alive outside, the keys that open the way there are kept until those are revoked;
 * `force` gives up the ones whose target never answers, and says which. Called again, it changes nothing. The audit log
 * stays, with its size and root in the log of the system tenant.
 */
export async function deleteTenant(
  vault: Vault,
  call: Call,
  name: string,
  { force = false }: { force?: boolean | undefined } = {},
): Promise<void> {
  const ask = { action: 'tenant.delete', resource: `tenant:${parseName(name, 'name')}` } as const;
  const found = await findTenant(vault, name);
  const { id, job } = await permit(vault, call, ask, (tx, { userId }) => condemn(vault, tx, name, userId, force), {
    tenants: found ? [found] : [],
  });
  killpoint('tenant-delete.committed');
  forgetDataKeys(vault, id);
  forgetNamedKeys(vault, id);
  const removed = runJob(vault, { tenant: SYSTEM, id: job }, { 'tenant-delete': removeTenant });
  let timer: NodeJS.Timeout | undefined;
  const enough = new Promise((resolve) => {
    timer = setTimeout(resolve, REMOVAL_AWAITED_MS);
  });
  await Promise.race([removed, enough]);
  clearTimeout(timer);
}

async function condemn(
  vault: Vault,
  tx: Tx,
  name: string,
  userId: string,
  force: boolean,
): Promise<Act<{ id: TenantId; job: string }>> {
  const { id } = await tenantNamed(tx, name);
  if (id === SYSTEM) throw new VaultError('conflict', 'The system tenant cannot be deleted.');
  await markDeleting(tx, id);
  killpoint('tenant-delete.marked');
  const tokens = await removeTokens(tx, id);
  await condemnTenant(tx, id);
  const dropped = force ? await drop(vault, tx, id) : 0;
  // What is alive outside can only be ended with what the keys open: they are destroyed when nothing is (removeTenant).
  const keys = (await hasLeasesOutside(tx, id)) ? 0 : await destroyDataKeys(tx, id);
  killpoint('tenant-delete.keys-destroyed');
  const wanted = { tenant: SYSTEM, kind: 'tenant-delete', subject: id, startedBy: userId } as const;
  const job = (await openJob(tx, wanted)) ?? (await insertJob(tx, wanted)).id;
  const note = {
    details: {
      tenant_id: id,
      data_keys_destroyed: keys,
      tokens_ended: tokens,
      ...(dropped > 0 ? { leases_dropped: dropped } : {}),
    },
  };
  return { value: { id, job }, notes: [note], elsewhere: [{ tenant: id, note, revokes: true }] };
}

/** The job: every step may be repeated, and the order never leaves a row whose parent is gone. */
export async function removeTenant(work: Work): Promise<void> {
  const { vault } = work;
  const id = asTenantId(work.subject);
  await endLeases(work, id);
  let { done } = work;
  const total = Math.max(work.total, done + (await transaction(vault.db, [id], (tx) => countSecrets(tx, id))));
  for (;;) {
    await work.progress(done, total, null);
    const removed = await transaction(vault.db, [id], (tx) => removeSecrets(tx, id, REMOVED_AT_ONCE));
    if (removed === 0) break;
    done += removed;
    killpoint('tenant-delete.removing');
  }
  while ((await transaction(vault.db, [id], (tx) => removeLeases(tx, id, REMOVED_AT_ONCE))) > 0);
  await transaction(vault.db, [id], async (tx) => {
    await removeUsage(tx, id);
    await removeNamedKeys(tx, id);
    await removeTokenRoles(tx, id);
    await removeIssuers(tx, id);
    await removeApprovals(tx, id);
    await removeGroups(tx, id);
    await removeUsers(tx, id);
    await removeAuthorities(tx, id);
    await removePolicies(tx, id);
    await removeMounts(tx, id);
    await removeJobs(tx, id);
    await removeDataKeyMaterial(tx, id);
  });
  killpoint('tenant-delete.removed');
  await work.finish([id], async (tx) => {
    await markDeleted(tx, id);
    const { size, frontier } = await readHead(tx, id);
    const log = { log_size: size, log_root: Buffer.from(rootOf(size, frontier)).toString('base64') };
    const said = { tenant: SYSTEM, actor: VAULT_ACTOR, action: 'tenant.deleted', outcome: 'ok' } as const;
    return { report: { secrets_removed: done, ...log }, records: [{ ...said, details: { tenant_id: id, ...log } }] };
  });
}

const DROPPED_MAX = 100_000;

async function drop(vault: Vault, tx: Tx, tenant: TenantId): Promise<number> {
  const dropped = await dropLeases(tx, tenant, DROPPED_MAX);
  for (const { id, path, handle } of dropped) {
    vault.log.warn(
      { lease: id, path, handle },
      'a lease was dropped by force with its tenant: its credential may still work',
    );
  }
  return dropped.length;
}

const LEASES_LOOKED_AT_MS = 200;

/**
 * Waits until the sweepers have ended every lease of the tenant at its target, and destroys its data keys then. A target
 * that never answers holds the deletion up, seen in the list of jobs, until an operator repeats it with `force`.
 */
async function endLeases(work: Work, id: TenantId): Promise<void> {
  const { vault } = work;
  for (;;) {
    const left = await transaction(vault.db, [id], async (tx) => {
      await condemnTenant(tx, id);
      return hasLeasesOutside(tx, id);
    });
    if (!left) break;
    await work.progress(work.done, work.total, null);
    await sleep(LEASES_LOOKED_AT_MS);
  }
  await transaction(vault.db, [id], (tx) => destroyDataKeys(tx, id));
  forgetDataKeys(vault, id);
}
