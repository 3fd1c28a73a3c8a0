/**
 * The public keys of issuers: fetched by discovery, kept for a while, fetched again for a key that is not known.
 *
 * Every URL comes from somebody else, so each goes through outbound.ts, bounded in size and time. What is kept is named by tenant, issuer and revision, so nothing is ever used for another one
 * (T-057). An issuer that cannot be reached is not asked again for some seconds, whoever asks.
 */
import { createLocalJWKSet, createRemoteJWKSet, customFetch, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { VaultError } from '../errors.ts';
import { fetchOutbound } from '../outbound.ts';
import type { Vault } from '../vault.ts';

export type IssuerKeys = {
  readonly tenant: string;
  readonly issuerId: string;
  readonly revision: number;
  readonly issuer: string;
  /** JSON text; null: by discovery. */
  readonly jwks: string | null;
  /** PEM of the certificates to trust in place of the public ones. */
  readonly ca: string | null;
};

const BYTES_MAX = 256 * 1024;
const TIMEOUT_MS = 5_000;
const KEPT_MS = 10 * 60_000;
const COOLDOWN_MS = 30_000;
const FAILURE_MS = 5_000;
const ISSUERS_KEPT_MAX = 1_000;

type Kept = { keys: Promise<JWTVerifyGetKey>; failedAtMs: number | undefined };
const perVault = new WeakMap<Vault, Map<string, Kept>>();

/** Throws `unavailable` when they cannot be had now. */
export async function keysOf(vault: Vault, issuer: IssuerKeys): Promise<JWTVerifyGetKey> {
  if (issuer.jwks !== null) return createLocalJWKSet(JSON.parse(issuer.jwks) as JSONWebKeySet);
  const kept = perVault.get(vault) ?? new Map<string, Kept>();
  perVault.set(vault, kept);
  const name = `${issuer.tenant}/${issuer.issuerId}/${issuer.revision}`;
  const nowMs = vault.clock.monotonicMs();
  const known = kept.get(name);
  if (known && (known.failedAtMs === undefined || nowMs - known.failedAtMs < FAILURE_MS)) return known.keys;
  if (kept.size >= ISSUERS_KEPT_MAX) kept.clear();
  const entry: Kept = { keys: discover(vault, issuer), failedAtMs: undefined };
  entry.keys.catch(() => {
    entry.failedAtMs = vault.clock.monotonicMs();
  });
  kept.set(name, entry);
  return entry.keys;
}

/** OpenID Connect Discovery 1.0 §4: the document names the issuer that was asked, byte for byte, and where its keys are. */
async function discover(vault: Vault, { issuer, ca }: IssuerKeys): Promise<JWTVerifyGetKey> {
  const document = await fetchJson(vault, `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, ca);
  const { issuer: named, jwks_uri: uri } = document as { issuer?: unknown; jwks_uri?: unknown };
  if (named !== issuer || typeof uri !== 'string' || !URL.canParse(uri)) throw unreachable('its discovery document');
  const remote = createRemoteJWKSet(new URL(uri), {
    ...{ cacheMaxAge: KEPT_MS, cooldownDuration: COOLDOWN_MS, timeoutDuration: TIMEOUT_MS },
    [customFetch]: async (url) => Response.json(await fetchJson(vault, url, ca)),
  });
  return remote;
}

const unreachable = (what: string, cause?: unknown) =>
  new VaultError('unavailable', `The keys of the issuer cannot be had now (${what}); try again.`, {
    retryAfterSeconds: 5,
    ...(cause === undefined ? {} : { cause }),
  });

/** Throws `unavailable`. */
async function fetchJson({ config }: Vault, address: string, ca: string | null): Promise<unknown> {
  try {
    const { status, body } = await fetchOutbound({
      ...{ method: 'GET', url: new URL(address), headers: { accept: 'application/json' }, ca: ca ?? undefined },
      ...{ networks: config.outboundNetworks, signal: AbortSignal.timeout(TIMEOUT_MS), bytesMax: BYTES_MAX },
    });
    if (status !== 200) throw unreachable(`it answers ${status}`);
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    if (error instanceof VaultError && error.code === 'unavailable') throw error;
    throw unreachable(error instanceof VaultError ? error.message : 'it cannot be reached, or gives no JSON', error);
  }
}
