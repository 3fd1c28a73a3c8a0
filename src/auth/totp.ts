/**
 * TOTP seeds and recovery codes as they are stored and checked. Owns the tables totp_factors and recovery_codes.
 *
 *     seed            20 random bytes in an envelope of the tenant's data key (label `totp-seed`)
 *     code            RFC 6238 with SHA-1, 6 digits, 30 seconds (what every authenticator takes); the step before and
 *                     the step after the present one are taken too
 *     recovery code   25 characters of base32 (125 bits), stored as SHA-256 under a label; taken once
 *
 * A code is exactly six ASCII digits: no other spelling is one, so none gets a try of its own. The step of a code that
 * was taken is written in the statement that takes it, so that no node takes it, or an earlier one, again. Wrong codes
 * are counted in one budget (throttle.ts), wherever they are asked for. The caller holds the user's row.
 */
import { createHash, randomBytes } from 'node:crypto';
import { Secret, TOTP } from 'otpauth';
import { LABEL } from '../crypto/context.ts';
import { open, seal } from '../crypto/envelope.ts';
import type { KnownAnswer } from '../crypto/self-test.ts';
import type { TenantId, Tx } from '../db/database.ts';
import { activeDataKey, dataKey, underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { TOTP_SEEDS } from './envelopes.ts';
import { oneTimePassword } from './password.ts';
import { type Attempt, countCode, countFailure, readCounter } from './throttle.ts';

const SEED_BYTES = 20;
const PERIOD_SECONDS = 30;
const STEPS_AROUND = 1;
const PENDING_SECONDS = 15 * 60;
const RECOVERY_CODES = 10;

export type FactorState = 'pending' | 'active';

/** Shown this once, to be given to an authenticator. */
export type NewSeed = { readonly secret: string; readonly uri: string };

const contextOf = (tenant: TenantId, userId: string) => TOTP_SEEDS.context(tenant, [userId]);

/** A seed that counts once a code of it is shown. One that was pending before is replaced. */
export async function insertSeed(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  userId: string,
  account: string,
): Promise<NewSeed> {
  const seed = randomBytes(SEED_BYTES);
  try {
    const key = await activeDataKey(vault, tx, tenant);
    const envelope = seal(key, contextOf(tenant, userId), seed);
    await underActiveKey(tx`
      INSERT INTO totp_factors (tenant_id, user_id, state, key_version, envelope, created_at)
      VALUES (${tenant}, ${userId}, 'pending', ${key.version}, ${envelope}, bulla.now())
      ON CONFLICT (tenant_id, user_id, state) DO UPDATE
      SET key_version = excluded.key_version, envelope = excluded.envelope, last_step = 0, created_at = excluded.created_at`);
    const totp = totpOf(seed, account);
    return { secret: totp.secret.base32, uri: totp.toString() };
  } finally {
    seed.fill(0);
  }
}

/** Takes the pending seed in place of the one before when the code is one of it. */
export async function activateSeed(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  userId: string,
  code: string,
): Promise<boolean> {
  if (!(await takesCode(vault, tx, tenant, userId, 'pending', code))) return false;
  await tx`DELETE FROM totp_factors WHERE tenant_id = ${tenant} AND user_id = ${userId} AND state = 'active'`;
  await tx`
    UPDATE totp_factors SET state = 'active', created_at = bulla.now()
    WHERE tenant_id = ${tenant} AND user_id = ${userId} AND state = 'pending'`;
  return true;
}

/** Whether there is a seed in that state. One that has been pending for long is none. */
export async function hasSeed(tx: Tx, tenant: TenantId, userId: string, state: FactorState): Promise<boolean> {
  const rows = await tx`
    SELECT 1 FROM totp_factors WHERE tenant_id = ${tenant} AND user_id = ${userId} AND state = ${state}
      AND (state = 'active' OR created_at > bulla.now() - make_interval(secs => ${PENDING_SECONDS}))`;
  return rows.length > 0;
}

/** The user has no second factor from now on. */
export async function removeSeeds(tx: Tx, tenant: TenantId, userId: string): Promise<void> {
  await tx`DELETE FROM totp_factors WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  await tx`DELETE FROM recovery_codes WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
}

export type Proof = { readonly proven: 'totp' | 'recovery_code' } | { readonly refused: 'locked' | 'wrong_code' };

/** Whether a code, of either kind, is the user's; it is used up by that. A wrong one is counted. */
export async function proveFactor(
  vault: Vault,
  tx: Tx,
  who: { readonly tenant: TenantId; readonly userId: string; readonly source: string },
  code: string,
): Promise<Proof> {
  return withinBudget(vault, tx, who, async () => {
    if (await takesCode(vault, tx, who.tenant, who.userId, 'active', code)) return 'totp';
    return (await takesRecoveryCode(tx, who.tenant, who.userId, code)) ? 'recovery_code' : undefined;
  });
}

/** Runs one check of a code within the account's one budget of codes. */
export async function withinBudget(
  vault: Vault,
  tx: Tx,
  { tenant, userId, source }: { readonly tenant: TenantId; readonly userId: string; readonly source: string },
  check: () => Promise<'totp' | 'recovery_code' | undefined>,
): Promise<Proof> {
  const attempt: Attempt = { tenant, subject: userId, kind: 'code', source };
  const counter = await readCounter(tx, attempt);
  if (counter.locked) return { refused: 'locked' };
  const proven = await check();
  if (proven === undefined) {
    await countFailure(vault, tx, attempt, counter);
    return { refused: 'wrong_code' };
  }
  await countCode(tx, attempt, counter);
  return { proven };
}

async function takesCode(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  userId: string,
  state: FactorState,
  code: string,
): Promise<boolean> {
  const [row] = await tx<{ keyVersion: number; envelope: Uint8Array; nowMs: number }[]>`
    SELECT key_version AS "keyVersion", envelope, floor(extract(epoch FROM bulla.now()) * 1000)::float8 AS "nowMs"
    FROM totp_factors WHERE tenant_id = ${tenant} AND user_id = ${userId} AND state = ${state}
      AND (state = 'active' OR created_at > bulla.now() - make_interval(secs => ${PENDING_SECONDS}))`;
  if (!row || !/^[0-9]{6}$/.test(code)) return false;
  const seed = open(await dataKey(vault, tx, tenant, row.keyVersion), contextOf(tenant, userId), row.envelope);
  try {
    const totp = totpOf(seed, '');
    const delta = totp.validate({ token: code, timestamp: row.nowMs, window: STEPS_AROUND });
    if (delta === null) return false;
    const step = totp.counter({ timestamp: row.nowMs }) + delta;
    const taken = await tx`
      UPDATE totp_factors SET last_step = ${step}
      WHERE tenant_id = ${tenant} AND user_id = ${userId} AND state = ${state} AND last_step < ${step}`;
    return taken.count === 1;
  } finally {
    seed.fill(0);
  }
}

/** Tried before the vault serves, like the answers of crypto/self-test.ts. */
export const TOTP_ANSWER: KnownAnswer = {
  name: 'TOTP with HMAC-SHA-1 (RFC 6238 B, at 59 s)',
  holds: () => totpOf(Buffer.from('12345678901234567890'), '').generate({ timestamp: 59_000 }) === '287082',
};

function totpOf(seed: Uint8Array, account: string): TOTP {
  const secret = new Secret({ buffer: Uint8Array.from(seed).buffer });
  return new TOTP({
    ...{ issuer: 'Bulla', label: account, secret },
    ...{ algorithm: 'SHA1', digits: 6, period: PERIOD_SECONDS },
  });
}

// ---- recovery codes -----------------------------------------------------------------------------------------------

/** New ones in place of all that are left. Shown this once. */
export async function replaceRecoveryCodes(tx: Tx, tenant: TenantId, userId: string): Promise<string[]> {
  const codes = Array.from({ length: RECOVERY_CODES }, oneTimePassword);
  await tx`DELETE FROM recovery_codes WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  const hashes = codes.map((code) => hashOf(tenant, userId, code).toString('hex'));
  await tx`
    INSERT INTO recovery_codes (tenant_id, user_id, code_hash)
    SELECT ${tenant}, ${userId}, decode(hash, 'hex') FROM unnest(${hashes}::text[]) AS hash`;
  return codes;
}

export async function countRecoveryCodes(tx: Tx, tenant: TenantId, userId: string): Promise<number> {
  const [row] = await tx<{ count: number }[]>`
    SELECT count(*)::int AS count FROM recovery_codes WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  return row!.count;
}

async function takesRecoveryCode(tx: Tx, tenant: TenantId, userId: string, code: string): Promise<boolean> {
  const taken = await tx`
    DELETE FROM recovery_codes
    WHERE tenant_id = ${tenant} AND user_id = ${userId} AND code_hash = ${hashOf(tenant, userId, code)}`;
  return taken.count === 1;
}

/** Bound to its user; hyphens, blanks and capitals are how people write, not what the code is. */
function hashOf(tenant: TenantId, userId: string, code: string): Buffer {
  const written = code.replace(/[-\s]/g, '').toLowerCase();
  return createHash('sha256').update(`${LABEL.recoveryCode}\0${tenant}\0${userId}\0${written}`).digest();
}
