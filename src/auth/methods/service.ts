/**
 * A service and one of its client secrets: 256 random bits, of which only the hash is stored, so that one SHA-256 is all
 * that a login costs. The secret's id finds the row, the hashes are compared in constant time, and what is wrong is told
 * to the log only.
 */
import { equalHash, parseClientSecret } from '../../crypto/token.ts';
import type { TenantId, Timestamp, Tx } from '../../db/database.ts';
import { common, isFrom } from '../../policy/cidr.ts';
import type { LoginMethod, Proof } from '../method.ts';
import { limitsOf, type TokenSettings, tokenSettingColumns } from '../token-setting.ts';

export type ServiceCredentials = {
  /** `<tenant id>.<account id>`; or, of the tenant that is named, a service's role id. */
  readonly clientId: string;
  readonly clientSecret: string;
  /** The name of the tenant that the caller speaks of. */
  readonly tenant?: string | undefined;
};

const CLIENT_ID = /^(system|[a-z2-7]{16})\.([a-z2-7]{16})$/;
/** Other texts are not looked for: the database refuses some of them, and such a login would leave nothing in the log. */
const ROLE_ID = /^[A-Za-z0-9._-]{8,128}$/;
const NOBODY = 'aaaaaaaaaaaaaaaa';
const NO_HASH = new Uint8Array(32);

export const service: LoginMethod<ServiceCredentials> = {
  name: 'service',
  tenantOf: ({ clientId, tenant }) =>
    tenant === undefined ? { id: CLIENT_ID.exec(clientId)?.[1] ?? NOBODY } : { name: tenant },
  prepare: async () => undefined,
  prove: async (tx, tenant, { clientId, clientSecret, tenant: named }, _, { source }) => {
    const parsed = parseClientSecret(clientSecret);
    const account = await readService(tx, tenant, clientId, named !== undefined);
    const userId = account?.userId ?? NOBODY;
    const stored = await readSecret(tx, tenant, userId, parsed?.secretId ?? NOBODY);
    const fits = equalHash(stored?.secretHash ?? NO_HASH, parsed?.secretHash ?? NO_HASH) && parsed?.tenantId === tenant;
    const refuse = (refused: string): Proof => ({ refused, of: account && { id: userId, name: account.name } });
    if (!account) return refuse('unknown_client');
    if (!stored || !fits) return refuse('wrong_secret');
    if (stored.expired) return refuse('expired_secret');
    if (stored.usesLeft === 0) return refuse('used_up_secret');
    if (account.disabled) return refuse('disabled');
    const allowed = [stored.cidrs, account.secretCidrs, account.tokenCidrs];
    if (!allowed.every((cidrs) => cidrs === null || isFrom(cidrs, source))) return refuse('other_network');
    await tx`
      UPDATE client_secrets SET last_used_at = bulla.now(), last_used_from = ${source}, uses_left = uses_left - 1
      WHERE tenant_id = ${tenant} AND secret_id = ${stored.secretId}`;
    return proofOf(account, stored);
  },
};

function proofOf(account: ServiceRow, stored: SecretRow): Proof {
  return {
    account: { userId: account.userId },
    token: {
      ...limitsOf(account),
      // The source lies in both, so that they have something in common.
      cidrs: common(stored.cidrs, account.tokenCidrs) ?? undefined,
      clientSecret: { id: stored.secretId, expiresAt: stored.expiresAt },
      metadata: stored.metadata === null ? undefined : (JSON.parse(stored.metadata) as Record<string, string>),
    },
    details: { client_secret: stored.name },
  };
}

type ServiceRow = TokenSettings & {
  readonly userId: string;
  readonly name: string;
  readonly disabled: boolean;
  readonly secretCidrs: string[] | null;
};

const SETTING_COLUMNS = tokenSettingColumns('s');

/** By its client id, which names its tenant; where the tenant is named apart, by its role id too. */
async function readService(
  tx: Tx,
  tenant: TenantId,
  clientId: string,
  byRoleId: boolean,
): Promise<ServiceRow | undefined> {
  const [, of, userId] = CLIENT_ID.exec(clientId) ?? [];
  const isOwn = of === tenant;
  const isRoleId = userId === undefined && byRoleId && ROLE_ID.test(clientId);
  const which = isRoleId ? tx`s.role_id = ${clientId}` : tx`u.user_id = ${isOwn ? userId! : NOBODY}`;
  const [row] = await tx<ServiceRow[]>`
    SELECT u.user_id AS "userId", u.name, u.disabled, ${tx.unsafe(SETTING_COLUMNS)}, s.secret_cidrs AS "secretCidrs"
    FROM users u JOIN services s USING (tenant_id, user_id)
    WHERE u.tenant_id = ${tenant} AND ${which} FOR NO KEY UPDATE OF u FOR SHARE OF s`;
  return row;
}

type SecretRow = {
  readonly secretId: string;
  readonly name: string;
  readonly secretHash: Uint8Array;
  readonly cidrs: string[] | null;
  readonly usesLeft: number | null;
  readonly metadata: string | null;
  readonly expiresAt: Timestamp;
  readonly expired: boolean;
};

/**
 * Of this service: a secret of another one is none, whatever its id. `=` would offer the planner the index of the service's
 * secrets in place of the key, and the time of a guess would tell that it has many.
 */
async function readSecret(tx: Tx, tenant: TenantId, userId: string, secretId: string): Promise<SecretRow | undefined> {
  const [row] = await tx<SecretRow[]>`
    SELECT secret_id AS "secretId", name, secret_hash AS "secretHash", cidrs, uses_left AS "usesLeft", metadata,
           expires_at AS "expiresAt", expires_at <= bulla.now() AS expired
    FROM client_secrets WHERE tenant_id = ${tenant} AND secret_id = ${secretId} AND user_id IS NOT DISTINCT FROM ${userId}
    FOR NO KEY UPDATE`;
  return row;
}
