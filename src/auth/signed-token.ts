/**
 * A token that somebody else has signed (JWT), checked against its issuer: for workloads and for people alike.
 *
 * The issuer is found by what the token says of itself, among those of the tenant, before anybody looks whether there is
 * a login role: so neither the time of an answer nor a fetch tells which roles there are. Then the signature is checked
 * with the issuer's public keys under the algorithms that are pinned for it, and only then counts what the token says.
 * Keys, and places to fetch them, that a token brings along are refused. All time is the database's.
 */
import type * as Jose from 'jose';
import type { JWTPayload } from 'jose';
import { LIMITS } from '../config.ts';
import { type TenantId, type Tx, transaction } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { keysOf } from './issuer-keys.ts';

/** As it was when the token was checked: what has another revision by then is not used. */
export type SigningIssuer = {
  readonly tenant: TenantId;
  readonly issuerId: string;
  readonly name: string;
  readonly revision: number;
  readonly issuer: string;
  readonly jwks: string | null;
  readonly jwksUrl: string | null;
  readonly ca: string | null;
  readonly algorithms: readonly string[];
  readonly skewSeconds: number;
  readonly nowSeconds: number;
};

/** Of whom a token is, or what is wrong with it, for the log. */
export type Checked =
  | { readonly issuer: SigningIssuer; readonly claims: JWTPayload }
  | { readonly refused: string; readonly unreachable?: true };

export const SUBJECT = /^[\x21-\x7e]{1,255}$/;
/** A login holds for the claims of a moment: a token that is good for longer than this is nobody's proof. */
const LIFETIME_SECONDS_MAX = 24 * 3600;

/** Outside of any transaction: keys may have to be fetched. */
export async function checkSignedToken(vault: Vault, tenant: TenantId, token: string): Promise<Checked> {
  // Loaded here, because most vaults have no issuer and start sooner without it.
  const jose = await import('jose');
  const said = unbelieved(jose, token);
  if (typeof said === 'string') return { refused: said };
  const issuer = await transaction(vault.db, [tenant], (tx) => readIssuer(tx, tenant, said.iss));
  if (!issuer) return { refused: 'other_issuer' };
  if (!issuer.algorithms.includes(said.alg)) return { refused: 'other_algorithm' };
  try {
    const { payload } = await jose.jwtVerify(token, await keysOf(vault, issuer), {
      ...{ issuer: issuer.issuer, algorithms: [...issuer.algorithms], clockTolerance: issuer.skewSeconds },
      ...{ requiredClaims: ['iss', 'sub', 'aud', 'exp'], currentDate: new Date(issuer.nowSeconds * 1000) },
    });
    const refused = claimsProblem(issuer, payload);
    return refused === undefined ? { issuer, claims: payload } : { refused };
  } catch (error) {
    if (error instanceof jose.errors.JOSEError) return { refused: reasonOf(jose.errors, error) };
    // An issuer that cannot be reached is for the log: whoever is asking has not shown anything yet.
    if (error instanceof VaultError && error.code === 'unavailable')
      return { refused: 'issuer_unreachable', unreachable: true };
    throw error;
  }
}

async function readIssuer(tx: Tx, tenant: TenantId, issuer: string): Promise<SigningIssuer | undefined> {
  const [row] = await tx<SigningIssuer[]>`
    SELECT tenant_id AS tenant, issuer_id AS "issuerId", name, revision, issuer, jwks, jwks_url AS "jwksUrl", ca, algorithms,
           clock_skew_seconds AS "skewSeconds", extract(epoch FROM bulla.now())::double precision AS "nowSeconds"
    FROM jwt_issuers WHERE tenant_id = ${tenant} AND issuer = ${issuer}`;
  return row;
}

/** What it says of itself, before any key is fetched for it; or why it is none. */
function unbelieved(
  { decodeJwt, decodeProtectedHeader }: typeof Jose,
  token: string,
): { iss: string; alg: string } | string {
  if (token.length > LIMITS.jwtLengthMax || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return 'no_jwt';
  try {
    const header = decodeProtectedHeader(token);
    if (['jwk', 'jku', 'x5u', 'b64', 'crit', 'enc', 'zip'].some((name) => Object.hasOwn(header, name)))
      return 'strange_header';
    const { iss } = decodeJwt(token);
    return typeof iss === 'string' ? { iss, alg: String(header.alg) } : 'other_issuer';
  } catch {
    return 'no_jwt';
  }
}

/** What jose takes more kindly than we do. */
function claimsProblem(issuer: SigningIssuer, { sub, exp, iat, nbf }: JWTPayload): string | undefined {
  if (typeof sub !== 'string' || !SUBJECT.test(sub)) return 'strange_subject';
  for (const time of [exp, iat, nbf]) if (time !== undefined && !Number.isSafeInteger(time)) return 'strange_time';
  if (iat !== undefined && iat > issuer.nowSeconds + issuer.skewSeconds) return 'not_yet';
  return exp! - (iat ?? issuer.nowSeconds) > LIFETIME_SECONDS_MAX ? 'lives_too_long' : undefined;
}

/** A token that is for others too could be shown to us by them. */
export function audienceProblem({ aud }: JWTPayload, taken: readonly string[]): string | undefined {
  const audiences: unknown = typeof aud === 'string' ? [aud] : aud;
  if (!Array.isArray(audiences) || !audiences.some((one) => taken.includes(one))) return 'wrong_aud';
  return audiences.every((one) => taken.includes(one)) ? undefined : 'other_audience';
}

function reasonOf(errors: typeof Jose.errors, error: Jose.errors.JOSEError): string {
  if (error instanceof errors.JWTExpired) return 'expired_token';
  if (error instanceof errors.JWTClaimValidationFailed) return `wrong_${error.claim.replace(/[^a-z]/g, '')}`;
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'wrong_signature';
  return error instanceof errors.JWKSNoMatchingKey ? 'unknown_key' : 'no_jwt';
}
