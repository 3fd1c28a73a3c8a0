/** Writes what was only counted (recorded.ts) into the system log: one entry for each source and answer, with the sum. */
import { randomId } from '../crypto/token.ts';
import { SYSTEM } from '../db/database.ts';
import { withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { countUnrecorded, takeCounts } from './recorded.ts';

/** When it cannot be written, the counts stay for the next time. */
export async function writeSummaries(vault: Vault): Promise<void> {
  const counts = takeCounts(vault);
  if (counts.length === 0) return;
  const call = { requestId: `summary-${randomId()}`, source: '', protocol: 'vault' };
  try {
    await withoutToken(vault, call, [SYSTEM], async () => ({
      value: undefined,
      records: counts.map(({ source, code, count }) => ({
        tenant: SYSTEM,
        actor: { kind: 'anonymous' },
        action: 'request.summary',
        origin: { ...call, source },
        details: { count },
        ...(code === 'ok' ? { outcome: 'ok' } : { outcome: 'denied', code }),
      })),
    }));
  } catch (error) {
    for (const { source, code, count } of counts) countUnrecorded(vault, source, code, count);
    throw error;
  }
}
