/**
 * The client secrets of services: several at once, each with a name and an end, so that a new one is given out while the
 * old one still works. Owns the table client_secrets. A secret is in one answer and never again; nothing here can show
 * or find one by anything but its service and its name.
 */
import { detailsNaming } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import { equalHash, mintClientSecret, parseClientSecret } from '../crypto/token.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, pageOf, parsePage } from '../db/page.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { common, isAmong } from '../policy/cidr.ts';
import { checkTakeover } from '../policy/give.ts';
import { type Permit, permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { askOf, serviceNamed } from './service.ts';
import { checkCidrs, checkMetadata, checkUses } from './token-limit.ts';

export type ClientSecretInfo = {
  readonly id: string;
  readonly name: string;
  readonly cidrs: readonly string[] | null;
  /** Logins that it still does; null: however many. */
  readonly usesLeft: number | null;
  /** Names and labels, which the tokens given for it show. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp;
  readonly expired: boolean;
  readonly lastUsedAt: Timestamp | null;
  readonly lastUsedFrom: string | null;
};

export type NewClientSecret = ClientSecretInfo & { readonly clientId: string; readonly clientSecret: string };

/** One of a service's: by name, by id, or by whoever can show it. */
export type ClientSecretRef = { readonly name: string } | { readonly id: string } | { readonly clientSecret: string };

export type ClientSecretWish = {
  /** Its id when absent: one of many that programs make, of which those that have ended go by themselves. */
  readonly name?: string | undefined;
  readonly ttlSeconds?: number | undefined;
  readonly cidrs?: readonly string[] | undefined;
  readonly uses?: number | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** The secret that this one takes the place of: it ends after the overlap. */
  readonly replaces?: string | undefined;
  readonly overlapSeconds?: number | undefined;
};

const OVERLAP_SECONDS_DEFAULT = 24 * 3600;

const COLUMNS = `secret_id AS id, name, cidrs, uses_left AS "usesLeft", metadata, created_at AS "createdAt", expires_at AS "expiresAt",
  expires_at <= bulla.now() AS expired, last_used_at AS "lastUsedAt", last_used_from AS "lastUsedFrom"`;

type Row = Omit<ClientSecretInfo, 'metadata'> & { readonly metadata: string | null };

const infoOf = ({ metadata, ...row }: Row): ClientSecretInfo => ({
  ...row,
  metadata: metadata === null ? {} : (JSON.parse(metadata) as Record<string, string>),
});

export async function listClientSecrets(
  vault: Vault,
  call: Call,
  service: string,
  page: PageAsk,
): Promise<Page<ClientSecretInfo>> {
  const { limit, after } = parsePage(page);
  return permit(vault, call, askOf('service.read', service), async (tx, { tenant }) => {
    const { id } = await serviceNamed(tx, tenant, service);
    const rows = await tx<Row[]>`
      SELECT ${tx.unsafe(COLUMNS)} FROM client_secrets
      WHERE tenant_id = ${tenant} AND user_id = ${id} AND name > ${after} ORDER BY name LIMIT ${limit + 1}`;
    return { value: pageOf(rows.map(infoOf), limit, ({ name }) => name) };
  });
}

/** Throws `not_found`, for another service's too. */
export async function readClientSecret(
  vault: Vault,
  call: Call,
  service: string,
  ref: ClientSecretRef,
): Promise<ClientSecretInfo> {
  return permit(vault, call, askOf('service.read', service), async (tx, { tenant }) => {
    const { id } = await serviceNamed(tx, tenant, service);
    return { value: await secretOf(tx, tenant, id, ref) };
  });
}

/**
 * Throws `conflict` for a name that is taken or when the service has too many, `not_found` for what it should replace,
 * `invalid_request`.
 */
export async function createClientSecret(
  vault: Vault,
  call: Call,
  service: string,
  wish: ClientSecretWish,
): Promise<NewClientSecret> {
  const ask = askOf('service.issue', service);
  const given = wish.name === undefined ? undefined : parseName(wish.name, 'name');
  const { cidrs, replaces, metadata = {}, overlapSeconds = OVERLAP_SECONDS_DEFAULT } = checked(wish);
  return permit(vault, call, ask, async (tx, granted) => {
    const { tenant } = granted;
    const { id: userId, clientId, tokenCidrs, secretTtlSeconds, secretUses } = await serviceNamed(tx, tenant, service);
    const ttlSeconds = wish.ttlSeconds ?? secretTtlSeconds ?? defaultTtl(vault);
    const uses = wish.uses ?? secretUses;
    // Whoever has the secret is the service.
    await checkTakeover(tx, granted, [userId]);
    if (userId === granted.userId) checkAsBound(granted, common(cidrs ?? null, tokenCidrs));
    await requireRoom(tx, tenant, userId, given === undefined);
    const { clientSecret, secretId, secretHash } = mintClientSecret(tenant);
    const name = given ?? secretId;
    if (replaces !== undefined) await endAfter(tx, tenant, userId, replaces, overlapSeconds);
    try {
      const [row] = await tx<Row[]>`
        INSERT INTO client_secrets (tenant_id, secret_id, user_id, name, secret_hash, cidrs, uses_left, metadata,
                                    created_at, expires_at)
        SELECT ${tenant}, ${secretId}, ${userId}, ${name}, ${secretHash}, ${cidrs ? [...cidrs] : null}, ${uses},
               ${Object.keys(metadata).length === 0 ? null : JSON.stringify(metadata)}, now,
               now + make_interval(secs => ${ttlSeconds}) FROM (SELECT bulla.now() AS now OFFSET 0) clock
        RETURNING ${tx.unsafe(COLUMNS)}`;
      const said = { name, ...(replaces ? { replaces } : {}), secret_id: secretId, expires_at: row!.expiresAt };
      const notes = detailsNaming(said, { cidrs }).map((details) => ({ details }));
      return { value: { ...infoOf(row!), clientId, clientSecret }, notes, revokes: replaces !== undefined };
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
      throw new VaultError('conflict', `The service ${service} has a client secret ${name} already.`);
    }
  });
}

/** A service may make itself another secret, and none whose tokens go where the token that makes it does not. */
function checkAsBound({ bounds }: Permit, cidrs: readonly string[] | null): void {
  if (bounds.certificate) {
    throw new VaultError(
      'forbidden',
      'A token that is bound to a certificate makes no client secret of its own account: that logs in without it.',
    );
  }
  const { cidrs: own } = bounds;
  if (own === null || cidrs?.every((text) => isAmong(text, own))) return;
  throw new VaultError(
    'forbidden',
    `cidrs: expected networks within those of the token that you show (${own.join(', ')}).`,
  );
}

/** Ends a client secret, and the tokens that were given for it, on every node. */
export async function deleteClientSecret(
  vault: Vault,
  call: Call,
  service: string,
  ref: ClientSecretRef,
): Promise<void> {
  const ask = askOf('service.revoke', service);
  await permit(vault, call, ask, async (tx, { tenant }) => {
    const { id } = await serviceNamed(tx, tenant, service);
    const { id: secretId, name } = await secretOf(tx, tenant, id, ref, 'lock');
    await tx`DELETE FROM client_secrets WHERE tenant_id = ${tenant} AND secret_id = ${secretId}`;
    return { value: undefined, notes: [{ details: { name, secret_id: secretId } }], revokes: true };
  });
}

function checked(wish: ClientSecretWish): ClientSecretWish {
  const most = LIMITS.clientSecretTtlSecondsMax;
  const { ttlSeconds, overlapSeconds, replaces, uses, metadata = {} } = wish;
  if (ttlSeconds !== undefined && (ttlSeconds < 1 || ttlSeconds > most)) {
    throw new VaultError('invalid_request', `ttl: expected from 1 second to ${most / 86_400} days.`);
  }
  if (overlapSeconds !== undefined && (replaces === undefined || overlapSeconds > most)) {
    throw new VaultError(
      'invalid_request',
      'overlap: expected only beside replaces: how long the old one still works.',
    );
  }
  if (uses !== undefined) checkUses(uses, 'uses');
  checkCidrs(wish.cidrs);
  checkMetadata(metadata);
  return { ...wish, replaces: replaces && parseName(replaces, 'replaces') };
}

const defaultTtl = ({ config }: Vault) => Math.min(config.clientSecretTtlSeconds, LIMITS.clientSecretTtlSecondsMax);

/** Those with a name are people's to keep few; the others are many, and what has ended of them makes room. */
async function requireRoom(tx: Tx, tenant: TenantId, userId: string, unnamed: boolean): Promise<void> {
  await tx`SELECT 1 FROM services WHERE tenant_id = ${tenant} AND user_id = ${userId} FOR UPDATE`;
  if (unnamed) {
    await tx`
      DELETE FROM client_secrets
      WHERE tenant_id = ${tenant} AND user_id = ${userId} AND name = secret_id AND expires_at <= bulla.now()`;
  }
  const [row] = await tx<{ count: number }[]>`
    SELECT count(*) AS count FROM client_secrets
    WHERE tenant_id = ${tenant} AND user_id = ${userId} AND (name = secret_id) = ${unnamed}`;
  const most = unnamed ? LIMITS.clientSecretsUnnamedMax : LIMITS.clientSecretsPerServiceMax;
  if (row!.count >= most) {
    throw new VaultError(
      'conflict',
      `A service has at most ${most} client secrets: end one that is not used any more.`,
    );
  }
}

/** What was given for it ends no later than it does. */
async function endAfter(tx: Tx, tenant: TenantId, userId: string, name: string, seconds: number): Promise<void> {
  const { id: secretId } = await secretOf(tx, tenant, userId, { name }, 'lock');
  const [row] = await tx<{ expiresAt: Timestamp }[]>`
    UPDATE client_secrets SET expires_at = least(expires_at, bulla.now() + make_interval(secs => ${seconds}))
    WHERE tenant_id = ${tenant} AND secret_id = ${secretId} RETURNING expires_at AS "expiresAt"`;
  const end = row!.expiresAt;
  await tx`
    UPDATE tokens SET expires_at = least(expires_at, ${end}::timestamptz), max_expires_at = least(max_expires_at, ${end}::timestamptz)
    WHERE tenant_id = ${tenant} AND client_secret_id = ${secretId} AND max_expires_at > ${end}::timestamptz`;
}

const SECRET_ID = /^[a-z2-7]{16}$/;

/** Of this service, whatever the id or the secret: another's is none. One that is shown is compared as at a login. */
async function secretOf(
  tx: Tx,
  tenant: TenantId,
  userId: string,
  ref: ClientSecretRef,
  lock?: 'lock',
): Promise<ClientSecretInfo> {
  const shown = 'clientSecret' in ref ? parseClientSecret(ref.clientSecret) : undefined;
  const which =
    'name' in ref
      ? tx`name = ${parseName(ref.name, 'secret')}`
      : tx`secret_id = ${'id' in ref ? (SECRET_ID.test(ref.id) ? ref.id : '') : shown?.tenantId === tenant ? shown.secretId : ''}`;
  const [row] = await tx<(Row & { secretHash: Uint8Array })[]>`
    SELECT ${tx.unsafe(COLUMNS)}, secret_hash AS "secretHash" FROM client_secrets
    WHERE tenant_id = ${tenant} AND user_id = ${userId} AND ${which} ${lock ? tx`FOR UPDATE` : tx``}`;
  if (!row || (shown && !equalHash(row.secretHash, shown.secretHash))) {
    throw new VaultError('not_found', 'The service has no such client secret.', {
      details: { reason: 'no_client_secret' },
    });
  }
  const { secretHash: _, ...found } = row;
  return infoOf(found);
}
