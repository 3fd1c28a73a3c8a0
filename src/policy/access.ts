/**
 * Who is asking, and under which policies: the joined read that every decision starts from.
 *
 * One statement reads token, user, tenant and the log head's acl_revision, so that the decision and the revision under
 * which it was made belong together. This folder reads tables that auth/ and tenant/ own; it never writes them. Nothing
 * read here is kept but compiled policies (compiled.ts), and, for reads, what known.ts says.
 */
import type { Actor, Origin } from '../audit/entry.ts';
import { haltRefusal } from '../audit/halt.ts';
import { equalHash, type ParsedToken } from '../crypto/token.ts';
import { SYSTEM, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { ACTIONS, type Action, type AuthAction } from './action.ts';
import type { Requirement } from './approval-rule.ts';
import { isFrom } from './cidr.ts';
import { DENY_ALL, grantOf, policiesOf } from './compiled.ts';
import { decide } from './decide.ts';
import { instanceFor } from './instance.ts';
import type { CompiledPolicy } from './policy.ts';
import type { TemplateValues } from './template.ts';

/** A request as a verb sees it: where it came from, and the token that came with it, not yet believed. */
export type Call = Origin & {
  readonly token: ParsedToken | undefined;
  /** SHA-256 of the client certificate whose key the connection has proven, if any. */
  readonly certificate?: Uint8Array | undefined;
};

/** What an account is. */
export type AccountKind = 'person' | 'service' | 'external';
/** How a token came to be: by a login, from another token, or for what its grant names. */
export type TokenKind = 'login' | 'child' | 'lease' | 'wrapping';

/** What conditions are decided on beside the account: where the request came from, and what its token is. */
export type Asker = {
  readonly source: string;
  readonly mfa: boolean;
  readonly tokenKind: TokenKind;
  /** By the database's clock, in the statement that read the policies. */
  readonly now: Timestamp;
};

/**
 * What a caller wants. `resource` is `noun:name`, canonical. `anywhere`: the resource only names the question in the
 * log, and any rule that allows the action somewhere admits it; the act then filters by `Permit.allows`.
 */
export type Ask = {
  readonly action: Action | AuthAction;
  readonly resource: string;
  readonly anywhere?: true;
  /** What a request has to know before it can do anything, such as where its path leads: no part of what `default` gives. */
  readonly ofAnyToken?: true;
  /**
   * What of the resource the act is about, as an approval names it: a version, `current`, `1,2`, `all`, or nothing more
   * (''). An act that does not say it cannot be approved.
   */
  readonly subject?: string;
};

/** What the joined read says of a token that was issued. */
export type AccessRow = {
  readonly tenantId: string;
  readonly tokenId: string;
  readonly secretHash: Uint8Array;
  readonly now: Timestamp;
  readonly expiresAt: Timestamp;
  readonly method: string;
  readonly kind: TokenKind;
  readonly mfa: boolean;
  /** Null: any number. */
  readonly usesLeft: number | null;
  /** Null: anywhere. */
  readonly cidrs: readonly string[] | null;
  readonly certificate: Uint8Array | null;
  /** It has not what `default` gives every other. */
  readonly withoutDefault: boolean;
  /** For each token of the chain that is bound: the names of its policies, apart by blanks. */
  readonly bounds: readonly string[] | null;
  /** For each token of the chain that has one: its policy document. */
  readonly grants: readonly string[] | null;
  readonly userId: string;
  readonly userName: string;
  readonly userKind: AccountKind;
  readonly disabled: boolean;
  readonly mustChange: boolean;
  /** Of people; who else proves a machine or an identity says itself how. */
  readonly mfaRequired: boolean;
  readonly tenantState: string;
  /** Requests a second that the operators allow; null: any number. */
  readonly tenantRate: number | null;
  readonly accountRate: number | null;
  readonly aclRevision: number;
  /** How many transactions had changed what a read rests on. */
  readonly changes: number;
  /** An operator has sealed the vault, and this node has not looked since. */
  readonly sealed: boolean;
  /** `policy_id.revision` of each policy that the account holds, by itself, by its login or by a group. */
  readonly policyIds: readonly string[];
  /** `name/policy_id.revision` of each policy that a bound names. */
  readonly boundIds: readonly string[] | null;
};

/** Somebody who has shown a token that was issued to them. It may still be expired or its user disabled. */
export type Access = {
  readonly tenant: TenantId;
  readonly actor: Actor;
  readonly tokenId: string;
  readonly userId: string;
  readonly asker: Asker;
  readonly policies: readonly CompiledPolicy[];
  /** What must allow it too: the bounds and grants of the token and of every token above it. */
  readonly limits: readonly (readonly CompiledPolicy[])[];
  readonly aclRevision: number;
  readonly row: AccessRow;
};

/** Which token, whoever shows it. */
type TokenId = Pick<ParsedToken, 'tenantId' | 'tokenId'>;

/**
 * A row for each token that was issued. The look-ups are lateral so that each goes by its own key, whatever the planner
 * believes of tables that have not been analysed.
 */
export function readAccess(tx: Tx, tokens: readonly TokenId[]): Promise<AccessRow[]> {
  return tx<AccessRow[]>`
    SELECT bulla.now() AS now, r.tenant_id AS "tenantId", k.token_id AS "tokenId", k.secret_hash AS "secretHash",
           k.expires_at AS "expiresAt", k.method,
           k.kind, k.mfa, k.uses_left AS "usesLeft", k.cidrs, k.certificate, k.without_default AS "withoutDefault", k.bounds, k.grants,
           u.user_id AS "userId", u.name AS "userName", u.kind AS "userKind", u.disabled,
           u.must_change_password AS "mustChange",
           u.kind = 'person' AND (u.mfa_required OR t.mfa_required) AS "mfaRequired",
           t.state AS "tenantState", t.requests_per_second AS "tenantRate",
           t.account_requests_per_second AS "accountRate", h.acl_revision AS "aclRevision", h.changes,
           (SELECT bulla.is_sealed()) AS sealed,
           ARRAY(SELECT p.policy_id || '.' || p.revision FROM policies p
                 WHERE p.tenant_id = r.tenant_id AND p.name = ANY (u.policies || k.policies || ARRAY(
                   SELECT unnest(g.policies) FROM group_members m,
                   LATERAL (SELECT policies FROM groups WHERE tenant_id = m.tenant_id AND group_id = m.group_id LIMIT 1) g
                   WHERE m.tenant_id = r.tenant_id AND m.user_id = u.user_id)) ORDER BY p.name) AS "policyIds",
           CASE WHEN k.bounds IS NOT NULL THEN
             ARRAY(SELECT p.name || '/' || p.policy_id || '.' || p.revision FROM policies p
                   WHERE p.tenant_id = r.tenant_id AND p.name = ANY (string_to_array(array_to_string(k.bounds, ' '), ' ')))
           END AS "boundIds"
    FROM unnest(${tokens.map((token) => token.tenantId)}::text[], ${tokens.map((token) => token.tokenId)}::text[])
         AS r (tenant_id, token_id),
    LATERAL (SELECT token_id, secret_hash, method, user_id, expires_at, kind, mfa, uses_left, cidrs,
                    certificate, without_default, policies, bounds, grants FROM tokens
             WHERE tenant_id = r.tenant_id AND token_id = r.token_id LIMIT 1) k,
    LATERAL (SELECT user_id, name, kind, disabled, must_change_password, mfa_required, policies FROM users
             WHERE tenant_id = r.tenant_id AND user_id = k.user_id LIMIT 1) u,
    LATERAL (SELECT state, mfa_required, requests_per_second, account_requests_per_second FROM tenants
             WHERE tenant_id = r.tenant_id LIMIT 1) t,
    LATERAL (SELECT acl_revision, changes FROM audit_heads WHERE tenant_id = r.tenant_id LIMIT 1) h`;
}

/** Whether the row is the token's that was shown: its secret's hash, compared in constant time. */
export function proves(row: AccessRow, token: ParsedToken): boolean {
  return equalHash(row.secretHash, token.secretHash);
}

/** Turns a proven row into an Access. Policies that are not compiled yet are read in the same transaction. */
export async function resolve(vault: Vault, tx: Tx, token: TokenId, row: AccessRow, source: string): Promise<Access> {
  const tenant = token.tenantId as TenantId;
  const { userId, userName, userKind, method, kind, mfa, now } = row;
  const values = { 'user.name': userName, 'user.id': userId, 'user.kind': userKind };
  return {
    tenant,
    actor: { kind: ACTOR_KIND[userKind], id: userId, name: userName, method, accessor: token.tokenId },
    tokenId: token.tokenId,
    userId,
    asker: { source, mfa, tokenKind: kind, now },
    policies: await policiesOf(vault, tx, tenant, row.policyIds, values),
    limits: row.bounds || row.grants ? await limitsOf(vault, tx, tenant, row, values) : NO_LIMITS,
    aclRevision: row.aclRevision,
    row,
  };
}

const ACTOR_KIND = { person: 'user', service: 'service', external: 'external' } as const;
const NO_LIMITS: Access['limits'] = [];

/** A bound that names a policy which is gone allows nothing: what that policy denied must not come back. */
async function limitsOf(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  row: AccessRow,
  values: TemplateValues,
): Promise<Access['limits']> {
  const idOf = new Map((row.boundIds ?? []).map((named) => named.split('/') as [string, string]));
  const limits: CompiledPolicy[][] = [];
  for (const bound of row.bounds ?? []) {
    const ids = bound === '' ? [] : bound.split(' ').map((name) => idOf.get(name));
    const known = ids.filter((id) => id !== undefined);
    limits.push(known.length === ids.length ? await policiesOf(vault, tx, tenant, known, values) : [DENY_ALL]);
  }
  for (const [i, document] of (row.grants ?? []).entries()) {
    const grant = grantOf(vault, tenant, `${row.tokenId} ${i}`, document, row.usesLeft === null);
    limits.push([instanceFor(grant, values) ?? DENY_ALL]);
  }
  return limits;
}

/** Whether the token has not expired, at the time of the row. */
export function isLive({ expiresAt, now }: AccessRow): boolean {
  return expiresAt > now;
}

/** Why a token that was issued opens nothing here and now. For the log; whoever shows it hears `unauthenticated`. */
export function deadBecause({ row }: Access, call: Call): string | undefined {
  if (!isLive(row)) return 'expired';
  if (row.disabled) return 'disabled';
  if (row.usesLeft === 0) return 'used_up';
  if (row.cidrs !== null && !isFrom(row.cidrs, call.source)) return 'other_network';
  if (row.certificate !== null && !(call.certificate && equalHash(row.certificate, call.certificate))) {
    return 'other_certificate';
  }
  return row.tenantState === 'active' || row.tenantState === 'suspended' ? undefined : 'tenant_deleted';
}

/** Why the holder of a proven token may not do this, or undefined when they may. */
export function refusal(access: Access, asks: readonly Ask[], call: Call): VaultError | undefined {
  const { row } = access;
  if (row.sealed) return new VaultError('sealed', 'The vault is sealed.');
  if (deadBecause(access, call)) return unauthenticated();
  if (row.tenantState === 'suspended') {
    return new VaultError('tenant_suspended', 'This tenant is suspended: ask the operators of the vault to resume it.');
  }
  let waiting: VaultError | undefined;
  for (const ask of asks) {
    const { action, resource } = ask;
    if (row.mustChange && !OPEN_TO_ONE_TIME_PASSWORDS.has(action)) {
      return new VaultError(
        'password_change_required',
        'This password was given once: change it with POST /auth/password.',
      );
    }
    if (row.kind === 'wrapping' && action !== 'auth.unwrap') {
      return new VaultError('forbidden', 'This token opens one wrapped answer and does nothing else.');
    }
    if (row.mfaRequired && !row.mfa && row.kind !== 'wrapping' && !OPEN_WITHOUT_SECOND_FACTOR.has(action)) {
      return new VaultError(
        'mfa_required',
        'A second factor is required of you: enrol one with POST /auth/totp, or show yours with POST /auth/elevate.',
      );
    }
    const requirements = requirementsOf(access, ask);
    if (requirements === 'refused') {
      return new VaultError(
        'forbidden',
        `No policy allows ${action} on ${resource}, or one denies it: ask an administrator of the tenant.`,
        { details: { action, resource } },
      );
    }
    if (requirements.length > 0) waiting ??= approvalRequired(ask, requirements);
    if (access.tenant === SYSTEM && isDecided(action) && NOT_IN_SYSTEM.has(ACTIONS[action].noun)) {
      return new VaultError(
        'not_found',
        'The system tenant has no secrets, leases and named keys: log in to another tenant.',
      );
    }
  }
  return waiting;
}

/** What others must do first; the caller may do it then. */
function approvalRequired({ action, resource }: Ask, requirements: readonly Requirement[]): VaultError {
  const by = requirements.map(({ by, count }) => `${count} of ${by}`).join(' and ');
  return new VaultError(
    'approval_required',
    `${action} on ${resource} waits for others to approve it (${by}): ask them with POST /approvals.`,
    { details: { action, resource, approvers: requirements.map((one) => one.by) } },
  );
}

/** Why nobody may have a secret now: this node has found that the log is not what was signed. */
export function halted(vault: Vault, asks: readonly Ask[]): VaultError | undefined {
  const reveals = asks.some(({ action }) => isDecided(action) && ACTIONS[action].reveals);
  return reveals ? haltRefusal(vault) : undefined;
}

/** Operators manage tenants; what tenants hold, they do not hold themselves either. */
const NOT_IN_SYSTEM: ReadonlySet<string> = new Set([
  'secret',
  'mount',
  'lease',
  'backend',
  'role',
  'account',
  'transit',
]);

/** Whether the operators' tenant has nothing that the action could be asked about. */
export function isForeignToSystem(action: Action): boolean {
  return NOT_IN_SYSTEM.has(ACTIONS[action].noun);
}

/** What somebody with a one-time password may do before changing it. */
const OPEN_TO_ONE_TIME_PASSWORDS: ReadonlySet<string> = new Set(['auth.self', 'auth.password', 'auth.logout']);

/** What somebody of whom a second factor is required may do without one: what it takes to have and to show one. */
const OPEN_WITHOUT_SECOND_FACTOR: ReadonlySet<string> = new Set([
  ...OPEN_TO_ONE_TIME_PASSWORDS,
  ...['auth.totp-read', 'auth.totp-enrol', 'auth.totp-confirm', 'auth.elevate'],
]);

/** Whether it is allowed as it is, without anybody's approval. */
export function allows(access: Access, ask: Ask): boolean {
  const requirements = requirementsOf(access, ask);
  return requirements !== 'refused' && requirements.length === 0;
}

const NOTHING: readonly Requirement[] = [];

/** What every token may but one that was made without it: with itself, what it keeps, and the leases that it took. */
const BY_DEFAULT: ReadonlySet<string> = new Set([
  ...['auth.self', 'auth.renew', 'auth.logout', 'auth.cubbyhole', 'auth.lease', 'policy.explain-self'],
]);

/**
 * The approvals that it takes; none when it is allowed as it is. The account's policies must allow it, and so must the
 * bound and the grant of its token and of every token above.
 */
export function requirementsOf(
  access: Access,
  { action, resource, anywhere, ofAnyToken }: Ask,
): readonly Requirement[] | 'refused' {
  if (!isDecided(action)) {
    return access.row.withoutDefault && BY_DEFAULT.has(action) && !ofAnyToken ? 'refused' : NOTHING;
  }
  if (ACTIONS[action].system && access.tenant !== SYSTEM) return 'refused';
  const { source, now, mfa, tokenKind } = access.asker;
  const ask = { action, resource, source, now, mfa, tokenKind };
  let needed = NOTHING;
  for (const policies of [access.policies, ...access.limits]) {
    if (anywhere) {
      if (!policies.some((policy) => (policy.byAction.get(action)?.allow.length ?? 0) > 0)) return 'refused';
      continue;
    }
    const decision = decide(policies, ask);
    if (decision.allowed) continue;
    if (decision.reason !== 'approval') return 'refused';
    needed = [...needed, ...decision.requirements];
  }
  return needed;
}

const isDecided = (action: Action | AuthAction): action is Action => Object.hasOwn(ACTIONS, action);

export function unauthenticated(): VaultError {
  return new VaultError(
    'unauthenticated',
    'The token is missing, not valid or has ended: log in and send it as "Authorization: Bearer <token>".',
  );
}
