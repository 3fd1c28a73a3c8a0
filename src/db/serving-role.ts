/**
 * Whether the role that serves is bound by row security, which is what keeps tenants apart. Superusers, roles that
 * bypass it and owners of the tables are not; a mistaken URL must not make one of them serve.
 */
import { VaultError } from '../errors.ts';
import { type Database, SYSTEM, transaction } from './database.ts';
import { sqlState } from './sql-error.ts';

/** Throws `invalid_request` with one sentence when it is not, or when the one role given may not take the serving one. */
export async function assertServingRole(db: Database): Promise<void> {
  const role = await readRole(db);
  if (!role.unbound) return;
  throw new VaultError(
    'invalid_request',
    `Tenants would not be kept apart, because row security does not bind ${role.name}: BULLA_DATABASE_URL is to name a role that is a member of bulla_app and nothing more.`,
  );
}

type Role = { readonly name: string; readonly unbound: boolean };

/** What PostgreSQL answers to a session that asks for a role it may not take. */
const MAY_NOT_TAKE_ROLE = ['42501', '22023'];

async function readRole(db: Database): Promise<Role> {
  try {
    const [role] = await transaction(
      db,
      [SYSTEM],
      (tx) => tx<Role[]>`
        SELECT current_user AS name,
               rolsuper OR rolbypassrls OR EXISTS (
                 SELECT 1 FROM pg_class WHERE relnamespace = 'bulla'::regnamespace AND pg_has_role(relowner, 'USAGE')
               ) AS unbound
        FROM pg_roles WHERE rolname = current_user`,
    );
    return role!;
  } catch (error) {
    const state = sqlState(error) ?? sqlState((error as Error).cause);
    if (!MAY_NOT_TAKE_ROLE.includes(state ?? '')) throw error;
    throw new VaultError(
      'invalid_request',
      'The role of BULLA_DATABASE_URL may not act as bulla_app: run "GRANT bulla_app TO <this role>;" as an administrator, then start again.',
      { cause: error },
    );
  }
}
