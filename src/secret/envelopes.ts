/** The tables of this folder that hold envelopes, as re-encryption has to know them. */
import type { TenantId, Tx } from '../db/database.ts';
import type { EnvelopeTable } from '../tenant/reencrypt.ts';

const secretId = { column: 'secret_id', type: 'text' } as const;

export const SECRET_VERSIONS: EnvelopeTable = {
  table: 'secret_versions',
  key: [secretId, { column: 'version', type: 'int' }],
  context: (tenant, [secret, version]) => ({
    label: 'secret',
    tenant,
    secret: secret as string,
    version: version as number,
  }),
  nameOf: async (tx, tenant, [secret, version]) => `secret:${await pathOf(tx, tenant, secret as string)}@${version}`,
};

export const SECRET_METADATA: EnvelopeTable = {
  table: 'secret_metadata',
  key: [secretId],
  context: (tenant, [secret]) => ({ label: 'secret-metadata', tenant, secret: secret as string }),
  nameOf: async (tx, tenant, [secret]) => `metadata of secret:${await pathOf(tx, tenant, secret as string)}`,
};

async function pathOf(tx: Tx, tenant: TenantId, secret: string): Promise<string> {
  const [row] = await tx<{ path: string }[]>`
    SELECT path FROM secrets WHERE tenant_id = ${tenant} AND secret_id = ${secret}`;
  return row?.path ?? '(removed)';
}

export const ROTATORS: EnvelopeTable = {
  table: 'rotators',
  key: [{ column: 'secret_id', type: 'text' }],
  context: (tenant, [secret]) => ({ label: 'rotator', tenant, secret: secret as string }),
  nameOf: async (tx, tenant, [secret]) => {
    const [row] = await tx<{ path: string }[]>`
      SELECT path FROM secrets WHERE tenant_id = ${tenant} AND secret_id = ${secret as string}`;
    return `rotator of secret:${row?.path ?? '(removed)'}`;
  },
};
