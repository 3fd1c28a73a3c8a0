/**
 * Compiled policies: kept by (policy_id, revision), which never changes its document, and made for an account where they
 * have templates. What else a decision starts from is known.ts's.
 */
import type { TenantId, Tx } from '../db/database.ts';
import type { Vault } from '../vault.ts';
import { instanceFor } from './instance.ts';
import { type CompiledPolicy, compilePolicy } from './policy.ts';
import type { TemplateValues } from './template.ts';

/** In the place of what does not compile or is gone. */
export const DENY_ALL = compilePolicy({ rules: [{ effect: 'deny', actions: ['*'], resources: ['**'] }] });

/**
 * The compiled policies, read where they are not in memory. A policy that changed after its id was read is missing
 * here; the acl_revision has then moved too, and the act is decided again before anything is recorded. A document that
 * does not compile, or whose template does not fit the account, denies everything: a missing deny must never widen what
 * is allowed.
 */
export async function policiesOf(
  vault: Vault,
  tx: Tx,
  tenant: TenantId,
  ids: readonly string[],
  values: TemplateValues,
): Promise<CompiledPolicy[]> {
  const policies = cachedPolicies(vault, tenant, ids) ?? (await readPolicies(vault, tx, tenant, ids));
  if (!policies.some(({ templated }) => templated)) return policies;
  const instances = policies.map((policy) => instanceOf(policy, values));
  return instances.every((instance) => instance !== undefined) ? instances : [DENY_ALL];
}

/** A token's grants never change. Those of tokens that are used a few times are not worth keeping. */
export function grantOf(vault: Vault, tenant: TenantId, name: string, document: string, keep: boolean): CompiledPolicy {
  const cache = cacheOf(vault);
  const key = cacheKey(tenant, name);
  const grant = cache.get(key) ?? compileStored(document);
  if (keep && cache.size < COMPILED_MAX) cache.set(key, grant);
  return grant;
}

const COMPILED_MAX = 10_000;
const compiled = new WeakMap<Vault, Map<string, CompiledPolicy>>();

function cacheOf(vault: Vault): Map<string, CompiledPolicy> {
  const cache = compiled.get(vault) ?? new Map<string, CompiledPolicy>();
  compiled.set(vault, cache);
  return cache;
}

const cacheKey = (tenant: TenantId, id: string) => `${tenant}/${id}`;

/** The compiled policies when all are in memory. */
function cachedPolicies(vault: Vault, tenant: TenantId, ids: readonly string[]): CompiledPolicy[] | undefined {
  const cache = cacheOf(vault);
  const found: CompiledPolicy[] = [];
  for (const id of ids) {
    const policy = cache.get(cacheKey(tenant, id));
    if (!policy) return undefined;
    found.push(policy);
  }
  return found;
}

const INSTANCES_MAX = 1000;
const instances = new WeakMap<CompiledPolicy, Map<string, CompiledPolicy | undefined>>();

/** Kept for as long as the policy itself: an account's id never changes its name. */
function instanceOf(policy: CompiledPolicy, values: TemplateValues): CompiledPolicy | undefined {
  if (!policy.templated) return policy;
  const known = instances.get(policy) ?? new Map<string, CompiledPolicy | undefined>();
  instances.set(policy, known);
  const id = values['user.id'];
  if (known.has(id)) return known.get(id);
  if (known.size >= INSTANCES_MAX) known.clear();
  const instance = instanceFor(policy, values);
  known.set(id, instance);
  return instance;
}

/** Each by its own key, whatever the planner believes of a table that has not been analysed. */
async function readPolicies(vault: Vault, tx: Tx, tenant: TenantId, ids: readonly string[]): Promise<CompiledPolicy[]> {
  const rows = await tx<{ id: string; document: string }[]>`
    SELECT id, document
    FROM unnest(${ids as string[]}::text[]) AS wanted (id),
    LATERAL (SELECT name, document, revision FROM policies
             WHERE tenant_id = ${tenant} AND policy_id = split_part(id, '.', 1) LIMIT 1) p
    WHERE revision = split_part(id, '.', 2)::int ORDER BY name`;
  const cache = cacheOf(vault);
  if (cache.size + rows.length > COMPILED_MAX) cache.clear();
  const policies = rows.map(({ id, document }) => {
    const policy = compileStored(document);
    cache.set(cacheKey(tenant, id), policy);
    return policy;
  });
  return policies.length === ids.length ? policies : [DENY_ALL];
}

function compileStored(document: string): CompiledPolicy {
  try {
    return compilePolicy(JSON.parse(document));
  } catch {
    return DENY_ALL;
  }
}
