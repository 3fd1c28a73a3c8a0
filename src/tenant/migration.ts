/**
 * Moving the vault to another seal, online: a root key rotation whose new version is under the new seal.
 *
 *     old seal ─▶ root key n ─▶ every key          before the commit
 *     new seal ─▶ root key n+1 ─▶ every key        after it; n and the old seal are gone
 *
 * One commit, so a crash leaves the vault to exactly one of the two, and its state says which. The old seal never saw
 * root key n+1: it opens nothing in the live database, and old copies as before. Shares are shown before anything
 * depends on them, and the migration waits until enough of them came back.
 */
import { SecretBytes } from '../crypto/keys.ts';
import { randomId } from '../crypto/token.ts';
import type { Tx } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck } from '../policy/permit.ts';
import { SEALS } from '../seal/index.ts';
import type { NewSeal, SealKind, SealMeans } from '../seal/seal.ts';
import { checkShares } from '../seal/shamir.ts';
import { insertSealBeside, removeSeal } from '../seal/store.ts';
import type { Vault } from '../vault.ts';
import { activeRootKey, forgetRootKey, rootKeyContext } from './keyring.ts';
import { prepareRootKey, type RootRotation, replaceRootKey } from './root-key.ts';
import { assertOneProcess } from './seal.ts';
import { allTenants } from './tenant.ts';

export type MigrationAsk = {
  readonly to: SealKind;
  /** Of a new split; the configured ones when absent. */
  readonly shares?: number | undefined;
  readonly threshold?: number | undefined;
  readonly passphrase?: string | undefined;
  /** Shares of the split that was prepared: as many as open it. */
  readonly confirm?: readonly string[] | undefined;
};

export type Migration =
  /** Nothing has changed yet: keep the shares, then confirm. */
  | {
      readonly state: 'prepared';
      readonly to: SealKind;
      readonly shares: readonly string[];
      readonly threshold: number;
    }
  | { readonly state: 'done'; readonly to: SealKind; readonly from: SealKind; readonly rotation: RootRotation };

const ASKS = [
  { action: 'seal.migrate', resource: 'seal:vault' },
  { action: 'root-key.rotate', resource: 'key:root' },
] as const;

const PREPARED_MS = 15 * 60_000;
type Prepared = { readonly made: NewSeal; readonly threshold: number; readonly timer: NodeJS.Timeout };
const prepared = new WeakMap<Vault, Prepared>();

/**
 * Moves the vault to another seal. Throws `conflict` when the vault is sealed by that seal already or the root key moved
 * meanwhile, `sealed` when this machine has not what the new seal takes, `invalid_request`.
 */
export async function migrateSeal(vault: Vault, call: Call, ask: MigrationAsk): Promise<Migration> {
  await precheck(vault, call, ASKS);
  assertOneProcess(vault, ask.to);
  const { kind } = vault.seal;
  if (ask.to === 'shamir' && ask.confirm === undefined) return prepareSplit(vault, call, ask);
  const made = ask.to === 'shamir' ? await confirmed(vault, ask.confirm!) : await make(vault, ask);
  killpoint('seal.made');
  return { state: 'done', to: ask.to, from: kind, rotation: await replace(vault, call, made) };
}

async function make(vault: Vault, ask: MigrationAsk): Promise<NewSeal> {
  const made = await SEALS[ask.to].create(meansFor(vault, ask));
  if (made.seal.kind !== vault.seal.kind || made.seal.fingerprint !== vault.seal.fingerprint) return made;
  made.seal.close();
  throw new VaultError(
    'conflict',
    `The vault is sealed by this ${ask.to} seal already (${vault.seal.fingerprint}): configure another key, then migrate.`,
  );
}

function meansFor(vault: Vault, { shares, threshold, passphrase }: MigrationAsk): SealMeans {
  const { shamir } = vault.sealMeans;
  return {
    ...vault.sealMeans,
    passphrase: async () => passphrase,
    shamir: { shares: shares ?? shamir.shares, threshold: threshold ?? shamir.threshold },
  };
}

async function prepareSplit(vault: Vault, call: Call, ask: MigrationAsk): Promise<Migration> {
  const means = meansFor(vault, ask);
  const made = await SEALS.shamir.create(means);
  const { shares, threshold } = means.shamir;
  await permit(vault, call, ASKS, async () => ({
    value: undefined,
    notes: [{ details: { to: 'shamir', prepared: true, shares, threshold } }],
  }));
  forget(vault);
  const timer = setTimeout(() => forget(vault), PREPARED_MS).unref();
  prepared.set(vault, { made, threshold, timer });
  return { state: 'prepared', to: 'shamir', shares: made.shares ?? [], threshold };
}

function forget(vault: Vault): void {
  const waiting = prepared.get(vault);
  if (!waiting) return;
  clearTimeout(waiting.timer);
  waiting.made.seal.close();
  prepared.delete(vault);
}

/** The split that was prepared, once enough of its shares came back to open it. */
async function confirmed(vault: Vault, shares: readonly string[]): Promise<NewSeal> {
  const waiting = prepared.get(vault);
  if (!waiting) {
    throw new VaultError(
      'conflict',
      'No split is waiting to be confirmed on this node, or it has waited too long: migrate without confirm first.',
    );
  }
  const probe = SecretBytes.generate(32);
  const wrapped = await waiting.made.seal.wrap(rootKeyContext(vault, 1), probe);
  probe.wipe();
  const { parameters } = waiting.made;
  const { opens, checks } = await checkShares({ id: '', kind: 'shamir', parameters, wrapped }, shares);
  if (!opens) {
    const fit = new Set(checks.flatMap((check) => (check.fits ? [check.number] : []))).size;
    throw new VaultError(
      'invalid_request',
      `confirm: expected ${waiting.threshold} different shares of the split that was prepared, got ${fit} that fit.`,
    );
  }
  clearTimeout(waiting.timer);
  prepared.delete(vault);
  return waiting.made;
}

const DEADLINE_MS = 120_000;

/** When it returns, only the new seal opens the vault. */
async function replace(vault: Vault, call: Call, made: NewSeal): Promise<RootRotation> {
  const from = vault.seal.id;
  const { kind, fingerprint } = made.seal;
  const seal = { id: randomId(), kind, wrap: made.seal.wrap };
  const { version: old } = await activeRootKey(vault);
  const tenants = await allTenants(vault);
  const next = await prepareRootKey(vault, old + 1, seal);
  try {
    const act = async (tx: Tx) => {
      await insertSealBeside(tx, from, seal.id, made);
      killpoint('seal.inserted');
      const rotation = await replaceRootKey(vault, tx, old, next, tenants);
      await removeSeal(tx, from);
      killpoint('seal.replaced');
      const { version, rewrapped } = rotation;
      const root = { root_key: next.key.fingerprint, rewrapped, destroyed_version: old };
      const details = { from: vault.seal.kind, to: kind, fingerprint, ...root };
      return { value: rotation, notes: [{ version, details }] };
    };
    const rotation = await permit(vault, call, ASKS, act, { deadlineMs: DEADLINE_MS });
    killpoint('seal.migrated');
    await vault.seal.accept(seal.id, made.seal);
    return rotation;
  } catch (error) {
    // After `outcome_unknown` the database may say either; the next look follows it.
    made.seal.close();
    throw error;
  } finally {
    next.key.wipe();
    forgetRootKey(vault, old);
  }
}
