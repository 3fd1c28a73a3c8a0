/**
 * The passwords of a static account, as its envelope holds them.
 *
 *     current   proven by a login; absent until the first one is
 *     next      to follow it: while it is there, the target may have either
 *     before    what current followed: what was sent to a target may arrive late, and must not be unknown then
 */
import { open, seal } from '../crypto/envelope.ts';
import type { TenantId, Tx } from '../db/database.ts';
import { activeDataKey, dataKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';

export type Passwords = { readonly current?: string; readonly next?: string; readonly before?: string };

type Sealed = { readonly keyVersion: number; readonly envelope: Uint8Array };

const contextOf = (tenant: TenantId, account: string) => ({ label: 'static-account', tenant, account }) as const;

export async function openPasswords(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  account: string,
  { keyVersion, envelope }: Sealed,
): Promise<Passwords> {
  const opened = open(await dataKey(vault, tx, tenant, keyVersion), contextOf(tenant, account), envelope);
  return JSON.parse(Buffer.from(opened).toString('utf8')) as Passwords;
}

export async function sealPasswords(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  account: string,
  { current, next, before }: Passwords,
): Promise<Sealed> {
  const key = await activeDataKey(vault, tx, tenant);
  const text = JSON.stringify({ current, next, before });
  return { keyVersion: key.version, envelope: seal(key, contextOf(tenant, account), Buffer.from(text)) };
}
