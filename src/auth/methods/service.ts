/**
 * A service and one of its client secrets: 256 random bits, of which only the hash is stored, so that one SHA-256 is all
 * that a login costs. The secret's id finds the row, the hashes are compared in constant time, and what is wrong is told
 * to the log only.
 */
import { equalHash, parseClientSecret } from '../../crypto/token.ts';
import type { TenantId, Timestamp, Tx } from '../../db/database.ts';
import { contains, parseAddress, parseCidr } from '../../policy/cidr.ts';
import type { LoginMethod, Proof } from '../method.ts';

/** `clientId` is `<tenant id>.<account id>`. */
export type ServiceCredentials = { readonly clientId: string; readonly clientSecret: string };

const CLIENT_ID = /^(system|[a-z2-7]{16})\.([a-z2-7]{16})$/;
const NOBODY = 'aaaaaaaaaaaaaaaa';
const NO_HASH = new Uint8Array(32);

export const service: LoginMethod<ServiceCredentials> = {
  name: 'service',
  tenantOf: ({ clientId }) => ({ id: CLIENT_ID.exec(clientId)?.[1] ?? NOBODY }),
  prepare: async () => undefined,
  prove: async (tx, tenant, { clientId, clientSecret }, _, { source }) => {
    const [, , userId = NOBODY] = CLIENT_ID.exec(clientId) ?? [];
    const parsed = parseClientSecret(clientSecret);
    const account = await readService(tx, tenant, userId);
    const stored = await readSecret(tx, tenant, userId, parsed?.secretId ?? NOBODY);
    const fits = equalHash(stored?.secretHash ?? NO_HASH, parsed?.secretHash ?? NO_HASH) && parsed?.tenantId === tenant;
    const refuse = (refused: string): Proof => ({ refused, of: account && { id: userId, name: account.name } });
    if (!account) return refuse('unknown_client');
    if (!stored || !fits) return refuse('wrong_secret');
    if (stored.expired) return refuse('expired_secret');
    if (account.disabled) return refuse('disabled');
    if (stored.cidrs !== null && !isFrom(stored.cidrs, source)) return refuse('other_network');
    await tx`
      UPDATE client_secrets SET last_used_at = bulla.now(), last_used_from = ${source}
      WHERE tenant_id = ${tenant} AND secret_id = ${stored.secretId}`;
    return {
      account: { userId },
      token: {
        ttlSeconds: account.tokenTtlSeconds ?? undefined,
        periodSeconds: account.tokenPeriodSeconds ?? undefined,
        cidrs: stored.cidrs ?? undefined,
        clientSecret: { id: stored.secretId, expiresAt: stored.expiresAt },
      },
      details: { client_secret: stored.name },
    };
  },
};

type ServiceRow = {
  readonly name: string;
  readonly disabled: boolean;
  readonly tokenTtlSeconds: number | null;
  readonly tokenPeriodSeconds: number | null;
};

async function readService(tx: Tx, tenant: TenantId, userId: string): Promise<ServiceRow | undefined> {
  const [row] = await tx<ServiceRow[]>`
    SELECT u.name, u.disabled, s.token_ttl_seconds AS "tokenTtlSeconds", s.token_period_seconds AS "tokenPeriodSeconds"
    FROM users u JOIN services s USING (tenant_id, user_id)
    WHERE u.tenant_id = ${tenant} AND u.user_id = ${userId} FOR NO KEY UPDATE OF u FOR SHARE OF s`;
  return row;
}

type SecretRow = {
  readonly secretId: string;
  readonly name: string;
  readonly secretHash: Uint8Array;
  readonly cidrs: string[] | null;
  readonly expiresAt: Timestamp;
  readonly expired: boolean;
};

/** Of this service: a secret of another one is none, whatever its id. */
async function readSecret(tx: Tx, tenant: TenantId, userId: string, secretId: string): Promise<SecretRow | undefined> {
  const [row] = await tx<SecretRow[]>`
    SELECT secret_id AS "secretId", name, secret_hash AS "secretHash", cidrs, expires_at AS "expiresAt",
           expires_at <= bulla.now() AS expired
    FROM client_secrets WHERE tenant_id = ${tenant} AND user_id = ${userId} AND secret_id = ${secretId}
    FOR NO KEY UPDATE`;
  return row;
}

function isFrom(cidrs: readonly string[], source: string): boolean {
  const address = parseAddress(source);
  return address !== undefined && cidrs.some((text) => contains(parseCidr(text)!, address));
}
