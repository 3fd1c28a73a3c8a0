/**
 * Backends of a tenant: where its dynamic credentials come from. Owns the table backends.
 *
 * A configuration is tried on its real target before it is stored, and is stored in an envelope, whole. It is shown
 * without its secrets. A backend with live leases is not deleted, because nothing could end them after it.
 */
import { LIMITS } from '../config.ts';
import { seal } from '../crypto/envelope.ts';
import { randomId } from '../crypto/token.ts';
import { type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Ask, Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { type Permit, permit, precheck, tryOutside } from '../policy/permit.ts';
import { activeDataKey, dataKey, underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { type AllowedRoles, checkPatterns } from './allowed-role.ts';
import type { BackendMember } from './backend.ts';
import { BACKENDS } from './backends/index.ts';
import type { Times } from './lifetime.ts';
import { disconnect, memberOf, onTarget, openConfig } from './pool.ts';

/** The members of the open set. */
export const BACKEND_KINDS = Object.keys(BACKENDS) as [string, ...string[]];

export type BackendInfo = Times & {
  readonly name: string;
  readonly kind: string;
  /** Without the secrets. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly allowedRoles: AllowedRoles;
  /** Being deleted: it gives no new lease. */
  readonly closing: boolean;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export type NewBackend = {
  readonly kind: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** Absent: every one. */
  readonly allowedRoles?: AllowedRoles | undefined;
  readonly defaultTtlSeconds?: number | undefined;
  readonly maxTtlSeconds?: number | undefined;
};

type Row = Omit<BackendInfo, 'config'> & {
  readonly id: string;
  readonly revision: number;
  readonly keyVersion: number;
  readonly envelope: Uint8Array;
};

const COLUMNS = `backend_id AS id, name, kind, revision, key_version AS "keyVersion", envelope, closing,
  allowed_roles AS "allowedRoles", default_ttl_seconds AS "defaultTtlSeconds", max_ttl_seconds AS "maxTtlSeconds", created_at AS "createdAt",
  updated_at AS "updatedAt"`;

export const backendAsk = (action: Action, name: string) =>
  ({ action, resource: `backend:${parseName(name, 'backend')}` }) as const;

export async function listBackends(vault: Vault, call: Call, page: PageAsk): Promise<Page<BackendInfo>> {
  const wanted = { action: 'backend.read', resource: 'backend:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => {
    const { items, nextCursor } = await visiblePage(
      page,
      (after, rows) => tx<Row[]>`
        SELECT ${tx.unsafe(COLUMNS)} FROM backends WHERE tenant_id = ${tenant} AND name > ${after}
        ORDER BY name LIMIT ${rows}`,
      (row) => row.name,
      (row) => allows(backendAsk('backend.read', row.name)),
    );
    const shown: BackendInfo[] = [];
    for (const row of items) shown.push(await infoOf(vault, tx, tenant, row));
    return { value: { items: shown, nextCursor } };
  });
}

export async function readBackend(vault: Vault, call: Call, name: string): Promise<BackendInfo> {
  return permit(vault, call, backendAsk('backend.read', name), async (tx, { tenant }) => ({
    value: await infoOf(vault, tx, tenant, await backendNamed(tx, tenant, name)),
  }));
}

/**
 * Makes or changes a backend. Secrets that the configuration leaves out stay as they are, unless it leads elsewhere.
 * Throws `invalid_request` for a configuration that its kind does not take or its target refuses, `backend_failed` when
 * the target cannot be reached.
 */
export async function putBackend(
  vault: Vault,
  call: Call,
  name: string,
  wanted: NewBackend,
): Promise<BackendInfo & { readonly created: boolean }> {
  const ask = backendAsk('backend.write', name);
  const member = memberOf(wanted.kind);
  const { tenant } = await precheck(vault, call, ask);
  const stored = await transaction(vault.db, [tenant], async (tx) => {
    const row = await findBackend(tx, tenant, name);
    return row && { row, config: await configOf(vault, tx, tenant, row) };
  });
  if (stored && stored.row.kind !== wanted.kind) {
    throw new VaultError('conflict', `The backend ${name} is of the kind ${stored.row.kind}: make another one.`);
  }
  const config = parseConfig(member, wanted.config, stored?.config);
  checkTimes(wanted);
  checkPatterns(wanted.allowedRoles ?? null);
  const id = stored?.row.id ?? randomId();
  await tryOutside(vault, call, ask, () => tryOut(vault, member, config, tenant, id));
  const moved = stored !== undefined && isElsewhere(config, stored.config);
  const put = await permit(vault, call, ask, async (tx, granted) => {
    const row = await storeBackend(vault, tx, tenant, { id, name, wanted, config, was: stored?.row.revision });
    if (moved) await checkMove(tx, granted, id);
    const created = stored === undefined;
    const details = { kind: wanted.kind, created, ...targetOf(config), ...(moved ? { moved } : {}) };
    return { value: { ...(await infoOf(vault, tx, tenant, row)), created }, notes: [{ details }] };
  });
  return put;
}

/**
 * Has every node leave the connections that it has there and make new ones: the target is tried first. Throws as
 * `putBackend` does.
 */
export async function reconnectBackend(vault: Vault, call: Call, name: string): Promise<void> {
  const ask = backendAsk('backend.write', name);
  const { tenant } = await precheck(vault, call, ask);
  const stored = await transaction(vault.db, [tenant], async (tx) => {
    const row = await findBackend(tx, tenant, name);
    return row && { row, config: await configOf(vault, tx, tenant, row) };
  });
  if (stored) await tryOut(vault, memberOf(stored.row.kind), stored.config, tenant, stored.row.id);
  await permit(vault, call, ask, async (tx, granted) => {
    const { id } = await backendNamed(tx, granted.tenant, name);
    await tx`UPDATE backends SET revision = revision + 1 WHERE tenant_id = ${granted.tenant} AND backend_id = ${id}`;
    return { value: undefined, notes: [{ details: { reconnect: true } }] };
  });
}

/** What of a configuration says where it leads, for the log. */
function targetOf(config: Readonly<Record<string, unknown>>): Record<string, string> {
  return typeof config.host === 'string' ? { host: config.host } : {};
}

function parseConfig(
  member: BackendMember,
  given: Readonly<Record<string, unknown>>,
  stored: Readonly<Record<string, unknown>> | undefined,
): Readonly<Record<string, unknown>> {
  const kept = Object.fromEntries(
    (member.secretFields as readonly string[])
      .filter((field) => stored?.[field] !== undefined && given[field] === undefined)
      .map((field) => [field, stored![field]]),
  );
  const config = checkedBy(member.config, { ...given, ...kept }, 'config') as Readonly<Record<string, unknown>>;
  const [secret] = Object.keys(kept);
  if (secret !== undefined && isElsewhere(config, stored!)) throw goesElsewhere(secret);
  return config;
}

function isElsewhere(config: Readonly<Record<string, unknown>>, stored: Readonly<Record<string, unknown>>): boolean {
  return PLACE.some((field) => config[field] !== stored[field]);
}

/**
 * What hangs under a backend goes with it: the new place is shown the passwords of its static accounts, and is where its
 * leases are revoked, although their credentials go on working at the old one. Moving it is both of these.
 */
async function checkMove(tx: Tx, { tenant, allows }: Permit, id: string): Promise<void> {
  const accounts = await tx<{ name: string }[]>`
    SELECT name FROM static_accounts WHERE tenant_id = ${tenant} AND backend_id = ${id} ORDER BY name`;
  const leases = await tx<{ path: string }[]>`
    SELECT DISTINCT path FROM leases WHERE tenant_id = ${tenant} AND backend_id = ${id} AND state <> 'ended' ORDER BY path`;
  const asks: readonly Ask[] = [
    ...accounts.map(({ name }) => ({ action: 'account.reveal', resource: `account:${name}` }) as const),
    ...leases.map(({ path }) => ({ action: 'lease.force', resource: `lease:${path}` }) as const),
  ];
  const lacking = asks.find((ask) => !allows(ask));
  if (!lacking) return;
  const { action, resource } = lacking;
  throw new VaultError(
    'forbidden',
    `Another ${PLACE.join(', ')} takes along what hangs under the backend, and no policy allows you ${action} on ${resource}.`,
    { details: { action, resource } },
  );
}

/** Where a configuration leads, how it is protected on the way, and as whom. */
const PLACE = ['host', 'port', 'url', 'tls', 'ca', 'username'] as const;

/** Whoever may change a backend and does not know its secrets could have them sent to a server of their own. */
function goesElsewhere(secret: string): VaultError {
  const field = `config.${secret}`;
  const message = `${field}: give it again: what is stored is kept for the same ${PLACE.join(', ')} only.`;
  return new VaultError('invalid_request', message, { details: { field } });
}

/** Parses what a member's schema describes. What it says of a field never repeats the field's value. */
export function checkedBy(schema: BackendMember['config'], value: unknown, field: string): unknown {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const where = [field, ...issue.path.map(String)].join('.');
  const expected = issue.message.replace(/^Invalid input: /, '').replace(/\.$/, '');
  throw new VaultError('invalid_request', `${where}: ${expected}.`, { details: { field: where } });
}

export function checkTimes({
  defaultTtlSeconds,
  maxTtlSeconds,
}: Partial<{ [K in keyof Times]: number | undefined }>): void {
  for (const [field, seconds] of [
    ['default_ttl', defaultTtlSeconds],
    ['max_ttl', maxTtlSeconds],
  ] as const) {
    if (
      seconds === undefined ||
      (Number.isSafeInteger(seconds) && seconds >= 1 && seconds <= LIMITS.leaseTtlSecondsMax)
    )
      continue;
    throw new VaultError('invalid_request', `${field}: expected from 1 second to 768 hours.`);
  }
  if (defaultTtlSeconds !== undefined && maxTtlSeconds !== undefined && defaultTtlSeconds > maxTtlSeconds) {
    throw new VaultError('invalid_request', 'default_ttl: expected at most max_ttl.');
  }
}

async function tryOut(
  vault: Vault,
  member: BackendMember,
  config: unknown,
  tenant: TenantId,
  id: string,
): Promise<void> {
  const backend = member.connect(config, { tenant, backendId: id, outbound: vault.config.outboundNetworks });
  try {
    // Under an id of its own: a target that is being mended is not left alone because it has failed before.
    await onTarget(vault, { tenant, id: `${id} as given` }, CHECK_DEADLINE_MS, (limits) => backend.check(limits));
  } finally {
    disconnect(vault, tenant, `${id} as given`);
    await backend.close();
  }
}

const CHECK_DEADLINE_MS = 10_000;

async function storeBackend(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  {
    id,
    name,
    wanted,
    config,
    was,
  }: { id: string; name: string; wanted: NewBackend; config: unknown; was: number | undefined },
): Promise<Row> {
  const key = await activeDataKey(vault, tx, tenant);
  const envelope = seal(key, { label: 'backend-config', tenant, backend: id }, Buffer.from(JSON.stringify(config)));
  const { kind, defaultTtlSeconds = null, maxTtlSeconds = null } = wanted;
  const allowedRoles = wanted.allowedRoles == null ? null : [...wanted.allowedRoles];
  try {
    const [row] = await underActiveKey(
      was === undefined
        ? tx<Row[]>`
            INSERT INTO backends (tenant_id, backend_id, name, kind, revision, key_version, envelope, allowed_roles,
                                  default_ttl_seconds, max_ttl_seconds, created_at, updated_at)
            VALUES (${tenant}, ${id}, ${name}, ${kind}, 1, ${key.version}, ${envelope}, ${allowedRoles},
                    ${defaultTtlSeconds}, ${maxTtlSeconds}, bulla.now(), bulla.now()) RETURNING ${tx.unsafe(COLUMNS)}`
        : tx<Row[]>`
            UPDATE backends SET revision = revision + 1, key_version = ${key.version}, envelope = ${envelope},
                   allowed_roles = ${allowedRoles}, default_ttl_seconds = ${defaultTtlSeconds}, max_ttl_seconds = ${maxTtlSeconds}, updated_at = bulla.now(),
                   root_claim = NULL, root_due_at = NULL, root_attempts = 0
            WHERE tenant_id = ${tenant} AND backend_id = ${id} AND revision = ${was}
              AND (root_claim IS NULL OR root_due_at <= bulla.now()) RETURNING ${tx.unsafe(COLUMNS)}`,
    );
    if (row) return row;
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
  }
  throw new VaultError('conflict', `Somebody else has changed the backend ${name} meanwhile: read it and try again.`);
}

async function configOf(vault: Vault, tx: Tx, tenant: TenantId, row: Row): Promise<Readonly<Record<string, unknown>>> {
  return openConfig(await dataKey(vault, tx, tenant, row.keyVersion), tenant, row.id, row.envelope);
}

async function infoOf(vault: Vault, tx: Tx, tenant: TenantId, row: Row): Promise<BackendInfo> {
  const { name, kind, allowedRoles, closing, defaultTtlSeconds, maxTtlSeconds, createdAt, updatedAt } = row;
  const secret = new Set<string>(memberOf(kind).secretFields);
  const config = Object.entries(await configOf(vault, tx, tenant, row)).filter(([field]) => !secret.has(field));
  return {
    name,
    kind,
    config: Object.fromEntries(config),
    allowedRoles,
    closing,
    defaultTtlSeconds,
    maxTtlSeconds,
    createdAt,
    updatedAt,
  };
}

async function findBackend(tx: Tx, tenant: TenantId, name: string): Promise<Row | undefined> {
  const [row] = await tx<Row[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM backends WHERE tenant_id = ${tenant} AND name = ${name}`;
  return row;
}

/** Throws `not_found`. */
export async function backendNamed(tx: Tx, tenant: TenantId, name: string): Promise<Row> {
  const row = await findBackend(tx, tenant, name);
  if (!row) throw new VaultError('not_found', `There is no backend ${name}.`);
  return row;
}
