/** Tokens under tokens, made at the domain itself, and whether they can read. */
import { type IssuedToken, issueToken, type TokenLimits } from '../src/auth/issue.ts';
import type { Call } from '../src/policy/access.ts';
import { permit } from '../src/policy/permit.ts';
import { readSecret } from '../src/policy/read.ts';
import { parsePath } from '../src/secret/path.ts';
import type { Vault } from '../src/vault.ts';
import type { TestVault } from './harness.ts';
import { codeOf } from './witness.ts';

export const A = parsePath('app/a');
export const B = parsePath('app/b');

/** A token under the one that calls, of the same tenant. */
export function childOf(vault: Vault, call: Call, limits: TokenLimits = {}): Promise<IssuedToken> {
  const request = { action: 'token.create', resource: 'token:child' } as const;
  return permit(vault, call, request, async (tx, { tenant, tokenId }) => ({
    value: await issueToken(vault, tx, tenant, { ...limits, parent: tokenId, source: call.source }),
  }));
}

/** A login of whoever calls, that is nothing without its certificate, which is good for an hour. */
export function certifiedLogin(vault: Vault, call: Call, thumbprint: Uint8Array): Promise<IssuedToken> {
  const request = { action: 'auth.self', resource: 'token:self' } as const;
  const certificate = { thumbprint, expiresAt: new Date(Date.now() + 3_600_000).toISOString() };
  return permit(vault, call, request, async (tx, { tenant, userId }) => ({
    value: await issueToken(vault, tx, tenant, { userId, method: 'cert', source: call.source, certificate }),
  }));
}

/** What a read of the secret ends with. */
export const readAs = (t: TestVault, token: string, path = A, vault = t.vault, source = '127.0.0.1') =>
  codeOf(readSecret(vault, { ...t.call(token), source }, path, 0));
