/**
 * A person who has logged in at an OpenID provider with a browser, which has brought the answer to the command line that
 * began (oidc.ts): authorization code with PKCE (RFC 6749 §4.1, RFC 7636, RFC 9207, OpenID Connect Core 1.0 §3.1).
 *
 * Whoever concludes shows the secret that the beginning gave; its row goes first, so that it is shown once whatever
 * follows. The state is what that secret says, the answer comes from the issuer that was asked, the code is worth
 * something only with the verifier, and the ID token is for this vault alone and for this one login. What the browser
 * and its history hold concludes nothing.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import type { JWTPayload } from 'jose';
import { type LoginSecret, parseLoginSecret } from '../../crypto/login-secret.ts';
import { type TenantId, type Tx, transaction } from '../../db/database.ts';
import { VaultError } from '../../errors.ts';
import { isFrom } from '../../policy/cidr.ts';
import type { Vault } from '../../vault.ts';
import { type ClaimRule, policiesFor } from '../claim.ts';
import { readClientSecret } from '../issuer-client.ts';
import { askIssuer, type IssuerMetadata, metadataOf } from '../issuer-keys.ts';
import type { LoginMethod, Proof } from '../method.ts';
import { audienceProblem, checkSignedToken, type SigningIssuer } from '../signed-token.ts';
import { limitsOf, type TokenSettings, tokenSettingColumns } from '../token-setting.ts';

export type OidcCredentials = {
  readonly tenant: string;
  /** What the beginning answered. */
  readonly login: string;
  /** As the browser was sent back with them. */
  readonly state: string;
  readonly code: string;
  readonly iss?: string | undefined;
};

type Prepared =
  | { readonly roleId: string; readonly issuer: SigningIssuer; readonly claims: JWTPayload }
  | { readonly refused: string; readonly tell?: VaultError | undefined };

export const oidc: LoginMethod<OidcCredentials, Prepared> = {
  name: 'oidc',
  tenantOf: ({ tenant }) => ({ name: tenant }),
  prepare: async (vault, tenant, credentials) => {
    if (tenant === undefined) return { refused: 'unknown_tenant' };
    try {
      return await concluded(vault, tenant, credentials);
    } catch (error) {
      // Whoever has the secret of a login that was begun may hear that the issuer is not there.
      if (error instanceof VaultError && error.code === 'unavailable') {
        return { refused: 'issuer_unreachable', tell: error };
      }
      throw error;
    }
  },
  prove: async (tx, tenant, _, prepared, { source }): Promise<Proof> => {
    if ('refused' in prepared) return prepared;
    const { issuer, claims } = prepared;
    const role = await readRole(tx, tenant, prepared.roleId);
    if (!role) return { refused: 'unknown_role' };
    const isSame = role.issuerId === issuer.issuerId && role.issuerRevision === issuer.revision;
    if (!isSame) return { refused: 'changed_meanwhile' };
    if (claims.exp! <= role.nowSeconds - issuer.skewSeconds) return { refused: 'expired_token' };
    if (role.tokenCidrs !== null && !isFrom(role.tokenCidrs, source)) return { refused: 'other_network' };
    const policies = policiesFor(JSON.parse(role.rules) as ClaimRule[], claims);
    if (!policies) return { refused: 'no_rule' };
    return {
      account: { issuerId: issuer.issuerId, issuerName: issuer.name, claim: 'sub', subject: claims.sub! },
      token: {
        ...{ ...limitsOf(role), policies },
        ...{ loginRole: role.roleId, mfa: showedSecondFactor(claims) },
      },
      details: { role: role.name, issuer: issuer.issuer, subject: claims.sub! },
    };
  },
};

/** RFC 8176 §2: whoever is believed who somebody is, is believed how they showed it. */
const showedSecondFactor = ({ amr }: JWTPayload) => Array.isArray(amr) && amr.includes('mfa');

type Begun = {
  readonly live: boolean;
  readonly roleId: string;
  readonly redirectUri: string;
  readonly beganRevision: number;
  readonly clientId: string | null;
} & Omit<SigningIssuer, 'algorithms' | 'skewSeconds' | 'nowSeconds' | 'name'>;

async function concluded(vault: Vault, tenant: TenantId, shown: OidcCredentials): Promise<Prepared> {
  const secret = parseLoginSecret(shown.login);
  const begun = secret && (await takeBegun(vault, tenant, secret));
  if (!secret || !begun) return { refused: 'unknown_login' };
  const { row, clientSecret } = begun;
  if (!row.live) return { refused: 'expired_login' };
  if (!isSameText(shown.state, secret.state)) return { refused: 'other_state' };
  if (row.clientId === null || row.revision !== row.beganRevision) return { refused: 'changed_meanwhile' };
  const metadata = await metadataOf(vault, row);
  // RFC 9207 §2.4: the answer of another issuer is not taken to this one.
  const named = shown.iss ?? (metadata.authorization_response_iss_parameter_supported === true ? '' : row.issuer);
  if (named !== row.issuer) return { refused: 'other_issuer' };
  const answer = await exchange(vault, metadata, row, { code: shown.code, secret, clientSecret });
  if ('refused' in answer) return answer;
  const checked = await checkSignedToken(vault, tenant, answer.idToken);
  if ('refused' in checked) {
    if (checked.unreachable) throw new VaultError('unavailable', 'The issuer cannot be reached now; log in again.');
    return checked;
  }
  const { issuer, claims } = checked;
  if (issuer.issuerId !== row.issuerId) return { refused: 'other_issuer' };
  const problem = audienceProblem(claims, [row.clientId]) ?? idTokenProblem(answer, claims, row.clientId, secret);
  return problem !== undefined ? { refused: problem } : { roleId: row.roleId, issuer, claims };
}

/** Whoever shows its secret first takes it away, before anything is found out. */
async function takeBegun(
  vault: Vault,
  tenant: TenantId,
  { loginHash }: LoginSecret,
): Promise<{ readonly row: Begun; readonly clientSecret: string | undefined } | undefined> {
  return transaction(vault.db, [tenant], async (tx) => {
    const [row] = await tx<Begun[]>`
      WITH taken AS (
        DELETE FROM oidc_logins WHERE tenant_id = ${tenant} AND login_hash = ${loginHash}
        RETURNING tenant_id, role_id, redirect_uri, issuer_revision, expires_at)
      SELECT t.expires_at > bulla.now() AS live, t.role_id AS "roleId", t.redirect_uri AS "redirectUri",
             t.issuer_revision AS "beganRevision", i.client_id AS "clientId", i.tenant_id AS tenant,
             i.issuer_id AS "issuerId", i.revision, i.issuer, i.jwks, i.ca
      FROM taken t JOIN login_roles r USING (tenant_id, role_id) JOIN jwt_issuers i USING (tenant_id, issuer_id)`;
    return row && { row, clientSecret: await readClientSecret(vault, tx, tenant, row.issuerId) };
  });
}

type Answer = { readonly idToken: string; readonly accessToken: string | undefined };

/** RFC 6749 §4.1.3. Throws `unavailable`. */
async function exchange(
  vault: Vault,
  metadata: IssuerMetadata,
  { redirectUri, clientId, ca }: Begun,
  { code, secret, clientSecret }: { code: string; secret: LoginSecret; clientSecret: string | undefined },
): Promise<Answer | { readonly refused: string }> {
  const { token_endpoint: endpoint } = metadata;
  if (typeof endpoint !== 'string' || !URL.canParse(endpoint)) return { refused: 'no_token_endpoint' };
  const basic = clientSecret !== undefined && takesBasic(metadata);
  const form = new URLSearchParams({
    ...{ grant_type: 'authorization_code', code, redirect_uri: redirectUri, code_verifier: secret.verifier },
    ...(basic ? {} : { client_id: clientId! }),
    ...(clientSecret === undefined || basic ? {} : { client_secret: clientSecret }),
  });
  const { status, json } = await askIssuer(vault, ca, {
    ...{ method: 'POST', url: endpoint, body: form.toString() },
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      ...(basic ? { authorization: `Basic ${basicOf(clientId!, clientSecret)}` } : {}),
    },
  });
  if (status >= 500) throw new VaultError('unavailable', `The issuer answers ${status}; log in again.`);
  const { id_token: idToken, access_token: accessToken } = (json ?? {}) as Readonly<Record<string, unknown>>;
  if (status === 401) return { refused: 'client_refused' };
  if (status !== 200) return { refused: 'code_refused' };
  if (typeof idToken !== 'string') return { refused: 'no_id_token' };
  return { idToken, accessToken: typeof accessToken === 'string' ? accessToken : undefined };
}

/** OpenID Connect Discovery 1.0 §3: basic where nothing is said. */
function takesBasic({ token_endpoint_auth_methods_supported: methods }: IssuerMetadata): boolean {
  return !Array.isArray(methods) || methods.includes('client_secret_basic') || !methods.includes('client_secret_post');
}

/** RFC 6749 §2.3.1: both are form-encoded first. */
function basicOf(id: string, secret: string): string {
  const encoded = (text: string) => new URLSearchParams({ a: text }).toString().slice(2);
  return Buffer.from(`${encoded(id)}:${encoded(secret)}`).toString('base64');
}

/** OpenID Connect Core 1.0 §3.1.3.7 and §3.1.3.8, behind what every signed token has to be. */
function idTokenProblem(
  { idToken, accessToken }: Answer,
  claims: JWTPayload,
  clientId: string,
  { nonce }: LoginSecret,
): string | undefined {
  if (claims.azp !== undefined && claims.azp !== clientId) return 'other_party';
  if (!isSameText(claims.nonce, nonce)) return 'other_nonce';
  if (claims.iat === undefined) return 'wrong_iat';
  if (claims.at_hash === undefined) return undefined;
  if (accessToken === undefined) return 'other_access_token';
  const { alg } = JSON.parse(Buffer.from(idToken.split('.')[0]!, 'base64url').toString('utf8')) as { alg: string };
  return isSameText(claims.at_hash, leftHalf(alg, accessToken)) ? undefined : 'other_access_token';
}

/** The hash of the signature's algorithm; of Ed25519 it is SHA-512 (RFC 8032 §5.1). */
function leftHalf(alg: string, text: string): string {
  const bits = alg === 'EdDSA' ? '512' : alg.slice(-3);
  const digest = Buffer.from(hash(`sha${bits}`, text, 'hex'), 'hex');
  return digest.subarray(0, digest.length / 2).toString('base64url');
}

function isSameText(a: unknown, b: string): boolean {
  const [one, other] = [Buffer.from(String(a)), Buffer.from(b)];
  return typeof a === 'string' && one.length === other.length && timingSafeEqual(one, other);
}

const SETTING_COLUMNS = tokenSettingColumns('r');

type RoleRow = TokenSettings & {
  readonly roleId: string;
  readonly name: string;
  readonly rules: string;
  readonly issuerId: string;
  readonly issuerRevision: number;
  readonly nowSeconds: number;
};

/** First logins of one subject come one after the other, and changes of role and issuer wait. */
async function readRole(tx: Tx, tenant: TenantId, roleId: string): Promise<RoleRow | undefined> {
  const [row] = await tx<RoleRow[]>`
    SELECT r.role_id AS "roleId", r.name, r.rules, ${tx.unsafe(SETTING_COLUMNS)},
           i.issuer_id AS "issuerId", i.revision AS "issuerRevision",
           extract(epoch FROM bulla.now())::double precision AS "nowSeconds"
    FROM login_roles r JOIN jwt_issuers i USING (tenant_id, issuer_id)
    WHERE r.tenant_id = ${tenant} AND r.role_id = ${roleId} AND r.kind = 'oidc'
    FOR SHARE OF r FOR NO KEY UPDATE OF i`;
  return row;
}
