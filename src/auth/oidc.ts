/**
 * Beginning a login at an OpenID provider: where to send the browser, and the secret with which the answer is concluded
 * (methods/oidc.ts). Owns the table oidc_logins.
 *
 * Nobody is known yet, so what is kept is little, short-lived and bounded, of one network and of a tenant. It holds only
 * the hash of a secret that whoever began has alone: a link to the issuer that is sent to somebody else brings the
 * answer to that one's own machine (the redirect is to loopback), and is worth nothing there, nor here (T-059).
 */
import { mayRecordGuess } from '../audit/recorded.ts';
import { LIMITS } from '../config.ts';
import { mintLoginSecret } from '../crypto/login-secret.ts';
import { SYSTEM, type TenantId, type Timestamp, type Tx, transaction } from '../db/database.ts';
import { isName } from '../db/name.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { networkOf } from '../policy/cidr.ts';
import { withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { isRegistered } from './issuer-client.ts';
import { metadataOf } from './issuer-keys.ts';
import { findTenant, loginFailed } from './proven-login.ts';
import type { SigningIssuer } from './signed-token.ts';

export type LoginBeginning = {
  readonly tenant: string;
  readonly role: string;
  /** Where the browser brings the answer: on the loopback interface, as registered. */
  readonly redirectUri: string;
};

export type BegunLogin = {
  /** Shown this once; whoever has it and the issuer's answer concludes the login. */
  readonly login: string;
  readonly authorizationUrl: string;
  readonly expiresAt: Timestamp;
};

/** Throws `login_failed`, `invalid_request` for another redirect, `too_many_requests`, `unavailable` without the issuer. */
export async function beginLogin(
  vault: Vault,
  call: Omit<Call, 'token'>,
  { tenant: name, role: roleName, redirectUri }: LoginBeginning,
): Promise<BegunLogin> {
  const tenant = await findTenant(vault, { name });
  const role = tenant && (await transaction(vault.db, [tenant], (tx) => readRole(tx, tenant, roleName)));
  if (!tenant || !role) throw await refused(vault, call, tenant);
  if (!isRegistered(role.redirectUris, redirectUri)) {
    throw new VaultError('invalid_request', `redirect_uri: expected ${role.redirectUris.join(' or ')}.`);
  }
  const { authorization_endpoint: endpoint } = await metadataOf(vault, role);
  const url = endpointOf(endpoint);
  const { login, loginHash, state, nonce, challenge } = mintLoginSecret();
  const expiresAt = await transaction(vault.db, [tenant], (tx) =>
    insertBegun(tx, tenant, { role, redirectUri, loginHash, source: networkOf(call.source) }),
  );
  const parameters = {
    ...{ response_type: 'code', client_id: role.clientId, redirect_uri: redirectUri, scope: role.scopes.join(' ') },
    ...{ state, nonce, code_challenge: challenge, code_challenge_method: 'S256' },
  };
  for (const [parameter, value] of Object.entries(parameters)) url.searchParams.set(parameter, value);
  return { login, authorizationUrl: url.href, expiresAt };
}

/** A browser is sent there: to the web, and nowhere else. */
function endpointOf(endpoint: unknown): URL {
  const url = typeof endpoint === 'string' && URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const isPlain = url?.protocol === 'http:' && /^(127\.0\.0\.1|localhost|\[::1\])$/.test(url.hostname);
  if (url && (url.protocol === 'https:' || isPlain) && !url.username && !url.password && !url.hash) return url;
  throw new VaultError('unavailable', 'The issuer says no place where people log in.', { retryAfterSeconds: 60 });
}

type RoleRow = Omit<SigningIssuer, 'algorithms' | 'skewSeconds' | 'nowSeconds' | 'name'> & {
  readonly roleId: string;
  readonly clientId: string;
  readonly redirectUris: readonly string[];
  readonly scopes: readonly string[];
};

async function readRole(tx: Tx, tenant: TenantId, name: string): Promise<RoleRow | undefined> {
  const [row] = await tx<RoleRow[]>`
    SELECT r.role_id AS "roleId", i.client_id AS "clientId", i.redirect_uris AS "redirectUris", i.scopes,
           i.tenant_id AS tenant, i.issuer_id AS "issuerId", i.revision, i.issuer, i.jwks,
           i.jwks_url AS "jwksUrl", i.ca
    FROM login_roles r JOIN jwt_issuers i USING (tenant_id, issuer_id)
    WHERE r.tenant_id = ${tenant} AND r.name = ${isName(name) ? name : ''} AND r.kind = 'oidc' AND i.client_id IS NOT NULL`;
  return row;
}

async function insertBegun(
  tx: Tx,
  tenant: TenantId,
  begun: { role: RoleRow; redirectUri: string; loginHash: Uint8Array; source: string },
): Promise<Timestamp> {
  const { role, redirectUri, loginHash, source } = begun;
  await removeExpired(tx, tenant);
  const { oidcLoginsPerSourceMax, oidcLoginsPerTenantMax, oidcLoginSeconds } = LIMITS;
  // Those who ask at once may be a few more; what is there stays bounded.
  const [open] = await tx<{ own: number; all: number }[]>`
    SELECT (SELECT count(*) FROM (SELECT FROM oidc_logins WHERE tenant_id = ${tenant} AND source = ${source}
                                  LIMIT ${oidcLoginsPerSourceMax}) AS own) AS own,
           (SELECT count(*) FROM (SELECT FROM oidc_logins WHERE tenant_id = ${tenant}
                                  LIMIT ${oidcLoginsPerTenantMax}) AS every) AS all`;
  if (open!.own >= oidcLoginsPerSourceMax || open!.all >= oidcLoginsPerTenantMax) {
    throw new VaultError('too_many_requests', 'Too many logins have begun and not ended; try again in some minutes.', {
      retryAfterSeconds: 60,
    });
  }
  const [row] = await tx<{ expiresAt: Timestamp }[]>`
    INSERT INTO oidc_logins (tenant_id, login_hash, role_id, issuer_revision, redirect_uri, source, expires_at)
    VALUES (${tenant}, ${loginHash}, ${role.roleId}, ${role.revision}, ${redirectUri}, ${source},
            bulla.now() + make_interval(secs => ${oidcLoginSeconds})) RETURNING expires_at AS "expiresAt"`;
  return row!.expiresAt;
}

const REMOVED_AT_ONCE = 100;

async function removeExpired(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`
    WITH expired AS MATERIALIZED (
      SELECT login_hash FROM oidc_logins WHERE tenant_id = ${tenant} AND expires_at <= (SELECT bulla.now())
      LIMIT ${REMOVED_AT_ONCE} FOR UPDATE SKIP LOCKED)
    DELETE FROM oidc_logins o USING expired e WHERE o.tenant_id = ${tenant} AND o.login_hash = e.login_hash`;
}

/** The same for a tenant and for a role that is not there; neither name is recorded. */
async function refused(vault: Vault, call: Omit<Call, 'token'>, found: TenantId | undefined): Promise<VaultError> {
  const tenant = found ?? SYSTEM;
  const details = { reason: found === undefined ? 'unknown_tenant' : 'unknown_role' };
  const said = { actor: { kind: 'anonymous', method: 'oidc' }, action: 'auth.login', outcome: 'denied' } as const;
  const records = mayRecordGuess(vault, call.source)
    ? [{ tenant, ...said, code: 'login_failed', details } as const]
    : [];
  return withoutToken(vault, call, [tenant], async () => ({ value: loginFailed(), records }));
}
