/**
 * Deleting what leases hang under: a role, a backend, the tenant. What has live leases is not deleted; when asked, they
 * are revoked first, and it goes only when none is left, because nothing could end them after it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Fragment, type TenantId, type Tx, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Ask, Call } from '../policy/access.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { accountAsk, busyError, lockAccount } from './account.ts';
import { backendAsk, backendNamed } from './configuration.ts';
import { condemnLeases } from './lease.ts';
import { disconnect } from './pool.ts';
import { roleAsk } from './role.ts';

/** How long the revocations of a deletion are awaited before the answer says that they go on. */
const AWAITED_MS = 10_000;
const LOOK_MS = 100;
const CONDEMNED_AT_ONCE = 5_000;

export type Removal = { readonly revoke: boolean };
/** `force`: although nobody can say then which of two passwords a static account has. */
export type ForcedRemoval = Removal & { readonly force: boolean };

/** Throws `conflict` while leases of it are alive; with `revoke`, while some of them cannot be ended. */
export async function deleteRole(vault: Vault, call: Call, name: string, { revoke }: Removal): Promise<void> {
  const ask = roleAsk('role.delete', name);
  await removeWith(vault, call, ask, revoke, {
    noun: `role ${name}`,
    reason: 'role',
    find: async (tx, tenant) => {
      const [row] = await tx<{ id: string }[]>`
        SELECT role_id AS id FROM roles WHERE tenant_id = ${tenant} AND name = ${name} FOR UPDATE`;
      if (!row) throw new VaultError('not_found', `There is no role ${name}.`);
      return row.id;
    },
    leases: (tx, id) => tx`role_id = ${id}`,
    close: (tx, tenant, id) => tx`UPDATE roles SET closing = true WHERE tenant_id = ${tenant} AND role_id = ${id}`,
    remove: async (tx, tenant, id) => {
      await tx`UPDATE leases SET role_id = NULL WHERE tenant_id = ${tenant} AND role_id = ${id}`;
      await tx`DELETE FROM roles WHERE tenant_id = ${tenant} AND role_id = ${id}`;
    },
  });
}

/** Its roles go with it, and its static accounts as in `deleteAccount`. Throws as `deleteRole` does. */
export async function deleteBackend(
  vault: Vault,
  call: Call,
  name: string,
  { revoke, force }: ForcedRemoval,
): Promise<void> {
  const ask = backendAsk('backend.delete', name);
  await removeWith(vault, call, ask, revoke, {
    noun: `backend ${name}`,
    reason: 'backend',
    find: async (tx, tenant) => {
      const { id } = await backendNamed(tx, tenant, name);
      await tx`SELECT 1 FROM backends WHERE tenant_id = ${tenant} AND backend_id = ${id} FOR UPDATE`;
      return id;
    },
    holds: async (tx, tenant, id) => {
      const [row] = await tx<{ accounts: number; busy: number; inDoubt: string | null }[]>`
        SELECT count(*) AS accounts, count(*) FILTER (WHERE claim_until > bulla.now()) AS busy,
               min(name) FILTER (WHERE in_doubt AND (claim IS NULL OR claim_until <= bulla.now()) AND NOT EXISTS (
                 SELECT 1 FROM leases l WHERE l.tenant_id = a.tenant_id AND l.account_id = a.account_id
                   AND l.state <> 'ended')) AS "inDoubt"
        FROM static_accounts a WHERE tenant_id = ${tenant} AND backend_id = ${id}`;
      const { accounts, busy, inDoubt } = row!;
      // What has a lease is not in doubt for long: the end of that gives it another password.
      if (revoke && !force && inDoubt !== null) throw inDoubtError(inDoubt);
      return { what: accounts === 0 ? undefined : `static accounts (${accounts})`, busy: busy > 0 };
    },
    leases: (tx, id) => tx`backend_id = ${id}`,
    close: (tx, tenant, id) =>
      tx`UPDATE backends SET closing = true WHERE tenant_id = ${tenant} AND backend_id = ${id}`,
    remove: async (tx, tenant, id) => {
      await tx`
        UPDATE leases SET role_id = NULL, account_id = NULL, backend_id = NULL
        WHERE tenant_id = ${tenant} AND backend_id = ${id}`;
      await tx`DELETE FROM static_accounts WHERE tenant_id = ${tenant} AND backend_id = ${id}`;
      await tx`DELETE FROM roles WHERE tenant_id = ${tenant} AND backend_id = ${id}`;
      await tx`DELETE FROM backends WHERE tenant_id = ${tenant} AND backend_id = ${id}`;
    },
    removed: (tenant, id) => disconnect(vault, tenant, id),
  });
}

/**
 * What is known of its password goes with it, so one that is in doubt is deleted only by `force`: nobody could then say
 * which of two passwords the account has. Throws as `deleteRole` does.
 */
export async function deleteAccount(
  vault: Vault,
  call: Call,
  name: string,
  { revoke, force }: ForcedRemoval,
): Promise<void> {
  await removeWith(vault, call, accountAsk('account.delete', name), revoke, {
    noun: `account ${name}`,
    reason: 'account',
    find: async (tx, tenant) => {
      const { id, inDoubt, busy } = await lockAccount(tx, tenant, name);
      if (busy) throw busyError(name);
      if (!inDoubt || force) return id;
      throw inDoubtError(name);
    },
    leases: (tx, id) => tx`account_id = ${id}`,
    close: (tx, tenant, id) =>
      tx`UPDATE static_accounts SET closing = true WHERE tenant_id = ${tenant} AND account_id = ${id}`,
    remove: async (tx, tenant, id) => {
      await tx`UPDATE leases SET account_id = NULL WHERE tenant_id = ${tenant} AND account_id = ${id}`;
      await tx`DELETE FROM static_accounts WHERE tenant_id = ${tenant} AND account_id = ${id}`;
    },
  });
}

const inDoubtError = (account: string) =>
  new VaultError(
    'conflict',
    `The account ${account} may have either of two passwords: rotate it first, or repeat this with ?force=true (--force).`,
  );

type Thing = {
  readonly noun: string;
  readonly reason: string;
  /** Locks it, so that no lease is taken meanwhile. */
  readonly find: (tx: Tx, tenant: TenantId) => Promise<string>;
  /** What else hangs under it, and goes with it when that is asked for; `busy`: not at this moment. */
  readonly holds?: (tx: Tx, tenant: TenantId, id: string) => Promise<{ what: string | undefined; busy: boolean }>;
  readonly leases: (tx: Tx, id: string) => Fragment;
  readonly close: (tx: Tx, tenant: TenantId, id: string) => PromiseLike<unknown>;
  readonly remove: (tx: Tx, tenant: TenantId, id: string) => Promise<void>;
  readonly removed?: (tenant: TenantId, id: string) => void;
};

async function removeWith(vault: Vault, call: Call, ask: Ask, revoke: boolean, thing: Thing): Promise<void> {
  const untilMs = vault.clock.monotonicMs() + AWAITED_MS;
  for (;;) {
    const { tenant, id, alive } = await permit(vault, call, ask, async (tx, granted) => {
      const found = await thing.find(tx, granted.tenant);
      const left = await countAlive(tx, granted.tenant, thing.leases(tx, found));
      const value = { tenant: granted.tenant, id: found, alive: left };
      const held = await thing.holds?.(tx, granted.tenant, found);
      if (held?.what !== undefined && !revoke) {
        throw new VaultError(
          'conflict',
          `The ${thing.noun} has ${held.what}: delete them first, or all of it with ?revoke=true (--revoke).`,
        );
      }
      if (held?.busy && left === 0) throw busyError(thing.noun);
      if (left === 0) {
        await thing.remove(tx, granted.tenant, found);
        return { value };
      }
      if (!revoke) {
        throw new VaultError(
          'conflict',
          `The ${thing.noun} has live leases (${left}): revoke them first, or delete it with ?revoke=true (--revoke).`,
        );
      }
      await thing.close(tx, granted.tenant, found);
      for (let more = CONDEMNED_AT_ONCE; more === CONDEMNED_AT_ONCE; ) {
        ({ count: more } = await condemnLeases(
          tx,
          granted.tenant,
          thing.leases(tx, found),
          thing.reason,
          CONDEMNED_AT_ONCE,
        ));
      }
      return { value, notes: [{ details: { revoking: left } }] };
    });
    if (alive === 0) {
      thing.removed?.(tenant, id);
      return;
    }
    const left = await awaitEnds(vault, tenant, (tx) => thing.leases(tx, id), untilMs);
    if (left > 0) {
      throw new VaultError(
        'conflict',
        `The ${thing.noun} gives no more leases, but ${left} are still being revoked: see GET /leases?state=stuck, and repeat this.`,
        { details: { leases: left } },
      );
    }
  }
}

async function countAlive(tx: Tx, tenant: TenantId, which: Fragment): Promise<number> {
  const [row] = await tx<{ count: number }[]>`
    SELECT count(*) FROM leases WHERE tenant_id = ${tenant} AND state <> 'ended' AND (${which})`;
  return row!.count;
}

async function awaitEnds(
  vault: Vault,
  tenant: TenantId,
  which: (tx: Tx) => Fragment,
  untilMs: number,
): Promise<number> {
  for (;;) {
    const left = await transaction(vault.db, [tenant], (tx) => countAlive(tx, tenant, which(tx)));
    if (left === 0 || vault.clock.monotonicMs() >= untilMs) return left;
    await sleep(LOOK_MS);
  }
}

// ---- a tenant -----------------------------------------------------------------------------------------------------

/** Whether anything of a tenant is alive outside: then its keys, which open the way there, must wait. */
export async function hasLeasesOutside(tx: Tx, tenant: TenantId): Promise<boolean> {
  const rows = await tx`
    SELECT 1 FROM backends b WHERE b.tenant_id = ${tenant} AND EXISTS (
      SELECT 1 FROM leases l WHERE l.tenant_id = ${tenant} AND l.backend_id = b.backend_id AND l.kind = 'credential'
        AND l.state <> 'ended')`;
  return rows.length > 0;
}

/** Condemns every lease of a tenant that is being deleted, some at a time. Gives how many it met. */
export async function condemnTenant(tx: Tx, tenant: TenantId): Promise<number> {
  await tx`UPDATE static_accounts SET due_at = NULL WHERE tenant_id = ${tenant} AND due_at IS NOT NULL`;
  return (await condemnLeases(tx, tenant, tx`true`, 'tenant', CONDEMNED_AT_ONCE)).count;
}

/** Gives up what cannot be ended at targets that are gone for good. Gives the handles that may still work there. */
export async function dropLeases(
  tx: Tx,
  tenant: TenantId,
  limit: number,
): Promise<{ path: string; handle: string; id: string }[]> {
  return tx<{ path: string; handle: string; id: string }[]>`
    WITH left_over AS MATERIALIZED (
      SELECT lease_id FROM leases WHERE tenant_id = ${tenant} AND kind = 'credential' AND state <> 'ended'
      ORDER BY lease_id LIMIT ${limit} FOR UPDATE
    )
    UPDATE leases l SET state = 'ended', reason = 'forced', ended_at = bulla.now(), claim = NULL, due_at = bulla.now()
    FROM left_over o WHERE l.tenant_id = ${tenant} AND l.lease_id = o.lease_id
    RETURNING l.path, l.handle, l.lease_id AS id`;
}

/** Removes every ended lease of a tenant that is being deleted, a batch at a time; then its roles and backends. */
export async function removeLeases(tx: Tx, tenant: TenantId, limit: number): Promise<number> {
  const rows = await tx`
    DELETE FROM leases WHERE tenant_id = ${tenant} AND lease_id IN (
      SELECT lease_id FROM leases WHERE tenant_id = ${tenant} AND (state = 'ended' OR kind = 'access') LIMIT ${limit})
    RETURNING lease_id`;
  if (rows.length > 0) return rows.length;
  await tx`DELETE FROM roles WHERE tenant_id = ${tenant}`;
  await tx`DELETE FROM static_accounts WHERE tenant_id = ${tenant}`;
  await tx`DELETE FROM backends WHERE tenant_id = ${tenant}`;
  return 0;
}
