/**
 * The latch against mass revocation: whether the time can be believed. Owns the table lease_clocks.
 *
 * A database's clock that jumps forward would expire everything at once, and rotate every secret and account that has a
 * schedule. Each node compares how far that clock has come with its own monotonic clock; at its start, with the last time
 * that any node has seen. A jump of more than an hour against the former, or a gap of more than a day in the latter, stops
 * the expiry of leases and what happens by itself (job/schedule.ts) on every node, in the database, until an operator has
 * confirmed the time. What somebody revokes is revoked all the same. Nothing is latched while nothing is due.
 */
import { VAULT_ACTOR } from '../audit/entry.ts';
import { SYSTEM, type Timestamp, transaction } from '../db/database.ts';
import type { Call } from '../policy/access.ts';
import { permit, withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { notifySweepers } from './wake.ts';

const JUMP_SECONDS_MAX = 3600;
const SILENCE_SECONDS_MAX = 24 * 3600;

/** What a node remembers between two looks. */
export type SeenClock = { readonly databaseSeconds: number; readonly monotonicMs: number };

export type Look = {
  /** Nothing that is due later than this may expire now. */
  readonly now: Timestamp;
  readonly latched: boolean;
  readonly seen: SeenClock;
};

type Row = { now: Timestamp; seconds: number; silence: number | null; latched: boolean; expiring: boolean };

/**
 * Looks at the clock, and latches when it cannot be believed. Active accesses are named by what they are not, because
 * `= 'active'` would offer the planner indexes of all that are active in place of the one of what is due.
 */
export async function lookAtClock(vault: Vault, before: SeenClock | undefined): Promise<Look> {
  const monotonicMs = vault.clock.monotonicMs();
  const [row] = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<Row[]>`
      WITH clock AS MATERIALIZED (SELECT bulla.now() AS now)
      SELECT now, extract(epoch FROM now)::double precision AS seconds,
             (SELECT extract(epoch FROM now - seen_at) FROM lease_clocks)::double precision AS silence,
             EXISTS (SELECT 1 FROM lease_clocks WHERE latched_at IS NOT NULL) AS latched,
             EXISTS (SELECT 1 FROM leases l WHERE l.kind = 'access' AND l.state <> 'ended' AND l.due_at <= now
                       AND l.state NOT IN ('pending', 'revoking', 'checking'))
             OR EXISTS (SELECT 1 FROM backends b, LATERAL (
                          SELECT 1 FROM leases WHERE tenant_id = b.tenant_id AND backend_id = b.backend_id
                            AND kind = 'credential' AND state = 'active' AND due_at <= now LIMIT 1) l)
             OR EXISTS (SELECT 1 FROM static_accounts WHERE due_at <= now AND NOT closing)
             OR EXISTS (SELECT 1 FROM rotators WHERE due_at <= now) AS expiring
      FROM clock`,
  );
  const { now, seconds, silence, latched, expiring } = row!;
  const seen = { databaseSeconds: seconds, monotonicMs };
  if (latched) return { now, latched, seen };
  const jump = before ? seconds - before.databaseSeconds - (monotonicMs - before.monotonicMs) / 1000 : (silence ?? 0);
  if (expiring && jump > (before ? JUMP_SECONDS_MAX : SILENCE_SECONDS_MAX)) {
    await latch(vault, Math.round(jump));
    return { now, latched: true, seen };
  }
  await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx`
      INSERT INTO lease_clocks (seen_at) VALUES (${now})
      ON CONFLICT (tenant_id) DO UPDATE SET seen_at = excluded.seen_at WHERE lease_clocks.latched_at IS NULL`,
  );
  return { now, latched: false, seen };
}

const origin = { requestId: 'lease-sweeper', source: '', protocol: 'vault' };

async function latch(vault: Vault, jumpSeconds: number): Promise<void> {
  const first = await withoutToken(vault, origin, [SYSTEM], async (tx) => {
    const rows = await tx`
      INSERT INTO lease_clocks (seen_at, latched_at, jump_seconds) VALUES (bulla.now(), bulla.now(), ${jumpSeconds})
      ON CONFLICT (tenant_id) DO UPDATE SET latched_at = excluded.latched_at, jump_seconds = excluded.jump_seconds
        WHERE lease_clocks.latched_at IS NULL`;
    const said = { tenant: SYSTEM, actor: VAULT_ACTOR, action: 'sweeper.latch', outcome: 'ok' } as const;
    const record = { ...said, resource: 'sweeper:leases', details: { jump_seconds: jumpSeconds } };
    return { value: rows.count > 0, records: rows.count > 0 ? [record] : [] };
  });
  if (!first) return;
  vault.log.error(
    { jumpSeconds },
    'the clock of the database has jumped: leases do not expire and nothing rotates by itself until an operator confirms the time (bulla lease sweeper --confirm)',
  );
}

export type SweeperInfo = {
  readonly latched: boolean;
  readonly latchedAt: Timestamp | null;
  readonly jumpSeconds: number | null;
  readonly now: Timestamp;
};

const ASK = { resource: 'sweeper:leases' } as const;

/** For operators. */
export async function readSweeper(vault: Vault, call: Call): Promise<SweeperInfo> {
  return permit(vault, call, { ...ASK, action: 'sweeper.read' }, async (tx) => {
    const [row] = await tx<SweeperInfo[]>`
      SELECT latched_at IS NOT NULL AS latched, latched_at AS "latchedAt", jump_seconds AS "jumpSeconds", bulla.now() AS now
      FROM (SELECT 1) AS one LEFT JOIN lease_clocks ON true`;
    return { value: row! };
  });
}

/** The time is what it is: leases expire again, those that the jump has passed first. */
export async function confirmClock(vault: Vault, call: Call): Promise<SweeperInfo> {
  return permit(vault, call, { ...ASK, action: 'sweeper.confirm' }, async (tx) => {
    const [row] = await tx<{ now: Timestamp; jump: number | null }[]>`
      WITH before AS (SELECT jump_seconds AS jump FROM lease_clocks)
      UPDATE lease_clocks SET latched_at = NULL, jump_seconds = NULL, seen_at = bulla.now()
      RETURNING seen_at AS now, (SELECT jump FROM before) AS jump`;
    await notifySweepers(tx);
    const [clock] = row ? [row] : await tx<{ now: Timestamp; jump: null }[]>`SELECT bulla.now() AS now, NULL AS jump`;
    const value = { latched: false, latchedAt: null, jumpSeconds: null, now: clock!.now };
    return { value, notes: [{ details: { jump_seconds: clock!.jump ?? 0 } }] };
  });
}
