/**
 * The issuers of signed tokens (JWT) that a tenant takes logins from. Owns jwt_issuers and external_identities.
 *
 * A change counts the revision up, forgets the keys that were fetched, and ends every token that was given for a token of
 * this issuer. A new issuer under an old name is another one: its subjects are other accounts.
 */
import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { LIMITS } from '../config.ts';
import { randomId } from '../crypto/token.ts';
import { RetryTransaction, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { isUniqueViolation } from '../db/sql-error.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { checkEachGiven, checkTakeover } from '../policy/give.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { type ClientWish, checkedClient, type IssuerClient, storeClientSecret } from './issuer-client.ts';

/** Signatures with public keys only: with a shared key, whoever may check could also sign. */
export const JWT_ALGORITHMS = [
  ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'] as const),
];

export type JwtAlgorithm = (typeof JWT_ALGORITHMS)[number];

export type IssuerInfo = {
  readonly name: string;
  /** As the claim `iss` has it, byte for byte. */
  readonly issuer: string;
  /** Null: fetched from jwksUrl, or where discovery says. */
  readonly jwks: { readonly keys: readonly object[] } | null;
  /** Of an issuer without a discovery document. */
  readonly jwksUrl: string | null;
  readonly ca: string | null;
  readonly algorithms: readonly JwtAlgorithm[];
  readonly clockSkewSeconds: number;
  /** What the vault is registered as there; null: people do not log in by it. */
  readonly client: IssuerClient | null;
  /** The login role of who names none, where a protocol lets that be. It need not be there. */
  readonly defaultRole: string | null;
  readonly revision: number;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export type IssuerWish = {
  readonly issuer: string;
  readonly jwks?: { readonly keys: readonly object[] } | undefined;
  readonly jwksUrl?: string | undefined;
  readonly ca?: string | undefined;
  readonly algorithms?: readonly JwtAlgorithm[] | undefined;
  readonly clockSkewSeconds?: number | undefined;
  readonly client?: ClientWish | undefined;
  readonly defaultRole?: string | undefined;
};

const CLOCK_SKEW_SECONDS_DEFAULT = 30;
const CLOCK_SKEW_SECONDS_MAX = 300;
const ISSUER_LENGTH_MAX = 512;
const RSA_BITS_MIN = 2048;

const ask = (action: Action, name: string) => ({ action, resource: `issuer:${parseName(name, 'name')}` }) as const;

const COLUMNS = `name, issuer, jwks, jwks_url AS "jwksUrl", ca, algorithms, clock_skew_seconds AS "clockSkewSeconds", revision,
  client_id AS "clientId", redirect_uris AS "redirectUris", scopes, EXISTS (
    SELECT 1 FROM issuer_secrets s WHERE s.tenant_id = jwt_issuers.tenant_id AND s.issuer_id = jwt_issuers.issuer_id
  ) AS confidential, default_role AS "defaultRole", created_at AS "createdAt", updated_at AS "updatedAt"`;

type IssuerRow = Omit<IssuerInfo, 'jwks' | 'client'> & {
  readonly jwks: string | null;
  readonly clientId: string | null;
  readonly redirectUris: readonly string[] | null;
  readonly scopes: readonly string[] | null;
  readonly confidential: boolean;
};

const infoOf = ({ jwks, clientId, redirectUris, scopes, confidential, ...row }: IssuerRow): IssuerInfo => ({
  ...row,
  jwks: jwks === null ? null : JSON.parse(jwks),
  client: clientId === null ? null : { id: clientId, confidential, redirectUris: redirectUris!, scopes: scopes! },
});

export async function listIssuers(vault: Vault, call: Call, page: PageAsk): Promise<Page<IssuerInfo>> {
  const wanted = { action: 'issuer.list', resource: 'issuer:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      async (after, rows) => {
        const found = await tx<IssuerRow[]>`
          SELECT ${tx.unsafe(COLUMNS)} FROM jwt_issuers WHERE tenant_id = ${tenant} AND name > ${after}
          ORDER BY name LIMIT ${rows}`;
        return found.map(infoOf);
      },
      (issuer) => issuer.name,
      (issuer) => allows({ action: 'issuer.list', resource: `issuer:${issuer.name}` }),
    ),
  }));
}

export async function readIssuer(vault: Vault, call: Call, name: string): Promise<IssuerInfo> {
  return permit(vault, call, ask('issuer.read', name), async (tx, { tenant }) => ({
    value: await issuerNamed(tx, tenant, name),
  }));
}

/** Creates or replaces. Throws `invalid_request`, and `conflict` for an issuer that has another name already. */
export async function putIssuer(
  vault: Vault,
  call: Call,
  name: string,
  wish: IssuerWish,
): Promise<IssuerInfo & { readonly created: boolean }> {
  const wanted = ask('issuer.write', name);
  const { issuer, jwks, jwksUrl = null, ca = null, algorithms = ['RS256'] } = wish;
  const { clockSkewSeconds = CLOCK_SKEW_SECONDS_DEFAULT } = wish;
  const defaultRole = wish.defaultRole === undefined ? null : parseName(wish.defaultRole, 'default_role');
  checkWish(wish);
  const client = wish.client && checkedClient(wish.client);
  const keys = jwks === undefined ? null : JSON.stringify(jwks);
  return permit(vault, call, wanted, async (tx, granted) => {
    const { tenant } = granted;
    const [before] = await tx<{ id: string; issuer: string; clientId: string | null; people: boolean }[]>`
      SELECT issuer_id AS id, issuer, client_id AS "clientId", EXISTS (
        SELECT 1 FROM login_roles r WHERE r.tenant_id = i.tenant_id AND r.issuer_id = i.issuer_id AND r.kind = 'oidc'
      ) AS people FROM jwt_issuers i WHERE tenant_id = ${tenant} AND name = ${name} FOR UPDATE`;
    if (before && before.issuer !== issuer) {
      throw new VaultError('conflict', `The issuer ${name} is ${before.issuer}: another one needs another name.`);
    }
    if (before?.people && !client) {
      throw new VaultError('conflict', 'Login roles for people need the client of this issuer: delete them first.');
    }
    // Whoever says which keys are the issuer's can be whomever its roles let in.
    if (before) {
      await checkEachGiven(tx, granted, await policiesBehind(tx, tenant, before.id));
      await checkTakeover(tx, granted, await accountsBehind(tx, tenant, before.id));
    }
    const id = before?.id ?? randomId();
    const rows = await stored(
      name,
      tx`
      INSERT INTO jwt_issuers AS i (tenant_id, issuer_id, name, issuer, jwks, jwks_url, ca, algorithms, clock_skew_seconds,
                                    client_id, redirect_uris, scopes, default_role, revision, created_at, updated_at)
      VALUES (${tenant}, ${id}, ${name}, ${issuer}, ${keys}, ${jwksUrl}, ${ca}, ${[...algorithms]}, ${clockSkewSeconds},
              ${client?.id ?? null}, ${client ? [...client.redirectUris] : null}, ${client ? [...client.scopes] : null}, ${defaultRole}, 1,
              bulla.now(), bulla.now())
      ON CONFLICT (tenant_id, name) DO UPDATE SET jwks = excluded.jwks, jwks_url = excluded.jwks_url, ca = excluded.ca, algorithms = excluded.algorithms,
        clock_skew_seconds = excluded.clock_skew_seconds, client_id = excluded.client_id,
        redirect_uris = excluded.redirect_uris, scopes = excluded.scopes, default_role = excluded.default_role, revision = i.revision + 1,
        updated_at = excluded.updated_at WHERE i.issuer_id = excluded.issuer_id`,
    );
    // Somebody else has made one of this name since it was looked for.
    if (rows.count === 0) throw new RetryTransaction();
    // The secret of another registration is none of this one's.
    const kept = client && client.id === before?.clientId;
    await storeClientSecret(vault, tx, tenant, id, kept ? client.secret : (client?.secret ?? null));
    const stands = await issuerNamed(tx, tenant, name);
    if (before) await endTokensOf(tx, tenant, before.id);
    const details = {
      ...{ issuer, algorithms: algorithms.join(' '), keys: jwks ? jwks.keys.length : (jwksUrl ?? 'discovered') },
      ...(client ? { client: client.id, redirect_uris: client.redirectUris.join(' ') } : {}),
    };
    const value = { ...stands, created: before === undefined };
    return { value, notes: [{ version: stands.revision, details }], revokes: before !== undefined };
  });
}

/** What each rule of the issuer's roles gives. */
async function policiesBehind(tx: Tx, tenant: TenantId, issuer: string): Promise<(readonly string[])[]> {
  const rows = await tx<{ rules: string }[]>`
    SELECT rules FROM login_roles WHERE tenant_id = ${tenant} AND issuer_id = ${issuer}`;
  const rules = rows.flatMap((row) => JSON.parse(row.rules) as { readonly policies: readonly string[] }[]);
  return rules.map(({ policies }) => policies);
}

/** The accounts that the issuer vouches for. */
export async function accountsBehind(tx: Tx, tenant: TenantId, issuer: string): Promise<string[]> {
  const rows = await tx<{ id: string }[]>`
    SELECT user_id AS id FROM external_identities WHERE tenant_id = ${tenant} AND issuer_id = ${issuer}`;
  return rows.map(({ id }) => id);
}

/** Refused while a login role needs it. The accounts that it vouched for, and their tokens, go with it. */
export async function deleteIssuer(vault: Vault, call: Call, name: string): Promise<void> {
  await permit(vault, call, ask('issuer.delete', name), async (tx, { tenant, userId }) => {
    const [issuer] = await tx<{ id: string }[]>`
      SELECT issuer_id AS id FROM jwt_issuers WHERE tenant_id = ${tenant} AND name = ${name} FOR UPDATE`;
    if (!issuer) throw noIssuer(name);
    // Only now: a role that was being put held the issuer.
    const roles = await tx`
      SELECT 1 FROM login_roles WHERE tenant_id = ${tenant} AND issuer_id = ${issuer.id} LIMIT 1`;
    if (roles.length > 0) throw new VaultError('conflict', `Login roles need the issuer ${name}: delete them first.`);
    const gone = await tx<{ userId: string }[]>`
      DELETE FROM external_identities WHERE tenant_id = ${tenant} AND issuer_id = ${issuer.id} RETURNING user_id AS "userId"`;
    if (gone.some((one) => one.userId === userId)) {
      throw new VaultError('conflict', 'You cannot delete the issuer that vouches for you.');
    }
    await tx`
      DELETE FROM users WHERE tenant_id = ${tenant} AND user_id = ANY (${gone.map((one) => one.userId)})`;
    await tx`DELETE FROM jwt_issuers WHERE tenant_id = ${tenant} AND issuer_id = ${issuer.id}`;
    return { value: undefined, notes: [{ details: { accounts_removed: gone.length } }], revokes: true };
  });
}

/** Ends every token that a role of this issuer gave. */
async function endTokensOf(tx: Tx, tenant: TenantId, issuerId: string): Promise<void> {
  await tx`
    DELETE FROM tokens WHERE tenant_id = ${tenant} AND login_role_id IN (
      SELECT role_id FROM login_roles WHERE tenant_id = ${tenant} AND issuer_id = ${issuerId})`;
}

async function stored<T>(name: string, insert: PromiseLike<T>): Promise<T> {
  try {
    return await insert;
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new VaultError('conflict', `Another name than ${name} stands for this issuer already.`);
  }
}

async function issuerNamed(tx: Tx, tenant: TenantId, name: string): Promise<IssuerInfo> {
  const [row] = await tx<IssuerRow[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM jwt_issuers WHERE tenant_id = ${tenant} AND name = ${name}`;
  if (!row) throw noIssuer(name);
  return infoOf(row);
}

const noIssuer = (name: string) => new VaultError('not_found', `There is no issuer ${name}.`);

/** Removes the issuers, the roles and who they vouched for, of a tenant that is being deleted: before its users. */
export async function removeIssuers(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM external_identities WHERE tenant_id = ${tenant}`;
  await tx`DELETE FROM login_roles WHERE tenant_id = ${tenant}`;
  await tx`DELETE FROM jwt_issuers WHERE tenant_id = ${tenant}`;
}

// ---- what is taken ------------------------------------------------------------------------------------------------

function refuse(message: string): never {
  throw new VaultError('invalid_request', message);
}

function checkWish({ issuer, jwks, jwksUrl, ca, algorithms = ['RS256'], clockSkewSeconds = 0 }: IssuerWish): void {
  const url = issuer.length <= ISSUER_LENGTH_MAX && URL.canParse(issuer) ? new URL(issuer) : undefined;
  if (!url || !/^https?:\/\/[\x21-\x7e]+$/.test(issuer) || url.search || url.hash || url.username || url.password) {
    refuse('issuer: expected a URL as tokens have it in "iss", such as https://token.actions.githubusercontent.com.');
  }
  if (algorithms.length === 0 || !algorithms.every((name) => JWT_ALGORITHMS.includes(name))) {
    refuse(`algorithms: expected some of ${JWT_ALGORITHMS.join(', ')}.`);
  }
  if (!Number.isInteger(clockSkewSeconds) || clockSkewSeconds < 0 || clockSkewSeconds > CLOCK_SKEW_SECONDS_MAX) {
    refuse(`clock_skew: expected at most ${CLOCK_SKEW_SECONDS_MAX} seconds.`);
  }
  if (ca !== undefined && (ca.length > LIMITS.issuerKeysBytesMax || !ca.includes('-----BEGIN CERTIFICATE-----'))) {
    refuse('ca: expected certificates as PEM.');
  }
  if (jwks !== undefined) checkKeys(jwks);
  if (jwksUrl === undefined) return;
  if (jwks !== undefined) refuse('jwks_url: give either the keys or where they are fetched, not both.');
  if (!/^https?:\/\/[\x21-\x7e]{1,512}$/.test(jwksUrl) || !URL.canParse(jwksUrl) || new URL(jwksUrl).username !== '') {
    refuse('jwks_url: expected a URL such as https://gitlab.example.com/oauth/discovery/keys.');
  }
}

/** Public keys for signatures, and not one member of a private one. */
function checkKeys(jwks: { readonly keys: readonly object[] }): void {
  if (JSON.stringify(jwks).length > LIMITS.issuerKeysBytesMax) {
    refuse(`jwks: expected at most ${LIMITS.issuerKeysBytesMax} bytes.`);
  }
  if (jwks.keys.length === 0) refuse('jwks: expected at least one key.');
  for (const key of jwks.keys as readonly JsonWebKey[]) {
    if (['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv'].some((member) => Object.hasOwn(key, member))) {
      refuse(
        'jwks: expected public keys only; this one has a private or shared part, which counts as known from now on.',
      );
    }
    let bits: number | undefined;
    try {
      const { asymmetricKeyType: type, asymmetricKeyDetails } = createPublicKey({ key, format: 'jwk' });
      bits = type === 'rsa' ? asymmetricKeyDetails?.modulusLength : Number.POSITIVE_INFINITY;
    } catch {
      refuse('jwks: expected keys of the types RSA, EC and OKP.');
    }
    if (bits === undefined || bits < RSA_BITS_MIN) refuse(`jwks: expected RSA keys of at least ${RSA_BITS_MIN} bits.`);
  }
}

// ---- keys as PEM --------------------------------------------------------------------------------------------------

/** Public keys, or certificates that hold them, as a set of keys. Throws `invalid_request`. */
export function keysFromPem(pems: readonly string[]): { readonly keys: readonly object[] } {
  const keys = pems.map((pem) => {
    if (/PRIVATE KEY/.test(pem)) refuse('keys: expected public keys only; this one counts as known from now on.');
    try {
      return createPublicKey(pem).export({ format: 'jwk' });
    } catch {
      return refuse('keys: expected public keys as PEM.');
    }
  });
  return { keys };
}

export const keysAsPem = (jwks: { readonly keys: readonly object[] }): string[] =>
  jwks.keys.map((key) => {
    const pem = createPublicKey({ key: key as JsonWebKey, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
    return pem.toString();
  });
