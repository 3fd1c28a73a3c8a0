/**
 * The policies of a tenant, as documents in the table policies, which this file owns.
 *
 * (policy_id, revision) names a document for ever: every change counts the revision up, and a policy made again under
 * an old name has a new id. Every change makes the grants decided before it be decided again.
 */
import { randomId } from '../crypto/token.ts';
import type { TenantId, Timestamp, Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, pageOf, parseVersionsPage, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Vault } from '../vault.ts';
import { allows, type Call, isLive, readAccess, resolve } from './access.ts';
import type { Action } from './action.ts';
import { BUILT_IN_POLICIES } from './built-in.ts';
import { checkChange } from './give.ts';
import { patternText } from './glob.ts';
import { changeOf, holdsEverything } from './grant.ts';
import { type Permit, permit } from './permit.ts';
import { compilePolicy, type PolicyDocument, policySchema } from './policy.ts';
import { holdersOf } from './who.ts';

export type PolicyInfo = {
  readonly name: string;
  readonly revision: number;
  readonly builtIn: boolean;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export type StoredPolicy = PolicyInfo & PolicyDocument;

/** One change of what a name meant, numbered from 1. */
export type PolicyChange = {
  readonly number: number;
  readonly revision: number;
  /** Null where the policy was deleted. */
  readonly rules: PolicyDocument['rules'] | null;
  /** Null: the vault. The name is the one that the account had then. */
  readonly changedBy: string | null;
  readonly changedByName: string | null;
  readonly changedAt: Timestamp;
};

const ask = (action: Action, name: string) => ({ action, resource: `policy:${parseName(name, 'name')}` }) as const;

export async function listPolicies(vault: Vault, call: Call, page: PageAsk): Promise<Page<PolicyInfo>> {
  const wanted = { action: 'policy.list', resource: 'policy:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      (after, rows) => tx<PolicyInfo[]>`
        SELECT name, revision, built_in AS "builtIn", created_at AS "createdAt", updated_at AS "updatedAt"
        FROM policies WHERE tenant_id = ${tenant} AND name > ${after} ORDER BY name LIMIT ${rows}`,
      (policy) => policy.name,
      (policy) => allows({ action: 'policy.list', resource: `policy:${policy.name}` }),
    ),
  }));
}

export async function readPolicy(vault: Vault, call: Call, name: string): Promise<StoredPolicy> {
  return permit(vault, call, ask('policy.read', name), async (tx, { tenant }) => {
    return { value: await policyNamed(tx, tenant, name) };
  });
}

/**
 * Creates or replaces a policy. `ifRevision` makes it conditional. Throws `invalid_request` for a document that is not
 * a policy, `conflict` for a built-in one, `version_mismatch`. `source` is what it was translated from, to be shown again.
 */
export async function putPolicy(
  vault: Vault,
  call: Call,
  name: string,
  document: unknown,
  ifRevision?: number,
  source?: string,
): Promise<StoredPolicy & { created: boolean }> {
  const wanted = ask('policy.write', name);
  const compiled = compilePolicy(document);
  const parsed = policySchema.parse(document);
  const text = JSON.stringify(parsed);
  const approvers = [...new Set(compiled.rules.flatMap(({ approval }) => approval?.by ?? []))];
  return permit(vault, call, wanted, async (tx, granted) => {
    const { tenant } = granted;
    const before = await findPolicy(tx, tenant, name, 'lock');
    if (before?.builtIn)
      throw new VaultError('conflict', `The built-in policy ${name} cannot be changed: use another name.`);
    if (ifRevision !== undefined && ifRevision !== (before?.revision ?? 0)) {
      throw new VaultError(
        'version_mismatch',
        `The policy ${name} is at revision ${before?.revision ?? 0}: read it again.`,
      );
    }
    checkChange(granted, changeOf(before ? [before] : [], [parsed]));
    await requireApprovers(tx, tenant, name, approvers);
    await tx`
      INSERT INTO policies (tenant_id, name, policy_id, revision, document, approvers, created_at, updated_at)
      VALUES (${tenant}, ${name}, ${randomId()}, 1, ${text}, ${approvers}, bulla.now(), bulla.now())
      ON CONFLICT (tenant_id, name) DO UPDATE
        SET revision = policies.revision + 1, document = excluded.document, approvers = excluded.approvers,
            updated_at = excluded.updated_at`;
    await recordChange(tx, granted, name);
    const stored = await policyNamed(tx, tenant, name);
    if (source !== undefined) await storeText(tx, tenant, stored, source);
    return {
      value: { ...stored, created: before === undefined },
      notes: [{ version: stored.revision }],
      revokes: true,
    };
  });
}

/** Refused while anybody holds it or it names approvers: a later policy of that name would be theirs unasked. */
export async function deletePolicy(vault: Vault, call: Call, name: string): Promise<void> {
  await permit(vault, call, ask('policy.delete', name), async (tx, granted) => {
    const { tenant } = granted;
    const policy = await findPolicy(tx, tenant, name, 'lock');
    if (!policy) throw noPolicy(name);
    if (policy.builtIn) throw new VaultError('conflict', `The built-in policy ${name} cannot be deleted.`);
    const held = await holdersOf(tx, tenant, name);
    if (held > 0) {
      throw new VaultError(
        'conflict',
        `The policy ${name} is held by users, groups, login roles or certificate roles (${held}): take it from them first.`,
      );
    }
    const [asking] = await tx<{ name: string }[]>`
      SELECT name FROM policies WHERE tenant_id = ${tenant} AND ${name} = ANY (approvers) ORDER BY name LIMIT 1`;
    if (asking) {
      throw new VaultError(
        'conflict',
        `Holders of ${name} approve what the policy ${asking.name} asks for: change that first.`,
      );
    }
    await recordChange(tx, granted, name, 'deleted');
    await tx`DELETE FROM policies WHERE tenant_id = ${tenant} AND name = ${name}`;
    return { value: undefined, notes: [{ version: policy.revision }], revokes: true };
  });
}

/**
 * The text that a policy was written as, in the language of another interface; else its document. A text belongs to one
 * revision: once the document is changed, it is not what the policy says any more.
 */
export async function readPolicyText(vault: Vault, call: Call, name: string): Promise<string> {
  return permit(vault, call, ask('policy.read', name), async (tx, { tenant }) => {
    const { rules, revision } = await policyNamed(tx, tenant, name);
    const [row] = await tx<{ text: string }[]>`
      SELECT text FROM policy_texts WHERE tenant_id = ${tenant} AND name = ${name} AND revision = ${revision}`;
    return { value: row?.text ?? JSON.stringify({ rules }, null, 2) };
  });
}

async function storeText(tx: Tx, tenant: TenantId, { name, revision }: PolicyInfo, text: string): Promise<void> {
  await tx`
    INSERT INTO policy_texts (tenant_id, name, revision, text) VALUES (${tenant}, ${name}, ${revision}, ${text})
    ON CONFLICT (tenant_id, name) DO UPDATE SET revision = excluded.revision, text = excluded.text`;
}

/** What a resource and an action are, asked without doing it; `auth.self`: whether a token has what `default` gives. */
export type Question = { readonly action: Action | 'auth.self'; readonly resource: string };

/**
 * Which of these the caller could do here and now: one entry that says how many were asked. Asking about oneself is part of
 * what `default` gives; with `ofAnyToken` it is somebody who shows the token and asks what it can do.
 */
export async function mayDo(
  vault: Vault,
  call: Call,
  questions: readonly Question[],
  { ofAnyToken }: { readonly ofAnyToken?: true } = {},
): Promise<(question: Question) => boolean> {
  const own = { action: 'auth.self', resource: 'token:self', ...(ofAnyToken ? { ofAnyToken } : {}) } as const;
  const allowed = await permit(vault, call, own, async (_, { allows }) => ({
    value: new Set(questions.filter((question) => allows(question)).map(keyOf)),
    notes: [{ details: { questions: questions.length } }],
  }));
  return (question) => allowed.has(keyOf(question));
}

/** What the rules of the caller's own policies speak of; `everything`: all of it is allowed, without a condition. */
export async function ownPatterns(
  vault: Vault,
  call: Call,
): Promise<{ readonly everything: boolean; readonly patterns: readonly OwnPattern[] }> {
  const own = { action: 'auth.self', resource: 'token:self' } as const;
  return permit(vault, call, own, async (_, { held }) => {
    const rules = held.flatMap((policies) => policies.flatMap((policy) => policy.rules));
    const patterns = rules.flatMap(({ effect, resources }) =>
      resources.map((glob) => ({ effect, resource: patternText(glob) })),
    );
    return { value: { everything: held.every(holdsEverything), patterns } };
  });
}

export type OwnPattern = { readonly effect: 'allow' | 'deny'; readonly resource: string };

/**
 * What `mayDo` tells, of another's token, for whoever may read what it is, and from where the caller is. Throws
 * `not_found` for one that has ended.
 */
export async function mayTokenDo(
  vault: Vault,
  call: Call,
  accessor: string,
  questions: readonly Question[],
): Promise<(question: Question) => boolean> {
  const ask = { action: 'token.read', resource: `token:${accessor}` } as const;
  const allowed = await permit(vault, call, ask, async (tx, { tenant }) => {
    // Nothing is proven by this: it says what a holder could do.
    const token = { tenantId: tenant, tokenId: accessor };
    const [row] = await readAccess(tx, [token]);
    if (!row || !isLive(row) || row.disabled) throw new VaultError('not_found', 'There is no such token.');
    const access = await resolve(vault, tx, token, row, call.source);
    const held = questions.filter((question) => allows(access, question)).map(keyOf);
    return { value: new Set(held), notes: [{ details: { questions: questions.length } }] };
  });
  return (question) => allowed.has(keyOf(question));
}

const keyOf = ({ action, resource }: Question) => `${action} ${resource}`;

/** Gives a new tenant the built-in policies. */
export async function insertBuiltInPolicies(tx: Tx, tenant: TenantId): Promise<void> {
  for (const [name, { document }] of Object.entries(BUILT_IN_POLICIES)) {
    await tx`
      INSERT INTO policies (tenant_id, name, policy_id, revision, document, built_in, created_at, updated_at)
      VALUES (${tenant}, ${name}, ${randomId()}, 1, ${JSON.stringify(document)}, true, bulla.now(), bulla.now())`;
  }
}

/** Removes every policy of a tenant that is being deleted, and what they were before. */
export async function removePolicies(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM policy_changes WHERE tenant_id = ${tenant}`;
  await tx`DELETE FROM policies WHERE tenant_id = ${tenant}`;
}

const CHANGES_AT_ONCE = 50;

/** What a name has meant, the latest first, deletions and policies of that name before them too. */
export async function listPolicyChanges(
  vault: Vault,
  call: Call,
  name: string,
  page: PageAsk,
): Promise<Page<PolicyChange>> {
  const { limit, before } = parseVersionsPage(page);
  const rows = Math.min(limit, CHANGES_AT_ONCE);
  return permit(vault, call, ask('policy.read', name), async (tx, { tenant }) => {
    const found = await tx<(Omit<PolicyChange, 'rules'> & { document: string | null })[]>`
      SELECT number, revision, document, changed_by AS "changedBy", changed_by_name AS "changedByName",
             changed_at AS "changedAt"
      FROM policy_changes WHERE tenant_id = ${tenant} AND name = ${name} AND number < ${before}
      ORDER BY number DESC LIMIT ${rows + 1}`;
    if (found.length === 0) await policyNamed(tx, tenant, name);
    const changes = found.map(({ document, ...change }) => ({
      ...change,
      rules: document === null ? null : rulesOf(document),
    }));
    return { value: pageOf(changes, rows, ({ number }) => String(number)) };
  });
}

const rulesOf = (document: string) => (JSON.parse(document) as PolicyDocument).rules;

/** Under the lock of the policy's row: what it is now, or that it is no more. */
async function recordChange(
  tx: Tx,
  { tenant, userId, actor }: Permit,
  name: string,
  deleted?: 'deleted',
): Promise<void> {
  await tx`
    INSERT INTO policy_changes (tenant_id, name, number, policy_id, revision, document, changed_by, changed_by_name, changed_at)
    SELECT tenant_id, name, 1 + (SELECT coalesce(max(c.number), 0) FROM policy_changes c
                                 WHERE c.tenant_id = p.tenant_id AND c.name = p.name),
           policy_id, ${deleted ? tx`revision + 1, NULL` : tx`revision, document`}, ${userId}, ${actor.name ?? null}, bulla.now()
    FROM policies p WHERE p.tenant_id = ${tenant} AND p.name = ${name}`;
}

/** A name that no policy has would let the first one of that name approve. A policy may name itself. */
async function requireApprovers(tx: Tx, tenant: TenantId, name: string, approvers: readonly string[]): Promise<void> {
  const wanted = approvers.filter((approver) => approver !== name);
  const rows = await tx<{ name: string }[]>`
    SELECT name FROM policies WHERE tenant_id = ${tenant} AND name = ANY (${wanted}) ORDER BY name FOR SHARE`;
  const missing = wanted.filter((approver) => !rows.some((row) => row.name === approver));
  if (missing.length === 0) return;
  throw new VaultError('invalid_request', `approval.by: there is no policy ${missing.join(', ')}: make it first.`);
}

const noPolicy = (name: string) => new VaultError('not_found', `There is no policy ${name}.`);

async function policyNamed(tx: Tx, tenant: TenantId, name: string): Promise<StoredPolicy> {
  const policy = await findPolicy(tx, tenant, name);
  if (!policy) throw noPolicy(name);
  return policy;
}

async function findPolicy(tx: Tx, tenant: TenantId, name: string, lock?: 'lock'): Promise<StoredPolicy | undefined> {
  const [row] = await tx<(PolicyInfo & { document: string })[]>`
    SELECT name, revision, document, built_in AS "builtIn", created_at AS "createdAt", updated_at AS "updatedAt"
    FROM policies WHERE tenant_id = ${tenant} AND name = ${name} ${lock ? tx`FOR UPDATE` : tx``}`;
  if (!row) return undefined;
  const { document, ...info } = row;
  return { ...info, ...(JSON.parse(document) as PolicyDocument) };
}
