/**
 * The rotation of the password that a backend itself logs in with, so that nobody but the vault knows it. In two phases, as
 * that of a static account:
 *
 *     1  the next password joins the current one in the envelope, and the backend is claimed               commit
 *     2  the target is given the next one, over a connection that the current one has opened
 *     3  a login with the next one proves that it works
 *     4  it is the password of the configuration, whose revision has every node make its connections anew  commit
 *
 * A process may die between any two of these: both are kept until a login has proven one, and a sweeper goes on with the
 * same one. The next one is given up only when the target has refused it, or was never reached, and nothing of an earlier
 * try can be there. Until then the configuration is changed by nobody.
 */
import { VAULT_ACTOR } from '../audit/entry.ts';
import { seal } from '../crypto/envelope.ts';
import { randomId, randomPassword } from '../crypto/token.ts';
import { RetryTransaction, type TenantId, type Tx, transaction } from '../db/database.ts';
import { killpoint } from '../db/killpoint.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Permit, permit, withoutToken } from '../policy/permit.ts';
import { activeDataKey, dataKey, underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { type Accounts, backendFailed, type Effect, effectOf } from './backend.ts';
import { backendAsk } from './configuration.ts';
import { memberOf, onTarget, openWithNext, type WithNext } from './pool.ts';
import { wakeSweeper } from './wake.ts';

/** Longer than the acts of a rotation may take together. */
const CLAIM_SECONDS = 120;
const RETRY_SECONDS_MAX = 600;
/** Longer than a target works at one statement of ours. */
const SETTLED_SECONDS = 60;

type Rotation = {
  readonly tenant: TenantId;
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly claim: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly next: string;
  /** Nothing of an earlier try can have reached the target. */
  readonly fresh: boolean;
  readonly attempts: number;
};

type Row = {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly keyVersion: number;
  readonly envelope: Uint8Array;
  readonly closing: boolean;
  readonly busy: boolean;
  readonly attempts: number;
};

const COLUMNS = `backend_id AS id, name, kind, key_version AS "keyVersion", envelope, closing,
  root_claim IS NOT NULL AND root_due_at > bulla.now() AS busy, root_attempts AS attempts`;

/**
 * Changes the password now. Throws `not_found`, `conflict` for a backend whose password is not changed by the vault or is
 * being changed already, and what the target says; it is then tried again.
 */
export async function rotateRoot(vault: Vault, call: Call, name: string): Promise<void> {
  const { rotation, actor } = await permit(vault, call, backendAsk('backend.rotate', name), async (tx, granted) => {
    const [row] = await tx<Row[]>`
      SELECT ${tx.unsafe(COLUMNS)} FROM backends WHERE tenant_id = ${granted.tenant} AND name = ${name} FOR NO KEY UPDATE`;
    if (!row) throw new VaultError('not_found', `There is no backend ${name}.`);
    if (row.closing) throw new VaultError('conflict', `The backend ${name} is being deleted.`);
    if (row.busy) throw new VaultError('conflict', `The password of the backend ${name} is being changed already.`);
    const rotation = await begin(vault, tx, granted.tenant, row);
    return { value: { rotation, actor: granted.actor }, notes: [{ details: { begun: true } }] };
  });
  await run(vault, rotation, { actor, call });
}

/** Goes on with one that was cut off, unless somebody else does. */
export async function rotateRootDue(vault: Vault, tenant: TenantId, id: string): Promise<void> {
  const rotation = await transaction(vault.db, [tenant], async (tx) => {
    const [row] = await tx<Row[]>`
      SELECT ${tx.unsafe(COLUMNS)} FROM backends
      WHERE tenant_id = ${tenant} AND backend_id = ${id} AND root_due_at <= bulla.now() FOR NO KEY UPDATE SKIP LOCKED`;
    return row && begin(vault, tx, tenant, row);
  });
  if (rotation) await run(vault, rotation, undefined);
}

// ---- phase one ----------------------------------------------------------------------------------------------------

async function begin(vault: Vault, tx: Tx, tenant: TenantId, row: Row): Promise<Rotation> {
  const { id, name, kind, attempts } = row;
  const stored = openWithNext(await dataKey(vault, tx, tenant, row.keyVersion), tenant, id, row.envelope);
  const { config, next: kept } = stored;
  const connected = connectedBy(vault, tenant, id, kind, config);
  if (connected.accounts?.own === undefined || typeof config.password !== 'string') {
    throw new VaultError('conflict', `The password of a backend of the kind ${kind} is not changed by the vault.`);
  }
  const [next, claim] = [kept ?? randomPassword(), randomId()];
  // Another revision: a configuration that was read before, and tried with the password of then, is stored no more.
  await store(vault, tx, tenant, id, { config, next });
  await tx`
    UPDATE backends SET root_claim = ${claim}, revision = revision + 1,
           root_due_at = bulla.now() + make_interval(secs => ${CLAIM_SECONDS})
    WHERE tenant_id = ${tenant} AND backend_id = ${id}`;
  return { tenant, id, name, kind, claim, config, next, fresh: kept === undefined, attempts };
}

async function store(vault: Vault, tx: Tx, tenant: TenantId, id: string, { config, next }: WithNext): Promise<void> {
  const key = await activeDataKey(vault, tx, tenant);
  const text = JSON.stringify(next === undefined ? config : { ...config, next_password: next });
  const envelope = seal(key, { label: 'backend-config', tenant, backend: id }, Buffer.from(text));
  await underActiveKey(tx`
    UPDATE backends SET key_version = ${key.version}, envelope = ${envelope}
    WHERE tenant_id = ${tenant} AND backend_id = ${id}`);
}

/** With connections of its own, of which there are none yet. */
function connectedBy(vault: Vault, tenant: TenantId, id: string, kind: string, config: Rotation['config']) {
  return memberOf(kind).connect(config, { tenant, backendId: id, outbound: vault.config.outboundNetworks });
}

// ---- phase two ----------------------------------------------------------------------------------------------------

type By = { readonly actor: Permit['actor']; readonly call: Call } | undefined;
type Outcome = {
  readonly given: 'done' | Effect;
  readonly proven: 'next' | 'current' | 'neither' | undefined;
  readonly error: VaultError | undefined;
};

async function run(vault: Vault, rotation: Rotation, by: By): Promise<void> {
  const { tenant, id, kind, config } = rotation;
  killpoint('backend.proposed');
  const own = connectedBy(vault, tenant, id, kind, config);
  const outcome = await giveAndProve(vault, rotation, own.accounts!).finally(() => own.close());
  killpoint('backend.proven');
  if (outcome.proven === 'next') return succeed(vault, rotation, by);
  const error = outcome.error ?? backendFailed('The target took the new password, and does not let it in.', 'unknown');
  await fail(vault, rotation, outcome, error, by);
  if (by) throw error;
}

async function giveAndProve(vault: Vault, rotation: Rotation, accounts: Accounts): Promise<Outcome> {
  const { tenant, id, next, config } = rotation;
  const username = accounts.own!;
  // Under an id of its own: whether the target lets somebody in says nothing of its health.
  const at = { tenant, id: `${id} as root` };
  const { leaseActDeadlineMs } = vault.config;
  const lets = (password: string) =>
    onTarget(vault, at, leaseActDeadlineMs, (limits) => accounts.provePassword({ ...limits, username, password }));
  let given: Outcome['given'] = 'done';
  let error: VaultError | undefined;
  try {
    await onTarget(vault, at, leaseActDeadlineMs, (limits) =>
      accounts.setPassword({ ...limits, username, password: next }),
    );
    killpoint('backend.changed');
  } catch (failure) {
    error = failure as VaultError;
    // Not let in with the current one: an earlier try may have given the next one.
    given = error.code === 'invalid_request' ? 'refused' : effectOf(error);
    if (given !== 'refused') return { given, proven: undefined, error };
  }
  try {
    if (await lets(next)) return { given, proven: 'next', error };
    return { given, proven: (await lets(String(config.password))) ? 'current' : 'neither', error };
  } catch (failure) {
    return { given, proven: undefined, error: error ?? (failure as VaultError) };
  }
}

// ---- what is recorded ---------------------------------------------------------------------------------------------

const record = ({ tenant, name }: Rotation, by: By) =>
  ({ tenant, actor: by?.actor ?? VAULT_ACTOR, action: 'backend.rotate', resource: `backend:${name}` }) as const;
const origin = (id: string) => ({ requestId: `backend-${id}`, source: '', protocol: 'vault' });

/** The row as it is now: a re-encryption may have moved it. Undefined: the claim is another's, or the backend gone. */
async function claimed(vault: Vault, tx: Tx, { tenant, id, claim }: Rotation): Promise<WithNext | undefined> {
  const [row] = await tx<{ keyVersion: number; envelope: Uint8Array }[]>`
    SELECT key_version AS "keyVersion", envelope FROM backends
    WHERE tenant_id = ${tenant} AND backend_id = ${id} AND root_claim = ${claim} FOR NO KEY UPDATE`;
  return row && openWithNext(await dataKey(vault, tx, tenant, row.keyVersion), tenant, id, row.envelope);
}

async function succeed(vault: Vault, rotation: Rotation, by: By): Promise<void> {
  const { tenant, id, next } = rotation;
  await withoutToken(vault, by?.call ?? origin(id), [tenant], async (tx) => {
    const found = await claimed(vault, tx, rotation);
    if (found?.next !== next) return { value: undefined, records: [] };
    await store(vault, tx, tenant, id, { config: { ...found.config, password: next }, next: undefined });
    const rows = await tx`
      UPDATE backends SET root_claim = NULL, root_due_at = NULL, root_attempts = 0, revision = revision + 1,
             updated_at = bulla.now() WHERE tenant_id = ${tenant} AND backend_id = ${id}`;
    if (rows.count === 0) throw new RetryTransaction();
    return { value: undefined, records: [{ ...record(rotation, by), outcome: 'ok' }] };
  });
  killpoint('backend.rotated');
}

async function fail(vault: Vault, rotation: Rotation, outcome: Outcome, error: VaultError, by: By): Promise<void> {
  const { tenant, id, fresh } = rotation;
  const attempts = rotation.attempts + 1;
  const isUntouched =
    fresh && (outcome.given === 'unreached' || (outcome.given === 'refused' && outcome.proven === 'current'));
  // What was sent may still arrive: until it cannot any more, nobody writes a configuration that would not know of it.
  const isUnsettled = outcome.given === 'unknown';
  const waitSeconds = Math.min(
    RETRY_SECONDS_MAX,
    Math.max(isUnsettled ? SETTLED_SECONDS : 0, 2 ** Math.min(attempts, 10)),
  );
  await withoutToken(vault, by?.call ?? origin(id), [tenant], async (tx) => {
    const found = await claimed(vault, tx, rotation);
    if (!found) return { value: undefined, records: [] };
    if (isUntouched) await store(vault, tx, tenant, id, { config: found.config, next: undefined });
    await tx`
      UPDATE backends SET root_claim = CASE WHEN ${isUnsettled} THEN root_claim END,
             root_attempts = ${isUntouched ? 0 : attempts},
             root_due_at = CASE WHEN ${isUntouched} THEN NULL
                                ELSE bulla.now() + make_interval(secs => ${waitSeconds}) END
      WHERE tenant_id = ${tenant} AND backend_id = ${id}`;
    const tell = by !== undefined || attempts === 1;
    return {
      value: undefined,
      records: tell ? [{ ...record(rotation, by), outcome: 'error', code: error.code }] : [],
    };
  });
  vault.log.warn(
    { backend: rotation.name, attempts, reason: error.message },
    'the password of a backend did not change',
  );
  wakeSweeper(vault, waitSeconds * 1000);
}
