/**
 * Login by a method that proves in one step: from a proof to a token, the same for all such methods.
 *
 * Unknown, wrong, expired, disabled and from elsewhere are told apart in the audit log only: the caller hears the same
 * after the same statements. The proof, the token and their entry commit together, under the locks that the method took:
 * what is taken away meanwhile either waits for the login, and ends its token, or is seen by it.
 */
import type { Actor } from '../audit/entry.ts';
import { mayRecordGuess } from '../audit/recorded.ts';
import { randomId } from '../crypto/token.ts';
import { SYSTEM, type TenantId, type Tx, transaction } from '../db/database.ts';
import { isName, parseName } from '../db/name.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import { type Record, withoutToken } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import { type IssuedToken, issueToken } from './issue.ts';
import type { LoginMethod, Proof, ProvenAccount, ProvenToken, TenantRef } from './method.ts';
import { checkPolicies, insertUser, requirePolicies } from './user.ts';

export type ProvenLogin = IssuedToken & {
  readonly tenant: string;
  readonly username: string;
  readonly policies: readonly string[];
  /** How many acts the token does; null: however many. */
  readonly uses: number | null;
  /** It may not even what every token may. */
  readonly withoutDefault: boolean;
  /** What the method says of the login, which the token shows. */
  readonly metadata: NonNullable<ProvenToken['metadata']>;
};

export type LoginWish = {
  /** Binds the token to these policies, as those of a child token do. */
  readonly policies?: readonly string[] | undefined;
};

/** Throws `login_failed`, `tenant_suspended` (for whoever has proven who they are), `invalid_request`, `unavailable`. */
export async function loginBy<Credentials, Prepared>(
  vault: Vault,
  call: Omit<Call, 'token'>,
  method: LoginMethod<Credentials, Prepared>,
  credentials: Credentials,
  wish: LoginWish = {},
): Promise<ProvenLogin> {
  const bound = wish.policies && checkScope(wish.policies);
  const tenant = await findTenant(vault, method.tenantOf(credentials));
  const prepared = await method.prepare(vault, tenant, credentials);
  let mayRecord: boolean | undefined;
  const outcome = await withoutToken(vault, call, [tenant ?? SYSTEM], async (tx): Promise<Conclusion> => {
    // Without a tenant the system's is looked in, where no account has an id or a role of somebody else's.
    const where = tenant ?? SYSTEM;
    const proof = await method.prove(tx, where, credentials, prepared, call);
    if ('refused' in proof || tenant === undefined) {
      const reason = tenant === undefined ? 'unknown_tenant' : 'refused' in proof ? proof.refused : '';
      mayRecord ??= mayRecordGuess(vault, call.source);
      const value = ('refused' in proof ? proof.tell : undefined) ?? loginFailed();
      return { value, records: mayRecord ? [{ ...failure(where, method.name, proof, reason), code: value.code }] : [] };
    }
    return conclude(vault, tx, call, { tenant, method: method.name, proof, bound });
  });
  if (outcome instanceof VaultError) throw outcome;
  return outcome;
}

/** `details.scope` says that the names of the policies are what is wrong, and nothing of the credentials. */
function checkScope(policies: readonly string[]): readonly string[] {
  try {
    return checkPolicies(policies);
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    throw new VaultError(error.code, error.message, { details: { scope: true } });
  }
}

export async function findTenant(vault: Vault, ref: TenantRef): Promise<TenantId | undefined> {
  const [column, text] =
    'id' in ref ? (['id', ref.id] as const) : (['name', isName(ref.name) ? ref.name : ''] as const);
  const [row] = await transaction(
    vault.db,
    [SYSTEM],
    (tx) => tx<{ id: TenantId }[]>`
      SELECT tenant_id AS id FROM tenants
      WHERE ${column === 'id' ? tx`tenant_id = ${text}` : tx`name = ${text}`} AND state IN ('active', 'suspended')`,
  );
  return row?.id;
}

type Conclusion = { readonly value: ProvenLogin | VaultError; readonly records: readonly Record[] };
type Proven = Extract<Proof, { account: unknown }>;

async function conclude(
  vault: Vault,
  tx: Tx,
  call: Omit<Call, 'token'>,
  {
    tenant,
    method,
    proof,
    bound,
  }: { tenant: TenantId; method: string; proof: Proven; bound: readonly string[] | undefined },
): Promise<Conclusion> {
  const [facts] = await tx<{ name: string; state: string }[]>`
    SELECT name, state FROM tenants WHERE tenant_id = ${tenant} FOR SHARE`;
  if (facts?.state !== 'active') {
    const value = new VaultError(
      'tenant_suspended',
      'This tenant is suspended: ask the operators of the vault to resume it.',
    );
    return { value, records: [{ ...failure(tenant, method, proof, 'tenant_suspended'), code: value.code }] };
  }
  const unknown = bound && (await unknownPolicy(tx, tenant, bound));
  if (unknown)
    return { value: unknown, records: [{ ...failure(tenant, method, proof, 'unknown_policy'), code: unknown.code }] };
  const account = await accountOf(tx, tenant, proof);
  if (account.disabled) {
    const of = { id: account.userId, name: account.name };
    return { value: loginFailed(), records: [failure(tenant, method, { refused: 'disabled', of }, 'disabled')] };
  }
  const issued = await issueToken(vault, tx, tenant, {
    ...proof.token,
    ...{ userId: account.userId, method, source: call.source, bound },
  });
  const actor: Actor = {
    kind: account.kind,
    id: account.userId,
    name: account.name,
    method,
    accessor: issued.accessor,
  };
  const resource = `${account.kind === 'service' ? 'service' : 'user'}:${account.name}`;
  const { uses = null, withoutDefault = false, metadata = {} } = proof.token;
  return {
    value: {
      ...{ ...issued, tenant: facts.name, username: account.name, policies: account.policies },
      ...{ uses, withoutDefault, metadata },
    },
    records: [{ tenant, actor, action: 'auth.login', resource, outcome: 'ok', details: proof.details }],
  };
}

async function unknownPolicy(tx: Tx, tenant: TenantId, names: readonly string[]): Promise<VaultError | undefined> {
  try {
    await requirePolicies(tx, tenant, names);
    return undefined;
  } catch (error) {
    if (!(error instanceof VaultError) || error.code !== 'invalid_request') throw error;
    return new VaultError('invalid_request', error.message, { details: { scope: true } });
  }
}

type Account = {
  readonly userId: string;
  readonly kind: 'service' | 'external';
  readonly name: string;
  readonly policies: readonly string[];
  readonly disabled: boolean;
};

/** The method holds what two first logins of one subject would both make. */
async function accountOf(tx: Tx, tenant: TenantId, { account, token }: Proven): Promise<Account> {
  const userId = await userOf(tx, tenant, account);
  const [row] = await tx<Account[]>`
    UPDATE users SET last_login_at = CASE WHEN disabled THEN last_login_at ELSE bulla.now() END
    WHERE tenant_id = ${tenant} AND user_id = ${userId} RETURNING user_id AS "userId", kind, name, policies, disabled`;
  return { ...row!, policies: [...new Set([...row!.policies, ...(token.policies ?? [])])] };
}

async function userOf(tx: Tx, tenant: TenantId, account: ProvenAccount): Promise<string> {
  if ('userId' in account) return account.userId;
  return 'subject' in account ? externalAccount(tx, tenant, account) : account.findOrMake(tx);
}

/** Known by issuer, claim and subject, byte by byte. Its name is made up, so that it can never be somebody else's. */
async function externalAccount(
  tx: Tx,
  tenant: TenantId,
  { issuerId, issuerName, claim, subject }: Extract<ProvenAccount, { subject: string }>,
): Promise<string> {
  const [known] = await tx<{ userId: string }[]>`
    SELECT user_id AS "userId" FROM external_identities
    WHERE tenant_id = ${tenant} AND issuer_id = ${issuerId} AND claim = ${claim} AND subject = ${subject}`;
  if (known) return known.userId;
  const name = parseName(`${issuerName.slice(0, ISSUER_NAME_CHARS)}-${randomId()}`, 'name');
  const { id } = await insertUser(tx, tenant, { name, policies: [], kind: 'external' });
  await tx`
    INSERT INTO external_identities (tenant_id, user_id, issuer_id, claim, subject)
    VALUES (${tenant}, ${id}, ${issuerId}, ${claim}, ${subject})`;
  return id;
}

const ISSUER_NAME_CHARS = 40;

/** No name that was typed is recorded: it might be a secret in the wrong place. */
function failure(tenant: TenantId, method: string, proof: Proof, reason: string): Record {
  const of = 'refused' in proof ? proof.of : undefined;
  const actor: Actor = of ? { kind: 'anonymous', id: of.id, name: of.name, method } : { kind: 'anonymous', method };
  const details = { reason };
  return { tenant, actor, action: 'auth.login', outcome: 'denied', code: 'login_failed', details };
}

export function loginFailed(): VaultError {
  return new VaultError('login_failed', 'The credentials are not right, or the account cannot log in now.');
}
