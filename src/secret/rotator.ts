/**
 * Rotators: what gives a secret a new version by itself, and when. Owns the table rotators together with rotation.ts.
 *
 * A rotator belongs to a secret, follows it when it is moved, and goes with it. Whoever names a static account in one must
 * be allowed to read and to rotate that account, because its password goes where the secret is read.
 */
import { open, seal } from '../crypto/envelope.ts';
import { type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Ask, Call } from '../policy/access.ts';
import { type Permit, permit } from '../policy/permit.ts';
import { activeDataKey, dataKey, underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import type { Webhook } from '../webhook.ts';
import { parsePath, type SecretPath } from './path.ts';
import { findOrInsert, secretAsk } from './row.ts';

export const ROTATOR_KINDS = ['password', 'diceware', 'account', 'webhook'] as const;
export type RotatorKind = (typeof ROTATOR_KINDS)[number];

/** How the next value comes to be. */
export type RotatorConfig = {
  readonly kind: RotatorKind;
  /** The member of the secret's `data` that changes; absent: the value is the whole secret. */
  readonly field?: string | undefined;
  /** Of `password`. */
  readonly length?: number | undefined;
  readonly alphabet?: string | undefined;
  /** Of `account`. */
  readonly account?: string | undefined;
  /** Of `webhook`: where the next value is asked for. */
  readonly webhook?: Webhook | undefined;
  /** Is told of every new version. */
  readonly notify?: Webhook | undefined;
};

export type RotatorInfo = {
  readonly path: string;
  readonly kind: RotatorKind;
  /** Without the secrets of webhooks. */
  readonly config: Omit<RotatorConfig, 'webhook' | 'notify'> & {
    readonly webhook?: Omit<Webhook, 'secret'> | undefined;
    readonly notify?: Omit<Webhook, 'secret'> | undefined;
  };
  readonly periodSeconds: number | null;
  readonly graceSeconds: number;
  readonly rotatedAt: Timestamp | null;
  readonly nextAt: Timestamp | null;
  /** The last version that it made. */
  readonly version: number | null;
  readonly attempts: number;
  readonly lastError: string | null;
  /** Of telling `notify`; null when everything is told. */
  readonly noticeError: string | null;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

type UnsignedHook = Omit<Webhook, 'secret'> & { readonly secret?: string | undefined };

export type NewRotator = Omit<RotatorConfig, 'webhook' | 'notify'> & {
  /** Secrets that are left out stay as they are, while url and ca do. */
  readonly webhook?: UnsignedHook | undefined;
  readonly notify?: UnsignedHook | undefined;
  readonly periodSeconds?: number | undefined;
  /** How long the version before stays readable. */
  readonly graceSeconds?: number | undefined;
};

export const PASSWORD_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
export const PASSWORD_LENGTH = 32;
const PASSWORD_BITS_MIN = 80;
const PERIOD_SECONDS_MIN = 60;
const GRACE_SECONDS = 24 * 3600;
const SECONDS_MAX = 10 * 366 * 24 * 3600;

// ---- codec --------------------------------------------------------------------------------------------------------

const contextOf = (tenant: TenantId, secret: string) => ({ label: 'rotator', tenant, secret }) as const;

export async function openRotator(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  secretId: string,
  { keyVersion, envelope }: { readonly keyVersion: number; readonly envelope: Uint8Array },
): Promise<RotatorConfig> {
  const opened = open(await dataKey(vault, tx, tenant, keyVersion), contextOf(tenant, secretId), envelope);
  return JSON.parse(Buffer.from(opened).toString('utf8')) as RotatorConfig;
}

// ---- reading ------------------------------------------------------------------------------------------------------

type Row = Omit<RotatorInfo, 'config'> & {
  readonly secretId: string;
  readonly keyVersion: number;
  readonly envelope: Uint8Array;
};

const ROTATOR_COLUMNS = `s.path, r.secret_id AS "secretId", r.kind, r.key_version AS "keyVersion", r.envelope,
  r.period_seconds AS "periodSeconds", r.grace_seconds AS "graceSeconds", r.rotated_at AS "rotatedAt", r.due_at AS "nextAt",
  r.made_version AS version, r.attempts, r.last_error AS "lastError", r.notice_error AS "noticeError",
  r.created_at AS "createdAt", r.updated_at AS "updatedAt"`;

const noRotator = (path: string) => new VaultError('not_found', `The secret ${path} has no rotator.`);

/** Throws `integrity` when it does not open. */
export async function configOf(vault: Vault, tenant: TenantId, secretId: string): Promise<RotatorConfig> {
  return transaction(vault.db, [tenant], async (tx) => {
    const [row] = await tx<Pick<Row, 'keyVersion' | 'envelope'>[]>`
      SELECT key_version AS "keyVersion", envelope FROM rotators WHERE tenant_id = ${tenant} AND secret_id = ${secretId}`;
    if (!row) throw new VaultError('not_found', 'The rotator is gone.');
    return openRotator(vault, tx, tenant, secretId, row);
  });
}

/** One whose row was damaged is shown, and can be put again. */
async function openedOrError(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  row: Pick<Row, 'secretId' | 'keyVersion' | 'envelope'>,
): Promise<RotatorConfig | VaultError> {
  try {
    return await openRotator(vault, tx, tenant, row.secretId, row);
  } catch (error) {
    if (error instanceof VaultError && error.code === 'integrity') return error;
    throw error;
  }
}

export async function readRotator(vault: Vault, call: Call, path: SecretPath): Promise<RotatorInfo> {
  return permit(vault, call, secretAsk('secret.rotator-read', path), async (tx, { tenant }) => ({
    value: await rotatorAt(vault, tx, tenant, path),
  }));
}

export async function listRotators(vault: Vault, call: Call, page: PageAsk): Promise<Page<RotatorInfo>> {
  const wanted = { action: 'secret.rotator-read', resource: 'secret:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => {
    const { items, nextCursor } = await visiblePage(
      page,
      (after, rows) => tx<Row[]>`
        SELECT ${tx.unsafe(ROTATOR_COLUMNS)} FROM rotators r JOIN secrets s USING (tenant_id, secret_id)
        WHERE r.tenant_id = ${tenant} AND s.path > ${after} ORDER BY s.path LIMIT ${rows}`,
      (row) => row.path,
      (row) => allows(secretAsk('secret.rotator-read', parsePath(row.path))),
    );
    const shown: RotatorInfo[] = [];
    for (const row of items) shown.push(await infoOf(vault, tx, tenant, row));
    return { value: { items: shown, nextCursor } };
  });
}

/** Of a secret by its path, or by its id wherever it is. Throws `not_found`. */
export async function rotatorAt(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  secret: SecretPath | { readonly secretId: string },
): Promise<RotatorInfo> {
  const which = typeof secret === 'string' ? tx`s.path = ${secret}` : tx`s.secret_id = ${secret.secretId}`;
  const [row] = await tx<Row[]>`
    SELECT ${tx.unsafe(ROTATOR_COLUMNS)} FROM rotators r JOIN secrets s USING (tenant_id, secret_id)
    WHERE r.tenant_id = ${tenant} AND ${which}`;
  if (!row) throw typeof secret === 'string' ? noRotator(secret) : new VaultError('not_found', 'The rotator is gone.');
  return infoOf(vault, tx, tenant, row);
}

async function infoOf(vault: Vault, tx: Tx, tenant: TenantId, row: Row): Promise<RotatorInfo> {
  const { secretId: _, keyVersion: __, envelope: ___, ...info } = row;
  const opened = await openedOrError(vault, tx, tenant, row);
  if (opened instanceof VaultError) {
    return { ...info, config: { kind: row.kind }, lastError: `${opened.message} Put the rotator again.` };
  }
  const { webhook, notify, ...config } = opened;
  const shown = { ...(webhook ? { webhook: unsigned(webhook) } : {}), ...(notify ? { notify: unsigned(notify) } : {}) };
  return { ...info, config: { ...config, ...shown } };
}

const unsigned = ({ secret: _, ...hook }: Webhook) => hook;

// ---- changing -----------------------------------------------------------------------------------------------------

type Put = RotatorInfo & {
  readonly created: boolean;
  readonly tenant: TenantId;
  readonly secretId: string;
  /** The secret has no version yet. */
  readonly isEmpty: boolean;
};

/** What it takes that a rotator gives its values here, beside writing here. */
const asksOf = (path: SecretPath, account: string | null): Ask[] => [
  secretAsk('secret.rotator-write', path),
  ...(account === null
    ? []
    : ([
        { action: 'account.rotate', resource: `account:${account}` },
        { action: 'account.reveal', resource: `account:${account}` },
      ] as const)),
];

/**
 * A rotator goes with its secret: whoever moves one takes it away from the one path, and gives it to the other. Throws
 * `forbidden`.
 */
export async function checkRotatorMove(
  tx: Tx,
  { tenant, allows }: Pick<Permit, 'tenant' | 'allows'>,
  secretId: string,
  from: SecretPath,
  to: SecretPath,
): Promise<void> {
  const [row] = await tx<{ account: string | null }[]>`
    SELECT account FROM rotators WHERE tenant_id = ${tenant} AND secret_id = ${secretId} FOR SHARE`;
  if (!row) return;
  const lacking = [secretAsk('secret.rotator-write', from), ...asksOf(to, row.account)].find((ask) => !allows(ask));
  if (!lacking) return;
  const { action, resource } = lacking;
  throw new VaultError(
    'forbidden',
    `The rotator of ${from} goes with it, and no policy allows you ${action} on ${resource}.`,
    { details: { action, resource } },
  );
}

/**
 * Gives a secret a rotator, or changes it. The secret need not be there: the first rotation makes its first version. It
 * is due now when the secret has none yet, and a period after the last one otherwise.
 */
export async function putRotator(vault: Vault, call: Call, path: SecretPath, wanted: NewRotator): Promise<Put> {
  checkRotator(wanted);
  const { kind, account, periodSeconds = null, graceSeconds = GRACE_SECONDS } = wanted;
  const asks = [...asksOf(path, account ?? null), secretAsk('secret.write', path)];
  return permit(vault, call, asks, async (tx, { tenant }) => {
    if (account !== undefined) await requireAccount(tx, tenant, account);
    const { secretId, currentVersion } = await findOrInsert(tx, tenant, path);
    const [stored] = await tx<{ keyVersion: number; envelope: Uint8Array; busy: boolean }[]>`
      SELECT key_version AS "keyVersion", envelope, claim IS NOT NULL AND claim_until > bulla.now() AS busy
      FROM rotators WHERE tenant_id = ${tenant} AND secret_id = ${secretId} FOR NO KEY UPDATE`;
    if (stored?.busy) throw rotatingNow(path);
    const opened = stored && (await openedOrError(vault, tx, tenant, { secretId, ...stored }));
    const before = opened instanceof VaultError ? undefined : opened;
    const key = await activeDataKey(vault, tx, tenant);
    const config = signedAs(wanted, before);
    const envelope = seal(key, contextOf(tenant, secretId), Buffer.from(JSON.stringify(config)));
    await underActiveKey(tx`
      WITH clock AS MATERIALIZED (SELECT bulla.now() AS now)
      INSERT INTO rotators AS r (tenant_id, secret_id, kind, key_version, envelope, account, period_seconds, grace_seconds, due_at,
                                 created_at, updated_at)
      SELECT ${tenant}, ${secretId}, ${kind}, ${key.version}, ${envelope}, ${account ?? null}, ${periodSeconds}, ${graceSeconds},
             CASE WHEN ${currentVersion === 0} THEN now ELSE now + make_interval(secs => ${periodSeconds}::bigint) END, now, now
      FROM clock
      ON CONFLICT (tenant_id, secret_id) DO UPDATE SET kind = excluded.kind, key_version = excluded.key_version,
        envelope = excluded.envelope, account = excluded.account, period_seconds = excluded.period_seconds,
        grace_seconds = excluded.grace_seconds, attempt = NULL, attempts = 0, last_error = NULL, updated_at = excluded.updated_at,
        followed_at = CASE WHEN r.account = excluded.account THEN r.followed_at END,
        due_at = CASE WHEN ${currentVersion === 0} THEN excluded.due_at
                      ELSE coalesce(r.rotated_at, r.created_at) + make_interval(secs => excluded.period_seconds) END`);
    const info = await rotatorAt(vault, tx, tenant, path);
    const created = stored === undefined;
    const value = { ...info, created, tenant, secretId, isEmpty: currentVersion === 0 };
    return { value, notes: [{ details: { kind, created, ...(account ? { account } : {}) } }] };
  });
}

export const rotatingNow = (path: string) =>
  new VaultError('conflict', `The secret ${path} is being rotated: try again in a moment.`, { retryAfterSeconds: 2 });

async function requireAccount(tx: Tx, tenant: TenantId, name: string): Promise<void> {
  const [found] = await tx`SELECT 1 FROM static_accounts WHERE tenant_id = ${tenant} AND name = ${name}`;
  if (!found) throw new VaultError('not_found', `There is no static account ${name}: put it first.`);
}

/** The secret stays as it is, with the versions that it has. */
export async function deleteRotator(vault: Vault, call: Call, path: SecretPath): Promise<void> {
  await permit(vault, call, secretAsk('secret.rotator-write', path), async (tx, { tenant }) => {
    const rows = await tx`
      DELETE FROM rotators r USING secrets s
      WHERE r.tenant_id = ${tenant} AND s.tenant_id = ${tenant} AND s.path = ${path} AND r.secret_id = s.secret_id`;
    if (rows.count === 0) throw noRotator(path);
    return { value: undefined, notes: [{ details: { removed: true } }] };
  });
}

function refuse(field: string, expected: string): never {
  throw new VaultError('invalid_request', `${field}: expected ${expected}.`, { details: { field } });
}

function checkRotator(wanted: NewRotator): void {
  const { kind, field, length = PASSWORD_LENGTH, alphabet = PASSWORD_ALPHABET, account, webhook } = wanted;
  const { periodSeconds, graceSeconds } = wanted;
  const isWhole = (value: number, least: number) =>
    Number.isSafeInteger(value) && value >= least && value <= SECONDS_MAX;
  if (periodSeconds !== undefined && !isWhole(periodSeconds, PERIOD_SECONDS_MIN))
    refuse('every', '1 minute to 10 years');
  if (graceSeconds !== undefined && !isWhole(graceSeconds, 0)) refuse('grace', 'at most 10 years');
  if (field !== undefined && !/^[^\p{C}]{1,128}$/u.test(field)) refuse('field', '1 to 128 characters without controls');
  if (kind !== 'password' && (wanted.length !== undefined || wanted.alphabet !== undefined)) {
    refuse('length', 'length and alphabet of the kind password only');
  }
  const characters = new Set(alphabet);
  if (characters.size < 2 || characters.size !== alphabet.length || !/^[!-~]+$/.test(alphabet)) {
    refuse('alphabet', '2 or more different printable ASCII characters');
  }
  if (!(Number.isSafeInteger(length) && length <= 1024 && length * Math.log2(characters.size) >= PASSWORD_BITS_MIN)) {
    refuse('length', `at most 1,024, and enough for ${PASSWORD_BITS_MIN} bits of the alphabet`);
  }
  if ((kind === 'account') !== (account !== undefined))
    refuse('account', 'the name of a static account, of the kind account only');
  if (account !== undefined) parseName(account, 'account');
  if ((kind === 'webhook') !== (webhook !== undefined)) refuse('webhook', 'an endpoint, of the kind webhook only');
}

/** With the secrets that a change leaves out: each for the endpoint that it was given for, and no other. */
function signedAs(wanted: NewRotator, before: RotatorConfig | undefined): RotatorConfig {
  const { periodSeconds: _, graceSeconds: __, webhook, notify, ...config } = wanted;
  const signed = (field: 'webhook' | 'notify', hook: UnsignedHook | undefined) => {
    if (hook === undefined) return {};
    const stored = before?.[field];
    const kept = stored?.url === hook.url && stored.ca === hook.ca ? stored.secret : undefined;
    const expected = 'whsec_ and 24 to 64 bytes in base64; what is stored is kept for the same url and ca only';
    return { [field]: { ...hook, secret: hook.secret ?? kept ?? refuse(`${field}.secret`, expected) } };
  };
  return { ...config, ...signed('webhook', webhook), ...signed('notify', notify) };
}
