/**
 * Moving the vault to another seal, online.
 *
 *     old seal ─▶ root key n          prepare: the new seal is made; nothing depends on it
 *     new seal ─▶ root key n          carry: every root key as the new seal wraps it, the old seal gone; one commit
 *     new seal ─▶ root key n+1        rotate: every key under a root key that the old seal never saw, n destroyed
 *
 * Before the carry's commit the vault opens with the old seal only, after it with the new one only, so a crash never
 * leaves it to both or to neither. Between carry and rotation the state says that it is unfinished, and the same call
 * finishes it. Shares are shown before anything depends on them, and the carry waits until enough of them came back.
 */
import { SecretBytes } from '../crypto/keys.ts';
import { randomId } from '../crypto/token.ts';
import { SYSTEM, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { permit, precheck } from '../policy/permit.ts';
import { SEALS } from '../seal/index.ts';
import type { NewSeal, SealKind, SealMeans } from '../seal/seal.ts';
import { checkShares } from '../seal/shamir.ts';
import { type CarriedKey, readCarried, replaceSeal } from '../seal/store.ts';
import type { Vault } from '../vault.ts';
import { rootKeyContext } from './keyring.ts';
import { type RootRotation, rotateRootKey } from './rotation.ts';

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
 * Moves the vault to another seal, or finishes a migration that was interrupted. Throws `conflict` when the vault is
 * sealed by that seal already or the root key moved meanwhile, `sealed` when this machine has not what the new seal
 * takes, `invalid_request`.
 */
export async function migrateSeal(vault: Vault, call: Call, ask: MigrationAsk): Promise<Migration> {
  await precheck(vault, call, ASKS);
  const { kind, state } = vault.seal;
  if (state.migratingFrom !== undefined && ask.to === kind) {
    return {
      state: 'done',
      to: kind,
      from: state.migratingFrom as SealKind,
      rotation: await rotateRootKey(vault, call),
    };
  }
  if (ask.to === 'shamir' && ask.confirm === undefined) return prepareSplit(vault, call, ask);
  const made = ask.to === 'shamir' ? await confirmed(vault, ask.confirm!) : await make(vault, ask);
  await carry(vault, call, made);
  return { state: 'done', to: ask.to, from: kind, rotation: await rotateRootKey(vault, call) };
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

/** Puts the new seal in the old one's place. When it returns, only the new seal opens the vault. */
export async function carry(vault: Vault, call: Call, made: NewSeal): Promise<void> {
  const from = vault.seal.id;
  const to = { id: randomId(), made };
  try {
    const keys = await rewrapped(vault, made);
    await permit(vault, call, ASKS, async (tx) => {
      await replaceSeal(tx, from, to, keys);
      const details = { from: vault.seal.kind, to: made.seal.kind, fingerprint: made.seal.fingerprint };
      return { value: undefined, notes: [{ details }] };
    });
  } catch (error) {
    // After `outcome_unknown` the database may say either; the next look follows it.
    made.seal.close();
    throw error;
  }
  await vault.seal.accept(to.id, made.seal);
}

/** Every root key as the new seal wraps it. What is inside is in memory only for the moment; the network is asked here. */
async function rewrapped(vault: Vault, made: NewSeal): Promise<CarriedKey[]> {
  const rows = await transaction(vault.keyDb, [SYSTEM], readCarried);
  const keys: CarriedKey[] = [];
  for (const { version, wrapped } of rows) {
    const context = rootKeyContext(vault, version);
    const secret = await vault.seal.unwrap(context, wrapped);
    try {
      keys.push({ version, before: wrapped, after: await made.seal.wrap(context, secret) });
    } finally {
      secret.wipe();
    }
  }
  return keys;
}
