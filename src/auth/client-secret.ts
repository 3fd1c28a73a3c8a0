/**
 * The client secrets of services: several at once, each with a name and an end, so that a new one is given out while the
 * old one still works. Owns the table client_secrets. A secret is in one answer and never again; nothing here can show
 * or find one by anything but its service and its name.
 */
import { detailsNaming } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import { mintClientSecret } from '../crypto/token.ts';
import { isUniqueViolation, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, pageOf, parsePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { checkTakeover } from '../policy/give.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { askOf, serviceNamed } from './service.ts';
import { checkCidrs } from './token.ts';

export type ClientSecretInfo = {
  readonly id: string;
  readonly name: string;
  readonly cidrs: readonly string[] | null;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp;
  readonly expired: boolean;
  readonly lastUsedAt: Timestamp | null;
  readonly lastUsedFrom: string | null;
};

export type NewClientSecret = ClientSecretInfo & { readonly clientId: string; readonly clientSecret: string };

export type ClientSecretWish = {
  readonly name: string;
  readonly ttlSeconds?: number | undefined;
  readonly cidrs?: readonly string[] | undefined;
  /** The secret that this one takes the place of: it ends after the overlap. */
  readonly replaces?: string | undefined;
  readonly overlapSeconds?: number | undefined;
};

const OVERLAP_SECONDS_DEFAULT = 24 * 3600;

const COLUMNS = `secret_id AS id, name, cidrs, created_at AS "createdAt", expires_at AS "expiresAt",
  expires_at <= bulla.now() AS expired, last_used_at AS "lastUsedAt", last_used_from AS "lastUsedFrom"`;

export async function listClientSecrets(
  vault: Vault,
  call: Call,
  service: string,
  page: PageAsk,
): Promise<Page<ClientSecretInfo>> {
  const { limit, after } = parsePage(page);
  return permit(vault, call, askOf('service.read', service), async (tx, { tenant }) => {
    const { id } = await serviceNamed(tx, tenant, service);
    const rows = await tx<ClientSecretInfo[]>`
      SELECT ${tx.unsafe(COLUMNS)} FROM client_secrets
      WHERE tenant_id = ${tenant} AND user_id = ${id} AND name > ${after} ORDER BY name LIMIT ${limit + 1}`;
    return { value: pageOf(rows, limit, ({ name }) => name) };
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
  const name = parseName(wish.name, 'name');
  const { ttlSeconds, cidrs, replaces, overlapSeconds = OVERLAP_SECONDS_DEFAULT } = checked(vault, wish);
  return permit(vault, call, ask, async (tx, granted) => {
    const { tenant } = granted;
    const { id: userId, clientId } = await serviceNamed(tx, tenant, service);
    // Whoever has the secret is the service.
    await checkTakeover(tx, granted, userId);
    await requireRoom(tx, tenant, userId);
    if (replaces !== undefined) await endAfter(tx, tenant, userId, replaces, overlapSeconds);
    const { clientSecret, secretId, secretHash } = mintClientSecret(tenant);
    try {
      const [row] = await tx<ClientSecretInfo[]>`
        INSERT INTO client_secrets (tenant_id, secret_id, user_id, name, secret_hash, cidrs, created_at, expires_at)
        SELECT ${tenant}, ${secretId}, ${userId}, ${name}, ${secretHash}, ${cidrs ? [...cidrs] : null}, now,
               now + make_interval(secs => ${ttlSeconds}) FROM (SELECT bulla.now() AS now OFFSET 0) clock
        RETURNING ${tx.unsafe(COLUMNS)}`;
      const said = { name, ...(replaces ? { replaces } : {}), secret_id: secretId, expires_at: row!.expiresAt };
      const notes = detailsNaming(said, { cidrs }).map((details) => ({ details }));
      return { value: { ...row!, clientId, clientSecret }, notes, revokes: replaces !== undefined };
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
      throw new VaultError('conflict', `The service ${service} has a client secret ${name} already.`);
    }
  });
}

/** Ends a client secret, and the tokens that were given for it, on every node. */
export async function deleteClientSecret(vault: Vault, call: Call, service: string, name: string): Promise<void> {
  const ask = askOf('service.revoke', service);
  await permit(vault, call, ask, async (tx, { tenant }) => {
    const { id } = await serviceNamed(tx, tenant, service);
    const secretId = await secretNamed(tx, tenant, id, parseName(name, 'secret'));
    await tx`DELETE FROM client_secrets WHERE tenant_id = ${tenant} AND secret_id = ${secretId}`;
    return { value: undefined, notes: [{ details: { name, secret_id: secretId } }], revokes: true };
  });
}

function checked({ config }: Vault, wish: ClientSecretWish): ClientSecretWish & { readonly ttlSeconds: number } {
  const most = LIMITS.clientSecretTtlSecondsMax;
  const { ttlSeconds = Math.min(config.clientSecretTtlSeconds, most), overlapSeconds, replaces } = wish;
  if (ttlSeconds < 1 || ttlSeconds > most) {
    throw new VaultError('invalid_request', `ttl: expected from 1 second to ${most / 86_400} days.`);
  }
  if (overlapSeconds !== undefined && (replaces === undefined || overlapSeconds > most)) {
    throw new VaultError(
      'invalid_request',
      'overlap: expected only beside replaces: how long the old one still works.',
    );
  }
  checkCidrs(wish.cidrs);
  return { ...wish, ttlSeconds, replaces: replaces && parseName(replaces, 'replaces') };
}

async function requireRoom(tx: Tx, tenant: TenantId, userId: string): Promise<void> {
  await tx`SELECT 1 FROM services WHERE tenant_id = ${tenant} AND user_id = ${userId} FOR UPDATE`;
  const [row] = await tx<{ count: number }[]>`
    SELECT count(*) AS count FROM client_secrets WHERE tenant_id = ${tenant} AND user_id = ${userId}`;
  if (row!.count >= LIMITS.clientSecretsPerServiceMax) {
    const most = LIMITS.clientSecretsPerServiceMax;
    throw new VaultError(
      'conflict',
      `A service has at most ${most} client secrets: end one that is not used any more.`,
    );
  }
}

/** What was given for it ends no later than it does. */
async function endAfter(tx: Tx, tenant: TenantId, userId: string, name: string, seconds: number): Promise<void> {
  const secretId = await secretNamed(tx, tenant, userId, name);
  const [row] = await tx<{ expiresAt: Timestamp }[]>`
    UPDATE client_secrets SET expires_at = least(expires_at, bulla.now() + make_interval(secs => ${seconds}))
    WHERE tenant_id = ${tenant} AND secret_id = ${secretId} RETURNING expires_at AS "expiresAt"`;
  const end = row!.expiresAt;
  await tx`
    UPDATE tokens SET expires_at = least(expires_at, ${end}::timestamptz), max_expires_at = least(max_expires_at, ${end}::timestamptz)
    WHERE tenant_id = ${tenant} AND client_secret_id = ${secretId} AND max_expires_at > ${end}::timestamptz`;
}

async function secretNamed(tx: Tx, tenant: TenantId, userId: string, name: string): Promise<string> {
  const [row] = await tx<{ id: string }[]>`
    SELECT secret_id AS id FROM client_secrets
    WHERE tenant_id = ${tenant} AND user_id = ${userId} AND name = ${name} FOR UPDATE`;
  if (!row) throw new VaultError('not_found', `The service has no client secret ${name}.`);
  return row.id;
}
