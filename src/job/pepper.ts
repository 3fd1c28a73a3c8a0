/**
 * Peppers: the secret that every password is hashed with, and that no copy of the database holds.
 *
 *     active ──rotate──▶ retiring ──nobody is left under it──▶ destroyed
 *
 * A new pepper takes each user at the next login. Who has not come back is listed; to destroy the old pepper all the
 * same, their passwords are ended, and an administrator of their tenant gives them new ones. The foreign keys of the
 * passwords refuse to let a pepper go that one of them depends on. For operators.
 */
import { countUnderPepper, endPasswordsUnder, type UnderPepper, usersUnderPepper } from '../auth/user.ts';
import { SecretBytes } from '../crypto/keys.ts';
import { SYSTEM, showTenants, type TenantId, type Tx } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { type Page, type PageAsk, pageOf, parsePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck } from '../policy/permit.ts';
import { assertPepper, deletePepper, type PepperVersion, pepperVersions, replacePepper } from '../tenant/pepper.ts';
import { allTenants } from '../tenant/tenant.ts';
import type { Vault } from '../vault.ts';

export type PepperInfo = PepperVersion & {
  /** Passwords that depend on it, in all tenants. */
  readonly users: number;
};

const PEPPER_BYTES = 32;
const TENANTS_AT_ONCE = 500;
const RESOURCE = 'key:pepper';

/** Newest first. */
export async function listPeppers(vault: Vault, call: Call, page: PageAsk): Promise<Page<PepperInfo>> {
  const { limit, after } = parsePage(page);
  const tenants = await allTenants(vault);
  return permit(vault, call, { action: 'pepper.list', resource: RESOURCE }, async (tx) => {
    const rows = (await pepperVersions(tx)).filter(({ version }) => after === '' || version < Number(after));
    const counts = new Map<number, number>();
    await inTenants(tx, tenants, async () => {
      for (const { version, users } of await countUnderPepper(tx)) {
        counts.set(version, (counts.get(version) ?? 0) + users);
      }
    });
    const counted = rows.map((row) => ({ ...row, users: counts.get(row.version) ?? 0 }));
    return { value: pageOf(counted, limit, ({ version }) => String(version)) };
  });
}

/** New passwords use the new pepper at once, others at the next login. */
export async function rotatePepper(vault: Vault, call: Call): Promise<PepperInfo> {
  const pepper = SecretBytes.generate(PEPPER_BYTES);
  try {
    const made = await permit(vault, call, { action: 'pepper.rotate', resource: RESOURCE }, async (tx) => {
      const { version, createdAt } = await replacePepper(vault, tx, pepper);
      const value: PepperInfo = { version, state: 'active', destroyedAt: null, users: 0, createdAt };
      return { value, notes: [{ version }] };
    });
    killpoint('pepper.committed');
    return made;
  } finally {
    pepper.wipe();
  }
}

/** Who has not logged in since a pepper was replaced, and for at least so long, by tenant and name. */
export async function listUnderPepper(
  vault: Vault,
  call: Call,
  version: number,
  { absentSeconds = 0, ...page }: PageAsk & { readonly absentSeconds?: number | undefined },
): Promise<Page<UnderPepper>> {
  const { limit, after } = parsePage(page);
  const [afterTenant = ''] = after.split('/');
  const tenants = (await allTenants(vault)).filter((tenant) => tenant >= afterTenant).sort();
  return permit(vault, call, { action: 'pepper.list', resource: RESOURCE }, async (tx) => {
    await assertPepper(tx, version);
    const found: UnderPepper[] = [];
    await inTenants(tx, tenants, async () => {
      if (found.length > limit) return;
      const wanted = { after, limit: limit + 1 - found.length, absentSeconds };
      found.push(...(await usersUnderPepper(tx, version, wanted)));
    });
    return { value: pageOf(found, limit, ({ tenantId, userId }) => `${tenantId}/${userId}`) };
  });
}

/**
 * Destroys a pepper. Refused with `conflict` while a password depends on it, unless those passwords are to be ended:
 * their users are then refused until an administrator gives them a new one. Operators' own are never ended so: nobody
 * could give them others.
 */
export async function destroyPepper(
  vault: Vault,
  call: Call,
  version: number,
  { endPasswords }: { endPasswords: boolean },
): Promise<void> {
  const ask = { action: 'pepper.destroy', resource: RESOURCE } as const;
  await precheck(vault, call, ask);
  const tenants = endPasswords ? (await allTenants(vault)).filter((tenant) => tenant !== SYSTEM) : [];
  await permit(
    vault,
    call,
    ask,
    async (tx) => {
      const { state, active } = await assertPepper(tx, version);
      if (state === 'active')
        throw new VaultError('conflict', 'The active pepper cannot be destroyed: rotate it first.');
      const ended = endPasswords ? await endPasswordsUnder(tx, version, active) : [];
      if (state === 'retiring') await deletePepper(tx, version);
      const counts = new Map<TenantId, number>();
      for (const { tenantId } of ended) counts.set(tenantId, (counts.get(tenantId) ?? 0) + 1);
      const elsewhere = Array.from(counts, ([tenant, count]) => ({
        ...{ tenant, note: { version, details: { passwords_ended: count } } },
        revokes: true,
      }));
      return {
        value: undefined,
        notes: [{ version, details: { passwords_ended: ended.length } }],
        elsewhere,
        revokes: true,
      };
    },
    { tenants },
  );
}

/** Opens the transaction for all tenants, a few at a time, and closes it again. */
async function inTenants(tx: Tx, tenants: readonly TenantId[], look: () => Promise<void>): Promise<void> {
  for (let at = 0; at < tenants.length; at += TENANTS_AT_ONCE) {
    await showTenants(tx, tenants.slice(at, at + TENANTS_AT_ONCE));
    await look();
  }
  await showTenants(tx, [SYSTEM]);
}
