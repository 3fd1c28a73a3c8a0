/**
 * The first start: root key, pepper, log key, the `system` tenant with one operator, and a first tenant `default` with an
 * administrator, all in one commit. No account has a default password; two first starts at once make one vault.
 */
import { createLog } from '../audit/append.ts';
import { VAULT_ACTOR } from '../audit/entry.ts';
import { type NewPassword, oneTimePassword } from '../auth/password.ts';
import { insertUser } from '../auth/user.ts';
import { SecretBytes } from '../crypto/keys.ts';
import { normalisePassword } from '../crypto/password.ts';
import { randomId } from '../crypto/token.ts';
import { asTenantId, SYSTEM, type Tx, transaction } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { parseName } from '../db/name.ts';
import { VaultError } from '../errors.ts';
import { withoutToken } from '../policy/permit.ts';
import { insertBuiltInPolicies } from '../policy/store.ts';
import { activeRootKey } from '../tenant/keyring.ts';
import { insertLogKey } from '../tenant/log-key.ts';
import { hasRootKey, insertRootKey } from '../tenant/root-key.ts';
import { insertDataKey, insertSystemKey } from '../tenant/rotation.ts';
import { insertTenant } from '../tenant/tenant.ts';
import type { Vault } from '../vault.ts';
import { insertWholeTenant } from './tenant.ts';

export type FirstAccount = { readonly tenant: string; readonly username: string; readonly password: string };
export type FirstCredentials = { readonly system: FirstAccount; readonly default: FirstAccount };

const PEPPER_BYTES = 32;

/**
 * Undefined when the vault was initialised before. The passwords must be changed; they are given to `keep` before they
 * count, so that a crash never leaves accounts whose passwords nobody has, and `discard` drops them where another node
 * was first.
 */
export async function initialise(
  vault: Vault,
  keep: (credentials: FirstCredentials) => void,
  discard: () => void = () => undefined,
): Promise<FirstCredentials | undefined> {
  if (await transaction(vault.db, [SYSTEM], hasRootKey)) return undefined;
  const operator: FirstAccount = { tenant: 'system', username: 'operator', password: oneTimePassword() };
  const admin: FirstAccount = { tenant: 'default', username: 'admin', password: oneTimePassword() };
  const pepper = SecretBytes.generate(PEPPER_BYTES);
  try {
    const hashOf = async (password: string) => ({
      phc: await vault.hasher.hash(normalisePassword(password), pepper),
      pepperVersion: 1,
      short: false,
      oneTime: { seconds: undefined },
    });
    const hashes = { operator: await hashOf(operator.password), admin: await hashOf(admin.password) };
    keep({ system: operator, default: admin });
    killpoint('initialise.kept');
    const made = await makeVault(vault, pepper, operator, admin, hashes);
    killpoint('initialise.committed');
    await vault.seal.follow();
    if (made) return { system: operator, default: admin };
    discard();
    // The winner's root key must open under the seal of this node too, or wait for people: otherwise it could serve nothing.
    if (!vault.seal.sealed) await activeRootKey(vault);
    return undefined;
  } finally {
    pepper.wipe();
  }
}

type Hashes = Record<'operator' | 'admin', NewPassword>;

async function makeVault(
  vault: Vault,
  pepper: SecretBytes,
  operator: FirstAccount,
  admin: FirstAccount,
  hashes: Hashes,
): Promise<boolean> {
  const first = asTenantId(randomId());
  const origin = { requestId: `start-${randomId()}`, source: '', protocol: 'vault' };
  try {
    await withoutToken(vault, origin, [SYSTEM, first], async (tx) => {
      await vault.seal.store(tx);
      const root = await insertRootKey(vault, tx, 1);
      killpoint('initialise.root-key');
      try {
        await insertSystemKey(tx, 'pepper', 1, pepper, root);
        await insertSystemTenant(tx);
        await insertLogKey(tx, 1, root);
        await insertDataKey(tx, SYSTEM, 1, root);
        const names = {
          operator: parseName(operator.username, 'username'),
          admin: parseName(admin.username, 'username'),
        };
        await insertUser(tx, SYSTEM, { name: names.operator, password: hashes.operator, policies: ['admin'] });
        await insertWholeTenant(tx, first, parseName(admin.tenant, 'name'), async () => root, {
          name: names.admin,
          password: hashes.admin,
        });
      } finally {
        root.wipe();
      }
      killpoint('initialise.accounts');
      const said = { actor: VAULT_ACTOR, outcome: 'ok' } as const;
      const created = { action: 'tenant.create', resource: `tenant:${admin.tenant}`, details: { tenant_id: first } };
      return {
        value: undefined,
        records: [
          {
            tenant: SYSTEM,
            ...said,
            action: 'vault.initialise',
            details: { deployment: vault.deploymentId, seal: vault.seal.kind },
          },
          { tenant: SYSTEM, ...said, ...created },
          { tenant: first, ...said, ...created },
        ],
      };
    });
    return true;
  } catch (error) {
    // Another node was first: its root key row is there.
    if (error instanceof VaultError && error.code === 'conflict') return false;
    throw error;
  }
}

async function insertSystemTenant(tx: Tx): Promise<void> {
  await insertTenant(tx, SYSTEM, parseName('system', 'name'));
  await createLog(tx, SYSTEM);
  await insertBuiltInPolicies(tx, SYSTEM);
}
