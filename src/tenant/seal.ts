/**
 * Sealing and unsealing a running vault, and checking shares. Each act, and each attempt that fails, is in the log of
 * the `system` tenant; appending to a log takes no key, so that holds while the vault is sealed.
 *
 * Unsealing is open to strangers, because nobody can log in while the peppers are wrapped. A stranger can do nothing
 * with it: what does not fit is dropped at once and changes nothing, what fits is taken whatever else arrives, there is
 * no way to start over or to cancel, and a passphrase from this machine never waits behind one from elsewhere.
 */
import { SYSTEM } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { assert, VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, type Record, withoutToken } from '../policy/permit.ts';
import type { SealState } from '../seal/holder.ts';
import { SEALS } from '../seal/index.ts';
import type { Offer, SealKind } from '../seal/seal.ts';
import { checkShares, type ShareCheck } from '../seal/shamir.ts';
import { markSealed, markUnsealed, readSeal } from '../seal/store.ts';
import type { Vault } from '../vault.ts';
import { type Attempts, newAttempts } from './attempt.ts';

export { SEAL_KINDS } from '../seal/seal.ts';
export type { SealState };

const RESOURCE = 'seal:vault';

/**
 * What people bring reaches the process that it is brought to and is kept in its memory alone. Throws `conflict` where
 * several serve one port, because nobody could bring it to each of them, nor again to one that was started anew.
 */
export function assertOneProcess({ config }: Vault, kind: SealKind): void {
  if (config.workers === 1 || SEALS[kind].unsealer === undefined) return;
  throw new VaultError(
    'conflict',
    `The ${kind} seal is opened by people, in one process at a time, and this server has ${config.workers} workers: start it with BULLA_WORKERS=1, or move to a seal that opens by itself.`,
  );
}

/** What anybody may know. */
export function readSealState(vault: Vault): SealState {
  return vault.seal.state;
}

/**
 * Seals the vault on every node: this one wipes its keys before it answers, the others when they look next. It stays
 * sealed over restarts until it is unsealed.
 */
export async function sealVault(vault: Vault, call: Call): Promise<void> {
  await permit(vault, call, { action: 'seal.seal', resource: RESOURCE }, async (tx) => {
    const changed = await markSealed(tx);
    return { value: undefined, notes: [{ details: { seal: vault.seal.kind, changed } }] };
  });
  killpoint('seal.sealed');
  vault.seal.shut('operator');
  await vault.seal.follow();
}

export type Offering = { readonly share: string } | { readonly passphrase: string };

const attempts = new WeakMap<Vault, Attempts>();

function attemptsOf(vault: Vault): Attempts {
  const known = attempts.get(vault) ?? newAttempts(vault.clock.monotonicMs);
  attempts.set(vault, known);
  return known;
}

/**
 * Takes one share or the passphrase. Throws `invalid_request` when it does not fit, `too_many_requests` when a source
 * has failed too often, `conflict` when this seal takes something else. An open vault answers its state and looks at
 * nothing.
 */
export async function unseal(vault: Vault, call: Omit<Call, 'token'>, offering: Offering): Promise<SealState> {
  if (!vault.seal.sealed) return vault.seal.state;
  assertOneProcess(vault, vault.seal.kind);
  assertTakes(vault, 'share' in offering ? 'share' : 'passphrase');
  const offer =
    'share' in offering
      ? await vault.seal.offer(offering.share)
      : await inTurn(vault, call.source, () => vault.seal.offer(offering.passphrase));
  if (offer.state === 'refused') throw await refuse(vault, call, offer);
  if (offer.state === 'open') killpoint('unseal.offered');
  const progress = vault.seal.state.progress;
  const details = {
    seal: vault.seal.kind,
    ...(progress ? { given: progress.given, threshold: progress.threshold } : {}),
    opened: offer.state === 'open',
  };
  await withoutToken(vault, call, [SYSTEM], async (tx) => {
    if (offer.state === 'open') await markUnsealed(tx, offer.id);
    return { value: undefined, records: [entry('ok', details)] };
  });
  if (offer.state !== 'open') return vault.seal.state;
  killpoint('unseal.recorded');
  await vault.seal.accept(offer.id, offer.seal);
  return vault.seal.state;
}

/**
 * Opens the seal with what this machine has and ends what an operator's `POST /seal/seal` began. For the command line
 * on the host only: who can open the seal here needs no other leave. Throws `sealed` when it does not open.
 */
export async function unsealOnHost(vault: Vault): Promise<void> {
  const opened = await vault.seal.openAtHand();
  if (!opened) {
    throw new VaultError('sealed', 'This machine has nothing that opens the seal: give shares or the passphrase.');
  }
  const origin = { requestId: 'bulla-unseal', source: '', protocol: 'host' };
  await withoutToken(vault, origin, [SYSTEM], async (tx) => {
    await markUnsealed(tx, opened.id);
    const details = { seal: opened.seal.kind, opened: true };
    return { value: undefined, records: [{ ...entry('ok', details), actor: { kind: 'vault', method: 'host' } }] };
  });
  await vault.seal.accept(opened.id, opened.seal);
}

/** Says of each share whether it still fits, without unsealing or keeping anything. For operators. */
export async function checkSealShares(
  vault: Vault,
  call: Call,
  shares: readonly string[],
): Promise<{ checks: ShareCheck[]; opens: boolean }> {
  return permit(vault, call, { action: 'seal.read', resource: RESOURCE }, async (tx) => {
    const row = await readSeal(tx);
    assert(row, 'a vault that answers has a seal');
    if (row.kind !== 'shamir') {
      throw new VaultError('conflict', `The vault is sealed by the ${row.kind} seal, which has no shares.`);
    }
    const value = await checkShares(row, shares);
    const fit = value.checks.filter((check) => check.fits).length;
    return { value, notes: [{ details: { shares: shares.length, fit, opens: value.opens } }] };
  });
}

function assertTakes(vault: Vault, offered: 'share' | 'passphrase'): void {
  const { takes, kind } = vault.seal.state;
  if (takes === offered) return;
  const expected = takes === undefined ? 'run `bulla unseal` on a machine that has what opens it' : `send a ${takes}`;
  throw new VaultError('conflict', `The ${kind} seal takes no ${offered}: ${expected}.`);
}

const entry = (outcome: 'ok' | 'denied', details: Record['details'], code?: string): Record => ({
  tenant: SYSTEM,
  actor: { kind: 'anonymous' },
  action: 'seal.unseal',
  resource: RESOURCE,
  outcome,
  ...(code === undefined ? {} : { code }),
  ...(details === undefined ? {} : { details }),
});

/** Records a failed attempt and gives what the caller hears. */
async function refuse(
  vault: Vault,
  call: Omit<Call, 'token'>,
  offer: Extract<Offer, { state: 'refused' }>,
): Promise<VaultError> {
  const unwritten = attemptsOf(vault).failed(call.source);
  if (unwritten === undefined) return tooMany();
  const details = { seal: vault.seal.kind, reason: offer.reason, ...(unwritten > 0 ? { unwritten } : {}) };
  await withoutToken(vault, call, [SYSTEM], async () => ({
    value: undefined,
    records: [entry('denied', details, 'invalid_request')],
  }));
  return new VaultError('invalid_request', offer.why, { details: { reason: offer.reason } });
}

function tooMany(): VaultError {
  return new VaultError('too_many_requests', 'Too many attempts that failed; wait before the next one.', {
    retryAfterSeconds: 6,
  });
}

/** One passphrase is tried at a time for this machine, and one for everybody else: neither waits for the other. */
const trying = new WeakMap<Vault, Set<'here' | 'elsewhere'>>();

async function inTurn<T>(vault: Vault, source: string, attempt: () => Promise<T>): Promise<T> {
  if (!attemptsOf(vault).mayFail(source)) throw tooMany();
  const lanes = trying.get(vault) ?? new Set();
  trying.set(vault, lanes);
  const local = (source === '::1' || source.startsWith('127.')) && !vault.config.plainHttpBehindProxy;
  const lane = local ? 'here' : 'elsewhere';
  if (lanes.has(lane)) {
    throw new VaultError('too_many_requests', 'Another passphrase is being tried; try again.', {
      retryAfterSeconds: 1,
    });
  }
  lanes.add(lane);
  try {
    return await attempt();
  } finally {
    lanes.delete(lane);
  }
}
