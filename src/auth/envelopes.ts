/** The tables of this folder that hold envelopes, as re-encryption has to know them. */
import type { EnvelopeTable } from '../tenant/reencrypt.ts';

export const TOTP_SEEDS: EnvelopeTable = {
  table: 'totp_factors',
  key: [
    { column: 'user_id', type: 'text' },
    { column: 'state', type: 'text' },
  ],
  context: (tenant, [user]) => ({ label: 'totp-seed', tenant, user: user as string }),
  nameOf: async (tx, tenant, [user]) => {
    const [row] = await tx<{ name: string }[]>`
      SELECT name FROM users WHERE tenant_id = ${tenant} AND user_id = ${user as string}`;
    return `TOTP seed of user:${row?.name ?? '(removed)'}`;
  },
};

export const ISSUER_SECRETS: EnvelopeTable = {
  table: 'issuer_secrets',
  key: [{ column: 'issuer_id', type: 'text' }],
  context: (tenant, [issuer]) => ({ label: 'issuer-secret', tenant, issuer: issuer as string }),
  nameOf: async (tx, tenant, [issuer]) => {
    const [row] = await tx<{ name: string }[]>`
      SELECT name FROM jwt_issuers WHERE tenant_id = ${tenant} AND issuer_id = ${issuer as string}`;
    return `client secret of issuer:${row?.name ?? '(removed)'}`;
  },
};
