/**
 * A user's own second factor: enrolling, confirming, proving it again, and taking it away.
 *
 *     none ──enrol (password)──▶ pending ──confirm (a code)──▶ active ──remove (a code or recovery code)──▶ none
 *
 * A stolen token changes nothing here: the first seed needs the password, and whatever touches an active factor needs
 * a code of it. A factor that comes or goes ends the user's other sessions. Only the token of a login may ask; those
 * that were made from one are for programs.
 */
import { type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Act, type Permit, permit, precheck } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { reissueToken } from './issue.ts';
import { checkPassword, readPassword, settlePassword } from './password.ts';
import { clearCounters } from './throttle.ts';
import {
  activateSeed,
  countRecoveryCodes,
  hasSeed,
  insertSeed,
  type NewSeed,
  type Proof,
  proveFactor,
  removeSeeds,
  replaceRecoveryCodes,
  withinBudget,
} from './totp.ts';

export type FactorInfo = {
  readonly state: 'none' | 'pending' | 'active';
  readonly required: boolean;
  readonly recoveryCodesLeft: number;
};

/** A session that goes on under a new token. */
export type RenewedSession = {
  readonly token: string;
  readonly accessor: string;
  readonly expiresAt: Timestamp;
  readonly maxExpiresAt: Timestamp | null;
};

const SELF = 'user:self';

export async function readFactor(vault: Vault, call: Call): Promise<FactorInfo> {
  return permit(vault, call, { action: 'auth.totp-read', resource: SELF }, async (tx, { tenant, userId }) => {
    const { required } = await lockUser(tx, tenant, userId);
    const active = await hasSeed(tx, tenant, userId, 'active');
    const state = active ? 'active' : (await hasSeed(tx, tenant, userId, 'pending')) ? 'pending' : 'none';
    return { value: { state, required, recoveryCodesLeft: await countRecoveryCodes(tx, tenant, userId) } };
  });
}

/**
 * Makes a seed, which counts once it is confirmed. Throws `login_failed` for a wrong password or code, `totp_required`
 * when there is a factor already and no code of it was given.
 */
export async function enrolFactor(
  vault: Vault,
  call: Call,
  { password, code }: { readonly password: string; readonly code?: string | undefined },
): Promise<NewSeed> {
  const ask = { action: 'auth.totp-enrol', resource: SELF } as const;
  const { tenant, userId } = await precheck(vault, call, ask);
  const stored = await transaction(vault.db, [tenant], (tx) => readPassword(tx, tenant, userId));
  const { fits } = await checkPassword(vault, stored, password);
  return permit(vault, call, ask, async (tx, permission): Promise<Act<NewSeed>> => {
    requireLogin(permission);
    const wrong = await settlePassword(vault, tx, call, { tenant, userId, checked: stored, fits });
    if (wrong) return { value: NOTHING, refused: wrong };
    if (await hasSeed(tx, tenant, userId, 'active')) {
      const refused = await refusedCode(vault, tx, call, permission, code);
      if (refused) return { value: NOTHING, ...refused };
    }
    return { value: await insertSeed(vault, tx, tenant, userId, `${stored.username}@${stored.tenant}`) };
  });
}

const NOTHING: NewSeed = { secret: '', uri: '' };

export type ConfirmedFactor = RenewedSession & { readonly recoveryCodes: readonly string[] };

/** Throws `login_failed` for a code that is not of the pending seed, `conflict` when none is pending. */
export async function confirmFactor(vault: Vault, call: Call, code: string): Promise<ConfirmedFactor> {
  const ask = { action: 'auth.totp-confirm', resource: SELF } as const;
  const done = await permit(vault, call, ask, async (tx, permission): Promise<Act<ConfirmedFactor | undefined>> => {
    requireLogin(permission);
    const { tenant, userId, tokenId } = permission;
    await lockUser(tx, tenant, userId);
    if (!(await hasSeed(tx, tenant, userId, 'pending'))) {
      throw new VaultError('conflict', 'No second factor waits to be confirmed: enrol one with POST /auth/totp.');
    }
    const who = { tenant, userId, source: call.source };
    const proof = await withinBudget(vault, tx, who, async () =>
      (await activateSeed(vault, tx, tenant, userId, code)) ? 'totp' : undefined,
    );
    const refused = refusalOf(proof);
    if (refused) return { value: undefined, ...refused };
    const recoveryCodes = await replaceRecoveryCodes(tx, tenant, userId);
    const session = await reissueToken(tx, tenant, tokenId, { alone: true });
    return { value: { ...session, recoveryCodes }, revokes: true };
  });
  return done!;
}

/** Ends all sessions of the user. Throws `conflict` when the user must have one, `login_failed` for a wrong code. */
export async function removeFactor(vault: Vault, call: Call, code: string): Promise<void> {
  await permit(vault, call, { action: 'auth.totp-remove', resource: SELF }, async (tx, permission) => {
    requireLogin(permission);
    const { tenant, userId } = permission;
    const { required } = await lockUser(tx, tenant, userId);
    await requireFactor(tx, permission);
    const refused = await refusedCode(vault, tx, call, permission, code);
    if (refused) return { value: undefined, ...refused };
    if (required) {
      throw new VaultError('conflict', 'A second factor is required of you: enrol another one in its place instead.');
    }
    await endFactor(tx, tenant, userId);
    return { value: undefined, revokes: true };
  });
}

/** New recovery codes in place of all that are left. */
export async function renewRecoveryCodes(vault: Vault, call: Call, code: string): Promise<readonly string[]> {
  const ask = { action: 'auth.recovery-codes', resource: SELF } as const;
  return permit(vault, call, ask, async (tx, permission): Promise<Act<readonly string[]>> => {
    requireLogin(permission);
    const { tenant, userId } = permission;
    await lockUser(tx, tenant, userId);
    await requireFactor(tx, permission);
    const refused = await refusedCode(vault, tx, call, permission, code);
    if (refused) return { value: [], ...refused };
    return { value: await replaceRecoveryCodes(tx, tenant, userId) };
  });
}

/** The session goes on under a new token that has shown the second factor just now; the old one ends, with all below it. */
export async function elevate(vault: Vault, call: Call, code: string): Promise<RenewedSession> {
  const ask = { action: 'auth.elevate', resource: SELF } as const;
  const done = await permit(vault, call, ask, async (tx, permission): Promise<Act<RenewedSession | undefined>> => {
    requireLogin(permission);
    const { tenant, userId, tokenId } = permission;
    await lockUser(tx, tenant, userId);
    await requireFactor(tx, permission);
    const refused = await refusedCode(vault, tx, call, permission, code);
    if (refused) return { value: undefined, ...refused };
    const session = await reissueToken(tx, tenant, tokenId, { alone: false });
    return { value: session, revokes: true, notes: [{ details: { new_accessor: session.accessor } }] };
  });
  return done!;
}

/**
 * Takes another user's factor away: whoever has lost it and every recovery code asks an administrator. One's own needs
 * a code of it on every way.
 */
export async function resetFactor(vault: Vault, call: Call, name: string): Promise<void> {
  const ask = { action: 'user.totp-remove', resource: `user:${parseName(name, 'username')}` } as const;
  await permit(vault, call, ask, async (tx, permission) => {
    const { tenant } = permission;
    const [user] = await tx<{ id: string }[]>`
      SELECT user_id AS id FROM users WHERE tenant_id = ${tenant} AND name = ${name} FOR UPDATE`;
    if (!user) throw new VaultError('not_found', `There is no user ${name}.`);
    if (user.id === permission.userId) {
      throw new VaultError('conflict', 'Your own second factor is removed with a code of it: POST /auth/totp/remove.');
    }
    await endFactor(tx, tenant, user.id);
    return { value: undefined, revokes: true };
  });
}

/** No factor and no session is left. A password that is too short to stand alone has to be changed at the next login. */
export async function endFactor(tx: Tx, tenant: TenantId, userId: string): Promise<void> {
  await removeSeeds(tx, tenant, userId);
  await tx`
    UPDATE users SET must_change_password = must_change_password OR short_password
    WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  await clearCounters(tx, tenant, userId, ['code']);
}

// ---- the steps ----------------------------------------------------------------------------------------------------

async function lockUser(tx: Tx, tenant: TenantId, userId: string): Promise<{ readonly required: boolean }> {
  const [row] = await tx<{ required: boolean }[]>`
    SELECT u.mfa_required OR t.mfa_required AS required FROM users u JOIN tenants t USING (tenant_id)
    WHERE u.tenant_id = ${tenant} AND u.user_id = ${userId} FOR UPDATE OF u`;
  if (!row) throw new VaultError('not_found', 'The user is gone.');
  return row;
}

/** Those that were made from a login are for programs. */
export function requireLogin({ asker }: Permit): void {
  if (asker.tokenKind === 'login') return;
  throw new VaultError('forbidden', 'Only the token of a login may do this: log in, and show that one.');
}

async function requireFactor(tx: Tx, { tenant, userId }: Permit): Promise<void> {
  if (await hasSeed(tx, tenant, userId, 'active')) return;
  throw new VaultError('conflict', 'You have no second factor: enrol one with POST /auth/totp.');
}

/** Why a code does not prove the factor, as an act says it; undefined when it does. */
async function refusedCode(
  vault: Vault,
  tx: Tx,
  call: Call,
  { tenant, userId }: Permit,
  code: string | undefined,
): Promise<Refusal | undefined> {
  if (code === undefined) return { refused: totpRequired(), notes: [{ details: { reason: 'no_code' } }] };
  return refusalOf(await proveFactor(vault, tx, { tenant, userId, source: call.source }, code));
}

type Refusal = Pick<Act<never>, 'notes'> & { readonly refused: VaultError };

function refusalOf(proof: Proof): Refusal | undefined {
  if ('proven' in proof) return undefined;
  const reason = proof.refused === 'locked' ? 'code_locked' : proof.refused;
  const refused = new VaultError('login_failed', 'The code is not right, was used before, or cannot be checked now.');
  return { refused, notes: [{ details: { reason } }] };
}

export function totpRequired(): VaultError {
  return new VaultError('totp_required', 'A code of the second factor is needed too: send it as "totp".');
}
