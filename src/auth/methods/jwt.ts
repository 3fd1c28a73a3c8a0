/**
 * A workload that shows a token which somebody else has signed: GitHub Actions, GitLab, Kubernetes, any OpenID provider.
 *
 * What a token says is looked at only to find out whether it can be one of the role's issuer at all; then the signature
 * is checked with the issuer's public keys under the algorithms that are pinned for it, and only then counts what it
 * says. Keys and places to fetch them that a token brings along are refused. All time is the database's. The check comes
 * before the transaction; that role and issuer are still as they were, and that the token has not expired, is decided in
 * it.
 */
import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from 'jose';
import { LIMITS } from '../../config.ts';
import { type TenantId, type Tx, transaction } from '../../db/database.ts';
import { isName } from '../../db/name.ts';
import { VaultError } from '../../errors.ts';
import { contains, parseAddress, parseCidr } from '../../policy/cidr.ts';
import type { Vault } from '../../vault.ts';
import { type ClaimRule, policiesFor } from '../claim.ts';
import { keysOf } from '../issuer-keys.ts';
import type { LoginMethod, Proof } from '../method.ts';

export type JwtCredentials = { readonly tenant: string; readonly role: string; readonly jwt: string };

const SUBJECT = /^[\x21-\x7e]{1,255}$/;
/** A login holds for the claims of a moment: a token that is good for longer than this is no workload's. */
const LIFETIME_SECONDS_MAX = 24 * 3600;

type Checked = {
  readonly role: RoleRow | undefined;
  readonly claims: JWTPayload | undefined;
  readonly refused: string;
};

export const jwt: LoginMethod<JwtCredentials, Checked> = {
  name: 'jwt',
  tenantOf: ({ tenant }) => ({ name: tenant }),
  prepare: async (vault, tenant, { role: name, jwt: token }) => {
    const role = tenant && (await transaction(vault.db, [tenant], (tx) => readRole(tx, tenant, name)));
    if (!tenant || !role) return { role: undefined, claims: undefined, refused: 'unknown_role' };
    const claims = await verified(vault, tenant, role, token);
    return typeof claims === 'string' ? { role, claims: undefined, refused: claims } : { role, claims, refused: '' };
  },
  prove: async (tx, tenant, { role: name }, { role: before, claims, refused }, { source }): Promise<Proof> => {
    const role = await readRole(tx, tenant, name, 'lock');
    if (!before || !claims) return { refused };
    if (!role || !sameRole(role, before)) return { refused: 'changed_meanwhile' };
    if (claims.exp! <= role.nowSeconds - role.skewSeconds) return { refused: 'expired_token' };
    if (role.cidrs !== null && !isFrom(role.cidrs, source)) return { refused: 'other_network' };
    const policies = policiesFor(JSON.parse(role.rules) as ClaimRule[], claims);
    if (!policies) return { refused: 'no_rule' };
    return {
      account: { issuerId: role.issuerId, issuerName: role.issuerName, subject: claims.sub! },
      token: {
        ttlSeconds: role.tokenTtlSeconds ?? undefined,
        policies,
        cidrs: role.cidrs ?? undefined,
        loginRole: role.roleId,
      },
      details: { role: role.name, issuer: role.issuer, subject: claims.sub! },
    };
  },
};

type RoleRow = {
  readonly roleId: string;
  readonly name: string;
  readonly revision: number;
  readonly audiences: string[];
  readonly rules: string;
  readonly tokenTtlSeconds: number | null;
  readonly cidrs: string[] | null;
  readonly issuerId: string;
  readonly issuerName: string;
  readonly issuerRevision: number;
  readonly issuer: string;
  readonly jwks: string | null;
  readonly ca: string | null;
  readonly algorithms: string[];
  readonly skewSeconds: number;
  readonly nowSeconds: number;
};

/** With `lock`, first logins of one subject come one after the other, and changes of role and issuer wait. */
async function readRole(tx: Tx, tenant: TenantId, name: string, lock?: 'lock'): Promise<RoleRow | undefined> {
  const [row] = await tx<RoleRow[]>`
    SELECT r.role_id AS "roleId", r.name, r.revision, r.audiences, r.rules, r.token_ttl_seconds AS "tokenTtlSeconds", r.cidrs,
           i.issuer_id AS "issuerId", i.name AS "issuerName", i.revision AS "issuerRevision", i.issuer, i.jwks, i.ca,
           i.algorithms, i.clock_skew_seconds AS "skewSeconds",
           extract(epoch FROM bulla.now())::double precision AS "nowSeconds"
    FROM login_roles r JOIN jwt_issuers i USING (tenant_id, issuer_id)
    WHERE r.tenant_id = ${tenant} AND r.name = ${isName(name) ? name : ''}
    ${lock ? tx`FOR SHARE OF r FOR NO KEY UPDATE OF i` : tx``}`;
  return row;
}

const sameRole = (a: RoleRow, b: RoleRow) =>
  a.roleId === b.roleId &&
  a.revision === b.revision &&
  a.issuerId === b.issuerId &&
  a.issuerRevision === b.issuerRevision;

/** The claims, or why they do not count. */
async function verified(vault: Vault, tenant: TenantId, role: RoleRow, token: string): Promise<JWTPayload | string> {
  const reason = looksWrong(role, token);
  if (reason) return reason;
  const { issuerId, issuerRevision: revision, issuer, jwks, ca } = role;
  try {
    const keys = await keysOf(vault, { tenant, issuerId, revision, issuer, jwks, ca });
    const { payload } = await jwtVerify(token, keys, {
      ...{ issuer, audience: role.audiences, algorithms: role.algorithms, clockTolerance: role.skewSeconds },
      ...{ requiredClaims: ['iss', 'sub', 'aud', 'exp'], currentDate: new Date(role.nowSeconds * 1000) },
    });
    return claimsProblem(role, payload) ?? payload;
  } catch (error) {
    if (error instanceof errors.JOSEError) return reasonOf(error);
    // An issuer that cannot be reached is for the log: whoever is asking has not shown anything yet.
    if (error instanceof VaultError && error.code === 'unavailable') return 'issuer_unreachable';
    throw error;
  }
}

/** Before any key is fetched for it. Nothing here is believed. */
function looksWrong(role: RoleRow, token: string): string | undefined {
  if (token.length > LIMITS.jwtLengthMax || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return 'no_jwt';
  try {
    const header = decodeProtectedHeader(token);
    if (['jwk', 'jku', 'x5u', 'b64', 'crit', 'enc', 'zip'].some((name) => Object.hasOwn(header, name)))
      return 'strange_header';
    if (typeof header.alg !== 'string' || !role.algorithms.includes(header.alg)) return 'other_algorithm';
    return decodeJwt(token).iss === role.issuer ? undefined : 'other_issuer';
  } catch {
    return 'no_jwt';
  }
}

/** What jose takes more kindly than we do. */
function claimsProblem(role: RoleRow, { sub, aud, exp, iat, nbf }: JWTPayload): string | undefined {
  if (typeof sub !== 'string' || !SUBJECT.test(sub)) return 'strange_subject';
  // A token that is for others too could be shown to us by them.
  const audiences = typeof aud === 'string' ? [aud] : aud;
  if (!Array.isArray(audiences) || audiences.length === 0 || !audiences.every((one) => role.audiences.includes(one))) {
    return 'other_audience';
  }
  for (const time of [exp, iat, nbf]) if (time !== undefined && !Number.isSafeInteger(time)) return 'strange_time';
  if (iat !== undefined && iat > role.nowSeconds + role.skewSeconds) return 'not_yet';
  return exp! - (iat ?? role.nowSeconds) > LIFETIME_SECONDS_MAX ? 'lives_too_long' : undefined;
}

function reasonOf(error: errors.JOSEError): string {
  if (error instanceof errors.JWTExpired) return 'expired_token';
  if (error instanceof errors.JWTClaimValidationFailed) return `wrong_${error.claim.replace(/[^a-z]/g, '')}`;
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'wrong_signature';
  return error instanceof errors.JWKSNoMatchingKey ? 'unknown_key' : 'no_jwt';
}

function isFrom(cidrs: readonly string[], source: string): boolean {
  const address = parseAddress(source);
  return address !== undefined && cidrs.some((text) => contains(parseCidr(text)!, address));
}
