/** The table of this folder that holds envelopes, as re-encryption has to know it. */
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
