/**
 * Token roles: templates that tokens are made by. Owns the table token_roles.
 *
 * A role narrows what whoever makes a token by it has, and never widens that: its policies are to be held, its networks lie
 * within theirs, an orphan takes the leave `token.orphan`. A token keeps what the role said when it was made; when the role
 * is gone it is not renewed any more.
 */
import { type Details, detailsNaming } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import { RetryTransaction, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { isAmong } from '../policy/cidr.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import type { ChildWish } from './child.ts';
import { matches } from './claim.ts';
import { leastOf } from './issue.ts';
import { checkCidrs, checkExplicitMaxTtl } from './token-limit.ts';
import { checkPolicies } from './user.ts';

export type TokenRole = TokenRoleSettings & {
  readonly name: string;
  readonly revision: number;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

/** Null: not bounded so. `default` counts as the name of a policy: what every token may. */
export type TokenRoleSettings = {
  /** Which policies its tokens may be bound to; with none and no pattern, any that are held. */
  readonly allowedPolicies: readonly string[];
  /** The same by names with `*` for any run of characters. */
  readonly allowedPatterns: readonly string[];
  readonly disallowedPolicies: readonly string[];
  readonly disallowedPatterns: readonly string[];
  readonly orphan: boolean;
  readonly renewable: boolean;
  readonly withoutDefault: boolean;
  readonly suffix: string | null;
  readonly explicitMaxTtlSeconds: number | null;
  readonly periodSeconds: number | null;
  readonly uses: number | null;
  readonly cidrs: readonly string[] | null;
};

export type TokenRoleWish = { readonly [K in keyof TokenRoleSettings]?: TokenRoleSettings[K] | undefined };

const NO_SETTINGS: TokenRoleSettings = {
  ...{ allowedPolicies: [], allowedPatterns: [], disallowedPolicies: [], disallowedPatterns: [] },
  ...{ orphan: false, renewable: true, withoutDefault: false, suffix: null, explicitMaxTtlSeconds: null },
  ...{ periodSeconds: null, uses: null, cidrs: null },
};

const ask = (action: Action, name: string) => ({ action, resource: `token-role:${parseName(name, 'name')}` }) as const;

const COLUMNS = `name, allowed_policies AS "allowedPolicies", allowed_patterns AS "allowedPatterns",
  disallowed_policies AS "disallowedPolicies", disallowed_patterns AS "disallowedPatterns", orphan, renewable,
  without_default AS "withoutDefault", suffix, explicit_max_ttl_seconds AS "explicitMaxTtlSeconds",
  period_seconds AS "periodSeconds", uses, cidrs, revision, created_at AS "createdAt", updated_at AS "updatedAt"`;

export async function listTokenRoles(vault: Vault, call: Call, page: PageAsk): Promise<Page<TokenRole>> {
  const wanted = { action: 'token-role.list', resource: 'token-role:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      (after, rows) => tx<TokenRole[]>`
        SELECT ${tx.unsafe(COLUMNS)} FROM token_roles WHERE tenant_id = ${tenant} AND name > ${after}
        ORDER BY name LIMIT ${rows}`,
      (role) => role.name,
      (role) => allows({ action: 'token-role.list', resource: `token-role:${role.name}` }),
    ),
  }));
}

export async function readTokenRole(vault: Vault, call: Call, name: string): Promise<TokenRole> {
  return permit(vault, call, ask('token-role.read', name), async (tx, { tenant }) => ({
    value: await roleNamed(tx, tenant, name),
  }));
}

/** Creates, or changes what is named. Tokens that are there stay as they are. Throws `invalid_request`. */
export async function putTokenRole(vault: Vault, call: Call, name: string, wish: TokenRoleWish): Promise<TokenRole> {
  return permit(vault, call, ask('token-role.write', name), async (tx, { tenant }) => {
    const [before] = await tx<TokenRole[]>`
      SELECT ${tx.unsafe(COLUMNS)} FROM token_roles WHERE tenant_id = ${tenant} AND name = ${name} FOR UPDATE`;
    const given = Object.entries(wish).filter(([, value]) => value !== undefined);
    const role: TokenRoleSettings = { ...NO_SETTINGS, ...before, ...Object.fromEntries(given) };
    checkSettings(vault, role);
    const rows = await tx`
      INSERT INTO token_roles AS r (tenant_id, name, allowed_policies, allowed_patterns, disallowed_policies,
                                    disallowed_patterns, orphan, renewable, without_default, suffix,
                                    explicit_max_ttl_seconds, period_seconds, uses, cidrs, revision, created_at, updated_at)
      VALUES (${tenant}, ${name}, ${[...role.allowedPolicies]}, ${[...role.allowedPatterns]}, ${[...role.disallowedPolicies]},
              ${[...role.disallowedPatterns]}, ${role.orphan}, ${role.renewable}, ${role.withoutDefault}, ${role.suffix},
              ${role.explicitMaxTtlSeconds}, ${role.periodSeconds}, ${role.uses}, ${role.cidrs && [...role.cidrs]}, 1,
              bulla.now(), bulla.now())
      ON CONFLICT (tenant_id, name) DO UPDATE SET allowed_policies = excluded.allowed_policies,
        allowed_patterns = excluded.allowed_patterns, disallowed_policies = excluded.disallowed_policies,
        disallowed_patterns = excluded.disallowed_patterns, orphan = excluded.orphan, renewable = excluded.renewable,
        without_default = excluded.without_default, suffix = excluded.suffix,
        explicit_max_ttl_seconds = excluded.explicit_max_ttl_seconds, period_seconds = excluded.period_seconds,
        uses = excluded.uses, cidrs = excluded.cidrs, revision = r.revision + 1, updated_at = excluded.updated_at
      WHERE r.revision = ${before?.revision ?? 0}`;
    // Somebody else has made one of this name since it was looked for.
    if (rows.count === 0) throw new RetryTransaction();
    const value = await roleNamed(tx, tenant, name);
    const notes = notesOf(role).map((details) => ({ version: value.revision, details }));
    return { value, notes };
  });
}

/** Tokens that were made by it are not renewed from then on. */
export async function deleteTokenRole(vault: Vault, call: Call, name: string): Promise<void> {
  await permit(vault, call, ask('token-role.delete', name), async (tx, { tenant }) => {
    await roleNamed(tx, tenant, name);
    await tx`DELETE FROM token_roles WHERE tenant_id = ${tenant} AND name = ${name}`;
    return { value: undefined };
  });
}

/** The roles of a tenant that is being deleted. */
export async function removeTokenRoles(tx: Tx, tenant: TenantId): Promise<void> {
  await tx`DELETE FROM token_roles WHERE tenant_id = ${tenant}`;
}

async function roleNamed(tx: Tx, tenant: TenantId, name: string): Promise<TokenRole> {
  const [row] = await tx<TokenRole[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM token_roles WHERE tenant_id = ${tenant} AND name = ${name}`;
  if (!row) throw noRole(name);
  return row;
}

const noRole = (name: string) => new VaultError('not_found', `There is no token role ${name}.`);

/** For whoever makes a token by it: it stays as it is until the commit. Throws `not_found`. */
export async function lockTokenRole(tx: Tx, tenant: TenantId, name: string): Promise<TokenRole> {
  const [row] = await tx<TokenRole[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM token_roles WHERE tenant_id = ${tenant} AND name = ${name} FOR SHARE`;
  if (!row) throw noRole(name);
  return row;
}

function notesOf(role: TokenRoleSettings): Details[] {
  const said: Record<string, string | number | boolean> = {
    orphan: role.orphan,
    renewable: role.renewable,
    without_default: role.withoutDefault,
    ...(role.explicitMaxTtlSeconds === null ? {} : { explicit_max_ttl: role.explicitMaxTtlSeconds }),
    ...(role.periodSeconds === null ? {} : { period: role.periodSeconds }),
    ...(role.uses === null ? {} : { uses: role.uses }),
  };
  return detailsNaming(said, {
    allowed: [...role.allowedPolicies, ...role.allowedPatterns],
    disallowed: [...role.disallowedPolicies, ...role.disallowedPatterns],
    cidrs: role.cidrs ?? undefined,
  });
}

// ---- what is taken ------------------------------------------------------------------------------------------------

const PATTERN = /^[a-z0-9*._-]{1,63}$/;
const SUFFIX = /^\w[\w.-]{0,126}\w$/;

function checkSettings({ config }: Vault, role: TokenRoleSettings): void {
  const refuse = (text: string) => {
    throw new VaultError('invalid_request', text);
  };
  for (const names of [role.allowedPolicies, role.disallowedPolicies]) checkPolicies(names);
  for (const patterns of [role.allowedPatterns, role.disallowedPatterns]) {
    if (patterns.length > LIMITS.policiesPerUserMax || !patterns.every((pattern) => PATTERN.test(pattern))) {
      refuse(
        `policies by a pattern: expected at most ${LIMITS.policiesPerUserMax} of 1 to 63 of a–z, 0–9, dot, underscore, hyphen and *.`,
      );
    }
  }
  if (role.suffix !== null && !SUFFIX.test(role.suffix)) {
    refuse('path_suffix: expected 2 to 128 of A–Z, a–z, 0–9, dot, underscore and hyphen.');
  }
  const most = config.tokenMaxTtlSeconds;
  const { periodSeconds, explicitMaxTtlSeconds, uses } = role;
  if (periodSeconds !== null && (periodSeconds < 1 || periodSeconds > most)) {
    refuse(`token_period: expected from 1 second to ${most} seconds.`);
  }
  if (explicitMaxTtlSeconds !== null) checkExplicitMaxTtl(explicitMaxTtlSeconds);
  if (uses !== null && (uses < 1 || uses > LIMITS.tokenUsesMax)) {
    refuse(`token_num_uses: expected a whole number from 1 to ${LIMITS.tokenUsesMax}.`);
  }
  checkCidrs(role.cidrs ?? undefined);
}

// ---- making a token by one ----------------------------------------------------------------------------------------

/** What is asked for, within what the role allows. `held`: the names of the policies that its maker holds. */
export function wishBy(role: TokenRole, wish: ChildWish, held: ReadonlySet<string>): ChildWish {
  const periodSeconds = leastOf(role.periodSeconds ?? undefined, wish.periodSeconds);
  return {
    ...wish,
    ttlSeconds: periodSeconds === undefined ? wish.ttlSeconds : undefined,
    periodSeconds,
    explicitMaxTtlSeconds: leastOf(role.explicitMaxTtlSeconds ?? undefined, wish.explicitMaxTtlSeconds),
    renewable: role.renewable && (wish.renewable ?? true),
    policies: policiesBy(role, wish.policies, held),
    uses: leastOf(role.uses ?? undefined, wish.uses),
    cidrs: cidrsBy(role, wish.cidrs),
    orphan: role.orphan || wish.orphan,
    withoutDefault: wish.withoutDefault || role.withoutDefault || isDisallowed(role, 'default'),
    // What a role names is to be had, and not to be left out in silence.
    policiesHeld: true,
  };
}

function cidrsBy({ cidrs }: TokenRole, asked: readonly string[] | undefined): readonly string[] | undefined {
  const strange = cidrs === null ? undefined : asked?.find((cidr) => !isAmong(cidr, cidrs));
  if (strange === undefined) return asked ?? cidrs ?? undefined;
  throw new VaultError('invalid_request', `cidrs: ${strange} reaches beyond the networks of the role.`);
}

/** Undefined: all that its maker has. */
function policiesBy(
  role: TokenRole,
  asked: readonly string[] | undefined,
  held: ReadonlySet<string>,
): readonly string[] | undefined {
  const restricts = role.allowedPolicies.length + role.allowedPatterns.length > 0;
  const forbids = role.disallowedPolicies.length + role.disallowedPatterns.length > 0;
  // Bound by their names, so that what the account is given later does not come with them.
  const policies = asked ?? (restricts ? withoutTheDefault(role.allowedPolicies) : forbids ? [...held] : undefined);
  const strange = restricts ? asked?.find((name) => !isAllowed(role, name)) : undefined;
  if (strange !== undefined) {
    throw new VaultError('invalid_request', `token policies must be subset of the role's allowed policies: ${strange}`);
  }
  const refused = policies?.find((name) => isDisallowed(role, name));
  if (refused !== undefined) {
    throw new VaultError('invalid_request', `token policy "${refused}" is disallowed by this role`);
  }
  return policies;
}

const withoutTheDefault = (names: readonly string[]) => names.filter((name) => name !== 'default');

const isNamed = (name: string, names: readonly string[], patterns: readonly string[]) =>
  names.includes(name) || patterns.some((pattern) => matches(pattern, name));
const isAllowed = (role: TokenRole, name: string) => isNamed(name, role.allowedPolicies, role.allowedPatterns);
const isDisallowed = (role: TokenRole, name: string) => isNamed(name, role.disallowedPolicies, role.disallowedPatterns);
