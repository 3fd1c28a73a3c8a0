/** The table of this folder that holds envelopes, as re-encryption has to know it, and how its contexts are made. */
import type { Context } from '../crypto/context.ts';
import type { TenantId } from '../db/database.ts';
import type { EnvelopeTable } from '../tenant/reencrypt.ts';

export const versionContext = (tenant: TenantId, key: string, version: number): Context => ({
  label: 'transit-key',
  tenant,
  key,
  version,
});

export const TRANSIT_KEY_VERSIONS: EnvelopeTable = {
  table: 'transit_key_versions',
  key: [
    { column: 'key_id', type: 'text' },
    { column: 'version', type: 'int' },
  ],
  context: (tenant, [key, version]) => versionContext(tenant, key as string, version as number),
  nameOf: async (tx, tenant, [key, version]) => {
    const [row] = await tx<{ name: string }[]>`
      SELECT name FROM transit_keys WHERE tenant_id = ${tenant} AND key_id = ${key as string}`;
    return `transit:${row?.name ?? '(removed)'}@${version}`;
  },
};
