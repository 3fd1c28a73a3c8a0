/** The tables of this folder that hold envelopes, as re-encryption has to know them. */
import type { TenantId, Tx } from '../db/database.ts';
import type { EnvelopeTable } from '../tenant/reencrypt.ts';

export const BACKEND_CONFIGS: EnvelopeTable = {
  table: 'backends',
  key: [{ column: 'backend_id', type: 'text' }],
  context: (tenant, [backend]) => ({ label: 'backend-config', tenant, backend: backend as string }),
  nameOf: async (tx, tenant, [backend]) => `backend:${await backendName(tx, tenant, backend as string)}`,
};

export const LEASE_CREDENTIALS: EnvelopeTable = {
  table: 'lease_credentials',
  key: [{ column: 'lease_id', type: 'text' }],
  context: (tenant, [lease]) => ({ label: 'lease-credential', tenant, lease: lease as string }),
  nameOf: async (_tx, _tenant, [lease]) => `credential of lease ${lease}`,
};

export const STATIC_ACCOUNTS: EnvelopeTable = {
  table: 'static_accounts',
  key: [{ column: 'account_id', type: 'text' }],
  context: (tenant, [account]) => ({ label: 'static-account', tenant, account: account as string }),
  nameOf: async (tx, tenant, [account]) => {
    const [row] = await tx<{ name: string }[]>`
      SELECT name FROM static_accounts WHERE tenant_id = ${tenant} AND account_id = ${account as string}`;
    return `account:${row?.name ?? '(removed)'}`;
  },
};

async function backendName(tx: Tx, tenant: TenantId, backend: string): Promise<string> {
  const [row] = await tx<{ name: string }[]>`
    SELECT name FROM backends WHERE tenant_id = ${tenant} AND backend_id = ${backend}`;
  return row?.name ?? '(removed)';
}
