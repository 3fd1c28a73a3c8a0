/**
 * Letting in again whoever can be let in by nobody of their own: the last administrator of a tenant by operators, an
 * operator by whoever holds the host. It clears failed logins and, when asked, takes a lost second factor away; it never
 * gives a password, so that operators cannot become somebody of a tenant.
 */
import { VAULT_ACTOR } from '../audit/entry.ts';
import { endFactor } from '../auth/second-factor.ts';
import { unlockAccount } from '../auth/throttle.ts';
import { lockAdministrator } from '../auth/user.ts';
import { SYSTEM, type TenantId, type Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, withoutToken } from '../policy/permit.ts';
import { findTenant, tenantNamed } from '../tenant/tenant.ts';
import type { Vault } from '../vault.ts';

export type Unlock = {
  readonly username: string;
  /** The second factor is lost, with every recovery code. */
  readonly removeTotp?: boolean | undefined;
};

/** Throws `conflict` while another administrator of the tenant can come in, and for who is none. */
export async function unlockTenantAdmin(vault: Vault, call: Call, tenant: string, unlock: Unlock): Promise<void> {
  const username = parseName(unlock.username, 'username');
  const ask = { action: 'tenant.unlock', resource: `tenant:${parseName(tenant, 'name')}` } as const;
  const id = await findTenant(vault, tenant);
  await permit(
    vault,
    call,
    ask,
    async (tx) => {
      const found = await tenantNamed(tx, tenant);
      if (found.id === SYSTEM) {
        throw new VaultError('conflict', 'Operators unlock one another, and the last one is unlocked on the host.');
      }
      if (found.id !== id) throw new VaultError('conflict', 'The tenant was made anew meanwhile; try again.');
      await letIn(tx, found.id, username, unlock);
      const note = noteOf(username, unlock);
      return { value: undefined, notes: [note], elsewhere: [{ tenant: found.id, note, revokes: true }] };
    },
    { tenants: id ? [id] : [] },
  );
}

/** For a command on the host, which has the database already: the last operator of the vault. */
export async function unlockOperatorOnHost(vault: Vault, unlock: Unlock): Promise<void> {
  const username = parseName(unlock.username, 'username');
  const origin = { requestId: `host-${Date.now().toString(36)}`, source: '', protocol: 'vault' };
  await withoutToken(vault, origin, [SYSTEM], async (tx) => {
    await letIn(tx, SYSTEM, username, unlock);
    const said = { tenant: SYSTEM, actor: VAULT_ACTOR, action: 'user.unlock', outcome: 'ok' } as const;
    const { details } = noteOf(username, unlock);
    const record = { ...said, resource: `user:${username}`, details: { ...details, on_host: true }, revokes: true };
    return { value: undefined, records: [record] };
  });
}

async function letIn(tx: Tx, tenant: TenantId, username: string, { removeTotp }: Unlock): Promise<void> {
  const { id, others } = await lockAdministrator(tx, tenant, username);
  if (others > 0) {
    throw new VaultError('conflict', 'Another administrator can log in there: that one unlocks users.');
  }
  await unlockAccount(tx, tenant, id);
  if (removeTotp) await endFactor(tx, tenant, id);
}

const noteOf = (username: string, { removeTotp }: Unlock) => ({
  details: { username, ...(removeTotp ? { totp_removed: true } : {}) },
});
