/**
 * What the vault is registered as at an issuer, so that people log in there with a browser. Owns the table
 * issuer_secrets; the rest stands in the issuer's row.
 *
 * The client secret of a confidential registration lies in an envelope of the tenant's data key and is never shown. An
 * answer of the issuer goes to the loopback interface of whoever logs in (RFC 8252 §7.3) and nowhere else: not to a name,
 * which could be made to mean another machine (§8.3).
 */
import { open, seal } from '../crypto/envelope.ts';
import type { TenantId, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import { activeDataKey, dataKey, underActiveKey } from '../tenant/keyring.ts';
import type { Vault } from '../vault.ts';
import { ISSUER_SECRETS } from './envelopes.ts';

export type IssuerClient = {
  readonly id: string;
  /** It has a client secret. */
  readonly confidential: boolean;
  readonly redirectUris: readonly string[];
  readonly scopes: readonly string[];
};

export type ClientWish = {
  readonly id: string;
  /** Absent: as it is, if the id stays the same; null: none. */
  readonly secret?: string | null | undefined;
  readonly redirectUris?: readonly string[] | undefined;
  readonly scopes?: readonly string[] | undefined;
};

const REDIRECT_URIS_DEFAULT = ['http://127.0.0.1/oidc/callback'];
const SCOPES_DEFAULT = ['openid'];
const REDIRECT_URIS_MAX = 10;
const SCOPES_MAX = 20;
const SECRET_LENGTH_MAX = 1024;
const LOOPBACK = /^http:\/\/(127\.0\.0\.1|\[::1\])(:[1-9]\d{0,4})?(\/[A-Za-z0-9._~/-]{0,200})$/;

/** Throws `invalid_request`. */
export function checkedClient(wish: ClientWish): Required<Pick<ClientWish, 'redirectUris' | 'scopes'>> & ClientWish {
  const { id, secret, redirectUris = REDIRECT_URIS_DEFAULT, scopes = SCOPES_DEFAULT } = wish;
  const refuse = (message: string) => {
    throw new VaultError('invalid_request', message);
  };
  if (!/^[\x21-\x7e]{1,512}$/.test(id)) refuse('client.id: expected what the issuer calls this vault, without blanks.');
  if (typeof secret === 'string' && !(secret.length <= SECRET_LENGTH_MAX && /^[\x20-\x7e]+$/.test(secret))) {
    refuse(`client.secret: expected 1 to ${SECRET_LENGTH_MAX} printable characters.`);
  }
  const fits = redirectUris.every(
    (uri) => LOOPBACK.test(uri) && URL.canParse(uri) && new URL(uri).href === withPort(uri),
  );
  if (redirectUris.length < 1 || redirectUris.length > REDIRECT_URIS_MAX || !fits) {
    refuse('client.redirect_uris: expected such as http://127.0.0.1/oidc/callback (any port) or http://[::1]:8250/cb.');
  }
  // RFC 6749 §3.3
  const areScopes = scopes.every((scope) => /^[\x21\x23-\x5b\x5d-\x7e]{1,128}$/.test(scope));
  if (!scopes.includes('openid') || scopes.length > SCOPES_MAX || !areScopes) {
    refuse(`client.scopes: expected at most ${SCOPES_MAX}, openid among them.`);
  }
  return { id, secret, redirectUris, scopes };
}

/** As URL writes it: without the port that is the default one. */
const withPort = (uri: string) => uri.replace(/:80(?=\/)/, '');

/** Whether an answer may go there: to one that is registered, byte for byte but for the port where that has none. */
export function isRegistered(redirectUris: readonly string[], uri: string): boolean {
  return LOOPBACK.test(uri) && redirectUris.some((one) => one === uri || one === uri.replace(/:\d+(?=\/)/, ''));
}

/** In the transaction that stores the issuer. */
export async function storeClientSecret(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  issuerId: string,
  secret: string | null | undefined,
): Promise<void> {
  if (secret === undefined) return;
  await tx`DELETE FROM issuer_secrets WHERE tenant_id = ${tenant} AND issuer_id = ${issuerId}`;
  if (secret === null) return;
  const key = await activeDataKey(vault, tx, tenant);
  const envelope = seal(key, ISSUER_SECRETS.context(tenant, [issuerId]), Buffer.from(secret));
  await underActiveKey(tx`
    INSERT INTO issuer_secrets (tenant_id, issuer_id, key_version, envelope)
    VALUES (${tenant}, ${issuerId}, ${key.version}, ${envelope})`);
}

/** Undefined: the registration has none. */
export async function readClientSecret(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  issuerId: string,
): Promise<string | undefined> {
  const [row] = await tx<{ keyVersion: number; envelope: Uint8Array }[]>`
    SELECT key_version AS "keyVersion", envelope FROM issuer_secrets
    WHERE tenant_id = ${tenant} AND issuer_id = ${issuerId}`;
  if (!row) return undefined;
  const key = await dataKey(vault, tx, tenant, row.keyVersion);
  return Buffer.from(open(key, ISSUER_SECRETS.context(tenant, [issuerId]), row.envelope)).toString('utf8');
}
