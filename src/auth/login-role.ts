/**
 * Login roles: what an identity that an issuer vouches for may do here. Owns the table login_roles.
 *
 * A role names its audiences and rules from claims to policies (claim.ts); who fits no rule does not log in. A change or
 * the end of a role ends every token that it gave, before the answer.
 */
import { type Details, detailsNaming } from '../audit/entry.ts';
import { LIMITS } from '../config.ts';
import { randomId } from '../crypto/token.ts';
import { RetryTransaction, type TenantId, type Timestamp, type Tx } from '../db/database.ts';
import { parseName } from '../db/name.ts';
import { type Page, type PageAsk, visiblePage } from '../db/page.ts';
import { VaultError } from '../errors.ts';
import type { Call } from '../policy/access.ts';
import type { Action } from '../policy/action.ts';
import { checkEachGiven, checkTakeover } from '../policy/give.ts';
import { permit } from '../policy/permit.ts';
import type { Vault } from '../vault.ts';
import type { ClaimRule } from './claim.ts';
import { accountsBehind } from './issuer.ts';
import { checkTokenSettings } from './token-limit.ts';
import {
  changed,
  changesOf,
  NO_TOKEN_SETTINGS,
  type TokenSettings,
  type TokenSettingsWish,
  tokenSettingColumns,
  tokenSettingRow,
} from './token-setting.ts';
import { checkPolicies, requirePolicies } from './user.ts';

/** Who logs in: whoever shows a token of the issuer, or people at the issuer with a browser. */
export type LoginRoleKind = 'jwt' | 'oidc';

export type LoginRoleInfo = TokenSettings & {
  readonly name: string;
  readonly kind: LoginRoleKind;
  readonly issuer: string;
  /** Empty for people: their tokens are for the issuer's client alone. */
  readonly audiences: readonly string[];
  readonly rules: readonly ClaimRule[];
  /** From claims to the names that they are shown under in the metadata of a token. */
  readonly claimNames: Readonly<Record<string, string>>;
  /** The claim that says who somebody is. */
  readonly subjectClaim: string;
  readonly revision: number;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export type LoginRoleWish = TokenSettingsWish & {
  /** `jwt` when absent. */
  readonly kind?: LoginRoleKind | undefined;
  /** The name of an issuer. */
  readonly issuer: string;
  readonly audiences?: readonly string[] | undefined;
  readonly rules: readonly ClaimRule[];
  readonly claimNames?: Readonly<Record<string, string>> | undefined;
  /** `sub` when absent. */
  readonly subjectClaim?: string | undefined;
};

const ask = (action: Action, name: string) => ({ action, resource: `login-role:${parseName(name, 'name')}` }) as const;

const COLUMNS = `r.name, r.kind, i.name AS issuer, r.audiences, r.rules, ${tokenSettingColumns('r')},
  r.claim_names AS "claimNames", r.subject_claim AS "subjectClaim", r.revision,
  r.created_at AS "createdAt", r.updated_at AS "updatedAt"`;

type RoleRow = Omit<LoginRoleInfo, 'rules' | 'claimNames'> & { readonly rules: string; readonly claimNames: string };
const infoOf = (row: RoleRow): LoginRoleInfo => ({
  ...row,
  rules: JSON.parse(row.rules) as ClaimRule[],
  claimNames: JSON.parse(row.claimNames) as Record<string, string>,
});

export async function listLoginRoles(vault: Vault, call: Call, page: PageAsk): Promise<Page<LoginRoleInfo>> {
  const wanted = { action: 'login-role.list', resource: 'login-role:', anywhere: true } as const;
  return permit(vault, call, wanted, async (tx, { tenant, allows }) => ({
    value: await visiblePage(
      page,
      async (after, rows) => {
        const found = await tx<RoleRow[]>`
          SELECT ${tx.unsafe(COLUMNS)} FROM login_roles r JOIN jwt_issuers i USING (tenant_id, issuer_id)
          WHERE r.tenant_id = ${tenant} AND r.name > ${after} ORDER BY r.name LIMIT ${rows}`;
        return found.map(infoOf);
      },
      (role) => role.name,
      (role) => allows({ action: 'login-role.list', resource: `login-role:${role.name}` }),
    ),
  }));
}

export async function readLoginRole(vault: Vault, call: Call, name: string): Promise<LoginRoleInfo> {
  return permit(vault, call, ask('login-role.read', name), async (tx, { tenant }) => ({
    value: await roleNamed(tx, tenant, name),
  }));
}

/** Creates or replaces. Throws `invalid_request` for an issuer or policy that does not exist, or rules that hold for all. */
export async function putLoginRole(
  vault: Vault,
  call: Call,
  name: string,
  wish: LoginRoleWish,
): Promise<LoginRoleInfo & { readonly created: boolean }> {
  const wanted = ask('login-role.write', name);
  const { kind = 'jwt', audiences = [] } = wish;
  const rules = checkedRules(wish.rules);
  const policies = [...new Set(rules.flatMap((rule) => rule.policies))];
  const settings = changed(NO_TOKEN_SETTINGS, wish);
  checkTokenSettings(vault, settings);
  checkAudiences(wish);
  const { claimNames = {}, subjectClaim = 'sub' } = wish;
  checkClaimNames(claimNames, subjectClaim);
  return permit(vault, call, wanted, async (tx, granted) => {
    const { tenant } = granted;
    await requirePolicies(tx, tenant, policies);
    // Each rule by itself, whatever the role gave before: other claims are other people.
    await checkEachGiven(
      tx,
      granted,
      rules.map((rule) => rule.policies),
    );
    const [issuer] = await tx<{ id: string; hasClient: boolean }[]>`
      SELECT issuer_id AS id, client_id IS NOT NULL AS "hasClient" FROM jwt_issuers WHERE tenant_id = ${tenant} AND name = ${wish.issuer} FOR SHARE`;
    if (!issuer) throw new VaultError('invalid_request', 'issuer: there is none of this name; make it first.');
    // Another audience, claim or network lets in those whose accounts have more than the role gives.
    await checkTakeover(tx, granted, await accountsBehind(tx, tenant, issuer.id));
    if (kind === 'oidc' && !issuer.hasClient) {
      throw new VaultError(
        'invalid_request',
        'issuer: people log in where the vault is registered: give the issuer a client.',
      );
    }
    const [before] = await tx<{ id: string }[]>`
      SELECT role_id AS id FROM login_roles WHERE tenant_id = ${tenant} AND name = ${name} FOR UPDATE`;
    const rows = await tx`
      INSERT INTO login_roles AS r (tenant_id, role_id, name, kind, issuer_id, audiences, rules, claim_names,
                                    subject_claim, revision, created_at, updated_at)
      VALUES (${tenant}, ${before?.id ?? randomId()}, ${name}, ${kind}, ${issuer.id}, ${[...audiences]}, ${JSON.stringify(rules)},
              ${JSON.stringify(claimNames)}, ${subjectClaim}, 1, bulla.now(), bulla.now())
      ON CONFLICT (tenant_id, name) DO UPDATE SET kind = excluded.kind, issuer_id = excluded.issuer_id, audiences = excluded.audiences,
        rules = excluded.rules, claim_names = excluded.claim_names, subject_claim = excluded.subject_claim,
        revision = r.revision + 1, updated_at = excluded.updated_at WHERE r.role_id = excluded.role_id`;
    // Somebody else has made one of this name since it was looked for.
    if (rows.count === 0) throw new RetryTransaction();
    await tx`UPDATE login_roles SET ${tx(tokenSettingRow(settings))} WHERE tenant_id = ${tenant} AND name = ${name}`;
    if (before) await tx`DELETE FROM tokens WHERE tenant_id = ${tenant} AND login_role_id = ${before.id}`;
    const value = { ...(await roleNamed(tx, tenant, name)), created: before === undefined };
    const { said, lists } = changesOf(NO_TOKEN_SETTINGS, settings);
    const by: Details = subjectClaim === 'sub' ? {} : { subject_claim: subjectClaim };
    const all = detailsNaming({ kind, issuer: wish.issuer, ...by, ...said }, { policies, ...lists });
    const notes = all.map((details) => ({ version: value.revision, details }));
    return { value, notes, revokes: before !== undefined };
  });
}

/** Its tokens end with it; the accounts that used it stay, and can use other roles. */
export async function deleteLoginRole(vault: Vault, call: Call, name: string): Promise<void> {
  await permit(vault, call, ask('login-role.delete', name), async (tx, { tenant }) => {
    await roleNamed(tx, tenant, name);
    await tx`DELETE FROM login_roles WHERE tenant_id = ${tenant} AND name = ${name}`;
    return { value: undefined, revokes: true };
  });
}

async function roleNamed(tx: Tx, tenant: TenantId, name: string): Promise<LoginRoleInfo> {
  const [row] = await tx<RoleRow[]>`
    SELECT ${tx.unsafe(COLUMNS)} FROM login_roles r JOIN jwt_issuers i USING (tenant_id, issuer_id)
    WHERE r.tenant_id = ${tenant} AND r.name = ${name}`;
  if (!row) throw new VaultError('not_found', `There is no login role ${name}.`);
  return infoOf(row);
}

const CLAIM_NAME = /^[\x21-\x7e]{1,128}$/;
const PATTERN_LENGTH_MAX = 256;

function refuse(message: string): never {
  throw new VaultError('invalid_request', message);
}

function checkedRules(rules: readonly ClaimRule[]): ClaimRule[] {
  const { loginRulesMax, loginRuleClaimsMax, loginRulePatternsMax } = LIMITS;
  if (rules.length < 1 || rules.length > loginRulesMax) refuse(`rules: expected from 1 to ${loginRulesMax}.`);
  return rules.map(({ claims, policies }) => {
    const names = Object.entries(claims);
    if (names.length < 1 || names.length > loginRuleClaimsMax) {
      refuse(
        `rules: expected from 1 to ${loginRuleClaimsMax} claims: with none, everybody that the issuer knows fits.`,
      );
    }
    for (const [name, patterns] of names) {
      if (!CLAIM_NAME.test(name))
        refuse('rules: expected claims such as "sub", or pointers such as "/kubernetes.io/namespace".');
      if (patterns.length < 1 || patterns.length > loginRulePatternsMax)
        refuse('rules: a claim without a pattern fits nobody.');
      for (const pattern of patterns) {
        if (/^\**$/.test(pattern) || pattern.length > PATTERN_LENGTH_MAX) {
          refuse(`rules: expected patterns of 1 to ${PATTERN_LENGTH_MAX} characters that are not stars alone.`);
        }
      }
    }
    if (policies.length === 0) refuse('rules: expected at least one policy.');
    return { claims, policies: checkPolicies(policies) };
  });
}

function checkAudiences({ kind, audiences = [] }: LoginRoleWish): void {
  if (kind === 'oidc') {
    if (audiences.length > 0)
      refuse('audiences: a role for people takes tokens for the client of its issuer; leave it out.');
  } else if (
    audiences.length < 1 ||
    audiences.length > 20 ||
    !audiences.every((text) => /^[\x21-\x7e]{1,512}$/.test(text))
  ) {
    refuse('audiences: expected from 1 to 20 texts: what its tokens have to be made for.');
  }
}

const CLAIM_NAMES_MAX = 20;
const SHOWN_NAME = /^[A-Za-z0-9_.-]{1,64}$/;

function checkClaimNames(names: Readonly<Record<string, string>>, subjectClaim: string): void {
  const [from, to] = [Object.keys(names), Object.values(names)];
  if (![...from, subjectClaim].every((name) => CLAIM_NAME.test(name))) {
    refuse('claims: expected names such as "sub", or pointers such as "/kubernetes.io/namespace".');
  }
  if (from.length > CLAIM_NAMES_MAX) refuse(`claim names: expected at most ${CLAIM_NAMES_MAX}.`);
  if (!to.every((name) => SHOWN_NAME.test(name))) {
    refuse('claim names: expected 1 to 64 of A–Z, a–z, 0–9, dot, underscore and hyphen.');
  }
  if (to.includes('role')) refuse('claim names: "role" is the name of the login role.');
  if (new Set(to).size !== to.length) refuse('claim names: each is of one claim.');
}
