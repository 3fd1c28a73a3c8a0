/**
 * Response wrapping: an answer is kept in the cubbyhole of a token that has one use, and whoever shows that token gets
 * the answer, once.
 *
 * The use is taken by the gate under the token's row lock, so of many who unwrap at once one has the answer, and the
 * others are refused and recorded: whoever was to have it and is refused knows that somebody else had it. A wrapping
 * token can do nothing else.
 */
import { LIMITS } from '../config.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Permit, permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { readText, removeText, storeText } from './cubbyhole.ts';
import { issueToken } from './issue.ts';

const RESPONSE = 'response';

export type Wrapping = {
  /** Shown once, to whoever is to hand it on. */
  readonly token: string;
  readonly accessor: string;
  readonly ttlSeconds: number;
  readonly createdAt: Timestamp;
  /** What was asked for: named, never its answer. */
  readonly creationPath: string;
};

export type Wrapped = { readonly text: string; readonly creationPath: string; readonly ttlSeconds: number };

const ask = (action: 'auth.wrap' | 'auth.unwrap') => ({ action, resource: 'token:self' }) as const;

/** Wraps what the caller was given. Throws `too_large`, `invalid_request`. */
export async function wrap(vault: Vault, call: Call, wrapped: Wrapped): Promise<Wrapping> {
  if (Buffer.byteLength(wrapped.text) > LIMITS.wrappedBytesMax) {
    throw new VaultError('too_large', `At most ${LIMITS.wrappedBytesMax} bytes are wrapped.`);
  }
  return permit(vault, call, ask('auth.wrap'), async (tx, granted) => {
    const value = await insertWrapping(vault, tx, granted, call, wrapped);
    return { value, notes: [{ details: { wrapping: value.accessor } }] };
  });
}

/** The answer, to whoever shows the wrapping token first. Throws `unauthenticated` when there is none left to have. */
export async function unwrap(vault: Vault, call: Call): Promise<string> {
  return permit(vault, call, ask('auth.unwrap'), async (tx, granted) => {
    const { text } = await take(vault, tx, granted);
    return { value: text, revokes: true };
  });
}

/** The same answer under another token; the one that is shown ends. */
export async function rewrap(vault: Vault, call: Call): Promise<Wrapping> {
  return permit(vault, call, ask('auth.unwrap'), async (tx, granted) => {
    const taken = await take(vault, tx, granted);
    const value = await insertWrapping(vault, tx, granted, call, taken);
    return { value, notes: [{ details: { wrapping: value.accessor } }], revokes: true };
  });
}

/** What is known of a wrapping without opening it. It takes no use. */
export async function readWrapping(
  vault: Vault,
  call: Call,
): Promise<Pick<Wrapping, 'createdAt' | 'creationPath' | 'ttlSeconds'>> {
  const looking = async (tx: Tx, granted: Permit) => ({
    value: await wrappingOf(tx, granted),
    notes: [{ details: { did: 'look' } }],
  });
  return permit(vault, call, ask('auth.unwrap'), looking, { takesNoUse: true });
}

async function insertWrapping(
  vault: Vault,
  tx: Tx,
  { tenant, userId }: Permit,
  { source }: Call,
  { text, creationPath, ttlSeconds }: Wrapped,
): Promise<Wrapping> {
  const issued = await issueToken(vault, tx, tenant, {
    ...{ userId, method: 'wrapping', kind: 'wrapping', source, uses: 1, renewable: false },
    ...{ ttlSeconds, maxTtlSeconds: ttlSeconds, metadata: { creation_path: creationPath } },
  });
  await storeText(vault, tx, tenant, issued.accessor, RESPONSE, text);
  const about = await aboutToken(tx, tenant, issued.accessor);
  return { token: issued.token, accessor: issued.accessor, ...about! };
}

async function take(vault: Vault, tx: Tx, granted: Permit): Promise<Wrapped> {
  const { tenant, tokenId } = granted;
  const about = await wrappingOf(tx, granted);
  const text = await readText(vault, tx, tenant, tokenId, RESPONSE);
  if (text === undefined) throw notWrapping();
  // The token's row stays until its end: whoever shows it again is known, and has an entry.
  await removeText(tx, tenant, tokenId, RESPONSE);
  return { text, ...about };
}

async function wrappingOf(tx: Tx, { tenant, tokenId, asker }: Permit) {
  const about = asker.tokenKind === 'wrapping' ? await aboutToken(tx, tenant, tokenId) : undefined;
  if (!about) throw notWrapping();
  return about;
}

async function aboutToken(tx: Tx, tenant: TenantId, tokenId: string) {
  const [row] = await tx<{ createdAt: Timestamp; ttlSeconds: number; metadata: string }[]>`
    SELECT created_at AS "createdAt", round(extract(epoch FROM expires_at - created_at))::int AS "ttlSeconds", metadata
    FROM tokens WHERE tenant_id = ${tenant} AND token_id = ${tokenId}`;
  if (!row) return undefined;
  const { creation_path: creationPath } = JSON.parse(row.metadata) as { creation_path: string };
  return { createdAt: row.createdAt, ttlSeconds: row.ttlSeconds, creationPath };
}

const notWrapping = () => new VaultError('invalid_request', 'This token wraps nothing: show one that does.');
