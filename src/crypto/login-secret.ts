/**
 * What whoever begins a login at an OpenID provider is given, and what is derived from it.
 *
 *     login      32 random bytes, base64url without padding: 43 characters; only SHA-256 of the bytes is stored
 *     state      HKDF-SHA-256(bytes, `bulla/v1/oidc-state`)       RFC 6749 §10.12: goes through the browser
 *     nonce      HKDF-SHA-256(bytes, `bulla/v1/oidc-nonce`)       OpenID Connect Core 1.0 §15.5.2
 *     verifier   HKDF-SHA-256(bytes, `bulla/v1/oidc-verifier`)    RFC 7636 §4.1
 *     challenge  SHA-256(verifier as text)                        RFC 7636 §4.2, S256
 *
 * each 32 bytes in base64url. None of them tells another or the bytes, so what the browser, its history and the issuer
 * see does not conclude the login.
 */
import { hash, hkdfSync, randomFillSync } from 'node:crypto';
import { LABEL } from './context.ts';

export type LoginSecret = {
  readonly login: string;
  readonly loginHash: Uint8Array;
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
  readonly challenge: string;
};

const BYTES = 32;
const FORM = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;

export function mintLoginSecret(): LoginSecret {
  return derived(randomFillSync(Buffer.alloc(BYTES)));
}

/** Undefined when it is none; never throws. */
export function parseLoginSecret(login: string): LoginSecret | undefined {
  return FORM.test(login) ? derived(Buffer.from(login, 'base64url')) : undefined;
}

function derived(bytes: Buffer): LoginSecret {
  const derive = (label: string) =>
    Buffer.from(hkdfSync('sha256', bytes, Buffer.alloc(0), label, BYTES)).toString('base64url');
  const verifier = derive(LABEL.oidcVerifier);
  return {
    login: bytes.toString('base64url'),
    loginHash: Buffer.from(hash('sha256', bytes, 'hex'), 'hex'),
    state: derive(LABEL.oidcState),
    nonce: derive(LABEL.oidcNonce),
    verifier,
    challenge: hash('sha256', verifier, 'base64url'),
  };
}
