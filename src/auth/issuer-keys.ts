/**
 * What issuers publish: their metadata, found by discovery, and their public keys, fetched again for a key that is not
 * known.
 *
 * Every URL comes from somebody else, so each goes through outbound.ts, bounded in size and time. What is kept is named
 * by tenant, issuer and revision, so nothing is ever used for another one (T-057). An issuer that cannot be reached is
 * not asked again for some seconds, whoever asks.
 */
import type { JSONWebKeySet, JWTVerifyGetKey } from 'jose';
import { VaultError } from '../errors.ts';
import { fetchOutbound } from '../outbound.ts';
import type { Vault } from '../vault.ts';

export type IssuerKeys = {
  readonly tenant: string;
  readonly issuerId: string;
  readonly revision: number;
  readonly issuer: string;
  /** JSON text; null: from jwksUrl, or by discovery. */
  readonly jwks: string | null;
  readonly jwksUrl: string | null;
  /** PEM of the certificates to trust in place of the public ones. */
  readonly ca: string | null;
};

/** Of OpenID Connect Discovery 1.0 §3 and RFC 9207 §3: what is used here, as it was published. */
export type IssuerMetadata = {
  readonly issuer: string;
  readonly jwks_uri?: unknown;
  readonly authorization_endpoint?: unknown;
  readonly token_endpoint?: unknown;
  readonly token_endpoint_auth_methods_supported?: unknown;
  readonly authorization_response_iss_parameter_supported?: unknown;
};

const BYTES_MAX = 256 * 1024;
const TIMEOUT_MS = 5_000;
const KEPT_MS = 10 * 60_000;
const COOLDOWN_MS = 30_000;
const FAILURE_MS = 5_000;
const ISSUERS_KEPT_MAX = 1_000;

type Kept = { metadata: Promise<IssuerMetadata> | undefined; keys: JWTVerifyGetKey | undefined; freshUntilMs: number };
const perVault = new WeakMap<Vault, Map<string, Kept>>();

/** Throws `unavailable` when they cannot be had now. */
export async function keysOf(vault: Vault, issuer: IssuerKeys): Promise<JWTVerifyGetKey> {
  const { createLocalJWKSet, createRemoteJWKSet, customFetch } = await import('jose');
  if (issuer.jwks !== null) return createLocalJWKSet(JSON.parse(issuer.jwks) as JSONWebKeySet);
  const kept = keptOf(vault, issuer);
  const uri = issuer.jwksUrl ?? (await metadataOf(vault, issuer)).jwks_uri;
  if (typeof uri !== 'string' || !URL.canParse(uri)) throw unreachable('its discovery document names no keys');
  kept.keys ??= createRemoteJWKSet(new URL(uri), {
    ...{ cacheMaxAge: KEPT_MS, cooldownDuration: COOLDOWN_MS, timeoutDuration: TIMEOUT_MS },
    [customFetch]: async (url: string) => Response.json(await fetchJson(vault, url, issuer.ca)),
  });
  return kept.keys;
}

/** Throws `unavailable` when it cannot be had now. */
export function metadataOf(vault: Vault, issuer: IssuerKeys): Promise<IssuerMetadata> {
  const kept = keptOf(vault, issuer);
  if (kept.metadata === undefined) {
    kept.metadata = discover(vault, issuer);
    kept.metadata.catch(() => {
      kept.freshUntilMs = vault.clock.monotonicMs() + FAILURE_MS;
    });
  }
  return kept.metadata;
}

function keptOf(vault: Vault, issuer: IssuerKeys): Kept {
  const all = perVault.get(vault) ?? new Map<string, Kept>();
  perVault.set(vault, all);
  const name = `${issuer.tenant}/${issuer.issuerId}/${issuer.revision}`;
  const nowMs = vault.clock.monotonicMs();
  const known = all.get(name);
  if (known && nowMs < known.freshUntilMs) return known;
  if (all.size >= ISSUERS_KEPT_MAX) all.clear();
  const entry: Kept = { metadata: undefined, keys: undefined, freshUntilMs: nowMs + KEPT_MS };
  all.set(name, entry);
  return entry;
}

/** OpenID Connect Discovery 1.0 §4: the document names the issuer that was asked, byte for byte. */
async function discover(vault: Vault, { issuer, ca }: IssuerKeys): Promise<IssuerMetadata> {
  const document = await fetchJson(vault, `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, ca);
  const metadata = document as IssuerMetadata | null;
  if (typeof metadata !== 'object' || metadata?.issuer !== issuer) throw unreachable('its discovery document');
  return metadata;
}

const unreachable = (what: string, cause?: unknown) =>
  new VaultError('unavailable', `The issuer cannot be reached now (${what}); try again.`, {
    retryAfterSeconds: 5,
    ...(cause === undefined ? {} : { cause }),
  });

/** Throws `unavailable`. */
async function fetchJson(vault: Vault, address: string, ca: string | null): Promise<unknown> {
  const { status, json } = await askIssuer(vault, ca, { method: 'GET', url: address });
  if (status !== 200) throw unreachable(`it answers ${status}`);
  return json;
}

export type IssuerRequest = {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
};

/** An answer of the issuer, which is JSON. Throws `unavailable`, which says nothing of what was sent. */
export async function askIssuer(
  { config }: Vault,
  ca: string | null,
  { method, url, headers, body }: IssuerRequest,
): Promise<{ readonly status: number; readonly json: unknown }> {
  try {
    const answer = await fetchOutbound({
      ...{ method, url: new URL(url), headers: { accept: 'application/json', ...headers }, ca: ca ?? undefined },
      ...(body === undefined ? {} : { body }),
      ...{ networks: config.outboundNetworks, signal: AbortSignal.timeout(TIMEOUT_MS), bytesMax: BYTES_MAX },
    });
    return { status: answer.status, json: JSON.parse(answer.body.toString('utf8')) };
  } catch (error) {
    throw unreachable(error instanceof VaultError ? error.message : 'it cannot be reached, or gives no JSON', error);
  }
}
